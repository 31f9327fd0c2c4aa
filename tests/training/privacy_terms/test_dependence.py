"""Dependence of batches: worked examples, independence, and slopes without holes."""

import math

import numpy as np
import pytest
import tensorflow as tf

from keras_privpart.training.privacy_terms import dependence

RNG = np.random.default_rng(0)


def by_definition(x, z):
    """Distance correlation from its definition, in double precision."""

    def centred(v):
        d = np.sqrt(((v[:, None] - v[None]) ** 2).sum(-1))
        return d - d.mean(0) - d.mean(1)[:, None] + d.mean()

    a, b = centred(x.astype("float64")), centred(z.astype("float64"))
    return math.sqrt((a * b).mean() / math.sqrt((a * a).mean() * (b * b).mean()))


def test_distance_correlation_of_three_points_by_hand():
    # x = 0, 1, 3, distances 1, 3, 2: doubly centred [[-4, 0, 4], [0, -2, 2], [4, 2, -6]] / 3.
    # z = 0, 1, 0, distances 1, 0, 1: doubly centred [[-2, 4, -2], [4, -8, 4], [-2, 4, -2]] / 9.
    # Sums of products: 96 / 9 of x with itself, 144 / 81 of z, 36 / 27 of both.
    x, z = np.array([[0.0], [1.0], [3.0]], "float32"), np.array([[0.0], [1.0], [0.0]], "float32")
    want = math.sqrt(36 / math.sqrt(96 * 144))
    assert math.isclose(float(dependence.distance_correlation(x, z)), want, rel_tol=1e-5)
    assert math.isclose(by_definition(x, z), want, rel_tol=1e-9)


def test_distance_correlation_sees_more_than_linear_dependence():
    x = np.linspace(-1, 1, 400, dtype="float32")[:, None]
    assert float(dependence.distance_correlation(x, 3 * x + 1)) == pytest.approx(1, abs=1e-4)
    bent = float(dependence.distance_correlation(x, x**2))
    free = float(dependence.distance_correlation(x, RNG.uniform(size=(400, 1)).astype("float32")))
    assert abs(np.corrcoef(x[:, 0], x[:, 0] ** 2)[0, 1]) < 1e-3
    assert bent > 0.4 > 0.2 > free
    assert bent == pytest.approx(by_definition(x, x**2), abs=1e-4)


def test_a_large_offset_does_not_drown_the_distances():
    x = RNG.normal(size=(50, 4)).astype("float32")
    assert float(dependence.distance_correlation(x + 300, x)) == pytest.approx(1, abs=1e-3)


def test_hsic_is_one_for_equal_kernels_and_small_for_independent_ones():
    labels = tf.constant(RNG.integers(0, 2, 300))
    k = dependence.same_kernel(labels)
    assert float(dependence.hsic(k, k)) == pytest.approx(1, abs=1e-5)
    told = np.asarray(labels, "float32")[:, None] * 5 + RNG.normal(size=(300, 1)).astype("float32")
    untold = RNG.normal(size=(300, 1)).astype("float32")
    assert float(dependence.hsic(dependence.gaussian_kernel(told), k)) > 0.5
    assert float(dependence.hsic(dependence.gaussian_kernel(untold), k)) < 0.05


def test_conditional_information_by_hand():
    z = np.array([[0.0, 1.0], [2.0, 1.0], [5.0, 7.0]], "float32")
    # class 0: variances 1 and 0; class 1: one example, none. stddev 1/2: log(1 + 4) / 2 for one feature of two, for two examples of three
    want = (2 / 3) * (math.log(5) / 2) / 2
    assert math.isclose(float(dependence.conditional_information(z, tf.constant([0, 0, 1]), 4, 0.5)), want, rel_tol=1e-5)


@pytest.mark.parametrize(
    "penalty",
    [
        lambda z: dependence.distance_correlation(tf.constant(RNG.normal(size=(6, 3)).astype("float32")), z),
        lambda z: dependence.hsic(dependence.gaussian_kernel(z), dependence.same_kernel(tf.constant([0, 0, 1, 1, 2, 2]))),
        lambda z: dependence.hsic(dependence.gaussian_kernel(z), dependence.same_kernel(tf.zeros([6]))),
        lambda z: dependence.conditional_information(z, tf.zeros([6], tf.int32), 1, 1.0),
    ],
)
@pytest.mark.parametrize("z", [np.zeros((6, 3)), np.repeat(np.eye(3), 2, axis=0), RNG.normal(size=(6, 3))], ids=["alike", "twins", "any"])
def test_slopes_are_finite_where_rows_are_alike(penalty, z):
    z = tf.Variable(z.astype("float32"))
    with tf.GradientTape() as tape:
        value = penalty(z)
    gradient = tape.gradient(value, z)
    assert np.isfinite(value)
    assert gradient is None or np.isfinite(gradient).all()


def test_one_example_tells_nothing():
    x = np.ones((1, 4), "float32")
    assert float(dependence.distance_correlation(x, x)) == 0
    assert float(dependence.hsic(dependence.gaussian_kernel(x), dependence.gaussian_kernel(x))) == 0
