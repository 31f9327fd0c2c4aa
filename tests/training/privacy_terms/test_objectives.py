"""Objectives against worked examples and against scikit-image."""

import math

import numpy as np
import pytest
import tensorflow as tf
from skimage.metrics import structural_similarity

from keras_privpart.training.privacy_terms import objectives


def images(shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


@pytest.mark.parametrize(("side", "window"), [(28, 11), (11, 11), (10, 9), (8, 7), (4, 3)])
def test_the_ssim_window_is_the_largest_odd_one_that_fits(side, window):
    assert objectives.ssim_window(side, 28) == window


def test_ssim_agrees_with_scikit_image():
    a = images((3, 32, 32, 1))
    b = np.clip(a + 0.2 * images(a.shape, 1), 0, 1)
    # scikit-image truncates its Gaussian at 3.5 sigma, which is the 11x11 window, and averages without the borders as well.
    want = [
        structural_similarity(x[..., 0], y[..., 0], data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for x, y in zip(a, b, strict=True)
    ]
    assert np.allclose(objectives.ssim(a, b), want, atol=1e-5)


def test_ssim_of_an_image_with_itself_is_one():
    assert np.allclose(objectives.ssim(images((2, 8, 8, 3)), images((2, 8, 8, 3))), 1)


def test_mse_by_hand():
    assert np.allclose(objectives.mse(np.zeros((2, 2, 1, 1)), np.array([[[[1.0]], [[2.0]]], [[[0.0]], [[0.0]]]])), [2.5, 0])


def test_prior_cross_entropy_by_hand():
    # three of one class, one of another: -log(3/4) for the three, -log(1/4) for the one
    want = [math.log(4 / 3)] * 3 + [math.log(4)]
    assert np.allclose(objectives.prior_cross_entropy(np.array([1, 1, 1, 0]), 2), want, atol=1e-6)


def test_recovered_share_is_bounded_and_flat_for_what_is_worse_than_a_guess():
    share = objectives.recovered_share(np.array([0.0, 0.5, 1.0, 7.0], "float32"), np.ones(4, "float32"))
    assert np.allclose(share, [1, 0.5, 0, 0])


def test_recovered_share_of_a_constant_target_is_finite():
    assert np.isfinite(objectives.recovered_share(np.zeros(2, "float32"), np.zeros(2, "float32"))).all()


def test_l1_by_hand():
    assert np.allclose(objectives.l1(np.zeros((1, 2, 1, 1)), np.array([[[[1.0]], [[-2.0]]]])), [1.5])


@pytest.mark.parametrize("side", [8, 28, 200])
def test_ms_ssim_is_one_for_equal_images_and_falls_with_noise(side):
    a = images((2, side, side, 1))
    some, more = (np.clip(a + scale * images(a.shape, 1), 0, 1) for scale in (0.1, 0.4))
    same, little, much = (np.asarray(objectives.ms_ssim(a, b)) for b in (a, some, more))
    assert np.allclose(same, 1, atol=1e-4)
    assert (same > little).all()
    assert (little > much).all()
    assert np.isfinite(tf.convert_to_tensor(much)).all()


@pytest.mark.parametrize("side", [200, 197])
def test_ms_ssim_of_five_scales_is_tensorflows_own(side):
    a = images((2, side, side, 3))
    b = np.clip(a + 0.3 * images(a.shape, 1), 0, 1)
    assert np.allclose(objectives.ms_ssim(a, b), tf.image.ssim_multiscale(a, b, 1.0), atol=1e-5)


def test_ms_ssim_of_a_negative_has_a_gradient():
    a = images((4, 28, 28, 1))
    b = tf.Variable(1 - a)
    with tf.GradientTape() as tape:
        loss = 1 - objectives.ms_ssim(a, b)
    assert np.isfinite(tape.gradient(loss, b)).all()
    with tf.GradientTape() as tape:
        tape.watch(b)
        theirs = tf.image.ssim_multiscale(a, b, 1.0, power_factors=[0.3, 0.7], filter_size=7)
    assert not np.isfinite(tape.gradient(theirs, b)).all(), "what ours is there for"


def test_binary_cross_entropy_by_hand():
    assert np.allclose(objectives.binary_cross_entropy([1, 0], np.array([[0.0], [math.log(3)]])), [math.log(2), math.log(4)])


def test_the_mean_of_others_leaves_an_example_out():
    x = np.array([[0.0], [3.0], [6.0]], "float32")
    assert np.allclose(objectives.mean_of_others(x), [[4.5], [3.0], [1.5]])
    assert np.allclose(objectives.mean_of_others(x[:1]), 0.5), "alone in its batch: nothing of its own"


def test_class_means_by_hand():
    x = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [8.0, 9.0]], "float32")
    want = [[3, 4], [2, 3], [1, 2], [2, 3]]  # the last one is alone in its class and gets the mean of all others
    assert np.allclose(objectives.class_mean_of_others(x, np.array([0, 0, 0, 1]), 3), want)


def test_the_entropy_gap_by_hand():
    p = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 1e-9]])
    entropy = -(p * np.log(p)).sum(axis=1)
    assert np.allclose(objectives.max_entropy_gap(np.log(p)), 1 - entropy / math.log(2), atol=1e-6)
    assert np.allclose(
        objectives.max_entropy_gap(np.array([[0.0], [math.log(3)]], "float32")), objectives.max_entropy_gap(np.log(p[[0, 1]]))
    )
    heads = np.log(np.stack([p[:1], p[1:2]], axis=1))
    assert np.allclose(objectives.max_entropy_gap(heads), (1 - entropy / math.log(2))[:2].mean())


def test_the_gap_to_the_prior_is_a_divergence():
    q = np.array([[0.25, 0.75]], "float32")
    assert np.allclose(objectives.prior_gap(q, np.log(q)), 0, atol=1e-6)
    assert np.allclose(objectives.prior_gap(q, np.zeros((1, 2), "float32")), 0.25 * math.log(0.5) + 0.75 * math.log(1.5), atol=1e-6)
