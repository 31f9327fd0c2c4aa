"""Channels that add noise."""

from __future__ import annotations

import abc
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.channels.channel import PACKAGE, Channel, Stream
from keras_privpart.channels.keyed_noise import NoiseKey, keyed_normal, keys_are_known
from keras_privpart.errors import ChannelError

STEP = 1 / 16  # of frozen noise's rounding, in standard deviations
_MOST_STEPS = 2.0**30


class _NoiseChannel(Channel):
    """Adds noise of a standard deviation, with one stream of random numbers."""

    def __init__(
        self,
        stddev: float,
        normalize: bool = True,
        seed: int | None = None,
        learn_scale: bool = False,
        power: float | None = None,
        warmup: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(normalize, **kwargs)
        self.stddev = arguments.number("stddev", stddev, ChannelError, advice="Use 0 for no noise.")
        self.seed = seed
        self.learn_scale = bool(learn_scale)
        advice = "It limits the mean square; use None for no limit."
        self.power = None if power is None else arguments.number("power", power, ChannelError, positive=True, advice=advice)
        self.warmup = arguments.whole("warmup", warmup, ChannelError, least=0, advice="It counts training steps.")
        self.warmed: Any = None
        self.generator = keras.random.SeedGenerator(seed)
        self.stream = Stream(self.generator)
        self.log_scale: Any = None

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if self.learn_scale and self.stddev:
            self.log_scale = self.add_weight(name="log_scale", shape=(input_shape[-1],), initializer="zeros")
        if self.warmup and self.stddev:
            counted = {"dtype": "float32", "initializer": "zeros", "trainable": False, "aggregation": "only_first_replica"}
            self.warmed = self.add_weight(name="warmed", shape=(), **counted)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        z = self.without_noise(inputs, training)
        if not self.stddev:
            return z
        noise = tf.cast(self._scale(), z.dtype) * self.standard_noise(z, training)
        return z + (noise if self.warmed is None or not training else tf.cast(self._warm(), z.dtype) * noise)

    def _warm(self) -> tf.Tensor:
        """Share of the noise at this training step, 0 to 1; the next step gets more."""
        share = tf.minimum(tf.convert_to_tensor(self.warmed) / self.warmup, 1.0)
        self.warmed.assign_add(1.0)
        return share

    def without_noise(self, inputs: Any, training: bool | None = None) -> Any:
        """What would cross but for the noise: the inputs, normalised and squashed where they are to be."""
        z = self.normalized(inputs, training)
        return z if self.power is None else squashed(z, self.power)

    @abc.abstractmethod
    def standard_noise(self, z: Any, training: bool | None) -> tf.Tensor:
        """Noise of mean 0 and standard deviation 1, of the shape and dtype of `z`, to which it is added."""

    def noise_stddev(self) -> np.ndarray:
        """Standard deviation of the noise in units of what crosses: one number, or one per feature where they are learned."""
        return np.asarray(keras.ops.convert_to_numpy(self._scale()), "float64")

    def _scale(self) -> Any:
        if self.log_scale is None:
            return self.stddev
        free = tf.convert_to_tensor(self.log_scale)
        return self.stddev * tf.exp(free - tf.reduce_mean(free))

    def get_config(self) -> dict[str, Any]:
        own = {"stddev": self.stddev, "normalize": self.normalize, "seed": self.seed, "learn_scale": self.learn_scale, "power": self.power}
        own["warmup"] = self.warmup
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
            it no boundary, of whatever input, carries more than `(m/2) log2(1 + power / stddev^2)` bits, m numbers per example. None for
            no limit.
        frozen: whether, in use, the noise is a function of what it is added to, under a secret key: then the same input sends the same
            at every look, and there is no fresh noise to average out. What is told apart by less than `stddev / 16` is rounded to the
            same. The key is drawn where the layer is built, is in no file (`keras_privpart.export` sees to it, Keras' own does not),
            and is set on the device by the client. Near duplicates of an input still draw noise of their own.
        warmup: training steps over which the noise grows from 0 to `stddev`, so that the task is learned first; in use, validation
            included, it always stands in full. Let adversaries wait as long: `LinearWeight(0.0, 1.0, steps=n, delay=warmup)`.

    Raises:
        ChannelError: `stddev`, `power` or `warmup` out of range, or the boundary tensor is not floating point.

    Example:
        >>> channel = GaussianChannel(stddev=0.5)
        >>> tuple(channel(tf.zeros([2, 4, 4, 8])).shape)
        (2, 4, 4, 8)

    References:
        Mireshghallah et al., "Shredder: Learning Noise Distributions to Protect Inference Privacy", ASPLOS 2020 (learned noise).
    """

    def __init__(
        self,
        stddev: float,
        normalize: bool = True,
        seed: int | None = None,
        learn_scale: bool = False,
        power: float | None = None,
        frozen: bool = False,
        warmup: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(stddev, normalize, seed, learn_scale, power, warmup, **kwargs)
        self.frozen = bool(frozen)
        self.noise_key: NoiseKey | None = None

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        if self.frozen and self.stddev:
            self.noise_key = NoiseKey(self.name)

    def without_noise(self, inputs: Any, training: bool | None = None) -> Any:
        """As for all noise; before frozen noise rounded, in use: what differed by less would share its noise, and the difference show."""
        z = super().without_noise(inputs, training)
        if self.noise_key is None or training:
            return z
        exact = tf.cast(z, tf.float32)
        rounded = tf.cast(tf.cast(self._steps(exact), tf.float32) * self._step(), z.dtype)
        return z + tf.stop_gradient(rounded - z)

    def standard_noise(self, z: Any, training: bool | None) -> tf.Tensor:
        if self.noise_key is None or training or not keys_are_known():
            return self.stream.normal(tf.shape(z), z.dtype, training)
        key, shape = self.noise_key, tf.shape(z)

        def keyed() -> tf.Tensor:
            steps = self._steps(tf.stop_gradient(tf.cast(z, tf.float32)))
            rows = tf.reshape(steps, [shape[0], math.prod(z.shape[1:]) if None not in z.shape[1:] else -1])
            return tf.reshape(tf.cast(keyed_normal(key.variable, rows), z.dtype), shape)

        return tf.cond(key.given(), keyed, lambda: self.stream.normal(shape, z.dtype, training))

    def _step(self) -> Any:
        return tf.cast(self._scale(), tf.float32) * STEP

    def _steps(self, exact: Any) -> tf.Tensor:
        """`z` in whole steps."""
        return tf.cast(tf.clip_by_value(tf.round(exact / self._step()), -_MOST_STEPS, _MOST_STEPS), tf.int32)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "frozen": self.frozen}


@keras.saving.register_keras_serializable(package=PACKAGE)
class LaplaceChannel(_NoiseChannel):
    """Adds Laplace noise to the boundary, in training and in use; everything else as in `GaussianChannel`.

    Args:
        stddev: standard deviation of the noise; its scale parameter is `stddev / sqrt(2)`.
        normalize, seed, learn_scale, power, warmup: as in `GaussianChannel`.

    Raises:
        ChannelError: `stddev`, `power` or `warmup` out of range, or the boundary tensor is not floating point.
    """

    def standard_noise(self, z: Any, training: bool | None) -> tf.Tensor:
        # The difference of two exponentials is Laplacian. 1 - u lies in (0, 1], which keeps the logarithm finite; in float32, because
        # half precision would round 1 - u to few values.
        a, b = (tf.math.log1p(-self.stream.uniform(tf.shape(z), tf.float32, training)) for _ in range(2))
        return tf.cast((a - b) / 2**0.5, z.dtype)
