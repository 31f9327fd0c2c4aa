"""Carries out an audit's plan: references, bound and attacks."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keras_privpart.auditing import selection
from keras_privpart.auditing.attacks import RECONSTRUCTION
from keras_privpart.auditing.campaign import Campaign, Outcome
from keras_privpart.auditing.evaluation_classifier import Judge
from keras_privpart.auditing.fits import ANSWER, BOUNDARY, CEILING, DECISION, Fits, Seat
from keras_privpart.auditing.knowledge.open_set import ENROLLED
from keras_privpart.auditing.knowledge.passage import frozen_noise
from keras_privpart.auditing.knowledge.views import TOP1, WHO, View, Views
from keras_privpart.auditing.plan import AuditPlan
from keras_privpart.auditing.reference import undefended
from keras_privpart.auditing.scoring import bounds, information, utility
from keras_privpart.auditing.scoring.identification import Identification
from keras_privpart.auditing.scoring.intervals import Score, score_of
from keras_privpart.auditing.settings import AuditSettings, Progress
from keras_privpart.auditing.store import Store, digest_of_halves
from keras_privpart.auditing.strangers import identification, open_seats
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.quiet import without_retracing
from keras_privpart.training.task import correct

CURVE = (1000, 4000, 16000)
DEFENDED, REFERENCE = "defended", "reference"
WHO_WORDS = "who comes first, or unknown where no score exceeds the threshold"
FLAT = 0.01  # a curve that rose by as much with the last step still rises


@dataclass(frozen=True)
class Findings:
    """What carrying out a plan came to.

    Attributes:
        outcomes: of every attack in every case.
        defended_accuracy, reference_accuracy: of the task; None where it has none.
        reference: where the ceiling comes from, in words.
        bound: on any reconstruction, or why there is none.
        bits: how many cross, or why that is not known.
        decided: what the decision is, in words.
        repeats: whether two looks at the same input agree.
        unreachable: why attacks could not be carried out on what there is to see, by name.
        tested: names of the attacks that were.
        utilities: how else the task is measured, by name: defended and undefended.
        judged: how often the classifier that judges reconstructions is right on real pictures; None where there is none.
        identification: what the task of an open set is worth; None for other tasks.
    """

    outcomes: Sequence[Outcome]
    defended_accuracy: Score | None
    reference_accuracy: Score | None
    reference: str
    bound: bounds.Bound | str
    bits: information.Bits | str
    decided: str
    repeats: bool
    unreachable: Mapping[str, str]
    tested: Sequence[str]
    judged: float | None
    identification: Identification | None
    utilities: Mapping[str, tuple[Score, Score]]


@without_retracing()
def executed(plan: AuditPlan) -> Findings:
    """Carries out a plan, and tells the settings' progress callback about every step."""
    settings, partitions = plan.settings, plan.partitions
    store, seeds = Store(settings.cache), settings.seeds
    steps = _Steps(settings.progress, 2 * settings.bound + 2)
    steps("task accuracy" if settings.reference is not None else "training an undefended twin")
    references, origin = _references(settings, plan)
    limits: bounds.Bound | str = "left out on request"
    known: information.Bits | str = "left out on request"
    if settings.bound:
        steps("bounding what any attacker can reconstruct")
        limits = bounds.attempted(partitions[0], plan.train, settings.seed)
        steps("counting bits")
        known = information.bits(partitions[0], plan.train, plan.test, looks=settings.looks, seed=settings.seed)
    named = settings.answer if settings.answer != WHO else TOP1
    defended = [Views(p, named) for p in partitions]
    undefended_ = [Views(r, named, "the undefended boundary") for r in references]
    models = [
        _seats(views, of, theirs, reference, plan)
        for views, of, theirs, reference in zip(defended, partitions, undefended_, references, strict=True)
    ]
    answers = {DEFENDED: [v.answer.sent for v in defended], REFERENCE: [v.answer.sent for v in undefended_]}
    labelled = plan.test if settings.groups is None else settings.groups.pictures(plan.test, str(settings.group), ENROLLED)
    looks = [_looks(side, labelled, seeds) for side in answers.values()]
    accuracies = [_accuracy(side, labelled, settings.seed, len(partitions)) for side in looks]
    used = [] if settings.metric is None and accuracies[0] is not None else looks
    measured = [utility.utilities(partitions[0].model, labelled, side, settings.metric, settings.seed, len(partitions)) for side in used]
    judged = any(attack.kind == RECONSTRUCTION for attack in plan.attacks) and not Judge.inapplicable(plan.train, plan.test)
    judge = Judge(plan.data, plan.plain[-1].effort, settings.seed, store) if judged else None
    fits = Fits(models, seeds, settings.seed, store, judge, steps, settings.workers)
    campaign = Campaign(fits, seeds, settings.seed, settings.race, settings.most_doublings, steps.expect)
    unreachable = {attack.name: reason for attack in plan.attacks if (reason := campaign.unreachable(attack)) is not None}
    repeats = all(views.boundary.sent.repeats(plan.train.x) for views in defended)
    work = [(attack, cases) for attack, cases in plan.work(repeats) if attack.name not in unreachable]
    steps.later = (len(CURVE) + 1) * len({case.kind_of(attack) for attack, cases in work for case in cases}) if settings.curve else 0
    outcomes = campaign.run(work)
    if settings.curve:
        outcomes = _curved(outcomes, plan, campaign)
    steps("done")
    return Findings(
        outcomes=outcomes,
        defended_accuracy=accuracies[0],
        reference_accuracy=accuracies[1],
        reference=origin,
        bound=limits,
        bits=known,
        decided=defended[0].decided if settings.answer != WHO else WHO_WORDS,
        repeats=repeats,
        unreachable=unreachable,
        tested=[attack.name for attack, _ in work],
        judged=None if judge is None else judge.accuracy(),
        identification=identification(answers, plan),
        utilities={name: (measured[0][name], measured[1][name]) for name in measured[0]} if measured else {},
    )


class _Steps:
    """Counts announced steps for a progress callback; attacks may announce from several threads.

    The total is told from the first fit on as what there can be at most. It falls as attacks drop out of the race, and never rises.

    Attributes:
        later: steps after those that are expected.
    """

    def __init__(self, progress: Progress | None, first: int) -> None:
        self._progress, self._done, self._total, self.later = progress, 0, first, 0
        self._lock = threading.Lock()

    def expect(self, most: int) -> None:
        """So many more steps at most, but for the later ones."""
        with self._lock:
            self._total = self._done + most + self.later

    def __call__(self, what: str) -> None:
        with self._lock:
            self._total = self._done if what == "done" else max(self._total, self._done + 1)
            if self._progress is not None:
                self._progress(self._done, self._total, what)
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


def _seats(views: Views, partition: Partition, theirs: Views, reference: Partition, plan: AuditPlan) -> dict[str, Seat]:
    settings = plan.settings
    digest, below = _digest(partition), _digest(reference)
    # What a seat shows of its halves: a ceiling is a boundary too, and a function of the operator's own cannot be told from another.
    decided = f"{DECISION} {settings.answer}" if isinstance(settings.answer, str) else None
    found = {
        BOUNDARY: Seat(views.boundary, digest and f"{BOUNDARY} {digest}"),
        DECISION: Seat(views.decision, digest and decided and f"{decided} {digest}"),
        ANSWER: Seat(views.answer, digest and f"{ANSWER} {digest}"),
        CEILING: Seat(theirs.boundary, below and f"{BOUNDARY} {below}"),
    }
    return found if settings.groups is None else {**found, **open_seats(views, found[DECISION], digest, plan)}


def _digest(partition: Partition) -> str | None:
    """Of the halves; with frozen noise, of attackers who lack the key too."""
    return digest_of_halves(partition, *(["keys apart"] if frozen_noise(partition) else []))


def _curved(outcomes: Sequence[Outcome], plan: AuditPlan, campaign: Campaign) -> list[Outcome]:
    """The same, with the curve over numbers of examples of the strongest attack of every kind at one look."""
    found = list(outcomes)
    attacks = {attack.name: attack for attack in plan.attacks}
    for kind in dict.fromkeys(o.result.kind for o in outcomes):
        rivals = [o for o in outcomes if o.result.kind == kind and o.result.budget is None and not o.result.frames]
        rivals = [o for o in rivals if o.result.looks == min(plan.settings.looks)]
        best = max(rivals, key=lambda o: o.result.strength)
        attack = attacks[best.result.attack]
        case = next(c for c in plan.apart.get(attack.kind, plan.plain) if c.people == best.result.people and c.budget is None)
        sizes = [size for size in CURVE if size < case.data.owned]
        smaller = selection.cases(case.data, case.people, sizes, plan.settings.epochs, plan.settings.batch_size) if sizes else []
        points = tuple(campaign.curve(attack, [*smaller, case]))
        rising = len(points) > 1 and points[-1][1] - points[-2][1] >= FLAT
        result = replace(best.result, curve=points, at_least=best.result.at_least or rising)
        found[found.index(best)] = replace(best, result=result)
    return found


def _looks(answers: Sequence[View], test: Samples, seeds: int) -> list[list[np.ndarray]]:
    """The server half's outputs for the victims: of every model, as many looks as there are attacker seeds."""
    return [view.see(test.x) for view in answers for _ in range(seeds)]


def _accuracy(looks: Sequence[list[np.ndarray]], test: Samples, seed: int, models: int) -> Score | None:
    """Of the task, averaged over models and looks."""
    right = [found for look in looks if (found := correct(look, test)) is not None]
    return score_of(right, seed, models) if right else None
