"""Makes the report of what an audit found."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace

from keras_privpart.auditing import selection
from keras_privpart.auditing.attacks import RECONSTRUCTION
from keras_privpart.auditing.campaign import Outcome
from keras_privpart.auditing.execution import Findings
from keras_privpart.auditing.knowledge.images import as_images
from keras_privpart.auditing.plan import AuditPlan
from keras_privpart.auditing.reporting import limitations
from keras_privpart.auditing.reporting.report import AuditReport, PictureRows
from keras_privpart.auditing.store import digest_of_samples
from keras_privpart.contract import dtype_name, raw_nbytes
from keras_privpart.datasets import Samples
from keras_privpart.several_inputs import arrays_of


def assembled(plan: AuditPlan, found: Findings) -> AuditReport:
    """The report of an audit: its numbers, what a reader must know beside them, and pictures."""
    settings, data, first = plan.settings, plan.data, plan.partitions[0]
    tested = [attack for attack in plan.attacks if attack.name in found.tested]
    effort = plan.plain[-1].effort
    known = len(data.known)
    updates = max(1, known // min(effort.batch_size, known))  # an epoch
    accuracies = (found.defended_accuracy, found.reference_accuracy)
    left_out = {**plan.left_out, **found.unreachable}
    if isinstance(found.bound, str):
        left_out["a bound on the error of any reconstruction"] = found.bound
    if isinstance(found.bits, str):
        left_out["how many bits cross"] = found.bits
    report = AuditReport(
        results=tuple(outcome.result for outcome in found.outcomes),
        defended_accuracy=found.defended_accuracy,
        reference_accuracy=found.reference_accuracy,
        seeds=settings.seeds,
        known=len(data.known),
        held_out=len(data.held_out),
        victims=len(plan.test),
        boundary=str(first.boundary),
        boundary_bytes=first.boundary.nbytes,
        input_bytes=sum(raw_nbytes((None, *x.shape[1:]), dtype_name(x)) or 0 for x in arrays_of(plan.test.x).values()),
        reference=found.reference,
        settings={"epochs": effort.epochs, "batch_size": effort.batch_size, "seed": settings.seed},
        versions=limitations.versions(),
        not_tested=(
            *(f"{what}: {reason}" for what, reason in left_out.items()),
            *limitations.not_tested(tested, plan.threat_model, settings.attributes, data, settings.group, len(plan.partitions)),
        ),
        notes=limitations.notes(data, accuracies, plan.seen, found.judged, tested, settings.budgets, plan.inputs, bool(found.utilities)),
        models=len(plan.partitions),
        threat_model=plan.threat_model,
        scored_on=digest_of_samples(plan.test),
        bound=None if isinstance(found.bound, str) else found.bound,
        reproduce=settings.call(),
        decision=found.decided,
        looks=tuple(sorted(set(settings.looks))),
        repeats=found.repeats,
        effort={
            "updates": updates * effort.epochs,
            "full_updates": updates * selection.full_epochs(known, settings.batch_size),
            "doublings": settings.most_doublings,
            "low": plan.low_effort,
        },
        bits=None if isinstance(found.bits, str) else found.bits,
        identification=found.identification,
        subject={
            "model": first.model.name,
            "date": datetime.date.today().isoformat(),
            "defence": f"cut at {' and '.join(first.boundary.sources)}; channel {first.channel_words() or 'none'}",
        },
        utilities=found.utilities,
    )
    return replace(report, pictures=_pictures(report, found.outcomes, plan.test, settings.pictures))


def _pictures(report: AuditReport, outcomes: Sequence[Outcome], test: Samples, count: int) -> PictureRows | None:
    """Test images beside the strongest decoder's reconstructions."""
    if RECONSTRUCTION not in report.kinds or not count:
        return None
    best = report.strongest(RECONSTRUCTION)
    samples = next(o.samples for o in outcomes if o.result is best)
    if not samples or not all(map(len, samples.values())):
        return None
    count = min(count, *(len(sample) for sample in samples.values()))
    original = as_images(test[:count])
    return PictureRows(best.name, original, *(samples[side][:count] for side in ("ceiling", "boundary", "floor")))
