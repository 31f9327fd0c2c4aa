"""`Reading`: how an attacker's guesses are spread, for plots: confusion matrix and ROC curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_privpart.auditing.scoring import metrics
from keras_privpart.auditing.scoring.evidence import Evidence, Guesses

MOST_CLASSES = 12
_POINTS = 101


@dataclass(frozen=True)
class Reading:
    """Guesses about all victims, averaged over attacker seeds.

    Attributes:
        confusion: share of the victims of each class (row) that was taken for each class (column); a class that no victim has is a row of
            zeros. Empty with more than 12 classes.
        roc: pairs of false and true positive rate, from (0, 0) to (1, 1), at most 101; empty unless there are two classes.
    """

    confusion: tuple[tuple[float, ...], ...]
    roc: tuple[tuple[float, float], ...] = ()


def readings(evidence: Sequence[Evidence]) -> Reading | None:
    """The reading of one model's evidence, an entry for every attacker seed; None where nothing was guessed."""
    guesses = [e for e in evidence if isinstance(e, Guesses)]
    if not guesses:
        return None
    classes = guesses[0].probabilities.shape[1]
    return Reading(_confusion(guesses, classes) if classes <= MOST_CLASSES else (), _mean_roc(guesses) if classes == 2 else ())


def _confusion(guesses: Sequence[Guesses], classes: int) -> tuple[tuple[float, ...], ...]:
    counts = np.zeros((classes, classes))
    for g in guesses:
        np.add.at(counts, (g.truth, g.probabilities.argmax(axis=1)), 1)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return tuple(tuple(round(float(v), 4) for v in row) for row in shares)


def _mean_roc(guesses: Sequence[Guesses]) -> tuple[tuple[float, float], ...]:
    """True positive rates at fixed false ones, averaged over seeds."""
    if len(np.unique(guesses[0].truth)) < 2:
        return ()
    grid = np.linspace(0, 1, _POINTS)
    curves = [metrics.roc(g.truth == 1, g.probabilities[:, 1]) for g in guesses]
    rates = np.mean([np.interp(grid, curve[:, 0], curve[:, 1]) for curve in curves], axis=0)
    points = [(0.0, 0.0), *zip(grid.tolist(), rates.tolist(), strict=True)]
    return tuple((round(x, 4), round(y, 4)) for x, y in points)
