"""Reconstruction of inputs that are no pictures, and of each of several inputs by itself: a trained decoder, and the kernel posterior."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.auditing.attacks.base.attack import RECONSTRUCTION, Attack, fitted
from keras_privpart.auditing.attacks.base.codes import Codes, distances, flat
from keras_privpart.auditing.attacks.base.learner import Effort, Learner
from keras_privpart.auditing.attacks.reconstruction.codings import Coding, coding_of
from keras_privpart.auditing.attacks.reconstruction.kernel_posterior import LOOKS
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.scoring.evidence import Evidence
from keras_privpart.datasets import Samples
from keras_privpart.partitioning.input_kind import PICTURE, InputKind
from keras_privpart.several_inputs import Inputs, arrays_of
from keras_privpart.training.privacy_terms.input_heads import InputHead

_TOGETHER = 64  # victims answered at a time: scores of every token at every place are large
_CHECKED, _FEWEST = 96, 4
_MOST = 4096  # of the attacker's examples that the posterior weighs
_VARIANCES = np.geomspace(1 / 32, 32, 11)


class InputAttack(Attack):
    """Base: what is recovered of one input, by its kind.

    Tokens are scored by the share that is named at its place (padding left out), signals by their signal-to-noise ratio, tables by the
    share that is recovered of each column: the explained variance of numbers, the accuracy of categories.

    Args:
        how: what names the attack.
        of: the input.
        alone: whether the model has no other.
        keep: how many reconstructions of pictures the evidence keeps for the report.
    """

    def __init__(self, how: str, of: InputKind, alone: bool, keep: int) -> None:
        super().__init__(
            f"{how}, {of.kind if alone else f'input {of.name}'}", RECONSTRUCTION if alone else f"{RECONSTRUCTION} of {of.name}"
        )
        self.of = of
        self.alone = alone
        self.keep = keep
        self._coding: Coding | None = None

    def inapplicable(self, samples: Samples) -> str | None:
        arrays = arrays_of(samples.x)
        if len(arrays) > 1 and self.of.name not in arrays:
            return f"the data have no input {self.of.name!r}, but {', '.join(arrays)}"
        values = self._values(samples)
        if self.of.kind == PICTURE and values.ndim != 4:
            return f"the input {self.of.name!r} has the shape {list(values.shape[1:])}, and pictures are [height, width, channels]"
        return None

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Evidence:
        return fitted(self._coding).evidence(self._values(victims), self._answers(seen), self.keep)

    def _values(self, samples: Samples) -> np.ndarray:
        """The input that is attacked, `[n, ...]`."""
        return samples.x.arrays[self.of.name] if isinstance(samples.x, Inputs) else samples.x

    def _answers(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        coding = fitted(self._coding)
        parts = range(0, len(seen[0]), _TOGETHER)
        return np.concatenate([coding.answers(self._predicted([t[i : i + _TOGETHER] for t in seen])) for i in parts])

    @abstractmethod
    def _predicted(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        """What the last fit predicts, in the shape of the coding's head."""


class InputDecoderAttack(InputAttack):
    """A decoder trained from scratch on the attacker's pairs of what is seen and input; its network and loss follow from the input's kind.

    Args:
        of, alone, keep: see `InputAttack`.
        size: of the network, see `training.privacy_terms.input_heads`.

    References:
        Dosovitskiy and Brox, "Inverting Visual Representations with Convolutional Networks", CVPR 2016.
        Song and Raghunathan, "Information Leakage in Embedding Models", CCS 2020 (tokens).
    """

    family = "decoder"
    concurrent = True

    def __init__(self, of: InputKind, alone: bool = True, size: str = "small", keep: int = 8) -> None:
        super().__init__(f"decoder, {size}", of, alone, keep)
        self.size = size
        self._learners: dict[Any, Learner] = {}
        self._learner: Learner | None = None

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self.notes = ()
        own, check = self._values(known), self._values(held_out)
        self._coding = coding_of(self.of, own)
        seen = [tf.constant(t) for t in view.see(held_out.x)]
        self._learner = self._prepared(tuple(tuple(t.shape[1:]) for t in seen), self._coding.head)
        truth = self._coding.encode(own)
        self._learner.fit(lambda: view.chunks(known.x, truth), (seen, tf.constant(self._coding.encode(check))), len(truth), effort, seed)

    def _predicted(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        return fitted(self._learner).predict([tf.constant(t) for t in seen])

    def _prepared(self, shapes: tuple[tuple[int, ...], ...], head: InputHead) -> Learner:
        """The compiled learner for tensors of these shapes."""
        if (shapes, head) not in self._learners:

            def fresh() -> keras.Model:
                return head.network(shapes, self.size)

            self._learners[shapes, head] = Learner(fresh, head.error)
        return self._learners[shapes, head]


class InputPosteriorAttack(InputAttack):
    """The mean of the attacker's own inputs, weighted by how likely what was seen is under each: see `KernelPosteriorAttack`.

    Of tokens and categories it is how likely each is, of numbers and signals the mean. The variance is chosen on held-out examples.

    Args:
        of, alone, keep: see `InputAttack`.
    """

    family = "kernel posterior"
    concurrent = True
    cheap = True

    def __init__(self, of: InputKind, alone: bool = True, keep: int = 8) -> None:
        super().__init__("kernel posterior", of, alone, keep)
        self._codes: Codes | None = None
        self._centres = np.empty((0, 0), "float32")
        self._rows: Any = None
        self._variance = 1.0

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        mine = known[:_MOST]
        self.notes = () if len(mine) == len(known) else (f"it weighs the first {len(mine):,} of {len(known):,} examples",)
        own = self._values(mine)
        self._coding = coding_of(self.of, own)
        self._codes = codes = _codes(view, held_out.x)
        self._centres, self._rows = codes.centres(view, mine.x, max(_FEWEST, LOOKS // view.looks)), self._coding.rows(own)
        self._variance = self._chosen(view.see(held_out.x[:_CHECKED]), held_out[:_CHECKED])

    def _predicted(self, seen: Sequence[np.ndarray]) -> np.ndarray:
        squares = distances(fitted(self._codes).of(seen), self._centres)
        weights = np.exp((squares.min(axis=1, keepdims=True) - squares) / (2 * self._variance))
        return fitted(self._coding).mean(weights, self._rows)

    def _chosen(self, seen: Sequence[np.ndarray], checked: Samples) -> float:
        """The variance with the best headline score, among multiples of the noise's; without noise, of the nearest distance."""
        codes = fitted(self._codes)
        squares = distances(codes.of(seen), self._centres)
        base = 1.0 if codes.noisy else max(float(np.median(squares.min(axis=1))), 1e-3 * float(squares.mean()), 1e-12)
        scores = []
        for factor in _VARIANCES:
            self._variance = base * float(factor)
            evidence = self.score(seen, checked)
            scores.append((float(evidence.scores()[evidence.headline]), self._variance))
        return max(scores, key=lambda found: found[0])[1]


def _codes(view: View, x: np.ndarray) -> Codes:
    """As `Codes.learn`; without noise every number counts by its own spread, for columns are of units of their own."""
    codes = Codes.learn(view, x)
    if codes.noisy:
        return codes
    spread = flat(view.see(x)).std(axis=0).astype("float64")
    varies = spread > 1e-6 * max(float(spread.max()), 1e-12)
    return replace(codes, scale=np.where(varies, 1 / np.where(varies, spread, 1.0), 0.0).astype("float32"))
