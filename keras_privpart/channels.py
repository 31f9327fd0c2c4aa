"""Channels: layers that stand on the boundary. They belong to the device half, in training and after export."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_privpart.errors import ChannelError

PACKAGE = "keras_privpart"


class Channel(keras.layers.Layer):
    """Base of all channels: a layer from one boundary tensor to one of the same shape and dtype.

    A subclass is registered under this package's name, stores its arguments under their own names, and returns exactly
    those from `get_config`.
    """

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@keras.saving.register_keras_serializable(package=PACKAGE)
class GaussianChannel(Channel):
    """Adds Gaussian noise to the boundary, in training and in use.

    With `normalize`, the boundary is first brought to zero mean and unit variance per feature (batch statistics in training,
    their moving averages in use, no trainable scale or offset). Without it a device half simply learns larger activations,
    against which noise of a fixed size is nothing.

    In training the noise comes from a seeded generator, so that a run can be repeated. In use it is drawn by
    `RandomStandardNormal` without a seed: the stream is fresh after every load of an exported device half, as it must be,
    because who can repeat the noise can subtract it. (The generator is Philox, which is not a cryptographic one.)

    Args:
        stddev: standard deviation of the noise, in units of the normalised boundary (of the boundary itself without `normalize`).
        normalize: whether to normalise before the noise.
        seed: seed of the training noise; `None` draws one from Keras' global generator.

    Raises:
        ChannelError: `stddev` is negative or not a number, or the boundary tensor is not floating point.

    Example:
        >>> channel = GaussianChannel(stddev=0.5)
        >>> tuple(channel(tf.zeros([2, 4, 4, 8])).shape)
        (2, 4, 4, 8)
    """

    def __init__(self, stddev: float, normalize: bool = True, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(stddev, (int, float)) or not 0 <= stddev < float("inf"):
            raise ChannelError(f"Received stddev={stddev!r}; expected a finite number of at least 0. Use 0 for no noise.")
        self.stddev = float(stddev)
        self.normalize = bool(normalize)
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)
        self.normalization = keras.layers.BatchNormalization(center=False, scale=False, dtype=self.dtype_policy) if normalize else None

    def build(self, input_shape: Any) -> None:
        if not keras.backend.is_float_dtype(self.compute_dtype):
            raise ChannelError(f"Received the dtype {self.compute_dtype}; expected a floating point boundary. Put noise on float tensors only.")
        if self.normalization is not None:
            self.normalization.build(input_shape)
        super().build(input_shape)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        z = inputs if self.normalization is None else self.normalization(inputs, training=training)
        if not self.stddev:
            return z
        noise = self._seeded_noise(z) if training else tf.raw_ops.RandomStandardNormal(shape=tf.shape(z), dtype=z.dtype, seed=0, seed2=0)
        return z + tf.cast(self.stddev, z.dtype) * noise

    def _seeded_noise(self, z: Any) -> Any:
        seed = tf.cast(self.generator.next(), tf.int64)
        context = tf.distribute.get_replica_context()
        if context is not None:
            # The generator's state is the same on every replica, the noise must not be.
            replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
            seed = tf.stack([seed[0], seed[1] + replica * 2**32])
        return tf.random.stateless_normal(tf.shape(z), seed, dtype=z.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stddev": self.stddev, "normalize": self.normalize, "seed": self.seed}
