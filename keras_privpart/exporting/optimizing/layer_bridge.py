"""Describes a device half in plain data, layer by layer, so that another Keras can build it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_privpart.errors import BundleError
from keras_privpart.partitioning.graphs.calls import Call, Graph

_CONV = ("filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups", "activation", "use_bias")
_TRANSPOSED = tuple(name for name in _CONV if name != "groups")
_POOL = ("pool_size", "strides", "padding", "data_format")
_WHOLE = ("data_format", "keepdims")
# The layers that are taken, with the arguments that make them again; an argument that tf_keras calls otherwise as "ours>theirs".
LAYERS: dict[str, tuple[str, ...]] = {
    "Conv1D": _CONV,
    "Conv2D": _CONV,
    "Conv2DTranspose": _TRANSPOSED,
    "DepthwiseConv2D": (*_TRANSPOSED[1:], "depth_multiplier"),
    "SeparableConv2D": (*_TRANSPOSED, "depth_multiplier"),
    "Dense": ("units", "activation", "use_bias"),
    "BatchNormalization": ("axis", "epsilon", "center", "scale"),
    "LayerNormalization": ("axis", "epsilon", "center", "scale"),
    "Activation": ("activation",),
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "LeakyReLU": ("negative_slope>alpha",),
    "Softmax": ("axis",),
    "MaxPooling1D": _POOL,
    "MaxPooling2D": _POOL,
    "AveragePooling1D": _POOL,
    "AveragePooling2D": _POOL,
    "GlobalMaxPooling1D": _WHOLE,
    "GlobalMaxPooling2D": _WHOLE,
    "GlobalAveragePooling1D": _WHOLE,
    "GlobalAveragePooling2D": _WHOLE,
    "UpSampling2D": ("size", "data_format", "interpolation"),
    "ZeroPadding2D": ("padding", "data_format"),
    "Cropping2D": ("cropping", "data_format"),
    "Rescaling": ("scale", "offset"),
    "Flatten": ("data_format",),
    "Reshape": ("target_shape",),
    "Permute": ("dims",),
    "Add": (),
    "Average": (),
    "Maximum": (),
    "Multiply": (),
    "Concatenate": ("axis",),
}
ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid", "softmax", "elu", "selu", "softplus", "softsign", "exponential", "gelu")
# What quantisation-aware training knows how to quantise, of the above.
_NOT_IN_QAT = ("Conv1D", "SeparableConv2D", "LayerNormalization", "Average", "Maximum", "Multiply", "Rescaling", "Cropping2D")
QAT_LAYERS = tuple(name for name in LAYERS if name not in _NOT_IN_QAT)
QAT_ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid", "softmax")
# They do nothing in use. Fine-tuning goes towards what the half does in use, so they are passed by.
_PASSED_BY = ("Identity", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "ActivityRegularization")


@dataclass(frozen=True)
class Described:
    """A device half as plain data.

    Attributes:
        record: `layers` (name, kind, arguments, count of weights), `calls` (layer, tensors in, tensor out), `inputs` and `outputs`;
            tensors are numbers. It is JSON.
        weights: of layer i as `weight_<i>_<j>`.
        owners: the Keras layers behind `record["layers"]`, in order.
    """

    record: Mapping[str, Any]
    weights: Mapping[str, np.ndarray]
    owners: tuple[keras.layers.Layer, ...]


def describe(graph: Graph, method: str) -> Described:
    """Describes a graph for one method of optimisation, `"qat"` being the one that takes fewer layers.

    Raises:
        BundleError: a layer is not taken; the text names it, its class, and what is taken.
    """
    same: dict[int, int] = {}
    calls = []
    for call in graph.calls:
        if type(call.operation) in (getattr(keras.layers, name) for name in _PASSED_BY):
            same[call.outputs[0]] = same.get(call.inputs[0], call.inputs[0])
        elif call.index not in graph.input_calls:
            calls.append(call)
    for call in calls:
        if problem := _problem(call, method):
            raise BundleError(problem)
    owners = tuple({id(call.operation): call.operation for call in calls}.values())
    place = {id(layer): index for index, layer in enumerate(owners)}
    if method == "qat" and len(owners) < len(calls):
        twice = next(layer.name for layer in owners if sum(call.operation is layer for call in calls) > 1)
        raise BundleError(f"The layer {twice!r} is called several times, which qat does not take. Prune or cluster the half instead.")
    record = {
        "layers": [
            {"name": f"layer_{i}", "kind": type(o).__name__, "arguments": _arguments(o), "weights": len(o.weights)}
            for i, o in enumerate(owners)
        ],
        "calls": [{"layer": place[id(call.operation)], "inputs": _fed(graph, call, same), "output": call.outputs[0]} for call in calls],
        "inputs": [{"tensor": t, "shape": graph.tensors[t].shape[1:], "dtype": graph.tensors[t].dtype} for t in graph.inputs],
        "outputs": [same.get(t, t) for t in graph.outputs],
    }
    weights = {f"weight_{i}_{j}": np.asarray(w) for i, o in enumerate(owners) for j, w in enumerate(o.get_weights())}
    return Described(record, weights, owners)


def _problem(call: Call, method: str) -> str | None:
    layers, activations = (QAT_LAYERS, QAT_ACTIVATIONS) if method == "qat" else (tuple(LAYERS), ACTIVATIONS)
    operation, kind = call.operation, type(call.operation).__name__
    if kind not in layers or type(operation) is not getattr(keras.layers, kind, None):
        own = f"{type(operation).__module__}.{kind}"
        return f"The device half's layer {call.path!r} is a {own}, which {method} does not take; it takes {', '.join(layers)}. {_ADVICE}"
    activation = getattr(operation, "activation", keras.activations.linear)
    if activation not in [keras.activations.get(name) for name in activations]:
        named = getattr(activation, "__name__", type(activation).__name__)
        return (
            f"The device half's layer {call.path!r} ({kind}) has the activation {named!r}, which {method} does not take; it takes "
            f"{', '.join(activations)}. {_ADVICE}"
        )
    if operation.compute_dtype != "float32":
        return (
            f"The device half's layer {call.path!r} ({kind}) computes in {operation.compute_dtype}; {method} takes float32 only. {_ADVICE}"
        )
    return None


_ADVICE = "Put that layer on the server's side of the cut, or export without optimize."


def _arguments(layer: keras.layers.Layer) -> dict[str, Any]:
    config = layer.get_config()
    names = [name.partition(">") for name in LAYERS[type(layer).__name__]]
    return {theirs or ours: config[ours] for ours, _, theirs in names}


def _fed(graph: Graph, call: Call, same: Mapping[int, int]) -> list[int]:
    """The tensors that a call takes, in order, one that is taken twice twice."""
    numbers = {id(graph.tensors[t].symbol): same.get(t, t) for t in call.inputs}
    return [numbers[id(value)] for value in keras.tree.flatten((call.args, dict(call.kwargs))) if id(value) in numbers]
