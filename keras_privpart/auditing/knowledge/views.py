"""What an attacker sees of an input, once or several times: the boundary, the server half's answer, or only the decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.auditing.knowledge.frames import frame
from keras_privpart.auditing.knowledge.kept_looks import KeptLooks
from keras_privpart.auditing.knowledge.passage import BATCH, Passage
from keras_privpart.auditing.knowledge.white_box import Inside
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition

TOP1, SCORES, WHO = "top-1", "scores", "who or unknown"
_SPLIT_BATCH = 1024  # of what is behind the channel: little work an example
_CHUNK_BYTES = 256 << 20
_KEEP_BYTES = 1 << 30

# What the operator returns: `"top-1"`, `"scores"`, `"who or unknown"` of an open set, or a function of the server half's outputs.
Answer = str | Callable[[list[np.ndarray]], np.ndarray]


class View:
    """Query access to something that turns inputs into tensors, called anew for every look: a channel draws fresh noise each time.

    It shows what an attacker sees who asks. What the victims' devices `sent` is another view where their noise is frozen: its key is
    theirs alone.

    Args:
        name: what is seen, for messages.
        observe: from a batch of inputs to a tensor, or any structure of tensors, each with the batch first. Any callable will do: a Keras
            model's inference, an interpreter of a converted device half, a remote service.
        inside: what stands behind it, for attackers who know it; None where that is not to be had.
        before: from all inputs, and the number of a near duplicate of them, to tensors that are the same at every look; `observe` is then
            given slices of those.
        looks: how many looks at the same input an attacker gets: it sees their mean.
        frames: whether each of them is at another near duplicate of the input, see `frames.frame`.
        sent: what the victims' devices send, where an attacker cannot see the same by asking; this view itself by default.
        kept: where looks are kept, because each costs a pass through the server half; None to look anew every time.
    """

    def __init__(
        self,
        name: str,
        observe: Callable[[Any], Any],
        inside: Inside | None = None,
        before: Callable[[np.ndarray, int], list[Any]] | None = None,
        looks: int = 1,
        frames: bool = False,
        sent: View | None = None,
        kept: KeptLooks | None = None,
    ) -> None:
        self.name = name
        self.inside = inside
        self.looks = looks
        self.frames = frames
        self.sent = sent or self
        self._observe = observe
        self._before = before
        self._kept_looks = kept
        self._repeats: bool | None = None
        self._row = 1  # bytes seen of one input
        self._kept: tuple[np.ndarray, list[tf.Tensor]] | None = None
        self._looking: dict[tuple[int, bool], View] = {}

    def looking(self, looks: int, frames: bool = False) -> View:
        """The same for an attacker who sees every input, or near duplicates of it, so many times."""
        if (looks, frames) == (self.looks, self.frames):
            return self
        sent = None if self.sent is self else self.sent.looking(looks, frames)
        new = View(self.name, self._observe, self.inside, self._before, looks, frames, sent, self._kept_looks)
        return self._looking.setdefault((looks, frames), new)

    def keeping_looks(self) -> View:
        """The same, which keeps looks at the same inputs."""
        sent = None if self.sent is self else self.sent.keeping_looks()
        kept = KeptLooks(lambda x: self._rows(x, 1))
        return View(self.name, self._observe, self.inside, self._before, self.looks, self.frames, sent, kept)

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
        return self._seen(x, 1 if self.looks == 1 or (not self.frames and self.repeats(x)) else self.looks)

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
        if self.frames:
            tensors = _average(self._rows(x, 1, number) for number in range(looks))
        elif self._kept_looks is None or self._repeats is not False:
            tensors = self._rows(x, looks)
        else:
            tensors = self._kept_looks.mean(x, looks)
        for i, tensor in enumerate(tensors):
            if len(tensor) != len(x) or not np.isfinite(tensor).all():
                raise AuditError(
                    f"Received tensor {i} of {self.name} as {list(tensor.shape)} for {len(x)} inputs; expected one row of finite numbers "
                    "an input. Check the halves on these inputs."
                )
        return tensors

    def _rows(self, x: np.ndarray, looks: int, number: int = 0) -> list[np.ndarray]:
        """The mean of so many looks at inputs, or at one near duplicate of each."""
        if self._before is None:
            given, size = [frame(x, number) if number else x], BATCH
        else:
            given, size = self._before(x, number), _SPLIT_BATCH
        parts = [_average(self._look([t[i : i + size] for t in given]) for _ in range(looks)) for i in range(0, len(x), size)]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _look(self, given: list[Any]) -> list[np.ndarray]:
        return [np.asarray(t, "float32") for t in keras.tree.flatten(self._observe(given if self._before else given[0]))]


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
        crossing, answered = ([_looking(f, passage.split, key) for key in (False, True)] for f in (passage.crossing, passage.answer))

        def view(name: str, looks: Sequence[Callable[[Any], Any]], inside: Inside | None) -> View:
            sent = View(name, looks[1], inside, before) if passage.frozen else None
            return View(name, looks[0], inside, before, sent=sent)

        self._view, self._answered = view, answered
        self.boundary = view(name, crossing, Inside(partition))
        self.answer = view("the server half's answer", answered, Inside(partition, answer=True)).keeping_looks()
        decide = _decision(partition, answer)
        self.decision = self.answer
        self.decided = "all that the server half answers"
        if decide is not None:
            self.decided = _TOP1_WORDS if isinstance(answer, str) else "what the operator's own function makes of the answer"
            self.decision = self.decided_by("the decision", decide)

    def decided_by(self, name: str, decide: Callable[[list[np.ndarray]], np.ndarray]) -> View:
        """What a function makes of the server half's outputs."""
        return self._view(name, [_deciding(decide, look) for look in self._answered], None).keeping_looks()


def _looking(function: Callable[[list[Any], bool], Any], split: bool, by_key: bool) -> Callable[[Any], Any]:
    """One look, at what is before the channel or at inputs; by the device's key or by an attacker."""
    return lambda given: function(given if split else [given], by_key)


def _deciding(decide: Callable[[list[np.ndarray]], np.ndarray], look: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda given: decide([np.asarray(t, "float32") for t in keras.tree.flatten(look(given))])


def _average(looks: Iterable[list[np.ndarray]]) -> list[np.ndarray]:
    """The mean of several looks, tensor by tensor."""
    total: list[np.ndarray] = []
    count = 0
    for look in looks:
        total = [a + b for a, b in zip(total, look, strict=True)] if total else look
        count += 1
    return total if count == 1 else [t / np.float32(count) for t in total]


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
