"""`Partition`: what verify catches, what save writes, what load refuses; halves in training."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import BundleExistsError, ChannelError, ModelError, VerificationError

X = np.random.default_rng(3).random((4, 6), dtype="float32")


@pytest.fixture
def parts():
    keras.utils.set_random_seed(0)
    x = keras.Input((6,), name="x")
    hidden = layers.Dense(5, activation="relu", name="hidden")(x)
    model = keras.Model(x, layers.Dense(3, activation="softmax", name="scores")(layers.Dense(4, name="middle")(hidden)), name="small")
    return kp.partition(model, at="hidden")


@keras.saving.register_keras_serializable(package="tests")
class Shift(layers.Layer):
    """A channel that changes what crosses."""

    def call(self, inputs):
        return inputs + 1.0


class TestVerify:
    def test_names_the_output_and_the_difference(self, parts, tmp_path):
        parts.save(tmp_path / "parts")
        apart = kp.Partition.load(tmp_path / "parts")  # each with weights of its own
        apart.verify(X)
        bias = apart.server.get_layer("scores").bias
        bias.assign([0.5, 0.0, 0.0])
        with pytest.raises(VerificationError, match=r"compose to the model 'small': output 'scores' differs by up to 0\.\d+"):
            apart.verify(X)

    def test_a_difference_of_one_bit_is_one(self, parts, tmp_path):
        parts.save(tmp_path / "parts")
        apart = kp.Partition.load(tmp_path / "parts")
        kernel = apart.device.get_layer("hidden").kernel
        kernel.assign(np.nextafter(kernel.numpy(), 10))
        with pytest.raises(VerificationError, match="differs by up to"):
            apart.verify(X)

    def test_takes_inputs_by_name(self, parts):
        parts.verify({"x": X})

    def test_other_names_are_refused_and_do_not_swap(self):
        a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b")
        hidden = layers.Concatenate(name="hidden")([layers.Dense(2)(a), layers.Dense(2)(b)])
        parts = kp.partition(keras.Model([b, a], layers.Dense(1)(hidden)), at="hidden")
        one, two = X[:, :3], X[:, 3:]
        assert [np.array_equal(x, want) for x, want in zip(parts.device_inputs({"a": one, "b": two}), (two, one), strict=True)] == [
            True
        ] * 2
        with pytest.raises(
            VerificationError, match=r"Received the inputs \['A', 'B'\]; expected those of the model, b, a\. Give a dict by"
        ):
            parts.device_inputs({"A": one, "B": two})

    @pytest.mark.filterwarnings("ignore:When providing .inputs. as a dict:UserWarning")  # Keras, of names that differ from the keys
    def test_keys_of_the_models_own_structure_are_taken(self):
        given = {"left": keras.Input((3,), name="a"), "right": keras.Input((3,), name="b")}
        hidden = layers.Concatenate(name="hidden")(list(given.values()))
        parts = kp.partition(keras.Model(given, layers.Dense(1)(hidden)), at="hidden")
        parts.verify({"left": X[:, :3], "right": X[:, 3:]})
        with pytest.raises(VerificationError, match=r"Received the inputs \['left', 'wrong'\]"):
            parts.verify({"left": X[:, :3], "wrong": X[:, 3:]})

    def test_wrong_number_of_inputs(self, parts):
        with pytest.raises(VerificationError, match="Received 2 inputs; expected the 1 of the model: x"):
            parts.verify([X, X])


class TestChannel:
    def test_stands_at_the_end_of_the_device_half(self, parts):
        noisy = parts.with_channel(Shift(name="shift"))
        assert [layer.name for layer in noisy.channel] == ["shift"]
        assert np.array_equal(noisy.device(X), np.asarray(parts.device(X)) + 1)
        assert noisy.server is parts.server
        assert parts.channel == ()

    def test_is_left_out_of_the_comparison(self, parts):
        noisy = parts.with_channel(Shift()).with_channel(Shift())
        noisy.verify(X)
        broken = kp.Partition(noisy.model, noisy.device, noisy.device, noisy.boundary, (layers.Dense(5),))
        with pytest.raises(VerificationError, match="cannot be left out of the device half"):
            broken.verify(X)

    def test_each_floating_tensor_gets_its_own(self):
        ids = keras.Input((5,), dtype="int32", name="ids")
        embedded = layers.Embedding(9, 4, mask_zero=True, name="embedding")(ids)
        lengths = layers.Dense(2, name="lengths")(keras.ops.cast(ids, "float32"))
        model = keras.Model(ids, layers.Concatenate()([layers.LSTM(3)(embedded), lengths]))
        plain = kp.partition(model, at=["embedding", "lengths"])
        noisy = plain.with_channel(Shift(name="shift"))
        assert [layer.name for layer in noisy.channel] == ["shift", "shift_1"]
        x = np.array([[1, 2, 0, 0, 0]], "int32")
        before, after = plain.device(x), noisy.device(x)
        names = plain.boundary.sources
        changes = {n: float(np.max(np.abs(np.subtract(b, a, dtype="float32")))) for n, a, b in zip(names, before, after, strict=True)}
        assert changes == {"embedding": pytest.approx(1), "lengths": pytest.approx(1), "embedding:mask": 0}
        noisy.verify(x)
        with pytest.raises(ChannelError, match="Received 1 channels; expected 2"):
            plain.with_channel([Shift()])

    def test_must_keep_shape_and_dtype(self, parts):
        with pytest.raises(ChannelError, match=r"'narrow', which turns float32\[None, 5\] into float32\[None, 2\]"):
            parts.with_channel(layers.Dense(2, name="narrow"))

    def test_survives_saving(self, parts, tmp_path):
        parts.with_channel(Shift(name="shift")).save(tmp_path / "noisy")
        loaded = kp.Partition.load(tmp_path / "noisy")
        assert [layer.name for layer in loaded.channel] == ["shift"]
        assert loaded.channel[0] is loaded.device.get_layer("shift")
        loaded.verify(X)


class TestSave:
    def test_writes_four_files_and_nothing_else(self, parts, tmp_path):
        folder = parts.save(tmp_path / "deep" / "parts")
        assert sorted(os.listdir(folder)) == ["device.keras", "model.keras", "partition.json", "server.keras"]
        assert os.listdir(tmp_path / "deep") == ["parts"]
        assert json.loads((folder / "partition.json").read_text())["schema"] == 1

    def test_refuses_a_folder_that_exists(self, parts, tmp_path):
        parts.save(tmp_path / "parts")
        with pytest.raises(BundleExistsError, match=r"which exists; expected a new folder\. Pass overwrite=True"):
            parts.save(tmp_path / "parts")
        (tmp_path / "parts" / "stale").touch()
        parts.save(tmp_path / "parts", overwrite=True)
        assert not (tmp_path / "parts" / "stale").exists()
        assert os.listdir(tmp_path) == ["parts"]

    def test_leaves_nothing_behind_when_it_fails(self, parts, tmp_path, monkeypatch):
        parts.save(tmp_path / "parts")
        monkeypatch.setattr(parts.server, "save", lambda path: path.joinpath("nowhere").touch())
        with pytest.raises(OSError, match="nowhere"):
            parts.save(tmp_path / "parts", overwrite=True)
        assert os.listdir(tmp_path) == ["parts"]
        kp.Partition.load(tmp_path / "parts").verify(X)

    def test_loads_in_another_process(self, tmp_path):
        ids = keras.Input((5,), dtype="int32", name="ids")
        embedded = layers.Embedding(9, 4, mask_zero=True, name="embedding")(ids)
        parts = kp.partition(keras.Model(ids, layers.LSTM(3)(embedded)), at="embedding")
        parts.with_channel(kp.GaussianChannel(0.0, normalize=False)).save(tmp_path / "parts")
        script = "import sys, numpy, keras_privpart as kp; kp.Partition.load(sys.argv[1]).verify(numpy.array([[1, 2, 0, 0, 0]], 'int32'))"
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "parts")], check=True, capture_output=True)

    def test_public_inputs_survive(self, tmp_path):
        x, p = keras.Input((6,), name="x"), keras.Input((6,), name="p")
        model = keras.Model([x, p], layers.Dense(1)(layers.Add()([layers.Dense(6, name="a")(x), p])))
        kp.partition(model, at="a", public_inputs=["p"]).save(tmp_path / "parts")
        loaded = kp.Partition.load(tmp_path / "parts")
        assert loaded.public_inputs == ("p",)
        loaded.verify([X, X])


def _garble(path):
    path.write_bytes(b"not a zip file")


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda f: (f / "partition.json").unlink(), "Found no partition.json in .*; expected a folder written by Partition.save"),
        (lambda f: (f / "server.keras").unlink(), "Found no server.keras"),
        (lambda f: _garble(f / "device.keras"), "Can't load .*device.keras"),
        (lambda f: _garble(f / "partition.json"), "Can't read .*partition.json"),
        (lambda f: (f / "partition.json").write_text("[]"), "has schema 'list'"),
        (lambda f: (f / "partition.json").write_text('{"schema": 2}'), "has schema 2; this version reads schema 1. Upgrade"),
        (lambda f: (f / "partition.json").write_text('{"schema": 1}'), "is malformed; expected boundary, channel"),
        (lambda f: _edit(f, channel=["gone"]), r"names the channel \['gone'\], which is not in the device half"),
        (lambda f: _edit(f, boundary=[]), "is malformed: Received boundary"),
    ],
)
def test_load_refuses_what_is_damaged(parts, tmp_path, damage, text):
    folder = parts.save(tmp_path / "parts")
    damage(folder)
    with pytest.raises(ModelError, match=text):
        kp.Partition.load(folder)


def _edit(folder, **changes):
    path = folder / "partition.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_load_runs_no_foreign_code(tmp_path):
    x = keras.Input((6,), name="x")
    y = layers.Lambda(lambda t: t * 2, name="twice")(layers.Dense(3, name="first")(x))
    with pytest.warns(UserWarning, match="Lambda layers"):
        parts = kp.partition(keras.Model(x, layers.Dense(2)(y)), at="first")
    parts.save(tmp_path / "parts")
    with pytest.raises(ModelError, match=r"Can't load .*model\.keras"):
        kp.Partition.load(tmp_path / "parts")


class TestTraining:
    def test_halves_in_one_step_train_as_the_whole_does(self):
        """Dropout and BatchNorm on both sides: same losses, same weights, same state after three steps."""

        def made():
            keras.utils.set_random_seed(0)
            x = keras.Input((6,), name="x")
            y = layers.BatchNormalization()(layers.Dropout(0.3, seed=1)(layers.Dense(5, name="cut")(x)))
            y = layers.Dense(2, name="end")(layers.Dropout(0.3, seed=2)(layers.BatchNormalization()(layers.Dense(5, name="next")(y))))
            return keras.Model(x, y)

        y = np.ones((4, 2), "float32")
        whole = made()
        whole.compile("sgd", "mse")
        parts = kp.partition(made(), at="next")
        inputs = keras.Input((6,))
        halves = keras.Model(inputs, parts.server(parts.device(inputs)))
        halves.compile("sgd", "mse")
        for _ in range(3):
            assert whole.train_on_batch(X, y) == pytest.approx(halves.train_on_batch(X, y), rel=1e-6)
        for a, b in zip(whole.get_weights(), parts.model.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
        parts.verify(X)

    def test_explicit_training_argument_carries_on_to_the_server_half(self):
        """Keras hands `training=True` of one call on to all calls after it; the halves must agree with the whole about that."""
        x = keras.Input((6,), name="x")
        y = layers.Dense(5, name="cut")(layers.Dropout(0.0)(x, training=True))
        y = layers.Dense(2)(layers.BatchNormalization(name="norm")(y))
        model = keras.Model(x, y)
        parts = kp.partition(model, at="cut")
        norm = model.get_layer("norm")
        whole = np.asarray(model(X))
        moved = norm.moving_mean.numpy().copy()
        assert np.any(moved != 0)
        halves = np.asarray(parts.server(np.asarray(parts.device(X))))
        assert np.array_equal(whole, halves)
        assert np.any(norm.moving_mean.numpy() != moved)
        parts.verify(X)

    def test_frozen_base_stays_frozen(self, build_model):
        model, _ = build_model("transfer")
        parts = kp.partition(model, at="relu")
        assert parts.device.trainable_weights == []
        assert len(parts.server.trainable_weights) == 4


def test_halves_can_be_cut_again(build_model):
    for name in ("residual", "masked_lstm"):
        model, x = build_model(name)
        first = kp.partition(model, at=kp.cuts(model)[1])
        sent = first.device(x)
        table = kp.cuts(first.server)
        assert len(table) > 0
        for cut in table:
            kp.partition(first.server, at=cut).verify(keras.tree.map_structure(np.asarray, sent))


def test_cutting_many_times_leaves_addresses_alone(build_model):
    model, x = build_model("layer_on_both_sides")
    before = [c.tensors for c in kp.cuts(model)]
    for _ in range(3):
        kp.partition(model, at="again#2").verify(x)
    assert [c.tensors for c in kp.cuts(model)] == before


def test_reading_a_nested_model_leaves_no_trace(build_model):
    model, _ = build_model("transfer")
    layer = model.get_layer("base").get_layer("conv")
    nodes = len(layer._inbound_nodes), len(layer._outbound_nodes)
    kp.cuts(model)
    kp.check_cut(model, "relu")
    assert (len(layer._inbound_nodes), len(layer._outbound_nodes)) == nodes
