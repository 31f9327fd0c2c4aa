"""How long a divided model takes: measured on this machine, or estimated from a network's speed."""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.contract import STRING
from keras_privpart.errors import CutError
from keras_privpart.partitioning.cutpoint import Cut
from keras_privpart.partitioning.graphs.graph import input_names
from keras_privpart.partitioning.halves import Partition

# Multiply-adds a second of a small board's core and of a server's CPU. They only set the scale: measure where it matters.
DEVICE_SPEED = 2e9
SERVER_SPEED = 5e10

_RATE = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<scale>[kKMG]?)(?P<unit>bit|B)/s\s*")
_SCALES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Conditions:
    """What a request's time depends on.

    Attributes:
        network: bytes per second from the device to the server.
        device_speed, server_speed: multiply-adds a second; used for cuts that were not measured.
    """

    network: float
    device_speed: float = DEVICE_SPEED
    server_speed: float = SERVER_SPEED

    def seconds(self, cut: Cut) -> float | None:
        """Estimated time of one example from input to output: device half, transfer of the boundary, server half.

        The answer's way back and the network's round trip are left out: they are the same for all cuts of a model. `None` if the
        bytes or the work of the cut depend on a free dimension.

        References:
            Kang et al., "Neurosurgeon: Collaborative Intelligence Between the Cloud and Mobile Edge", ASPLOS 2017.
        """
        device = _seconds(cut.device_seconds, cut.device_macs, self.device_speed)
        server = _seconds(cut.server_seconds, cut.server_macs, self.server_speed)
        if device is None or server is None or cut.nbytes is None:
            return None
        return device + cut.nbytes / self.network + server


def _seconds(measured: float | None, macs: int | None, speed: float) -> float | None:
    return measured if measured is not None else None if macs is None else macs / speed


def bytes_per_second(rate: str) -> float:
    """Reads a network's speed.

    Args:
        rate: a number and one of `bit/s`, `kbit/s`, `Mbit/s`, `Gbit/s`, `B/s`, `kB/s`, `MB/s`, `GB/s`.

    Raises:
        CutError: it is written otherwise, or is zero.

    Example:
        >>> bytes_per_second("10Mbit/s")
        1250000.0
    """
    match = _RATE.fullmatch(rate) if isinstance(rate, str) else None
    if match is None or not float(match["number"]):
        raise CutError(f"Received the network speed {rate!r}; expected a number and a unit, such as '10Mbit/s' or '2.5MB/s'.")
    return float(match["number"]) * _SCALES[match["scale"]] / (8 if match["unit"] == "bit" else 1)


def example(model: keras.Model) -> list[np.ndarray]:
    """One example of zeros, or of empty text, for each input of a model.

    Raises:
        CutError: a dimension besides the batch is free.
    """
    for name, symbol in zip(input_names(model), model.inputs, strict=True):
        if any(d is None for d in symbol.shape[1:]):
            raise CutError(f"The input {name!r} has the free shape {list(symbol.shape)}; to measure, pass one example with x=...")
    return [np.full([1, *x.shape[1:]], "", object) if x.dtype == STRING else np.zeros([1, *x.shape[1:]], x.dtype) for x in model.inputs]


def measure_halves(parts: Partition, x: Any, repeats: int = 10) -> tuple[float, float]:
    """Seconds of the device half and of the server half for `x`, as compiled graphs on this machine: the median of `repeats` runs."""
    sent = parts.device(parts.device_inputs(x), training=False)
    return _median(parts.device, parts.device_inputs(x), repeats), _median(parts.server, parts.server_inputs(sent, x), repeats)


def _median(half: keras.Model, inputs: Any, repeats: int) -> float:
    run = tf.function(lambda tensors: half(tensors, training=False), reduce_retracing=True)
    tensors = keras.tree.map_structure(lambda x: None if x is None else tf.convert_to_tensor(x), inputs)  # optional inputs may be left out
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        keras.tree.map_structure(lambda t: t.numpy(), run(tensors))
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])  # the first runs trace and allocate
