"""`audit`: fresh attackers against a frozen device half, each with its own floors and ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_privpart.auditing.attacks import Attack
from keras_privpart.auditing.conclusion import assembled
from keras_privpart.auditing.execution import executed
from keras_privpart.auditing.knowledge.open_set import OpenSet
from keras_privpart.auditing.knowledge.views import TOP1, Answer
from keras_privpart.auditing.plan import planned
from keras_privpart.auditing.reporting.report import AuditReport
from keras_privpart.auditing.scoring.utility import Metric
from keras_privpart.auditing.settings import AuditSettings, Progress
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.input_kind import Given
from keras_privpart.threat_model import ThreatModel


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
    groups: OpenSet | None = None,
    epochs: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
    pictures: int = 8,
    answer: Answer = TOP1,
    looks: Sequence[int] = (1, 16),
    frames: int | None = None,
    race: bool = True,
    doublings: int | None = None,
    curve: bool = False,
    bound: bool = True,
    value_range: Sequence[float] | None = None,
    limit: int | None = None,
    input_kind: Given = None,
    metric: Metric = None,
    cache: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Attacks the boundary with attackers that no training ever saw, and says how far they got.

    Every attack is trained from scratch on what crosses (the boundary). Those within 0.02 of the strongest go on: they are trained until
    doubling the updates gains less than 0.005 on held-out examples, with `seeds` attackers each; and with the same effort on nothing but
    the decision (the floor of the headline), on all that the server half answers (a floor beside it), and on what crosses in an undefended
    partition (the ceiling). The device half is frozen and in inference mode; its channel draws fresh noise at every look. Attackers learn
    from `train`, of which 15 % are held out to choose weights by. By one half of the victims, `test`, the strongest attack is chosen; its
    numbers are of the other half. Leakage is (boundary - floor) / (ceiling - floor).

    Sets the global random seeds of Python, NumPy and Keras. Noise of a channel that cannot be seeded, as a device's must not
    be, differs from audit to audit.

    Args:
        partition: the defended halves; or several, trained alike from different seeds: scores are averaged within a model first.
        train: the attacker's data: `Samples`, `(x, targets)` arrays, or a `tf.data.Dataset` of batches of such pairs, with `targets`
            the task's labels or a mapping of `"task"` and private attributes. Pictures `[n, h, w, c]` as uint8, or as the model takes them,
            as signals, tables and tokens are; several inputs as a dict by name, or a tuple in the model's order.
        test: the victims, in the same form; no example may be in `train` as well (see `splits.split`).
        private: keys of the attributes to infer; those of the threat model by default.
        reference: an undefended partition of the same task, the ceiling, or one for every model; None trains a twin of every model on
            the task alone (see `reference.undefended_twin`).
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
        groups: who is enrolled, a helper or unseen, for tasks where strangers ask too; needs `group` and `reference`. Private attributes
            are then attacked for victims of each group, by attackers with and without the other groups' pictures (`open_set.protocols`);
            who comes first and `"who or unknown"` are floors both; identity, and detection with identification, stand beside them. The
            task's labels count for enrolled people only: give strangers -1.
        epochs: of every attacker over its data, ended early when the held-out loss stops falling; None for as many as make 600
            updates, at least 8 and at most 100, and doubled from there. Fewer are low effort, which the report says and the gate refuses.
        batch_size: of the attackers' training; smaller where an epoch would have under 8 batches, but not under 8 examples.
        seed: of the division of the data, the attackers and the bootstrap.
        pictures: how many test images the report shows.
        answer: the decision that the operator returns: `"top-1"` (with one output `[batch, 1]`, on which side it is), `"scores"` for all
            that the server half answers, with `groups` `"who or unknown"` (unknown where no score exceeds what `false_alarms` of the
            helpers' pictures among the training data exceed), or a function from the list of its outputs to an array `[n, ...]`.
        looks: how many looks at the same input attackers get, each a number with results of its own: they see the mean, and train on
            means. Where two looks agree, the report says so and one is all.
        frames: how many near duplicates of every input attackers get in a case of its own, as successive frames of a scene are (moved by a
            pixel, 4 % more or less light): they see the mean, and train on means. 0 for none; None for 16 where noise is frozen, whose
            other looks show no more, and for none elsewhere.
        race: whether attacks that are far behind stop after one attacker on the boundary; False for floors and ceilings of all.
        doublings: how often the updates of the strongest attacks may be doubled; None for 3, or 0 where `epochs` is given. Where the last
            doubling still gained, or none was tried, numbers say "at least".
        curve: whether the strongest attack is carried out with 1,000, 4,000 and 16,000 examples as well, to see whether more would help.
        bound: whether the report has a bound on the error of any reconstruction (`bounds.bound`), for the first model, where Gaussian
            noise stands on the boundary; elsewhere it says why there is none.
        value_range: black and white of pictures as the model takes them, such as (0, 255) or (-1, 1); by default what a `Rescaling` or
            `Normalization` at the model's front tells, else [0, 1]. Pictures are scaled for attackers and scores, never for the model.
        limit: the most examples of `train` and of `test` each, drawn by `seed` while batches pass by, so that a `tf.data.Dataset` may be
            larger than memory; `trained_on` is never held. The report says how many were drawn from how many. None for all.
        input_kind: what the inputs hold: `"picture"`, `"signal"`, `"table"` or `"tokens"`, for all or by input name; by default as
            `input_kind.kinds_of` infers it from the model. Scores follow from it, and each of several inputs has results of its own.
        metric: what the task is measured by, beside accuracy where it has that: `"accuracy"`, `"mae"`, `"mse"`, `"auc"` (mean of several
            labels), `"iou"` (segmentation), a Keras metric, or a function of truth and answers, each `[n, ...]`, to a number for every
            example or for all; or such by output name. None for the first metric that the model was compiled with, else for what fits.
        cache: a folder that keeps what every fitted attacker found: an audit that is killed and started again repeats none.
        workers: fits that are carried out at once; as many as there are cores by default.
        progress: called as `progress(done, total, what)` before each step and once when all is done. From the first attack on `total` is
            the most there can be: it falls as attacks drop out, and rises no more.

    Raises:
        AuditError: the data do not fit, overlap, or hold no such attribute; the server half reads an input raw; or no twin can be trained.
    """
    settings = AuditSettings(**locals())
    plan = planned(settings)
    return assembled(plan, executed(plan))
