"""A channel of few bits."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.channels.channel import PACKAGE, Channel
from keras_privpart.errors import ChannelError


@keras.saving.register_keras_serializable(package=PACKAGE)
class QuantizeChannel(Channel):
    """Rounds the boundary to `2 ** bits` levels, in training and in use. Gradients pass as if it were not there.

    The levels are the middles of equal steps from `-limit` to `limit`; beyond, values and gradients stop. One bit says the sign.

    Args:
        bits: from 1 to 16, or `None` for no rounding.
        limit: the largest magnitude that is told apart, above 0, in units of the normalised boundary (of the boundary itself without
            `normalize`).
        normalize: whether to normalise first, see `Channel`.

    Raises:
        ChannelError: `bits` or `limit` out of range, or the boundary tensor is not floating point.

    References:
        Bengio, Leonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional Computation",
        arXiv 1308.3432, 2013 (straight-through estimator).
    """

    def __init__(self, bits: int | None, limit: float = 2.0, normalize: bool = True, **kwargs: Any) -> None:
        super().__init__(normalize, **kwargs)
        self.bits = None if bits is None else arguments.whole("bits", bits, ChannelError, most=16, advice="Use None for no rounding.")
        advice = "It is the largest magnitude that is told apart."
        self.limit = arguments.number("limit", limit, ChannelError, positive=True, advice=advice)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        z = self.normalized(inputs, training)
        if self.bits is None:
            return z
        step = 2 * self.limit / 2**self.bits
        half = 2 ** (self.bits - 1)
        exact = tf.stop_gradient(tf.cast(z, tf.float32))
        rounded = (tf.clip_by_value(tf.floor(exact / step), -half, half - 1) + 0.5) * step
        # Its slope is that of the clipping: 1 within the limits, 0 beyond.
        through = tf.clip_by_value(z, tf.cast(-self.limit, z.dtype), tf.cast(self.limit, z.dtype))
        return tf.cast(rounded, z.dtype) + (through - tf.stop_gradient(through))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bits": self.bits, "limit": self.limit, "normalize": self.normalize}
