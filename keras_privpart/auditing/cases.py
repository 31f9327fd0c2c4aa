"""What attacks are asked: with which examples, by which effort, after how many looks; and which victims choose among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keras_privpart.auditing.attacks import Attack, Effort
from keras_privpart.auditing.knowledge.splits import Split

FEWEST_TO_DIVIDE = 20


@dataclass(frozen=True, eq=False)
class Case:
    """One question that attacks are asked.

    Attributes:
        data: who knows which examples.
        effort: what one fit costs to begin with.
        budget: how many examples the attacker was limited to; None for all.
        people: which people the attacker knows, see `people` and `open_set`; empty where the audit does not tell them apart.
        looks: how many looks at every input the attacker gets.
        frames: whether each look is at another near duplicate of the input, see `frames.frame`.
    """

    data: Split
    effort: Effort
    budget: int | None = None
    people: str = ""
    looks: int = 1
    frames: bool = False

    def kind_of(self, attack: Attack) -> str:
        """What the attack is after; under different protocols, different things."""
        return f"{attack.kind} ({self.people})" if self.people else attack.kind

    def words(self) -> str:
        """For progress: `100 examples, same people, 16 looks`."""
        parts = [f"{self.budget:,} examples"] if self.budget else []
        parts += [self.people] if self.people else []
        parts += [f"{self.looks} {'near duplicates' if self.frames else 'looks'}"] if self.looks > 1 else []
        return f" ({', '.join(parts)})" if parts else ""


@dataclass(frozen=True)
class Halves:
    """The victims in two halves: by one the strongest attack is chosen, on the other its numbers are reported.

    Attributes:
        choosing, reported: which victims, `[n]`, truth values. Both hold all of them where there is nothing to choose.
    """

    choosing: np.ndarray
    reported: np.ndarray

    @classmethod
    def of(cls, data: Split, attacks: int, seed: int) -> Halves:
        """Divides at random, whole people where the audit knows who is who; not at all for one attack or fewer than 20 victims."""
        units = np.arange(len(data.victims)) if data.people is None else np.unique(data.people, return_inverse=True)[1].reshape(-1)
        count = int(units.max()) + 1
        if attacks < 2 or count < FEWEST_TO_DIVIDE:
            everyone = np.ones(len(units), bool)
            return cls(everyone, everyone)
        chosen = np.zeros(count, bool)
        chosen[np.random.default_rng([seed, 1]).permutation(count)[: count // 2]] = True
        return cls(chosen[units], ~chosen[units])
