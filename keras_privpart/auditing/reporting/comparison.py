"""Two reports side by side, where they measured the same thing in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras_privpart.auditing.reporting import text
from keras_privpart.auditing.reporting.report import AttackResult, AuditReport
from keras_privpart.auditing.scoring.intervals import Leakage, Score
from keras_privpart.errors import AuditError


@dataclass(frozen=True)
class Compared:
    """The strongest attack of one kind in both reports.

    Attributes:
        kind: what was attacked.
        first, second: the strongest attack's result in each.
        apart: whether the 95 % intervals of the leakages do not overlap; None where one is undefined.
    """

    kind: str
    first: AttackResult
    second: AttackResult
    apart: bool | None

    def rows(self) -> list[list[str]]:
        """For a table: what, in the first report, in the second, and whether leakages differ beyond their intervals."""
        both, score = (self.first, self.second), self.first.headline
        tables = {side: [getattr(r, side).get(score) for r in both] for side in ("boundary", "floor", "ceiling")}
        return [
            [f"{self.kind}: strongest attack", *(r.name for r in both), ""],
            *(
                [f"{text.SCORES.get(score, score)}, {side}", *("" if s is None else text.score_text(score, s) for s in pair), ""]
                for side, pair in tables.items()
            ),
            ["leakage", *(text.leakage_text(r.leakage) for r in both), _VERDICTS[self.apart]],
        ]


@dataclass(frozen=True)
class ReportComparison:
    """What `compare_reports` gives; `str` of it is a table.

    Attributes:
        names: of the two reports.
        accuracies: of the task, defended, in each.
        kinds: one entry for each kind of attack.
    """

    names: tuple[str, str]
    accuracies: tuple[Score | None, Score | None]
    kinds: tuple[Compared, ...]

    def to_markdown(self) -> str:
        """A table with a row for each figure, a column for each report, and in words whether leakages differ beyond their intervals."""
        accuracies = [text.accuracy_text(score) for score in self.accuracies]
        rows = [["", *self.names, ""], ["---"] * 4, ["task accuracy", *accuracies, ""]]
        for kind in self.kinds:
            rows += kind.rows()
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    def __str__(self) -> str:
        return self.to_markdown()


_VERDICTS = {True: "differ beyond their intervals", False: "within their intervals", None: "undefined"}


def compare_reports(first: AuditReport, second: AuditReport, names: tuple[str, str] = ("first", "second")) -> ReportComparison:
    """Puts two reports side by side.

    Args:
        first, second: of two models of one task, audited alike: the same victims, attackers' data, attacks, efforts, seeds, threat model
            and version of this package. Floors and ceilings are each report's own.
        names: of the two, for the table.

    Raises:
        AuditError: they were measured differently; the message says in what.
    """
    ours, theirs = _measured(first), _measured(second)
    differing = [f"{name} ({ours[name]} and {theirs[name]})" for name in ours if ours[name] != theirs[name]]
    if differing:
        raise AuditError(
            f"Received two reports that differ in {'; '.join(differing)}; expected audits of the same kind. Their numbers cannot be "
            "compared: audit both models alike."
        )
    kinds = []
    for kind in first.kinds:
        a, b = first.strongest(kind), second.strongest(kind)
        kinds.append(Compared(kind, a, b, _apart(a.leakage, b.leakage)))
    return ReportComparison(names, (first.defended_accuracy, second.defended_accuracy), tuple(kinds))


def _measured(report: AuditReport) -> Mapping[str, Any]:
    """How a report came about, in all that its numbers depend on but the model."""
    return {
        "the victims": report.scored_on or "unknown",
        "the attackers' examples": (report.known, report.held_out),
        "the attacks": sorted((r.kind, r.name) for r in report.results),
        "the scores": sorted({(r.kind, r.headline) for r in report.results}),
        "the decision": report.decision,
        "the looks": report.looks,
        "the settings": dict(report.settings),
        "the attackers' seeds": report.seeds,
        "the threat model": report.threat_model.to_json(),
        "the version": report.versions.get("keras_privpart", "unknown"),
    }


def _apart(a: Leakage, b: Leakage) -> bool | None:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None
    return a.high < b.low or b.high < a.low
