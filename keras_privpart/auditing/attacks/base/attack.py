"""`Attack`: what every family of attackers has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.attacks.base.repeatable import Repeatable
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.knowledge.white_box import Inside
from keras_privpart.auditing.scoring.evidence import Evidence
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError

RECONSTRUCTION = "reconstruction"

# What an attacker may need, in the words of a threat model's fields.
WHITE_BOX, DATA, QUERIES, TRAINING_DATA = "white box", "data", "queries", "training data"
NEEDS = (WHITE_BOX, DATA, QUERIES, TRAINING_DATA)

T = TypeVar("T")


class Attack(Repeatable, ABC):
    """A fresh attacker. The same object is fitted again and again, from scratch: on the boundary, its floor and its ceiling, seed by seed.

    Attributes:
        name: what tables call it; unique within an audit.
        kind: what it is after: `"reconstruction"`, or the key of a private attribute. Attacks of one kind are compared by their
            headline score, and the strongest counts.
        notes: what the last `fit` has to tell beside its result, each a sentence.
        family: one of `threat_model.ATTACKS`.
        needs: some of `NEEDS`: what the attacker must have, which a threat model may deny it. All attackers are on the server side: they
            know the server half, and the architecture of the device half.
        concurrent: whether it may be carried out while other attacks are: it draws nothing from the global random state but through a
            `Learner`.
        cheap: whether it takes seconds, without training: it is carried out first and at every seat, and a floor of a trained attack that
            is lower than a cheap one's is replaced by that.
    """

    family: str
    needs: frozenset[str] = frozenset((DATA, QUERIES))
    concurrent: bool = False
    cheap: bool = False

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.notes: tuple[str, ...] = ()

    @property
    def trains(self) -> bool:
        """Whether more epochs may make it stronger."""
        return self.concurrent and not self.cheap

    @abstractmethod
    def inapplicable(self, samples: Samples) -> str | None:
        """Why the attack cannot be carried out on such samples; None if it can. The report lists it as not tested."""

    def inapplicable_to(self, view: View) -> str | None:
        """Why the attack cannot be carried out on this view; None if it can. Most need no more than to look."""
        return None

    @abstractmethod
    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        """Learns to attack what `view` shows.

        Args:
            view: query access to what is attacked, with fresh channel noise at every look; what stands behind it, for attacks that need it.
            known: the attacker's own examples.
            held_out: more of them, to choose weights by.
            effort: what the fit may cost.
            seed: of everything random in the attacker.
        """

    @abstractmethod
    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Evidence:
        """Attacks the victims with what the last `fit` learned.

        Args:
            seen: what the view showed of the victims, once: tensors `[n, ...]`.
            victims: the truth. Only for scoring.

        Returns:
            Evidence of all victims; of the first ones alone where an attack works on each by itself and would take too long.
        """


def fitted(learned: T | None) -> T:
    """What the last fit left; raises where there was none."""
    if learned is None:
        raise AuditError("Received victims before any fit; expected fit(...) first. Call fit.")
    return learned


def known_inside(view: View) -> Inside:
    """What stands behind a view; raises where that is not to be had."""
    if view.inside is None:
        raise AuditError(f"Received {view.name} without what stands behind it; expected Keras halves. Leave this attack out.")
    return view.inside


def no_gradients(view: View) -> str | None:
    """Why attackers cannot take gradients through a view; None if they can."""
    if view.inside is None or not view.inside.differentiable:
        return f"{view.name} is not given as Keras models on one floating-point input, and the attack needs gradients"
    return None
