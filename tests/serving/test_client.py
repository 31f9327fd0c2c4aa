"""The client: equal answers, nothing but the boundary sent, and nothing sent to a stranger."""

import json
import logging
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

import keras_privpart as kp
from keras_privpart import errors
from keras_privpart.contract import Contract
from keras_privpart.serving import Client, LocalServer, messages, tensors
from keras_privpart.serving.transport import Transport


@pytest.fixture
def client(bundle, server):
    with Client(bundle.path, server.address) as made:
        yield made


def predictions(recorder):
    """Requests to the signature that takes the boundary, parsed with TensorFlow Serving's own message."""
    parsed = [predict_pb2.PredictRequest.FromString(raw) for method, raw in recorder.requests if method == "Predict"]
    return [request for request in parsed if request.model_spec.signature_name == "serve_checked"]


@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_answers_are_the_whole_models(client, parts, images, count):
    got = client.predict(images[:count])
    np.testing.assert_allclose(got, parts.model.predict(images[:count], verbose=0), atol=1e-6)
    assert got.dtype == np.float32


def test_encode_and_score_are_the_two_sides_of_predict(client, parts, images):
    boundary = client.encode(images)
    assert {name: array.shape for name, array in boundary.items()} == {"boundary": (11, 6, 6, 4)}
    np.testing.assert_allclose(boundary["boundary"], parts.device.predict(images, verbose=0), atol=1e-6)
    np.testing.assert_array_equal(client.score(boundary), client.predict(images))
    np.testing.assert_array_equal(client.score(boundary["boundary"]), client.predict(images))


def test_only_the_boundary_is_sent(bundle, recorder, images):
    with Client(bundle.path, recorder.address) as client:
        client.predict(images)
        boundary = client.encode(images)["boundary"]
    requests = predictions(recorder)
    assert [list(request.inputs) for request in requests] == [["boundary"]] * 3
    assert [request.model_spec.version.value for request in requests] == [1] * 3
    assert b"".join(request.inputs["boundary"].tensor_content for request in requests) == boundary.tobytes()
    assert sum(len(raw) for _, raw in recorder.requests) < boundary.nbytes + 1000
    for image in images:
        assert not any(image.tobytes() in raw for _, raw in recorder.requests)


def test_encode_sends_nothing(bundle, recorder, images):
    with Client(bundle.path, recorder.address) as client:
        client.encode(images)
    assert recorder.requests == []


def test_a_large_input_is_split_into_the_contracts_batches(bundle, recorder, images):
    with Client(bundle.path, recorder.address) as client:
        client.predict(images)
    sizes = [request.inputs["boundary"].tensor_shape.dim[0].size for request in predictions(recorder)]
    assert sizes == [4, 4, 3]
    # The pair is asked once, before the first batch.
    assert recorder.methods() == ["GetModelMetadata", "Predict", "Predict", "Predict", "Predict"]


def test_batches_fit_the_message_limit(bundle, recorder, images):
    one = bundle.contract.boundary.nbytes
    with Client(bundle.path, recorder.address, max_message_bytes=5 * one) as client:
        assert len(client.predict(images)) == 11
    assert max(request.inputs["boundary"].tensor_shape.dim[0].size for request in predictions(recorder)) == 2


def test_several_inputs_boundaries_and_outputs(wide, wide_parts, wide_server):
    rng = np.random.default_rng(0)
    ids, image = rng.integers(0, 7, (9, 3)), rng.random((9, 6))
    want = wide_parts.model.predict([ids, image], verbose=0)
    with Client(wide.path, wide_server.address) as client:
        for x in ([ids, image], {"ids": ids, "image-1": image}, {"ids": ids, "input_1": image}):
            got = client.predict(x)
            assert sorted(got) == ["age", "species"]
            for name in got:
                np.testing.assert_allclose(got[name], want[name], atol=1e-6)
        boundary = client.encode([ids, image])
        assert {name: array.shape for name, array in boundary.items()} == {"boundary_0": (9, 3, 4), "boundary_1": (9, 5)}
        assert client.contract.version == 7


def test_threads_share_a_client(client, parts, images):
    want = parts.model.predict(images, verbose=0)
    with ThreadPoolExecutor(4) as pool:
        for index, got in enumerate(pool.map(lambda i: client.predict(images[i : i + 2]), range(9))):
            np.testing.assert_allclose(got, want[index : index + 2], atol=1e-6)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros((8, 8, 1)), r"\[8, 8, 1\]; expected \[None, 8, 8, 1\] of float32. Add the batch dimension: x\[None\]"),
        (np.zeros((2, 8, 8, 3)), r"\[2, 8, 8, 3\]; expected \[None, 8, 8, 1\]"),
        (np.zeros((0, 8, 8, 1)), "no examples; expected at least one"),
        (np.zeros((1, 8, 8, 1), complex), "complex128; it does not fit into float32"),
        (np.full((1, 8, 8, 1), "a"), "expected .* of float32"),
        ({"photo": np.zeros((1, 8, 8, 1))}, r"Received the inputs \['photo'\]; expected \['image'\]"),
        ([[1.0], [1.0, 2.0]], "ragged"),
    ],
)
def test_inputs_that_do_not_fit(bundle, recorder, x, text):
    with Client(bundle.path, recorder.address) as client, pytest.raises(errors.DataError, match=text):
        client.predict(x)
    assert recorder.requests == []


@pytest.mark.parametrize(
    ("x", "text"),
    [
        ([np.zeros((1, 3), int)], "Received 1 values; expected 2 arrays: ids, input_1"),
        (np.zeros((2, 3)), "Received ndarray; expected 2 arrays"),
        ([np.zeros((1, 3), int), np.zeros((2, 6))], "expected as many of each"),
        ([np.full((1, 3), 0.5), np.zeros((1, 6))], "float64; it does not fit into int32"),
        ([np.full((1, 3), 2**40), np.zeros((1, 6))], "int64; it does not fit into int32"),
    ],
)
def test_several_inputs_that_do_not_fit(wide, wide_server, x, text):
    with Client(wide.path, wide_server.address) as client, pytest.raises(errors.DataError, match=text):
        client.predict(x)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64", "float16", "bool", ">f4"])
def test_inputs_are_widened(client, parts, images, dtype):
    x = (images[:2] > 0.5).astype(dtype)
    np.testing.assert_allclose(client.predict(x), parts.model.predict(x.astype("float32"), verbose=0), atol=1e-6)


@pytest.mark.parametrize(
    "boundary",
    [
        {"image": np.zeros((1, 8, 8, 1), np.float32)},
        {"boundary": np.zeros((1, 8, 8, 1), np.float32)},
        {"boundary": np.zeros((1, 6, 6, 4), np.float64)},
        {"boundary": np.zeros((0, 6, 6, 4), np.float32)},
        {"boundary": np.zeros((1, 6, 6, 4), np.float32), "image": np.zeros((1, 8, 8, 1), np.float32)},
        {},
    ],
)
def test_a_boundary_that_does_not_match_is_not_sent(bundle, recorder, boundary):
    with Client(bundle.path, recorder.address) as client, pytest.raises(errors.BoundaryMismatchError, match="the contract declares"):
        client.score(boundary)
    assert recorder.requests == []


def test_a_device_half_that_emits_something_else_sends_nothing(bundle, recorder, images, monkeypatch):
    with Client(bundle.path, recorder.address) as client:
        monkeypatch.setattr(client._device, "run", lambda inputs: {"boundary": inputs["image"]})
        with pytest.raises(errors.BoundaryMismatchError, match="Nothing was sent"):
            client.predict(images)
    assert recorder.requests == []


# Wrong servers.


def test_another_pair_is_refused(bundle, other, images, record_of):
    with LocalServer(other.path) as stranger:
        recorder = record_of(stranger.address)
        with Client(bundle.path, recorder.address) as client:
            with pytest.raises(errors.PairMismatchError, match=r"its fingerprint is .* The device half is out of date"):
                client.predict(images)
            with pytest.raises(errors.PairMismatchError):
                client.wait_for_ready(5)
    assert predictions(recorder) == []


def test_a_server_that_is_replaced_after_an_error_is_asked_again(bundle, other, server, images, record_of):
    """The address stays, the pair behind it changes, and the request that met the gap sends no tensor to the newcomer."""
    with LocalServer(other.path) as stranger:
        recorder = record_of(server.address)
        with Client(bundle.path, recorder.address) as client:
            client.predict(images[:1])
            recorder.requests.clear()
            recorder.failures.append(grpc.StatusCode.UNAVAILABLE)
            recorder.turn_to(stranger.address)
            with pytest.raises(errors.PairMismatchError, match="Nothing was sent"):
                client.predict(images[:1])
        assert recorder.methods() == ["Predict", "GetModelMetadata", "Predict"]
        assert len(predictions(recorder)) == 1  # the one that failed before it reached any server


class Scripted(Transport):
    """The in-process twin of a proxy: asks the first server until told to ask the second."""

    def __init__(self, *addresses):
        self.channels = [grpc.insecure_channel(address) for address in addresses]
        self.use = lambda method: 0

    def send(self, method, request, timeout):
        call = self.channels[self.use(method)].unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
        return call(request, timeout=timeout)

    def close(self):
        for channel in self.channels:
            channel.close()


def test_an_answer_from_another_pair_is_discarded(bundle, other, server, images):
    """Behind a proxy the server that is asked for its pair need not be the one that answers."""
    with LocalServer(other.path) as stranger:
        transport = Scripted(server.address, stranger.address)
        with Client(bundle.path, "proxy:1", transport=transport) as client:
            client.predict(images[:1])
            transport.use = lambda method: 1
            with pytest.raises(errors.PairMismatchError, match="the answer was discarded"):
                client.predict(images[:1])
            with pytest.raises(errors.PairMismatchError, match="Nothing was sent"):
                client.predict(images[:1])
            transport.use = lambda method: 0
            assert client.predict(images[:1]).shape == (1, 5)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 2}, r"NOT_FOUND: Servable not found for request: Specific\(faces, 2\)"),
        ({"name": "cats"}, r"NOT_FOUND: Servable not found for request: Specific\(cats, 1\)"),
    ],
)
def test_wrong_model_or_version(parts, server, images, tmp_path, change, text):
    arguments = {"version": 1, "name": "faces", **change}
    bundle = kp.export(parts, tmp_path / "b", **arguments)
    with Client(bundle.path, server.address) as client:
        with pytest.raises(errors.ServerNotFoundError, match=text):
            client.predict(images)
        with pytest.raises(errors.ServerNotFoundError, match=r"Not ready within 0.2 s: .*NOT_FOUND"):
            client.wait_for_ready(0.2)


def test_a_server_of_another_kind(bundle, images):
    from concurrent import futures

    stranger = grpc.server(futures.ThreadPoolExecutor(1))
    port = stranger.add_insecure_port("127.0.0.1:0")
    stranger.start()
    refused = pytest.raises(errors.RequestRefusedError, match="this server speaks something else")
    with Client(bundle.path, f"127.0.0.1:{port}") as client, refused:
        client.predict(images)
    stranger.stop(0).wait()


def signature_answer(change):
    """Changes the signature that a server shows."""

    def rewrite(method, raw):
        if not method.endswith("GetModelMetadata"):
            return raw
        response = messages.GetModelMetadataResponse.FromString(raw)
        signatures = messages.SignatureDefMap.FromString(response.metadata["signature_def"].value)
        change(signatures.signature_def, response)
        response.metadata["signature_def"].value = signatures.SerializeToString()
        return response.SerializeToString()

    return rewrite


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s, r: s.pop("pair"), "it has the signatures .* expected 'serve_checked' and 'pair'"),
        (lambda s, r: s.pop("serve_checked"), "it has the signatures"),
        (
            lambda s, r: s["serve_checked"].inputs["raw"].CopyFrom(s["serve_checked"].inputs["boundary"]),
            r"it has the inputs \['boundary', 'raw'\]",
        ),
        (lambda s, r: setattr(s["serve_checked"].inputs["boundary"], "dtype", 2), "its input 'boundary' is float64"),
        (lambda s, r: setattr(s["serve_checked"].inputs["boundary"].tensor_shape.dim[3], "size", 5), r"is float32 \[None, 6, 6, 5\]"),
        (lambda s, r: setattr(s["serve_checked"].inputs["boundary"].tensor_shape, "unknown_rank", True), "unknown rank"),
        (lambda s, r: s["serve_checked"].outputs.pop("scores"), r"it has the outputs \['pair_fingerprint'\]; expected"),
        (
            lambda s, r: setattr(s["serve_checked"].outputs["scores"].tensor_shape.dim[1], "size", 6),
            r"its output 'scores' is float32 \[None, 6\]",
        ),
        (lambda s, r: setattr(r.model_spec.version, "value", 9), "it answers for version 9"),
    ],
)
def test_another_signature_is_refused(bundle, recorder, images, change, text):
    recorder.rewrite = signature_answer(change)
    with Client(bundle.path, recorder.address) as client, pytest.raises(errors.PairMismatchError, match=text):
        client.predict(images)
    assert predictions(recorder) == []


def test_signatures_that_cannot_be_read(bundle, recorder, images):
    def rewrite(method, raw):
        response = messages.GetModelMetadataResponse.FromString(raw)
        response.metadata["signature_def"].value = b"\xff\xff"
        return response.SerializeToString()

    recorder.rewrite = rewrite
    with Client(bundle.path, recorder.address) as client, pytest.raises(errors.PairMismatchError, match="cannot be read"):
        client.predict(images)


def answer_change(change):
    def rewrite(method, raw):
        response = messages.PredictResponse.FromString(raw)
        if not method.endswith("Predict") or "scores" not in response.outputs:
            return raw
        change(response.outputs)
        return response.SerializeToString()

    return rewrite


def replace_by(array):
    def change(outputs):
        outputs["scores"].Clear()
        tensors.encode(array, outputs["scores"])

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda outputs: outputs.pop("scores"), r"answered \['pair_fingerprint'\]; expected \['pair_fingerprint', 'scores'\]"),
        (lambda outputs: outputs["extra"].CopyFrom(outputs["scores"]), r"answered \['extra', 'pair_fingerprint', 'scores'\]"),
        (replace_by(np.zeros((2, 5))), r"as float64\[2, 5\] to 2 examples; the contract declares float32\[None, 5\]"),
        (replace_by(np.zeros((2, 4), np.float32)), r"float32\[2, 4\]"),
        (replace_by(np.zeros((1, 5), np.float32)), r"float32\[1, 5\] to 2 examples"),
        (lambda outputs: outputs["scores"].float_val.append(0.0), "11 values"),
    ],
)
def test_answers_that_the_contract_does_not_declare(bundle, recorder, images, change, text):
    recorder.rewrite = answer_change(change)
    with Client(bundle.path, recorder.address) as client, pytest.raises(errors.ServerFailedError, match=text):
        client.predict(images[:2])


# Wrong bundles.


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle.path, tmp_path / "faces")


def files_of(bundle):
    return sorted(bundle.contract.files)


@pytest.mark.parametrize("damage", ["bit", "truncate", "empty", "grow", "remove", "link"])
def test_every_changed_file_is_refused_by_name(bundle, copy, damage, server):
    for name in files_of(bundle):
        path = copy / name
        intact = path.read_bytes()
        if damage == "remove":
            path.unlink()
        elif damage == "link":
            path.unlink()
            path.symlink_to(bundle.path / name)
        else:
            middle = len(intact) // 2
            flipped = intact[:middle] + bytes([intact[middle] ^ 1]) + intact[middle + 1 :]
            path.write_bytes({"bit": flipped, "truncate": intact[:-1], "empty": b"", "grow": intact + b"\0"}[damage])
        if damage == "remove" and not name.startswith("device/"):
            Client(copy, server.address).close()  # a device need not have the other folders
        else:
            with pytest.raises(errors.IntegrityError, match=name):
                Client(copy, server.address)
        path.unlink(missing_ok=True)
        path.write_bytes(intact)
    Client(copy, server.address).close()


@pytest.mark.parametrize("name", ["device/1/extra.py", "server/1/extra.py", "serving/other.config", "report/x.html"])
def test_a_file_that_is_not_listed_is_refused(copy, name):
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("")
    with pytest.raises(errors.IntegrityError, match=f"{name} is not listed"):
        Client(copy, "localhost:1")


@pytest.mark.parametrize(
    "key",
    ["name", "version", "boundary", "inputs", "outputs", "server_weights", "fingerprint", "files", "audit", "made_with", "max_batch_size"],
)
def test_a_changed_contract_is_refused(copy, key):
    path = copy / "contract.json"
    record = json.loads(path.read_text())
    changed = {
        "name": "cats", "version": 2, "server_weights": "0" * 64, "fingerprint": "0" * 64, "audit": {"leakage": 0.0},
        "made_with": {}, "max_batch_size": 1,
    }  # fmt: skip
    record[key] = changed.get(
        key,
        record[key]
        if key == "files"
        else [{**record.get(key)[0], "shape": [None, 1]}]
        if key in ("boundary", "inputs", "outputs")
        else None,
    )
    if key == "files":
        record["files"].pop("server/1/saved_model.pb")
    path.write_text(json.dumps(record))
    with pytest.raises(errors.IntegrityError, match="was changed after it was written"):
        Client(copy, "localhost:1")


def test_a_contract_of_another_bundle(bundle, other, copy):
    shutil.copy(other.path / "contract.json", copy)
    with pytest.raises(errors.IntegrityError, match="device/1/"):
        Client(copy, "localhost:1")


def test_a_device_needs_no_server_folder(copy, server, images):
    shutil.rmtree(copy / "server")
    shutil.rmtree(copy / "serving")
    with Client(copy, server.address) as client:
        assert client.predict(images[:1]).shape == (1, 5)


def test_a_bundle_without_a_device_half(copy):
    shutil.rmtree(copy / "device")
    with pytest.raises(errors.IntegrityError, match=r"device/1/.* missing"):
        Client(copy, "localhost:1")


@pytest.mark.parametrize("hidden", ["", "nowhere"])
def test_no_bundle_at_all(tmp_path, hidden):
    with pytest.raises(errors.ContractError, match=r"Found no contract\.json"):
        Client(tmp_path / hidden, "localhost:1")


def test_the_version_is_pinned(bundle, server):
    Client(bundle.path, server.address, version=1).close()
    with pytest.raises(errors.ContractError, match=r"Received version 2; the bundle .* holds version 1"):
        Client(bundle.path, server.address, version=2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"address": ""}, "expected host:port"),
        ({"address": "a:1", "timeout": 0}, "expected seconds above 0"),
        ({"address": "a:1", "timeout": float("nan")}, "seconds above 0"),
    ],
)
def test_bad_arguments(bundle, arguments, text):
    with pytest.raises(errors.ServingError, match=text):
        Client(bundle.path, **arguments)


# Surroundings.


def test_nothing_is_logged(bundle, server, images, caplog):
    with caplog.at_level(logging.DEBUG), Client(bundle.path, server.address) as client:
        client.predict(images)
    assert [record for record in caplog.records if record.name.startswith("keras_privpart")] == []


def test_importing_the_client_loads_no_tensorflow():
    code = (
        "import sys; from keras_privpart.serving import Client; import keras_privpart.serving.transport;"
        "print(sorted(m for m in ('tensorflow', 'keras', 'tensorflow_serving', 'ml_dtypes') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]"


def test_contract_is_what_the_bundle_says(bundle, client):
    assert client.contract == Contract.load(bundle.path)
