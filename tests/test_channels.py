"""Channels: one contract test that every channel is a row of, then what each promises."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_privpart import channels
from keras_privpart.channels.keyed_noise import chacha20, keyless
from keras_privpart.errors import ChannelError
from keras_privpart.partitioning.partition import partition

# (what does nothing, what does something) for each channel.
FAMILY = [
    pytest.param(
        channels.GaussianChannel(0.0, normalize=False, name="off"), channels.GaussianChannel(0.5, seed=3, name="on"), id="GaussianChannel"
    ),
    pytest.param(
        channels.GaussianChannel(0.0, normalize=False, learn_scale=True), channels.GaussianChannel(0.5, learn_scale=True), id="learnt scale"
    ),
    pytest.param(
        channels.GaussianChannel(0.0, normalize=False), channels.GaussianChannel(0.0, normalize=False, power=2.0), id="limited power"
    ),
    pytest.param(channels.GaussianChannel(0.0, normalize=False, frozen=True), channels.GaussianChannel(0.5, frozen=True), id="frozen"),
    pytest.param(channels.LaplaceChannel(0.0, normalize=False), channels.LaplaceChannel(0.5, power=1.0), id="LaplaceChannel"),
    pytest.param(channels.QuantizeChannel(None, normalize=False), channels.QuantizeChannel(4), id="QuantizeChannel"),
    pytest.param(channels.GateChannel(0.0), channels.GateChannel(0.4, units=4), id="GateChannel"),
    pytest.param(channels.DropoutChannel(0.0), channels.DropoutChannel(0.4, seed=1), id="DropoutChannel"),
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


@pytest.mark.parametrize("kind", [channels.GaussianChannel, channels.LaplaceChannel])
def test_noise_has_the_stated_size_in_use_and_in_training(kind):
    channel = kind(0.5, normalize=False)
    z = np.zeros((200, 500), "float32")
    for training in (False, True):
        noise = channel(z, training=training).numpy()
        assert abs(noise.std() - 0.5) < 0.01
        assert abs(noise.mean()) < 0.01
        assert not np.array_equal(noise, channel(z, training=training))
    # The mean magnitude of Gaussian noise is sqrt(2 / pi), of Laplacian sqrt(1 / 2) of its standard deviation.
    ratio = {channels.GaussianChannel: (2 / np.pi) ** 0.5, channels.LaplaceChannel: 0.5**0.5}[kind]
    assert abs(np.abs(noise).mean() / noise.std() - ratio) < 0.01


def test_a_learnt_scale_moves_noise_but_cannot_train_it_away():
    channel = channels.GaussianChannel(0.5, normalize=False, learn_scale=True)
    z = np.zeros((4000, 2), "float32")
    channel(z)
    channel.log_scale.assign([-9.0, -7.0])
    measured = channel(z).numpy().std(axis=0)
    assert np.allclose(measured, [0.5 / np.e, 0.5 * np.e], rtol=0.1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(channel(z)[:, 0]))
    gradient = tape.gradient(loss, channel.log_scale.value)
    assert gradient[0] > 0 > gradient[1]


def test_limited_power_holds_for_any_input_and_leaves_a_slope_everywhere():
    channel = channels.GaussianChannel(0.0, normalize=False, power=0.5)
    for scale in (0.01, 1.0, 1e4):
        z = tf.constant(scale * np.random.default_rng(0).normal(size=(16, 3, 3, 2)).astype("float32"))
        with tf.GradientTape() as tape:
            tape.watch(z)
            y = channel(z)
            radii = tf.reduce_sum(y * z, axis=[1, 2, 3])
        assert tf.reduce_max(tf.reduce_mean(tf.square(y), axis=[1, 2, 3])) <= 0.5 * (1 + 1e-5)
        along = tf.reduce_sum(tape.gradient(radii, z) * z, axis=[1, 2, 3])
        assert tf.reduce_min(along) > 0
        if scale < 0.1:
            assert np.allclose(y, z, rtol=1e-3)


def test_quantiser_levels_by_hand_and_its_gradient():
    channel = channels.QuantizeChannel(2, limit=2.0, normalize=False)
    z = tf.constant([[-5.0, -1.5, -0.2, 0.2, 1.1, 7.0]])
    with tf.GradientTape() as tape:
        tape.watch(z)
        y = channel(z)
    assert np.allclose(y, [[-1.5, -1.5, -0.5, 0.5, 1.5, 1.5]])
    assert tape.gradient(y, z).numpy().tolist() == [[0, 1, 1, 1, 1, 0]]
    assert np.unique(channels.QuantizeChannel(1)(np.random.default_rng(0).normal(size=(64, 3)).astype("float32"))).tolist() == [-1, 1]


def test_a_gate_closes_its_share_for_each_example_and_learns_which():
    keras.utils.set_random_seed(0)
    channel = channels.GateChannel(0.75, units=8)
    z = tf.constant(np.random.default_rng(0).uniform(1, 2, (32, 3, 3, 8)).astype("float32"))
    with tf.GradientTape() as tape:
        y = channel(z)
        loss = tf.reduce_sum(y)
    opened = np.asarray(tf.reduce_max(y, axis=[1, 2]) > 0)
    assert (opened.sum(axis=1) == 2).all()
    kept = np.asarray(y)[np.broadcast_to(opened[:, None, None], y.shape)]
    assert np.array_equal(kept, np.asarray(z)[np.broadcast_to(opened[:, None, None], z.shape)])
    assert all(tf.reduce_max(tf.abs(g)) > 0 for g in tape.gradient(loss, channel.trainable_variables))


def test_dropped_features_are_whole_ones_and_fresh_and_keep_the_mean():
    channel = channels.DropoutChannel(0.25)
    z = np.ones((400, 2, 2, 8), "float32")
    for training in (False, True):
        y = channel(z, training=training).numpy()
        assert np.array_equal(y, np.broadcast_to(y[:, :1, :1], y.shape))
        assert abs((y == 0).mean() - 0.25) < 0.05
        assert abs(y.mean() - 1) < 0.05
        assert not np.array_equal(y, channel(z, training=training))


def frozen(stddev=0.5, width=8, **options):
    channel = channels.GaussianChannel(stddev, normalize=False, frozen=True, **options)
    channel.build((None, width))
    return channel


def test_frozen_noise_is_the_same_at_every_look_and_in_every_batch():
    channel = frozen()
    z = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    first = channel(z).numpy()
    assert np.array_equal(first, channel(z))
    # The last bit of a logarithm hangs on where in a batch it is taken.
    assert np.allclose(first[10:13], channel(z[10:13]), atol=1e-6)
    averaged = np.mean([channel(z) for _ in range(16)], axis=0)
    assert np.square(averaged - z).mean() > 0.8 * 0.5**2, "sixteen looks average nothing"
    fresh = channels.GaussianChannel(0.5, normalize=False)
    assert np.square(np.mean([fresh(z) for _ in range(16)], axis=0) - z).mean() < 0.1 * 0.5**2


def test_frozen_noise_is_normal_and_that_of_near_duplicates_has_nothing_in_common():
    channel = frozen(width=32)
    z = np.random.default_rng(0).normal(size=(4000, 32)).astype("float32")
    noise = channel(z).numpy() - channel.without_noise(z).numpy()
    assert abs(noise.std() - 0.5) < 0.005
    assert abs(noise.mean()) < 0.005
    assert abs(np.abs(noise).mean() / noise.std() - (2 / np.pi) ** 0.5) < 0.005
    correlations = np.corrcoef(noise, rowvar=False) - np.eye(32)
    assert np.abs(correlations).max() < 0.1
    near = z.copy()
    near[:, 0] += 0.1
    other = channel(near).numpy() - channel.without_noise(near).numpy()
    assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.02


def test_frozen_noise_hangs_on_a_key_that_is_drawn_anew():
    z = np.zeros((4, 8), "float32")
    one, two = frozen(), frozen()
    assert not np.array_equal(one(z), two(z))
    for channel in (one, two):
        channel.noise_key.install(bytes(range(32)))
    assert np.array_equal(one(z), two(z))
    two.noise_key.install(bytes([1, *range(1, 32)]))
    assert not np.array_equal(one(z), two(z))


def test_frozen_noise_is_fresh_in_training_and_without_a_key():
    channel = frozen()
    z = np.zeros((4, 8), "float32")
    assert not np.array_equal(channel(z, training=True), channel(z, training=True))
    before = channel(z).numpy()
    with keyless([channel.noise_key]):
        assert not np.array_equal(channel(z), channel(z))
    assert np.array_equal(channel(z), before)


def test_what_shares_its_frozen_noise_sends_the_same():
    channel = frozen(stddev=1.0, width=1)
    z = np.linspace(-0.2, 0.2, 400, dtype="float32")[:, None]
    sent, steps = channel(z).numpy(), channel.without_noise(z).numpy()
    assert np.abs(steps - z).max() <= 1 / 32 + 1e-6
    for step in np.unique(steps):
        assert len(np.unique(sent[steps == step])) == 1
    with tf.GradientTape() as tape:
        tape.watch(inputs := tf.constant(z))
        loss = tf.reduce_sum(channel(inputs))
    assert np.array_equal(tape.gradient(loss, inputs), np.ones_like(z))


def test_no_file_of_keras_holds_the_key_of_frozen_noise(tmp_path):
    inputs = keras.Input((8,))
    model = keras.Model(inputs, channels.GaussianChannel(0.5, frozen=True)(inputs))
    model.save(tmp_path / "m.keras")
    z = np.zeros((4, 8), "float32")
    assert np.array_equal(model(z), model(z))
    again = keras.models.load_model(tmp_path / "m.keras")
    assert not np.array_equal(model(z), again(z))
    assert np.array_equal(again(z), again(z))


def test_a_key_of_another_size_is_refused():
    with pytest.raises(ChannelError, match="Received a noise key of 5 bytes; expected 32 bytes"):
        frozen().noise_key.install(b"short")
    with pytest.raises(ChannelError, match="Received a noise key of str; expected 32 bytes"):
        frozen().noise_key.install("x" * 32)


def test_the_stream_is_chacha20_by_the_rfcs_example():
    key = tf.constant(np.frombuffer(bytes(range(32)), "<u4"))
    nonce = tf.constant(np.frombuffer(bytes.fromhex("000000090000004a00000000"), "<u4"))[None]
    block = chacha20(key, nonce, 2).numpy()[0, 16:]  # RFC 8439, section 2.3.2: the block of counter 1
    assert block.astype("<u4").tobytes().hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4ed2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


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


@pytest.mark.parametrize(
    "channel",
    [
        channels.GaussianChannel(1.0, normalize=False),
        channels.LaplaceChannel(1.0, normalize=False),
        channels.DropoutChannel(0.5),
    ],
    ids=lambda c: type(c).__name__,
)
def test_noise_is_fresh_after_every_load_of_an_export(channel, tmp_path):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,))
    device = keras.Model(inputs, channel(inputs))
    device.export(tmp_path / "device", verbose=False)
    z = tf.ones((4, 8))

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


def test_a_partition_with_a_channel_loads_in_a_process_that_has_not_met_it(tmp_path):
    partition(model(), at=["a", "b"]).with_channel(channels.GaussianChannel(0.5)).save(tmp_path / "parts")
    code = "import sys; from keras_privpart import Partition; print(len(Partition.load(sys.argv[1]).channel))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "parts")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: channels.GaussianChannel(0.5, power=0), "Received power=0; expected a finite number above 0. It limits the mean square"),
        (lambda: channels.GaussianChannel(0.5, power=-1), "Received power=-1; expected a finite number above 0"),
        (lambda: channels.QuantizeChannel(0), "Received bits=0; expected a whole number from 1 to 16"),
        (lambda: channels.QuantizeChannel(3, limit=0), "Received limit=0; expected a finite number above 0"),
        (lambda: channels.GateChannel(1.0), "Received rate=1.0; expected a number of at least 0 and under 1"),
        (lambda: channels.DropoutChannel(-0.1), "Received rate=-0.1; expected a number of at least 0 and under 1"),
    ],
)
def test_bad_arguments_are_refused(make, text):
    with pytest.raises(ChannelError, match=text):
        make()


@pytest.mark.parametrize("kind", [channels.GaussianChannel, channels.LaplaceChannel])
def test_noise_warms_up_in_training_and_stands_in_full_in_use(kind):
    z = np.zeros((4000, 2), "float32")
    channel = kind(2.0, normalize=False, seed=0, warmup=4)
    spread = [float(np.std(channel(z, training=True))) for _ in range(6)]
    np.testing.assert_allclose(spread, [0, 0.5, 1, 1.5, 2, 2], rtol=0.1)
    fresh = kind.from_config(channel.get_config())
    np.testing.assert_allclose(np.std(fresh(z, training=False)), 2, rtol=0.1)
    assert float(np.std(fresh(z, training=True))) == 0, "what use sees does not count"
    assert len(kind(2.0, normalize=False).weights) == 0
    plain, late = kind(2.0, normalize=False, seed=0), kind(2.0, normalize=False, seed=0, warmup=1)
    late(z, training=True), plain(z, training=True)
    np.testing.assert_array_equal(late(z, training=True), plain(z, training=True))
    with pytest.raises(ChannelError, match=r"warmup=-1; expected a whole number from 0. It counts training steps"):
        kind(1.0, warmup=-1)
