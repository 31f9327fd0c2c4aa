"""The kernel posterior: the best guess of an attacker who trains nothing, the mean of its own pictures weighted by how likely each is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from keras_privpart.auditing.attacks.base.attack import RECONSTRUCTION, Attack, fitted
from keras_privpart.auditing.attacks.base.codes import Codes, distances
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.knowledge.images import as_images, not_images
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring import metrics
from keras_privpart.auditing.scoring.evidence import Pictures
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError

CHOICES = ("ssim", "mse")
LOOKS = 16  # whose mean an own picture stands for
_FEWEST = 4  # where each is a mean of many looks already
CHECKED = 96
_VARIANCES = np.geomspace(1 / 8, 32, 9)
_BYTES = 1 << 30
_TOGETHER = 128


class KernelPosteriorAttack(Attack):
    """The mean of the attacker's pictures x_i, weighted by exp(-|z - f(x_i)|^2 / 2 t).

    With Gaussian noise of variance t this is the Bayes estimate of the picture, for an attacker whose world is its own pictures: no
    decoder has a lower mean squared error in that world. z and f(x_i) are measured in units of the view's noise, covariances included
    (`codes.Codes`); t is chosen on held-out pictures. On a decision it is the mean picture of the class. Seconds, no training.

    Args:
        choose: the score by which t is chosen, `"ssim"` or `"mse"`.
        keep: how many reconstructions the evidence keeps for the report.

    References:
        Nadaraya, "On Estimating Regression", Theory of Probability and Its Applications 1964.
    """

    family = "kernel posterior"
    concurrent = True
    cheap = True

    def __init__(self, choose: str = "ssim", keep: int = 8) -> None:
        if choose not in CHOICES:
            raise AuditError(f"Received choose={choose!r}; expected one of {', '.join(CHOICES)}. Choose one of them.")
        super().__init__("kernel posterior" if choose == "ssim" else f"kernel posterior, {choose}", RECONSTRUCTION)
        self.choose = choose
        self.keep = keep
        self._codes: Codes | None = None
        self._centres = self._pictures = np.empty((0, 0), "float32")
        self._shape: tuple[int, ...] = ()
        self._variance = 1.0

    def inapplicable(self, samples: Samples) -> str | None:
        return not_images(samples.x)

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self.notes = ()
        codes = Codes.learn(view, held_out.x)
        most = max(1, _BYTES // (4 * (len(codes.shift) + int(np.prod(known.x.shape[1:])))))
        mine = known[:most]
        if len(mine) < len(known):
            self.notes = (f"it compares with the first {len(mine):,} of {len(known):,} pictures, for want of memory",)
        self._centres = codes.centres(view, mine.x, max(_FEWEST, LOOKS // view.looks))
        self._pictures = as_images(mine).reshape(len(mine), -1)
        self._shape = known.x.shape[1:]
        self._codes = codes
        self._variance = self._chosen(codes.of(view.see(held_out.x[:CHECKED])), as_images(held_out[:CHECKED]))

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Pictures:
        return Pictures.of(as_images(victims), self.reconstruct(seen), self.keep)

    def reconstruct(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        """Pictures `[n, h, w, c]` in [0, 1] from what is seen."""
        rows = fitted(self._codes).of(seen)
        found = [self._means(distances(rows[i : i + _TOGETHER], self._centres), self._variance) for i in range(0, len(rows), _TOGETHER)]
        return np.concatenate(found)

    def _means(self, squares: np.ndarray, variance: float) -> np.ndarray:
        weights = np.exp((squares.min(axis=1, keepdims=True) - squares) / (2 * variance))
        means = (weights @ self._pictures) / weights.sum(axis=1, keepdims=True)
        return np.clip(means, 0, 1).reshape(-1, *self._shape)

    def _chosen(self, rows: np.ndarray, truth: np.ndarray) -> float:
        """The variance with the best score on held-out pictures, among multiples of the noise's; without noise, of the nearest distance."""
        parts = [distances(rows[i : i + _TOGETHER], self._centres) for i in range(0, len(rows), _TOGETHER)]
        nearest = float(np.median(np.concatenate([part.min(axis=1) for part in parts])))
        usual = float(np.mean([part.mean() for part in parts]))
        base = 1.0 if fitted(self._codes).noisy else max(nearest, 1e-3 * usual, 1e-12)
        best, chosen = -np.inf, base
        for variance in [base * float(factor) for factor in _VARIANCES]:
            images = np.concatenate([self._means(part, variance) for part in parts])
            found = metrics.ssim(truth, images) if self.choose == "ssim" else -metrics.mse(truth, images)
            if np.mean(found) > best:
                best, chosen = float(np.mean(found)), variance
        return chosen
