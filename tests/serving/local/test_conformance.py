"""How TensorFlow Serving behaves, as it was seen to. Where it is on the PATH these tests ask it; else they ask the local server, which must
behave the same: where it is kinder, what works here fails in production."""

import base64
import json
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

import keras_privpart as kp
from keras_privpart import errors
from keras_privpart.serving import Client, LocalServer, start
from keras_privpart.serving.local import models

Code = grpc.StatusCode
KIND = "tensorflow_model_server" if shutil.which("tensorflow_model_server") else "local"
AVAILABLE, END = get_model_status_pb2.ModelVersionStatus.AVAILABLE, get_model_status_pb2.ModelVersionStatus.END


class Asked:
    """A server as its administrator and its clients see it."""

    def __init__(self, engine):
        self.engine = engine
        self.rest = f"http://{engine.rest_address}/v1/models/faces"
        self._channel = grpc.insecure_channel(engine.address)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self):
        self._channel.close()

    def reload(self, versions=None, labels=None):
        """Versions and labels as a `models.config` says them; without versions an empty configuration."""
        request = model_management_pb2.ReloadConfigRequest()
        if versions is not None:
            request.config.ParseFromString(self.engine._configuration.models().SerializeToString())
            model = request.config.model_config_list.config[0]
            model.model_version_policy.specific.versions[:] = versions
            model.version_labels.clear()
            model.version_labels.update(labels or {})
        return self._models.HandleReloadConfigRequest(request, timeout=10)

    def statuses(self):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "faces"
        return list(self._models.GetModelStatus(request, timeout=10).model_version_status)

    def states(self):
        return {status.version: status.state for status in self.statuses()}

    def until(self, version, state):
        end = time.monotonic() + 30
        while self.states().get(version) != state:
            assert time.monotonic() < end, self.states()
            time.sleep(0.05)

    def version_of(self, *, version=None, label=None):
        """The version that answers."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "faces", "serve"
        if version is not None:
            request.model_spec.version.value = version
        if label is not None:
            request.model_spec.version_label = label
        request.inputs["boundary"].CopyFrom(tf.make_tensor_proto(np.zeros((1, 6, 6, 4), np.float32)))
        return self._predictions.Predict(request, timeout=10).model_spec.version.value

    def post(self, body):
        try:
            with urllib.request.urlopen(f"{self.rest}:predict", json.dumps(body).encode(), timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)


@pytest.fixture(scope="module")
def asked(parts, other_parts, tmp_path_factory):
    """A server that was started with version 1, of a bundle that has two versions by now, and a third folder that cannot be loaded."""
    root = tmp_path_factory.mktemp("conformance") / "faces"
    kp.export(parts, root, max_batch_size=4)
    with start(root, 0, 0, prefer=KIND) as engine:
        kp.export(other_parts, root, version=2, max_batch_size=4)
        (root / "server/3").mkdir()
        (root / "server/3/saved_model.pb").write_bytes(b"nonsense")
        asked = Asked(engine)
        yield asked
        asked.close()


@pytest.fixture(autouse=True)
def as_started(request):
    """Version 1 alone, and nothing remembered of the others but that they were unloaded."""
    if "asked" in request.fixturenames:
        asked = request.getfixturevalue("asked")
        asked.reload([1], {"stable": 1})
        asked.until(1, AVAILABLE)
        for version in set(asked.states()) - {1}:
            asked.until(version, END)


@contextmanager
def refused(code, text):
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() is code
    assert text in caught.value.details()


# Reloading.


def test_labels_are_set_before_versions_are_added(asked):
    """A label that moves to a version that is not loaded refuses all of the configuration, the version included."""
    text = "Request to assign label to version 2 of model faces, which is not currently available for inference"
    for _ in range(2):
        with refused(Code.FAILED_PRECONDITION, text):
            asked.reload([1, 2], {"stable": 2})
    assert asked.states()[1] == AVAILABLE
    assert asked.states().get(2) in (None, END)
    assert asked.version_of(label="stable") == 1


def test_versions_first_and_labels_when_they_are_loaded(asked):
    answer = asked.reload([1, 2], {"stable": 1})
    assert answer.status.error_code == 0
    asked.until(2, AVAILABLE)
    assert asked.version_of(label="stable") == 1
    asked.reload([1, 2], {"stable": 2})
    assert (asked.version_of(label="stable"), asked.version_of(version=1), asked.version_of()) == (2, 1, 2)


def test_a_new_label_may_name_what_is_not_loaded_yet(asked):
    asked.reload([1, 2], {"stable": 1, "canary": 2})
    asked.until(2, AVAILABLE)
    assert asked.version_of(label="canary") == 2


def test_an_empty_configuration_changes_nothing(asked):
    asked.reload()
    assert asked.version_of(label="stable") == 1


def test_a_version_that_is_taken_out_stays_in_the_list(asked):
    asked.reload([1, 2], {"stable": 1})
    asked.until(2, AVAILABLE)
    asked.reload([1], {"stable": 1})
    asked.until(2, END)
    assert [(status.version, status.status.error_code) for status in asked.statuses() if status.version in (1, 2)] == [(2, 0), (1, 0)]
    with refused(Code.NOT_FOUND, "Servable not found for request: Specific(faces, 2)"):
        asked.version_of(version=2)


def test_a_version_that_cannot_be_loaded_says_why_and_the_rest_serve_on(asked):
    asked.reload([1, 3], {"stable": 1})
    asked.until(3, END)
    [broken] = [status for status in asked.statuses() if status.version == 3]
    assert broken.status.error_code != 0
    assert broken.status.error_message
    assert asked.version_of() == 1
    with refused(Code.NOT_FOUND, "Servable not found for request: Specific(faces, 3)"):
        asked.version_of(version=3)


def test_unknown_labels_are_invalid_arguments(asked):
    with refused(Code.INVALID_ARGUMENT, "Unrecognized servable version label: beta"):
        asked.version_of(label="beta")


# REST.


def test_rows_and_columns(asked):
    zeros = np.zeros((3, 6, 6, 4)).tolist()
    columns = asked.post({"inputs": {"boundary": zeros}})
    rows = asked.post({"instances": zeros})
    named = asked.post({"signature_name": "serve", "instances": [{"boundary": zero} for zero in zeros]})
    assert columns[0] == rows[0] == named[0] == 200
    np.testing.assert_allclose(rows[1]["predictions"], columns[1]["outputs"], atol=1e-6)
    assert named[1] == rows[1]
    status, both = asked.post({"signature_name": "serve_checked", "instances": zeros})
    assert status == 200
    assert [sorted(row) for row in both["predictions"]] == [["pair_fingerprint", "scores"]] * 3


def test_a_boundary_of_bytes(asked, images, bundle):
    """One base64 string an example: what a browser sends."""
    boundary = np.random.default_rng(0).random((3, 6, 6, 4), dtype=np.float32)
    encoded = [{"b64": base64.b64encode(row.tobytes()).decode()} for row in boundary]
    want = asked.post({"signature_name": "serve_checked", "inputs": {"boundary": boundary.tolist()}})
    for inputs in ({"boundary": encoded}, encoded):
        status, answer = asked.post({"signature_name": "serve_bytes", "inputs": inputs})
        assert status == want[0] == 200
        np.testing.assert_allclose(answer["outputs"]["scores"], want[1]["outputs"]["scores"], atol=1e-6)
        assert answer["outputs"]["pair_fingerprint"] == want[1]["outputs"]["pair_fingerprint"]
    assert len(json.dumps(encoded)) < 0.3 * len(json.dumps(boundary.tolist()))
    encoded[1]["b64"] = base64.b64encode(boundary[1].tobytes()[:-4]).decode()
    assert asked.post({"signature_name": "serve_bytes", "inputs": encoded})[0] == 400
    assert asked.post({"signature_name": "serve_bytes", "inputs": [{"b64": "?"}]})[0] == 400


@pytest.mark.parametrize("cors", [False, True])
def test_pages_of_other_origins(cors, bundle):
    """Allowed or not, the content's type is the only header that a page may add: with a token the browser does not ask at all."""
    in_process = KIND == "local"
    with LocalServer(bundle.path, rest_port=0, cors=cors) if in_process else start(bundle.path, 0, 0, prefer=KIND, cors=cors) as engine:
        url = f"http://{engine.rest_address}/v1/models/faces:predict"
        asking = {
            "Origin": "https://page.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        }
        request = urllib.request.Request(url, headers=asking, method="OPTIONS")
        if not cors:
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=10)
            with caught.value as error:
                assert (error.code, error.headers["Access-Control-Allow-Origin"]) == (400, None)
            return
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] in ("*", "https://page.example")
            assert "POST" in answer.headers["Access-Control-Allow-Methods"]
            assert answer.headers["Access-Control-Allow-Headers"] == "Content-Type"
        sent = urllib.request.Request(url, b'{"signature_name": "pair", "inputs": [0]}', {"Origin": "https://page.example"})
        with urllib.request.urlopen(sent, timeout=10) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] in ("*", "https://page.example")


def test_cors_needs_a_rest_port(bundle):
    with pytest.raises(errors.EngineError, match=r"Received cors=True without rest_port"):
        start(bundle.path, 0, prefer="local", cors=True)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [], "inputs": []}, "expecting only one of 'inputs' or 'instances'"),
        ({"instances": {}}, "'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": [{"image": 1}]}, "does not have named input: image"),
        ({"instances": [[1.0], [1.0, 2.0]]}, "Failed to process element: 1"),
        ({"instances": [[1.0], {"boundary": 1.0}]}, "Expecting value/list but got object at item 1 of input list"),
        ({"instances": ["a"]}, "Failed to process element: 0"),
        ({"instances": [True]}, "Failed to process element: 0"),
        ({"inputs": {"image": [1.0]}}, "Missing named input: boundary in 'inputs' object."),
        ({"inputs": [[1.0], 2.0]}, "incorrect level"),
        ({"inputs": [[16777217]]}, "without loss of precision"),
        ({"signature_name": "pair", "inputs": [1.5]}, "1.5"),
    ],
)
def test_json_that_does_not_fit(asked, body, text):
    status, answer = asked.post(body)
    assert status == 400
    assert text in answer["error"]


# What needs a hand inside: the local server alone.


def test_it_listens_only_when_everything_is_loaded(bundle, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        ports = [probe.getsockname()[1]]
    seen = []
    original = models.Servable

    def load(folder):
        with socket.socket() as client:
            seen.append(client.connect_ex(("127.0.0.1", ports[0])))
        return original(folder)

    monkeypatch.setattr(models, "Servable", load)
    with LocalServer(bundle.path, ports[0]), socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", ports[0])) == 0
    assert len(seen) == 1
    assert seen[0] != 0


def test_one_call_more_than_threads_is_refused_at_once(bundle, images, monkeypatch):
    with LocalServer(bundle.path, workers=2) as server, Client(bundle.path, server.address, timeout=20) as client:
        client.predict(images[:1])
        go_on, busy = threading.Event(), threading.Semaphore(0)
        predict = server._services.predict

        def slow(request):
            busy.release()
            assert go_on.wait(20)
            return predict(request)

        monkeypatch.setattr(server._services, "predict", slow)
        threads = [threading.Thread(target=client.predict, args=(images[:1],)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert busy.acquire(timeout=20)
        with grpc.insecure_channel(server.address) as channel:
            request = get_model_status_pb2.GetModelStatusRequest()
            request.model_spec.name = "faces"
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            with refused(Code.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted"):
                stub.GetModelStatus(request, timeout=10)
            go_on.set()
            for thread in threads:
                thread.join()
            assert stub.GetModelStatus(request, timeout=10).model_version_status


def test_warm_up_covers_what_clients_call(bundle, images, record_of, server):
    """The first call of a signature, and of a batch size, is many times slower than the next."""
    path = bundle.path / "server/1/assets.extra/tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(record) for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    warm = {called(log.predict_log.request) for log in logs}
    recorder = record_of(server.address)
    with Client(bundle.path, recorder.address) as client:
        for count in (1, 2, 4):
            client.predict(images[:count])
    made = {called(predict_pb2.PredictRequest.FromString(raw)) for method, raw in recorder.requests if method == "Predict"}
    assert made == {("pair", 1), ("serve_checked", 1), ("serve_checked", 2), ("serve_checked", 4)}
    assert made <= warm


def called(request):
    [tensor] = request.inputs.values()
    return request.model_spec.signature_name, tensor.tensor_shape.dim[0].size


def test_a_configuration_file_is_polled(parts, other_parts, tmp_path, capfd):
    """As TensorFlow Serving does on its own: a refusal is repeated at every poll, and what is loaded goes on being served."""
    from keras_privpart.serving.local.server import _serve_until

    root = tmp_path / "faces"
    kp.export(parts, root, max_batch_size=4)
    server, ended = LocalServer(root), []
    thread = threading.Thread(target=_serve_until, args=(ended, server, root / "serving/models.config", 0.1))
    thread.start()
    try:
        kp.export(other_parts, root, version=2, max_batch_size=4)
        end = time.monotonic() + 20
        while 2 not in server.models.versions and time.monotonic() < end:
            time.sleep(0.05)
        assert sorted(server.models.versions) == [1, 2]
        (root / "serving/models.config").write_text("damaged")
        said = ""
        while said.count("failed to ReloadConfig: Can't read") < 2 and time.monotonic() < end:
            time.sleep(0.05)
            said += capfd.readouterr().err
        assert said.count("failed to ReloadConfig: Can't read") >= 2
    finally:
        ended.append(0)
        thread.join()
    with pytest.raises(errors.EngineError, match=r"Expected a models\.config as export writes it"):
        LocalServer(root, config_file=root / "serving/models.config")
