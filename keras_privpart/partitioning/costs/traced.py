"""Multiply-adds of operations that no formula covers, counted in their TensorFlow graph: custom layers, nested models, `keras.ops`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# keras.ops operations that multiply matrices or convolve. All others cost nothing here.
_PRODUCTS = frozenset(
    {"Conv", "ConvTranspose", "Correlate", "DepthwiseConv", "Dot", "DotProductAttention", "Einsum", "GaussianBlur", "Inner", "Matmul"}
    | {"Map", "Outer", "Scan", "SeparableConv", "SobelEdges", "Tensordot", "VectorizedMap", "Vdot", "WhileLoop"}
)


def may_multiply(operation: Any) -> bool:
    """Whether an operation without a formula is worth tracing."""
    if not isinstance(operation, keras.layers.Layer):
        return type(operation).__name__ in _PRODUCTS
    if not type(operation).__module__.startswith("keras.") or isinstance(operation, (keras.layers.Lambda, keras.Model)):
        return True
    # Tables and scales of any shape, but nothing that is summed over.
    exempt = (keras.layers.Embedding, keras.layers.PReLU, keras.layers.Normalization, keras.layers.LayerNormalization)
    return any(len(w.shape) > 1 for w in operation.weights) and not isinstance(operation, exempt)


def traced_multiply_adds(operation: Any, arguments: Any) -> int | None:
    """Multiply-adds for one example of `operation(*args, **kwargs)`.

    Args:
        operation: anything that Keras can call.
        arguments: `(args, kwargs)` with Keras tensors in place of tensors.

    Returns:
        The count; `None` when a shape is not known beforehand, or a loop decides how often it is run.
    """
    flat = keras.tree.flatten(arguments)
    symbols = [x for x in flat if isinstance(x, keras.KerasTensor)]
    batch = next((x.shape[0] for x in symbols if x.shape and x.shape[0]), 1)

    def run(*tensors: Any) -> Any:
        left = iter(tensors)
        args, kwargs = keras.tree.map_structure(lambda x: next(left) if isinstance(x, keras.KerasTensor) else x, arguments)
        return operation(*args, **kwargs)

    specs = [tf.TensorSpec([batch if i == 0 else d for i, d in enumerate(x.shape)], x.dtype) for x in symbols]
    try:
        graphs = [tf.function(run, autograph=False).get_concrete_function(*specs).graph]
    except (ValueError, TypeError, tf.errors.OpError):
        return None  # an operation that runs on real data only
    total = 0
    while graphs:
        graph = graphs.pop()
        for node in graph.get_operations():
            if node.type in ("PartitionedCall", "StatefulPartitionedCall"):
                graphs.append(graph._get_function(node.get_attr("f").name).graph)
            elif node.type in ("While", "StatelessWhile", "If", "StatelessIf"):
                return None
            elif node.type in _COUNTS:
                count = _COUNTS[node.type](node)
                if count is None:
                    return None
                total += count
    return total // batch


def _size(*dims: int | None) -> int | None:
    return None if None in dims else math.prod(d for d in dims if d is not None)


def _dims(tensor: Any) -> list[int | None]:
    return tensor.shape.as_list() if tensor.shape.rank is not None else [None]


def _matmul(node: Any) -> int | None:
    shape = _dims(node.inputs[0])
    turned = node.get_attr("transpose_a" if node.type == "MatMul" else "adj_x")
    return _size(*_dims(node.outputs[0]), shape[-2 if turned else -1])


def _conv(node: Any) -> int | None:
    return _size(*_dims(node.outputs[0]), *_dims(node.inputs[1])[:-1])


def _depthwise(node: Any) -> int | None:
    return _size(*_dims(node.outputs[0]), *_dims(node.inputs[1])[:-2])


def _conv_transpose(node: Any) -> int | None:
    return _size(*_dims(node.inputs[2]), *_dims(node.inputs[1])[:-1])


def _einsum(node: Any) -> int | None:
    terms = node.get_attr("equation").decode().split("->")[0].split(",")
    if any("." in term for term in terms):
        return None
    sizes = {label: d for term, tensor in zip(terms, node.inputs, strict=True) for label, d in zip(term, _dims(tensor), strict=True)}
    return _size(*sizes.values()) if len(terms) > 1 else 0


_COUNTS: dict[str, Callable[[Any], int | None]] = {
    "MatMul": _matmul,
    "BatchMatMulV2": _matmul,
    "BatchMatMulV3": _matmul,
    "Conv2D": _conv,
    "Conv3D": _conv,
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _conv_transpose,
    "Conv3DBackpropInputV2": _conv_transpose,
    "Einsum": _einsum,
}
