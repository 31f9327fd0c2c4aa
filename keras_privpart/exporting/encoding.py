"""Encodes the boundary for the wire: the device half emits int8 or float16, the server half takes them and decodes in its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_privpart.channels import PACKAGE
from keras_privpart.contract import ENCODINGS, Boundary, TensorSpec
from keras_privpart.errors import BundleError
from keras_privpart.partitioning.graphs.graph import deep_graphs, input_structure
from keras_privpart.partitioning.halves import Partition

LOWEST, HIGHEST = -128, 127
_LARGEST_HALF = 65504.0


@keras.saving.register_keras_serializable(package=PACKAGE)
class Encode(keras.layers.Layer):
    """Turns a float tensor into what crosses the wire: `round(x / scale) + zero_point` in int8, or the nearest float16.

    Values beyond the range become its ends.

    Args:
        scale: width of a step, for int8; `None` for float16.
        zero_point: what stands for 0, from -128 to 127; `None` for float16.
    """

    def __init__(self, scale: float | None = None, zero_point: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = scale
        self.zero_point = zero_point

    def call(self, inputs: Any) -> Any:
        if self.scale is None or self.zero_point is None:
            return ops.cast(ops.clip(inputs, -_LARGEST_HALF, _LARGEST_HALF), "float16")
        # fake_quant rounds and cuts off, and tells LiteRT's converter the range. Left to itself, the converter gives a sum (the channel's
        # noise is added) that is multiplied by a constant (1 / scale) the range of the product: the noisy boundary kept 5 levels, and
        # rounding to steps that wide, of variance step**2 / 12, made the noise 10 to 14 % stronger. What follows is exact, and in int32,
        # which is not quantised again.
        low, high = ((end - self.zero_point) * self.scale for end in (LOWEST, HIGHEST))
        rounded = tf.quantization.fake_quant_with_min_max_args(inputs, low, high)
        return ops.cast(ops.cast(ops.round(rounded / self.scale), "int32") + self.zero_point, "int8")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "zero_point": self.zero_point}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Decode(keras.layers.Layer):
    """Turns what crossed the wire back into a float tensor: `scale * (q - zero_point)`, or the float16 itself.

    Args:
        target: dtype of the result.
        scale, zero_point: as for `Encode`.
    """

    def __init__(self, target: str, scale: float | None = None, zero_point: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.target = target
        self.scale = scale
        self.zero_point = zero_point

    def call(self, inputs: Any) -> Any:
        values = ops.cast(inputs, "float32")
        return ops.cast(values if self.scale is None else self.scale * (values - self.zero_point), self.target)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "target": self.target, "scale": self.scale, "zero_point": self.zero_point}


@dataclass(frozen=True)
class Encoded:
    """A partition under an encoding.

    Attributes:
        wire: what is exported: its boundary is what crosses, encoded.
        seen: the same with the boundary decoded again on the device's side: what an attacker can make of what crosses, in the
            model's own numbers. Audit this one.
    """

    wire: Partition
    seen: Partition


def encode(partition: Partition, encoding: str, observe: Callable[[], Mapping[str, np.ndarray]]) -> Encoded:
    """Puts an encoding on every floating-point tensor of the boundary, behind its channel. Others cross as they are.

    Args:
        partition: the halves.
        encoding: one of `ENCODINGS`.
        observe: what crosses for the calibration samples, by wire name; asked for int8 only. The range is what was seen, 0 included.

    Raises:
        BundleError: the encoding is unknown, or what crosses holds values that are not finite.
    """
    if encoding not in ENCODINGS:
        raise BundleError(f"Received encoding={encoding!r}; expected one of {', '.join(ENCODINGS)}.")
    if encoding == "none":
        return Encoded(partition, partition)
    observed = observe() if encoding == "int8" else {}
    plain = partition.boundary.tensors
    specs = [_encoded_spec(spec, encoding, observed) for spec in plain]
    tensors = keras.tree.flatten(partition.device.output)
    sent, seen, received, decoded = [], [], [], []
    with deep_graphs(len(partition.device.operations)):
        for spec, before, tensor in zip(specs, plain, tensors, strict=True):
            keys: dict[str, Any] = {"scale": spec.scale, "zero_point": spec.zero_point, "dtype": "float32"}
            changed = spec is not before
            decoder = Decode(before.dtype, **keys, name=f"decode_{spec.name}")
            sent.append(Encode(**keys, name=f"encode_{spec.name}")(tensor) if changed else tensor)
            seen.append(decoder(sent[-1]) if changed else tensor)
            received.append(keras.Input(spec.shape[1:], dtype=spec.dtype, name=spec.name))
            decoded.append(decoder(received[-1]) if changed else received[-1])
        inputs = input_structure(partition.device)
        device = keras.Model(inputs, _single(sent), name=partition.device.name)
        attacked = keras.Model(inputs, _single(seen), name=partition.device.name)
        server = keras.Model(_single(received), partition.server(_single(decoded)), name=partition.server.name)
    wire = replace(partition, device=device, server=server, boundary=Boundary(tuple(specs)))
    return Encoded(wire, replace(partition, device=attacked))


def decode(boundary: Boundary, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the server half makes of encoded tensors, in float32; others as they are."""
    return {spec.name: _decoded(spec, arrays[spec.name]) for spec in boundary.tensors}


def _decoded(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    if spec.scale is not None and spec.zero_point is not None:
        return np.float32(spec.scale) * (array.astype("float32") - np.float32(spec.zero_point))
    return array.astype("float32") if spec.is_floating else array


def _encoded_spec(spec: TensorSpec, encoding: str, observed: Mapping[str, np.ndarray]) -> TensorSpec:
    if "float" not in spec.dtype or spec.dtype == encoding:
        return spec
    if encoding == "float16":
        return replace(spec, dtype="float16")
    values = observed[spec.name].astype("float64")
    if not np.isfinite(values).all():
        raise BundleError(f"The calibration samples give values of {spec.name!r} that are no numbers. Give other samples.")
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = float(np.float32((high - low) / (HIGHEST - LOWEST))) or 1.0
    zero_point = int(np.clip(round(LOWEST - low / scale), LOWEST, HIGHEST))
    return replace(spec, dtype="int8", scale=scale, zero_point=zero_point)


def _single(items: list[Any]) -> Any:
    return items[0] if len(items) == 1 else items
