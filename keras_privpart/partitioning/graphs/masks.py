"""Layers that turn a Keras mask into a tensor that can be sent, and back.

A mask travels beside its tensor, invisible in the graph, and would be lost at the boundary. It says which steps of a sequence
are padding, so it is declared like everything else that leaves the device.
"""

from __future__ import annotations

from typing import Any

import keras


class _MaskLayer(keras.layers.Layer):
    """Base: takes masks, casts nothing, has no weights, and gives an output without a mask."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.autocast = False

    def build(self, input_shape: Any) -> None:
        self.built = True

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None


@keras.saving.register_keras_serializable(package="keras_privpart")
class ReadMask(_MaskLayer):
    """Returns the mask `[batch, ...]` (bool) of its input. The last layer of a device half that sends a mask."""

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            raise ValueError(
                f"Received an input without a mask in the layer {self.name!r}; expected the output of a layer that makes masks, such as "
                "Embedding(mask_zero=True). Partition the model again."
            )
        # A copy: the mask object itself must not end up carrying attributes of this layer's output.
        return keras.ops.logical_or(mask, False)


@keras.saving.register_keras_serializable(package="keras_privpart")
class DropMask(_MaskLayer):
    """Returns its input without its mask, so that a device half hands out no more than it declares."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.copy(inputs)


@keras.saving.register_keras_serializable(package="keras_privpart")
class AttachMask(_MaskLayer):
    """Returns `x` of `[x, mask]` with `mask` as its Keras mask. The first layer of a server half that receives a mask."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.copy(inputs[0])

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(shape=inputs[0].shape, dtype=inputs[0].dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return inputs[1]
