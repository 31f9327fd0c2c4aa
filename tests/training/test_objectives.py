"""Objectives against worked examples and against scikit-image."""

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from keras_privpart.training import objectives


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
