"""Bits of whole partitions, where they are known in closed form."""

import json
import math

import keras
import numpy as np
import pytest

from keras_privpart.auditing.knowledge.noiseless import Noiseless
from keras_privpart.auditing.scoring.information import Bits, Looks, bits
from keras_privpart.channels import GaussianChannel, LaplaceChannel, QuantizeChannel
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.partition import partition

RNG = np.random.default_rng(0)
KERNEL = RNG.normal(size=(4, 3)) * np.array([0.8, 0.5, 0.2])
CLASSES = 3


def samples(count, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, count)
    centres = 10 * np.random.default_rng(9).normal(size=(CLASSES, 4))
    return Samples((rng.normal(size=(count, 4)) + centres[y]).astype("float32"), {"task": y})


TRAIN, TEST = samples(4000, 1), samples(600, 2)


def linear(kernel=KERNEL):
    x = keras.Input((kernel.shape[0],), name="x")
    layer = keras.layers.Dense(kernel.shape[1], use_bias=False, name="z")
    scores = keras.layers.Dense(CLASSES)(layer(x))
    layer.set_weights([kernel.astype("float32")])
    return partition(keras.Model(x, scores), "z")


def closed_form(kernel, stddev, looks=1):
    return np.linalg.slogdet(np.eye(kernel.shape[1]) + looks * kernel.T @ kernel / stddev**2)[1] / (2 * math.log(2))


def test_linear_and_gaussian_the_bounds_meet_the_closed_form():
    found = bits(linear().with_channel(GaussianChannel(0.5, normalize=False)), TRAIN, TEST, looks=(1, 16))
    for k in (1, 16):
        truth = closed_form(KERNEL, 0.5, k)
        assert found.at(k).beyond.value == pytest.approx(truth, rel=0.01)
        assert found.at(k).crossing.value > found.at(k).beyond.value
        assert found.at(k).at_least.value < truth + 0.1
        assert found.at(k).capacity is None
        assert found.at(k).epsilon is None
    assert found.at(1).at_least.value == pytest.approx(closed_form(KERNEL, 0.5), abs=0.15)
    assert (found.numbers, found.classes, found.fitted_on, found.victims) == (3, 3, 4000, 600)
    with pytest.raises(AuditError, match=r"Received looks=2; expected one of \[1, 16\]"):
        found.at(2)


def test_a_learnt_scale_counts_number_by_number():
    channel = GaussianChannel(1.0, normalize=False, learn_scale=True)
    parts = linear().with_channel(channel)
    channel.log_scale.assign([math.log(0.5), math.log(2.0), 0.0])
    truth = closed_form(KERNEL / np.array([0.5, 2.0, 1.0]), 1.0)
    assert bits(parts, TRAIN, TEST).at(1).beyond.value == pytest.approx(truth, rel=0.01)


def test_a_channel_of_limited_power_has_a_capacity_and_an_epsilon_that_hold_for_any_input():
    found = bits(linear(20 * KERNEL).with_channel(GaussianChannel(0.5, normalize=False, power=0.04)), TRAIN, TEST, looks=(1, 4))
    assert found.at(1).capacity == pytest.approx(3 / 2 * math.log2(1 + 0.04 / 0.25))
    assert found.at(4).capacity == pytest.approx(3 / 2 * math.log2(1 + 4 * 0.04 / 0.25))
    assert 0 < found.at(1).crossing.value <= found.at(1).capacity + 0.01
    assert found.at(1).limit <= found.at(1).capacity
    assert 0 < found.at(1).epsilon < found.at(4).epsilon
    # Numbers far outside of all that was fitted stay in the ball.
    far = Noiseless.of(linear(20 * KERNEL).with_channel(GaussianChannel(0.5, normalize=False, power=0.04)), 1e6 * TRAIN.x[:50]).rows
    assert np.square(far).mean(axis=1).max() <= 0.04 * (1 + 1e-5)
    assert "at most 0.3 bits through, whatever the input" in found.words()
    assert "epsilon" in found.words()


def test_little_power_is_a_guarantee_against_naming_one_of_many_and_says_so():
    found = bits(linear().with_channel(GaussianChannel(1.0, normalize=False, power=0.25)), TRAIN, TEST, looks=(1,))
    share = found.at(1).rank_1(100)
    assert share == pytest.approx((found.at(1).limit + 1) / math.log2(100))
    assert f"right at most {100 * share:.0f} % of the time" in found.words()
    loud = bits(linear(100 * KERNEL).with_channel(GaussianChannel(0.1, normalize=False)), TRAIN, TEST, looks=(1,))
    assert loud.at(1).rank_1(100) == 1.0
    assert "this bounds nothing" in loud.words()


def test_a_quantiser_lets_its_bits_through_however_often_one_looks():
    found = bits(linear().with_channel(QuantizeChannel(2, limit=8.0, normalize=False)), Samples(TRAIN.x, {}), Samples(TEST.x, {}))
    assert [f.capacity for f in found.looks] == [6.0, 6.0]
    assert found.at(1).at_least == found.at(16).at_least
    assert 1 < found.at(1).at_least.value <= 6.0
    one = bits(linear(np.zeros((4, 3))).with_channel(QuantizeChannel(2, normalize=False)), TRAIN, TEST)
    assert one.at(1).at_least.value == 0.0


def test_what_says_nothing_has_no_bits():
    found = bits(linear(np.zeros((4, 3))).with_channel(GaussianChannel(0.5, normalize=False)), TRAIN, TEST)
    for k in (1, 16):
        assert found.at(k).beyond.high == pytest.approx(0.0, abs=1e-9)
        assert found.at(k).at_least.value == pytest.approx(0.0, abs=1e-9)


def test_without_classes_all_bits_count_and_normalisation_is_part_of_what_crosses():
    channel = GaussianChannel(0.5)
    parts = linear().with_channel(channel)
    parts.device(TRAIN.x, training=True)  # moves the averages
    found = bits(parts, Samples(TRAIN.x, {}), Samples(TEST.x, {}), looks=(1,))
    assert found.at(1).beyond is None
    assert found.classes == 0
    plain = linear()
    rows = (np.asarray(plain.device(TRAIN.x[:5])) - channel.normalization.moving_mean) / np.sqrt(
        channel.normalization.moving_variance + 1e-3
    )
    assert np.allclose(Noiseless.of(parts, TRAIN.x[:5]).rows, rows, atol=1e-4)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (linear(), "neither noise nor a quantiser stands on the boundary"),
        (linear().with_channel(LaplaceChannel(0.5)), "on the boundary's 1 tensors stands LaplaceChannel"),
        (linear().with_channel(GaussianChannel(0.0)), "on the boundary's 1 tensors stands GaussianChannel"),
    ],
    ids=["plain", "Laplace", "no noise"],
)
def test_where_there_are_no_bits_it_says_why(parts, text):
    assert text in bits(parts, TRAIN, TEST)


def test_bad_looks_are_named():
    found = bits(linear().with_channel(GaussianChannel(0.5)), TRAIN, TEST, looks=(0,))
    assert "Received looks=(0,); expected whole numbers from 1" in found


def test_two_tensors_are_counted_together():
    x = keras.Input((4,), name="x")
    a, b = keras.layers.Dense(2, name="a")(x), keras.layers.Dense(1, name="b")(x)
    model = keras.Model(x, keras.layers.Dense(CLASSES)(keras.layers.Concatenate()([a, b])))
    parts = partition(model, ["a", "b"]).with_channel(GaussianChannel(0.5, normalize=False, power=1.0))
    found = bits(parts, TRAIN, TEST, looks=(1,))
    assert found.numbers == 3
    assert found.at(1).capacity == pytest.approx(3 / 2 * math.log2(1 + 1 / 0.25))


def test_bits_survive_json():
    found = bits(linear().with_channel(GaussianChannel(0.5, normalize=False, power=1.0)), TRAIN, TEST)
    again = Bits.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    assert isinstance(again.looks[0], Looks)
    assert again.words() == found.words()


def test_frozen_noise_makes_many_looks_one():
    found = bits(linear().with_channel(GaussianChannel(0.5, normalize=False, frozen=True)), TRAIN, TEST, looks=(1, 16))
    assert found.at(16).beyond == found.at(1).beyond
    assert found.at(1).beyond.value == pytest.approx(closed_form(KERNEL, 0.5), rel=0.01)
    assert "near duplicates show more" in found.words()
