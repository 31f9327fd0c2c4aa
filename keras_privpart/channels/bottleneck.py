"""The layers of a bottleneck: few features cross, and the server half spreads them out. `partitioning.narrowing` puts them around a cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_privpart.channels.channel import PACKAGE

HIDDEN = 64
_KERNEL = 3


@keras.saving.register_keras_serializable(package=PACKAGE)
class Squeeze(keras.layers.Dense):
    """Down to a few features, at each place of the grid (a 1x1 convolution) or of a flat tensor. Ends the device half.

    Linear without an `activation`. With `"softmax"` the features compete: examples of one class end at nearly the same point, so that
    little besides the class is left to cross.
    """


@keras.saving.register_keras_serializable(package=PACKAGE)
class Expand(keras.layers.Dense):
    """Back to as many features as the server half takes, likewise. Begins the server half."""


class _Room(Expand):
    """Base: the linear map and what layers of its own add to it, which starts at 0, so that a warm start stays one."""

    def __init__(self, units: int, hidden: int = HIDDEN, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.hidden = hidden

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return super().call(inputs, training=training) + self.added(inputs)

    def added(self, inputs: Any) -> Any:
        """What is added to the linear map, of its shape."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden}


@keras.saving.register_keras_serializable(package=PACKAGE)
class ExpandDense(_Room):
    """`Expand` plus a hidden layer: at each place of the grid, or of a flat tensor.

    Args:
        units: features that the server half takes.
        hidden: units of the hidden layer.
    """

    def __init__(self, units: int, hidden: int = HIDDEN, **kwargs: Any) -> None:
        super().__init__(units, hidden, **kwargs)
        self.inner = keras.layers.Dense(hidden, activation="relu", dtype=self.dtype_policy, name="inner")
        self.outer = keras.layers.Dense(units, kernel_initializer="zeros", dtype=self.dtype_policy, name="outer")

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.inner.build(input_shape)
        self.outer.build((*input_shape[:-1], self.hidden))

    def added(self, inputs: Any) -> Any:
        return self.outer(self.inner(inputs))


@keras.saving.register_keras_serializable(package=PACKAGE)
class ExpandConvolutions(_Room):
    """`Expand` plus convolutions, which know what is next to what.

    From features at each place of a grid `[batch, height, width, features]`: two 3x3 convolutions. From features of the whole example
    `[batch, features]`: a quarter of the grid, doubled twice by transposed convolutions.

    Args:
        units: features that the server half takes: a place's, or all of an example's.
        hidden: channels in between.
        grid: `(height, width, channels)` of the example that the features stand for; None for features at each place.
    """

    def __init__(self, units: int, hidden: int = HIDDEN, grid: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(units, hidden, **kwargs)
        self.grid = None if grid is None else tuple(grid)
        policy = {"dtype": self.dtype_policy}
        if self.grid is None:
            self.inner = keras.layers.Conv2D(hidden, _KERNEL, padding="same", activation="relu", name="inner", **policy)
            self.outer = keras.layers.Conv2D(units, _KERNEL, padding="same", kernel_initializer="zeros", name="outer", **policy)
            return
        height, width, channels = self.grid
        small = (-(-height // 4), -(-width // 4), hidden)
        doubled = {"kernel_size": 4, "strides": 2, "padding": "same", **policy}
        start = keras.layers.Dense(small[0] * small[1] * hidden, activation="relu", **policy)
        up = keras.layers.Conv2DTranspose(hidden, activation="relu", **doubled)
        self.inner = keras.Sequential([start, keras.layers.Reshape(small, **policy), up], name="inner")
        self.outer = keras.layers.Conv2DTranspose(channels, kernel_initializer="zeros", name="outer", **doubled)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.inner.build(input_shape)
        self.outer.build(self.inner.compute_output_shape(input_shape))

    def added(self, inputs: Any) -> Any:
        made = self.outer(self.inner(inputs))
        if self.grid is None:
            return made
        return keras.ops.reshape(made[:, : self.grid[0], : self.grid[1]], (-1, self.units))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid": self.grid}
