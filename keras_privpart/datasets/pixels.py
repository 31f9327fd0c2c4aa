"""Pixels in the range that a model takes."""

from __future__ import annotations

import numpy as np

BYTES = (0.0, 255.0)


def in_range(pictures: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Pictures in another range.

    Args:
        pictures: uint8, or floats in [0, 1].
        value_range: black and white as the model takes them; (0, 255) makes uint8, any other float32. None leaves the pictures as they are.
    """
    is_bytes = pictures.dtype == np.uint8
    if value_range is None or (is_bytes and value_range == BYTES):
        return pictures
    if value_range == BYTES:
        return np.round(pictures * np.float32(255)).astype("uint8")
    unit = pictures.astype("float32") / np.float32(255) if is_bytes else pictures
    least, largest = value_range
    return unit if value_range == (0.0, 1.0) else (least + unit * np.float32(largest - least)).astype("float32")
