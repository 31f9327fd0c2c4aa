"""The Open Inference Protocol over gRPC, on the local server's REST double behind a gRPC front."""

import asyncio
import json
from concurrent import futures

import grpc
import numpy as np
import pytest

from keras_privpart import errors
from keras_privpart.serving import AsyncClient, Client, LocalServer
from keras_privpart.serving.local import open_inference_rest
from keras_privpart.serving.local.servable import Refusal
from keras_privpart.serving.open_inference import v2
from keras_privpart.serving.open_inference.v2_messages import INFER, MODEL, READY, V2_METHODS

CONTENTS = {"FP32": "fp32_contents", "UINT8": "uint_contents"}


class Front:
    """`GRPCInferenceService` in front of a local server; answers raw or in typed contents."""

    def __init__(self, local):
        self.local, self.raw, self.called = local, True, []
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self):
        self._server.stop(0).wait()

    def service(self, details):
        method = next(method for method in V2_METHODS if method.path == details.method)
        own = {READY: self.ready, MODEL: self.describe, INFER: self.infer}[method]

        def handle(request, context):
            self.called.append(method.name)
            try:
                return own(method.response, request)
            except Refusal as refusal:
                context.abort(refusal.code, refusal.message)

        return grpc.unary_unary_rpc_method_handler(handle, method.request.FromString, method.response.SerializeToString)

    def ask(self, verb, name, version, what="", body=b""):
        path = f"/v2/models/{name}" + (f"/versions/{version}" if version else "") + what
        return open_inference_rest.answer(self.local._services, verb, path, body)

    def ready(self, response, request):
        self.ask("GET", request.name, request.version, "/ready")
        return response(ready=True)

    def describe(self, response, request):
        return response(**json.loads(self.ask("GET", request.name, request.version)))

    def infer(self, response, request):
        sent = {"outputs": [{"name": output.name} for output in request.outputs], "inputs": []}
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            data = np.frombuffer(raw, v2.dtype_of(tensor.datatype)).tolist()
            sent["inputs"].append({"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape), "data": data})
        told = json.loads(self.ask("POST", request.model_name, request.model_version, "/infer", json.dumps(sent).encode()))
        answer = response(model_name=told["model_name"], model_version=told["model_version"])
        for output in told["outputs"]:
            tensor = answer.outputs.add(name=output["name"], datatype=output["datatype"], shape=output["shape"])
            if self.raw:
                answer.raw_output_contents.append(np.array(output["data"], v2.dtype_of(output["datatype"])).tobytes())
            else:
                getattr(tensor.contents, CONTENTS[output["datatype"]]).extend(output["data"])
        return answer


@pytest.fixture(scope="module")
def local(bundle):
    with LocalServer(bundle.path) as running:
        yield running


@pytest.fixture
def front(local):
    made = Front(local)
    yield made
    made.stop()


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_answers_are_those_of_tensorflow_serving(bundle, local, front, images, raw):
    front.raw = raw
    with Client(bundle.path, front.address, transport="v2-grpc") as client, Client(bundle.path, local.address) as plain:
        client.wait_for_ready(10)
        np.testing.assert_array_equal(client.predict(images), plain.predict(images))


def test_asyncio(bundle, front, parts, images):
    async def ask():
        async with AsyncClient(bundle.path, front.address, transport="v2-grpc") as client:
            return await client.predict(images)

    np.testing.assert_allclose(asyncio.run(ask()), parts.model.predict(images, verbose=0), atol=1e-6)


def test_another_pair_gets_nothing(other, front, images):
    with (
        Client(other.path, front.address, transport="v2-grpc") as client,
        pytest.raises(errors.PairMismatchError, match=r"its fingerprint is .* Nothing was sent"),
    ):
        client.predict(images)
    assert set(front.called) == {"ModelMetadata"}


def test_a_version_that_is_not_there(other_parts, front, tmp_path, images):
    import keras_privpart as kp

    second = kp.export(other_parts, tmp_path / "faces", version=2)
    with (
        Client(second.path, front.address, transport="v2-grpc") as client,
        pytest.raises(errors.ServerNotFoundError, match="The server has version 1, not 2"),
    ):
        client.predict(images[:1])


def test_a_server_that_answers_unknown_for_what_it_does_not_have_is_waited_for(bundle, front, monkeypatch):
    def unknown(response, request):
        raise Refusal(grpc.StatusCode.UNKNOWN, "Unexpected ModelNotFound")

    monkeypatch.setattr(front, "ready", unknown)
    with (
        Client(bundle.path, front.address, transport="v2-grpc") as client,
        pytest.raises(errors.ServerNotFoundError, match=r"Not ready within 0.3 s: .*ModelNotFound"),
    ):
        client.wait_for_ready(0.3)


def test_answers_that_contradict_themselves(bundle, front, images, monkeypatch):
    infer = front.infer

    def one_tensor_short(response, request):
        answer = infer(response, request)
        del answer.raw_output_contents[0]
        return answer

    monkeypatch.setattr(front, "infer", one_tensor_short)
    with (
        Client(bundle.path, front.address, transport="v2-grpc") as client,
        pytest.raises(errors.ServerFailedError, match="1 raw tensors for 2 outputs"),
    ):
        client.predict(images[:1])


def test_a_server_that_speaks_tensorflow_servings_grpc(bundle, local, images):
    with (
        Client(bundle.path, local.address, transport="v2-grpc") as client,
        pytest.raises(errors.RequestRefusedError, match="'v2-grpc' of an Open Inference server"),
    ):
        client.predict(images[:1])
