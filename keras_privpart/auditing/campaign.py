"""Runs attacks: each on the boundary, its floor and its ceiling, with several attacker seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from keras_privpart.auditing.attacks import Attack, Effort
from keras_privpart.auditing.evidence import Evidence, Pictures
from keras_privpart.auditing.intervals import compare
from keras_privpart.auditing.report import AttackResult
from keras_privpart.auditing.splits import Split
from keras_privpart.auditing.views import View

SIDES = ("boundary", "floor", "ceiling")
_SEED_STRIDE = 1000


@dataclass(frozen=True)
class Outcome:
    """One attack's result, and the reconstructions that the report may show, by side (from the first seed's attacker)."""

    result: AttackResult
    samples: Mapping[str, np.ndarray]


class Campaign:
    """Everything that the attacks of one audit share.

    Args:
        views: what is seen of an input, for each of `SIDES`.
        data: who knows which examples.
        effort: what one fit may cost.
        seeds: attackers for every side.
        seed: of the audit; attackers have seeds of their own that follow from it.
        announce: called with a few words before each fit.
    """

    def __init__(
        self, views: Mapping[str, View], data: Split, effort: Effort, seeds: int, seed: int, announce: Callable[[str], None]
    ) -> None:
        self._views = views
        self._data = data
        self._effort = effort
        self._attackers = [seed * _SEED_STRIDE + i for i in range(seeds)]
        self._seed = seed
        self._announce = announce
        # Every victim is looked at once for every attacker seed, and all attacks see the same looks.
        self._seen = {side: [view.see(data.victims.x) for _ in self._attackers] for side, view in views.items()}

    def run(self, attack: Attack) -> Outcome:
        """Carries out one attack on all sides with all seeds."""
        notes: list[str] = []
        found = {side: self._on(side, attack, notes) for side in SIDES}
        compared = compare(found["boundary"], found["floor"], found["ceiling"], self._seed)
        result = AttackResult(
            attack=attack.name,
            kind=attack.kind,
            headline=compared.headline,
            boundary=compared.boundary,
            floor=compared.floor,
            ceiling=compared.ceiling,
            leakage=compared.leakage,
            notes=tuple(notes),
        )
        first = {side: evidence[0] for side, evidence in found.items()}
        return Outcome(result, {side: e.sample for side, e in first.items() if isinstance(e, Pictures)})

    def _on(self, side: str, attack: Attack, notes: list[str]) -> list[Evidence]:
        found = []
        for i, attacker in enumerate(self._attackers):
            self._announce(f"{attack.name}: {side}, seed {i + 1} of {len(self._attackers)}")
            attack.fit(self._views[side], self._data.known, self._data.held_out, self._effort, attacker)
            found.append(attack.score(self._seen[side][i], self._data.victims))
            notes += [f"{side}: {note}" for note in attack.notes]
        return found
