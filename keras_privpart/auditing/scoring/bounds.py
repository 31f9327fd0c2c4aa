"""Lower bounds on the mean squared error of any reconstruction, from the Fisher information that the boundary holds of the input.

A bound says how far, in mean squared error, every estimator of the input must stay from it, whatever it computes, under assumptions
about the inputs that are written beside it. It says nothing about meaning: a picture far off in mean squared error may still be recognised.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.auditing.knowledge.images import as_images, span
from keras_privpart.auditing.knowledge.white_box import Inside
from keras_privpart.channels import GaussianChannel
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition

DIRECTIONS = 1024
EXAMPLES = 64
FEWEST = 10
FITTED = 2048
_FLAT = 1e-6  # variance of a direction, or information along one, this small against the largest counts as none
_TOGETHER, _TOGETHER_BYTES = 256, 16 << 20  # tangents pushed forward at once

ASSUMPTIONS = (
    "the inputs are taken for Gaussian with the mean and covariance of the examples: for other inputs the true error may be smaller",
    "the attacker is taken to know every direction in which the examples hardly vary, and the covariance is estimated from them",
    "the Fisher information is averaged over a draw of the examples, without an interval: of too few, the bound comes out too high",
    "one boundary per input: who sees several of one input averages the noise out",
    "mean squared error only: nothing is promised about what a person or a classifier could still tell",
)


@dataclass(frozen=True)
class Bound:
    """Lower bounds on the mean squared error per number of the input, over inputs like the examples.

    Attributes:
        dfil: from the trace of the Fisher information alone; 0 without noise, where it bounds nothing.
        spectrum: from its whole spectrum; never lower.
        prior: the error of the best guess that sees nothing, in the same directions: what no bound can exceed.
        noise: whether Gaussian noise stands on the boundary.
        dimensions: numbers an input has.
        directions: principal directions of the examples that the bound covers; errors in all others count as 0.
        covered: share of the examples' variance in these directions.
        examples: over which the Fisher information was averaged.
        fitted_on: from how many examples the covariance comes.
        assumptions: under which it holds, each a sentence.
    """

    dfil: float
    spectrum: float
    prior: float
    noise: bool
    dimensions: int
    directions: int
    covered: float
    examples: int
    fitted_on: int
    assumptions: tuple[str, ...] = ASSUMPTIONS

    @property
    def psnr(self) -> float:
        """The highest peak signal-to-noise ratio, in decibels, peak 1, that the bound leaves possible; infinite where it is 0."""
        return -10 * math.log10(self.spectrum) if self.spectrum > 0 else math.inf

    def words(self) -> str:
        """What the bound says, and what it does not."""
        channel = "Gaussian noise on the boundary" if self.noise else "no noise on the boundary"
        return (
            f"With {channel}, no attacker can reconstruct inputs like these {self.fitted_on:,} examples with a mean squared error of less "
            f"than {self.spectrum:.3g} per value (the weaker bound, from the trace of the Fisher information alone, is {self.dfil:.3g}); "
            f"guessing without seeing anything gives {self.prior:.3g}. The error is an average over such inputs, and estimators may be "
            f"biased. The bound covers {self.directions:,} of {self.dimensions:,} directions, with {100 * self.covered:.1f} % of the "
            "variance. It holds under assumptions: "
            f"{'; '.join(self.assumptions)}."
        )

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {**asdict(self), "assumptions": list(self.assumptions)}


def bound(
    partition: Partition,
    x: np.ndarray,
    *,
    examples: int = EXAMPLES,
    directions: int = DIRECTIONS,
    seed: int = 0,
    value_range: tuple[float, float] | None = None,
) -> Bound:
    """Bounds what any attacker can reconstruct from the boundary, by the van Trees inequality.

    The Fisher information of an input x behind z = f(x) + N(0, s^2) is `I(x) = J^T J / s^2`, J the Jacobian of f at x; S is the Fisher
    information of the inputs' own distribution, here that of a Gaussian, the inverse of their covariance. Then the mean squared error
    of every estimator is, per number of d,

    - at least `d / (Tr E[I] + Tr S)` (dFIL);
    - at least `Tr((E[I] + S)^-1) / d`, which is never lower, and is reached where f is linear and inputs are Gaussian;
    - without noise at least `Tr((U^T S U)^-1) / d`, U a basis of the null space of `E[J^T J]`.

    All is computed in the principal directions of the examples, by forward differentiation: exactly where there are at most `directions`
    of them, else in the leading ones, which lowers the bound but keeps it one, because `P^T A^-1 P >= (P^T A P)^-1`.

    Args:
        partition: a device half without a channel, or with one `GaussianChannel` on each tensor.
        x: inputs `[n, ...]`, floats or pictures as uint8 (then errors are of pictures in [0, 1]). The more the better: directions in which
            few examples do not vary are missing, and the bound is lower than it need be.
        examples: of them, drawn at random, at which the Jacobian is taken.
        directions: at most so many.
        seed: of the draw.
        value_range: of pictures that are no uint8: errors are then of pictures in [0, 1].

    Raises:
        AuditError: another channel, a boundary or an input without gradients, or fewer than 10 examples that differ.

    References:
        Van Trees, "Detection, Estimation, and Modulation Theory", 1968.
        Maeng, Guo, Kariyappa, Suh, "Bounding the Invertibility of Privacy-Preserving Instance Encoding using Fisher Information",
        NeurIPS 2023 (dFIL).
    """
    examples, directions = arguments.whole("examples", examples, AuditError), arguments.whole("directions", directions, AuditError)
    reason = inapplicable(partition)
    if reason is not None:
        raise AuditError(
            f"Received a partition that cannot be bounded: {reason}. Expected floating-point tensors behind a Keras model, without a "
            "channel or with one GaussianChannel with noise on each. Bound such a one."
        )
    noise = [channel.noise_stddev() for channel in partition.channel]
    samples = Samples(x, {}, value_range)
    black, white = span(samples)
    pictures = as_images(samples) if (black, white) != (0.0, 1.0) else x.astype("float32")
    basis, variances, total = _principal(pictures, directions)
    chosen = np.random.default_rng(seed).permutation(len(x))[:examples]
    information = _information(Inside(partition), pictures[chosen], basis, (black, white), noise)
    dimensions = basis.shape[0]
    dfil, spectrum = _with_noise(information, variances) if noise else (0.0, _without_noise(information, variances))
    return Bound(
        dfil=dfil / dimensions,
        spectrum=spectrum / dimensions,
        prior=float(variances.sum()) / dimensions,
        noise=bool(noise),
        dimensions=dimensions,
        directions=len(variances),
        covered=float(variances.sum() / total),
        examples=len(chosen),
        fitted_on=len(x),
    )


def inapplicable(partition: Partition) -> str | None:
    """Why `bound` does not apply to a partition, whatever the inputs; None if it does."""
    if not Inside(partition).differentiable:
        return "the device half has no gradients: it is no Keras model on one floating-point input"
    tensors = keras.tree.flatten(partition.device.output)
    if not all(keras.backend.is_float_dtype(t.dtype) for t in tensors):
        return "masks or whole numbers cross the boundary"
    gaussian = [isinstance(c, GaussianChannel) and c.stddev > 0 for c in partition.channel]
    if partition.channel and (len(gaussian) != len(tensors) or not all(gaussian)):
        kinds = ", ".join(type(c).__name__ for c in partition.channel)
        return f"on the boundary's {len(tensors)} tensors stands {kinds}, and the bound is of Gaussian noise only"
    return None


def attempted(partition: Partition, samples: Samples, seed: int) -> Bound | str:
    """The bound that a report shows, fitted on at most 2,048 of the inputs; or why there is none, in a sentence: no audit fails for it."""
    if not partition.channel:
        return "no noise stands on the boundary, and without it only what never crosses is bounded, see bounds.bound"
    reason = inapplicable(partition)
    if reason is not None:
        return reason
    try:
        few = samples[np.random.default_rng(seed).permutation(len(samples))[:FITTED]]
        return bound(partition, few.x, seed=seed, value_range=few.value_range)
    except Exception as error:  # forward differentiation runs the user's own layers, which raise whatever they like
        return f"it could not be computed: {str(error).strip().split(chr(10), 1)[0] or type(error).__name__}"


def _principal(x: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Directions `[d, q]` in which examples vary, their variances `[q]`, leading ones first, and the variance in all directions."""
    flat = x.reshape(len(x), -1).astype("float64")
    flat = flat - flat.mean(axis=0)
    if len(x) < FEWEST or not np.isfinite(flat).all() or not flat.any():
        raise AuditError(f"Received {len(x)} examples; expected at least {FEWEST} finite ones that differ. Give more.")
    if flat.shape[1] <= len(flat):
        variances, basis = np.linalg.eigh(flat.T @ flat / (len(flat) - 1))
        variances, basis = variances[::-1], basis[:, ::-1]
    else:
        _, singular, rows = np.linalg.svd(flat, full_matrices=False)
        variances, basis = singular**2 / (len(flat) - 1), rows.T
    total = float(np.maximum(variances, 0).sum())
    count = min(most, int(np.count_nonzero(variances > _FLAT * variances[0])))
    return basis[:, :count], variances[:count], total


def _information(inside: Inside, x: np.ndarray, basis: np.ndarray, span: tuple[float, float], noise: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the examples of `(J P)^T (J P)`, each row of J over the noise of its number; P the directions `[d, q]`: `[q, q]`."""
    count = basis.shape[1]
    together = max(1, min(_TOGETHER, _TOGETHER_BYTES // x[0].nbytes))
    tangents = tf.constant(basis.T.reshape(count, *x.shape[1:]), "float32")
    scales = [tf.constant(1 / s, "float32") for s in noise]

    @tf.function(reduce_retracing=True)
    def pushed(image: tf.Tensor, some: tf.Tensor) -> tf.Tensor:
        """What the tensors change by along each of some directions `[k, ...]`: `[k, numbers]`."""
        images = tf.repeat(image[None], tf.shape(some)[0], axis=0)
        with tf.autodiff.ForwardAccumulator(images, some) as forward:
            tensors = inside.tensors(span[0] + images * span[1])
        changes = [forward.jvp(t, unconnected_gradients=tf.UnconnectedGradients.ZERO) for t in tensors]
        changes = [c * scale for c, scale in zip(changes, scales, strict=True)] if scales else changes
        return tf.concat([tf.reshape(c, [tf.shape(c)[0], -1]) for c in changes], axis=1)

    total = np.zeros((count, count))
    for image in x:
        parts = [pushed(tf.constant(image), tangents[i : i + together]).numpy() for i in range(0, count, together)]
        jacobian = np.concatenate(parts).astype("float64")
        total += jacobian @ jacobian.T
    return total / len(x)


def _with_noise(information: np.ndarray, variances: np.ndarray) -> tuple[float, float]:
    """Both bounds on the squared error in these q directions, `q^2 / (Tr I + Tr S)` and `Tr((I + S)^-1)`; 1 / variances is S's diagonal."""
    scores = 1 / variances
    dfil = len(variances) ** 2 / (np.trace(information) + scores.sum())
    # Scaled by the deviations, the sum is the identity and something positive: safe to invert whatever the variances.
    deviations = np.sqrt(variances)
    scaled = np.eye(len(variances)) + deviations[:, None] * information * deviations
    return float(dfil), float(np.sum(variances * np.diag(np.linalg.inv(scaled))))


def _without_noise(information: np.ndarray, variances: np.ndarray) -> float:
    """`Tr((U^T S U)^-1)`: the variance, given all else, of what the boundary does not see at all."""
    values, vectors = np.linalg.eigh(information)
    hidden = vectors[:, values <= _FLAT * max(values[-1], 0.0)] if values[-1] > 0 else np.eye(len(variances))
    if not hidden.shape[1]:
        return 0.0
    return float(np.trace(np.linalg.inv(hidden.T @ (hidden / variances[:, None]))))
