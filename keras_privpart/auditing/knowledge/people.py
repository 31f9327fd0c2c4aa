"""Two protocols for attributes of people: the attacker has seen its victims on other pictures, or it has never seen them.

Identity implies attributes such as gender. An attacker who knows the victims can look up what it cannot read, so the two questions
have different answers, floors and ceilings, and are never mixed in one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keras_privpart.auditing.knowledge.splits import FEWEST, Split
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.several_inputs import joined

SAME, DISJOINT = "same people", "disjoint people"


def protocols(data: Split, group: str, attributes: Sequence[str], seed: int) -> dict[str, Split | str]:
    """Who knows which examples under each protocol; a sentence where one cannot be had from these data.

    *Same people*: the victims whose person is in the attacker's data as well. *Disjoint people*: the attacker learns from some people,
    chooses its weights by others, and is scored on yet others. Where the data do not part them already, the people of both sides are
    divided at random, one half each; people alike in the attributes are divided evenly.

    Args:
        data: the ordinary division of the examples.
        group: key of the target that says whose example it is.
        attributes: the private ones.
        seed: of the division.

    Raises:
        AuditError: the data have no such target.
    """
    owned, victims = own_and_victims(data, group)
    owners, seen = whose(owned, group), whose(victims, group)
    common = np.intersect1d(owners, seen)
    same = Split(data.known, data.held_out, victims[np.isin(seen, common)])
    disjoint = _disjoint(owned, victims, group, common, attributes, seed)
    return {SAME: checked(same, group, attributes), DISJOINT: checked(disjoint, group, attributes)}


def own_and_victims(data: Split, group: str) -> tuple[Samples, Samples]:
    """All of the attacker's examples, and the victims'.

    Raises:
        AuditError: the data do not say whose example is whose.
    """
    for name, samples in (("train", data.known), ("test", data.victims)):
        if group not in samples.targets:
            raise AuditError(
                f"Received {name} with the targets {sorted(samples.targets)}; expected {group!r} among them, to tell people apart. Add it."
            )
    return _joined(data.known, data.held_out), data.victims


def _disjoint(owned: Samples, victims: Samples, group: str, common: np.ndarray, attributes: Sequence[str], seed: int) -> Split:
    owners, seen = whose(owned, group), whose(victims, group)
    hidden = halved(common, owned, owners, attributes, seed) if len(common) else common
    return parted(owned[~np.isin(owners, hidden)], victims[np.isin(seen, hidden) | ~np.isin(seen, common)], group, seed)


def parted(theirs: Samples, targets: Samples, group: str, seed: int) -> Split:
    """An attacker who learns from some of its people, and chooses its weights by others."""
    rest = np.unique(whose(theirs, group)) if len(theirs) else np.empty(0)
    checkers = np.random.default_rng(seed).permutation(rest)[: max(1, round(0.15 * len(rest)))]
    check = np.isin(whose(theirs, group), checkers)
    return Split(theirs[~check], theirs[check], targets)


def halved(people: np.ndarray, owned: Samples, owners: np.ndarray, attributes: Sequence[str], seed: int) -> np.ndarray:
    """One half of the people: neighbours in the order of their attributes are divided by the toss of a coin."""
    rng = np.random.default_rng(seed)
    codes = [np.unique(np.asarray(owned.targets[a]).reshape(len(owned)), return_inverse=True)[1].reshape(-1) for a in attributes]
    typical = [np.array([code[owners == person].mean() for person in people]) for code in codes]
    order = people[np.lexsort((rng.uniform(size=len(people)), *typical))]
    coins = rng.integers(2, size=(len(order) + 1) // 2)
    return order[[2 * i + coin for i, coin in enumerate(coins) if 2 * i + coin < len(order)]]


def checked(split: Split, group: str, attributes: Sequence[str]) -> Split | str:
    """The split with its victims' people; or why nobody can be attacked in it."""
    for name, samples in (("to learn from", split.known), ("to choose weights by", split.held_out), ("to attack", split.victims)):
        if len(samples) < FEWEST:
            return f"it leaves {len(samples)} examples {name}; at least {FEWEST} are needed"
    for attribute in attributes:
        for name, samples in (("attacker's data", split.known), ("victims", split.victims)):
            if len(np.unique(samples.targets[attribute])) < 2:
                return f"it leaves one value of {attribute!r} among the {name}"
    return Split(split.known, split.held_out, split.victims, people=whose(split.victims, group))


def whose(samples: Samples, group: str) -> np.ndarray:
    """Whose each example is, `[n]`."""
    return np.asarray(samples.targets[group]).reshape(len(samples))


def _joined(first: Samples, second: Samples) -> Samples:
    targets = {key: np.concatenate([value, second.targets[key]]) for key, value in first.targets.items()}
    return replace(first, x=joined([first.x, second.x]), targets=targets)
