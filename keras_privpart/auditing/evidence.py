"""What an attacker said about every victim, and the scores that follow from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from keras_privpart.auditing import metrics


class Evidence(ABC):
    """One attacker's answers about the victims, in the victims' order."""

    @property
    @abstractmethod
    def headline(self) -> str:
        """The score by which attackers of this kind are compared; higher means that more leaks."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of victims."""

    @abstractmethod
    def scores(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Every score by name, `[...]` for weights `[..., n]` (how often each victim counts), a number without."""


@dataclass(frozen=True)
class Pictures(Evidence):
    """Reconstructed images.

    Attributes:
        ssim, mse, psnr: of every victim's reconstruction, `[n]`.
        sample: the first reconstructions themselves `[k, h, w, c]` in [0, 1], for the report.
    """

    ssim: np.ndarray
    mse: np.ndarray
    psnr: np.ndarray
    sample: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, truth: np.ndarray, images: np.ndarray, keep: int) -> Pictures:
        """Scores reconstructions `[n, h, w, c]` in [0, 1] and keeps the first `keep` of them."""
        return cls(metrics.ssim(truth, images), metrics.mse(truth, images), metrics.psnr(truth, images), images[:keep])

    @property
    def headline(self) -> str:
        return "ssim"

    def __len__(self) -> int:
        return len(self.ssim)

    def scores(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        return {name: metrics.mean(getattr(self, name), weights) for name in ("ssim", "mse", "psnr")}


@dataclass(frozen=True)
class Guesses(Evidence):
    """Guessed classes of an attribute.

    Attributes:
        truth: class of every victim `[n]`, from 0.
        probabilities: the attacker's `[n, classes]`.
    """

    truth: np.ndarray
    probabilities: np.ndarray

    @property
    def headline(self) -> str:
        return "auc" if self.probabilities.shape[1] == 2 else "balanced_accuracy"

    def __len__(self) -> int:
        return len(self.truth)

    def scores(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        answers = self.probabilities.argmax(axis=1)
        scores = {
            "accuracy": metrics.accuracy(self.truth, answers, weights),
            "balanced_accuracy": metrics.balanced_accuracy(self.truth, answers, weights),
            "majority_rate": metrics.majority_rate(self.truth, weights),
        }
        if self.probabilities.shape[1] == 2:
            scores["auc"] = metrics.auc(self.truth == 1, self.probabilities[:, 1], weights)
            scores["advantage"] = metrics.advantage(self.truth == 1, self.probabilities[:, 1], weights)
        return scores
