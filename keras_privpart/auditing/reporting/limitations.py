"""What a reader of a report must know beside the numbers: what was not tested, what the data were like."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import keras
import tensorflow as tf

import keras_privpart
from keras_privpart.auditing.attacks import RECONSTRUCTION, Attack
from keras_privpart.auditing.knowledge.splits import Seen, Split
from keras_privpart.auditing.scoring import metrics
from keras_privpart.auditing.scoring.intervals import Score
from keras_privpart.datasets import TASK
from keras_privpart.partitioning.input_kind import PICTURE, SIGNAL, TABLE, TOKENS, InputKind
from keras_privpart.threat_model import ThreatModel

SMALL_TEST = 1000


def versions() -> dict[str, str]:
    """Of the software that the numbers come from."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "keras_privpart": keras_privpart.__version__,
    }


def not_tested(
    tested: Sequence[Attack], threat_model: ThreatModel, attributes: Sequence[str], data: Split, group: str | None, models: int
) -> tuple[str, ...]:
    """What the audit says nothing about, each a sentence; attacks that were asked for and found inapplicable are the caller's to add."""
    families, kinds = {attack.family for attack in tested}, {attack.kind for attack in tested}
    return (
        *(
            f"{family}: the threat model calls for it, and this audit had no such attack"
            for family in threat_model.attacks()
            if family not in families
        ),
        *(["reconstruction of the input"] if not any(kind.startswith(RECONSTRUCTION) for kind in kinds) else []),
        "attackers who change what the device computes",
        f"attributes other than {', '.join(attributes)}" if attributes else "private attributes: none was named",
        *(
            ["people whom the attacker knows and people whom it does not, apart: no group= tells whose example is whose"]
            if not group
            else []
        ),
        f"attackers with other data, or with more than these {data.owned:,} examples",
        *(["another training of the same model: one trained model was attacked"] if models == 1 else []),
        "perceptual distance of pictures: no maintained measure comes without weights to download",
    )


def notes(
    data: Split,
    accuracy: Sequence[Score | None],
    seen: Seen | None,
    judged: float | None,
    tested: Sequence[Attack],
    budgets: Sequence[int | None],
    inputs: Sequence[InputKind] = (),
    measured: bool = False,
) -> tuple[str, ...]:
    """What a reader must know to judge the numbers, each a sentence.

    Args:
        judged: how often the judge of reconstructions is right.
        inputs: of the model, where they are not one picture.
        measured: whether there is another measure of the task than accuracy.
    """
    found = []
    victims = len(data.victims)
    if victims < SMALL_TEST:
        found.append(f"The test set is small ({victims} examples): intervals are wide, and differences within them mean nothing.")
    for whose, drawn in (("attackers", data.known), ("victims", data.victims)):
        if drawn.drawn_from:
            found.append(f"The {whose}' examples are a draw from {drawn.drawn_from:,}; limit= says how many are drawn.")
    if data.dropped:
        found.append(f"{data.dropped} examples were taken out of the attackers' data because the test set has the same ones.")
    found.append(_about_training(data, seen))
    found += [
        f"A budget of {b:,} has no results of its own: the attackers have {data.owned:,} examples."
        for b in budgets
        if b and b >= data.owned
    ]
    if None in accuracy and not measured:
        found.append(
            f'Nothing says how well the task is done: labels under "{TASK}" that fit the outputs are missing. Give them, or a metric=.'
        )
    if any(attack.kind == RECONSTRUCTION for attack in tested):
        found += [] if inputs else _about_pictures(data.victims.x.shape, judged)
    if any(attack.kind.startswith(RECONSTRUCTION) for attack in tested):
        found += [f"The input {each.name!r} counts as {_WORDS[each.kind]}" for each in inputs]
    return tuple(found)


_WORDS = {
    PICTURE: "a picture: SSIM.",
    SIGNAL: "a signal: signal-to-noise ratio of the reconstruction, from 0 dB for silence to 60 dB, and log-spectral distance in dB.",
    TABLE: "a table: of numbers the explained variance, of categories (texts, truth values, at most 32 different whole numbers) the "
    "accuracy; recovered is the mean over columns, where always naming the commonest category counts 0.",
    TOKENS: "tokens: the share that is named at its place, and the share among the five best guesses. Tokens that the attackers' data "
    "lack, or hold seldom, count as not recovered; padding, where the model masks it, does not count.",
}


def _about_training(data: Split, seen: Seen | None) -> str:
    if seen is None:
        return "Whether the model was trained on the attackers' examples, or on the victims, was not checked: trained_on= was not given."
    share = f"{seen.attacker:,} of the attackers' {data.owned:,} examples" if seen.attacker else "None of the attackers' examples"
    checked = "no victim was" if not seen.victims else f"{seen.victims} of {len(data.victims)} victims were, as natural duplicates"
    return f"{share[0].upper()}{share[1:]} were used to train the model; {checked} (by hashes of the examples)."


def _about_pictures(shape: Sequence[int], judged: float | None) -> list[str]:
    height, width = shape[1:3]
    scales = metrics.ms_ssim_scales(height, width)
    found = []
    if scales < 2:
        found.append(f"MS-SSIM does not apply to pictures of {height} x {width} pixels: its window needs 22 for a second scale.")
    elif scales < 5:
        found.append(f"MS-SSIM has {scales} of its five scales on pictures of {height} x {width} pixels.")
    if judged is None:
        return [
            *found,
            "Identification from the reconstruction does not apply: it needs whole-number labels of the task, the same in both sets.",
        ]
    return [
        *found,
        "Identification is the share of reconstructions whose class a separate classifier tells, trained on the attackers' real pictures; "
        f"of the victims' real pictures it tells {100 * judged:.1f} %.",
    ]
