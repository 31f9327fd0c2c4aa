"""`Passage`: how inputs pass through a partition: up to the channel, which is run once and kept, across, and through the server half."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.auditing.knowledge.frames import frame
from keras_privpart.channels.keyed_noise import by_strangers
from keras_privpart.partitioning.graphs.assembly import bypass
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.input_kind import given_to
from keras_privpart.several_inputs import Inputs

BATCH = 256
_KEEP_BYTES, _KEEP_MOST = 1 << 30, 8

Drawing = Callable[[], AbstractContextManager[Any]]  # whose frozen noise it is, see `keyed_noise.by_strangers`


class Passage:
    """The halves of a partition as compiled functions in inference mode.

    Frozen noise is drawn anew at every look, as by attackers, who lack the device's key; or, `by_key`, as the device itself draws it.

    Where the channel's layers stand at the end of the device half, what comes before them is computed once for the same inputs and kept,
    up to 1 GB: many looks at an input cost no more than the channel.

    Args:
        partition: the halves; converted ones, which are plain callables, are run whole at every look.
    """

    def __init__(self, partition: Partition) -> None:
        chains = _chains(partition)
        self.frozen = frozen_noise(partition)
        self._server = _compiled(partition.server)
        self._before = None if chains is None else _compiled(bypass(partition.device, partition.channel))
        drawn: list[Drawing] = [by_strangers, nullcontext] if self.frozen else [nullcontext]
        self._cross = [_compiled(partition.device, by) if chains is None else _channel(chains, by) for by in drawn]
        self._kept: OrderedDict[tuple[int, int], tuple[np.ndarray, list[tf.Tensor]]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def split(self) -> bool:
        """Whether `before` is anything but the inputs themselves."""
        return self._before is not None

    def before(self, x: np.ndarray, number: int = 0) -> list[Any]:
        """What reaches the channel, of inputs `[n, ...]` or of one of their near duplicates (`frames.frame`); the inputs themselves where
        the channel cannot be told apart."""
        if self._before is None:
            return [frame(x, number) if number else x]
        key = (id(x), number)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]
        given = [x[i : i + BATCH] for i in range(0, len(x), BATCH)]
        parts = [keras.tree.flatten(self._before(frame(part, number) if number else part)) for part in given]
        found = [tf.concat(column, axis=0) for column in zip(*parts, strict=True)]
        with self._lock:
            self._kept[key] = (x, found)  # holds x, so that its id stays its own
            while len(self._kept) > 1 and (len({one for one, _ in self._kept}) > _KEEP_MOST or self._size() > _KEEP_BYTES):
                self._kept.popitem(last=False)
        return found

    def _size(self) -> int:
        return sum(int(t.shape.num_elements() or 0) * t.dtype.size for _, tensors in self._kept.values() for t in tensors)

    def crossing(self, before: list[Any], by_key: bool = False) -> Any:
        """One look at what crosses, with fresh noise; with that of the device's key where it is frozen and so wanted."""
        cross = self._cross[-1 if by_key else 0]
        return cross(before[0]) if self._before is None else cross(*before)

    def answer(self, before: list[Any], by_key: bool = False) -> Any:
        """What the server half makes of one such look."""
        return self._server(self.crossing(before, by_key))


def frozen_noise(partition: Partition) -> bool:
    """Whether noise stands on the boundary that is a keyed function of what it is added to."""
    return any(getattr(c, "noise_key", None) is not None for c in partition.channel)


def _chains(partition: Partition) -> list[list[Any]] | None:
    """The channel's layers behind every tensor of the device half, first ones first; None where they do not stand at its end."""
    if not isinstance(partition.device, keras.Model) or not partition.channel:
        return None
    left = list(partition.channel)
    chains = []
    for tensor in partition.device.outputs:
        chain: list[Any] = []
        while (layer := next((c for c in left if _makes(c, tensor)), None)) is not None:
            left.remove(layer)
            chain.insert(0, layer)
            tensor = layer.input
        chains.append(chain)
    return None if left else chains


def _makes(layer: Any, tensor: Any) -> bool:
    try:
        return layer.output is tensor and not isinstance(layer.input, (list, tuple, dict))
    except (AttributeError, ValueError):  # never called, or not in this graph
        return False


def _channel(chains: list[list[Any]], by: Drawing) -> Callable[..., Any]:
    @tf.function(reduce_retracing=True)
    def run(*tensors: tf.Tensor) -> list[tf.Tensor]:
        crossing = []
        with by():
            for tensor, chain in zip(tensors, chains, strict=True):
                for layer in chain:
                    tensor = layer(tensor, training=False)
                crossing.append(tensor)
        return crossing

    return run


def _compiled(half: Any, by: Drawing = nullcontext) -> Callable[[Any], Any]:
    """A half as a compiled function in inference mode; a callable that is no Keras model, as it is."""
    if not isinstance(half, keras.Model):
        return lambda x: half(x.arrays) if isinstance(x, Inputs) else half(x)
    specs = [tf.TensorSpec(t.shape, t.dtype) for t in half.inputs]

    @tf.function(input_signature=specs)
    def run(*tensors: tf.Tensor) -> Any:
        with by():
            return half(keras.tree.pack_sequence_as(half.input, list(tensors)), training=False)

    return lambda x: run(*(tf.cast(t, spec.dtype) for t, spec in zip(keras.tree.flatten(given_to(half, x)), specs, strict=True)))
