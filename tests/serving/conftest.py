"""Exported bundles, servers for them, and a server that records what it is sent."""

from __future__ import annotations

import json
import shutil
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import keras
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

import keras_privpart as kp
from keras_privpart.serving import LocalServer, start

REAL = "tensorflow_model_server"


def image_model(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    x = keras.Input((8, 8, 1), name="image")
    h = keras.layers.Conv2D(4, 3, activation="relu", name="stem")(x)
    return keras.Model(x, keras.layers.Dense(5, activation="softmax", name="scores")(keras.layers.Flatten()(h)))


def wide_model() -> keras.Model:
    """Two inputs, one of whole numbers; two boundary tensors; two named outputs."""
    keras.utils.set_random_seed(1)
    ids, image = keras.Input((3,), dtype="int32", name="ids"), keras.Input((6,), name="image-1")
    left = keras.layers.Embedding(7, 4, name="left")(ids)
    both = keras.layers.Concatenate()([keras.layers.Flatten()(left), keras.layers.Dense(5, name="right")(image)])
    return keras.Model([ids, image], {"species": keras.layers.Dense(3)(both), "age": keras.layers.Dense(1)(both)})


class Recorder:
    """A gRPC server that stands before another, keeps every request's bytes, and can be told to fail."""

    def __init__(self, target: str) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self.failures: list[grpc.StatusCode] = []
        self.rewrite = lambda method, answer: answer
        self._channel = grpc.insecure_channel(target)
        self._server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([self])
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{self.port}"
        self._server.start()

    def service(self, details):
        def forward(request, context):
            self.requests.append((details.method.rsplit("/", 1)[1], request))
            if self.failures:
                context.abort(self.failures.pop(0), "as told")
            try:
                return self.rewrite(details.method, self._channel.unary_unary(details.method)(request, timeout=10))
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        return grpc.unary_unary_rpc_method_handler(forward)

    def turn_to(self, target: str) -> None:
        """Stands before another server from now on."""
        self._channel.close()
        self._channel = grpc.insecure_channel(target)

    def stop(self):
        self._server.stop(0).wait()
        self._channel.close()

    def predictions(self) -> list[predict_pb2.PredictRequest]:
        """Requests that carry a boundary, parsed with TensorFlow Serving's own message."""
        parsed = [predict_pb2.PredictRequest.FromString(raw) for method, raw in self.requests if method == "Predict"]
        return [request for request in parsed if request.model_spec.signature_name == "serve_checked"]

    def methods(self) -> list[str]:
        return [method for method, _ in self.requests]


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((11, 8, 8, 1), dtype=np.float32)


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="session")
def parts() -> kp.Partition:
    return kp.partition(image_model(0), at="stem")


@pytest.fixture(scope="session")
def bundle(parts, saved):
    return kp.export(parts, saved / "faces", max_batch_size=4)


@pytest.fixture(scope="session")
def onnx_bundle(parts, saved):
    """With the server half as ONNX too."""
    for needed in ("onnx", "onnxruntime", "tf2onnx"):
        pytest.importorskip(needed)
    return kp.export(parts, saved / "mnist", max_batch_size=4, server_format="onnx")


@pytest.fixture(scope="session")
def other_parts() -> kp.Partition:
    return kp.partition(image_model(1), at="stem")


@pytest.fixture(scope="session")
def other(other_parts, saved):
    """Another pair of the same architecture, name and version."""
    return kp.export(other_parts, saved / "other", name="faces", max_batch_size=4)


@pytest.fixture(scope="session")
def wide_parts() -> kp.Partition:
    return kp.partition(wide_model(), at=["left", "right"])


@pytest.fixture(scope="session")
def wide(wide_parts, saved):
    return kp.export(wide_parts, saved / "wide", version=7, max_batch_size=4)


@pytest.fixture(scope="session")
def compose_schema():
    """Validates by the Compose Specification."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = Path(__file__).parents[1] / "data/schemas/compose-spec.json"
    return jsonschema.Draft201909Validator(json.loads(schema.read_text()))


@pytest.fixture(scope="session")
def serving():
    """Serves a bundle: TensorFlow Serving where it is on the PATH, else the local server in this process."""
    real = shutil.which(REAL) is not None

    @contextmanager
    def run(bundle, *, rest_port=None):
        made = start(bundle.path, 0, rest_port, prefer=REAL) if real else LocalServer(bundle.path, rest_port=rest_port)
        with made as running:
            yield running

    return run


@pytest.fixture(scope="session")
def server(serving, bundle):
    with serving(bundle) as running:
        yield running


@pytest.fixture(scope="session")
def wide_server(serving, wide):
    with serving(wide) as running:
        yield running


@pytest.fixture
def recorder(server):
    running = Recorder(server.address)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def record_of():
    """Makes a recorder before any server."""
    made = []

    def make(address: str) -> Recorder:
        made.append(Recorder(address))
        return made[-1]

    yield make
    for running in made:
        running.stop()
