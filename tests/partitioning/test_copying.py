"""Copies compute what the original does, on layers of their own; fresh ones keep only what layers were adapted to."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import ModelError
from keras_privpart.partitioning.graphs.copying import copy_model, fresh_model
from keras_privpart.partitioning.partition import fresh_partition, partition

# Some architectures are made to lose a mask, of which Keras warns while they are built.
pytestmark = pytest.mark.filterwarnings("ignore:Layer 'encoder' .of type Sequential. was passed an input with a mask")

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(3.0, 2.0, (30, 4)).astype("float32")
WORDS = np.array([["alpha beta"], ["beta gamma"], ["gamma gamma"]])


def _same(a, b):
    pairs = zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True)
    return all(np.array_equal(np.asarray(p), np.asarray(q)) for p, q in pairs)


def test_every_architecture(architecture):
    model, x = architecture
    twin = copy_model(model)
    assert _same(model(x, training=False), twin(x, training=False))
    assert _same(model.get_weights(), twin.get_weights())
    assert _same(model(x, training=True), twin(x, training=True))  # the same random draws, the same moving averages after them
    assert _same(model.get_weights(), twin.get_weights())
    assert not {id(v) for v in model.variables} & {id(v) for v in twin.variables}
    assert [layer.name for layer in model.layers] == [layer.name for layer in twin.layers]
    assert [len(m.trainable_weights) for m in (model, twin)] == [len(model.trainable_weights)] * 2
    assert [cut.tensors for cut in kp.cuts(model)] == [cut.tensors for cut in kp.cuts(twin)]


def test_a_copied_partition_shares_layers_as_the_original_does(architecture):
    model, x = architecture
    table = kp.cuts(model)
    parts = partition(model, at=table[len(table) // 2])
    twin = parts.copy()
    twin.verify(x)
    own = {id(v) for v in twin.model.weights}
    assert {id(v) for v in (*twin.device.weights, *twin.server.weights)} <= own
    assert not own & {id(v) for v in model.weights}
    assert _same(parts.device(parts.device_inputs(x), training=False), twin.device(twin.device_inputs(x), training=False))


def _adapted(layer, data):
    layer.adapt(data)
    return layer


class Centred(layers.Layer):
    """A layer of a user's own: it learns from data before training, and holds an adapted layer of Keras' and a weight."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Normalization()

    def build(self, shape):
        self.inner.build(shape)
        self.scale = self.add_weight(shape=(), initializer="random_normal")

    def call(self, x):
        return self.inner(x) * self.scale


def centred():
    layer = Centred()
    layer.build((None, 4))
    layer.inner.adapt(NUMBERS)
    return layer


# name: a layer with state outside `weights`, what it is fed, and whether a fresh copy computes the same
STATEFUL = {
    "normalization": (lambda: _adapted(layers.Normalization(), NUMBERS), NUMBERS, True),
    "normalization of all axes": (lambda: _adapted(layers.Normalization(axis=None), NUMBERS), NUMBERS, True),
    "discretization": (lambda: _adapted(layers.Discretization(num_bins=5), NUMBERS), NUMBERS, True),
    "integer lookup": (lambda: _adapted(layers.IntegerLookup(), np.arange(7)), np.array([[3], [9], [1]]), True),
    "integer lookup, one-hot": (
        lambda: _adapted(layers.IntegerLookup(output_mode="one_hot", num_oov_indices=2), np.arange(7)),
        np.array([[3], [9], [1]]),
        True,
    ),
    "string lookup": (lambda: _adapted(layers.StringLookup(), WORDS), WORDS, True),
    "string lookup, masked": (lambda: _adapted(layers.StringLookup(mask_token="", num_oov_indices=2), WORDS), WORDS, True),
    "string lookup, tf-idf": (lambda: _adapted(layers.StringLookup(output_mode="tf_idf"), WORDS), WORDS, True),
    "string lookup, given words": (lambda: layers.StringLookup(vocabulary=["alpha beta"]), WORDS, True),
    "text vectorization": (lambda: _adapted(layers.TextVectorization(), WORDS[:, 0]), WORDS, True),
    "text vectorization, tf-idf": (lambda: _adapted(layers.TextVectorization(output_mode="tf_idf"), WORDS[:, 0]), WORDS, True),
    "a layer inside a layer": (centred, NUMBERS, False),
    "dropout": (lambda: layers.Dropout(0.5, seed=3), NUMBERS, None),
    "dropout without a seed": (lambda: layers.Dropout(0.5), NUMBERS, None),
    "noise": (lambda: layers.GaussianNoise(1.0, seed=3), NUMBERS, None),
    "augmentation": (lambda: layers.RandomFlip(seed=3), RNG.normal(size=(9, 6, 6, 1)).astype("float32"), None),
}


@pytest.mark.parametrize(("make", "x", "fresh_is_same"), STATEFUL.values(), ids=STATEFUL)
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_state_outside_the_weights(make, x, fresh_is_same, nested):
    keras.utils.set_random_seed(0)
    layer = make()
    dtype = "string" if x.dtype.kind == "U" else str(x.dtype)
    inputs = keras.Input(x.shape[1:], dtype=dtype)
    model = keras.Model(inputs, layer(inputs))
    if nested:
        outer = keras.Input(x.shape[1:], dtype=dtype)
        model = keras.Model(outer, model(outer))
    x = keras.ops.convert_to_tensor(x) if dtype != "string" else tf.constant(x)
    if fresh_is_same is None:
        model(x, training=True)  # its random generator is somewhere in the middle of its stream
    twin = copy_model(model)
    assert _same(model(x, training=False), twin(x, training=False))
    if fresh_is_same is None:
        assert _same(model(x, training=True), twin(x, training=True))
        assert not _same(model(x, training=True), model(x, training=True)), "else this would say nothing"
    fresh = fresh_model(model)
    if fresh_is_same is not None:
        assert _same(model(x, training=False), fresh(x, training=False)) == fresh_is_same


def test_a_fresh_copy_draws_weights_from_the_seed_and_forgets_statistics_of_training():
    x = keras.Input((4,))
    normal = _adapted(layers.Normalization(name="normal"), NUMBERS)
    y = layers.BatchNormalization(name="batch")(layers.Dense(3, name="dense")(normal(x)))
    model = keras.Model(x, layers.Dense(1, name="end")(y))
    model(NUMBERS, training=True)
    before = model.get_weights()

    def fresh(seed):
        keras.utils.set_random_seed(seed)
        return fresh_model(model)

    first, again, other = fresh(1), fresh(1), fresh(2)
    assert _same(first.get_weights(), again.get_weights())
    kernels = [m.get_layer("dense").kernel for m in (model, first, other)]
    assert not any(_same(a, b) for a, b in zip(kernels, kernels[1:] + kernels[:1], strict=True))
    assert _same(first.get_layer("batch").moving_mean, np.zeros(3))
    assert _same(first.get_layer("normal")(NUMBERS), normal(NUMBERS))
    assert _same(before, model.get_weights())


def test_a_fresh_partition_is_cut_at_the_same_place_without_its_channel():
    x = keras.Input((4,))
    parts = partition(keras.Model(x, layers.Dense(2)(layers.Dense(3, name="cut")(x))), "cut").with_channel(kp.GaussianChannel(1.0))
    fresh = fresh_partition(parts)
    assert fresh.boundary == parts.boundary
    assert fresh.channel == ()
    assert not _same(fresh.device.get_weights()[0], parts.model.get_weights()[0])
    fresh.verify(NUMBERS)


def test_a_channel_is_copied_with_the_halves():
    x = keras.Input((4,))
    parts = partition(keras.Model(x, layers.Dense(2)(layers.Dense(3, name="cut")(x))), "cut").with_channel(kp.QuantizeChannel(2))
    parts.device(NUMBERS, training=True)
    twin = parts.copy()
    assert twin.channel[0] is not parts.channel[0]
    assert twin.channel[0] in twin.device.layers
    assert _same(parts.device(NUMBERS), twin.device(NUMBERS))
    twin.verify(NUMBERS)


def test_a_compiled_model_with_a_loss_of_its_own_is_copied():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(x))
    model.compile(loss=lambda truth, answer: keras.ops.mean(answer))
    assert _same(model(NUMBERS), copy_model(model)(NUMBERS))


def test_a_layer_that_cannot_be_made_again_is_named():
    class Sized(layers.Layer):
        def __init__(self, size):
            super().__init__()
            self.size = size

        def call(self, x):
            return x * self.size

    x = keras.Input((4,))
    inner = keras.Model(x, Sized(2.0)(x), name="inner")
    outer = keras.Input((4,))
    with pytest.raises(ModelError, match=r"Can't copy the layer 'inner/sized' \(Sized\).*get_config"):
        copy_model(keras.Model(outer, inner(outer)))
    with pytest.raises(ModelError, match="subclassed model"):
        copy_model(type("Own", (keras.Model,), {})())
