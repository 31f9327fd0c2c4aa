"""Deep image prior: the weights of an untrained network are optimised instead of pixels; its shape alone prefers natural pictures."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from keras_privpart.auditing.attacks.reconstruction.descent import Descent, falling
from keras_privpart.auditing.attacks.reconstruction.inversion import InversionAttack, Search, Target
from keras_privpart.auditing.knowledge.white_box import Inside

CHANNELS = 24
COARSER = 2  # times that the picture is halved
_RATE = 0.01


class DeepPriorAttack(InversionAttack):
    """One small untrained convolutional network per victim, from a fixed noise to the picture; all victims' networks are trained at once.

    Args:
        most, keep: see `InversionAttack`.

    References:
        Ulyanov, Vedaldi, Lempitsky, "Deep Image Prior", CVPR 2018.
    """

    family = "generative prior"

    def __init__(self, most: int = 32, keep: int = 8) -> None:
        super().__init__("deep image prior", (0.0,), most, keep)

    def _search(self, inside: Inside, target: Target, images: tuple[int, ...]) -> Search:
        return _Networks(target, images)


class _Networks(Search):
    """As many networks as pictures: their weights have the picture as the first axis."""

    def __init__(self, target: Target, shape: tuple[int, ...]) -> None:
        count, height, width, colours = shape
        self._target = target
        # Sides from coarse to fine; each halving stops at 4 pixels, where there is little left to halve.
        sides = [(height, width)]
        for _ in range(COARSER):
            h, w = (max(4, math.ceil(side / 2)) for side in sides[0])
            sides.insert(0, (min(h, height), min(w, width)))
        self._sides = sides
        self._noise = tf.Variable(tf.zeros([count, *sides[0], CHANNELS]))
        outs = [CHANNELS] * len(sides) + [colours]
        self._kernels = [tf.Variable(tf.zeros([count, 9 * CHANNELS, out])) for out in outs]
        self._biases = [tf.Variable(tf.zeros([count, 1, 1, out])) for out in outs]
        self._descent = Descent(lambda: tf.reduce_sum(target.mismatch(self._pictures())), [*self._kernels, *self._biases])
        self._show = tf.function(self._pictures)

    def run(self, start: np.ndarray | None, weight: float, iterations: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        self._noise.assign(rng.normal(size=self._noise.shape).astype("float32"))
        for kernel, bias in zip(self._kernels, self._biases, strict=True):
            kernel.assign((rng.normal(size=kernel.shape) * math.sqrt(2 / kernel.shape[1])).astype("float32"))
            bias.assign(tf.zeros_like(bias))
        self._descent.reset()
        self._descent.run(falling(_RATE, iterations))
        return self._show().numpy()

    def _pictures(self) -> tf.Tensor:
        x: tf.Tensor = self._noise
        for (h, w), kernel, bias in zip(self._sides, self._kernels, self._biases, strict=False):
            x = tf.image.resize(x, (h, w)) if x.shape[1:3] != (h, w) else x
            x = _standard(tf.nn.leaky_relu(_convolved(x, kernel) + bias, 0.1))
        return tf.sigmoid(_convolved(x, self._kernels[-1]) + self._biases[-1])


def _convolved(x: tf.Tensor, kernels: tf.Tensor) -> tf.Tensor:
    """3x3 convolutions of maps `[n, h, w, c]`, each with a kernel of its own, `[n, 9 c, d]`."""
    h, w = x.shape[1], x.shape[2]
    padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="REFLECT")
    patches = tf.concat([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=-1)
    return tf.einsum("nhwk,nkd->nhwd", patches, kernels)


def _standard(x: tf.Tensor) -> tf.Tensor:
    """Zero mean and unit variance per picture and channel."""
    mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + 1e-5)
