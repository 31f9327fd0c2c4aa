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
    """One attack on the boundary; the strongest ones with a floor and ceiling.

    Attributes:
        attack: its name.
        kind: what it is after: `"reconstruction"` or a private attribute, with the protocol where people are told apart.
        headline: the score by which attacks of the kind are compared; higher means that more leaks.
        boundary, ceiling: every score by name, on the defended boundary and on the undefended one. Without a ceiling the attack was not
            among the strongest, and neither floors nor ceiling were measured.
        floors: every score by name, for each floor: `"decision"`, what the operator returns, and `"answer"`, all that the server half
            answers.
        floor_from: the floor that the headline leakage is beyond: the decision.
        leakage: from the headline scores, beyond the decision.
        family: one of `threat_model.ATTACKS`.
        budget: how many examples the attacker was limited to; None for all.
        people: the protocol, see `people` and `open_set`; empty where the audit does not tell people apart.
        known: how many examples the attacker had, 15 % of them to choose weights by.
        victims: how many its numbers are of.
        readings: how the guesses are spread, by `"boundary"`, `"floor"` and `"ceiling"`, for attributes.
        notes: what happened on the way, each a sentence.
        looks: how many looks at every input the attacker had.
        frames: whether each look was at another near duplicate of the input, see `frames.frame`.
        beyond_answer: leakage beyond all that the server half answers; None where it was not measured.
        above_chance: the same above an attacker who sees nothing.
        floors_by: whose floor counts, by floor, where a simpler attacker's was higher than this one's.
        chosen_by: its headline score on the victims by which the strongest attack is chosen; None in reports that did not divide them.
        updates: of its training; None where it has none.
        at_least: whether more training, or more examples, would have made it stronger, or nobody tried: its number is then a lower limit.
        curve: its headline score by number of examples, `(examples, score)`; empty where it was not asked for.
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
    looks: int = 1
    frames: bool = False
    beyond_answer: Leakage | None = None
    above_chance: Leakage | None = None
    floors_by: Mapping[str, str] = field(default_factory=dict)
    chosen_by: float | None = None
    updates: int | None = None
    at_least: bool = False
    curve: tuple[tuple[int, float], ...] = ()

    @property
    def floor(self) -> Mapping[str, Score]:
        """The scores of the floor that counts; empty where none was measured."""
        return self.floors.get(self.floor_from, {})

    @property
    def name(self) -> str:
        """The attack's, with its budget and looks where it has them: unique within its kind."""
        parts = [self.attack, *([f"{self.budget:,} examples"] if self.budget is not None else [])]
        return ", ".join([*parts, *([f"{self.looks} {'frames' if self.frames else 'looks'}"] if self.looks > 1 else [])])

    @property
    def strength(self) -> float:
        """What attacks of a kind are ordered by."""
        return self.boundary[self.headline].value if self.chosen_by is None else self.chosen_by


@dataclass(frozen=True)
class PictureRows:
    """Test images beside what the strongest decoder made of them, each `[k, h, w, c]` in [0, 1]."""

    attack: str
    original: np.ndarray
    undefended: np.ndarray
    defended: np.ndarray
    floor: np.ndarray


def result_from(data: Mapping[str, Any]) -> AttackResult:
    """Of this schema, or of schema 2, whose floors are called otherwise and whose later fields are missing."""
    sides = {side: _table(data[side]) for side in ("boundary", "ceiling")}
    floors = {name: _table(table) for name, table in data["floors"].items()}
    spread = {side: Reading(tuple(map(tuple, r["confusion"])), tuple(map(tuple, r["roc"]))) for side, r in data["readings"].items()}
    gaps = {
        name: None if data.get(name) is None else Leakage(**data[name])
        for name in ("leakage", "beyond_answer", "above_chance")
        if name in data
    }
    curve = tuple((int(n), _number(value)) for n, value in data.get("curve", ()))
    own = {**sides, **gaps, "floors": floors, "readings": spread, "notes": tuple(data["notes"]), "curve": curve}
    return AttackResult(**{**data, **own})


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
