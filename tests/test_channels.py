"""Channels: one contract test that every channel is a row of, then what each promises."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_privpart import channels
from keras_privpart.errors import ChannelError
from keras_privpart.partitioning.cut import partition

# (what does nothing, what does something) for each channel.
FAMILY = [
    pytest.param(
        channels.GaussianChannel(0.0, normalize=False, name="off"), channels.GaussianChannel(0.5, seed=3, name="on"), id="GaussianChannel"
    ),
]


def model():
    x = inputs = keras.Input((6,), name="x")
    a = layers.Dense(4, activation="relu", name="a")(x)
    b = layers.Dense(3, name="b")(x)
    return keras.Model(inputs, layers.Dense(2, name="y")(layers.Concatenate(name="join")([a, b])))


def test_the_family_is_complete():
    known = {c for c in vars(channels).values() if isinstance(c, type) and issubclass(c, channels.Channel) and c is not channels.Channel}
    assert {type(row.values[1]) for row in FAMILY} == known


@pytest.mark.parametrize(("off", "on"), FAMILY)
def test_contract(off, on, tmp_path):
    z = np.random.default_rng(0).normal(size=(16, 5)).astype("float32")
    assert np.array_equal(off(z), z), "off equals plain"
    assert not np.array_equal(on(z), z), "on differs"
    assert tuple(on(z).shape) == z.shape
    assert on.get_config() == type(on).from_config(on.get_config()).get_config()
    inputs = keras.Input((5,))
    keras.Model(inputs, on(inputs)).save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", safe_mode=True)
    assert loaded.layers[-1].get_config() == on.get_config()


def test_gaussian_noise_has_the_stated_size_in_use_and_in_training():
    channel = channels.GaussianChannel(0.5, normalize=False)
    z = np.zeros((200, 500), "float32")
    for training in (False, True):
        noise = channel(z, training=training).numpy()
        assert abs(noise.std() - 0.5) < 0.01
        assert abs(noise.mean()) < 0.01
        assert not np.array_equal(noise, channel(z, training=training))


def test_normalisation_takes_the_scale_out_of_the_device_halfs_hands():
    z = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    one, loud = (channels.GaussianChannel(0.0)(z * scale, training=True).numpy() for scale in (1, 1000))
    assert np.allclose(one, loud, atol=1e-2)
    assert abs(loud.std() - 1) < 0.01


def test_training_noise_follows_the_seed_and_noise_in_use_does_not():
    z = np.zeros((4, 8), "float32")

    def draw(training):
        keras.utils.set_random_seed(1)
        return channels.GaussianChannel(1.0, normalize=False)(z, training=training).numpy()

    assert np.array_equal(draw(True), draw(True))
    assert not np.array_equal(draw(False), draw(False))


def test_noise_is_fresh_after_every_load_of_an_export(tmp_path):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,))
    device = keras.Model(inputs, channels.GaussianChannel(1.0, normalize=False)(inputs))
    device.export(tmp_path / "device", verbose=False)
    z = tf.zeros((4, 8))

    def draw():
        keras.utils.set_random_seed(1)
        loaded = tf.saved_model.load(str(tmp_path / "device"))
        return loaded.serve(z).numpy()

    first, second = draw(), draw()
    assert not np.array_equal(first, second)
    assert abs(np.concatenate([first, second]).std() - 1) < 0.4


def test_on_a_partition_the_channel_belongs_to_the_device_half():
    parts = partition(model(), at=["a", "b"])
    noisy = parts.with_channel(channels.GaussianChannel(0.5))
    assert len(noisy.channel) == 2
    assert noisy.server is parts.server
    x = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
    for plain, changed, again in zip(parts.device(x), noisy.device(x), noisy.device(x), strict=True):
        assert plain.shape == changed.shape
        assert not np.array_equal(plain, changed)
        assert not np.array_equal(changed, again)
    noisy.verify(x)  # the channel left out


@pytest.mark.parametrize("stddev", [-1, float("nan"), float("inf"), "much", None])
def test_a_bad_stddev_is_refused(stddev):
    with pytest.raises(ChannelError, match=r"Received stddev=.*expected a finite number of at least 0"):
        channels.GaussianChannel(stddev)


def test_a_boundary_of_whole_numbers_is_refused():
    with pytest.raises(ChannelError, match="expected a floating point boundary"):
        channels.GaussianChannel(0.5, normalize=False, dtype="int32").build((None, 4))
