"""`AuditReport`: what the attackers got, beside task accuracy, floor, ceiling, seeds and intervals; as text, JSON and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from keras_privpart.auditing.attacks.base.attack import RECONSTRUCTION
from keras_privpart.auditing.reporting.dataframe import frame
from keras_privpart.auditing.reporting.html import render
from keras_privpart.auditing.reporting.report_folder import add_file, check_absent, write_folder
from keras_privpart.auditing.reporting.results import AttackResult, PictureRows, finite, result_from, score_from
from keras_privpart.auditing.reporting.text import summary
from keras_privpart.auditing.scoring.bounds import Bound
from keras_privpart.auditing.scoring.intervals import WHAT_THE_INTERVAL_IS, Score
from keras_privpart.errors import AuditError, PrivPartError
from keras_privpart.threat_model import ThreatModel

__all__ = ["AttackResult", "AuditReport", "PictureRows", "check_absent"]

SCHEMA_VERSION = 2
REPORT_FILE = "report.json"
PAGE_FILE = "index.html"


@dataclass(frozen=True)
class AuditReport:
    """The result of `audit`.

    Attributes:
        results: one for every attack.
        defended_accuracy, reference_accuracy: of the task, on the victims; None where the task has none.
        seeds: attackers of each kind, trained from different weights.
        models: how many trainings of the model were attacked.
        known, held_out, victims: how many examples the attackers learned from, chose weights by, and were scored on.
        boundary: what crosses, in words.
        boundary_bytes, input_bytes: of one example; None where a size is free.
        reference: where the ceiling comes from, in words.
        settings: what the attackers were given: epochs, batch size, seed.
        versions: of the software.
        threat_model: what the attacker was taken to know.
        scored_on: a digest of the victims: audits of equal ones can be compared.
        reproduce: the command, or the call, that made the report.
        bound: on the error of any reconstruction, for the first model; see `bounds.bound`. None where none was computed.
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
    models: int = 1
    threat_model: ThreatModel = field(default_factory=ThreatModel)
    scored_on: str = ""
    reproduce: str = ""
    bound: Bound | None = None
    pictures: PictureRows | None = field(default=None, repr=False, compare=False)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What was attacked: `"reconstruction"` first, then the private attributes, as far as an attack was carried out."""
        return tuple(dict.fromkeys(r.kind for r in sorted(self.results, key=lambda r: r.kind != RECONSTRUCTION)))

    @property
    def unseen(self) -> tuple[str, ...]:
        """The kinds that no defence was trained for, as far as probes on the boundary were carried out."""
        return tuple(dict.fromkeys(r.kind for r in self.results if r.family == "unseen attribute"))

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
                "attack": best.name,
                "score": best.headline,
                "boundary": _rounded(best.boundary[best.headline].value),
                "floor": _rounded(best.floor[best.headline].value),
                "ceiling": _rounded(best.ceiling[best.headline].value),
                "leakage": _rounded(best.leakage.value),
                "leakage_interval": [_rounded(best.leakage.low), _rounded(best.leakage.high)],
                "max_leakage": _rounded(self.max_leakage(kind)),
                "attacks": len({result.attack for result in self.of(kind)}),
            }
        accuracy = {"defended": self.defended_accuracy, "reference": self.reference_accuracy}
        return {
            "schema": SCHEMA_VERSION,
            "task_accuracy": {name: None if score is None else _rounded(score.value) for name, score in accuracy.items()},
            "kinds": kinds,
            "models": self.models,
            "seeds": self.seeds,
            "victims": self.victims,
        }

    def to_json(self) -> dict[str, Any]:
        """Everything but the pictures, as `report.json` has it."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("pictures", "results")}
        for name in ("defended_accuracy", "reference_accuracy"):
            plain[name] = None if plain[name] is None else asdict(plain[name])
        plain["threat_model"] = self.threat_model.to_json()
        plain["bound"] = None if self.bound is None else self.bound.to_json()
        body = {
            "schema": SCHEMA_VERSION,
            "results": [asdict(r) for r in self.results],
            **plain,
            "strongest": {kind: {"attack": self.strongest(kind).name, "max_leakage": self.max_leakage(kind)} for kind in self.kinds},
            "intervals": WHAT_THE_INTERVAL_IS,
        }
        return json.loads(json.dumps(finite(body), allow_nan=False))

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
                record[name] = None if record[name] is None else score_from(record[name])
            record["threat_model"] = ThreatModel.from_json(data["threat_model"])
            limits = data["bound"]
            record["bound"] = None if limits is None else Bound(**{**limits, "assumptions": tuple(limits["assumptions"])})
            record["results"] = tuple(result_from(r) for r in data["results"])
            record.update({name: tuple(data[name]) for name in ("not_tested", "notes")})
            missing = [f.name for f in fields(cls) if f.name not in data and f.name != "pictures"]
            if missing:
                raise KeyError(missing[0])
            return cls(**record)
        except (KeyError, TypeError, AttributeError, PrivPartError) as error:
            raise AuditError(f"The report is malformed: {type(error).__name__}: {error}. Audit again.") from error

    def to_dataframe(self) -> Any:
        """One row for each attack, what it was given, and score, as a `pandas.DataFrame`; see `frame.rows`.

        Raises:
            AuditError: pandas is not installed.
        """
        return frame(self)

    def save(self, directory: str | Path, *, overwrite: bool = False, pictures: bool = True) -> Path:
        """Writes `report.json`, and then a self-contained `index.html`: a page that cannot be made never costs the numbers.

        The folder appears under its name with the whole `report.json` in it, the page when it is complete.

        Args:
            directory: the new folder.
            overwrite: whether an earlier report of this name is replaced. Folders that hold no report are never touched.
            pictures: whether the page shows test images and their reconstructions. Switch it off for images that must not be passed on.

        Raises:
            AuditError: the folder exists; or, with the numbers saved, the page cannot be made, for lack of Jinja2 for example.
        """
        text = json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"
        folder = write_folder(Path(directory), {REPORT_FILE: text}, overwrite=overwrite)
        try:
            add_file(folder, PAGE_FILE, render(self, pictures=pictures))
        except Exception as error:  # whatever the page met, the numbers stand and the caller is told where
            raise AuditError(f"The numbers are saved in {folder / REPORT_FILE}, but the page could not be made: {error}") from error
        return folder

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


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 6)
