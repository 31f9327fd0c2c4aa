"""Gradient-boosted trees: attribute inference by a family that has nothing in common with the networks that a defence trains against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from keras_privpart.auditing.attacks.base.attack import fitted
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.attacks.inference.attributes import AttributeAttack, balancing
from keras_privpart.auditing.knowledge.views import View

MOST_FEATURES = 256
LOOKS = 3
_PATIENCE = 10


class TreesAttack(AttributeAttack):
    """scikit-learn's histogram gradient boosting on the flattened tensors.

    Of more than 256 numbers, the trees see the leading 256 principal components of the attacker's examples. Where there is noise they
    learn from three looks at every example. Every split chooses among half of the features. There are as many trees per class as the effort
    has epochs, fewer when the held-out loss stops falling.

    Args:
        attribute, unseen: see `AttributeAttack`.

    References:
        Ke et al., "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS 2017.
    """

    concurrent = True

    def __init__(self, attribute: str, unseen: bool = False) -> None:
        super().__init__("trees", attribute, unseen)
        self._reduce: PCA | None = None
        self._trees: HistGradientBoostingClassifier | None = None

    def _learn(
        self, view: View, known: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray], effort: Effort, seed: int
    ) -> None:
        first = _flat(view.see(known[0]))
        repeats = np.array_equal(first, _flat(view.see(known[0])))
        looks = [first] if repeats else [first, *(_flat(view.see(known[0])) for _ in range(LOOKS - 1))]
        features, indices = np.concatenate(looks), np.tile(known[1], len(looks))
        wide = features.shape[1] > MOST_FEATURES
        self._reduce = PCA(min(MOST_FEATURES, len(features)), random_state=seed).fit(features) if wide else None
        common = np.isin(held_out[1], indices)  # trees cannot be checked on a class that they never saw
        self._trees = HistGradientBoostingClassifier(
            max_iter=effort.epochs,
            max_leaf_nodes=15,
            max_features=0.5,
            early_stopping=bool(common.any()),
            n_iter_no_change=_PATIENCE,
            random_state=seed,
        )
        checked = {}
        if common.any():
            x, y = self._features(_flat(view.see(held_out[0][common]))), held_out[1][common]
            checked = {"X_val": x, "y_val": y, "sample_weight_val": balancing(y, self.classes)}
        with threadpool_limits(1):  # attacks run beside each other: threads that wait for each other take longer than one that does not
            self._trees.fit(self._features(features), indices, sample_weight=balancing(indices, self.classes), **checked)

    def _probabilities(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        trees = fitted(self._trees)
        found = np.zeros((len(seen[0]), self.classes))
        found[:, trees.classes_] = trees.predict_proba(self._features(_flat(seen)))
        return found

    def _features(self, flat: np.ndarray) -> np.ndarray:
        return flat if self._reduce is None else self._reduce.transform(flat)


def _flat(tensors: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([t.reshape(len(t), -1) for t in tensors], axis=1)
