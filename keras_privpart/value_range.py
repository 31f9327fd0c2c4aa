"""What black and white are: the range of pixels that a model takes, and inputs as pictures in [0, 1], the unit of all reconstructions.

Pictures are scaled for the attacker, never for the model. uint8 is the plain route: its range is known, and it costs a byte a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_privpart.errors import PrivPartError
from keras_privpart.partitioning.graphs.calls import Graph
from keras_privpart.partitioning.graphs.graph import read

Range = tuple[float, float]

UNIT: Range = (0.0, 1.0)
BYTES: Range = (0.0, 255.0)
_CANDIDATES: tuple[Range, ...] = (BYTES, UNIT, (-1.0, 1.0))
_TARGETS: tuple[Range, ...] = (UNIT, (-1.0, 1.0))
HINT = "Give the data as the model takes them, or say what black and white are: value_range=(least, largest). uint8 needs neither."
# What augments or moves pictures, and leaves the range of their values.
_NEUTRAL = (
    keras.layers.InputLayer,
    keras.layers.Identity,
    keras.layers.Resizing,
    keras.layers.CenterCrop,
    keras.layers.RandomCrop,
    keras.layers.RandomFlip,
    keras.layers.RandomRotation,
    keras.layers.RandomTranslation,
    keras.layers.RandomZoom,
    keras.layers.ZeroPadding2D,
    keras.layers.Permute,
    keras.layers.Dropout,
)


def checked_range(given: Any, error: type[PrivPartError]) -> Range:
    """`(least, largest)` as two floats; raises `error` for anything else."""
    try:
        low, high = (float(value) for value in given)
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not (np.isfinite([low, high]).all() and low < high):
        raise error(f"Received value_range={given!r}; expected (least, largest), such as (0, 255) or (-1.0, 1.0).")
    return low, high


def value_range_of(model: Any) -> Range | None:
    """The range of pixels that the first input of `model` takes, as far as the model tells.

    Args:
        model: a functional or Sequential model, or a device half.

    Returns:
        (0, 255) for inputs of whole numbers; what a `Rescaling` at the model's front turns into [0, 1] or [-1, 1]; (0, 255) or (0, 1)
        where a `Normalization` there was adapted to such pixels; `None` where the model says nothing.
    """
    if not isinstance(model, keras.Model) or not model.inputs:
        return None
    dtype = model.inputs[0].dtype
    if "int" in dtype:
        return (0.0, 65535.0) if dtype == "uint16" else BYTES
    front = _front(read(model))
    if isinstance(front, keras.layers.Rescaling):
        return _before_rescaling(front)
    if isinstance(front, keras.layers.Normalization):
        return _before_normalization(front)
    return None


def misfit(low: float, high: float, has_fractions: bool, value_range: Range, is_inferred: bool) -> str:
    """Why values from `low` to `high` are not pictures of a range; empty if they may be.

    Values that do not leave a hundredth part of a range of hundreds, and are no whole numbers, were scaled already: a decoder would be
    shown black pictures.
    """
    least, largest = value_range
    slack = 1e-3 * (largest - least)
    said = "the model's front says" if is_inferred else "value_range says"
    if not (np.isfinite([low, high]).all() and low >= least - slack and high <= largest + slack):
        return f"Received pictures from {low:.4g} to {high:.4g}; expected {least:g} to {largest:g}, as {said}. {HINT}"
    if has_fractions and largest - least > 100 and high <= 1.001 and low >= -1.001:
        return f"Received pictures from {low:.4g} to {high:.4g}, scaled already; expected {least:g} to {largest:g}, as {said}. {HINT}"
    return ""


def pictures(x: np.ndarray, value_range: Range, is_inferred: bool, error: type[PrivPartError]) -> np.ndarray:
    """Inputs `[n, h, w, c]` in `value_range` as pictures in [0, 1], float32; uint8 is divided by 255 whatever the range.

    Raises:
        error: the values do not fit the range.
    """
    if x.dtype == np.uint8:
        return x.astype("float32") / np.float32(255)
    least, largest = value_range
    if x.size:
        wrong = misfit(float(np.min(x)), float(np.max(x)), bool(np.any(x != np.round(x))), value_range, is_inferred)
        if wrong:
            raise error(wrong)
    return np.clip((x.astype("float32") - np.float32(least)) / np.float32(largest - least), 0.0, 1.0)


def resolved(model: Any, given: Sequence[float] | None, error: type[PrivPartError]) -> tuple[Range, bool]:
    """The range in force, and whether it comes from the model: `given`, else what the model tells, else [0, 1]."""
    if given is not None:
        return checked_range(given, error), False
    found = value_range_of(model)
    return (UNIT, False) if found is None else (found, True)


def _front(graph: Graph) -> Any:
    """The first operation behind the first input that may change the range of its values."""
    tensor = graph.inputs[0]
    while True:
        readers = [call for call in graph.calls if tensor in call.inputs]
        if len(readers) != 1:
            return None
        if not isinstance(readers[0].operation, _NEUTRAL) or not readers[0].outputs:
            return readers[0].operation
        tensor = readers[0].outputs[0]


def _before_rescaling(layer: keras.layers.Rescaling) -> Range | None:
    scale, offset = np.max(np.asarray(layer.scale, "float64")), np.mean(np.asarray(layer.offset, "float64"))
    if (scale, offset) == (1.0, 0.0):
        return None  # changes nothing
    for candidate in _CANDIDATES:
        got = [scale * value + offset for value in candidate]
        if any(np.allclose(got, target, atol=0.02) for target in _TARGETS):
            return candidate
    return BYTES if 0 < scale * 255 < 8 else None  # a scale for bytes with an offset of its own, such as a mean


def _before_normalization(layer: keras.layers.Normalization) -> Range | None:
    if layer.mean is None or layer.invert:
        return None
    mean = np.asarray(keras.ops.convert_to_numpy(layer.mean), "float64")
    spread = np.sqrt(np.asarray(keras.ops.convert_to_numpy(layer.variance), "float64"))
    if mean.min() < 0.0 or mean.max() > 255.0:
        return None
    return UNIT if mean.max() <= 1.0 and spread.max() <= 1.0 else BYTES
