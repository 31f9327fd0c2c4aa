"""What an attacker said about every victim, and the scores that follow from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields

import numpy as np

from keras_privpart.auditing.scoring import metrics


@dataclass(frozen=True)
class Evidence(ABC):
    """One attacker's answers about the victims, in the victims' order: a frozen dataclass of arrays, which a cache can keep."""

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

    @property
    def whole(self) -> float:
        """What the headline's differences are measured by: 1 for scores from 0 to 1."""
        return 1.0

    def ignorant(self) -> Evidence | None:
        """What there is to say of the same victims without seeing anything; None where the evidence itself cannot tell."""
        return None

    def arrays(self) -> dict[str, np.ndarray]:
        """All that there is to keep, by field; fields without a value are left out."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}


@dataclass(frozen=True)
class Pictures(Evidence):
    """Reconstructed images.

    Attributes:
        ssim, mse, psnr: of every victim's reconstruction, `[n]`.
        sample: the first reconstructions themselves `[k, h, w, c]` in [0, 1], for the report.
        ms_ssim: `[n]`; None for pictures that are too small, see `metrics.ms_ssim`.
        identified: whether a classifier of real pictures tells each reconstruction's class, `[n]` of 0 and 1; None where there is none.
        images: all reconstructions `[n, h, w, c]`, for who judges them before they are forgotten; see `forgetful`.
    """

    ssim: np.ndarray
    mse: np.ndarray
    psnr: np.ndarray
    sample: np.ndarray = field(repr=False)
    ms_ssim: np.ndarray | None = None
    identified: np.ndarray | None = None
    images: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def of(cls, truth: np.ndarray, images: np.ndarray, keep: int) -> Pictures:
        """Scores reconstructions `[n, h, w, c]` in [0, 1]; the first `keep` of them are for the report."""
        scored = metrics.ssim(truth, images), metrics.mse(truth, images), metrics.psnr(truth, images)
        return cls(*scored, images[:keep], metrics.ms_ssim(truth, images), images=images)

    def forgetful(self, identified: np.ndarray | None = None) -> Pictures:
        """The same without all the images, but with what a classifier made of them."""
        return Pictures(self.ssim, self.mse, self.psnr, self.sample, self.ms_ssim, identified)

    @property
    def headline(self) -> str:
        return "ssim"

    def __len__(self) -> int:
        return len(self.ssim)

    def scores(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        per_victim = {name: getattr(self, name) for name in ("ssim", "ms_ssim", "mse", "psnr", "identified")}
        return {name: metrics.mean(values, weights) for name, values in per_victim.items() if values is not None}


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
            positive, surety = self.truth == 1, self.probabilities[:, 1]
            scores["auc"] = metrics.auc(positive, surety, weights)
            scores["advantage"] = metrics.advantage(positive, surety, weights)
            scores["tpr_at_fpr"] = metrics.tpr_at_fpr(positive, surety, weights)
        return scores


@dataclass(frozen=True)
class Ranks(Evidence):
    """Where the truth stood among candidates.

    Attributes:
        first: how likely the attacker named each victim, `[n]`: 1 or 0, ties counting their share.
        reciprocal: 1 / rank of the truth, `[n]`, averaged over ties.
        candidates: how many there were, the truth among them, `[n]`.
    """

    first: np.ndarray
    reciprocal: np.ndarray
    candidates: np.ndarray

    @property
    def headline(self) -> str:
        return "rank_1"

    def __len__(self) -> int:
        return len(self.first)

    def scores(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        return {
            "rank_1": metrics.mean(self.first, weights),
            "mean_reciprocal_rank": metrics.mean(self.reciprocal, weights),
            "chance": metrics.mean(1 / self.candidates, weights),
        }


@dataclass(frozen=True)
class Regressions(Evidence):
    """Guessed numbers, of several properties.

    Attributes:
        truth, answers: of every victim `[n, properties]`.
        names: of the properties, `[properties]`, texts.
    """

    truth: np.ndarray
    answers: np.ndarray
    names: np.ndarray

    @property
    def headline(self) -> str:
        return "explained_variance"

    def __len__(self) -> int:
        return len(self.truth)

    def scores(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The share of each property's variance that the answers explain, never below 0, by name, and the mean of all."""
        each = {str(n): metrics.explained(t, a, weights) for n, t, a in zip(self.names, self.truth.T, self.answers.T, strict=True)}
        return {"explained_variance": np.mean(list(each.values()), axis=0) if each else metrics.mean(np.zeros(len(self)), weights), **each}
