"""Encoded boundaries: int8 and float16 on the wire, decoded in the server half's graph."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits
from tensorflow_serving.apis import prediction_log_pb2

import keras_privpart as kp
from keras_privpart.contract import BYTES_SIGNATURE, Contract
from keras_privpart.errors import BundleError
from keras_privpart.exporting.encoding import Decode, Encode, encode
from keras_privpart.exporting.measuring import REFERENCE, table
from keras_privpart.serving import Client, LocalServer


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32").reshape(-1, 8, 8, 1), y.astype("int32")


@pytest.fixture(scope="module")
def trained(digits):
    """A classifier of real digits, with a boundary that goes below 0."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    z = keras.layers.Conv2D(6, 3, strides=2, name="z")(image)
    h = keras.layers.Dense(48, activation="relu")(keras.layers.Flatten()(keras.layers.Activation("relu")(z)))
    model = keras.Model(image, keras.layers.Dense(10, name="scores")(h))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = digits
    model.fit(x[:1400], y[:1400], epochs=12, batch_size=32, verbose=0)
    return kp.partition(model, at="z")


class FakeReport:
    def __init__(self, halves):
        self.halves = halves

    def contract_summary(self):
        return {"kinds": {"reconstruction": {"leakage": 0.25, "leakage_interval": [0.2, 0.3]}}, "seeds": 3}


@pytest.fixture(scope="module", params=["int8", "float16"])
def bundle(request, trained, digits, tmp_path_factory):
    x, y = digits
    attacked = []

    def leakage(parts):
        attacked.append((np.asarray(parts.device(x[:8], training=False)), parts.server(parts.device(x[:8]))))
        return FakeReport(parts)

    target = tmp_path_factory.mktemp("saved") / "digits"
    options = {"sample": x[:100], "test": (x[1400:], y[1400:]), "max_batch_size": 4}
    return kp.export(trained, target, encoding=request.param, leakage=leakage, **options), attacked


def test_the_contract_says_what_crosses(bundle):
    contract = Contract.load(bundle[0].path)
    [spec] = contract.boundary.tensors
    assert (contract.encoding, spec.dtype, spec.shape) == (contract.encoding, contract.encoding, (None, 3, 3, 6))
    assert contract.boundary.nbytes == 54 * (1 if contract.encoding == "int8" else 2)
    if contract.encoding == "int8":
        assert 0 < spec.scale < 0.1
        assert -128 < spec.zero_point < 127, "the range holds values below 0 and above"
    else:
        assert (spec.scale, spec.zero_point) == (None, None)


def test_accuracy_and_leakage_are_measured_again(bundle):
    reference, encoded = bundle[0].contract.measurements
    assert (reference["form"], encoded["form"]) == (REFERENCE, "saved_model")
    assert reference["accuracy"] > 0.8
    assert abs(encoded["accuracy"] - reference["accuracy"]) <= 0.005
    assert encoded["examples"] == 397
    assert 0 < encoded["relative_error"] < 0.01
    assert encoded["boundary_bytes"] * 2 <= reference["boundary_bytes"]
    assert encoded["leakage"] == {"reconstruction": {"leakage": 0.25, "leakage_interval": [0.2, 0.3]}, "seeds": 3}
    assert reference["leakage"] is None, "this bundle has no audit"
    assert "reconstruction 0.25 [0.2, 0.3]" in table(bundle[0].contract.measurements)


def test_attackers_see_the_decoded_boundary(bundle, trained, digits):
    [(seen, answers)] = bundle[1]
    exact = np.asarray(trained.device(digits[0][:8]))
    step = bundle[0].contract.boundary.tensors[0].scale or 2e-3
    assert 0 < np.max(np.abs(seen - exact)) <= step, "rounded, in the model's own numbers"
    assert answers.shape == (8, 10)


def test_the_client_sends_the_encoded_tensors(bundle, trained, digits):
    x = digits[0][1400:1411]
    exported = bundle[0]
    with LocalServer(exported.path) as server, Client(exported.path, server.address) as client:
        sent = client.encode(x)["boundary"]
        assert sent.dtype == exported.contract.encoding
        scores = client.predict(x)
        np.testing.assert_array_equal(client.score(sent), scores)
    plain = trained.model.predict(x, verbose=0)
    assert (scores.argmax(1) == plain.argmax(1)).all()
    assert 0 < np.max(np.abs(scores - plain)) < 0.05 * np.max(np.abs(plain))


def test_warm_up_is_of_the_encoded_dtype(bundle):
    path = bundle[0].path / "server/1/assets.extra/tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(r) for r in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    asked = [log.predict_log.request for log in logs if "boundary" in log.predict_log.request.inputs]
    requests = [request for request in asked if request.model_spec.signature_name != BYTES_SIGNATURE]
    dtypes = {tf.as_dtype(request.inputs["boundary"].dtype).name for request in requests}
    assert (len(requests), dtypes) == (4, {bundle[0].contract.encoding})


def test_without_data_nothing_is_claimed(parts, images, tmp_path):
    bundle = kp.export(parts, tmp_path / "b", encoding="float16")
    _, row = bundle.contract.measurements
    assert row["relative_error"] > 0
    assert [row[key] for key in ("accuracy", "examples", "latency_ms", "leakage")] == [None] * 4
    json.dumps(bundle.contract.to_json(), allow_nan=False)


def test_noise_stays_fresh_and_comes_before_the_rounding(trained, digits, tmp_path):
    x = digits[0][:50]
    bundle = kp.export(trained.with_channel(kp.GaussianChannel(0.5)), tmp_path / "b", encoding="int8", sample=x)
    draws = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        device = tf.saved_model.load(str(bundle.path / "device/1"))
        draws.append(device.signatures["serving_default"](image=tf.constant(x))["boundary"].numpy().astype(float))
    assert np.std(draws[0] - draws[1]) * bundle.contract.boundary.tensors[0].scale == pytest.approx(0.5 * np.sqrt(2), rel=0.1)
    assert bundle.contract.measurements[1]["relative_error"] < 0.02, "without its noise"


def test_few_samples_are_noted(parts, images, tmp_path):
    [note] = kp.export(parts, tmp_path / "b", encoding="int8", sample=images).notes
    assert "calibrated by 5 examples only" in note


def test_random_whole_numbers_cross_as_they_are(tmp_path):
    """Nothing to encode, and no noise whose strength could be compared."""

    class Draw(keras.layers.Layer):
        def call(self, x):
            noise = tf.raw_ops.RandomUniform(shape=tf.shape(x), dtype=tf.float32, seed=0, seed2=0)
            return x + tf.cast(tf.floor(1000 * noise), tf.int32)

    x = keras.Input((8,), dtype="int32", name="ids")
    z = Draw(dtype="int32", name="z")(x)
    parts = kp.partition(keras.Model(x, keras.layers.Dense(2)(keras.ops.cast(z, "float32"))), at="z")
    bundle = kp.export(parts, tmp_path / "b", encoding="float16", formats=["saved_model", "litert"])
    assert [t.dtype for t in bundle.contract.boundary.tensors] == ["int32"]
    assert [row["noise"] for row in bundle.contract.measurements] == [None] * 3


def test_several_tensors_of_which_one_is_of_whole_numbers(tmp_path):
    image, ids = keras.Input((4,), name="image"), keras.Input((3,), dtype="int32", name="ids")
    z, w = keras.layers.Dense(5, name="z")(image), keras.layers.Activation("linear", name="w", dtype="int32")(ids + 1)
    both = keras.layers.Concatenate()([z, keras.layers.Flatten()(keras.layers.Embedding(9, 2)(w))])
    parts = kp.partition(keras.Model([image, ids], {"a": keras.layers.Dense(2)(both), "b": keras.layers.Dense(1)(z)}), at=["z", "w"])
    sample = [np.random.default_rng(0).normal(size=(40, 4)), np.ones((40, 3), "int32")]
    bundle = kp.export(parts, tmp_path / "b", encoding="int8", sample=sample)
    assert sorted(t.dtype for t in bundle.contract.boundary.tensors) == ["int32", "int8"]
    assert sorted(t.name for t in bundle.contract.outputs) == ["a", "b"]


@pytest.mark.parametrize("values", [np.zeros(9), np.linspace(-3, -1, 9), np.linspace(2, 5, 9), np.linspace(-1, 4, 9)])
def test_int8_covers_what_was_seen_and_holds_zero_exactly(values):
    x = keras.Input((1,))
    parts = kp.partition(keras.Model(x, keras.layers.Dense(1)(keras.layers.Activation("linear", name="z")(x))), at="z")
    encoded = encode(parts, "int8", lambda: {"boundary": values[:, None].astype("float32")})
    [spec] = encoded.wire.boundary.tensors
    column = np.append(values, 0.0)[:, None].astype("float32")
    seen = np.asarray(encoded.seen.device(column))
    assert np.max(np.abs(seen - column)) <= spec.scale / 2 + 1e-6
    assert seen[-1] == 0
    beyond = np.asarray(encoded.wire.device(np.array([[1e9], [-1e9]], "float32")))
    assert beyond.tolist() == [[127], [-128]]
    np.testing.assert_allclose(np.asarray(encoded.wire.server(encoded.wire.device(column))), encoded.seen.server(seen), atol=1e-6)


def test_half_precision_saturates_and_reads_back():
    layer = Encode(name="e")
    assert np.asarray(layer(np.array([1e9, -1e9, 0.1], "float32"))).tolist() == [65504.0, -65504.0, np.float16(0.1)]
    for made in (Encode(0.5, 3, name="e"), Decode("float32", 0.5, 3, name="d")):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
        assert again.get_config() == made.get_config()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"encoding": "int4"}, "Received encoding='int4'; expected one of none, int8, float16"),
        ({"encoding": "int8"}, "Received encoding='int8' without data to calibrate by; expected sample="),
        ({"encoding": "float16", "test": 3}, "Received test data that cannot be read"),
        ({"encoding": "int8", "sample": np.full((20, 8, 8, 1), np.nan, "float32")}, "values of 'boundary' that are no numbers"),
    ],
)
def test_what_cannot_be_had(parts, tmp_path, arguments, text):
    with pytest.raises(BundleError, match=text):
        kp.export(parts, tmp_path / "b", **arguments)
    assert not list(tmp_path.iterdir())
