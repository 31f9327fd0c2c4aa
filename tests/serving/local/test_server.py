"""The local server against TensorFlow Serving's contract of errors, with TensorFlow Serving's own stubs."""

import shutil
import sys
from dataclasses import replace

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

import keras_privpart as kp
from keras_privpart import errors
from keras_privpart.contract import Contract, FileRecord
from keras_privpart.exporting import warm_up
from keras_privpart.serving import Client, LocalServer
from keras_privpart.serving.local.server import main

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def stubs(server):
    with grpc.insecure_channel(server.address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel), model_service_pb2_grpc.ModelServiceStub(channel)


def request(array=None, key="boundary", name="faces", version=None, signature="serve", output_filter=()):
    message = predict_pb2.PredictRequest(output_filter=output_filter)
    message.model_spec.name, message.model_spec.signature_name = name, signature
    if version is not None:
        message.model_spec.version.value = version
    array = np.ones((2, 6, 6, 4), np.float32) if array is None else array
    message.inputs[key].CopyFrom(tf.make_tensor_proto(array))
    return message


def labelled():
    message = request()
    message.model_spec.version_label = "canary"
    return message


def garbled():
    message = request()
    message.inputs["boundary"].tensor_content = b"123"
    return message


def extra():
    message = request()
    message.inputs["more"].CopyFrom(tf.make_tensor_proto(1.0))
    return message


PREDICT_ERRORS = [
    (predict_pb2.PredictRequest(), Code.INVALID_ARGUMENT, "Missing ModelSpec"),
    (request(name="cats"), Code.NOT_FOUND, "Servable not found for request: Latest(cats)"),
    (request(name="cats", version=1), Code.NOT_FOUND, "Servable not found for request: Specific(cats, 1)"),
    (request(version=2), Code.NOT_FOUND, "Servable not found for request: Specific(faces, 2)"),
    (labelled(), Code.INVALID_ARGUMENT, "Unrecognized servable version label: canary"),
    (request(signature="nope"), Code.FAILED_PRECONDITION, 'Serving signature key "nope" not found.'),
    (request(signature="__saved_model_init_op"), Code.FAILED_PRECONDITION, "not found"),
    (
        request(key="image"),
        Code.INVALID_ARGUMENT,
        "input tensor alias not found in signature: image. Inputs expected to be in the set {boundary}.",
    ),
    (
        extra(),
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 2!=1 len({boundary,more}) != len({boundary}). Sent extra: {more}. Missing but required: {}.",
    ),
    (garbled(), Code.INVALID_ARGUMENT, "tensor parsing error: boundary"),
    (request(np.ones((2, 6, 6, 4))), Code.INVALID_ARGUMENT, "Expects arg[0] to be float but double is provided"),
    (
        request(np.ones((2, 6, 6, 5), np.float32)),
        Code.INVALID_ARGUMENT,
        "",  # what the graph says, in TensorFlow Serving; the local server's words are below
    ),
    (request(np.float32(1)), Code.INVALID_ARGUMENT, ""),
    (
        request(output_filter=["x"]),
        Code.INVALID_ARGUMENT,
        "output tensor alias not found in signature: x Outputs expected to be in the set {scores}.",
    ),
    (request(output_filter=["scores", "scores"]), Code.INVALID_ARGUMENT, "duplicate output tensor alias: scores"),
]


@pytest.mark.parametrize(("message", "code", "text"), PREDICT_ERRORS, ids=[text[:45] or "shape" for *_, text in PREDICT_ERRORS])
def test_predict_errors(stubs, message, code, text):
    with pytest.raises(grpc.RpcError) as caught:
        stubs[0].Predict(message, timeout=5)
    assert caught.value.code() is code
    assert text in caught.value.details()


@pytest.mark.parametrize("signature", ["serve", "serving_default", ""])
def test_predict_answers_the_saved_model(stubs, bundle, signature):
    array = np.random.default_rng(0).random((3, 6, 6, 4), dtype=np.float32)
    response = stubs[0].Predict(request(array, signature=signature, version=1), timeout=5)
    want = tf.saved_model.load(str(bundle.path / "server/1")).signatures["serve"](boundary=tf.constant(array))["scores"]
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["scores"]), want, atol=1e-6)
    # As TensorFlow Serving answers: single values, not raw bytes.
    assert len(response.outputs["scores"].float_val) == 15
    assert response.outputs["scores"].tensor_content == b""
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("faces", 1, signature or "serving_default")


def test_output_filter(wide, wide_server):
    message = predict_pb2.PredictRequest(output_filter=["age"])
    message.model_spec.name, message.model_spec.signature_name = "wide", "serve"
    for key, shape in (("boundary_0", (2, 3, 4)), ("boundary_1", (2, 5))):
        message.inputs[key].CopyFrom(tf.make_tensor_proto(np.zeros(shape, np.float32)))
    with grpc.insecure_channel(wide_server.address) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(message, timeout=5)
        assert list(response.outputs) == ["age"]
        message.inputs["boundary_1"].CopyFrom(tf.make_tensor_proto(np.zeros((3, 5), np.float32)))
        with pytest.raises(grpc.RpcError) as caught:  # from the graph itself: batches that differ
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(message, timeout=5)
    assert caught.value.code() is Code.INVALID_ARGUMENT


def metadata_request(name="faces", version=None, fields=("signature_def",)):
    message = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    message.model_spec.name = name
    if version is not None:
        message.model_spec.version.value = version
    return message


def test_metadata(stubs):
    response = stubs[0].GetModelMetadata(metadata_request(), timeout=5)
    assert (response.model_spec.name, response.model_spec.version.value) == ("faces", 1)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    defined = signatures.signature_def
    assert {"serve", "serve_checked", "serving_default", "pair"} <= set(defined)
    assert [dim.size for dim in defined["serve"].inputs["boundary"].tensor_shape.dim] == [-1, 6, 6, 4]
    assert defined["serve"].outputs.keys() == {"scores"}
    for name in ("serve", "serve_checked", "serving_default", "pair"):
        infos = [*defined[name].inputs.values(), *defined[name].outputs.values()]
        assert all(info.tensor_shape.dim[0].size == -1 for info in infos), name


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (get_model_metadata_pb2.GetModelMetadataRequest(), Code.INVALID_ARGUMENT, "Missing ModelSpec"),
        (metadata_request(fields=()), Code.INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field"),
        (metadata_request(fields=["graph"]), Code.INVALID_ARGUMENT, "Metadata field graph is not supported"),
        (metadata_request(name="cats"), Code.NOT_FOUND, "Servable not found for request: Latest(cats)"),
        (metadata_request(version=5), Code.NOT_FOUND, "Servable not found for request: Specific(faces, 5)"),
    ],
)
def test_metadata_errors(stubs, message, code, text):
    with pytest.raises(grpc.RpcError) as caught:
        stubs[0].GetModelMetadata(message, timeout=5)
    assert (caught.value.code(), caught.value.details()) == (code, text)


def status_request(name="faces", version=None):
    message = get_model_status_pb2.GetModelStatusRequest()
    message.model_spec.name = name
    if version is not None:
        message.model_spec.version.value = version
    return message


@pytest.mark.parametrize("version", [None, 1])
def test_status(stubs, version):
    [status] = stubs[1].GetModelStatus(status_request(version=version), timeout=5).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE, 0)


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (get_model_status_pb2.GetModelStatusRequest(), Code.INVALID_ARGUMENT, "Missing ModelSpec"),
        (status_request("cats"), Code.NOT_FOUND, "Could not find any versions of model cats"),
        (status_request("cats", 1), Code.NOT_FOUND, "Could not find version 1 of model cats"),
        (status_request(version=3), Code.NOT_FOUND, "Could not find version 3 of model faces"),
    ],
)
def test_status_errors(stubs, message, code, text):
    with pytest.raises(grpc.RpcError) as caught:
        stubs[1].GetModelStatus(message, timeout=5)
    assert (caught.value.code(), caught.value.details()) == (code, text)


@pytest.mark.parametrize(
    ("service", "method", "message"),
    [
        (0, "Classify", classification_pb2.ClassificationRequest()),
        (0, "Regress", regression_pb2.RegressionRequest()),
        (0, "MultiInference", inference_pb2.MultiInferenceRequest()),
    ],
)
def test_what_it_cannot_do_is_unimplemented(stubs, service, method, message):
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stubs[service], method)(message, timeout=5)
    assert caught.value.code() is Code.UNIMPLEMENTED
    assert method in caught.value.details()


def test_large_messages_pass_in_both_directions(tmp_path):
    z = keras.Input((1 << 20,), name="x")
    middle = keras.layers.Activation("linear", name="z")(z)
    parts = kp.partition(keras.Model(z, keras.layers.Rescaling(2.0, name="y")(middle)), at="z")
    bundle = kp.export(parts, tmp_path / "b", max_batch_size=2)
    with LocalServer(bundle.path) as server, Client(bundle.path, server.address, timeout=60) as client:
        x = np.random.default_rng(0).random((2, 1 << 20), dtype=np.float32)  # 8 MiB; gRPC's default limit is 4
        np.testing.assert_array_equal(client.predict(x), 2 * x)


def test_shapes_that_do_not_fit(bundle):
    with LocalServer(bundle.path) as server, grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request(np.ones((2, 6, 6, 5), np.float32)), timeout=5)
    assert caught.value.details() == "input boundary has the shape [2, 6, 6, 5]; the signature declares [-1, 6, 6, 4]"


def test_it_says_what_it_is(bundle):
    with LocalServer(bundle.path) as server:
        told = server.describe()
    assert told == f"local server, for development and tests; it is not TensorFlow Serving: faces version 1 at {server.address}"
    assert "not TensorFlow Serving" in sys.modules[LocalServer.__module__].__doc__


def test_the_port_is_not_shared(bundle, server):
    with pytest.raises(errors.EngineError, match=f"Can't listen on 127.0.0.1:{server.port}"):
        LocalServer(bundle.path, server.port)


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle.path, tmp_path / "faces")


@pytest.fixture(scope="module")
def two(parts, other_parts, saved):
    """A bundle of two versions, which are different pairs."""
    kp.export(parts, saved / "two", name="faces", max_batch_size=4)
    return kp.export(other_parts, saved / "two", name="faces", version=2, max_batch_size=4)


def test_every_version_and_label_of_the_bundle_is_served(two, parts, other_parts, images):
    want = {version: part.model.predict(images, verbose=0) for version, part in ((1, parts), (2, other_parts))}
    with LocalServer(two.path) as server:
        assert sorted(server.models.versions) == [1, 2]
        for version in want:
            with Client(two.path, server.address, version=version) as client:
                np.testing.assert_allclose(client.predict(images), want[version], atol=1e-6)
        # The first version is stable until another is promoted.
        with Client(two.path, server.address, version=1, label="stable") as client:
            np.testing.assert_allclose(client.predict(images), want[1], atol=1e-6)
        with (
            Client(two.path, server.address, version=2, label="stable") as client,
            pytest.raises(errors.PairMismatchError, match=r"it answers for version 1\. Nothing was sent\. The device half is out of date"),
        ):
            client.predict(images)
        with (
            Client(two.path, server.address, version=2, label="beta") as client,
            pytest.raises(errors.RequestRefusedError, match="Unrecognized servable version label: beta"),
        ):
            client.predict(images)
        server.models.load({2})
        with Client(two.path, server.address, version=1) as client, pytest.raises(errors.ServerNotFoundError, match="NOT_FOUND"):
            client.predict(images)


def test_a_changed_server_half_is_refused(copy):
    (copy / "server/1/saved_model.pb").write_bytes(b"")
    with pytest.raises(errors.IntegrityError, match=r"server/1/saved_model\.pb"):
        LocalServer(copy)


def rewrite_contract(root):
    """Makes the contract agree with the files as they are, to reach the checks behind it."""
    contract = Contract.load(root)
    files = {path: FileRecord.of(root / path) for path in contract.files}
    (root / "contract.json").write_text(replace(contract, files=files).with_fingerprint().dumps())


def test_a_model_that_cannot_be_loaded(copy):
    (copy / "server/1/saved_model.pb").write_bytes(b"nonsense")
    rewrite_contract(copy)
    with pytest.raises(errors.IntegrityError, match=r"Can't read server/1/saved_model\.pb"):
        LocalServer(copy)


def test_weights_that_cannot_be_loaded(copy):
    (copy / "server/1/variables/variables.index").write_bytes(b"nonsense")
    rewrite_contract(copy)
    with pytest.raises(errors.EngineError, match=r"Can't load .*server/1"):
        LocalServer(copy)


def test_a_server_half_that_does_more_than_compute_is_not_loaded(copy):
    class Reader(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="boundary")])
        def serve(self, boundary):
            return {"scores": tf.map_fn(tf.io.read_file, boundary)}

    shutil.rmtree(copy / "server/1/variables")
    tf.saved_model.save(Reader(), str(copy / "forged"))
    shutil.copy(copy / "forged/saved_model.pb", copy / "server/1/saved_model.pb")
    shutil.copytree(copy / "forged/variables", copy / "server/1/variables")
    shutil.rmtree(copy / "forged")
    rewrite_contract(copy)
    with pytest.raises(errors.IntegrityError, match=r"holds the operations \['ReadFile'\]"):
        LocalServer(copy)


def test_a_failing_warm_up_fails_the_load(copy, bundle):
    folder = copy / "server/1"
    wrong = warm_up.warmup_requests("faces", bundle.contract.boundary, {"boundary": (6, 6, 5)}, [1])
    warm_up.write_warmup(folder, wrong)
    rewrite_contract(copy)
    with pytest.raises(errors.EngineError, match=r"Can't load .*the signature declares"):
        LocalServer(copy)


def test_no_versions(copy):
    shutil.rmtree(copy / "server")
    (copy / "server").mkdir()
    with pytest.raises(errors.IntegrityError, match="missing"):
        LocalServer(copy)


def test_the_command_line_reports_errors_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert main([str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.startswith("ContractError: Found no contract.json"), err.count("\n")) == ("", True, 1)
