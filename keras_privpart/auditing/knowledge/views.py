"""What an attacker sees of an input, once or several times: the boundary, the server half's answer, or only the decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.auditing.knowledge.passage import BATCH, Passage
from keras_privpart.auditing.knowledge.white_box import Inside
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition

TOP1, SCORES = "top-1", "scores"
_SPLIT_BATCH = 1024  # of what is behind the channel: little work an example
_CHUNK_BYTES = 256 << 20
_KEEP_BYTES = 1 << 30

# What the operator returns: `"top-1"`, `"scores"`, or a function of the server half's outputs.
Answer = str | Callable[[list[np.ndarray]], np.ndarray]


class View:
    """Query access to something that turns inputs into tensors, called anew for every look: a channel draws fresh noise each time.

    Args:
        name: what is seen, for messages.
        observe: from a batch of inputs to a tensor, or any structure of tensors, each with the batch first. Any callable will do: a Keras
            model's inference, an interpreter of a converted device half, a remote service.
        inside: what stands behind it, for attackers who know it; None where that is not to be had.
        before: from all inputs to tensors that are the same at every look; `observe` is then given slices of those.
        looks: how many looks at the same input an attacker gets: it sees their mean.
    """

    def __init__(
        self,
        name: str,
        observe: Callable[[Any], Any],
        inside: Inside | None = None,
        before: Callable[[np.ndarray], list[Any]] | None = None,
        looks: int = 1,
    ) -> None:
        self.name = name
        self.inside = inside
        self.looks = looks
        self._observe = observe
        self._before = before
        self._repeats: bool | None = None
        self._row = 1  # bytes seen of one input
        self._kept: tuple[np.ndarray, list[tf.Tensor]] | None = None
        self._looking: dict[int, View] = {}

    def looking(self, looks: int) -> View:
        """The same for an attacker who sees every input so many times."""
        if looks == self.looks:
            return self
        return self._looking.setdefault(looks, View(self.name, self._observe, self.inside, self._before, looks))

    def repeats(self, x: np.ndarray) -> bool:
        """Whether two looks at the same inputs agree: then there is no noise to draw again, and more looks show no more."""
        if self._repeats is None:
            few = x[:BATCH]
            first, second = self._seen(few, 1), self._seen(few, 1)
            self._row = max(1, sum(t[0].nbytes for t in first))
            self._repeats = all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
        return self._repeats

    def see(self, x: np.ndarray) -> list[np.ndarray]:
        """As many looks at inputs `[n, ...]` as the attacker gets, and their mean: every tensor as numbers `[n, ...]`, float32.

        Raises:
            AuditError: a tensor lacks the batch or holds what is not a finite number.
        """
        return self._seen(x, 1 if self.looks == 1 or self.repeats(x) else self.looks)

    def chunks(self, x: np.ndarray, truth: np.ndarray) -> Iterator[tuple[list[tf.Tensor], tf.Tensor]]:
        """A fresh look at all of `x` beside the truth of the same rows, in chunks of at most 256 MB.

        Where two looks at the same inputs agree there is no noise to draw again: then one look is kept, up to 1 GB.
        """
        kept = self._kept  # once: other attackers may look at other inputs meanwhile
        if kept is not None and kept[0] is x:
            yield kept[1], tf.constant(truth)
            return
        if self.repeats(x) and self._row * len(x) <= _KEEP_BYTES:
            look = [tf.constant(t) for t in self.see(x)]
            self._kept = (x, look)
            yield look, tf.constant(truth)
            return
        size = max(BATCH, _CHUNK_BYTES // self._row)
        if size >= len(x):
            yield [tf.constant(t) for t in self.see(x)], tf.constant(truth)
            return
        for start in range(0, len(x), size):
            yield [tf.constant(t) for t in self.see(x[start : start + size])], tf.constant(truth[start : start + size])

    def _seen(self, x: np.ndarray, looks: int) -> list[np.ndarray]:
        given, size = ([x], BATCH) if self._before is None else (self._before(x), _SPLIT_BATCH)
        parts = [self._mean([t[i : i + size] for t in given], looks) for i in range(0, len(x), size)]
        tensors = [np.concatenate(column) for column in zip(*parts, strict=True)]
        for i, tensor in enumerate(tensors):
            if len(tensor) != len(x) or not np.isfinite(tensor).all():
                raise AuditError(
                    f"Received tensor {i} of {self.name} as {list(tensor.shape)} for {len(x)} inputs; expected one row of finite numbers "
                    "an input. Check the halves on these inputs."
                )
        return tensors

    def _mean(self, given: list[Any], looks: int) -> list[np.ndarray]:
        total: list[np.ndarray] = []
        for _ in range(looks):
            look = [np.asarray(t, "float32") for t in keras.tree.flatten(self._observe(given if self._before else given[0]))]
            total = [a + b for a, b in zip(total, look, strict=True)] if total else look
        return total if looks == 1 else [t / np.float32(looks) for t in total]


class Views:
    """All that there is to see of one partition: views that share one passage, so that what is before the channel is computed once.

    Args:
        partition: the halves.
        answer: what the operator returns, see `audit`.
        name: of the boundary, for messages.
    """

    def __init__(self, partition: Partition, answer: Answer = TOP1, name: str = "the boundary") -> None:
        passage = Passage(partition)
        before = passage.before if passage.split else None
        whole = (lambda f: f) if passage.split else (lambda f: lambda x: f([x]))
        answered = whole(passage.answer)
        self.boundary = View(name, whole(passage.crossing), Inside(partition), before)
        self.answer = View("the server half's answer", answered, Inside(partition, answer=True), before)
        decide = _decision(partition, answer)
        self.decision = self.answer
        self.decided = "all that the server half answers"
        if decide is not None:
            self.decided = _TOP1_WORDS if isinstance(answer, str) else "what the operator's own function makes of the answer"
            self.decision = View(
                "the decision", lambda x: decide([np.asarray(t, "float32") for t in keras.tree.flatten(answered(x))]), None, before
            )


_TOP1_WORDS = "which class comes first (top-1)"


def boundary_view(partition: Partition, name: str = "the boundary") -> View:
    """What crosses: the device half, channel included."""
    return Views(partition, SCORES, name).boundary


def answer_view(partition: Partition) -> View:
    """What the server half legitimately outputs: all of its outputs, and nothing of the boundary."""
    return Views(partition, SCORES).answer


def top1_view(partition: Partition, answer: View | None = None) -> View | None:
    """The least of an answer: which class comes first, `[n, classes]` of 0 and 1. None where the server half answers no classes."""
    views = Views(partition, TOP1)
    return None if views.decision is views.answer else views.decision


def _decision(partition: Partition, answer: Answer) -> Callable[[list[np.ndarray]], np.ndarray] | None:
    """From the server half's outputs to the decision; None where that is all of them."""
    if not isinstance(answer, str):
        return answer
    shapes = [tuple(t.shape) for t in partition.model.outputs]
    if answer == SCORES or len(shapes) != 1 or len(shapes[0]) != 2 or not shapes[0][1]:
        return None
    return _Side() if shapes[0][1] == 1 else _first


def _first(outputs: Sequence[np.ndarray]) -> np.ndarray:
    return np.eye(outputs[0].shape[1], dtype="float32")[outputs[0].argmax(axis=1)]


class _Side:
    """On which side of one half a single output is; of 0, where values outside [0, 1] show that it is a logit."""

    def __init__(self) -> None:
        self._logits = False

    def __call__(self, outputs: list[np.ndarray]) -> np.ndarray:
        self._logits = self._logits or bool(outputs[0].min() < 0 or outputs[0].max() > 1)
        return (outputs[0] > (0.0 if self._logits else 0.5)).astype("float32")
