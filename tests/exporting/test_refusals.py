"""Halves that no bundle is made of: state between requests, odd names, shapes that do not hold, encodings that lose too much."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import BundleError
from keras_privpart.exporting.litert import load


@keras.saving.register_keras_serializable("refusals")
class RunningMean(layers.Layer):
    """Subtracts the mean of all that it has seen."""

    def build(self, shape):
        self.seen = self.add_weight(name="seen", shape=(), initializer="zeros", trainable=False)
        self.built = True

    def call(self, x):
        self.seen.assign(0.9 * self.seen + 0.1 * keras.ops.mean(x))
        return x - self.seen


def model_of(*between, name="d", title=None):
    x = keras.Input((4,))
    h = layers.Dense(3, name=name)(x)
    for layer in between:
        h = layer(h)
    return keras.Model(x, layers.Dense(2, name="out")(h), name=title)


@pytest.mark.parametrize("side", ["device", "server"])
def test_layers_that_change_at_every_call_are_refused_by_name(side, tmp_path):
    model = model_of(RunningMean(name="mean"))
    with pytest.raises(BundleError, match=r"mean/seen.*change at every call"):
        kp.export(kp.partition(model, at="d" if side == "server" else "mean"), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert float(model.get_layer("mean").seen) == 0.0  # trying it changed nothing


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_stateful_recurrent_layers_are_refused_by_name(kind, tmp_path):
    x = keras.Input(batch_shape=(2, 5, 4))
    model = keras.Model(x, layers.Dense(2)(kind(3, stateful=True, name="memory")(layers.Dense(3, name="d")(x))))
    with pytest.raises(BundleError, match=r"recurrent layers \['memory'\] with stateful=True"):
        kp.export(kp.partition(model, at="d"), tmp_path / "b")


def recurrent(kind, **options):
    x = keras.Input((5, 4))
    return kp.partition(keras.Model(x, layers.Dense(2)(kind(3, name="memory", **options)(x))), at="memory")


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_rolled_recurrent_layers_are_refused_by_litert_with_both_ways_out(kind, tmp_path):
    with pytest.raises(BundleError, match=r"unroll=True.*a fixed batch of one, the format 'web'"):
        kp.export(recurrent(kind), tmp_path / "b", formats=["litert"])
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(("form", "options"), [("litert", {"unroll": True}), ("web", {})], ids=["unrolled", "fixed batch"])
def test_both_ways_out_convert(form, options, tmp_path):
    parts = recurrent(layers.GRU, **options)
    bundle = kp.export(parts, tmp_path / "b", formats=[form])
    x = np.random.default_rng(0).normal(size=(1, 5, 4)).astype("float32")
    converted = load((bundle.path / bundle.contract.device_file(form)).read_bytes())({bundle.contract.inputs[0].name: x})
    np.testing.assert_allclose(converted["boundary"], parts.device(x), atol=1e-5)


@pytest.mark.parametrize("name", ["a b", "größe"])
def test_layers_that_no_graph_can_name_are_refused(name, tmp_path):
    with pytest.raises(BundleError, match=rf"layers called \['{name}'\]"):
        kp.export(kp.partition(model_of(name=name), at=name), tmp_path / "b")


@pytest.mark.parametrize("name", ["face net", "größe"])
def test_a_model_of_any_name_is_exported(name, tmp_path):
    bundle = kp.export(kp.partition(model_of(title=name), at="d"), tmp_path / "b")
    assert bundle.contract.boundary.names == ("boundary",)


def test_a_misdeclared_boundary_is_refused_with_both_shapes(tmp_path):
    text = layers.TextVectorization(max_tokens=20, output_mode="multi_hot")
    text.adapt(["red green blue"])
    x = keras.Input((1,), dtype="string")
    model = keras.Model(x, layers.Dense(2)(layers.Dense(4, name="hidden")(text(x))))
    with pytest.raises(BundleError, match=r"'hidden' is float32\[3, 4\], declared as float32\[None, 1, 4\]"):
        kp.export(kp.partition(model, at="hidden"), tmp_path / "b", sample=np.array([["red"]], object))


@pytest.mark.parametrize("scale", [1e5, 1e-9])
def test_float16_of_values_beyond_its_range_is_refused_with_the_error(scale, tmp_path):
    x = keras.Input((16,))
    init = keras.initializers.Constant(scale)
    model = keras.Model(x, layers.Dense(2)(layers.Dense(8, name="d", kernel_initializer=init)(x)))
    sample = np.random.default_rng(0).random((128, 16), dtype="float32")
    with pytest.raises(BundleError, match=r"encoding='float16' changes the boundary by .* of its norm"):
        kp.export(kp.partition(model, at="d"), tmp_path / "b", sample=sample, encoding="float16")
    assert kp.export(kp.partition(model, at="d"), tmp_path / "b", sample=sample, encoding="int8").notes == ()
