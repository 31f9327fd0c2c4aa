"""Channels that add noise."""

from __future__ import annotations

import abc
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.channels.channel import PACKAGE, Channel, Stream, checked
from keras_privpart.errors import ChannelError


class _NoiseChannel(Channel):
    """Adds noise of a standard deviation, with one stream of random numbers."""

    def __init__(
        self,
        stddev: float,
        normalize: bool = True,
        seed: int | None = None,
        learn_scale: bool = False,
        power: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(normalize, **kwargs)
        self.stddev = checked("stddev", stddev, advice="Use 0 for no noise.")
        self.seed = seed
        self.learn_scale = bool(learn_scale)
        self.power = None if power is None else checked("power", power, advice="It limits the mean square; use None for no limit.")
        if self.power == 0:
            raise ChannelError("Received power=0; expected a number above 0, or None. It limits the mean square; use None for no limit.")
        self.generator = keras.random.SeedGenerator(seed)
        self.stream = Stream(self.generator)
        self.log_scale: Any = None

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if self.learn_scale and self.stddev:
            self.log_scale = self.add_weight(name="log_scale", shape=(input_shape[-1],), initializer="zeros")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        z = self.without_noise(inputs, training)
        if not self.stddev:
            return z
        return z + tf.cast(self._scale(), z.dtype) * self.standard_noise(tf.shape(z), z.dtype, training)

    def without_noise(self, inputs: Any, training: bool | None = None) -> Any:
        """What would cross but for the noise: the inputs, normalised and squashed where they are to be."""
        z = self.normalized(inputs, training)
        return z if self.power is None else squashed(z, self.power)

    @abc.abstractmethod
    def standard_noise(self, shape: Any, dtype: Any, training: bool | None) -> tf.Tensor:
        """Noise of mean 0 and standard deviation 1."""

    def noise_stddev(self) -> np.ndarray:
        """Standard deviation of the noise in units of what crosses: one number, or one a feature where they are learned."""
        return np.asarray(keras.ops.convert_to_numpy(self._scale()), "float64")

    def _scale(self) -> Any:
        if self.log_scale is None:
            return self.stddev
        free = tf.convert_to_tensor(self.log_scale)
        return self.stddev * tf.exp(free - tf.reduce_mean(free))

    def get_config(self) -> dict[str, Any]:
        own = {"stddev": self.stddev, "normalize": self.normalize, "seed": self.seed, "learn_scale": self.learn_scale, "power": self.power}
        return {**super().get_config(), **own}


def squashed(z: Any, power: float) -> tf.Tensor:
    """`z` `[batch, ...]` drawn into the ball where the mean square of an example's numbers is under `power`.

    It is `z / sqrt(1 + mean(z^2) / power)`, mean over the example's numbers. Small ones stay as they are, directions stay, and the slope
    is above 0 everywhere; a hard clip to the ball has none along the radius.
    """
    exact = tf.cast(z, tf.float32)
    mean_square = tf.reduce_mean(tf.square(exact), axis=list(range(1, z.shape.rank)), keepdims=True)
    return tf.cast(exact * tf.math.rsqrt(1 + mean_square / power), z.dtype)


@keras.saving.register_keras_serializable(package=PACKAGE)
class GaussianChannel(_NoiseChannel):
    """Adds Gaussian noise to the boundary, in training and in use.

    In training the noise comes from a seeded generator; in use it is drawn without a seed and fresh after every load (`Stream`).

    Args:
        stddev: standard deviation of the noise, in units of the normalised boundary (of the boundary itself without `normalize`).
        normalize: whether to normalise before the noise, see `Channel`.
        seed: seed of the training noise; `None` draws one from Keras' global generator.
        learn_scale: whether each feature (last axis) gets a standard deviation of its own, which the halves learn. Their geometric mean
            stays `stddev`: noise can be moved to where it hurts the task least, it cannot be trained away.
        power: limit on the mean square of an example's numbers, before the noise (`squashed`), in units of the normalised boundary. With
            it no boundary, of whatever input, carries more than `(m/2) log2(1 + power / stddev^2)` bits, m numbers an example. None for
            no limit.

    Raises:
        ChannelError: `stddev` or `power` out of range, or the boundary tensor is not floating point.

    Example:
        >>> channel = GaussianChannel(stddev=0.5)
        >>> tuple(channel(tf.zeros([2, 4, 4, 8])).shape)
        (2, 4, 4, 8)

    References:
        Mireshghallah et al., "Shredder: Learning Noise Distributions to Protect Inference Privacy", ASPLOS 2020 (learned noise).
    """

    def standard_noise(self, shape: Any, dtype: Any, training: bool | None) -> tf.Tensor:
        return self.stream.normal(shape, dtype, training)


@keras.saving.register_keras_serializable(package=PACKAGE)
class LaplaceChannel(_NoiseChannel):
    """Adds Laplace noise to the boundary, in training and in use; everything else as in `GaussianChannel`.

    Args:
        stddev: standard deviation of the noise; its scale parameter is `stddev / sqrt(2)`.
        normalize, seed, learn_scale, power: as in `GaussianChannel`.

    Raises:
        ChannelError: `stddev` or `power` out of range, or the boundary tensor is not floating point.
    """

    def standard_noise(self, shape: Any, dtype: Any, training: bool | None) -> tf.Tensor:
        # The difference of two exponentials is Laplacian. 1 - u lies in (0, 1], which keeps the logarithm finite; in float32, because
        # half precision would round 1 - u to few values.
        a, b = (tf.math.log1p(-self.stream.uniform(shape, tf.float32, training)) for _ in range(2))
        return tf.cast((a - b) / 2**0.5, dtype)
