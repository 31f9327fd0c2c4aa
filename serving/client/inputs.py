"""Brings a user's input into the form that the device half takes, or says why it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_privpart.contract import STRING, TensorSpec, dtype_name
from keras_privpart.errors import DataError


def prepare_inputs(x: Any, specs: Sequence[TensorSpec]) -> dict[str, np.ndarray]:
    """Names, converts and checks the inputs of the device half.

    Args:
        x: one array-like `[n, ...]`, a list or tuple in the inputs' order, or a dict by the inputs' names.
        specs: the device half's inputs.

    Returns:
        One array `[n, ...]` an input, by wire name, in the declared dtype.

    Raises:
        DataError: an input is missing, unknown, of another shape, or cannot be converted without loss of kind.
    """
    named = {spec.name: _convert(value, spec) for spec, value in zip(specs, _in_order(x, specs), strict=True)}
    counts = {name: len(array) for name, array in named.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"Received inputs of {counts} examples; expected as many of each.")
    return named


def _in_order(x: Any, specs: Sequence[TensorSpec]) -> Sequence[Any]:
    if isinstance(x, Mapping):
        keys = [spec.name if spec.name in x else spec.source for spec in specs]
        if set(keys) != set(x) or len(set(keys)) != len(keys):
            raise DataError(f"Received the inputs {sorted(map(str, x))}; expected {sorted(spec.name for spec in specs)}.")
        return [x[key] for key in keys]
    if len(specs) == 1:
        return [x]
    if not isinstance(x, (list, tuple)) or len(x) != len(specs):
        got = f"{len(x)} values" if isinstance(x, (list, tuple)) else type(x).__name__
        raise DataError(f"Received {got}; expected {len(specs)} arrays: {', '.join(spec.name for spec in specs)}.")
    return x


def _convert(value: Any, spec: TensorSpec) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"Received {spec.name!r} as ragged values: {error}. Expected one array {list(spec.shape)}.") from error
    shape = f"{list(spec.shape)} of {spec.dtype}"
    if array.ndim != len(spec.shape) or any(want not in (None, got) for want, got in zip(spec.shape, array.shape, strict=True)):
        hint = " Add the batch dimension: x[None]." if array.ndim == len(spec.shape) - 1 else ""
        raise DataError(f"Received {spec.name!r} with the shape {list(array.shape)}; expected {shape}.{hint}")
    if not len(array):
        raise DataError(f"Received {spec.name!r} with no examples; expected at least one, {shape}.")
    if (dtype_name(array) == STRING) != (spec.dtype == STRING):
        raise DataError(f"Received {spec.name!r} as {array.dtype}; expected {shape}.")
    if spec.dtype == STRING:
        return array.astype(object)
    return _cast(array, spec)


def _cast(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Converts between widths of a kind, and from whole numbers to floats; never drops fractions, signs or high digits."""
    if dtype_name(array) == spec.dtype:
        return array
    # NumPy alone has no bfloat16; the device half then takes float32 and converts it.
    dtype = np.dtype("float32" if spec.dtype == "bfloat16" else spec.dtype)
    lossless = dtype.kind == "f" or not array.size or np.array_equal(array.astype(dtype), array)
    if not (np.can_cast(array.dtype, dtype, "same_kind") or array.dtype.kind in "iub") or not lossless:
        raise DataError(f"Received {spec.name!r} as {array.dtype}; it does not fit into {spec.dtype}. Convert it yourself.")
    return array.astype(dtype)
