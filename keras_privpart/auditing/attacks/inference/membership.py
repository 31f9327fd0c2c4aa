"""Membership: was the model trained on this very example?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keras_privpart.auditing.attacks.base.attack import DATA, QUERIES, TRAINING_DATA, fitted, known_inside
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.attacks.inference.probe import ProbeAttack
from keras_privpart.auditing.attacks.inference.translated import TranslatedAttack, Translation
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.knowledge.white_box import Inside
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.several_inputs import joined

MEMBER = "member"


class MembershipAttack(TranslatedAttack):
    """A probe of membership on the boundary, the server half's answer to it, and how sure that answer is (its sorted probabilities).

    It applies to samples that say who is a member: `membership(members, others)` makes them.

    References:
        Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks against Machine Learning Models", S&P 2017.
        Nasr, Shokri, Houmansadr, "Comprehensive Privacy Analysis of Deep Learning", S&P 2019 (from hidden layers).
    """

    def __init__(self, probe: str = "mlp") -> None:
        needs = frozenset((DATA, QUERIES, TRAINING_DATA))
        super().__init__(ProbeAttack(MEMBER, probe), _WithAnswer(), "with the answer", "membership", needs)

    def inapplicable(self, samples: Samples) -> str | None:
        if MEMBER not in samples.targets:
            return "the data do not say which examples the model was trained on; attacks.membership makes such data"
        return super().inapplicable(samples)


class _WithAnswer(Translation):
    """The answer and its sorted probabilities beside what crosses; the probabilities alone beside what is an answer already."""

    def __init__(self) -> None:
        self._inside: Inside | None = None

    def inapplicable(self, samples: Samples) -> str | None:
        return None

    def inapplicable_to(self, view: View) -> str | None:
        return f"{view.name} is not given as halves, and the attack asks the server half" if view.inside is None else None

    def learn(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self._inside = known_inside(view)

    def apply(self, seen: Sequence[np.ndarray]) -> list[np.ndarray]:
        inside = fitted(self._inside)
        answers = list(seen) if inside.answer else inside.answer_to(seen)
        return [*seen, *([] if inside.answer else answers), *(_surety(a) for a in answers if a.ndim == 2 and a.shape[1] > 1)]


def _surety(answer: np.ndarray) -> np.ndarray:
    """Log-probabilities `[n, classes]` in falling order; of probabilities and logits alike, as these differ from those by a constant."""
    positive = answer.min() >= 0 and np.allclose(answer.sum(axis=1), 1, atol=1e-3)
    logits = np.log(np.maximum(answer, 1e-12)) if positive else answer
    shifted = logits - logits.max(axis=1, keepdims=True)
    return -np.sort(-(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))), axis=1)


def membership(members: Samples, others: Samples, seed: int = 0) -> tuple[Samples, Samples]:
    """Examples for an audit of membership: as many members as others, one half of each for the attacker, one for its victims.

    Audit them as attacker's and victims' data with `private=["member"]`. Give the audit a `reference` that was trained on the same members:
    a twin trained by the audit has others.

    Args:
        members: examples that the model was trained on.
        others: like them, but the model was not trained on them.
        seed: of the choice and the division.

    Returns:
        The attacker's samples and the victims', each with the target `"member"`, 0 or 1.

    Raises:
        AuditError: fewer than two of either.
    """
    count = min(len(members), len(others)) // 2
    if not count:
        raise AuditError(f"Received {len(members)} members and {len(others)} others; expected at least two of each. Give more.")
    rng = np.random.default_rng(seed)
    drawn = [samples[rng.permutation(len(samples))[: 2 * count]] for samples in (others, members)]
    attacker, victims = ([samples[half] for samples in drawn] for half in (slice(count), slice(count, None)))
    return _joined(attacker, rng), _joined(victims, rng)


def _joined(parts: Sequence[Samples], rng: np.random.Generator) -> Samples:
    """Both parts in one order at random, with the part's number as the target."""
    keys = set(parts[0].targets) & set(parts[1].targets)
    targets = {key: np.concatenate([p.targets[key] for p in parts]) for key in sorted(keys)}
    targets[MEMBER] = np.concatenate([np.full(len(p), i) for i, p in enumerate(parts)])
    whole = replace(parts[0], x=joined([p.x for p in parts]), targets=targets)
    return whole[rng.permutation(len(whole))]
