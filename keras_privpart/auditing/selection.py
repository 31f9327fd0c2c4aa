"""What an audit sets out to do: which attacks, with which examples, by which effort."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from keras_privpart.auditing.attacks import Attack, Effort, chosen, denied
from keras_privpart.auditing.cases import Case
from keras_privpart.auditing.checks import check_members
from keras_privpart.auditing.knowledge import open_set
from keras_privpart.auditing.knowledge.open_set import OpenSet
from keras_privpart.auditing.knowledge.people import protocols
from keras_privpart.auditing.knowledge.splits import Split
from keras_privpart.datasets import Samples
from keras_privpart.partitioning.input_kind import InputKind
from keras_privpart.threat_model import ThreatModel

UPDATES = 600
FEWEST_EPOCHS, MOST_EPOCHS = 2, 100
FEWEST_BATCHES, SMALLEST_BATCH = 8, 8


def members(
    attacks: str | Sequence[str | Attack] | None,
    threat_model: ThreatModel | None,
    private: Sequence[str],
    unseen: Sequence[str],
    pictures: int,
    test: Samples,
    inputs: Sequence[InputKind] = (),
) -> tuple[list[Attack], dict[str, str]]:
    """The attacks to carry out, and why others are not: by name."""
    if attacks is None and threat_model:
        wanted = _called_for(threat_model, unseen, pictures, inputs)
    else:
        wanted = chosen(attacks, (*private, *unseen), pictures, unseen, inputs)
    check_members(wanted)
    reasons = {a.name: (denied(a, threat_model) if threat_model else None) or a.inapplicable(test) for a in wanted}
    return [a for a in wanted if reasons[a.name] is None], {name: reason for name, reason in reasons.items() if reason is not None}


def _called_for(threat_model: ThreatModel, unseen: Sequence[str], pictures: int, inputs: Sequence[InputKind]) -> list[Attack]:
    """Those of the standard attacks that the threat model calls for, and all there are of the families that have no standard one."""
    families = {*threat_model.attacks(), *(["unseen attribute"] if unseen else [])}
    attributes = (*threat_model.private, *unseen)
    usual = [attack for attack in chosen("standard", attributes, pictures, unseen, inputs) if attack.family in families]
    covered = {attack.family for attack in usual}
    return usual + [a for a in chosen("full", attributes, pictures, unseen, inputs) if a.family in families and a.family not in covered]


def cases(
    data: Split,
    people: str,
    budgets: Sequence[int | None],
    epochs: int | None,
    batch_size: int,
    looks: Sequence[int] = (1,),
    frames: int = 0,
) -> list[Case]:
    """One case a budget, those that the data cannot fill left out, and with the most examples one for every number of looks, in order;
    one for near duplicates comes last."""
    wanted = sorted({math.inf if budget is None or budget >= data.owned else budget for budget in budgets})
    parts = [(None, data) if budget == math.inf else (int(budget), data.limited(int(budget))) for budget in wanted]
    found = [Case(part, _effort(len(part.known), epochs, batch_size), budget, people, min(looks)) for budget, part in parts]
    often = [replace(found[-1], looks=k) for k in sorted(set(looks))[1:]]
    return [*found, *often, *([replace(found[-1], looks=frames, frames=True)] if frames else [])]


def full_epochs(known: int, batch_size: int) -> int:
    """As many as an attacker gets to begin with who is given no number."""
    return _effort(known, None, batch_size).epochs


def _effort(known: int, epochs: int | None, batch_size: int) -> Effort:
    """So many updates that a small budget is no weaker training, only less data."""
    size = max(min(SMALLEST_BATCH, batch_size), min(batch_size, known // FEWEST_BATCHES))
    return Effort(epochs or min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(UPDATES / max(1, known // size)))), size)


def people_cases(
    data: Split,
    group: str,
    private: Sequence[str],
    unseen: Sequence[str],
    budgets: Sequence[int | None],
    epochs: int | None,
    batch_size: int,
    seed: int,
    looks: Sequence[int] = (1,),
    frames: int = 0,
    groups: OpenSet | None = None,
) -> tuple[dict[str, list[Case]], dict[str, str]]:
    """The cases of every attribute under both protocols, or with `groups` under those of an open set, and why there are none of one.

    People are divided by the private attributes together, and by each unseen one alone: to attack one more changes nothing of the others.
    """
    found: dict[str, list[Case]] = {}
    impossible: dict[str, str] = {}
    for attributes in ([private] if private else []) + [[attribute] for attribute in unseen]:
        theirs: list[Case] = []
        divided = protocols(data, group, attributes, seed) if groups is None else open_set.protocols(data, group, groups, attributes, seed)
        for people, part in divided.items():
            if isinstance(part, str):
                impossible[f"{', '.join(attributes)} of {people}"] = part
            else:
                theirs += cases(part, people, budgets, epochs, batch_size, looks, frames)
        found.update(dict.fromkeys(attributes, theirs))
    return found, impossible
