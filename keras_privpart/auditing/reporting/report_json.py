"""A report as JSON and back, and the few numbers of it that a bundle's contract carries."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from keras_privpart.auditing.reporting.report import AuditReport
from keras_privpart.auditing.reporting.results import AttackResult, finite, result_from, score_from
from keras_privpart.auditing.scoring.bounds import Bound
from keras_privpart.auditing.scoring.identification import Identification
from keras_privpart.auditing.scoring.information import Bits, Looks
from keras_privpart.auditing.scoring.intervals import WHAT_THE_INTERVAL_IS
from keras_privpart.errors import AuditError, PrivPartError
from keras_privpart.threat_model import ThreatModel

SCHEMA_VERSION = 3
READABLE = (2, 3)
_OF_SCHEMA_2 = (
    "This report is of schema 2: its leakage is beyond the stronger of the decision and the whole answer, after one look, by attackers of "
    "a fixed effort. Audit again to know the rest."
)


def contract_summary(report: AuditReport) -> dict[str, Any]:
    """The few numbers that a bundle's contract carries; no date in it, so that equal audits give equal contracts."""
    accuracy = {"defended": report.defended_accuracy, "reference": report.reference_accuracy}
    return {
        "schema": SCHEMA_VERSION,
        "task_accuracy": {name: None if score is None else _rounded(score.value) for name, score in accuracy.items()},
        **({"task_utility": _utilities(report)} if report.utilities else {}),
        "decision": report.decision,
        "kinds": {kind: _kind(report, kind) for kind in report.kinds},
        "re_identification": {
            kind: {str(k): _rounded(report.strongest(kind, k).boundary["rank_1"].value) for k in report.looks_of(kind)}
            for kind in report.kinds
            if report.strongest(kind).headline == "rank_1"
        },
        "bits": None if report.bits is None else {str(b.looks): _of_bits(b) for b in report.bits.looks},
        **({} if report.identification is None else {"identification": _of_identification(report.identification)}),
        "effort": dict(report.effort),
        "more_looks": "show no more" if report.repeats else "show more",
        "examples": report.known + report.held_out,
        "models": report.models,
        "seeds": report.seeds,
        "victims": report.victims,
    }


def _utilities(report: AuditReport) -> dict[str, dict[str, float | None]]:
    return {name: {"defended": _rounded(a.value), "reference": _rounded(b.value)} for name, (a, b) in report.utilities.items()}


def _kind(report: AuditReport, kind: str) -> dict[str, Any]:
    """The strongest attack after the fewest looks, and after more of them."""
    best, more, frames = report.strongest(kind), report.looks_of(kind)[1:], report.frames_of(kind)
    return {
        **_strongest(best),
        "floor": _rounded(best.floor[best.headline].value) if best.floor else None,
        "ceiling": _rounded(best.ceiling[best.headline].value) if best.ceiling else None,
        "max_leakage": _rounded(report.max_leakage(kind)),
        "leakage_beyond_answer": None if best.beyond_answer is None else _rounded(best.beyond_answer.value),
        "leakage_above_chance": None if best.above_chance is None else _rounded(best.above_chance.value),
        "attacks": len({result.attack for result in report.of(kind)}),
        "looks": {str(k): _strongest(report.strongest(kind, k)) for k in more},
        "frames": {str(k): _strongest(report.strongest(kind, k, frames=True)) for k in ([frames] if frames else [])},
    }


def _strongest(best: AttackResult) -> dict[str, Any]:
    return {
        "attack": best.name,
        "score": best.headline,
        "boundary": _rounded(best.boundary[best.headline].value),
        "leakage": _rounded(best.leakage.value),
        "leakage_interval": [_rounded(best.leakage.low), _rounded(best.leakage.high)],
        "at_least": best.at_least,
    }


def _of_bits(found: Looks) -> dict[str, float | None]:
    return {"at_least": _rounded(found.at_least.value), "at_most": _rounded(found.limit)}


def _rates(data: dict[str, Any]) -> dict[str, Any]:
    return {name: {side: score_from(score) for side, score in data[name].items()} for name in ("identity", "detected")}


def _of_identification(found: Identification) -> dict[str, Any]:
    sides = {"identity": found.identity, "detected_and_identified": found.detected}
    rates = {name: {side: _rounded(score.value) for side, score in scores.items()} for name, scores in sides.items()}
    return {"people": dict(found.people), "false_alarms": found.false_alarms, **rates}


def to_json(report: AuditReport) -> dict[str, Any]:
    """Everything but the pictures, as `report.json` has it."""
    plain = {f.name: getattr(report, f.name) for f in fields(report) if f.name not in ("pictures", "results")}
    for name in ("defended_accuracy", "reference_accuracy"):
        plain[name] = None if plain[name] is None else asdict(plain[name])
    plain["utilities"] = {name: [asdict(score) for score in pair] for name, pair in report.utilities.items()}
    plain["threat_model"] = report.threat_model.to_json()
    plain["bits"] = None if report.bits is None else report.bits.to_json()
    plain["identification"] = None if report.identification is None else report.identification.to_json()
    plain["bound"] = None if report.bound is None else report.bound.to_json()
    body = {
        "schema": SCHEMA_VERSION,
        "results": [asdict(r) for r in report.results],
        **plain,
        "strongest": {kind: {"attack": report.strongest(kind).name, "max_leakage": report.max_leakage(kind)} for kind in report.kinds},
        "intervals": WHAT_THE_INTERVAL_IS,
    }
    return json.loads(json.dumps(finite(body), allow_nan=False))


def from_json(data: Any) -> AuditReport:
    """Reads what `to_json` wrote; without pictures.

    Raises:
        AuditError: the data are not a report, or of another schema.
    """
    if not isinstance(data, dict) or data.get("schema") not in READABLE:
        schema = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise AuditError(
            f"Received a report of schema {schema!r}; this version of keras_privpart reads schemas {READABLE[0]} to {READABLE[-1]}. "
            "Upgrade keras_privpart, or audit again."
        )
    if data["schema"] == READABLE[0]:
        data = _modern(data)
    data = {"identification": None, "subject": {}, "utilities": {}, **data}  # earlier reports have none of them
    record: dict[str, Any] = {f.name: data.get(f.name) for f in fields(AuditReport) if f.name != "pictures"}
    try:
        for name in ("defended_accuracy", "reference_accuracy"):
            record[name] = None if record[name] is None else score_from(record[name])
        record["utilities"] = {name: tuple(map(score_from, pair)) for name, pair in data["utilities"].items()}
        record["threat_model"] = ThreatModel.from_json(data["threat_model"])
        record["bits"] = None if data["bits"] is None else Bits.from_json(data["bits"])
        record["looks"] = tuple(data["looks"])
        named = data["identification"]
        record["identification"] = None if named is None else Identification(**{**named, **_rates(named)})
        limits = data["bound"]
        record["bound"] = None if limits is None else Bound(**{**limits, "assumptions": tuple(limits["assumptions"])})
        record["results"] = tuple(result_from(r) for r in data["results"])
        record.update({name: tuple(data[name]) for name in ("not_tested", "notes")})
        missing = [f.name for f in fields(AuditReport) if f.name not in data and f.name != "pictures"]
        if missing:
            raise KeyError(missing[0])
        return AuditReport(**record)
    except (KeyError, TypeError, AttributeError, PrivPartError) as error:
        raise AuditError(f"The report is malformed: {type(error).__name__}: {error}. Audit again.") from error


def _modern(data: dict[str, Any]) -> dict[str, Any]:
    """A report of schema 2 as one of this schema: floors under their names of today, what it did not measure left empty."""
    later = {"decision": "which class comes first (top-1)", "looks": [1], "repeats": False, "effort": {}, "bits": None}
    try:
        results = [
            {
                **result,
                "floors": {_FLOORS.get(name, name): table for name, table in result["floors"].items()},
                "floor_from": _FLOORS.get(result["floor_from"], result["floor_from"]),
            }
            for result in data["results"]
        ]
        return {**data, **later, "results": results, "notes": [*data["notes"], _OF_SCHEMA_2]}
    except (KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"The report is malformed: {type(error).__name__}: {error}. Audit again.") from error


_FLOORS = {"top-1": "decision"}


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 6)
