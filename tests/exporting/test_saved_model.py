"""What the two SavedModels hold and answer."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

import keras_privpart as kp
from keras_privpart.errors import BundleError
from keras_privpart.exporting import reload, saved_model


def variables(folder):
    """All values that a SavedModel stores, read without the SavedModel's own code."""
    reader = tf.train.load_checkpoint(str(folder / "variables/variables"))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_CHECKPOINTABLE")]
    return [reader.get_tensor(name) for name in names]


def holds(values, wanted):
    return any(np.shape(v) == wanted.shape and np.array_equal(v, wanted) for v in values)


def test_server_folder_holds_server_weights_and_no_device_weight(own_parts, tmp_path):
    parts = own_parts
    for variable in parts.model.variables:  # all different from all others, zeros and ones included
        variable.assign(keras.random.uniform(variable.shape, 0.1, 1.0))
    bundle = kp.export(parts, tmp_path / "b")
    stored = variables(bundle.path / "server/1")
    assert len(stored) == len(parts.server.variables) == 8
    assert all(holds(stored, v.numpy()) for v in parts.server.variables)
    assert not any(holds(stored, v.numpy()) for v in parts.device.variables)
    raw = b"".join(p.read_bytes() for p in (bundle.path / "server").rglob("*") if p.is_file())
    for variable in parts.device.variables:
        assert variable.numpy().tobytes() not in raw, variable.path
    for variable in parts.server.variables:
        assert variable.numpy().tobytes() in raw, variable.path
    assert b"stem" not in (bundle.path / "server/1/saved_model.pb").read_bytes()
    assert not any(holds(variables(bundle.path / "device/1"), v.numpy()) for v in parts.server.variables)


def test_a_layer_on_both_sides_belongs_to_the_server_and_is_named(tmp_path):
    x = keras.Input((4,))
    shared = keras.layers.Dense(4, name="shared")
    middle = keras.layers.Activation("relu", name="middle")(shared(x))
    parts = kp.partition(keras.Model(x, shared(middle)), at="middle")
    bundle = kp.export(parts, tmp_path / "b")
    assert bundle.notes == ("layer 'shared' stands on both sides of the cut: its weights are in server/ too",)
    assert holds(variables(bundle.path / "server/1"), shared.kernel.numpy())


def test_a_server_half_that_uses_the_devices_weights_is_refused(parts, tmp_path):
    stem = parts.device.get_layer("stem")

    class Leaky(keras.layers.Layer):
        def call(self, z):
            return z + tf.reduce_sum(stem.kernel.value)

    z = keras.Input((6, 6, 4), name="boundary")
    leaky = replace(parts, server=keras.Model(z, parts.server(Leaky()(z))))
    with pytest.raises(BundleError, match=r"uses the device half's weights \['stem/kernel'\]"):
        kp.export(leaky, tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_names_of_several_inputs_boundaries_and_outputs(two_by_two, tmp_path):
    bundle = kp.export(two_by_two, tmp_path / "b")
    assert [(t.name, t.source, t.dtype) for t in bundle.contract.inputs] == [("ids", "ids", "int32"), ("input_1", "image-1", "float32")]
    assert bundle.contract.boundary.names == ("boundary_0", "boundary_1")
    assert sorted(t.name for t in bundle.contract.outputs) == ["age", "species"]
    device, server = (tf.saved_model.load(str(bundle.path / side / "1")) for side in ("device", "server"))
    ids, image = np.array([[1, 2, 3], [4, 5, 6]], np.int32), np.random.default_rng(0).random((2, 6), dtype=np.float32)
    boundary = device.signatures["serving_default"](ids=tf.constant(ids), input_1=tf.constant(image))
    got = server.signatures["serve"](**boundary)
    want = two_by_two.model([ids, image])
    for name in ("age", "species"):
        np.testing.assert_allclose(got[name], want[name], atol=1e-6)


def test_outputs_of_one_name_are_told_apart(tmp_path):
    x = keras.Input((4,))
    z = keras.layers.Dense(6, name="z")(x)
    first, second = keras.ops.split(keras.layers.Dense(4)(z), 2, axis=-1)
    specs = kp.export(kp.partition(keras.Model(x, [first, second]), at="z"), tmp_path / "b").contract.outputs
    assert len({spec.name for spec in specs}) == 2


def test_an_output_name_that_the_bundle_needs(tmp_path):
    x = keras.Input((4,))
    z = keras.layers.Dense(6, name="z")(x)
    parts = kp.partition(keras.Model(x, keras.layers.Dense(2, name="pair_fingerprint")(z)), at="z")
    with pytest.raises(BundleError, match="Give the output another name"):
        kp.export(parts, tmp_path / "b")


@pytest.mark.parametrize("name", ["self", "class", "image.1", "_x", "ä"])
def test_input_names_that_tensorflow_cannot_take(name):
    x = keras.Input((4,), name=name)
    parts = kp.partition(keras.Model(x, keras.layers.Dense(2)(keras.layers.Dense(3, name="z")(x))), at="z")
    [spec] = saved_model.input_specs(parts)
    assert (spec.name, spec.source) == ("input_0", name)


def test_training_behaviour_is_off(tmp_path):
    """Dropout and batch statistics would make the exported halves differ from the model; the export compares."""
    x = keras.Input((8,))
    h = keras.layers.Dropout(0.9)(keras.layers.BatchNormalization()(keras.layers.Dense(8)(x)))
    z = keras.layers.Activation("linear", name="z")(h)
    assert kp.export(kp.partition(keras.Model(x, keras.layers.Dropout(0.9)(z)), at="z"), tmp_path / "b").notes == ()


def test_noise_differs_from_load_to_load(parts, images, tmp_path):
    tf.keras.utils.set_random_seed(0)
    bundle = kp.export(parts.with_channel(kp.GaussianChannel(stddev=1.0)), tmp_path / "b")
    assert any("random in use" in note for note in bundle.notes)
    streams = []
    for _ in range(2):
        tf.keras.utils.set_random_seed(0)
        device = tf.saved_model.load(str(bundle.path / "device/1"))
        streams.append(device.signatures["serving_default"](image=tf.constant(images))["boundary"].numpy())
    assert np.std(streams[0] - streams[1]) == pytest.approx(np.sqrt(2), rel=0.2)


class RepeatingNoise(keras.layers.Layer):
    """What not to do: the generator's state is saved, so every load draws the same noise."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(1)

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.generator)


def test_noise_that_repeats_is_refused(parts, tmp_path):
    with pytest.raises(BundleError, match="noise repeats after a reload"):
        kp.export(parts.with_channel(RepeatingNoise()), tmp_path / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("side", "position"), [("device", 0), ("server", 0), ("server", -1)])
def test_a_reload_that_answers_differently_is_refused(own_parts, tmp_path, monkeypatch, side, position):
    """A weight that changes between writing and comparing stands for a wrong file."""
    write = getattr(saved_model, f"write_{side}")

    def write_then_change(*args):
        write(*args)
        variable = getattr(own_parts, side).variables[position]
        change = np.zeros(variable.shape, np.float32)
        change.flat[0] = 0.5
        variable.assign_add(change)

    monkeypatch.setattr(saved_model, f"write_{side}", write_then_change)
    with pytest.raises(BundleError, match=f"The {side} half written to disk answers another"):
        kp.export(own_parts, tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_output_without_a_batch_is_refused(tmp_path):
    x = keras.Input((4,))
    z = keras.layers.Dense(3, name="z")(x)
    parts = kp.partition(keras.Model(x, keras.ops.sum(z)), at="z")
    with pytest.raises(BundleError, match="the batch first"):
        kp.export(parts, tmp_path / "b")


def test_lookup_tables_travel_on_either_side(tmp_path):
    x = keras.Input((2,), dtype="string", name="words")
    z = keras.layers.StringLookup(vocabulary=["a", "b", "c"], name="z")(x)
    code = keras.layers.IntegerLookup(vocabulary=[3, 1, 2])(z)
    out = keras.layers.Dense(2)(keras.layers.Flatten()(keras.layers.Embedding(9, 3)(code)))
    bundle = kp.export(kp.partition(keras.Model(x, out), at="z"), tmp_path / "b", sample=np.array([["a", "c"], ["b", "?"]], object))
    assert [t.dtype for t in (*bundle.contract.inputs, *bundle.contract.boundary.tensors)] == ["string", "int64"]
    device = tf.saved_model.load(str(bundle.path / "device/1"))
    boundary = device.signatures["serving_default"](words=tf.constant([["c", "?"]]))["boundary"]
    assert boundary.numpy().tolist() == [[3, 0]]


def test_values_that_are_not_finite_are_noted(tmp_path):
    x = keras.Input((2,))
    z = keras.layers.Activation("linear", name="z")(x)
    bundle = kp.export(kp.partition(keras.Model(x, keras.ops.log(-1 - z)), at="z"), tmp_path / "b")
    assert "values that are not finite" in bundle.notes[0]


def test_free_dimensions(tmp_path):
    x = keras.Input((None, None, 3), name="image")
    z = keras.layers.Conv2D(4, 3, name="z")(x)
    parts = kp.partition(keras.Model(x, keras.layers.GlobalAveragePooling2D(name="scores")(z)), at="z")
    bundle = kp.export(parts, tmp_path / "b")
    assert bundle.contract.boundary.tensors[0].shape == (None, None, None, 4)
    assert "warm-up covers one size" in bundle.notes[0]
    assert (bundle.path / "server/1/assets.extra/tf_serving_warmup_requests").is_file()


def test_drawn_inputs_that_do_not_fit_ask_for_a_sample(tmp_path):
    x = keras.Input((2,), dtype="int32", name="year")
    # Drawn years are 0 or 1, which this layer has no row for.
    table = keras.layers.Embedding(3, 4)
    z = keras.layers.Activation("linear", name="z")(table(x - 2020))
    parts = kp.partition(keras.Model(x, keras.layers.Dense(1)(z)), at="z")
    with pytest.raises(BundleError, match="Pass sample="):
        kp.export(parts, tmp_path / "b")
    assert kp.export(parts, tmp_path / "b", sample=np.array([[2020, 2021]])).notes == ()


def test_sample_of_the_wrong_shape(parts, tmp_path):
    with pytest.raises(BundleError, match=r"Received the sample \[8, 8, 1\] for 'image'; expected \[None, 8, 8, 1\]"):
        kp.export(parts, tmp_path / "b", sample=np.zeros((8, 8, 1)))


def test_half_precision(tmp_path):
    x = keras.Input((6,), name="image")
    z = keras.layers.Dense(8, activation="relu", name="z", dtype="mixed_bfloat16")(x)
    out = keras.layers.Dense(3, dtype="float32", name="scores")(z)
    bundle = kp.export(kp.partition(keras.Model(x, out), at="z"), tmp_path / "b")
    assert [t.dtype for t in bundle.contract.boundary.tensors] == ["bfloat16"]
    assert bundle.contract.boundary.nbytes == 16


def test_weights_digest_sees_every_bit(own_parts):
    parts = own_parts
    before = saved_model.weights_digest(parts.server)
    variable = parts.server.variables[0]
    value = variable.numpy()
    changed = value.copy()
    changed.flat[0] = np.nextafter(changed.flat[0], np.inf)
    variable.assign(changed)
    assert saved_model.weights_digest(parts.server) != before
    variable.assign(value)
    assert saved_model.weights_digest(parts.server) == before


def test_tolerance_is_relative_to_the_largest_value():
    want = {"a": np.array([1e6, 1.0], np.float32)}
    reload.check_close("server", want, {"a": np.array([1e6 + 1, 1.0], np.float32)}, 1e-4)
    with pytest.raises(BundleError):
        reload.check_close("server", want, {"a": np.array([1e6 + 1e3, 1.0], np.float32)}, 1e-4)
    with pytest.raises(BundleError):
        reload.check_close("server", want, {"a": np.array([np.nan, 1.0], np.float32)}, 1e-4)


def test_the_server_half_runs_in_a_session_as_tensorflow_serving_runs_it(parts, images, tmp_path):
    """The C++ loader and a session on the signature's tensor names, with the warm-up requests and with real boundaries."""
    bundle = kp.export(parts, tmp_path / "b", max_batch_size=2)
    folder = bundle.path / "server/1"
    boundary, scores = parts.device.predict(images, verbose=0), parts.model.predict(images, verbose=0)
    warm_up = tf.data.TFRecordDataset(str(folder / "assets.extra/tf_serving_warmup_requests")).as_numpy_iterator()
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in warm_up]
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(folder)).signature_def

        def run(name, **inputs):
            signature = signatures[name]
            assert signature.method_name == "tensorflow/serving/predict"
            feed = {signature.inputs[key].name: value for key, value in inputs.items()}
            return session.run({key: info.name for key, info in signature.outputs.items()}, feed)

        for request in requests:
            run(request.model_spec.signature_name, **{key: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()})
        for name in ("serve", "serving_default", "serve_checked"):
            np.testing.assert_allclose(run(name, boundary=boundary)["scores"], scores, atol=1e-5)
        from_bytes = run("serve_bytes", boundary=[row.tobytes() for row in boundary])
        np.testing.assert_allclose(from_bytes["scores"], scores, atol=1e-5)
        assert run("serve_checked", boundary=boundary)["pair_fingerprint"].tolist() == [bundle.contract.fingerprint.encode()] * len(images)
        assert run("pair", query=[0])["fingerprint"].tolist() == [bundle.contract.fingerprint.encode()]
    assert len(requests) == 5  # two batch sizes as clients call them, one plain, one of bytes, one question for the pair


@pytest.mark.parametrize(("encoding", "dtype"), [("none", "float32"), ("float16", "float16"), ("int8", "int8")])
def test_bytes_are_answered_as_tensors_are(parts, images, tmp_path, encoding, dtype):
    bundle = kp.export(parts, tmp_path / "b", encoding=encoding, sample=images, max_batch_size=2)
    server = tf.saved_model.load(str(bundle.path / "server/1"))
    device = tf.saved_model.load(str(bundle.path / "device/1"))
    boundary = device.signatures["serving_default"](image=tf.constant(images))["boundary"]
    assert boundary.dtype == dtype
    want = server.signatures["serve_checked"](boundary=boundary)
    steps = boundary.numpy() if dtype != "int8" else (boundary.numpy().astype(int) + 128).astype("uint8")
    got = server.signatures["serve_bytes"](boundary=tf.constant([row.tobytes() for row in steps]))
    assert sorted(got) == sorted(want)
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value)


def test_bytes_of_another_length_are_no_boundary(parts, tmp_path):
    bundle = kp.export(parts, tmp_path / "b", max_batch_size=2)
    server = tf.saved_model.load(str(bundle.path / "server/1"))
    for lengths in ((575,), (1152,), (0,), (576, 572), (288, 864)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            server.signatures["serve_bytes"](boundary=tf.constant([bytes(length) for length in lengths]))


def test_a_boundary_of_free_size_has_no_form_in_bytes(tmp_path):
    x = keras.Input((None, None, 1), name="image")
    z = keras.layers.Conv2D(2, 3, name="z")(x)
    model = keras.Model(x, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(z)))
    bundle = kp.export(kp.partition(model, at="z"), tmp_path / "b")
    server = tf.saved_model.load(str(bundle.path / "server/1"))
    assert "serve_checked" in server.signatures
    assert "serve_bytes" not in server.signatures
