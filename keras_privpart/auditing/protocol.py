"""`audit`: fresh attackers against a frozen device half, each with its own floor and ceiling."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_privpart
from keras_privpart.auditing.attacks import RECONSTRUCTION, Attack, Effort, standard
from keras_privpart.auditing.campaign import Campaign, Outcome
from keras_privpart.auditing.images import as_images
from keras_privpart.auditing.intervals import Score, score_of
from keras_privpart.auditing.report import AuditReport, PictureRows
from keras_privpart.auditing.splits import Split, split
from keras_privpart.auditing.task import correct, undefended_twin
from keras_privpart.auditing.views import View, answer_view, boundary_view
from keras_privpart.datasets import TASK, Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition

HELD_OUT = 0.15
UPDATES = 600
FEWEST_EPOCHS, MOST_EPOCHS = 8, 100
SMALL_TEST = 1000

Progress = Callable[[int, int, str], None]


def audit(
    partition: Partition,
    train: Any,
    test: Any,
    private: Sequence[str] = (),
    reference: Partition | None = None,
    seeds: int = 3,
    *,
    attacks: Sequence[Attack] | None = None,
    epochs: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
    pictures: int = 8,
    progress: Progress | None = None,
) -> AuditReport:
    """Attacks the boundary with attackers that no training ever saw, and says how far they got.

    Every attack is trained from scratch three times over, on what crosses (`boundary`), on nothing but the server half's answer
    (`floor`), and on what crosses in an undefended partition (`ceiling`), with `seeds` attackers each. The device half is frozen and in
    inference mode; its channel draws fresh noise at every look. Attackers learn from `train`, of which 15 % are held out to
    choose weights by, and are scored on `test`. Leakage is (boundary - floor) / (ceiling - floor).

    Sets the global random seeds of Python, NumPy and Keras. Noise of a channel that cannot be seeded, as a device's must not
    be, differs from audit to audit.

    Args:
        partition: the defended halves.
        train: the attacker's data: `Samples`, `(x, targets)` arrays, or a `tf.data.Dataset` of batches of such pairs, with `targets`
            the task's labels or a mapping of `"task"` and private attributes. Pictures `[n, h, w, c]` as floats in [0, 1] or uint8.
        test: the victims, in the same form; no example may be in `train` as well (see `splits.split`).
        private: keys of the attributes to infer.
        reference: an undefended partition of the same task, the ceiling; None trains a twin of the partition's model on the task
            alone (see `task.undefended_twin`).
        seeds: attackers of each kind.
        attacks: which; None for `attacks.standard(private)`.
        epochs: of every attacker over its data, ended early when the held-out loss stops falling; None for as many as make 600
            updates, at least 8 and at most 100.
        batch_size: of the attackers' training.
        seed: of the division of the data, the attackers and the bootstrap.
        pictures: how many test images the report shows.
        progress: called as `progress(done, total, what)` before each step and once when all is done.

    Raises:
        AuditError: the data do not fit, overlap, or hold no such attribute; the model has several inputs; or no twin can be trained.
    """
    private = (private,) if isinstance(private, str) else tuple(private)
    train, test = (_single_precision(Samples.of(data)) for data in (train, test))
    members = standard(private, pictures) if attacks is None else list(attacks)
    _check_settings(seeds=seeds, epochs=epochs, batch_size=batch_size, pictures=pictures)
    _check_inputs(partition, train, test, private)
    _check_members(members)
    reasons = {attack.name: attack.inapplicable(test) for attack in members}
    members = [attack for attack in members if reasons[attack.name] is None]
    if any(attack.kind == RECONSTRUCTION for attack in members):
        _ = as_images(train.x), as_images(test.x)  # raises before hours of training, not after
    data = split(train, test, HELD_OUT, seed)
    if epochs is None:
        epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(UPDATES / max(1, len(data.known) // batch_size))))
    announce = _Steps(progress, 1 + 3 * seeds * len(members))

    announce("task accuracy" if reference is not None else "training an undefended twin")
    origin = "an undefended partition given by the caller"
    if reference is None:
        reference, origin = undefended_twin(partition, data.known, data.held_out, seed)
    views = {
        "boundary": boundary_view(partition),
        "floor": answer_view(partition),
        "ceiling": boundary_view(reference, "the undefended boundary"),
    }
    accuracy = [_accuracy(view, test, seeds, seed) for view in (views["floor"], answer_view(reference))]
    campaign = Campaign(views, data, Effort(epochs, batch_size), seeds, seed, announce)
    outcomes = [campaign.run(attack) for attack in members]
    announce("done")
    report = AuditReport(
        results=tuple(outcome.result for outcome in outcomes),
        defended_accuracy=accuracy[0],
        reference_accuracy=accuracy[1],
        seeds=seeds,
        known=len(data.known),
        held_out=len(data.held_out),
        victims=len(test),
        boundary=str(partition.boundary),
        boundary_bytes=partition.boundary.nbytes,
        input_bytes=int(test.x[0].nbytes),
        reference=origin,
        settings={"epochs": epochs, "batch_size": batch_size, "seed": seed},
        versions=_versions(),
        not_tested=_not_tested(reasons, private, data),
        notes=_notes(data, accuracy),
    )
    return replace(report, pictures=_pictures(report, outcomes, test, pictures))


class _Steps:
    """Counts announced steps for a progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, what: str) -> None:
        if self._progress is not None:
            self._progress(self._done, self._total, what)
        self._done += 1


def _check_settings(**settings: int | None) -> None:
    for name, value in settings.items():
        least = 0 if name == "pictures" else 1
        if value is None and name == "epochs":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise AuditError(f"Received {name}={value!r}; expected a whole number from {least}. Give one.")


def _check_inputs(partition: Partition, train: Samples, test: Samples, private: Sequence[str]) -> None:
    inputs = [t.name for t in keras.tree.flatten(partition.model.input)]
    if len(inputs) > 1 or partition.public_inputs:
        raise AuditError(f"Received a model with the inputs {inputs}; expected one. Audits of several inputs are not supported yet.")
    for key in private:
        for name, samples in (("train", train), ("test", test)):
            if key not in samples.targets:
                raise AuditError(f"Received {name} with the targets {sorted(samples.targets)}; expected the private key {key!r}. Add it.")
            values = np.asarray(samples.targets[key])
            if values.size != len(samples) or np.issubdtype(values.dtype, np.floating):
                raise AuditError(
                    f"Received {key!r} of {name} as {values.dtype}{list(values.shape)}; expected one class an example, whole numbers, "
                    "truth values or texts. Convert it to classes."
                )
            if len(np.unique(values)) < 2:
                raise AuditError(
                    f"Received one value of {key!r} in {name}; expected at least two, or there is nothing to infer. Give data in which it "
                    "varies, or leave it out of private."
                )


def _check_members(attacks: Sequence[Attack]) -> None:
    names = [attack.name for attack in attacks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise AuditError(
            f"Received the attacks {twice or names}{' twice' if twice else ''}; expected at least one, each once. Rename them."
        )


def _single_precision(samples: Samples) -> Samples:
    """Double precision costs twice the memory and is not what a device computes in."""
    return Samples(samples.x.astype("float32"), samples.targets) if samples.x.dtype == np.float64 else samples


def _accuracy(answers: View, test: Samples, seeds: int, seed: int) -> Score | None:
    """Of the task, averaged over as many looks as there are attacker seeds."""
    looks = [correct(answers.see(test.x), test) for _ in range(seeds)]
    right = [look for look in looks if look is not None]
    return score_of(right, seed) if right else None


def _pictures(report: AuditReport, outcomes: Sequence[Outcome], test: Samples, count: int) -> PictureRows | None:
    """Test images beside the strongest decoder's reconstructions."""
    if RECONSTRUCTION not in report.kinds or not count:
        return None
    best = report.strongest(RECONSTRUCTION)
    samples = next(o.samples for o in outcomes if o.result is best)
    if not samples:
        return None
    count = min(count, *(len(sample) for sample in samples.values()))
    original = as_images(test.x[:count])
    return PictureRows(best.attack, original, *(samples[side][:count] for side in ("ceiling", "boundary", "floor")))


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "keras_privpart": keras_privpart.__version__,
    }


def _not_tested(reasons: Mapping[str, str | None], private: Sequence[str], data: Split) -> tuple[str, ...]:
    named = f"attributes other than {', '.join(private)}" if private else "private attributes: none was named"
    return (
        *(f"{name}: {reason}" for name, reason in reasons.items() if reason is not None),
        "white-box inversion (optimising an input until it gives the observed boundary) and generative priors",
        "attackers without query access to the device half, and attackers who change what it computes",
        named,
        "attributes of people whom the attacker has never seen: the split is the caller's",
        "membership of a victim in the training data",
        f"attackers with other data, or with more than these {len(data.known) + len(data.held_out):,} examples",
        "another training of the same model: one trained model was attacked",
    )


def _notes(data: Split, accuracy: Sequence[Score | None]) -> tuple[str, ...]:
    notes = []
    if len(data.victims) < SMALL_TEST:
        notes.append(f"The test set is small ({len(data.victims)} examples): intervals are wide, and differences within them mean nothing.")
    if data.dropped:
        notes.append(f"{data.dropped} examples were taken out of the attackers' data because the test set has the same ones.")
    if None in accuracy:
        notes.append(f'Task accuracy does not apply: it needs whole-number labels under "{TASK}" and one output [batch, classes].')
    return tuple(notes)
