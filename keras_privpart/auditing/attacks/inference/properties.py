"""Properties of a picture beyond its class, computed from the picture itself: brightness, colour, place, size, slant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from threadpoolctl import threadpool_limits

from keras_privpart.auditing.attacks.base.attack import Attack, fitted
from keras_privpart.auditing.attacks.base.codes import Codes
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.knowledge.images import as_images, not_images
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring.evidence import Regressions
from keras_privpart.datasets import Samples

LOOKS = 3
MOST_FEATURES = 128
_PENALTIES = np.geomspace(1e-2, 1e6, 9)
_PATIENCE = 10
PROPERTIES = "computed properties"


class PropertiesAttack(Attack):
    """Regresses what a picture is beyond its class from what is seen: by ridge regression and by gradient-boosted trees.

    For each property, of the two regressors and the plain mean the one counts that explains most of the held-out examples. Where there is
    noise they learn from three looks at every example. Of more than 128 numbers they see the leading principal components. There
    are as many trees as the effort has epochs, at least 50, fewer when the held-out loss stops falling.

    References:
        Friedman, "Greedy Function Approximation: A Gradient Boosting Machine", Annals of Statistics 2001.
        Hu, "Visual Pattern Recognition by Moment Invariants", IRE Transactions on Information Theory 1962 (moments).
    """

    family = "computed properties"
    concurrent = True
    cheap = True

    def __init__(self) -> None:
        super().__init__("computed properties", PROPERTIES)
        self._codes: Codes | None = None
        self._reduce: PCA | None = None
        self._answers: dict[str, Callable[[np.ndarray], np.ndarray]] = {}

    def inapplicable(self, samples: Samples) -> str | None:
        return not_images(samples.x)

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self.notes = ()
        self._codes = codes = Codes.learn(view, held_out.x)
        rows = np.concatenate([codes.of(view.see(known.x)) for _ in range(LOOKS if codes.noisy else 1)])
        wide = rows.shape[1] > MOST_FEATURES
        self._reduce = PCA(min(MOST_FEATURES, len(rows)), random_state=seed).fit(rows) if wide else None
        features, checked = self._features(rows), self._features(codes.of(view.see(held_out.x)))
        own, theirs = properties(as_images(known)), properties(as_images(held_out))
        looks = len(rows) // len(known)
        with threadpool_limits(1):  # small fits: threads that wait for each other take longer than one that does not
            self._answers = {
                name: self._regressor((features, np.tile(values, looks)), (checked, theirs[name]), effort, seed)
                for name, values in own.items()
                if np.std(values) > 1e-6
            }

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Regressions:
        features = self._features(fitted(self._codes).of(seen))
        truth = properties(as_images(victims))
        names = list(self._answers)
        with threadpool_limits(1):
            answers = np.stack([self._answers[name](features) for name in names], axis=1) if names else np.zeros((len(victims), 0))
        return Regressions(np.stack([truth[n] for n in names], axis=1) if names else answers, answers, np.array(names, dtype=str))

    def _features(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._reduce is None else self._reduce.transform(rows)

    def _regressor(
        self, known: tuple[np.ndarray, np.ndarray], check: tuple[np.ndarray, np.ndarray], effort: Effort, seed: int
    ) -> Callable[[np.ndarray], np.ndarray]:
        mean = float(known[1].mean())
        ridge = RidgeCV(_PENALTIES).fit(*known)
        trees = HistGradientBoostingRegressor(
            max_iter=max(50, effort.epochs), max_leaf_nodes=15, early_stopping=True, n_iter_no_change=_PATIENCE, random_state=seed
        ).fit(*known, X_val=check[0], y_val=check[1])
        ways: list[Callable[[np.ndarray], np.ndarray]] = [lambda x: np.full(len(x), mean), ridge.predict, trees.predict]
        return min(ways, key=lambda way: float(np.mean(np.square(way(check[0]) - check[1]))))


def properties(images: np.ndarray) -> dict[str, np.ndarray]:
    """What can be said of any pictures `[n, h, w, c]` in [0, 1], each `[n]`.

    Brightness is the mean of all pixels, of each colour too where there are several; row and column are the centre of what is bright, of
    0 to 1; size is its root mean square distance from there, in sides; length compares its longer axis with the shorter, and slant is the
    sine of twice the angle of the longer axis, times how much longer it is: 0 for what is round.
    """
    grey = images.astype("float64").mean(axis=-1)
    height, width = grey.shape[1:]
    found = {"brightness": grey.mean(axis=(1, 2))}
    if images.shape[-1] > 1:
        found.update({f"colour {i + 1}": images[..., i].astype("float64").mean(axis=(1, 2)) for i in range(images.shape[-1])})
    total = grey.sum(axis=(1, 2), keepdims=True)
    mass = np.where(total > 0, grey / np.maximum(total, 1e-12), 1 / (height * width))
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    found["row"], found["column"] = (mass.sum(axis=2) * rows).sum(axis=1), (mass.sum(axis=1) * columns).sum(axis=1)
    down = rows[None, :, None] - found["row"][:, None, None]
    right = columns[None, None, :] - found["column"][:, None, None]
    dd, rr, dr = ((mass * product).sum(axis=(1, 2)) for product in (down**2, right**2, down * right))
    spread = dd + rr
    found["size"] = np.sqrt(spread)
    found["length"] = np.hypot(dd - rr, 2 * dr) / np.maximum(spread, 1e-12)
    found["slant"] = 2 * dr / np.maximum(spread, 1e-12)
    return found
