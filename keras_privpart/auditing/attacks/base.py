"""`Attack`: what every family of attackers has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from keras_privpart.auditing.attacks.learner import Effort
from keras_privpart.auditing.evidence import Evidence
from keras_privpart.auditing.views import View
from keras_privpart.datasets import Samples

RECONSTRUCTION = "reconstruction"


class Attack(ABC):
    """A fresh attacker. The same object is fitted again and again, from scratch: on the boundary, its floor and its ceiling, seed by seed.

    Attributes:
        name: what tables call it; unique within an audit.
        kind: what it is after: `"reconstruction"`, or the key of a private attribute. Attacks of one kind are compared by their
            headline score, and the strongest counts.
        notes: what the last `fit` has to tell beside its result, each a sentence.
    """

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.notes: tuple[str, ...] = ()

    @abstractmethod
    def inapplicable(self, samples: Samples) -> str | None:
        """Why the attack cannot be carried out on such samples; None if it can. The report lists it as not tested."""

    @abstractmethod
    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        """Learns to attack what `view` shows.

        Args:
            view: query access to what is attacked, with fresh channel noise at every look.
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
        """
