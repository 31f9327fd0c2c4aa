"""De-censoring: what a defence took out of the boundary is guessed back by the features of a model that nobody censored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA

from keras_privpart.auditing.attacks.base.attack import fitted, known_inside
from keras_privpart.auditing.attacks.base.learner import Effort, Learner
from keras_privpart.auditing.attacks.base.shared_model import Remembered
from keras_privpart.auditing.attacks.inference.probe import ProbeAttack
from keras_privpart.auditing.attacks.inference.translated import TranslatedAttack, Translation
from keras_privpart.auditing.knowledge.views import View, boundary_view
from keras_privpart.datasets import Samples
from keras_privpart.partitioning.halves import Partition
from keras_privpart.training.privacy_terms import networks, objectives
from keras_privpart.training.task import trained_afresh, unlabelled, unscored

MOST_FEATURES = 512
_LEAST_VARIANCE = 1e-4  # of the first component's


def decensoring(attribute: str, probe: str = "mlp", unseen: bool = False) -> TranslatedAttack:
    """Trains an uncensored model of the same architecture on the attacker's data, maps what is seen to its boundary, and probes that.

    References:
        Song and Shmatikov, "Overlearning Reveals Sensitive Attributes", ICLR 2020, section 4.2 (de-censoring).
    """
    return TranslatedAttack(ProbeAttack(attribute, probe, unseen), _Decensoring(), "de-censored", "de-censoring")


class _Decensoring(Translation):
    """To the boundary of an uncensored model: at most 512 of its principal components, by a regression with two hidden layers."""

    def __init__(self) -> None:
        self._twin: Remembered[Partition] = Remembered()
        self._learners: dict[Any, Learner] = {}
        self._learner: Learner | None = None

    def inapplicable(self, samples: Samples) -> str | None:
        return unlabelled(samples)

    def inapplicable_to(self, view: View) -> str | None:
        if view.inside is None:
            return f"{view.name} is not given as halves, and the attack needs their architecture"
        return unscored(view.inside.partition.model)

    def learn(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        partition = known_inside(view).partition
        # Floor and boundary share it: both belong to the same model.
        twin = self._twin.get((partition.model, known.x, seed), lambda: trained_afresh(partition, known, held_out, seed)[0])
        uncensored = boundary_view(twin, "an uncensored boundary")
        features, check = (_flat(uncensored.see(samples.x)) for samples in (known, held_out))
        target, truth = _whitened(features, check, seed)
        seen = [tf.constant(t) for t in view.see(held_out.x)]
        shapes, units = tuple(tuple(t.shape[1:]) for t in seen), target.shape[1]
        if (shapes, units) not in self._learners:
            self._learners[shapes, units] = Learner(lambda: networks.probe(shapes, units, "mlp"), objectives.mse)
        self._learner = self._learners[shapes, units]
        self._learner.fit(lambda: view.chunks(known.x, target), (seen, tf.constant(truth)), len(known), effort, seed)

    def apply(self, seen: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [fitted(self._learner).predict([tf.constant(t) for t in seen])]


def _whitened(features: np.ndarray, check: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Leading principal components of features `[n, d]`, of unit variance; those that hardly vary would be amplified rounding."""
    components = PCA(min(MOST_FEATURES, *features.shape), svd_solver="randomized", random_state=seed).fit(features)
    variances = components.explained_variance_
    kept = variances > _LEAST_VARIANCE * variances[0]
    scale = np.sqrt(variances[kept])
    target, truth = ((components.transform(f)[:, kept] / scale).astype("float32") for f in (features, check))
    return target, truth


def _flat(tensors: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([t.reshape(len(t), -1) for t in tensors], axis=1)
