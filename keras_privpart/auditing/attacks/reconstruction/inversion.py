"""`InversionAttack`: seeks, for each victim by itself, a picture of which the view would show what was seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.auditing.attacks.base.attack import DATA, RECONSTRUCTION, WHITE_BOX, Attack, fitted, known_inside, no_gradients
from keras_privpart.auditing.attacks.base.learner import Effort
from keras_privpart.auditing.attacks.reconstruction.descent import mismatch, scales_of
from keras_privpart.auditing.knowledge.images import as_images, not_images, span
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.auditing.knowledge.white_box import Inside
from keras_privpart.auditing.scoring import metrics
from keras_privpart.auditing.scoring.evidence import Pictures
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError

TOGETHER = 32  # pictures sought at once; also how many of its own the attacker tries the weights of a prior on


class Target:
    """What was seen of `TOGETHER` victims, and how far from it a guess is.

    Args:
        inside: what stands behind the view.
        shapes: of the tensors, without the batch.
        span: the model's number for a black pixel, and how far that for a white one is above it.
    """

    def __init__(self, inside: Inside, shapes: Sequence[tuple[int, ...]], span: tuple[float, float]) -> None:
        self._inside = inside
        self._black, self._white = span
        self._seen = [tf.Variable(tf.zeros([TOGETHER, *shape])) for shape in shapes]
        self._scales = tf.Variable(tf.ones([len(shapes)]))

    def aim(self, seen: Sequence[np.ndarray], scales: np.ndarray) -> None:
        """From now on these tensors `[TOGETHER, ...]` are to be matched."""
        for variable, tensor in zip(self._seen, seen, strict=True):
            variable.assign(tensor)
        self._scales.assign(scales)

    def mismatch(self, images: tf.Tensor, inside: Inside | None = None, training: bool = False) -> tf.Tensor:
        """Of pictures in [0, 1], `[TOGETHER]`; see `descent.mismatch`. `inside` takes the place of the true one."""
        return mismatch((inside or self._inside).tensors(self._black + images * self._white, training), self._seen, self._scales)


class Search(ABC):
    """A compiled search for the pictures behind one target."""

    @abstractmethod
    def run(self, start: np.ndarray | None, weight: float, iterations: int, seed: int) -> np.ndarray:
        """Pictures `[TOGETHER, h, w, c]` in [0, 1].

        Args:
            start: pictures to start from; None for the search's own start.
            weight: of the prior against the mismatch.
            iterations: steps.
            seed: of what is random.
        """


class InversionAttack(Attack):
    """Works on each victim by itself, by gradients through what stands behind the view.

    Each victim costs as many passes through the halves as the effort has iterations, so that only the first `most` are attacked.

    Args:
        name: see `Attack`.
        weights: of the prior, to choose from. Of several the attacker takes that with the highest mean SSIM on 32 of its own held-out
            examples; None among them stands for the start as it is, without a search.
        most: victims attacked.
        keep: how many reconstructions the evidence keeps for the report.
    """

    def __init__(self, name: str, weights: Sequence[float | None], most: int = 64, keep: int = 8) -> None:
        super().__init__(name, RECONSTRUCTION)
        self.needs = frozenset((WHITE_BOX, DATA) if len(weights) > 1 else (WHITE_BOX,))
        self.weights = tuple(weights)
        self.most = arguments.whole("most", most, AuditError, advice="It is how many victims are attacked.")
        self.keep = keep
        self._weight: float | None = self.weights[0]
        self._inside: Inside | None = None
        self._span = (0.0, 1.0)
        self._iterations = 0
        self._seed = 0
        self._searches: dict[Any, tuple[Target, Search]] = {}

    def inapplicable(self, samples: Samples) -> str | None:
        return not_images(samples.x)

    def inapplicable_to(self, view: View) -> str | None:
        return no_gradients(view)

    def fit(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        self.notes = ()
        self._inside, self._iterations, self._seed = known_inside(view), effort.iterations, seed
        self._span = span(known)
        self._learn(view, known, held_out, effort, seed)
        if len(self.weights) > 1:
            few = held_out[:TOGETHER]
            seen, truth = view.see(few.x), as_images(few)
            found = [np.mean(metrics.ssim(truth, self._invert(seen, truth.shape[1:], weight))) for weight in self.weights]
            self._weight = self.weights[int(np.nanargmax(found))]
            if self._weight is None:
                self.notes = (f"the search made its own examples no more alike than their start (seed {seed}), and was left out",)

    def score(self, seen: Sequence[np.ndarray], victims: Samples) -> Pictures:
        fitted(self._inside)
        truth = as_images(victims[: self.most])
        return Pictures.of(truth, self._invert([t[: self.most] for t in seen], truth.shape[1:], self._weight), self.keep)

    def _learn(self, view: View, known: Samples, held_out: Samples, effort: Effort, seed: int) -> None:
        """What there is to learn before any victim is seen; for most, nothing."""

    def _start(self, seen: Sequence[np.ndarray]) -> np.ndarray | None:
        """Pictures `[n, h, w, c]` to start from; None for the search's own start."""
        return None

    @abstractmethod
    def _search(self, inside: Inside, target: Target, images: tuple[int, ...]) -> Search:
        """A compiled search for pictures of the shape `[TOGETHER, h, w, c]`."""

    def _invert(self, seen: Sequence[np.ndarray], image_shape: tuple[int, ...], weight: float | None) -> np.ndarray:
        """Pictures `[n, h, w, c]` for what was seen, `TOGETHER` at a time; the last of them are filled up."""
        start, scales, count = self._start(seen), scales_of(seen), len(seen[0])
        if weight is None:
            return np.asarray(start)
        target, search = self._prepared([t.shape[1:] for t in seen], image_shape)
        found = []
        for i in range(0, count, TOGETHER):
            rows = np.resize(np.arange(i, min(i + TOGETHER, count)), TOGETHER)
            target.aim([t[rows] for t in seen], scales)
            found.append(search.run(None if start is None else start[rows], weight, self._iterations, self._seed + i))
        return np.concatenate(found)[:count]

    def _prepared(self, shapes: Sequence[tuple[int, ...]], image_shape: tuple[int, ...]) -> tuple[Target, Search]:
        """The compiled search behind this view; kept, because compiling costs as much as a search."""
        inside = fitted(self._inside)
        key = (id(inside), tuple(shapes), image_shape, self._span)
        if key not in self._searches:
            target = Target(inside, shapes, self._span)  # keeps `inside`, so that its id stays its own
            self._searches[key] = target, self._search(inside, target, (TOGETHER, *image_shape))
        return self._searches[key]
