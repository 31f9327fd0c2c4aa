"""Unit vectors that keep their distance from each other."""

from __future__ import annotations

import numpy as np

from keras_privpart.errors import DataError

_STEPS, _SHARPEST = 400, 32.0


def spread_codes(count: int, features: int, seed: int = 0) -> np.ndarray:
    """Unit vectors spread over the sphere by repulsion: the nearest push each other the most, and ever more so.

    Args:
        count: how many.
        features: numbers of each, from 2.
        seed: of where they start.

    Returns:
        `[count, features]`; of no more vectors than features, orthogonal ones.

    Raises:
        DataError: fewer than two vectors or numbers.
    """
    if count < 2 or features < 2:
        raise DataError(f"Received {count} codes of {features} numbers; expected at least 2 of each. Ask for more.")
    rng = np.random.default_rng(seed)
    codes = rng.normal(size=(count, features))
    if count <= features:
        return np.linalg.qr(codes.T)[0].T
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    best, least = codes, 1.0
    for step in range(_STEPS):
        cosines = codes @ codes.T - 2 * np.eye(count)
        nearest = float(cosines.max())
        if nearest < least:
            best, least = codes, nearest
        sharpness = 2.0 + (_SHARPEST - 2.0) * step / _STEPS
        push = np.exp(sharpness * (cosines - cosines.max(axis=1, keepdims=True)))
        push /= push.sum(axis=1, keepdims=True)
        codes = codes - 0.5 * (1 - step / _STEPS) * (push @ codes)
        codes = codes / np.linalg.norm(codes, axis=1, keepdims=True)
    return best
