"""Servers that are not the device half's partner: refused, and no tensor sent."""

import asyncio
import threading
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart import errors
from keras_privpart.serving import AsyncClient, Client, LocalServer
from keras_privpart.serving.wire import messages, tensors
from keras_privpart.serving.wire.client_metrics import NoMetrics
from keras_privpart.serving.wire.transport import Transport


def test_another_pair_is_refused(bundle, other, images, record_of):
    with LocalServer(other.path) as stranger:
        recorder = record_of(stranger.address)
        with Client(bundle.path, recorder.address) as client:
            with pytest.raises(errors.PairMismatchError, match=r"its fingerprint is .* The device half is out of date"):
                client.predict(images)
            with pytest.raises(errors.PairMismatchError):
                client.wait_for_ready(5)
    assert recorder.predictions() == []


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
        assert len(recorder.predictions()) == 1  # the one that failed before it reached any server


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


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_a_server_that_is_swapped_behind_a_live_address_gets_no_boundary(bundle, other, images, kind, monkeypatch):
    """No request fails in between: the lost connection alone makes the client ask for the pair again."""
    taken = []
    with LocalServer(bundle.path, rest_port=0) as server:
        ports = {"port": server.port, "rest_port": int(server.rest_address.rsplit(":", 1)[1])}
        client = Client(bundle.path, server.address if kind == "grpc" else server.rest_address, transport=kind)
        client.predict(images[:1])
    with client, LocalServer(other.path, **ports) as stranger:
        find = stranger.models.find
        monkeypatch.setattr(stranger.models, "find", lambda request: taken.append(request) or find(request))
        with pytest.raises(errors.PairMismatchError, match=r"Nothing was sent\. The device half is out of date"):
            client.predict(images[:1])
    assert taken
    assert all(getattr(request.model_spec, "signature_name", "") != "serve_checked" for request in taken)


def test_a_server_that_is_swapped_gets_nothing_from_asyncio_either(bundle, other, images, monkeypatch):
    taken = []

    async def use():
        with LocalServer(bundle.path) as server:
            client = AsyncClient(bundle.path, server.address)
            await client.predict(images[:1])
        async with client:
            with LocalServer(other.path, server.port) as stranger:
                find = stranger.models.find
                monkeypatch.setattr(stranger.models, "find", lambda request: taken.append(request) or find(request))
                with pytest.raises(errors.PairMismatchError, match="Nothing was sent"):
                    await client.predict(images[:1])

    asyncio.run(use())
    assert taken
    assert all(getattr(request.model_spec, "signature_name", "") != "serve_checked" for request in taken)


def test_a_label_is_resolved_once_and_the_version_asked_for(parts, other_parts, images, tmp_path, record_of):
    """When the label moves, the version goes on being asked for; when that is gone, nothing is sent."""
    kp.export(parts, tmp_path / "b", name="faces", max_batch_size=4)
    bundle = kp.export(other_parts, tmp_path / "b", name="faces", version=2, max_batch_size=4)
    with LocalServer(bundle.path) as server:
        recorder = record_of(server.address)
        with Client(bundle.path, recorder.address, version=1, label="stable") as client:
            want = client.predict(images[:1])
            server.models.load({1, 2}, {"stable": 2})
            np.testing.assert_array_equal(client.predict(images[:1]), want)
            assert {(p.model_spec.version.value, p.model_spec.version_label) for p in recorder.predictions()} == {(1, "")}
            server.models.load({2}, {"stable": 2})
            with pytest.raises(errors.ServerNotFoundError, match="The device half is out of date"):
                client.predict(images[:1])
            with pytest.raises(errors.PairMismatchError, match=r"it answers for version 2\. .*The device half is out of date"):
                client.predict(images[:1])


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_an_unknown_label_gets_a_hint(bundle, images, kind):
    with LocalServer(bundle.path, rest_port=0) as server:
        address = server.address if kind == "grpc" else server.rest_address
        with (
            Client(bundle.path, address, label="beta", transport=kind) as client,
            pytest.raises(errors.RequestRefusedError, match="knows no label 'beta': give it one with `privpart-keras promote`"),
        ):
            client.predict(images[:1])


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("grpc", r"the port speaks HTTP/1\.1, .* Use the gRPC port, or transport='rest'"),
        ("rest", r"the port does not speak HTTP/1\.1; .* Use the REST port, or transport='grpc'"),
    ],
)
def test_the_other_port_is_told_at_once(bundle, images, kind, text):
    """Not tried again: no pause comes before the error."""
    tries = Tries()
    with LocalServer(bundle.path, rest_port=0) as server:
        wrong = server.rest_address if kind == "grpc" else server.address
        with Client(bundle.path, wrong, transport=kind, metrics=tries) as client:
            with pytest.raises(errors.RequestRefusedError, match=text) as caught:
                client.predict(images[:1])
            assert "\\x" not in str(caught.value)
    assert tries.count == 0


class Tries(NoMetrics):
    """Counts what is tried again, and acts on it."""

    def __init__(self, act=lambda: None):
        self.count, self.act = 0, act

    def retry(self):
        self.count += 1
        self.act()


def test_a_server_without_a_free_thread_is_asked_again(bundle, images, monkeypatch):
    held, free = threading.Event(), threading.Event()
    tries = Tries(free.set)
    with LocalServer(bundle.path, workers=1) as server, Client(bundle.path, server.address, metrics=tries, timeout=60) as client:
        want = client.predict(images[:1])
        find = server.models.find
        monkeypatch.setattr(server.models, "find", lambda request: (held.set(), free.wait(60), find(request))[2])
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.predict, images[:1])
            assert held.wait(60)
            np.testing.assert_array_equal(client.predict(images[:1]), want)
            np.testing.assert_array_equal(first.result(), want)
    assert tries.count


def test_a_server_of_another_kind(bundle, images):
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
    assert recorder.predictions() == []


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
