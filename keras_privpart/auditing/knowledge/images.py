"""Inputs as pictures in [0, 1], the unit of every reconstruction score; the model gets them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.several_inputs import Inputs
from keras_privpart.value_range import UNIT, pictures, resolved


def not_images(x: Any) -> str | None:
    """Why inputs are no pictures; None if they are. A picture is `[height, width, channels]`."""
    if isinstance(x, Inputs):
        return f"the model takes several inputs ({', '.join(x.arrays)}), and decoders recover pictures of one input only"
    if x.ndim != 4:
        return f"the inputs have the shape {list(x.shape[1:])}, and decoders recover pictures [height, width, channels] only"
    return None


def as_images(samples: Samples) -> np.ndarray:
    """Inputs `[n, h, w, c]` as pictures in [0, 1], float32: bytes are divided by 255, floats scaled by the samples' `value_range`.

    Raises:
        AuditError: numbers outside of the range, or another dtype: SSIM and PSNR need to know what black and white are.
    """
    if samples.x.dtype.kind not in "fiu":
        raise AuditError(f"Received images of dtype {samples.x.dtype}; expected numbers, best uint8. Convert them before the audit.")
    return pictures(samples.x, samples.value_range or UNIT, False, AuditError)


def ranged(samples: Samples, partition: Partition, value_range: Sequence[float] | None) -> Samples:
    """Samples that know black and white, where they are pictures: by `value_range`, or else by what the model's front tells."""
    found, _ = resolved(partition.device, value_range, AuditError)
    if not_images(samples.x) is not None or found == UNIT or samples.x.dtype == np.uint8:
        return samples
    return replace(samples, value_range=found)


def check_pictures(samples: Samples, partition: Partition, value_range: Sequence[float] | None) -> None:
    """Raises `AuditError`, before hours of training, for pictures outside of the range that `ranged` finds."""
    if samples.x.dtype == np.uint8 or samples.x.dtype.kind not in "fiu":
        as_images(samples[:1])
    else:
        pictures(samples.x, *resolved(partition.device, value_range, AuditError), AuditError)


def span(samples: Samples) -> tuple[float, float]:
    """Black, and how far white is above it, in the inputs' own values."""
    if samples.x.dtype == np.uint8 and not_images(samples.x) is None:
        return 0.0, 255.0
    least, largest = samples.value_range or UNIT
    return least, largest - least
