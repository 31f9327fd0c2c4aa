"""The client: equal answers, nothing but the boundary sent, and nothing sent to a stranger."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_privpart import errors
from keras_privpart.contract import Contract
from keras_privpart.serving import Client


@pytest.fixture
def client(bundle, server):
    with Client(bundle.path, server.address) as made:
        yield made


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
    requests = recorder.predictions()
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
    sizes = [request.inputs["boundary"].tensor_shape.dim[0].size for request in recorder.predictions()]
    assert sizes == [4, 4, 3]
    # The pair is asked once, before the first batch.
    assert recorder.methods() == ["GetModelMetadata", "Predict", "Predict", "Predict", "Predict"]


def test_batches_fit_the_message_limit(bundle, recorder, images):
    one = bundle.contract.boundary.nbytes
    with Client(bundle.path, recorder.address, max_message_bytes=5 * one) as client:
        assert len(client.predict(images)) == 11
    assert max(request.inputs["boundary"].tensor_shape.dim[0].size for request in recorder.predictions()) == 2


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
        monkeypatch.setattr(client._session.device, "run", lambda inputs: {"boundary": inputs["image"]})
        for call in (client.predict, client.encode):
            with pytest.raises(errors.BoundaryMismatchError, match="Nothing was sent"):
                call(images)
        # The last check stands where tensors leave, whatever came before it.
        monkeypatch.setattr(client._session, "encode", lambda inputs: {"boundary": inputs["image"]})
        with pytest.raises(errors.BoundaryMismatchError, match="Nothing was sent"):
            client.predict(images)
    assert recorder.requests == []


# Surroundings.


def test_nothing_is_logged(bundle, server, images, caplog):
    with caplog.at_level(logging.DEBUG), Client(bundle.path, server.address) as client:
        client.predict(images)
    assert [record for record in caplog.records if record.name.startswith("keras_privpart")] == []


def test_importing_the_client_loads_no_tensorflow():
    code = (
        "import sys; from keras_privpart.serving import AsyncClient, Client; import keras_privpart.serving.wire.rest_transport;"
        "print(sorted(m for m in ('tensorflow', 'keras', 'tensorflow_serving', 'ml_dtypes') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]"


def test_contract_is_what_the_bundle_says(bundle, client):
    assert client.contract == Contract.load(bundle.path)
