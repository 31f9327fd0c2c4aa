"""`Channel`: what all channels have in common."""

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

    With `normalize`, the boundary is first brought to zero mean and unit variance per feature (batch statistics in training,
    their moving averages in use, no trainable scale or offset). Without it a device half simply learns larger activations,
    against which noise of a fixed size, or steps of a fixed width, are nothing.

    Args:
        normalize: whether to normalise first.

    Raises:
        ChannelError: the boundary tensor is not floating point.
    """

    def __init__(self, normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.normalize = bool(normalize)
        # Replicas share their statistics, as a batch on one device would.
        synchronized = tf.distribute.get_strategy().num_replicas_in_sync > 1
        self.normalization = (
            keras.layers.BatchNormalization(center=False, scale=False, synchronized=synchronized, dtype=self.dtype_policy)
            if normalize
            else None
        )

    def build(self, input_shape: Any) -> None:
        if not keras.backend.is_float_dtype(self.compute_dtype):
            raise ChannelError(
                f"Received the dtype {self.compute_dtype}; expected a floating point boundary. Put channels on float tensors only."
            )
        if self.normalization is not None:
            self.normalization.build(input_shape)
        super().build(input_shape)

    def normalized(self, inputs: Any, training: bool | None) -> Any:
        """The inputs, normalised if they are to be."""
        return inputs if self.normalization is None else self.normalization(inputs, training=training)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class Stream:
    """Random numbers: from a seeded generator in training, so that a run can be repeated; fresh in use.

    In use they are drawn by operations without a seed: the stream is fresh after every load of an exported device half, as it must
    be, because who can repeat the noise can subtract it. (The generator is Philox, which is not a cryptographic one.)

    Args:
        generator: the seeded one. Its owner is a layer, which keeps its state.
    """

    def __init__(self, generator: keras.random.SeedGenerator) -> None:
        self.generator = generator

    def normal(self, shape: Any, dtype: Any, training: bool | None) -> tf.Tensor:
        """Standard normal numbers."""
        if training:
            return tf.random.stateless_normal(shape, self._seed(), dtype=dtype)
        return tf.raw_ops.RandomStandardNormal(shape=shape, dtype=dtype, seed=0, seed2=0)

    def uniform(self, shape: Any, dtype: Any, training: bool | None) -> tf.Tensor:
        """Uniform numbers in [0, 1)."""
        if training:
            return tf.random.stateless_uniform(shape, self._seed(), dtype=dtype)
        return tf.raw_ops.RandomUniform(shape=shape, dtype=dtype, seed=0, seed2=0)

    def _seed(self) -> tf.Tensor:
        seed = tf.cast(self.generator.next(), tf.int64)
        context = tf.distribute.get_replica_context()
        if context is not None:
            # The generator's state is the same on every replica, the noise must not be.
            replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
            seed = tf.stack([seed[0], seed[1] + replica * 2**32])
        return seed
