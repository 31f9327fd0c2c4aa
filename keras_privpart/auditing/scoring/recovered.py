"""Evidence of inputs that are no pictures: what was recovered of tokens, of signals, and of the columns of a table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_privpart.auditing.scoring import metrics
from keras_privpart.auditing.scoring.evidence import Evidence

LISTED = 64  # columns that have a score of their own


@dataclass(frozen=True)
class Tokens(Evidence):
    """Recovered tokens.

    Attributes:
        top_1: share of each victim's tokens that the attacker names at their places, `[n]`; padding does not count.
        top_5: the same for tokens among the attacker's five best guesses.
        unigram_1, unigram_5: the same for who sees nothing, and names what is commonest at the place.
    """

    top_1: np.ndarray
    top_5: np.ndarray
    unigram_1: np.ndarray
    unigram_5: np.ndarray

    @property
    def headline(self) -> str:
        return "top_1"

    def __len__(self) -> int:
        return len(self.top_1)

    def scores(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        return {name: metrics.mean(values, weights) for name, values in self.arrays().items()}

    def ignorant(self) -> Tokens:
        return Tokens(self.unigram_1, self.unigram_5, self.unigram_1, self.unigram_5)


@dataclass(frozen=True)
class Signals(Evidence):
    """Recovered signals.

    Attributes:
        snr: signal-to-noise ratio of each reconstruction in decibels, `[n]`, see `metrics.snr`.
        spectral: log-spectral distance of each reconstruction in decibels, `[n]`, see `metrics.spectral_distance`: lower is nearer.
        mean_snr, mean_spectral: the same for who sees nothing, and gives the attackers' mean signal.
    """

    snr: np.ndarray
    spectral: np.ndarray
    mean_snr: np.ndarray
    mean_spectral: np.ndarray

    @classmethod
    def of(cls, truth: np.ndarray, answers: np.ndarray, mean: np.ndarray) -> Signals:
        """Scores reconstructions `[n, time, channels]` beside one that is the same for all, `[time, channels]`."""
        same = np.broadcast_to(mean, truth.shape)
        pairs = [(metrics.snr(truth, a), metrics.spectral_distance(truth, a)) for a in (answers, same)]
        return cls(*pairs[0], *pairs[1])

    @property
    def headline(self) -> str:
        return "snr"

    @property
    def whole(self) -> float:
        return 20.0

    def __len__(self) -> int:
        return len(self.snr)

    def scores(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        return {"snr": metrics.mean(self.snr, weights), "spectral": metrics.mean(self.spectral, weights)}

    def ignorant(self) -> Signals:
        return Signals(self.mean_snr, self.mean_spectral, self.mean_snr, self.mean_spectral)


@dataclass(frozen=True)
class Tables(Evidence):
    """Recovered columns: numbers and categories.

    Attributes:
        truth, answers: of every victim, `[n, columns]`, categories as indices.
        names: of the columns, texts `[columns]`.
        categories: which columns are, truth values `[columns]`.
        guesses: what who sees nothing says, `[columns]`: means, and the commonest categories.
    """

    truth: np.ndarray
    answers: np.ndarray
    names: np.ndarray
    categories: np.ndarray
    guesses: np.ndarray

    @property
    def headline(self) -> str:
        return "recovered"

    def __len__(self) -> int:
        return len(self.truth)

    def scores(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The explained variance of each number and the accuracy of each category, by name, and the mean share recovered of all columns.

        Of a category that is the part of the way from the commonest value's share to 1. Tables of more than 64 columns have the mean alone.
        """
        own, shares = [], []
        for truth, answers, category in zip(self.truth.T, self.answers.T, self.categories, strict=True):
            score = metrics.accuracy(truth, answers, weights) if category else metrics.explained(truth, answers, weights)
            own.append(score)
            shares.append(metrics.above_majority(truth, score, weights) if category else score)
        mean = {"recovered": np.mean(shares, axis=0)}
        listed = len(self.names) if 1 < len(self.names) <= LISTED or bool(self.categories.all()) else 0
        return {**mean, **dict(zip(map(str, self.names[:listed]), own, strict=False))}

    def ignorant(self) -> Tables:
        return Tables(self.truth, np.broadcast_to(self.guesses, self.answers.shape), self.names, self.categories, self.guesses)
