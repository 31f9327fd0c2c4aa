"""Probes: inference of a private attribute from what is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart.auditing.attacks.base.attack import fitted
from keras_privpart.auditing.attacks.base.learner import Effort, Learner
from keras_privpart.auditing.attacks.inference.attributes import AttributeAttack, balancing
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.training.privacy_terms import networks


def _cross_entropy(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Weighted cross-entropy; truth `[batch, 2]` holds the class and the example's weight."""
    labels = tf.cast(truth[:, 0], tf.int32)
    return truth[:, 1] * tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


class ProbeAttack(AttributeAttack):
    """A network that classifies an attribute.

    Every class weighs the same in training, so that a rare one is not given up and balanced accuracy means something. Weights are
    those of the epoch with the lowest equally weighted cross-entropy on the held-out examples.

    Args:
        attribute: key of the attribute in the targets; any whole numbers, texts or truth values. With the task's key it infers the label.
        probe: `"linear"`, `"mlp"` or `"conv"`, see `training.privacy_terms.networks.probe`.
        unseen: see `AttributeAttack`.

    References:
        Song and Shmatikov, "Overlearning Reveals Sensitive Attributes", ICLR 2020.
    """

    concurrent = True

    def __init__(self, attribute: str, probe: str = "mlp", unseen: bool = False) -> None:
        super().__init__(probe, attribute, unseen)
        self.probe = probe
        self._learners: dict[Any, Learner] = {}
        self._learner: Learner | None = None

    def _learn(
        self, view: View, known: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray], effort: Effort, seed: int
    ) -> None:
        truth, check = (self._truth(indices) for _, indices in (known, held_out))
        seen = [tf.constant(t) for t in view.see(held_out[0])]
        self._learner = self._prepared(tuple(tuple(t.shape[1:]) for t in seen), self.classes)
        self._learner.fit(lambda: view.chunks(known[0], truth), (seen, tf.constant(check)), len(known[0]), effort, seed)

    def _probabilities(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        logits = fitted(self._learner).predict([tf.constant(t) for t in seen]).astype("float64")
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def _prepared(self, shapes: tuple[tuple[int, ...], ...], units: int) -> Learner:
        """The compiled learner for tensors of these shapes."""
        if (shapes, units) not in self._learners:
            self._learners[shapes, units] = Learner(lambda: networks.probe(shapes, units, self.probe), _cross_entropy)
        return self._learners[shapes, units]

    def _truth(self, indices: np.ndarray) -> np.ndarray:
        """Class and weight of every example, `[n, 2]`."""
        return np.stack([indices, balancing(indices, self.classes)], axis=1).astype("float32")
