"""What an attacker sees of an input: the boundary, or only the server half's answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.auditing.knowledge.white_box import Inside
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition

BATCH = 256
_CHUNK_BYTES = 256 << 20
_KEEP_BYTES = 1 << 30


class View:
    """Query access to something that turns inputs into tensors, called anew for every look: a channel draws fresh noise each time.

    Args:
        name: what is seen, for messages.
        observe: from a batch of inputs to a tensor, or any structure of tensors, each with the batch first. Any callable will do: a Keras
            model's inference, an interpreter of a converted device half, a remote service.
        inside: what stands behind it, for attackers who know it; None where that is not to be had.
    """

    def __init__(self, name: str, observe: Callable[[np.ndarray], Any], inside: Inside | None = None) -> None:
        self.name = name
        self.inside = inside
        self._observe = observe
        self._repeats: bool | None = None
        self._row = 1  # bytes seen of one input
        self._kept: tuple[np.ndarray, list[tf.Tensor]] | None = None

    def see(self, x: np.ndarray) -> list[np.ndarray]:
        """One look at inputs `[n, ...]`: every tensor as numbers `[n, ...]`, float32.

        Raises:
            AuditError: a tensor lacks the batch or holds what is not a finite number.
        """
        parts = [keras.tree.flatten(self._observe(x[i : i + BATCH])) for i in range(0, len(x), BATCH)]
        tensors = [np.concatenate([np.asarray(p, "float32") for p in column]) for column in zip(*parts, strict=True)]
        for i, tensor in enumerate(tensors):
            if len(tensor) != len(x) or not np.isfinite(tensor).all():
                raise AuditError(
                    f"Received tensor {i} of {self.name} as {list(tensor.shape)} for {len(x)} inputs; expected one row of finite numbers "
                    "an input. Check the halves on these inputs."
                )
        return tensors

    def chunks(self, x: np.ndarray, truth: np.ndarray) -> Iterator[tuple[list[tf.Tensor], tf.Tensor]]:
        """A fresh look at all of `x` beside the truth of the same rows, in chunks of at most 256 MB.

        Where two looks at the same inputs agree there is no noise to draw again: then one look is kept, up to 1 GB.
        """
        kept = self._kept  # once: other attackers may look at other inputs meanwhile
        if kept is not None and kept[0] is x:
            yield kept[1], tf.constant(truth)
            return
        if self._repeats is None:
            first, second = self.see(x[:BATCH]), self.see(x[:BATCH])
            self._row = max(1, sum(t[0].nbytes for t in first))
            self._repeats = all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
        if self._repeats and self._row * len(x) <= _KEEP_BYTES:
            look = [tf.constant(t) for t in self.see(x)]
            self._kept = (x, look)
            yield look, tf.constant(truth)
            return
        size = max(BATCH, _CHUNK_BYTES // self._row)
        for start in range(0, len(x), size):
            yield [tf.constant(t) for t in self.see(x[start : start + size])], tf.constant(truth[start : start + size])


def boundary_view(partition: Partition, name: str = "the boundary") -> View:
    """What crosses: the device half, channel included."""
    return View(name, _inference(partition.device), Inside(partition))


def answer_view(partition: Partition) -> View:
    """What the server half legitimately outputs: all of its outputs, and nothing of the boundary."""
    device, server = _inference(partition.device), _inference(partition.server)
    return View("the server half's answer", lambda x: server(device(x)), Inside(partition, answer=True))


def top1_view(partition: Partition, answer: View) -> View | None:
    """The least of an answer: which class comes first, `[n, classes]` of 0 and 1. None where the server half answers no classes."""
    outputs = partition.model.outputs
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or (outputs[0].shape[1] or 0) < 2:
        return None
    classes = int(outputs[0].shape[1])
    return View("the server half's top-1 answer", lambda x: np.eye(classes, dtype="float32")[answer.see(x)[0].argmax(axis=1)])


def _inference(half: Any) -> Callable[[Any], Any]:
    """A half as a compiled function in inference mode; a callable that is no Keras model, as it is."""
    if not isinstance(half, keras.Model):
        return half
    specs = [tf.TensorSpec(t.shape, t.dtype) for t in half.inputs]

    @tf.function(input_signature=specs)
    def run(*tensors: tf.Tensor) -> Any:
        return half(keras.tree.pack_sequence_as(half.input, list(tensors)), training=False)

    return lambda x: run(*(tf.cast(t, spec.dtype) for t, spec in zip(keras.tree.flatten(x), specs, strict=True)))
