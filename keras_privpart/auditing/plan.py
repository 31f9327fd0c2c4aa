"""`AuditPlan`: what an audit sets out to do, settled before any attacker is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keras_privpart.auditing import selection
from keras_privpart.auditing.attacks import RECONSTRUCTION, Attack
from keras_privpart.auditing.cases import Case
from keras_privpart.auditing.checks import check_inputs, fitted_to
from keras_privpart.auditing.knowledge.images import check_pictures, not_images, ranged
from keras_privpart.auditing.knowledge.passage import frozen_noise
from keras_privpart.auditing.knowledge.splits import Seen, Split, seen_in_training, split
from keras_privpart.auditing.settings import AuditSettings
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.input_kind import PICTURE, InputKind, kinds_of
from keras_privpart.threat_model import ThreatModel

HELD_OUT = 0.15
FRAMES = 16
NEAR_DUPLICATES = "near duplicates of an input, such as successive frames of a scene"


@dataclass(frozen=True)
class AuditPlan:
    """What is attacked, with what, and what is not.

    Attributes:
        settings: the caller's.
        partitions: the defended halves, one for every model.
        train, test: the attacker's examples and the victims, in single precision.
        data: the same, divided.
        seen: how many of them the model was trained on; None where that is not known.
        threat_model: what the attacker is taken to know.
        attacks: those to carry out.
        plain: the cases of an attack, the largest budget last.
        apart: those of attributes where people are told apart, by kind.
        left_out: why something that was asked for is not tested, by name.
        inputs: what the model takes, each attacked by itself; empty where that is one picture.
    """

    settings: AuditSettings
    partitions: Sequence[Partition]
    train: Samples
    test: Samples
    data: Split
    seen: Seen | None
    threat_model: ThreatModel
    attacks: Sequence[Attack]
    plain: Sequence[Case]
    apart: Mapping[str, Sequence[Case]]
    left_out: Mapping[str, str]
    inputs: Sequence[InputKind] = ()

    def work(self, repeats: bool) -> list[tuple[Attack, Sequence[Case]]]:
        """Every attack with its cases; without those that have none. Where two looks `repeats`, more of them are no case of their own."""
        found = [(attack, self.apart.get(attack.kind, self.plain)) for attack in self.attacks]
        least = min(self.settings.looks)
        return [(attack, kept) for attack, cases in found if (kept := [c for c in cases if c.looks == least or c.frames or not repeats])]

    @property
    def low_effort(self) -> bool:
        """Whether attackers are trained less than those of an audit that is given no number of epochs."""
        settings, known = self.settings, len(self.data.known)
        return settings.epochs is not None and settings.epochs < selection.full_epochs(known, settings.batch_size)


def planned(settings: AuditSettings) -> AuditPlan:
    """Checks settings and data, divides the examples and chooses the attacks.

    Raises:
        AuditError: see `audit`.
    """
    settings.check()
    partitions = settings.partitions
    if not partitions:
        raise AuditError("Received no partition; expected one, or several of one architecture. Give what is to be audited.")
    model = partitions[0].model
    train, test = (fitted_to(model, Samples.of(data, settings.limit, settings.seed)) for data in (settings.train, settings.test))
    check_inputs(partitions, train, test, settings.attributes)
    train, test = (ranged(samples, partitions[0], settings.value_range) for samples in (train, test))
    data = split(train, test, HELD_OUT, settings.seed)
    trained_on = None if settings.trained_on is None else (fitted_to(model, part) for part in Samples.parts(settings.trained_on))
    seen = None if trained_on is None else seen_in_training(train, test, trained_on)
    kinds = kinds_of(model, settings.input_kind, AuditError)
    inputs = () if not_images(test.x) is None and kinds[0].kind == PICTURE else kinds
    attacks, left_out = selection.members(
        settings.attacks, settings.threat_model, settings.defended, settings.others, settings.pictures, test, inputs
    )
    if not inputs and any(attack.kind == RECONSTRUCTION for attack in attacks):
        for samples in (train, test):
            check_pictures(samples, partitions[0], settings.value_range)
    known = seen is not None and 2 * seen.attacker > data.owned
    threat_model = settings.threat_model or ThreatModel(private=settings.defended, data="training" if known else "alike")
    how = (settings.budgets, settings.epochs, settings.batch_size)
    frames, why_not = _frames(settings, train)
    apart, impossible = (
        ({}, {})
        if settings.group is None
        else selection.people_cases(
            data, settings.group, settings.defended, settings.others, *how, settings.seed, settings.looks, frames, settings.groups
        )
    )
    return AuditPlan(
        settings=settings,
        partitions=partitions,
        train=train,
        test=test,
        data=data,
        seen=seen,
        threat_model=threat_model,
        attacks=attacks,
        plain=selection.cases(data, "", *how, settings.looks, frames),
        apart=apart,
        left_out={**left_out, **impossible, **why_not},
        inputs=inputs,
    )


def _frames(settings: AuditSettings, train: Samples) -> tuple[int, dict[str, str]]:
    """How many near duplicates attackers see; where they see none, why."""
    frozen = any(map(frozen_noise, settings.partitions))
    wanted = (FRAMES if frozen else 0) if settings.frames is None else settings.frames
    reason = not_images(train.x)
    if wanted and reason is None:
        return wanted, {}
    if wanted and settings.frames is not None:
        raise AuditError(f"Received frames={wanted} and no pictures: {reason}. Expected pictures, or frames=0. Leave frames out.")
    return 0, {NEAR_DUPLICATES: "near duplicates are of pictures" if wanted else f"frames={FRAMES} attacks them"}
