"""A report as a long table: one row for each attack, what it was given, and score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_privpart.errors import AuditError

if TYPE_CHECKING:
    import pandas as pd

    from keras_privpart.auditing.reporting.report import AttackResult, AuditReport


def rows(report: AuditReport) -> list[dict[str, Any]]:
    """Rows with the attack, what it was `given`, the `score` with its interval, and leakage; all by name."""
    return [row for result in report.results for row in _of(result)]


def frame(report: AuditReport) -> pd.DataFrame:
    """`rows` as a `pandas.DataFrame`.

    Raises:
        AuditError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise AuditError("to_dataframe needs pandas, which is not installed. Run: pip install pandas; to_json needs nothing.") from error
    return pd.DataFrame(rows(report))


def _of(result: AttackResult) -> list[dict[str, Any]]:
    given = {"boundary": result.boundary, **{f"floor: {name}": table for name, table in result.floors.items()}, "ceiling": result.ceiling}
    which = {
        "kind": result.kind,
        "attack": result.attack,
        "family": result.family,
        "budget": result.budget,
        "people": result.people,
        "looks": result.looks,
        "frames": result.frames,
    }
    leakage = {"leakage": result.leakage.value, "leakage_low": result.leakage.low, "leakage_high": result.leakage.high}
    return [
        {
            **which,
            "given": side,
            "score": name,
            "headline": name == result.headline,
            "value": score.value,
            "low": score.low,
            "high": score.high,
            **leakage,
        }
        for side, table in given.items()
        for name, score in table.items()
    ]
