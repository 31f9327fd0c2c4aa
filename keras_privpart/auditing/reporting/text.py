"""A report in words: the verdict, and the text table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_privpart.auditing.attacks.base.attack import RECONSTRUCTION
from keras_privpart.auditing.scoring.intervals import WHAT_THE_INTERVAL_IS, Leakage, Score

if TYPE_CHECKING:
    from keras_privpart.auditing.reporting.report import AttackResult, AuditReport

SCORES = {
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "mse": "MSE",
    "psnr": "PSNR",
    "identified": "identification",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auc": "AUC",
    "advantage": "advantage",
    "tpr_at_fpr": "TPR at 1 % FPR",
    "majority_rate": "majority rate",
}


# Where the words change.
LITTLE, MUCH, NEARLY_ALL = 0.1, 0.35, 0.75
COARSE = 0.4


def verdict(report: AuditReport, kind: str) -> str:
    """What the strongest attack of a kind came to, in two sentences."""
    best, count = report.strongest(kind), len({result.attack for result in report.of(kind)})
    score = SCORES[best.headline]
    at, floor, ceiling = (side[best.headline].value for side in (best.boundary, best.floor, best.ceiling))
    of = f"the strongest of {count} attacks" if count > 1 else "the only attack"
    goal = "recovers pictures" if kind == RECONSTRUCTION else f"reads {attribute(report, kind)}"
    facts = (
        f"From the boundary, {of} ({best.name}) {goal} at {score} {at:.3f}; from an undefended boundary it is {ceiling:.3f}, "
        f"from the server half's answer alone {floor:.3f}."
    )
    return f"{_judgement(best.leakage)} {facts}"


def attribute(report: AuditReport, kind: str) -> str:
    """A kind of attribute, which says so where no defence was trained for it."""
    return f"{kind} (an attribute that no defence was trained for)" if kind in report.unseen else kind


def _judgement(leakage: Leakage) -> str:
    if leakage.value is None:
        return "Leakage is undefined: an undefended boundary tells hardly more than the answer does."
    if leakage.low is not None and leakage.high is not None and leakage.high - leakage.low > COARSE:
        return f"There are too few victims, or too little lies between floor and ceiling, to tell (leakage {leakage_text(leakage)})."
    if leakage.value < LITTLE:
        how = "hardly more than the answer itself"
    elif leakage.value < MUCH:
        how = "a small part of what an undefended boundary gives away beyond the answer"
    elif leakage.value < NEARLY_ALL:
        how = "much of what an undefended boundary gives away beyond the answer"
    else:
        how = "nearly all that an undefended boundary gives away, or more"
    return f"The boundary leaks {how} (leakage {leakage_text(leakage)})."


def leakage_text(leakage: Leakage) -> str:
    """`0.21 (0.18–0.24)`, or `undefined`."""
    if leakage.value is None or leakage.low is None or leakage.high is None:
        return "undefined"
    return f"{leakage.value:.2f} ({leakage.low:.2f}–{leakage.high:.2f})"


def score_text(name: str, score: Score) -> str:
    """`0.914 (0.907–0.921)`, decibels with one decimal."""
    places = 1 if name == "psnr" else 4 if name == "mse" else 3
    return f"{score.value:.{places}f} ({score.low:.{places}f}–{score.high:.{places}f})"


def accuracy_text(score: Score | None) -> str:
    return "not applicable" if score is None else f"{100 * score.value:.1f} % ({100 * score.low:.1f}–{100 * score.high:.1f})"


def summary(report: AuditReport) -> str:
    """The whole report as text, for a terminal 120 characters wide or more."""
    lines = [
        f"Task accuracy on {report.victims:,} victims: defended {accuracy_text(report.defended_accuracy)}, "
        f"reference {accuracy_text(report.reference_accuracy)}",
        f"Boundary: {report.boundary}",
        "",
    ]
    for kind in report.kinds:
        lines += [f"{kind}: {verdict(report, kind)}", "", *_table(report, kind), ""]
    if not report.kinds:
        lines += ["No attack was carried out.", ""]
    if report.bound is not None:
        lines += [f"Bound: {report.bound.words()}", ""]
    lines += ["Not tested:", *(f"  - {text}" for text in report.not_tested), ""]
    lines += [f"Note: {text}" for text in report.notes]
    notes = [f"Note: {r.name}: {note}" for r in report.results for note in r.notes]
    return "\n".join([*lines, *notes, f"{WHAT_THE_INTERVAL_IS} {report.seeds} seed{'s' if report.seeds > 1 else ''}."])


def _table(report: AuditReport, kind: str) -> list[str]:
    best = report.strongest(kind)
    score = SCORES[best.headline]
    rows = [("attack", f"{score} (95 %)", "floor", "ceiling", "leakage (95 %)")]
    rows += [(_marked(r, best), *_cells(r)) for r in report.of(kind)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    text = ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [text[0], "  " + "-" * (len(max(text, key=len)) - 2), *text[1:], "  * strongest"]


def _marked(result: AttackResult, best: AttackResult) -> str:
    return f"{result.name} *" if result is best else result.name


def _cells(result: AttackResult) -> tuple[str, str, str, str]:
    name = result.headline
    boundary, floor, ceiling = (score_text(name, side[name]) for side in (result.boundary, result.floor, result.ceiling))
    return boundary, floor, ceiling, leakage_text(result.leakage)
