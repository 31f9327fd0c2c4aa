"""Inputs as pictures in [0, 1], the unit of every reconstruction score."""

from __future__ import annotations

import numpy as np

from keras_privpart.errors import AuditError


def not_images(x: np.ndarray) -> str | None:
    """Why inputs are no pictures; None if they are. A picture is `[height, width, channels]`."""
    if x.ndim != 4:
        return f"the inputs have the shape {list(x.shape[1:])}, and decoders recover pictures [height, width, channels] only"
    return None


def as_images(x: np.ndarray) -> np.ndarray:
    """Inputs `[n, h, w, c]` as pictures in [0, 1], float32: bytes are divided by 255, floats must be in [0, 1] already.

    Raises:
        AuditError: numbers outside [0, 1], or another dtype: SSIM and PSNR need to know what black and white are.
    """
    if x.dtype == np.uint8:
        return x.astype("float32") / np.float32(255)
    if not np.issubdtype(x.dtype, np.floating):
        raise AuditError(f"Received images of dtype {x.dtype}; expected floats in [0, 1] or uint8. Convert them before the audit.")
    low, high = float(np.min(x)), float(np.max(x))
    if not (low >= 0.0 and high <= 1.0):
        raise AuditError(
            f"Received images from {low:.4g} to {high:.4g}; expected floats in [0, 1] or uint8. Give pixels from 0 to 255 as they are, as "
            "uint8, also to a model that takes floats: Keras casts them. Do other scaling inside the model, with keras.layers.Rescaling."
        )
    return x.astype("float32", copy=False)
