"""Probes: inference of a private attribute from what is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart.auditing.attacks.base import Attack
from keras_privpart.auditing.attacks.learner import Effort, Learner
from keras_privpart.auditing.evidence import Guesses
from keras_privpart.auditing.views import View
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.training import networks


def _cross_entropy(truth: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Weighted cross-entropy; truth `[batch, 2]` holds the class and the example's weight."""
    labels = tf.cast(truth[:, 0], tf.int32)
    return truth[:, 1] * tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


class ProbeAttack(Attack):
    """A classifier of a private attribute, trained from scratch on the attacker's labelled examples.

    Every class weighs the same in training, so that a rare one is not given up and balanced accuracy means something. Weights are
    those of the epoch with the lowest equally weighted cross-entropy on the held-out examples.

    Args:
        attribute: key of the attribute in the targets; any whole numbers, texts or truth values.
        probe: `"linear"`, `"mlp"` or `"conv"`, see `training.networks.probe`.

    References:
        Song and Shmatikov, "Overlearning Reveals Sensitive Attributes", ICLR 2020.
    """

    def __init__(self, attribute: str, probe: str = "mlp") -> None:
        super().__init__(f"{probe} probe, {attribute}", attribute)
        self.attribute = attribute
        self.probe = probe
        self._classes = np.empty(0)
        self._learners: dict[Any, Learner] = {}
        self._learner: Learner | None = None

    def inapplicable(self, samples: Samples) -> str | None:
        return None if self.attribute in samples.targets else f"the data set has no key {self.attribute!r}"

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self.notes = ()
        labels = [np.asarray(s.targets[self.attribute]).reshape(len(s)) for s in (known, held_out)]
        self._classes = np.unique(np.concatenate(labels))
        if len(self._classes) < 2:
            raise AuditError(
                f"Received one value of {self.attribute!r} in the attacker's data, {self._classes[0]!r}; expected at least two. "
                "Give data in which the attribute varies, or leave it out of private."
            )
        truth, check = (self._truth(values) for values in labels)
        seen = [tf.constant(t) for t in view.see(held_out.x)]
        shapes = tuple(tuple(t.shape[1:]) for t in seen)
        key = (shapes, len(self._classes))
        if key not in self._learners:
            units = len(self._classes)
            self._learners[key] = Learner(lambda: networks.probe(shapes, units, self.probe), _cross_entropy)
        self._learner = self._learners[key]
        self._learner.fit(lambda: view.chunks(known.x, truth), (seen, tf.constant(check)), len(known), effort, seed)

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Guesses:
        if self._learner is None:
            raise AuditError("Received victims before any fit; expected fit(...) first. Call fit.")
        logits = self._learner.predict([tf.constant(t) for t in seen]).astype("float64")
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return Guesses(self._indices(np.asarray(victims.targets[self.attribute])), shifted / shifted.sum(axis=1, keepdims=True))

    def _truth(self, values: np.ndarray) -> np.ndarray:
        """Class and weight of every example, `[n, 2]`: weights make all classes present count the same, with mean 1."""
        indices = self._indices(values)
        counts = np.bincount(indices, minlength=len(self._classes))
        present = np.count_nonzero(counts)
        return np.stack([indices, len(indices) / (present * counts[indices])], axis=1).astype("float32")

    def _indices(self, values: np.ndarray) -> np.ndarray:
        values = values.reshape(len(values))
        unknown = np.setdiff1d(values, self._classes)
        if unknown.size:
            raise AuditError(
                f"Received {unknown.size} values of {self.attribute!r} among the victims that the attacker's data lack, "
                f"{unknown[0]!r} first; expected none. Split the data so that every value is on both sides."
            )
        return np.searchsorted(self._classes, values)
