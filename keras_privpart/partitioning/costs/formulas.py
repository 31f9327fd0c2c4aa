"""What a call costs: multiply-adds, bytes, parameters. Pure functions of shapes.

Multiply-adds count matrix products and convolutions, as the literature does: one for each product that enters a sum. Additions of
biases, normalisations, activations, pooling and element-wise arithmetic are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from keras_privpart.contract import STRING, dtype_size
from keras_privpart.partitioning.costs.traced import may_multiply, traced_multiply_adds

Shape = tuple[int | None, ...]
Shapes = Sequence[Shape]
Rule = Callable[[Any, Shapes, Shapes], int]


class _FreeDimensionError(Exception):
    """A size depends on a dimension that is not known before the data is."""


def elements(shape: Shape) -> int | None:
    """Numbers in one example of a tensor `[batch, ...]`; `None` when a dimension besides the batch is free."""
    dims = shape[1:]
    return None if any(d is None for d in dims) else math.prod(d for d in dims if d is not None)


def nbytes(shape: Shape, dtype: str) -> int | None:
    """Bytes of one example of a tensor; `None` when a dimension besides the batch is free, and for text, which has no fixed size."""
    count = elements(shape)
    return None if count is None or dtype == STRING else count * dtype_size(dtype)


def parameters(variables: Sequence[Any]) -> int:
    """Numbers in `variables`, each variable counted once."""
    return sum(math.prod(v.shape) for v in {id(v): v for v in variables}.values())


def multiply_adds(operation: Any, args: Any, inputs: Shapes, outputs: Shapes) -> int | None:
    """Multiply-adds of one call for one example.

    Args:
        operation: a Keras layer, or an operation of `keras.ops`.
        args: `(args, kwargs)` of the call, with Keras tensors in place of tensors.
        inputs: shapes of the tensors among them, in order.
        outputs: shapes of the tensors that the call returns.

    Returns:
        The count, by a formula for the layers of Keras, else from the operation's TensorFlow graph. `None` when it depends on a free
        dimension, or when the operation loops over its data in a way that cannot be counted.
    """
    rule = next((rule for kind, rule in _RULES if isinstance(operation, kind)), None)
    try:
        if rule is not None:
            return rule(operation, inputs, outputs)
    except _FreeDimensionError:
        return None
    return traced_multiply_adds(operation, args) if may_multiply(operation) else 0


def _count(dims: Sequence[int | None]) -> int:
    known = [d for d in dims if d is not None]
    if len(known) != len(dims):
        raise _FreeDimensionError
    return math.prod(known)


def _channels(layer: Any, shape: Shape) -> int:
    return _count([shape[1 if layer.data_format == "channels_first" else -1]])


def _dense(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    return _count(outputs[0][1:]) * _count([inputs[0][-1]])


def _einsum_dense(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    given, kernel = layer.equation.split("->")[0].split(",")
    added = [size for label, size in zip(kernel, layer.kernel.shape, strict=True) if label not in given]
    return _count(inputs[0][1:]) * _count(added)


def _conv(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    return _count(outputs[0][1:]) * _count(layer.kernel_size) * _channels(layer, inputs[0]) // layer.groups


def _conv_transpose(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    return _count(inputs[0][1:]) * _count(layer.kernel_size) * layer.filters


def _depthwise_conv(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    return _count(outputs[0][1:]) * _count(layer.kernel_size)


def _separable_conv(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    between = _channels(layer, inputs[0]) * layer.depth_multiplier
    return _count(outputs[0][1:]) // layer.filters * between * (_count(layer.kernel_size) + layer.filters)


def _kernels(cell: Any) -> list[Any]:
    return [w for w in cell.weights if len(w.shape) > 1 and "bias" not in w.name]


def _recurrent(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    return _count([inputs[0][1]]) * sum(_count(w.shape) for w in _kernels(layer.cell))


def _conv_recurrent(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    grid = _count(outputs[0][2 if layer.return_sequences else 1 :]) // layer.cell.filters
    return _count([inputs[0][1]]) * grid * sum(_count(w.shape) for w in _kernels(layer.cell))


def _bidirectional(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    return sum(_recurrent(half, inputs, outputs) for half in (layer.forward_layer, layer.backward_layer))


def _time_distributed(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    before, after = ((shape[0], *shape[2:]) for shape in (inputs[0], outputs[0]))
    steps = multiply_adds(layer.layer, ((keras.KerasTensor(before),), {}), [before], [after])
    return _count([inputs[0][1], steps])


def _dot(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return _count(outputs[0][1:]) * _count([inputs[0][axis]])


def _attention(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    query, value = inputs[0], inputs[1]
    key = inputs[2] if len(inputs) > 2 else value
    return _count([query[1], value[1]]) * (_count([key[-1]]) + _count([value[-1]]))


def _multi_head_attention(layer: Any, inputs: Shapes, outputs: Shapes) -> int:
    query, value = inputs[0], inputs[1]
    key = inputs[2] if len(inputs) > 2 else value
    heads, key_dim, value_dim = layer.num_heads, layer.key_dim, layer.value_dim
    asked, held = _count(query[1:-1]), _count(value[1:-1])
    projected = asked * _count([query[-1]]) * key_dim + held * (_count([key[-1]]) * key_dim + _count([value[-1]]) * value_dim)
    answered = asked * value_dim * _count([outputs[0][-1]])
    return heads * (projected + answered + asked * held * (key_dim + value_dim))


_RULES: tuple[tuple[type | tuple[type, ...], Rule], ...] = (
    (layers.Dense, _dense),
    (layers.EinsumDense, _einsum_dense),
    ((layers.SeparableConv1D, layers.SeparableConv2D), _separable_conv),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise_conv),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _conv_transpose),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), _conv),
    ((layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D), _conv_recurrent),
    (layers.RNN, _recurrent),
    (layers.Bidirectional, _bidirectional),
    (layers.TimeDistributed, _time_distributed),
    (layers.Dot, _dot),
    (layers.Attention, _attention),
    (layers.MultiHeadAttention, _multi_head_attention),
)
