"""Pictures of any range train the same adversary; the model gets them as it takes them; what does not fit is refused at once."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import TrainingError
from keras_privpart.value_range import value_range_of

UNIT = np.random.default_rng(0).random((16, 8, 8, 1)).astype("float32")


def model_with(*front, dtype=None):
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 1), dtype=dtype)
    h = x
    for layer in front:
        h = layer(h)
    return keras.Model(x, layers.Dense(2, activation="softmax")(layers.Flatten()(layers.Conv2D(2, 3, name="c")(h))))


def normalization(mean, spread):
    return layers.Normalization(axis=None, mean=mean, variance=spread**2)


FRONTS = {
    "nothing": (lambda: (), None),
    "bytes to 0..1": (lambda: (layers.Rescaling(1 / 255),), (0, 255)),
    "bytes to -1..1": (lambda: (layers.Rescaling(1 / 127.5, offset=-1),), (0, 255)),
    "unit to -1..1": (lambda: (layers.Rescaling(2.0, offset=-1),), (0, 1)),
    "signed to 0..1": (lambda: (layers.Rescaling(0.5, offset=0.5),), (-1, 1)),
    "augmented bytes": (lambda: (layers.RandomFlip(), layers.Rescaling(1 / 255)), (0, 255)),
    "nested": (lambda: (keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(1 / 255)]),), (0, 255)),
    "mean of bytes": (lambda: (normalization(127.0, 60.0),), (0, 255)),
    "mean of units": (lambda: (normalization(0.5, 0.25),), (0, 1)),
}


@pytest.mark.parametrize("kind", FRONTS)
def test_the_front_of_a_model_tells_its_range(kind):
    front, expected = FRONTS[kind]
    assert value_range_of(model_with(*front())) == expected


@pytest.mark.parametrize(("dtype", "expected"), [("uint8", (0, 255)), ("uint16", (0, 65535)), ("int32", (0, 255)), ("float32", None)])
def test_whole_numbers_tell_their_range(dtype, expected):
    x = keras.Input((8, 8, 1), dtype=dtype)
    assert value_range_of(keras.Model(x, layers.Rescaling(1.0, dtype="float32")(x))) == expected


def trainer_of(model, **options):
    trainer = kp.AdversarialTrainer(kp.partition(model, at="c"), [kp.ReconstructionAdversary(**options)])
    trainer.compile(optimizer=keras.optimizers.SGD(0.0), loss="sparse_categorical_crossentropy")
    return trainer


@pytest.mark.parametrize(
    ("front", "low", "high", "options"),
    [
        ((), -1, 1, {"value_range": (-1, 1)}),
        ((), 0, 255, {"value_range": (0, 255)}),
        ((layers.Rescaling(1 / 255),), 0, 255, {}),
        ((layers.Rescaling(1 / 127.5, offset=-1),), 0, 255, {}),
        ((layers.Rescaling(0.5, offset=0.5),), -1, 1, {}),
    ],
)
def test_the_decoder_sees_the_same_pictures_whatever_the_range(front, low, high, options):
    trainer = trainer_of(model_with(*front), **options)
    seen = trainer.adversaries[0].target(low + (high - low) * UNIT, {})
    np.testing.assert_allclose(seen, UNIT, atol=1e-6)
    traced = tf.function(lambda x: trainer.adversaries[0].target(x, {}))
    np.testing.assert_allclose(traced(low + (high - low) * UNIT), UNIT, atol=1e-6)


def test_bytes_need_no_range_even_where_the_model_takes_floats():
    pixels = (255 * UNIT).astype("uint8")
    seen = trainer_of(model_with(layers.Rescaling(1 / 255))).adversaries[0].target(pixels, {})
    np.testing.assert_allclose(seen, pixels / 255, atol=1e-6)


@pytest.mark.parametrize("given", ["arrays", "data set"])
@pytest.mark.parametrize(
    ("front", "x", "options", "message"),
    [
        ((), 255 * UNIT, {}, "0 to 1, as value_range says"),
        ((), 2 * UNIT - 1, {}, "0 to 1, as value_range says"),
        ((layers.Rescaling(1 / 255),), UNIT, {}, "scaled already"),
        ((layers.Rescaling(1 / 255),), 300 * UNIT, {}, "0 to 255, as the model's front says"),
        ((), UNIT * 3, {"value_range": (-1, 1)}, "-1 to 1, as value_range says"),
        ((), np.full_like(UNIT, np.nan), {}, "0 to 1"),
    ],
)
def test_pictures_outside_of_the_range_are_refused_before_the_first_step(given, front, x, options, message):
    trainer = trainer_of(model_with(*front), **options)
    before = [np.asarray(v) for v in trainer.networks[0].trainable_variables]
    y = np.zeros(16, int)
    with pytest.raises(TrainingError, match=message):
        trainer.fit(x, y, verbose=0) if given == "arrays" else trainer.fit(tf.data.Dataset.from_tensors((x, y)), shuffle=False, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, trainer.networks[0].trainable_variables, strict=True))


@pytest.mark.parametrize("wrong", [(1, 0), (0,), "ab", (0, float("nan")), 5])
def test_a_range_that_is_none_is_refused(wrong):
    with pytest.raises(TrainingError, match="expected \\(least, largest\\)"):
        kp.ReconstructionAdversary(value_range=wrong)


def test_the_configuration_keeps_what_was_given():
    assert kp.ReconstructionAdversary().get_config()["value_range"] is None
    assert kp.ReconstructionAdversary.from_config(kp.ReconstructionAdversary(value_range=(0, 255)).get_config()).value_range == (0.0, 255.0)
