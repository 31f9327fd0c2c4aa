"""`OpenSet`: who of some people it is, where strangers ask too. Enrolled people, helpers and unseen people are attacked apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_privpart.auditing.knowledge import people
from keras_privpart.auditing.knowledge.splits import Split
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError

ENROLLED, HELPERS, UNSEEN = "enrolled", "helpers", "unseen"
GROUPS = (ENROLLED, HELPERS, UNSEEN)
WITH, WITHOUT = "attackers with all groups' pictures", "attackers with pictures of that group alone"
FALSE_ALARMS = 0.05


@dataclass(frozen=True)
class OpenSet:
    """Which people belong to which group. Whoever is in neither list is *unseen*: by the model, by its defence and by its operator.

    Args:
        enrolled: the people whom the task tells apart.
        helpers: people whom the defence saw, and by whom the operator sets its threshold, but who are not enrolled.
        false_alarms: the share of strangers' pictures that the operator takes for somebody enrolled, above 0 and under 1.

    Raises:
        AuditError: nobody is enrolled, somebody is in both lists, or `false_alarms` is no such share.

    Example:
        >>> groups = OpenSet(enrolled=[1, 2, 3], helpers=[7, 8])
        >>> groups.of(np.array([1, 7, 9])).tolist()
        ['enrolled', 'helpers', 'unseen']
    """

    enrolled: Sequence[Any]
    helpers: Sequence[Any] = ()
    false_alarms: float = FALSE_ALARMS

    def __post_init__(self) -> None:
        both = np.intersect1d(self.enrolled, self.helpers).tolist() if len(self.helpers) else []
        if not len(self.enrolled) or both:
            twice = f", of whom {both[:3]} are helpers too" if both else ""
            raise AuditError(
                f"Received {len(self.enrolled)} enrolled people{twice}; expected at least one, and nobody in both lists. Give each "
                "person's number, as the target group= has it, once."
            )
        if not 0 < self.false_alarms < 1:
            raise AuditError(f"Received false_alarms={self.false_alarms!r}; expected a share above 0 and under 1. Give 0.05.")

    def of(self, who: np.ndarray) -> np.ndarray:
        """The group of each person `[n]`, one of `GROUPS`."""
        return np.where(np.isin(who, self.enrolled), ENROLLED, np.where(np.isin(who, self.helpers), HELPERS, UNSEEN))

    def pictures(self, samples: Samples, group: str, name: str) -> Samples:
        """The pictures of one group of people; `group` is the target that tells whose they are."""
        return samples[self.of(people.whose(samples, group)) == name]


@dataclass(frozen=True)
class WhoOrUnknown:
    """The decision of an open set: who it is, where the highest score exceeds the threshold; elsewhere that it is unknown."""

    threshold: float

    def __call__(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """From scores `[n, people]` to `[n, people + 1]` of 0 and 1, unknown last."""
        scores = outputs[0]
        known = scores.max(axis=1, keepdims=True) > self.threshold
        return np.concatenate([np.eye(scores.shape[1])[scores.argmax(axis=1)] * known, ~known], axis=1).astype("float32")


def threshold(scores: np.ndarray, false_alarms: float) -> float:
    """The score `[n, people]` that such a share of strangers' pictures exceeds."""
    return float(np.quantile(scores.max(axis=1), 1 - false_alarms))


def protocols(data: Split, group: str, groups: OpenSet, attributes: Sequence[str], seed: int) -> dict[str, Split | str]:
    """Who knows which examples: victims of each group, attackers with and without the other groups' pictures.

    No attacker has a picture of its victims. Where the data do not part them already, half of a group's people at random are its victims.

    Args:
        data: the ordinary division of the examples.
        group: key of the target that says whose example it is.
        groups: who is in which.
        attributes: the private ones.
        seed: of the division.

    Returns:
        By protocol the division, or a sentence that says why it cannot be had from these data.
    """
    owned, victims = people.own_and_victims(data, group)
    owners, seen = people.whose(owned, group), people.whose(victims, group)
    found: dict[str, Split | str] = {}
    for name in GROUPS:
        common = np.intersect1d(owners, seen[groups.of(seen) == name])
        hidden = people.halved(common, owned, owners, attributes, seed) if len(common) else common
        targets = victims[(groups.of(seen) == name) & (np.isin(seen, hidden) | ~np.isin(seen, common))]
        theirs = {WITH: ~np.isin(owners, hidden), WITHOUT: ~np.isin(owners, hidden) & (groups.of(owners) == name)}
        for which, kept in theirs.items():
            parted = people.parted(owned[kept], targets, group, seed)
            found[f"{name} people, {which}"] = people.checked(parted, group, attributes)
    return found
