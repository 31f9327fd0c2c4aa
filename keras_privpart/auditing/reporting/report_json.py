"""A report as JSON and back, and the few numbers of it that a bundle's contract carries."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from keras_privpart.auditing.reporting.report import AuditReport
from keras_privpart.auditing.reporting.results import finite, result_from, score_from
from keras_privpart.auditing.scoring.bounds import Bound
from keras_privpart.auditing.scoring.intervals import WHAT_THE_INTERVAL_IS
from keras_privpart.errors import AuditError, PrivPartError
from keras_privpart.threat_model import ThreatModel

SCHEMA_VERSION = 2


def contract_summary(report: AuditReport) -> dict[str, Any]:
    """The few numbers that a bundle's contract carries; no date in it, so that equal audits give equal contracts."""
    kinds = {}
    for kind in report.kinds:
        best = report.strongest(kind)
        kinds[kind] = {
            "attack": best.name,
            "score": best.headline,
            "boundary": _rounded(best.boundary[best.headline].value),
            "floor": _rounded(best.floor[best.headline].value),
            "ceiling": _rounded(best.ceiling[best.headline].value),
            "leakage": _rounded(best.leakage.value),
            "leakage_interval": [_rounded(best.leakage.low), _rounded(best.leakage.high)],
            "max_leakage": _rounded(report.max_leakage(kind)),
            "attacks": len({result.attack for result in report.of(kind)}),
        }
    accuracy = {"defended": report.defended_accuracy, "reference": report.reference_accuracy}
    return {
        "schema": SCHEMA_VERSION,
        "task_accuracy": {name: None if score is None else _rounded(score.value) for name, score in accuracy.items()},
        "kinds": kinds,
        "models": report.models,
        "seeds": report.seeds,
        "victims": report.victims,
    }


def to_json(report: AuditReport) -> dict[str, Any]:
    """Everything but the pictures, as `report.json` has it."""
    plain = {f.name: getattr(report, f.name) for f in fields(report) if f.name not in ("pictures", "results")}
    for name in ("defended_accuracy", "reference_accuracy"):
        plain[name] = None if plain[name] is None else asdict(plain[name])
    plain["threat_model"] = report.threat_model.to_json()
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
    if not isinstance(data, dict) or data.get("schema") != SCHEMA_VERSION:
        schema = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise AuditError(
            f"Received a report of schema {schema!r}; this version of keras_privpart reads schema {SCHEMA_VERSION}. "
            "Upgrade keras_privpart, or audit again."
        )
    record: dict[str, Any] = {f.name: data.get(f.name) for f in fields(AuditReport) if f.name != "pictures"}
    try:
        for name in ("defended_accuracy", "reference_accuracy"):
            record[name] = None if record[name] is None else score_from(record[name])
        record["threat_model"] = ThreatModel.from_json(data["threat_model"])
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


def _rounded(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), 6)
