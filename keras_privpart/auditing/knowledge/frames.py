"""Near duplicates: successive frames of a scene that hardly moves. Each is another input, and another boundary."""

from __future__ import annotations

import numpy as np

# Whole pixels down and to the right, and how much brighter: no pair comes twice within 45 frames. The first is the picture itself.
SHIFTS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))
BRIGHTNESS = (1.0, 0.96, 1.04, 0.98, 1.02)


def frame(x: np.ndarray, index: int) -> np.ndarray:
    """A near duplicate of every picture `[n, h, w, c]`: moved by at most a pixel each way, with up to 4 % more or less light.

    Args:
        x: pictures in [0, 1], or bytes.
        index: which frame, from 0; alike for all pictures, so that who averages over frames knows how they differ.
    """
    down, right = SHIFTS[index % len(SHIFTS)]
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    moved = padded[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]
    light = BRIGHTNESS[index % len(BRIGHTNESS)]
    if light == 1.0:
        return moved
    if x.dtype == np.uint8:
        return np.clip(np.rint(moved * np.float32(light)), 0, 255).astype("uint8")
    return np.clip(moved * moved.dtype.type(light), 0, 1)
