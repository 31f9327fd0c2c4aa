"""NumPy arrays to TensorProto messages and back, without TensorFlow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_privpart.contract import STRING, dtype_name
from keras_privpart.errors import ServerFailedError

# A TensorProto may stand for more elements than it carries (the last value repeats). What it expands to is bounded by this.
MAX_EXPANDED_BYTES = 64 << 20


@dataclass(frozen=True)
class WireType:
    """How one dtype travels: its number, the field that holds single values, and the NumPy dtype of those."""

    number: int
    field: str
    raw: str


WIRE_TYPES: dict[str, WireType] = {
    "float32": WireType(1, "float_val", "<f4"),
    "float64": WireType(2, "double_val", "<f8"),
    "int32": WireType(3, "int_val", "<i4"),
    "uint8": WireType(4, "int_val", "|u1"),
    "int16": WireType(5, "int_val", "<i2"),
    "int8": WireType(6, "int_val", "|i1"),
    STRING: WireType(7, "string_val", "|O"),
    "int64": WireType(9, "int64_val", "<i8"),
    "bool": WireType(10, "bool_val", "|b1"),
    "bfloat16": WireType(14, "half_val", "<u2"),
    "uint16": WireType(17, "int_val", "<u2"),
    "float16": WireType(19, "half_val", "<u2"),
    "uint32": WireType(22, "uint32_val", "<u4"),
    "uint64": WireType(23, "uint64_val", "<u8"),
}
_BY_NUMBER = {wire.number: (name, wire) for name, wire in WIRE_TYPES.items()}


def wire_dtype(number: int) -> str:
    """Name of the dtype with this number, `"unknown (<n>)"` for one that no contract can declare."""
    return _BY_NUMBER[number][0] if number in _BY_NUMBER else f"unknown ({number})"


def shape_of(shape: Any) -> tuple[int | None, ...] | None:
    """The shape that a TensorShapeProto states, free dimensions as `None`; `None` when even the rank is unknown."""
    return None if shape.unknown_rank else tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def encode(array: np.ndarray, message: Any) -> None:
    """Writes an array `[...]` of a dtype in `WIRE_TYPES` into an empty TensorProto, as raw bytes; text as single values.

    Raises:
        ValueError: the dtype cannot travel.
    """
    name = dtype_name(array)
    if name not in WIRE_TYPES:
        raise ValueError(f"Received an array of {name}; expected one of {sorted(WIRE_TYPES)}. Convert it first.")
    wire = WIRE_TYPES[name]
    message.dtype = wire.number
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    if name == STRING:
        message.string_val.extend(item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist())
    else:
        message.tensor_content = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def decode(message: Any) -> np.ndarray:
    """Reads a TensorProto. `bfloat16` arrives as float32, which holds each of its values exactly: NumPy has no bfloat16.

    Raises:
        ServerFailedError: the message contradicts itself.
    """
    if message.dtype not in _BY_NUMBER:
        raise ServerFailedError(f"The server answered a tensor of dtype {wire_dtype(message.dtype)}; expected one of {sorted(WIRE_TYPES)}.")
    name, wire = _BY_NUMBER[message.dtype]
    stated = shape_of(message.tensor_shape)
    shape = tuple(size for size in stated or () if size is not None)
    if stated != shape:
        raise ServerFailedError(f"The server answered a tensor of shape {stated}; expected every dimension to be known.")
    count, width = math.prod(shape), np.dtype(wire.raw).itemsize
    if message.tensor_content:
        if len(message.tensor_content) != count * width or name == STRING:
            raise ServerFailedError(
                f"The server answered {len(message.tensor_content)} bytes for {name}{list(shape)}; expected {count * width}."
            )
        values = np.frombuffer(message.tensor_content, wire.raw).copy()
    else:
        values = _expand(np.array(getattr(message, wire.field), dtype=wire.raw), count, f"{name}{list(shape)}")
    return _widen(name, values).reshape(shape)


def _expand(values: np.ndarray, count: int, what: str) -> np.ndarray:
    """Repeats the last value up to `count` elements, as TensorFlow reads a shortened tensor; none at all means zeros."""
    if values.size == count:
        return values
    if values.size > count or count * values.itemsize > MAX_EXPANDED_BYTES or values.dtype.kind == "O":
        raise ServerFailedError(f"The server answered {values.size} values for {what}; expected {count}.")
    last = values[-1] if values.size else 0
    return np.concatenate([values, np.full(count - values.size, last, values.dtype)])


def _widen(name: str, values: np.ndarray) -> np.ndarray:
    if name == "float16":
        return values.view(np.float16)
    if name == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values
