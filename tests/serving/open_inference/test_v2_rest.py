"""The Open Inference Protocol over REST: answers and refusals as with TensorFlow Serving, on the local server as a double."""

import asyncio
import json

import numpy as np
import pytest

from keras_privpart import errors
from keras_privpart.boundary import TensorSpec
from keras_privpart.serving import AsyncClient, Client, LocalServer
from keras_privpart.serving.local import open_inference_rest
from keras_privpart.serving.open_inference.v2_rest import V2RestTransport


@pytest.fixture(scope="module")
def double(bundle):
    with LocalServer(bundle.path, rest_port=0) as running:
        yield running


@pytest.fixture
def heard(monkeypatch):
    """What servers are asked, as `(verb, path)`."""
    asked, answer = [], open_inference_rest.answer
    monkeypatch.setattr(
        open_inference_rest,
        "answer",
        lambda services, verb, path, body: asked.append((verb, path)) or answer(services, verb, path, body),
    )
    return asked


def tampered(monkeypatch, change):
    """Lets the double's answers to `infer` be changed on their way."""
    answer = open_inference_rest.answer

    def changed(services, verb, path, body):
        text = answer(services, verb, path, body)
        return change(json.loads(text)) if path.endswith("/infer") else text

    monkeypatch.setattr(open_inference_rest, "answer", changed)


@pytest.mark.parametrize("count", [1, 5, 11])
def test_answers_are_those_of_grpc(bundle, double, images, count):
    with Client(bundle.path, double.rest_address, transport="v2") as client, Client(bundle.path, double.address) as over_grpc:
        client.wait_for_ready(10)
        np.testing.assert_array_equal(client.predict(images[:count]), over_grpc.predict(images[:count]))


def test_several_tensors(wide, wide_parts):
    rng = np.random.default_rng(0)
    x = [rng.integers(0, 7, (5, 3)), rng.random((5, 6))]
    want = wide_parts.model.predict(x, verbose=0)
    with LocalServer(wide.path, rest_port=0) as server, Client(wide.path, server.rest_address, transport="v2") as client:
        got = client.predict(x)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], atol=1e-6)


def test_asyncio(bundle, double, parts, images):
    async def ask():
        async with AsyncClient(bundle.path, double.rest_address, transport="v2") as client:
            return await client.predict(images)

    np.testing.assert_allclose(asyncio.run(ask()), parts.model.predict(images, verbose=0), atol=1e-6)


def test_the_pair_is_asked_for_before_a_boundary_leaves(bundle, double, images, heard):
    with Client(bundle.path, double.rest_address, transport="v2") as client:
        client.predict(images[:1])
        client.predict(images[:1])
    model = "/v2/models/faces/versions/1"
    assert heard == [("GET", model), ("GET", model), ("POST", f"{model}/infer"), ("POST", f"{model}/infer")]


def test_another_pair_gets_nothing(bundle, other, images, heard):
    with (
        LocalServer(other.path, rest_port=0) as stranger,
        Client(bundle.path, stranger.rest_address, transport="v2") as client,
        pytest.raises(errors.PairMismatchError, match=r"its fingerprint is .* Nothing was sent"),
    ):
        client.predict(images)
    assert {verb for verb, _ in heard} == {"GET"}


def test_a_model_of_another_shape_gets_nothing(wide_parts, bundle, tmp_path, images, heard):
    import keras_privpart as kp

    stranger = kp.export(wide_parts, tmp_path / "faces")
    with (
        LocalServer(stranger.path, rest_port=0) as server,
        Client(bundle.path, server.rest_address, transport="v2") as client,
        pytest.raises(errors.PairMismatchError, match="it has the inputs"),
    ):
        client.predict(images)
    assert {verb for verb, _ in heard} == {"GET"}


def test_a_model_that_names_no_pair_gets_nothing(bundle, double, images, heard, monkeypatch):
    described = open_inference_rest._describe

    def nameless(services, spec):
        model = described(services, spec)
        return model | {"outputs": [output for output in model["outputs"] if not output["name"].startswith("pair_")]}

    monkeypatch.setattr(open_inference_rest, "_describe", nameless)
    with (
        Client(bundle.path, double.rest_address, transport="v2") as client,
        pytest.raises(errors.PairMismatchError, match=r"expected 'serve_checked' and 'pair'"),
    ):
        client.predict(images)
    assert {verb for verb, _ in heard} == {"GET"}


def test_an_answer_of_another_pair_is_discarded(bundle, double, images, monkeypatch):
    def other_bytes(answer):
        for output in answer["outputs"]:
            if output["datatype"] == "UINT8":
                output["data"][-1] ^= 1
        return json.dumps(answer)

    tampered(monkeypatch, other_bytes)
    with (
        Client(bundle.path, double.rest_address, transport="v2") as client,
        pytest.raises(errors.PairMismatchError, match="the answer was discarded"),
    ):
        client.predict(images[:2])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda answer: json.dumps([answer]), "is not the Open Inference Protocol's"),
        (lambda answer: json.dumps({"outputs": answer["outputs"][:1]}), r"The server answered \["),
        (lambda answer: json.dumps(answer).replace('"FP32"', '"FP8"'), "unknown datatype 'FP8'"),
        (lambda answer: json.dumps(answer).replace('"UINT8"', '"INT32"'), "not bytes, a row an example"),
        (lambda answer: json.dumps({"outputs": [{**o, "data": [None] * len(o["data"])} for o in answer["outputs"]]}), "are no numbers"),
    ],
)
def test_answers_that_are_not_the_protocols(bundle, double, images, monkeypatch, change, text):
    tampered(monkeypatch, change)
    with Client(bundle.path, double.rest_address, transport="v2") as client, pytest.raises(errors.ServerFailedError, match=text):
        client.predict(images[:2])


def test_a_version_that_is_not_there(other_parts, double, tmp_path, images):
    import keras_privpart as kp

    second = kp.export(other_parts, tmp_path / "faces", version=2)
    with Client(second.path, double.rest_address, transport="v2") as client:
        with pytest.raises(errors.ServerNotFoundError, match=r"The server has version 1, not 2"):
            client.predict(images[:1])
        with pytest.raises(errors.ServerNotFoundError, match=r"Not ready within 0.3 s"):
            client.wait_for_ready(0.3)


def test_labels_are_refused_before_anything_is_asked(bundle):
    with pytest.raises(errors.ServingError, match="has versions only"):
        Client(bundle.path, "localhost:1", transport="v2", label="stable")


def test_half_floats_need_grpc(bundle):
    from dataclasses import replace

    contract = replace(bundle.contract, outputs=(TensorSpec("scores", (None, 5), "float16"),))
    with pytest.raises(errors.ServingError, match=r"'scores' is float16, .* Use transport='v2-grpc'"):
        V2RestTransport("a:1", contract)
