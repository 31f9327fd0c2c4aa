"""A report in words: the verdict, and the text table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_privpart.auditing.attacks.base.attack import RECONSTRUCTION
from keras_privpart.auditing.scoring.intervals import WHAT_THE_INTERVAL_IS, Leakage, Score
from keras_privpart.contract import larger_than_raw

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
    "rank_1": "rank-1",
    "mean_reciprocal_rank": "mean reciprocal rank",
    "chance": "chance",
    "majority_rate": "majority rate",
    "explained_variance": "explained variance",
    "recovered": "recovered share",
    "top_1": "top-1 token recovery",
    "top_5": "top-5 token recovery",
    "unigram_1": "top-1 of the unigram guess",
    "unigram_5": "top-5 of the unigram guess",
    "snr": "SNR in dB",
    "spectral": "log-spectral distance in dB",
}


# Where the words change.
LITTLE, MUCH, NEARLY_ALL = 0.1, 0.35, 0.75
COARSE = 0.4


GOALS = {
    "ssim": "recovers pictures",
    "snr": "recovers signals",
    "top_1": "recovers tokens",
    "recovered": "recovers columns",
    "rank_1": "names which of up to 100 candidates was sent",
}


def verdict(report: AuditReport, kind: str) -> str:
    """What the strongest attack of a kind came to: leakage beyond the decision, what stands behind it, and what more looks change."""
    best = report.strongest(kind)
    parts = [LOW_EFFORT.format(**report.effort)] if report.low_effort else []
    parts += [_judgement(best.leakage), _facts(report, kind, best), *_beside(best), *_more_looks(report, kind)]
    return " ".join(parts)


def in_short(report: AuditReport) -> list[str]:
    """The verdict for whoever decides and does not read tables: what leaks at worst, what it costs, and how far that can be trusted."""
    if not report.kinds:
        return ["Nothing was attacked: this report says nothing about privacy."]
    leaked = {kind: report.strongest(kind).leakage.value for kind in report.kinds}
    known = {kind: value for kind, value in leaked.items() if value is not None}
    found = []
    if known:
        worst = max(known, key=lambda kind: known[kind])
        share = f"{100 * known[worst]:.0f} % of the way to no defence"
        found.append(f"Of {_what(worst)} {_amount(known[worst])}, beyond what the answer itself tells: {share}.")
    found += [_UNDEFINED.format(_what(kind)) for kind in leaked if kind not in known]
    defended, reference = report.defended_accuracy, report.reference_accuracy
    if defended is not None and reference is not None:
        lost = max(0.0, 100 * (reference.value - defended.value))
        found.append(f"The defence costs {lost:.1f} points of accuracy ({100 * defended.value:.1f} %).")
    weak = "Attackers were trained less than in a full audit. " if report.low_effort else ""
    return [*found, f"{weak}Attackers stronger than those that were tried may read more."]


_UNDEFINED = (
    "For {} leakage is undefined: even without a defence, what leaves the device tells hardly more than the answer, so that there is "
    "nothing to compare with. That does not mean that it is private; judge by the attack's own score below."
)


def _what(kind: str) -> str:
    return "the input itself" if kind == RECONSTRUCTION else f"{kind!r}"


def _amount(leakage: float) -> str:
    if leakage < LITTLE:
        return "the strongest attackers learn hardly anything"
    if leakage < MUCH:
        return "the strongest attackers learn a small part"
    return "the strongest attackers learn much" if leakage < NEARLY_ALL else "the strongest attackers learn nearly all that there is"


LOW_EFFORT = (
    "Low effort: attackers had {updates:,} updates where a full audit begins with {full_updates:,}, and may find less than there is."
)


def attribute(report: AuditReport, kind: str) -> str:
    """A kind of attribute, which says so where no defence was trained for it."""
    return f"{kind} (an attribute that no defence was trained for)" if kind in report.unseen else kind


def _facts(report: AuditReport, kind: str, best: AttackResult) -> str:
    count = len({result.attack for result in report.of(kind)})
    score, at = SCORES.get(best.headline, best.headline), best.boundary[best.headline].value
    of = f"the strongest of {count} attacks" if count > 1 else "the only attack"
    looks = f" after {best.looks} looks" if best.looks > 1 else ""
    goal = GOALS.get(best.headline) or f"reads {attribute(report, kind)}"
    if kind.startswith(f"{RECONSTRUCTION} of "):
        goal += f" ({kind.removeprefix(f'{RECONSTRUCTION} of ')})"
    facts = f"From the boundary{looks}, {of} ({best.name}) {goal} at {score} {'at least ' if best.at_least else ''}{at:.3f}"
    beside = []
    if best.ceiling:
        beside.append(f"from an undefended boundary it is {best.ceiling[best.headline].value:.3f}")
    floors = {
        "decision": "from the decision alone",
        "top-1": "from who comes first alone",
        "who or unknown": "from who it is, or unknown, alone",
        "answer": "from all that the server half answers",
    }
    beside += [f"{words} {best.floors[name][best.headline].value:.3f}" for name, words in floors.items() if name in best.floors]
    return f"{facts}; {', '.join(beside)}." if beside else f"{facts}."


def _beside(best: AttackResult) -> list[str]:
    """Leakage beyond the answer and above chance, which stand beside the headline wherever they were measured."""
    parts = []
    if best.beyond_answer is not None:
        parts.append(f"beyond all that the server half answers {leakage_text(best.beyond_answer)}")
    if best.above_chance is not None:
        parts.append(f"above an attacker who sees nothing {leakage_text(best.above_chance)}")
    return [f"Leakage is {', '.join(parts)}."] if parts else []


def _more_looks(report: AuditReport, kind: str) -> list[str]:
    """What the same input shows that is seen more often."""
    found = []
    if report.repeats and len(report.looks) > 1:
        found = ["Two looks at the same input agree: more of them show no more."]
    found += [f"After {k} looks at the same input it is {_after(report.strongest(kind, k))}." for k in report.looks_of(kind)[1:]]
    if frames := report.frames_of(kind):
        best, once = report.strongest(kind, frames=True), report.strongest(kind)
        # Who sees the mean over frames sees a blurred picture; who takes the first of them alone has one look.
        more = best.boundary[best.headline].value > once.boundary[once.headline].value
        counts = (", and that is the number to go by" if report.repeats else "") if more else ", which is less than after one look"
        found.append(f"After {frames} near duplicates, as successive frames of a scene are, it is {_after(best)}{counts}.")
    return found


def _after(best: AttackResult) -> str:
    score, value = SCORES.get(best.headline, best.headline), best.boundary[best.headline].value
    return f"{score} {'at least ' if best.at_least else ''}{value:.3f}, leakage {leakage_text(best.leakage)}"


def _judgement(leakage: Leakage) -> str:
    if leakage.value is None:
        return (
            "Leakage is undefined: an undefended boundary tells hardly more than the decision does, so that there is nothing to compare "
            "with. That is no sign of privacy."
        )
    if leakage.low is not None and leakage.high is not None and leakage.high - leakage.low > COARSE:
        return f"There are too few victims, or too little lies between floor and ceiling, to tell (leakage {leakage_text(leakage)})."
    if leakage.value < LITTLE:
        how = "hardly more than the decision itself"
    elif leakage.value < MUCH:
        how = "a small part of what an undefended boundary gives away beyond the decision"
    elif leakage.value < NEARLY_ALL:
        how = "much of what an undefended boundary gives away beyond the decision"
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


def _valued(score: Score) -> str:
    return f"{score.value:.4g} ({score.low:.4g}–{score.high:.4g})"


def answer(report: AuditReport) -> str:
    """The report in a few sentences."""
    accuracies = f"{accuracy_text(report.defended_accuracy)} defended, {accuracy_text(report.reference_accuracy)} undefended"
    others = [f"{name} {_valued(a)} defended, {_valued(b)} undefended" for name, (a, b) in report.utilities.items()]
    measured = "; ".join([*([] if report.defended_accuracy is None and others else [f"accuracy {accuracies}"]), *others])
    lines = [f"Audit on {report.victims:,} test examples: task {measured}.", f"What crosses: {report.boundary}."]
    lines += [f"- {attribute(report, kind)}: {verdict(report, kind)}" for kind in report.kinds]
    if not report.kinds:
        lines.append("No attack was carried out: this says nothing about privacy.")
    return "\n".join([*lines, "Every attack and what was not tested: summary(). A page with pictures: save('report')."])


def summary(report: AuditReport) -> str:
    """The whole report as text, for a terminal 120 characters wide or more."""
    lines = [
        f"Task accuracy on {report.victims:,} victims: defended {accuracy_text(report.defended_accuracy)}, "
        f"reference {accuracy_text(report.reference_accuracy)}",
        f"Boundary: {report.boundary}{_sent(report)}",
        *(f"Task {name}: defended {_valued(a)}, reference {_valued(b)}" for name, (a, b) in report.utilities.items()),
        "",
    ]
    for kind in report.kinds:
        lines += [f"{kind}: {verdict(report, kind)}", "", *_table(report, kind), ""]
    if not report.kinds:
        lines += ["No attack was carried out.", ""]
    if report.decision:
        lines.insert(2, f"Decision: {report.decision}. Attackers had {report.known + report.held_out:,} examples{_effort(report)}.")
    if report.identification is not None:
        lines += [f"Open set: {report.identification.words()}", ""]
    if report.bits is not None:
        lines += [f"Bits: {report.bits.words()}", ""]
    if report.bound is not None:
        lines += [f"Bound: {report.bound.words()}", ""]
    lines += ["Not tested:", *(f"  - {text}" for text in report.not_tested), ""]
    lines += [f"Note: {text}" for text in report.notes]
    notes = [f"Note: {r.name}: {note}" for r in report.results for note in r.notes]
    notes += [f"Note: {r.name}: {text}" for r in report.results for text in (*replaced(r), *curve_words(r))]
    return "\n".join([*lines, *notes, f"{WHAT_THE_INTERVAL_IS} {report.seeds} seed{'s' if report.seeds > 1 else ''}."])


def _sent(report: AuditReport) -> str:
    larger = larger_than_raw(report.boundary_bytes, report.input_bytes)
    return f" ({report.boundary_bytes:,} bytes, {larger})" if larger else ""


def replaced(result: AttackResult) -> list[str]:
    """Where a simpler attacker's floor counts."""
    return [f"the {floor}'s floor is that of {name}, which was higher" for floor, name in result.floors_by.items()]


def curve_words(result: AttackResult) -> list[str]:
    """The strongest attack's score by number of examples."""
    if not result.curve:
        return []
    return [f"with {', '.join(f'{n:,} examples {value:.3f}' for n, value in result.curve)} on all victims, one attacker each"]


def _effort(report: AuditReport) -> str:
    """How much the attackers were trained."""
    if not report.effort:
        return ""
    doubled = report.effort["doublings"]
    more = f", doubled up to {doubled} times while that gained anything" if doubled else ", whether more would help was not tried"
    return f" and {report.effort['updates']:,} updates{more}"


def _table(report: AuditReport, kind: str) -> list[str]:
    best = report.strongest(kind)
    score = SCORES.get(best.headline, best.headline)
    rows: list[tuple[str, ...]] = [("attack", f"{score} (95 %)", "decision", "answer", "ceiling", "leakage (95 %)")]
    rows += [(_marked(r, best), *_cells(r)) for r in report.of(kind)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    text = ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [text[0], "  " + "-" * (len(max(text, key=len)) - 2), *text[1:], "  * strongest"]


def _marked(result: AttackResult, best: AttackResult) -> str:
    return f"{result.name} *" if result is best else result.name


def _cells(result: AttackResult) -> tuple[str, ...]:
    name = result.headline
    sides = (result.boundary, result.floors.get("decision", {}), result.floors.get("answer", {}), result.ceiling)
    cells = [score_text(name, side[name]) if name in side else "-" for side in sides]
    return (f"{'≥ ' if result.at_least else ''}{cells[0]}", *cells[1:], leakage_text(result.leakage) if result.ceiling else "-")
