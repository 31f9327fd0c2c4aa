"""Channels that let only some features pass."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.channels.channel import PACKAGE, Channel, Stream
from keras_privpart.errors import ChannelError


@keras.saving.register_keras_serializable(package=PACKAGE)
class GateChannel(Channel):
    """Lets the features pass that a small network picks for each example, and zeroes the others.

    A feature is an index of the last axis. The network sees each feature's mean over the example and ranks them; it learns with
    the halves, from the task and from the adversaries (straight through the hard choice, along a sigmoid).

    Args:
        rate: share of the features that is closed, from 0 to under 1, rounded to whole features; at least one stays open.
        units: of the network's hidden layer.
        normalize: whether to normalise first, see `Channel`.

    Raises:
        ChannelError: `rate` out of range, or the boundary tensor is not floating point.

    References:
        Singh et al., "DISCO: Dynamic and Invariant Sensitive Channel Obfuscation for Deep Neural Networks", CVPR 2021.
    """

    def __init__(self, rate: float = 0.5, units: int = 32, normalize: bool = False, **kwargs: Any) -> None:
        super().__init__(normalize, **kwargs)
        self.rate = arguments.number("rate", rate, ChannelError, below=1.0, advice="It is the share of features that is closed.")
        self.units = arguments.whole("units", units, ChannelError, advice="Give the units of the hidden layer.")
        if not self.units:
            raise ChannelError("Received units=0; expected at least 1. Give the units of the hidden layer.")
        self.hidden: Any = None
        self.rank: Any = None

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        features = input_shape[-1]
        if self._kept(features) < features:
            self.hidden = keras.layers.Dense(self.units, activation="relu", name="hidden", dtype=self.dtype_policy)
            self.rank = keras.layers.Dense(features, name="rank", dtype=self.dtype_policy)
            self.hidden.build((None, features))
            self.rank.build((None, self.units))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        z = self.normalized(inputs, training)
        features = int(z.shape[-1])
        kept = self._kept(features)
        if kept == features:
            return z
        seen = tf.reduce_mean(z, axis=range(1, z.shape.rank - 1)) if z.shape.rank > 2 else z
        scores = self.rank(self.hidden(seen))
        places = tf.math.top_k(tf.cast(scores, tf.float32), kept).indices
        # By place, not by threshold: equal scores must not open more than their share.
        opened = tf.cast(tf.reduce_sum(tf.one_hot(places, features), axis=1), z.dtype)
        soft = tf.sigmoid(scores)
        gate = opened + (soft - tf.stop_gradient(soft))
        return z * tf.reshape(gate, [-1, *[1] * (z.shape.rank - 2), features])

    def _kept(self, features: int) -> int:
        return max(1, round((1.0 - self.rate) * features))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "units": self.units, "normalize": self.normalize}


@keras.saving.register_keras_serializable(package=PACKAGE)
class DropoutChannel(Channel):
    """Zeroes random features (indices of the last axis) of each example, in training and in use; the others grow to keep the mean.

    Which ones is fresh for every example and after every load, see `channel.Stream`.

    Args:
        rate: probability that a feature is dropped, from 0 to under 1.
        normalize: whether to normalise first, see `Channel`.
        seed: seed of the choice in training; `None` draws one from Keras' global generator.

    Raises:
        ChannelError: `rate` out of range, or the boundary tensor is not floating point.

    References:
        He, Zhang, Lee, "Attacking and Protecting Data Privacy in Edge-Cloud Collaborative Inference Systems", IEEE Internet of Things
        Journal 2020 (dropout at the cut).
    """

    def __init__(self, rate: float = 0.3, normalize: bool = False, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(normalize, **kwargs)
        self.rate = arguments.number("rate", rate, ChannelError, below=1.0, advice="It is the probability that a feature is dropped.")
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)
        self.stream = Stream(self.generator)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        z = self.normalized(inputs, training)
        if not self.rate:
            return z
        shape = tf.concat([tf.shape(z)[:1], tf.ones([z.shape.rank - 2], tf.int32), tf.shape(z)[-1:]], axis=0)
        kept = self.stream.uniform(shape, tf.float32, training) >= self.rate
        return z * tf.cast(tf.where(kept, 1.0 / (1.0 - self.rate), 0.0), z.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "normalize": self.normalize, "seed": self.seed}
