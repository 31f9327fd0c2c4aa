"""What a view shows, as rows of numbers in units of its own noise: for attackers who compare what they saw with what they know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_privpart.auditing.knowledge.views import View

LOOKS, FEW = 32, 64  # at so many inputs, so often, the noise is measured
_EACH = 32  # measurements a number needs before its noise may hang together with others'
_FLOOR = 1e-3  # noise below this share of a number's own spread counts as this much
_NUMBERS = 1 << 24  # held at a time while the noise is measured


@dataclass(frozen=True)
class Codes:
    """Scales what a view shows so that its noise is white with variance 1; without noise, so that the mean square distance is 1.

    Attributes:
        shift: `[numbers]`, subtracted first.
        scale: `[numbers]`, or `[numbers, numbers]` where the noise of the numbers hangs together.
        noisy: whether two looks at one input differ.
    """

    shift: np.ndarray
    scale: np.ndarray
    noisy: bool

    @classmethod
    def learn(cls, view: View, x: np.ndarray) -> Codes:
        """Measures the noise on the attacker's own inputs `[n, ...]`."""
        rows = flat(view.see(x))
        shift, spread = rows.mean(axis=0), rows.std(axis=0).astype("float64")
        typical = float(np.sqrt(np.square(spread).mean())) or 1.0
        few = x[: max(2, min(FEW, _NUMBERS // (LOOKS * rows.shape[1])))]
        first, second = flat(view.see(few)), flat(view.see(few))
        if np.array_equal(first, second):
            return cls(shift, np.full(rows.shape[1], 1 / typical, "float32"), False)
        looks = np.stack([first, second, *(flat(view.see(few)) for _ in range(LOOKS - 2))]).astype("float64")
        residuals = (looks - looks.mean(axis=0)).reshape(-1, rows.shape[1])
        count = residuals.shape[0] - len(few)
        least = np.square(_FLOOR * np.maximum(spread, 0.1 * typical))
        if rows.shape[1] <= count // _EACH:
            covariance = residuals.T @ residuals / count + np.diag(least)
            values, vectors = np.linalg.eigh(covariance)
            scale = vectors / np.sqrt(values)
        else:
            scale = 1 / np.sqrt(np.square(residuals).sum(axis=0) / count + least)
        return cls(shift, scale.astype("float32"), True)

    def of(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        """Rows `[n, numbers]` of what was seen."""
        rows = flat(seen) - self.shift
        return rows * self.scale if self.scale.ndim == 1 else rows @ self.scale

    def centres(self, view: View, x: np.ndarray, looks: int) -> np.ndarray:
        """Rows `[n, numbers]` of inputs, averaged over so many looks; one look is enough where there is no noise."""
        looks = looks if self.noisy else 1
        total = flat(view.see(x))
        for _ in range(looks - 1):
            total = total + flat(view.see(x))
        return self.of([total / np.float32(looks)])


def flat(tensors: Sequence[np.ndarray]) -> np.ndarray:
    """All tensors of what was seen side by side, `[n, numbers]`."""
    return np.concatenate([np.asarray(t, "float32").reshape(len(t), -1) for t in tensors], axis=1)


def distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squared distances `[n, m]` of rows `[n, numbers]` from others `[m, numbers]`, not below 0."""
    squares = np.square(rows).sum(axis=1)[:, None] + np.square(others).sum(axis=1)
    return np.maximum(squares - 2 * (rows @ others.T), 0)
