"""`AuditReport`: what the attackers got, beside task accuracy, floor, ceiling, seeds and intervals; as text, JSON and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from keras_privpart.auditing.attacks.base import RECONSTRUCTION
from keras_privpart.auditing.folder import check_absent, write_folder
from keras_privpart.auditing.intervals import WHAT_THE_INTERVAL_IS, Leakage, Score
from keras_privpart.auditing.page import render
from keras_privpart.auditing.wording import summary
from keras_privpart.errors import AuditError

__all__ = ["AttackResult", "AuditReport", "PictureRows", "check_absent"]

SCHEMA_VERSION = 1
REPORT_FILE = "report.json"
PAGE_FILE = "index.html"


@dataclass(frozen=True)
class AttackResult:
    """One attack on the boundary, with its own floor and ceiling.

    Attributes:
        attack: its name.
        kind: what it is after: `"reconstruction"` or a private attribute.
        headline: the score by which attacks of the kind are compared; higher means that more leaks.
        boundary, floor, ceiling: every score by name, on the defended boundary, on the server half's answer alone, and on the
            undefended boundary.
        leakage: from the headline scores.
        notes: what happened on the way, each a sentence.
    """

    attack: str
    kind: str
    headline: str
    boundary: Mapping[str, Score]
    floor: Mapping[str, Score]
    ceiling: Mapping[str, Score]
    leakage: Leakage
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PictureRows:
    """Test images beside what the strongest decoder made of them, each `[k, h, w, c]` in [0, 1]."""

    attack: str
    original: np.ndarray
    undefended: np.ndarray
    defended: np.ndarray
    floor: np.ndarray


@dataclass(frozen=True)
class AuditReport:
    """The result of `audit`.

    Attributes:
        results: one for every attack.
        defended_accuracy, reference_accuracy: of the task, on the victims; None where the task has none.
        seeds: attackers of each kind, trained from different weights.
        known, held_out, victims: how many examples the attackers learned from, chose weights by, and were scored on.
        boundary: what crosses, in words.
        boundary_bytes, input_bytes: of one example; None where a size is free.
        reference: where the ceiling comes from, in words.
        settings: what the attackers were given: epochs, batch size, seed.
        versions: of the software.
        not_tested: what this audit says nothing about, each a sentence.
        notes: what a reader must know to judge the numbers, each a sentence.
        pictures: for the page; not part of the JSON.
    """

    results: tuple[AttackResult, ...]
    defended_accuracy: Score | None
    reference_accuracy: Score | None
    seeds: int
    known: int
    held_out: int
    victims: int
    boundary: str
    boundary_bytes: int | None
    input_bytes: int
    reference: str
    settings: Mapping[str, int]
    versions: Mapping[str, str]
    not_tested: tuple[str, ...]
    notes: tuple[str, ...] = ()
    pictures: PictureRows | None = field(default=None, repr=False, compare=False)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What was attacked: `"reconstruction"` first, then the private attributes, as far as an attack was carried out."""
        return tuple(dict.fromkeys(r.kind for r in sorted(self.results, key=lambda r: r.kind != RECONSTRUCTION)))

    def of(self, kind: str) -> tuple[AttackResult, ...]:
        """All attacks of a kind."""
        found = tuple(r for r in self.results if r.kind == kind)
        if not found:
            raise AuditError(f"Received the kind {kind!r}; this audit has {', '.join(self.kinds) or 'none'}. Choose one of them.")
        return found

    def strongest(self, kind: str = RECONSTRUCTION) -> AttackResult:
        """The attack with the highest headline score on the defended boundary: the one that counts."""
        return max(self.of(kind), key=lambda r: r.boundary[r.headline].value)

    def max_leakage(self, kind: str = RECONSTRUCTION) -> float | None:
        """The largest leakage over all attacks of a kind, whichever is strongest; None where all are undefined."""
        return max((r.leakage.value for r in self.of(kind) if r.leakage.value is not None), default=None)

    def summary(self) -> str:
        """The report as a text table."""
        return summary(self)

    def contract_summary(self) -> dict[str, Any]:
        """The few numbers that a bundle's contract carries; no date in it, so that equal audits give equal contracts."""
        kinds = {}
        for kind in self.kinds:
            best = self.strongest(kind)
            kinds[kind] = {
                "attack": best.attack,
                "score": best.headline,
                "boundary": _rounded(best.boundary[best.headline].value),
                "floor": _rounded(best.floor[best.headline].value),
                "ceiling": _rounded(best.ceiling[best.headline].value),
                "leakage": _rounded(best.leakage.value),
                "leakage_interval": [_rounded(best.leakage.low), _rounded(best.leakage.high)],
                "max_leakage": _rounded(self.max_leakage(kind)),
                "attacks": len(self.of(kind)),
            }
        accuracy = {"defended": self.defended_accuracy, "reference": self.reference_accuracy}
        return {
            "schema": SCHEMA_VERSION,
            "task_accuracy": {name: None if score is None else _rounded(score.value) for name, score in accuracy.items()},
            "kinds": kinds,
            "seeds": self.seeds,
            "victims": self.victims,
        }

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, as `report.json` has it."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("pictures", "results")}
        for name in ("defended_accuracy", "reference_accuracy"):
            plain[name] = None if plain[name] is None else asdict(plain[name])
        body = {
            "schema": SCHEMA_VERSION,
            "results": [asdict(r) for r in self.results],
            **plain,
            "strongest": {kind: {"attack": self.strongest(kind).attack, "max_leakage": self.max_leakage(kind)} for kind in self.kinds},
            "intervals": WHAT_THE_INTERVAL_IS,
        }
        return json.loads(json.dumps(_finite(body), allow_nan=False))

    @classmethod
    def from_json(cls, data: Any) -> AuditReport:
        """Reads what `to_json` wrote; without pictures.

        Raises:
            AuditError: the data are not a report, or of another schema.
        """
        if not isinstance(data, dict) or data.get("schema") != SCHEMA_VERSION:
            schema = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise AuditError(
                f"Received a report of schema {schema!r}; this version of keras_privpart reads schema {SCHEMA_VERSION}. "
                "Upgrade keras_privpart, or audit again."
            )
        record: dict[str, Any] = {f.name: data.get(f.name) for f in fields(cls) if f.name != "pictures"}
        try:
            for name in ("defended_accuracy", "reference_accuracy"):
                record[name] = None if record[name] is None else _score(record[name])
            record["results"] = tuple(_result(r) for r in data["results"])
            record.update({name: tuple(data[name]) for name in ("not_tested", "notes")})
            missing = [f.name for f in fields(cls) if f.name not in data and f.name != "pictures"]
            if missing:
                raise KeyError(missing[0])
            return cls(**record)
        except (KeyError, TypeError, AttributeError) as error:
            raise AuditError(f"The report is malformed: {type(error).__name__}: {error}. Audit again.") from error

    def save(self, directory: str | Path, *, overwrite: bool = False, pictures: bool = True) -> Path:
        """Writes `report.json` and a self-contained `index.html`; the folder appears under its name only when it is complete.

        Args:
            directory: the new folder.
            overwrite: whether an earlier report of this name is replaced. Folders that hold no report are never touched.
            pictures: whether the page shows test images and their reconstructions. Switch it off for images that must not be passed on.

        Raises:
            AuditError: the folder exists, or Jinja2 is missing.
        """
        text = json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"
        page = render(self, pictures=pictures)
        return write_folder(Path(directory), {REPORT_FILE: text, PAGE_FILE: page}, overwrite=overwrite)

    @classmethod
    def load(cls, directory: str | Path) -> AuditReport:
        """Reads `report.json` of a folder that `save` wrote; without pictures.

        Raises:
            AuditError: there is none, or it cannot be read.
        """
        path = Path(directory) / REPORT_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise AuditError(f"Can't read {path}: {error}. Expected a folder written by AuditReport.save; audit again.") from error
        return cls.from_json(data)


def _result(data: Mapping[str, Any]) -> AttackResult:
    sides = {side: {name: _score(s) for name, s in data[side].items()} for side in ("boundary", "floor", "ceiling")}
    return AttackResult(**{**data, **sides, "leakage": Leakage(**data["leakage"]), "notes": tuple(data["notes"])})


def _score(data: Mapping[str, Any]) -> Score:
    number = {name: float("nan") if data[name] is None else float(data[name]) for name in ("value", "low", "high")}
    return Score(**number, seeds=tuple(float("nan") if s is None else float(s) for s in data["seeds"]))


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 6)


def _finite(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
