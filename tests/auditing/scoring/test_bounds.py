"""Bounds where the true minimum error is known in closed form, and the derivatives that they rest on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_privpart.auditing.knowledge.white_box import Inside
from keras_privpart.auditing.scoring import bounds
from keras_privpart.auditing.scoring.bounds import attempted, bound
from keras_privpart.channels import GaussianChannel, LaplaceChannel
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.partition import partition

STDDEV = 0.5
RNG = np.random.default_rng(0)
MIXING = RNG.normal(size=(6, 6)) * np.array([3.0, 2.0, 1.0, 0.7, 0.5, 0.2])
COVARIANCE = MIXING @ MIXING.T
X = (RNG.normal(size=(20_000, 6)) @ MIXING.T).astype("float32")


def linear(kernel):
    """A model whose boundary is `x @ kernel`."""
    x = keras.Input((kernel.shape[0],), name="x")
    layer = keras.layers.Dense(kernel.shape[1], use_bias=False, name="z")
    scores = keras.layers.Dense(2)(layer(x))
    layer.set_weights([kernel.astype("float32")])
    return partition(keras.Model(x, scores), "z")


def noisy(parts, stddev=STDDEV):
    return parts.with_channel(GaussianChannel(stddev, normalize=False))


def least_error(kernel, covariance=COVARIANCE, stddev=STDDEV):
    """Mean squared error per number of the best estimator there is, of Gaussian x from x @ kernel + noise."""
    posterior = np.linalg.inv(np.linalg.inv(covariance) + kernel @ kernel.T / stddev**2)
    return np.trace(posterior) / len(covariance)


@pytest.mark.parametrize("width", [2, 4, 6, 9])
def test_bound_is_tight_for_linear_maps_of_gaussian_inputs(width):
    kernel = np.random.default_rng(width).normal(size=(6, width))
    found = bound(noisy(linear(kernel)), X, examples=3)
    assert found.spectrum == pytest.approx(least_error(kernel), rel=0.03)
    assert 0 < found.dfil <= found.spectrum <= found.prior
    assert (found.directions, found.dimensions, found.covered) == (6, 6, pytest.approx(1.0))


def test_no_estimator_is_better():
    kernel = np.random.default_rng(1).normal(size=(6, 4))
    z = X @ kernel + STDDEV * np.random.default_rng(2).normal(size=(len(X), 4))
    best = np.linalg.inv(np.linalg.inv(COVARIANCE) + kernel @ kernel.T / STDDEV**2) @ kernel / STDDEV**2
    found = bound(noisy(linear(kernel)), X, examples=3)
    error = np.mean(np.square(X - z @ best.T))
    assert error == pytest.approx(found.spectrum, rel=0.03)
    guess = np.mean(np.square(X - X.mean(axis=0)))
    assert guess == pytest.approx(found.prior, rel=0.01)


def test_both_bounds_are_equal_where_all_directions_are_alike():
    x = np.random.default_rng(3).normal(size=(50_000, 4)).astype("float32")
    found = bound(noisy(linear(2 * np.eye(4))), x, examples=2)
    assert found.dfil == pytest.approx(found.spectrum, rel=0.01)
    assert found.spectrum == pytest.approx(1 / (1 + 4 / STDDEV**2), rel=0.03)


def test_without_noise_only_what_is_not_seen_stays_hidden():
    kernel = np.random.default_rng(4).normal(size=(6, 4))
    found = bound(linear(kernel), X, examples=3)
    assert not found.noise
    assert found.dfil == 0.0
    assert found.spectrum == pytest.approx(least_error(kernel, stddev=1e-4), rel=0.03)
    everything = bound(linear(np.eye(6)), X, examples=3)
    assert everything.spectrum == 0.0
    assert everything.psnr == np.inf
    nothing = bound(linear(np.zeros((6, 2))), X, examples=3)
    assert nothing.spectrum == pytest.approx(nothing.prior)


def test_fewer_directions_bound_less():
    kernel = np.random.default_rng(5).normal(size=(6, 6))
    for parts in (linear(kernel[:, :3]), noisy(linear(kernel))):
        found = [bound(parts, X, examples=3, directions=count).spectrum for count in (1, 3, 6)]
        assert found == sorted(found)
        assert found[1] < found[2]


def test_more_noise_bounds_more_and_scales_count_by_feature():
    kernel = np.random.default_rng(6).normal(size=(6, 3))
    weak, strong = (bound(noisy(linear(kernel), s), X, examples=3).spectrum for s in (0.1, 2.0))
    assert weak < strong
    channel = GaussianChannel(1.0, normalize=False, learn_scale=True)
    parts = linear(kernel).with_channel(channel)
    channel.log_scale.assign([np.log(0.5), np.log(2.0), 0.0])
    want = least_error(kernel / np.array([0.5, 2.0, 1.0]), stddev=1.0)
    assert bound(parts, X, examples=3).spectrum == pytest.approx(want, rel=0.03)


def test_directions_are_pushed_through_any_device_half(digits):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    z = keras.layers.MaxPooling2D(name="z")(x)
    model = keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(z)))
    parts = noisy(partition(model, "z"))
    few = digits[0].x[:3]
    basis, variances, total = bounds._principal(digits[0].x, 64)
    assert 0 < len(variances) < 64  # some pixels of the digits are always black
    assert variances.sum() == pytest.approx(total)
    scale = np.array(STDDEV)
    got = bounds._information(Inside(parts), few, basis, (0.0, 1.0), [scale])
    with tf.GradientTape() as tape:
        images = tf.constant(few)
        tape.watch(images)
        z = tf.reshape(partition(model, "z").device(images), [3, -1])
    jacobian = tape.batch_jacobian(z, images).numpy().reshape(3, -1, 64) / STDDEV
    want = np.mean([(j @ basis).T @ (j @ basis) for j in jacobian], axis=0)
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_pictures_as_bytes_are_bounded_as_pictures_in_the_unit_range(open_window, digits):
    x = digits[0].x
    image = keras.Input((8, 8, 1))
    z = keras.layers.Rescaling(1 / 255, name="z")(image)
    from_bytes = partition(keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(z))), "z")
    plain = bound(noisy(open_window), np.round(x * 255) / np.float32(255), examples=2)
    assert bound(noisy(from_bytes), np.round(x * 255).astype("uint8"), examples=2).spectrum == pytest.approx(plain.spectrum, rel=1e-3)


def test_words_and_json_carry_the_assumptions(open_window, digits):
    found = bound(noisy(open_window), digits[0].x, examples=2)
    assert "under assumptions: the inputs are taken for Gaussian" in found.words()
    assert f"a mean squared error of less than {found.spectrum:.3g} per value" in found.words()
    assert "nothing is promised about what a person" in found.words()
    assert found.to_json()["spectrum"] == found.spectrum
    assert found.to_json()["examples"] == 2
    assert found.psnr == pytest.approx(-10 * np.log10(found.spectrum))


def test_what_cannot_be_bounded(open_window, digits):
    x = digits[0].x
    with pytest.raises(AuditError, match=r"1 tensors stands LaplaceChannel.*Expected .* one GaussianChannel with noise on each"):
        bound(open_window.with_channel(LaplaceChannel(1.0)), x)
    with pytest.raises(AuditError, match="at least 10 finite ones"):
        bound(open_window, x[:5])
    with pytest.raises(AuditError, match="examples=0"):
        bound(open_window, x, examples=0)
    ids = keras.Input((4,), dtype="int32")
    z = keras.layers.Embedding(5, 2, name="z")(ids)
    tokens = partition(keras.Model(ids, keras.layers.Dense(2)(keras.layers.Flatten()(z))), "z")
    with pytest.raises(AuditError, match="the device half has no gradients"):
        bound(tokens, np.zeros((20, 4), "int32"))


def test_what_a_report_says_where_there_is_no_bound(open_window, digits):
    x = Samples(digits[0].x, {})
    assert attempted(open_window, x, seed=0).startswith("no noise stands on the boundary")
    assert "of Gaussian noise only" in attempted(open_window.with_channel(LaplaceChannel(1.0)), x, seed=0)
    assert attempted(noisy(open_window), x[:5], seed=0).startswith("it could not be computed: Received 5 examples")


def test_a_report_s_bound_is_that_of_a_draw_of_the_examples(monkeypatch):
    monkeypatch.setattr(bounds, "FITTED", 500)
    parts = noisy(linear(np.random.default_rng(7).normal(size=(6, 4))))
    found = attempted(parts, Samples(X, {}), seed=0)
    assert found.fitted_on == 500
    assert found.spectrum == pytest.approx(bound(parts, X, examples=3).spectrum, rel=0.2)
    assert attempted(parts, Samples(X, {}), seed=0) == found


def test_directions_are_pushed_in_parts_where_inputs_are_large(monkeypatch):
    parts = noisy(linear(np.random.default_rng(8).normal(size=(6, 4))))
    whole = bound(parts, X, examples=2)
    monkeypatch.setattr(bounds, "_TOGETHER_BYTES", 2 * X[0].nbytes)
    assert bound(parts, X, examples=2).spectrum == pytest.approx(whole.spectrum)


def test_limited_power_and_frozen_noise_are_bounded_as_well():
    kernel = np.random.default_rng(8).normal(size=(6, 3))
    wide = linear(kernel).with_channel(GaussianChannel(STDDEV, normalize=False, power=1e6))
    assert bound(wide, X, examples=3).spectrum == pytest.approx(least_error(kernel), rel=0.03)
    narrow = linear(kernel).with_channel(GaussianChannel(STDDEV, normalize=False, power=0.1))
    assert bound(narrow, X, examples=3).spectrum > 1.1 * least_error(kernel)
    frozen = linear(kernel).with_channel(GaussianChannel(STDDEV, normalize=False, frozen=True))
    assert bound(frozen, X, examples=3).spectrum == pytest.approx(least_error(kernel), rel=0.03)
