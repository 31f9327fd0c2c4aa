"""Nearest neighbours: an attribute looked up among the attacker's own labelled examples. No training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from keras_privpart.auditing.attacks.base.attack import fitted
from keras_privpart.auditing.attacks.base.codes import Codes, distances
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.attacks.inference.attributes import AttributeAttack, balancing
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring.evidence import Guesses

COUNTS = (1, 3, 7, 15, 31, 63)
METRICS = ("euclidean", "cosine", "mahalanobis")
LOOKS = 8
_CHECKED = 1024
_WHITENED = 512  # of longer codes each number is scaled by itself
_CELLS = 1 << 23  # of a table of distances at a time


class NeighboursAttack(AttributeAttack):
    """The k nearest of the attacker's examples vote, every class with the same weight in all.

    Codes are in units of the view's noise (`codes.Codes`), the attacker's are means of eight looks where there is any. Distances are
    Euclidean, cosine from the mean code, or Mahalanobis by the codes' own covariance; which of them, and k of 1 to 63, is chosen on the
    held-out examples.

    Args:
        attribute, unseen: see `AttributeAttack`.

    References:
        Cover and Hart, "Nearest Neighbor Pattern Classification", IEEE Transactions on Information Theory 1967.
    """

    concurrent = True
    cheap = True

    def __init__(self, attribute: str, unseen: bool = False) -> None:
        super().__init__("neighbours", attribute, unseen)
        self._codes: Codes | None = None
        self._bank: dict[str, tuple[_Metric, np.ndarray]] = {}
        self._indices_known = np.empty(0, "int64")
        self._chosen = (METRICS[0], 1)

    def _learn(
        self, view: View, known: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray], effort: Effort, seed: int
    ) -> None:
        self._codes = codes = Codes.learn(view, held_out[0])
        rows, self._indices_known = codes.centres(view, known[0], LOOKS), known[1]
        self._bank = {name: (metric := _Metric.of(name, rows), metric.placed(rows)) for name in METRICS}
        x, truth = held_out[0][:_CHECKED], held_out[1][:_CHECKED]
        seen = codes.of(view.see(x))
        scored = {(name, k): self._goodness(truth, votes) for name in METRICS for k, votes in self._votes(seen, name).items()}
        self._chosen = max(scored, key=lambda choice: scored[choice])

    def _probabilities(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        rows = fitted(self._codes).of(seen)
        name, k = self._chosen
        return self._votes(rows, name)[k]

    def _votes(self, rows: np.ndarray, name: str) -> dict[int, np.ndarray]:
        """Shares of the votes `[n, classes]` for every k that there are examples for."""
        metric, bank = self._bank[name]
        weights = balancing(self._indices_known, self.classes)
        counts = [k for k in COUNTS if k <= len(bank)]
        found: dict[int, list[np.ndarray]] = {k: [] for k in counts}
        for part in _chunks(metric.placed(rows), len(bank)):
            squares = distances(part, bank)
            nearest = np.argpartition(squares, counts[-1] - 1, axis=1)[:, : counts[-1]]
            order = np.take_along_axis(nearest, np.argsort(np.take_along_axis(squares, nearest, axis=1), axis=1, kind="stable"), axis=1)
            classes = self._indices_known[order]
            votes = np.cumsum(np.eye(self.classes)[classes] * weights[order][..., None], axis=1)
            for k in counts:
                found[k].append(votes[:, k - 1] / votes[:, k - 1].sum(axis=1, keepdims=True))
        return {k: np.concatenate(parts) for k, parts in found.items()}

    def _goodness(self, truth: np.ndarray, probabilities: np.ndarray) -> float:
        evidence = Guesses(truth, probabilities)
        return float(np.nan_to_num(evidence.scores()[evidence.headline]))


@dataclass(frozen=True)
class _Metric:
    """Turns codes so that plain distances are those of a metric."""

    shift: np.ndarray
    scale: np.ndarray | None = None
    unit_length: bool = False

    @classmethod
    def of(cls, name: str, rows: np.ndarray) -> _Metric:
        shift = rows.mean(axis=0)
        return cls(shift, _whitening(rows - shift) if name == "mahalanobis" else None, name == "cosine")

    def placed(self, rows: np.ndarray) -> np.ndarray:
        rows = rows - self.shift
        if self.scale is not None:
            rows = rows * self.scale if self.scale.ndim == 1 else rows @ self.scale
        if self.unit_length:
            rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return rows.astype("float32")


def _whitening(rows: np.ndarray) -> np.ndarray:
    """What makes rows `[n, d]` of mean 0 white: a matrix `[d, d]`, or factors `[d]` where there are over 512 numbers or few rows."""
    if rows.shape[1] > _WHITENED or len(rows) < 2 * rows.shape[1]:
        variances = np.square(rows.astype("float64")).mean(axis=0)
        return 1 / np.sqrt(np.maximum(variances, 1e-8 * variances.max()) + 1e-30)
    values, vectors = np.linalg.eigh(np.cov(rows.T.astype("float64")).reshape(rows.shape[1], -1))
    return vectors / np.sqrt(np.maximum(values, 1e-8 * values[-1]) + 1e-30)


def _chunks(rows: np.ndarray, others: int) -> Iterator[np.ndarray]:
    step = max(1, _CELLS // others)
    for i in range(0, len(rows), step):
        yield rows[i : i + step]
