"""A linear layer that takes a few directions out of what crosses."""

from __future__ import annotations

from typing import Any

import keras

from keras_privpart.channels.channel import PACKAGE


@keras.saving.register_keras_serializable(package=PACKAGE)
class Erasure(keras.layers.Layer):
    """`z - (z - mean) @ down @ up`, of flattened examples: what `keras_privpart.erase` puts before a boundary. It does not learn.

    Args:
        directions: how many are taken out, from 1.
    """

    def __init__(self, directions: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.directions = directions

    def build(self, input_shape: Any) -> None:
        numbers = 1
        for dim in input_shape[1:]:
            numbers *= dim
        self.mean = self.add_weight(name="mean", shape=(numbers,), initializer="zeros", trainable=False)
        self.down = self.add_weight(name="down", shape=(numbers, self.directions), initializer="zeros", trainable=False)
        self.up = self.add_weight(name="up", shape=(self.directions, numbers), initializer="zeros", trainable=False)
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        flat = keras.ops.reshape(inputs, (-1, self.mean.shape[0]))
        kept = flat - keras.ops.matmul(keras.ops.matmul(flat - self.mean, self.down), self.up)
        return keras.ops.reshape(kept, (-1, *inputs.shape[1:]))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("trainable", None)
        return {**config, "directions": self.directions}
