"""Who knows which examples: the attacker's own, and the victims', which no attacker trains on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_privpart.auditing.knowledge.images import not_images
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.several_inputs import Inputs, shapes_of

NATURAL_DUPLICATES = 0.01
FEWEST = 10


@dataclass(frozen=True)
class Split:
    """Attackers learn from `known`, choose their weights by `held_out`, and are scored on `victims`.

    Attributes:
        dropped: examples taken out of the attacker's data because the victims have the same ones.
        people: whose picture each victim is, `[n]`; None where the audit does not know.
    """

    known: Samples
    held_out: Samples
    victims: Samples
    dropped: int = 0
    people: np.ndarray | None = None

    @property
    def owned(self) -> int:
        """How many examples the attacker has."""
        return len(self.known) + len(self.held_out)

    def limited(self, budget: int) -> Split:
        """The same for an attacker who has `budget` examples only: the first ones, so that a larger budget holds the smaller one."""
        held = min(len(self.held_out), budget - 1, max(1, round(budget * len(self.held_out) / self.owned)))
        return replace(self, known=self.known[: budget - held], held_out=self.held_out[:held])


@dataclass(frozen=True)
class Seen:
    """How many examples the model was trained on as well: of the attacker's, and of the victims'."""

    attacker: int
    victims: int


def split(train: Samples, test: Samples, share: float, seed: int) -> Split:
    """Divides `train` at random into `known` and `held_out`; `test` are the victims.

    Real data sets hold a few equal pictures twice. Where at most 1 % of the test examples are found in `train`, those are taken out of
    `train` and counted; where more are, the split itself is wrong.

    Args:
        train, test: what the caller gave.
        share: of `train` that is held out.
        seed: of the division.

    Raises:
        AuditError: the two differ in shape, overlap, or hold fewer than 10 examples.
    """
    if shapes_of(train.x) != shapes_of(test.x):
        raise AuditError(
            f"Received training inputs of shape {shapes_of(train.x)} and test inputs of shape {shapes_of(test.x)}; expected one "
            "shape. Prepare both alike."
        )
    known, victims = _digests(train.x), _digests(test.x)
    everyone, hidden = set(known), set(victims)
    overlap = sum(d in everyone for d in victims)
    if overlap > NATURAL_DUPLICATES * len(test):
        raise AuditError(
            f"Received {overlap} of {len(test)} test examples that are in the training data as well; expected none (up to 1 % natural "
            "duplicates are taken out). Attackers must not train on their victims: split the data anew."
        )
    shared = np.array([d in hidden for d in known])
    train = train[~shared]
    for name, samples in (("training", train), ("test", test)):
        if len(samples) < FEWEST:
            raise AuditError(f"Received {len(samples)} {name} examples; expected at least {FEWEST}. Give the audit more data.")
    order = np.random.default_rng(seed).permutation(len(train))
    count = min(len(train) - 1, max(1, round(share * len(train))))
    return Split(train[order[count:]], train[order[:count]], test, int(shared.sum()))


def seen_in_training(train: Samples, test: Samples, trained_on: Iterable[Samples]) -> Seen:
    """Counts the examples that the model was trained on, which pass by in parts and are not held.

    Raises:
        AuditError: the shapes differ, or more than 1 % of the victims are among them: a model answers otherwise for what it has seen.
    """
    seen: set[bytes] = set()
    for part in trained_on:
        if shapes_of(part.x) != shapes_of(test.x):
            raise AuditError(
                f"Received trained_on of shape {shapes_of(part.x)} and victims of shape {shapes_of(test.x)}; expected one. "
                "Give the examples as the model was given them."
            )
        seen.update(_digests(part.x))
    counts = Seen(*(sum(d in seen for d in _digests(samples.x)) for samples in (train, test)))
    if counts.victims > NATURAL_DUPLICATES * len(test):
        raise AuditError(
            f"Received {counts.victims} of {len(test)} victims that the model was trained on; expected none (up to 1 % natural duplicates "
            "are let pass). Choose victims that the model has never seen."
        )
    return counts


def _digests(x: Any) -> list[bytes]:
    """One hash per example; bytes and floats of the same picture have the same."""
    if isinstance(x, Inputs):
        return [b"".join(parts) for parts in zip(*(_digests(array) for array in x.arrays.values()), strict=True)]
    scale = np.float32(255 if x.dtype == np.uint8 and not_images(x) is None else 1)
    rows = x.astype("float32") / scale if x.dtype == np.uint8 or np.issubdtype(x.dtype, np.floating) else x
    return [hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest() for row in rows]
