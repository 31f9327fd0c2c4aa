"""`Protected`: what `protect` gives back, and in plain words what was chosen, why, what it costs and what is still read."""

from __future__ import annotations

from dataclasses import dataclass

from keras_privpart.auditing.reporting import text
from keras_privpart.auditing.reporting.report import AuditReport
from keras_privpart.partitioning.halves import Partition
from keras_privpart.protecting.choosing import Choice
from keras_privpart.readable import Readable


@dataclass(frozen=True, repr=False)
class Protected(Readable):
    """The result of `protect`.

    Attributes:
        partition: the defended halves, to export and serve.
        undefended: the same cut of the same model without a defence, the audit's reference.
        report: of the audit.
        choices: what was settled before training, and why.
    """

    partition: Partition
    undefended: Partition
    report: AuditReport
    choices: tuple[Choice, ...]

    def words(self) -> str:
        """A page for people: choices with their reasons, cost, and what the strongest attackers still read."""
        return "\n".join(["What was chosen:", *(f"  - {choice}" for choice in self.choices), *costs(self.report), *still_read(self.report)])


def costs(report: AuditReport) -> list[str]:
    """What the defence costs in accuracy, and how much is sent."""
    defended, reference = report.defended_accuracy, report.reference_accuracy
    lines = ["What it costs:"]
    if defended is not None and reference is not None:
        lost = 100 * (reference.value - defended.value)
        change = f"{lost:.1f} points lost" if lost > 0 else "nothing lost"
        accuracies = f"{text.accuracy_text(defended)} defended, {text.accuracy_text(reference)} undefended"
        lines.append(f"  - accuracy on {report.victims:,} test examples: {accuracies}: {change}")
    sent = "an open number of" if report.boundary_bytes is None else f"{report.boundary_bytes:,}"
    return [*lines, f"  - {sent} bytes cross for one example, before encoding; a client without us would send {report.input_bytes:,}"]


def still_read(report: AuditReport) -> list[str]:
    """What the strongest attack of every kind came to."""
    lines = [f"  - {text.attribute(report, kind)}: {text.verdict(report, kind)}" for kind in report.kinds]
    return ["What the strongest attackers still read:", *(lines or ["  - nothing was attacked: this says nothing about privacy"])]
