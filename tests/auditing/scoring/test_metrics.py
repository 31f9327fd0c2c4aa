"""Scores against scikit-image and scikit-learn, and under bootstrap weights."""

import numpy as np
import pytest
import skimage.metrics
import sklearn.metrics

from keras_privpart.auditing.attacks.reconstruction import losses
from keras_privpart.auditing.scoring import metrics
from keras_privpart.training.privacy_terms import objectives

RNG = np.random.default_rng(0)
TOLERANCE = 1e-5


def image_pairs(height, width, channels, n=3):
    x = RNG.uniform(size=(n, height, width, channels)).astype("float32")
    return x, np.clip(x + RNG.normal(scale=0.2, size=x.shape), 0, 1).astype("float32")


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_scikit_image(channels):
    x, y = image_pairs(32, 28, channels)
    maps = [
        skimage.metrics.structural_similarity(
            a, b, data_range=1.0, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )[1]
        for a, b in zip(x, y, strict=True)
    ]
    inside = np.array([np.mean(m[5:-5, 5:-5]) for m in maps])  # scikit-image pads the border, the published SSIM leaves it out
    np.testing.assert_allclose(metrics.ssim(x, y), inside, atol=TOLERANCE)


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 40, 2), (32, 30, 3), (70, 20, 1)])
def test_the_training_loss_is_the_same_ssim(shape):
    x, y = image_pairs(*shape)
    np.testing.assert_allclose(losses.ssim(x, y), objectives.ssim(x, y), atol=TOLERANCE)


def ms_ssim_by_scipy(x, y, weights):
    """The published formula, picture by picture, with scikit-image's Gaussian filter; contrast at every scale, luminance at the last."""
    from skimage.filters import gaussian

    def blurred(image):
        return gaussian(image, sigma=1.5, truncate=3.5, mode="reflect")[5:-5, 5:-5]

    value = np.ones(x.shape[-1])
    for i, weight in enumerate(weights):
        channels = [(x[..., c], y[..., c]) for c in range(x.shape[-1])]
        for c, (a, b) in enumerate(channels):
            mean_a, mean_b = blurred(a), blurred(b)
            variance_a, variance_b, covariance = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2, blurred(a * b) - mean_a * mean_b
            contrast = (2 * covariance + 0.03**2) / (variance_a + variance_b + 0.03**2)
            luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
            value[c] *= np.mean(contrast if i < len(weights) - 1 else contrast * luminance) ** weight
        if i < len(weights) - 1:
            x, y = (v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2, -1).mean(axis=(1, 3)) for v in (x, y))
    return value.mean()


@pytest.mark.parametrize(("side", "scales"), [(24, 2), (48, 3), (176, 5)])
def test_ms_ssim_is_the_published_formula(side, scales):
    x, y = image_pairs(side, side, 3)
    assert metrics.ms_ssim_scales(side, side) == scales
    weights = np.array(objectives.MS_SSIM_WEIGHTS[:scales]) / sum(objectives.MS_SSIM_WEIGHTS[:scales])
    want = [ms_ssim_by_scipy(a.astype("float64"), b.astype("float64"), weights) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(metrics.ms_ssim(x, y), want, atol=TOLERANCE)


@pytest.mark.parametrize(("side", "scales"), [(8, 1), (21, 1), (22, 2), (43, 2), (44, 3), (175, 4), (400, 5)])
def test_small_pictures_have_fewer_scales(side, scales):
    assert metrics.ms_ssim_scales(side, 500) == scales
    if scales == 1:
        assert metrics.ms_ssim(np.zeros((1, side, 30, 1)), np.zeros((1, side, 30, 1))) is None


def test_mse_and_psnr_are_those_of_scikit_image():
    x, y = image_pairs(9, 7, 3)
    pairs = list(zip(x, y, strict=True))
    np.testing.assert_allclose(metrics.mse(x, y), [skimage.metrics.mean_squared_error(a, b) for a, b in pairs], atol=TOLERANCE)
    np.testing.assert_allclose(
        metrics.psnr(x, y), [skimage.metrics.peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in pairs], atol=TOLERANCE
    )
    assert metrics.psnr(x, x).tolist() == [100.0] * 3


@pytest.mark.parametrize("ties", [False, True])
def test_auc_and_advantage_are_those_of_scikit_learn(ties):
    truth, scores = RNG.uniform(size=200) < 0.3, RNG.normal(size=200)
    scores = np.round(scores + truth) if ties else scores + truth
    assert metrics.auc(truth, scores) == pytest.approx(sklearn.metrics.roc_auc_score(truth, scores), abs=TOLERANCE)
    false, true, _ = sklearn.metrics.roc_curve(truth, scores)
    assert metrics.advantage(truth, scores) == pytest.approx(np.max(true - false), abs=TOLERANCE)
    assert metrics.tpr_at_fpr(truth, scores) == pytest.approx(np.max(true[false <= 0.01]), abs=TOLERANCE)
    curve = metrics.roc(truth, scores)
    every_false, every_true, _ = sklearn.metrics.roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve, np.stack([every_false, every_true], axis=1), atol=TOLERANCE)


@pytest.mark.parametrize("classes", [2, 5])
def test_accuracies_are_those_of_scikit_learn(classes):
    truth = RNG.choice(classes, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum(), size=300)
    answers = np.where(RNG.uniform(size=300) < 0.6, truth, RNG.integers(classes, size=300))
    assert metrics.accuracy(truth, answers) == pytest.approx(sklearn.metrics.accuracy_score(truth, answers), abs=TOLERANCE)
    want = sklearn.metrics.balanced_accuracy_score(truth, answers)
    assert metrics.balanced_accuracy(truth, answers) == pytest.approx(want, abs=TOLERANCE)
    assert metrics.majority_rate(truth) == pytest.approx(np.bincount(truth).max() / 300, abs=TOLERANCE)


@pytest.mark.parametrize("score", ["accuracy", "balanced_accuracy", "auc", "advantage", "tpr_at_fpr"])
def test_weights_count_examples(score):
    truth, answers = RNG.integers(2, size=40), np.round(RNG.uniform(size=40))
    counts = RNG.integers(0, 3, size=(4, 40))
    function = getattr(metrics, score)
    repeated = [function(np.repeat(truth, c), np.repeat(answers, c)) for c in counts]
    np.testing.assert_allclose(function(truth, answers, counts), repeated, atol=1e-12)


def test_a_resample_without_a_class_is_not_a_number():
    truth, scores = np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3])
    assert np.isnan(metrics.auc(truth, scores, np.array([[1.0, 2.0, 0.0]]))).all()
    assert np.isnan(metrics.tpr_at_fpr(truth, scores, np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]]))).all()
    assert np.isnan(metrics.balanced_accuracy(truth, truth, np.array([1.0, 2.0, 0.0])))
