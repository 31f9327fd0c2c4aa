"""The result of one attack, the pictures beside it, and their way through JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_privpart.auditing.scoring.confusion import Reading
from keras_privpart.auditing.scoring.intervals import Leakage, Score


@dataclass(frozen=True)
class AttackResult:
    """One attack on the boundary, with its own floor and ceiling.

    Attributes:
        attack: its name.
        kind: what it is after: `"reconstruction"` or a private attribute, with the protocol where people are told apart.
        headline: the score by which attacks of the kind are compared; higher means that more leaks.
        boundary, ceiling: every score by name, on the defended boundary and on the undefended one.
        floors: every score by name, for each floor: `"answer"`, all that the server half answers, and `"top-1"`, which class comes first.
        floor_from: the floor with the higher headline score: the one that counts.
        leakage: from the headline scores.
        family: one of `threat_model.ATTACKS`.
        budget: how many examples the attacker was limited to; None for all.
        people: `"same people"` or `"disjoint people"`, see `people`; empty where the audit does not tell people apart.
        known: how many examples the attacker had, 15 % of them to choose weights by.
        victims: how many it was scored on.
        readings: how the guesses are spread, by `"boundary"`, `"floor"` and `"ceiling"`, for attributes.
        notes: what happened on the way, each a sentence.
    """

    attack: str
    kind: str
    headline: str
    boundary: Mapping[str, Score]
    floors: Mapping[str, Mapping[str, Score]]
    floor_from: str
    ceiling: Mapping[str, Score]
    leakage: Leakage
    family: str = ""
    budget: int | None = None
    people: str = ""
    known: int = 0
    victims: int = 0
    readings: Mapping[str, Reading] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def floor(self) -> Mapping[str, Score]:
        """The scores of the floor that counts."""
        return self.floors[self.floor_from]

    @property
    def name(self) -> str:
        """The attack's, with its budget where it has one: unique within its kind."""
        return self.attack if self.budget is None else f"{self.attack}, {self.budget:,} examples"


@dataclass(frozen=True)
class PictureRows:
    """Test images beside what the strongest decoder made of them, each `[k, h, w, c]` in [0, 1]."""

    attack: str
    original: np.ndarray
    undefended: np.ndarray
    defended: np.ndarray
    floor: np.ndarray


def result_from(data: Mapping[str, Any]) -> AttackResult:
    sides = {side: _table(data[side]) for side in ("boundary", "ceiling")}
    floors = {name: _table(table) for name, table in data["floors"].items()}
    spread = {side: Reading(tuple(map(tuple, r["confusion"])), tuple(map(tuple, r["roc"]))) for side, r in data["readings"].items()}
    leakage = Leakage(**data["leakage"])
    return AttackResult(**{**data, **sides, "floors": floors, "leakage": leakage, "readings": spread, "notes": tuple(data["notes"])})


def _table(data: Mapping[str, Any]) -> dict[str, Score]:
    return {name: score_from(score) for name, score in data.items()}


def score_from(data: Mapping[str, Any]) -> Score:
    value, low, high = (_number(data[name]) for name in ("value", "low", "high"))
    return Score(value, low, high, *(tuple(_number(v) for v in data[name]) for name in ("seeds", "models")))


def _number(value: float | None) -> float:
    """JSON's null is what was no number."""
    return float("nan") if value is None else float(value)


def finite(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, Mapping):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
