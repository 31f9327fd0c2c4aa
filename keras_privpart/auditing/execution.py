"""Carries out an audit's plan: references, bound and attacks."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_privpart.auditing.attacks import RECONSTRUCTION
from keras_privpart.auditing.campaign import ANSWER, BOUNDARY, CEILING, TOP1, Campaign, Outcome, Seat
from keras_privpart.auditing.evaluation_classifier import Judge
from keras_privpart.auditing.knowledge.views import View, answer_view, boundary_view, top1_view
from keras_privpart.auditing.plan import AuditPlan
from keras_privpart.auditing.reference import undefended
from keras_privpart.auditing.scoring import bounds
from keras_privpart.auditing.scoring.intervals import Score, score_of
from keras_privpart.auditing.settings import AuditSettings, Progress
from keras_privpart.auditing.store import Store, digest_of_halves
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.training.task import correct


@dataclass(frozen=True)
class Findings:
    """What carrying out a plan came to.

    Attributes:
        outcomes: of every attack in every case.
        defended_accuracy, reference_accuracy: of the task; None where it has none.
        reference: where the ceiling comes from, in words.
        bound: on any reconstruction, or why there is none.
        unreachable: why attacks could not be carried out on what there is to see, by name.
        tested: names of the attacks that were.
        judged: how often the classifier that judges reconstructions is right on real pictures; None where there is none.
    """

    outcomes: Sequence[Outcome]
    defended_accuracy: Score | None
    reference_accuracy: Score | None
    reference: str
    bound: bounds.Bound | str
    unreachable: Mapping[str, str]
    tested: Sequence[str]
    judged: float | None


def executed(plan: AuditPlan) -> Findings:
    """Carries out a plan, and tells the settings' progress callback about every step."""
    settings, partitions = plan.settings, plan.partitions
    store, seeds = Store(settings.cache), settings.seeds
    answers = [answer_view(p) for p in partitions]
    floors = 1 + (top1_view(partitions[0], answers[0]) is not None)
    alone = 1 + settings.bound
    steps = _Steps(settings.progress, alone + sum(len(cases) * (2 + floors) * len(partitions) * seeds for _, cases in plan.work()))
    steps("task accuracy" if settings.reference is not None else "training an undefended twin")
    references, origin = _references(settings, plan)
    if settings.bound:
        steps("bounding what any attacker can reconstruct")
    limits = bounds.attempted(partitions[0], plan.train.x, settings.seed) if settings.bound else "left out on request"
    models = [_seats(*model) for model in zip(partitions, answers, references, strict=True)]
    accuracies = [_accuracy(side, plan.test, seeds, settings.seed) for side in (answers, [answer_view(r) for r in references])]
    judged = any(attack.kind == RECONSTRUCTION for attack in plan.attacks) and not Judge.inapplicable(plan.train, plan.test)
    judge = Judge(plan.data, plan.plain[-1].effort, settings.seed, store) if judged else None
    campaign = Campaign(models, seeds, settings.seed, store, judge, steps)
    unreachable = {attack.name: reason for attack in plan.attacks if (reason := campaign.unreachable(attack)) is not None}
    work = [(attack, cases) for attack, cases in plan.work() if attack.name not in unreachable]
    steps.total = alone + sum(len(cases) * campaign.fits(attack) for attack, cases in work)
    outcomes = campaign.run(work, settings.workers)
    steps("done")
    return Findings(
        outcomes=outcomes,
        defended_accuracy=accuracies[0],
        reference_accuracy=accuracies[1],
        reference=origin,
        bound=limits,
        unreachable=unreachable,
        tested=[attack.name for attack, _ in work],
        judged=None if judge is None else judge.accuracy(),
    )


class _Steps:
    """Counts announced steps for a progress callback; attacks may announce from several threads."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._done, self.total = progress, 0, total
        self._lock = threading.Lock()

    def __call__(self, what: str) -> None:
        with self._lock:
            if self._progress is not None:
                self._progress(self._done, self.total, what)
            self._done += 1


def _references(settings: AuditSettings, plan: AuditPlan) -> tuple[list[Partition], str]:
    """An undefended partition for every model, and where they come from."""
    reference, partitions = settings.reference, plan.partitions
    if reference is None:
        twins = [undefended(p, plan.data, settings.seed + i, settings.cache) for i, p in enumerate(partitions)]
        return [twin for twin, _ in twins], twins[0][1]
    given = [reference] * len(partitions) if isinstance(reference, Partition) else list(reference)
    if len(given) != len(partitions):
        raise AuditError(f"Received {len(given)} references for {len(partitions)} models; expected one, or one for each. Give as many.")
    return given, "an undefended partition given by the caller"


def _seats(partition: Partition, answer: View, reference: Partition) -> dict[str, Seat]:
    digest = digest_of_halves(partition)
    top1 = top1_view(partition, answer)
    return {
        BOUNDARY: Seat(boundary_view(partition), digest),
        ANSWER: Seat(answer, digest),
        **({} if top1 is None else {TOP1: Seat(top1, digest)}),
        CEILING: Seat(boundary_view(reference, "the undefended boundary"), digest_of_halves(reference)),
    }


def _accuracy(answers: Sequence[View], test: Samples, seeds: int, seed: int) -> Score | None:
    """Of the task, averaged over models and over as many looks as there are attacker seeds."""
    looks = [correct(view.see(test.x), test) for view in answers for _ in range(seeds)]
    right = [look for look in looks if look is not None]
    return score_of(right, seed, len(answers)) if right else None
