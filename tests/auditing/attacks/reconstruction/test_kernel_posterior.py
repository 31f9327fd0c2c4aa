"""The kernel posterior trains nothing: it must be the Bayes estimate where that is known, and no more than the class where that is all."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import Effort, KernelPosteriorAttack
from keras_privpart.auditing.knowledge.images import as_images
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError

EFFORT = Effort(1, 32)


def noisy(stddev, seed=0):
    rng = np.random.default_rng(seed)
    return View("noise", lambda x: x + rng.normal(0, stddev, x.shape).astype("float32"))


def fitted(view, digits, **options):
    train, _ = digits
    attack = KernelPosteriorAttack(**options)
    attack.fit(view, train[:400], train[400:], EFFORT, seed=0)
    return attack


def test_on_a_decision_it_is_the_mean_picture_of_the_class(digits):
    train, test = digits
    lookup = {x.tobytes(): y for s in digits for x, y in zip(s.x, s.targets["task"], strict=True)}
    decision = View("the class", lambda x: np.eye(10, dtype="float32")[[lookup[np.asarray(row).tobytes()] for row in x]])
    attack = fitted(decision, digits)
    means = np.stack([train.x[:400][train.targets["task"][:400] == c].mean(axis=0) for c in range(10)])
    np.testing.assert_allclose(attack.reconstruct(decision.see(test.x)), means[test.targets["task"]], atol=1e-4)


def test_with_known_noise_it_is_the_bayes_estimate(digits):
    train, test = digits
    attack = fitted(noisy(0.5), digits, choose="mse")
    seen = noisy(0.5, seed=1).see(test.x)
    known, z = train.x[:400].reshape(400, -1), seen[0].reshape(len(test), -1)
    weights = np.exp(-np.square(z[:, None] - known).sum(axis=2) / (2 * 0.5**2))
    bayes = ((weights / weights.sum(axis=1, keepdims=True)) @ known).reshape(test.x.shape)
    got, best = (np.square(images - test.x).mean() for images in (attack.reconstruct(seen), bayes))
    assert got < 1.1 * best


def test_a_constant_view_gives_one_picture_for_all(digits):
    attack = fitted(View("a wall", lambda x: np.ones((len(x), 3))), digits)
    images = attack.reconstruct([np.ones((5, 3), "float32")])
    np.testing.assert_allclose(images, np.broadcast_to(as_images(digits[0][:400]).mean(axis=0), images.shape), atol=1e-4)


def test_more_noise_never_helps(digits):
    errors = [np.square(fitted(noisy(s), digits).reconstruct(noisy(s, 1).see(digits[1].x)) - digits[1].x).mean() for s in (0.05, 0.5, 5.0)]
    assert errors == sorted(errors)


def test_too_many_pictures_for_the_memory_are_left_out_and_said_so(digits, monkeypatch):
    monkeypatch.setattr("keras_privpart.auditing.attacks.reconstruction.kernel_posterior._BYTES", 4 * (64 + 64) * 100)
    assert fitted(noisy(0.1), digits).notes == ("it compares with the first 100 of 400 pictures, for want of memory",)


def test_errors(digits):
    with pytest.raises(AuditError, match="choose='psnr'; expected one of ssim, mse"):
        KernelPosteriorAttack("psnr")
    assert "[12]" in KernelPosteriorAttack().inapplicable(Samples(np.zeros((5, 12), "int32"), {}))
