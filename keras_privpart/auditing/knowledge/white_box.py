"""`Inside`: what stands behind a view, for attackers who know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.channels.keyed_noise import by_strangers
from keras_privpart.partitioning.halves import Partition

_BATCH = 256


@dataclass(frozen=True)
class Inside:
    """The halves behind a view. A white-box attacker uses their weights; one that knows only the architecture puts a copy in their place.

    Attributes:
        partition: the halves.
        answer: whether the view shows the server half's answer; the boundary otherwise.
    """

    partition: Partition
    answer: bool = False

    def tensors(self, x: Any, training: bool = False) -> list[tf.Tensor]:
        """What the view shows of inputs `[n, ...]`: float32 tensors `[n, ...]`, with gradients, and fresh channel noise at every call."""
        with by_strangers():
            crossing = self.partition.device(x, training=training)
        shown = self.partition.server(crossing, training=training) if self.answer else crossing
        return [tf.cast(t, tf.float32) for t in keras.tree.flatten(shown)]

    def answer_to(self, crossing: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The server half's answer to boundary tensors `[n, ...]`, each output `[n, ...]`."""
        server, parts = self.partition.server, []
        for i in range(0, len(crossing[0]), _BATCH):
            given = [keras.ops.cast(t[i : i + _BATCH], spec.dtype) for t, spec in zip(crossing, server.inputs, strict=True)]
            parts.append(keras.tree.flatten(server(keras.tree.pack_sequence_as(server.input, given), training=False)))
        return [np.concatenate([np.asarray(p, "float32") for p in column]) for column in zip(*parts, strict=True)]

    def with_device(self, device: keras.Model) -> Inside:
        """The same with another device half."""
        return replace(self, partition=replace(self.partition, device=device))

    @property
    def differentiable(self) -> bool:
        """Whether both halves are Keras models on one floating-point input; converted ones and token ids have no gradient."""
        halves = (self.partition.device, self.partition.server)
        if not all(isinstance(half, keras.Model) for half in halves):
            return False
        inputs = keras.tree.flatten(self.partition.device.input)
        return len(inputs) == 1 and keras.backend.is_float_dtype(inputs[0].dtype)
