"""`TranslatedAttack`: attribute inference from something that the attacker first makes of what it sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from keras_privpart.auditing.attacks.base.attack import DATA, QUERIES, Attack
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.attacks.base.repeatable import Repeatable
from keras_privpart.auditing.attacks.inference.attributes import AttributeAttack
from keras_privpart.auditing.attacks.inference.probe import ProbeAttack
from keras_privpart.auditing.attacks.reconstruction.decoder import DecoderAttack
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring.evidence import Evidence
from keras_privpart.datasets import Samples


class Translation(Repeatable, ABC):
    """What an attacker makes of the tensors that it sees, before it infers anything from them."""

    notes: tuple[str, ...] = ()

    @abstractmethod
    def inapplicable(self, samples: Samples) -> str | None:
        """Why there is no such translation for such samples."""

    def inapplicable_to(self, view: View) -> str | None:
        """Why there is none for this view."""
        return None

    @abstractmethod
    def learn(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        """Learns to translate, from scratch."""

    @abstractmethod
    def apply(self, seen: Sequence[np.ndarray]) -> list[np.ndarray]:
        """From tensors `[n, ...]` to tensors `[n, ...]`."""


class TranslatedAttack(Attack):
    """Learns a translation, then an attribute attack on what is translated.

    Args:
        inner: the attribute attack.
        translation: learned before it, on the same examples.
        how: names the translation.
        family: see `Attack`; the inner attack's where None.
        needs: see `Attack`.
    """

    def __init__(
        self,
        inner: AttributeAttack,
        translation: Translation,
        how: str,
        family: str | None = None,
        needs: frozenset[str] = frozenset((DATA, QUERIES)),
    ) -> None:
        super().__init__(f"{inner.name}, {how}", inner.kind)
        self.family = family or inner.family
        self.needs = needs
        self._inner = inner
        self._translation = translation

    def inapplicable(self, samples: Samples) -> str | None:
        return self._inner.inapplicable(samples) or self._translation.inapplicable(samples)

    def inapplicable_to(self, view: View) -> str | None:
        return self._translation.inapplicable_to(view)

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self._translation.learn(view, known, held_out, effort, seed)
        translated = View(f"a translation of {view.name}", lambda x: self._translation.apply(view.see(x)))
        self._inner.fit(translated, known, held_out, effort, seed)
        self.notes = (*self._translation.notes, *self._inner.notes)

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Evidence:
        return self._inner.score(self._translation.apply(seen), victims)


class _Reconstruction(Translation):
    """To pictures, by a decoder."""

    def __init__(self, decoder: DecoderAttack) -> None:
        self._decoder = decoder

    def inapplicable(self, samples: Samples) -> str | None:
        return self._decoder.inapplicable(samples)

    def learn(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self._decoder.fit(view, known, held_out, effort, seed)
        self.notes = self._decoder.notes

    def apply(self, seen: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self._decoder.reconstruct(seen)]


def from_reconstruction(
    attribute: str, probe: str = "conv", unseen: bool = False, decoder: DecoderAttack | None = None
) -> TranslatedAttack:
    """A probe on a decoder's reconstructions (large, mixed loss, by default): what a person who looks at them could tell."""
    translation = _Reconstruction(decoder or DecoderAttack("large", "mixed"))
    return TranslatedAttack(ProbeAttack(attribute, probe, unseen), translation, "from the reconstruction")
