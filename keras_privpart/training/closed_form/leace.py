"""LEACE: the smallest change of vectors after which no linear attacker reads a label from them."""

from __future__ import annotations

import numpy as np

from keras_privpart.errors import DataError

_FLAT = 1e-9  # variance of a direction this small against the largest is rounding
_CORRELATION = 1e-7  # and so is such a correlation with the concept


def leace(rows: np.ndarray, concept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What takes a concept out of vectors: `row - (row - mean) @ down @ up`.

    Afterwards rows and concept have no covariance at all, so that no linear attacker, whatever its convex loss, does better than one that
    sees nothing; and of all affine maps with that property none changes the rows less, in the mean square. Directions in which the rows do
    not vary are left alone. Attackers that are not linear are not stopped.

    Args:
        rows: `[n, m]`.
        concept: numbers `[n, k]`: one-hot classes, or quantities.

    Returns:
        `mean` `[m]`, `down` `[m, r]` and `up` `[r, m]`, r the number of directions taken out: fewer than there are classes, and 0 where
        rows and concept have no covariance.

    Raises:
        DataError: fewer than two rows, or not as many concepts.

    References:
        Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff, Biderman, "LEACE: Perfect Linear Concept Erasure in Closed Form",
        NeurIPS 2023.
    """
    rows, concept = np.asarray(rows, "float64"), np.asarray(concept, "float64")
    if rows.ndim != 2 or concept.ndim != 2 or len(rows) != len(concept) or len(rows) < 2:
        raise DataError(f"Received rows {list(rows.shape)} and a concept {list(concept.shape)}; expected [n, m] and [n, k], n from 2.")
    mean = rows.mean(axis=0)
    centred, told = rows - mean, concept - concept.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(rows))
    varied = variances > _FLAT * max(float(variances[-1]), 0.0)
    axes, deviations = axes[:, varied], np.sqrt(np.maximum(variances[varied], 0.0))
    # In the whitened space the covariance with the concept spans what has to go, and leaving it out is an orthogonal projection.
    whitened = (axes / deviations).T @ (centred.T @ told / len(rows)) if varied.any() else np.zeros((0, concept.shape[1]))
    spread = np.sqrt(np.maximum(np.square(told).mean(axis=0), 1e-300))
    left, sizes, _ = np.linalg.svd(whitened / spread, full_matrices=False)
    basis = left[:, sizes > _CORRELATION]
    return mean, (axes / deviations) @ basis, (basis.T * deviations) @ axes.T
