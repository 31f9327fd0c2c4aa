"""What an audit refuses before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np

from keras_privpart import arguments
from keras_privpart.auditing.attacks import Attack
from keras_privpart.auditing.knowledge.open_set import OpenSet
from keras_privpart.auditing.knowledge.splits import FEWEST
from keras_privpart.auditing.knowledge.views import SCORES, TOP1, WHO, Answer
from keras_privpart.datasets import TASK, Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.graphs.graph import input_names, output_names
from keras_privpart.partitioning.halves import Partition
from keras_privpart.several_inputs import Inputs, arrays_of, each


def check_settings(**settings: int | None) -> None:
    for name, value in settings.items():
        least = 0 if name in ("pictures", "seed", "doublings") else 1
        if value is None and name in ("epochs", "workers", "doublings", "limit"):
            continue
        arguments.whole(name, value, AuditError, least=least)


def check_inputs(partitions: Sequence[Partition], train: Samples, test: Samples, attributes: Sequence[str]) -> None:
    for partition in partitions:
        if partition.public_inputs:
            raise AuditError(
                f"Received a partition whose server half reads the inputs {', '.join(partition.public_inputs)} raw; expected none to be: "
                "what is sent as it is hides nothing. Cut where they have been read, or take them out of the model."
            )
    boundaries = list(dict.fromkeys(str(partition.boundary) for partition in partitions))
    if len(boundaries) > 1:
        raise AuditError(
            f"Received models with the boundaries {boundaries}; expected one architecture, cut at one place. Audit them apart."
        )
    for key in attributes:
        for name, samples in (("train", train), ("test", test)):
            if key not in samples.targets:
                raise AuditError(
                    f"Received {name} with the targets {sorted(samples.targets)}; expected the attribute {key!r} among them. Add it."
                )
            values = np.asarray(samples.targets[key])
            if values.size != len(samples) or np.issubdtype(values.dtype, np.floating):
                raise AuditError(
                    f"Received {key!r} of {name} as {values.dtype}{list(values.shape)}; expected one class per example, whole numbers, "
                    "truth values or texts. Convert it to classes."
                )
            if len(np.unique(values)) < 2:
                raise AuditError(
                    f"Received one value of {key!r} in {name}; expected at least two, or there is nothing to infer. Give data in which it "
                    "varies, or leave it out."
                )


def check_unseen(private: Sequence[str], unseen: Sequence[str]) -> None:
    """Each once, and none of them private: those are what a defence was trained for."""
    names = [*private, *unseen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AuditError(f"Received the attributes {twice} twice; expected each once: as private, or as unseen (not defended). Drop one.")


def check_members(attacks: Sequence[Attack]) -> None:
    names = [attack.name for attack in attacks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise AuditError(
            f"Received the attacks {twice or names}{' twice' if twice else ''}; expected at least one, each once. Rename them."
        )


def fitted_to(model: keras.Model, samples: Samples) -> Samples:
    """Examples whose inputs go by the model's names, numbers in single precision, as a device computes.

    Raises:
        AuditError: they are not the model's inputs.
    """
    names, given = input_names(model), arrays_of(samples.x)
    if isinstance(samples.x, Inputs) and not (set(given) == set(names) or (samples.x.unnamed and len(given) == len(names))):
        raise AuditError(
            f"Received the inputs {', '.join(given)}; expected those of the model, {', '.join(names)}. Give a dict by these names."
        )
    if len(given) != len(names):
        raise AuditError(f"Received one input; expected the {len(names)} of the model, {', '.join(names)}. Give a dict by these names.")
    x = samples.x.renamed(names) if isinstance(samples.x, Inputs) else samples.x
    targets, outputs = dict(samples.targets), output_names(model)
    if TASK not in targets and len(outputs) > 1 and set(outputs) <= set(targets):
        targets[TASK] = Inputs({name: targets.pop(name) for name in outputs})
    return replace(samples, x=each(x, _plain), targets=targets)


def _plain(x: np.ndarray) -> np.ndarray:
    if x.dtype == np.float64:
        return x.astype("float32")
    return x.astype(np.str_) if x.dtype == object else x  # texts, which the array holds by address


def check_budgets(budgets: Sequence[int | None]) -> None:
    """Each at least as many examples as the smallest audit needs."""
    bad = [b for b in budgets if b is not None and not arguments.is_whole(b, FEWEST)]
    if bad or not budgets:
        raise AuditError(
            f"Received budgets={tuple(budgets)!r}; expected numbers of examples from {FEWEST}, or None for all. Give (100, None)."
        )


def check_looks(looks: Sequence[int]) -> None:
    """Whole numbers from 1."""
    if not looks or not all(arguments.is_whole(k) for k in looks):
        raise AuditError(f"Received looks={tuple(looks)!r}; expected how many looks at an input attackers get, from 1. Give (1, 16).")


def check_frames(frames: int | None) -> None:
    """None, 0 for none, or how many near duplicates, from 2."""
    if frames is not None and (not arguments.is_whole(frames, 0) or frames == 1):
        raise AuditError(
            f"Received frames={frames!r}; expected how many near duplicates of an input attackers see, from 2, or 0 for none. Give 16."
        )


def check_answer(answer: Answer, groups: OpenSet | None) -> None:
    """What the operator returns: one of a few words, or a function."""
    words = (TOP1, SCORES) if groups is None else (TOP1, SCORES, WHO)
    if answer not in words and not callable(answer):
        expected = ", ".join(map(repr, words))
        raise AuditError(
            f"Received answer={answer!r}; expected {expected} or a function of the list of the server half's outputs. Give what "
            f"the operator returns to whoever asks{'' if groups else f', and groups= for {WHO!r}'}."
        )


def check_groups(groups: OpenSet | None, group: str | None, reference: object) -> None:
    """Groups of people are told apart by `group`, and an undefended twin cannot be trained on strangers."""
    if groups is None:
        return
    if not isinstance(groups, OpenSet):
        raise AuditError(f"Received groups={groups!r}; expected an OpenSet of enrolled people and helpers. Give OpenSet(enrolled=[...]).")
    missing = [name for name, value in (("group", group), ("reference", reference)) if value is None]
    if missing:
        raise AuditError(
            f"Received groups= without {' and '.join(f'{name}=' for name in missing)}; expected the target that says whose picture an "
            "example is, and an undefended partition, for strangers have no label to train a twin with. Give both."
        )
