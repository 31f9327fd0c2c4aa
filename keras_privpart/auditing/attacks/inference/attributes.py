"""`AttributeAttack`: what all inference of a private attribute has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from keras_privpart.auditing.attacks.base.attack import Attack, fitted
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring.evidence import Guesses
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError


class AttributeAttack(Attack):
    """A classifier of an attribute, trained from scratch on the attacker's labelled examples.

    Args:
        how: what names the classifier.
        attribute: key of the attribute in the targets; any whole numbers, texts or truth values.
        unseen: whether it is one that no defence was trained for; the name says so.

    References:
        Song and Shmatikov, "Overlearning Reveals Sensitive Attributes", ICLR 2020 (unseen attributes).
    """

    def __init__(self, how: str, attribute: str, unseen: bool = False) -> None:
        super().__init__(f"{how} probe, {attribute}{' (not defended)' if unseen else ''}", attribute)
        self.family = "unseen attribute" if unseen else "attribute probe"
        self.attribute = attribute
        self._classes: np.ndarray | None = None

    def inapplicable(self, samples: Samples) -> str | None:
        return None if self.attribute in samples.targets else f"the data set has no key {self.attribute!r}"

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self.notes = ()
        values = [np.asarray(s.targets[self.attribute]).reshape(len(s)) for s in (known, held_out)]
        self._classes = np.unique(np.concatenate(values))
        if len(self._classes) < 2:
            raise AuditError(
                f"Received one value of {self.attribute!r} in the attacker's data, {self._classes[0]!r}; expected at least two. "
                "Give data in which the attribute varies, or leave it out."
            )
        self._learn(view, (known.x, self._indices(values[0])), (held_out.x, self._indices(values[1])), effort, seed)

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Guesses:
        fitted(self._classes)
        return Guesses(self._indices(np.asarray(victims.targets[self.attribute])), self._probabilities(seen))

    @property
    def classes(self) -> int:
        """How many values the attribute has in the attacker's data."""
        return len(fitted(self._classes))

    @abstractmethod
    def _learn(
        self, view: View, known: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray], effort: Effort, seed: int
    ) -> None:
        """Learns from inputs and their classes, from 0 `[n]`."""

    @abstractmethod
    def _probabilities(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        """Of every class `[n, classes]`, for what is seen."""

    def _indices(self, values: np.ndarray) -> np.ndarray:
        classes, values = fitted(self._classes), values.reshape(len(values))
        unknown = np.setdiff1d(values, classes)
        if unknown.size:
            raise AuditError(
                f"Received {unknown.size} values of {self.attribute!r} among the victims that the attacker's data lack, "
                f"{unknown[0]!r} first; expected none. Split the data so that every value is on both sides."
            )
        return np.searchsorted(classes, values)


def balancing(indices: np.ndarray, classes: int) -> np.ndarray:
    """Weights `[n]` of mean 1 by which all classes that are present count the same."""
    counts = np.bincount(indices, minlength=classes)
    return len(indices) / (np.count_nonzero(counts) * counts[indices])
