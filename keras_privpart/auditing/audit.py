"""`audit`: fresh attackers against a frozen device half, each with its own floors and ceiling."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_privpart.auditing import selection
from keras_privpart.auditing.attacks import RECONSTRUCTION, Attack
from keras_privpart.auditing.campaign import ANSWER, BOUNDARY, CEILING, TOP1, Campaign, Outcome, Seat
from keras_privpart.auditing.checks import check_budgets, check_inputs, check_settings, check_unseen, single_precision
from keras_privpart.auditing.evaluation_classifier import Judge
from keras_privpart.auditing.knowledge.images import as_images
from keras_privpart.auditing.knowledge.splits import Split, seen_in_training, split
from keras_privpart.auditing.knowledge.views import View, answer_view, boundary_view, top1_view
from keras_privpart.auditing.reference import undefended
from keras_privpart.auditing.reporting import limitations
from keras_privpart.auditing.reporting.report import AuditReport, PictureRows
from keras_privpart.auditing.scoring import bounds
from keras_privpart.auditing.scoring.intervals import Score, score_of
from keras_privpart.auditing.store import Store, digest_of_halves, digest_of_samples
from keras_privpart.auditing.task import correct
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.threat_model import ThreatModel

HELD_OUT = 0.15

Progress = Callable[[int, int, str], None]


def audit(
    partition: Partition | Sequence[Partition],
    train: Any,
    test: Any,
    private: Sequence[str] = (),
    reference: Partition | Sequence[Partition] | None = None,
    seeds: int = 3,
    *,
    attacks: str | Sequence[str | Attack] | None = None,
    unseen: Sequence[str] = (),
    threat_model: ThreatModel | None = None,
    trained_on: Any = None,
    budgets: Sequence[int | None] = (None,),
    group: str | None = None,
    epochs: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
    pictures: int = 8,
    bound: bool = True,
    cache: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Attacks the boundary with attackers that no training ever saw, and says how far they got.

    Every attack is trained from scratch on what crosses (the boundary), on nothing but the server half's answer and on which class
    that answer puts first (two floors, of which the stronger counts), and on what crosses in an undefended partition (the ceiling), with
    `seeds` attackers each. The device half is frozen and in inference mode; its channel draws fresh noise at every look. Attackers learn
    from `train`, of which 15 % are held out to choose weights by, and are scored on `test`. Leakage is
    (boundary - floor) / (ceiling - floor).

    Sets the global random seeds of Python, NumPy and Keras. Noise of a channel that cannot be seeded, as a device's must not
    be, differs from audit to audit.

    Args:
        partition: the defended halves; or several, trained alike from different seeds: scores are averaged within a model first.
        train: the attacker's data: `Samples`, `(x, targets)` arrays, or a `tf.data.Dataset` of batches of such pairs, with `targets`
            the task's labels or a mapping of `"task"` and private attributes. Pictures `[n, h, w, c]` as floats in [0, 1] or uint8.
        test: the victims, in the same form; no example may be in `train` as well (see `splits.split`).
        private: keys of the attributes to infer; those of the threat model by default.
        reference: an undefended partition of the same task, the ceiling, or one for every model; None trains a twin of every model on
            the task alone (see `task.undefended_twin`).
        seeds: attackers of each kind, for every model.
        attacks: which: `"standard"` or `"full"`, names of families or of attacks, or `Attack` objects; None for those that the threat model
            calls for, without one for `"standard"`.
        unseen: keys of attributes that no defence was trained for, attacked all the same, by the probes of the `attacks` that are named:
            a defence that hides one attribute may still show another. Names of attacks and report say *not defended*.
        threat_model: what the attacker is taken to know; attacks beyond it are not tested. Without one, the report compares the attacks
            with `ThreatModel(private=private)`, with the training data where the attackers have them.
        trained_on: the examples that the model was trained on, in the form of `train`: no victim may be among them, and the report says how
            many of the attackers' are.
        budgets: how many examples attackers have in all, each a whole number from 10, or None for all of `train`; results are apart.
        group: key of the target that says whose picture an example is: private attributes are then attacked under two protocols, *same
            people* and *disjoint people*, with results of their own (see `people.protocols`).
        epochs: of every attacker over its data, ended early when the held-out loss stops falling; None for as many as make 600
            updates, at least 8 and at most 100.
        batch_size: of the attackers' training; smaller where an epoch would have under 8 batches, but not under 8 examples.
        seed: of the division of the data, the attackers and the bootstrap.
        pictures: how many test images the report shows.
        bound: whether the report has a bound on the error of any reconstruction (`bounds.bound`), for the first model, where Gaussian
            noise stands on the boundary; elsewhere it says why there is none.
        cache: a folder that keeps what every fitted attacker found: an audit that is killed and started again repeats none.
        workers: attacks that are carried out at once; as many as there are cores by default.
        progress: called as `progress(done, total, what)` before each step and once when all is done.

    Raises:
        AuditError: the data do not fit, overlap, or hold no such attribute; the model has several inputs; or no twin can be trained.
    """
    partitions = (partition,) if isinstance(partition, Partition) else tuple(partition)
    private = (private,) if isinstance(private, str) else tuple(private)
    private = _agreed(threat_model, private)
    unseen = (unseen,) if isinstance(unseen, str) else tuple(unseen)
    attributes = (*private, *unseen)
    train, test = (single_precision(Samples.of(data)) for data in (train, test))
    check_settings(seeds=seeds, epochs=epochs, batch_size=batch_size, pictures=pictures, workers=workers)
    check_budgets(budgets)
    check_unseen(private, unseen)
    check_inputs(partitions, train, test, attributes)
    data = split(train, test, HELD_OUT, seed)
    seen = None if trained_on is None else seen_in_training(train, test, single_precision(Samples.of(trained_on)))
    members, reasons = selection.members(attacks, threat_model, private, unseen, pictures, test)
    if any(attack.kind == RECONSTRUCTION for attack in members):
        _ = as_images(train.x), as_images(test.x)  # raises before hours of training, not after

    if threat_model is None:
        known = seen is not None and 2 * seen.attacker > data.owned
        threat_model = ThreatModel(private=private, data="training" if known else "alike")
    plain = selection.cases(data, "", budgets, epochs, batch_size)
    apart, impossible = (
        selection.people_cases(data, group, private, unseen, budgets, epochs, batch_size, seed) if group is not None else ({}, {})
    )
    plan = [(attack, apart.get(attack.kind, plain)) for attack in members]
    store = Store(cache)
    answers = [answer_view(p) for p in partitions]
    floors = 1 + (top1_view(partitions[0], answers[0]) is not None)
    steps = _Steps(progress, 1 + bound + sum(len(cases) * (2 + floors) * len(partitions) * seeds for _, cases in plan))
    steps("task accuracy" if reference is not None else "training an undefended twin")
    references, origin = _references(partitions, reference, data, seed, cache)
    if bound:
        steps("bounding what any attacker can reconstruct")
    limits = bounds.attempted(partitions[0], train.x, seed) if bound else "left out on request"
    models = [_seats(*model) for model in zip(partitions, answers, references, strict=True)]
    accuracy = [_accuracy(side, test, seeds, seed) for side in (answers, [answer_view(r) for r in references])]
    unjudged = Judge.inapplicable(train, test)
    judge = None if unjudged or not members else Judge(data, plain[-1].effort, seed, store)
    campaign = Campaign(models, seeds, seed, store, judge, steps)
    unreachable = {attack.name: reason for attack in members if (reason := campaign.unreachable(attack)) is not None}
    plan = [(attack, cases) for attack, cases in plan if cases and attack.name not in unreachable]
    steps.total = 1 + bound + sum(len(cases) * campaign.fits(attack) for attack, cases in plan)
    outcomes = campaign.run(plan, workers)
    steps("done")
    tested = [attack for attack, _ in plan]
    report = AuditReport(
        results=tuple(outcome.result for outcome in outcomes),
        defended_accuracy=accuracy[0],
        reference_accuracy=accuracy[1],
        seeds=seeds,
        known=len(data.known),
        held_out=len(data.held_out),
        victims=len(test),
        boundary=str(partitions[0].boundary),
        boundary_bytes=partitions[0].boundary.nbytes,
        input_bytes=int(test.x[0].nbytes),
        reference=origin,
        settings={"epochs": plain[-1].effort.epochs, "batch_size": plain[-1].effort.batch_size, "seed": seed},
        versions=limitations.versions(),
        not_tested=(
            *(f"{what}: {reason}" for what, reason in {**reasons, **unreachable, **impossible}.items()),
            *([f"a bound on the error of any reconstruction: {limits}"] if isinstance(limits, str) else []),
            *limitations.not_tested(tested, threat_model, attributes, data, group, len(partitions)),
        ),
        notes=limitations.notes(data, accuracy, seen, judge, tested, budgets),
        models=len(partitions),
        threat_model=threat_model,
        scored_on=digest_of_samples(test),
        bound=None if isinstance(limits, str) else limits,
        reproduce=limitations.call(
            private=list(private),
            unseen=list(unseen),
            seeds=seeds,
            budgets=tuple(budgets),
            group=group,
            epochs=epochs,
            seed=seed,
            bound=None if bound else False,
        ),
    )
    return replace(report, pictures=_pictures(report, outcomes, test, pictures))


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


def _agreed(threat_model: ThreatModel | None, private: tuple[str, ...]) -> tuple[str, ...]:
    """The private attributes, which the caller and the threat model name alike."""
    if threat_model is None:
        return private
    if private and set(private) != set(threat_model.private):
        raise AuditError(
            f"Received private={list(private)} and a threat model of {list(threat_model.private)}; expected the same attributes. "
            "Name them in the threat model only."
        )
    return threat_model.private


def _references(
    partitions: Sequence[Partition], reference: Partition | Sequence[Partition] | None, data: Split, seed: int, cache: str | Path | None
) -> tuple[list[Partition], str]:
    """An undefended partition for every model, and where they come from."""
    if reference is None:
        twins = [undefended(p, data, seed + i, cache) for i, p in enumerate(partitions)]
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


def _pictures(report: AuditReport, outcomes: Sequence[Outcome], test: Samples, count: int) -> PictureRows | None:
    """Test images beside the strongest decoder's reconstructions."""
    if RECONSTRUCTION not in report.kinds or not count:
        return None
    best = report.strongest(RECONSTRUCTION)
    samples = next(o.samples for o in outcomes if o.result is best)
    if not samples or not all(map(len, samples.values())):
        return None
    count = min(count, *(len(sample) for sample in samples.values()))
    original = as_images(test.x[:count])
    return PictureRows(best.name, original, *(samples[side][:count] for side in ("ceiling", "boundary", "floor")))
