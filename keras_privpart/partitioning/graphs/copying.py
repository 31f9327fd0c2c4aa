"""A graph on layers of its own: for halves that shall be trained without changing the model they come from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras

from keras_privpart.errors import ModelError
from keras_privpart.partitioning.graphs.calls import Call, Graph
from keras_privpart.partitioning.graphs.graph import sublayers


def copied(graph: Graph) -> Graph:
    """The same graph on copies of the layers, with copies of their weights and state (moving averages, random seeds, vocabularies).

    A layer that is called several times stays one layer. `keras.ops` operations and Lambda layers hold no state and are not copied.

    Raises:
        ModelError: a layer cannot be made again from its configuration.
    """
    copies: dict[int, Any] = {}
    calls = []
    for call in graph.calls:
        operation = call.operation
        if not call.is_layer or isinstance(operation, (keras.layers.InputLayer, keras.layers.Lambda)):
            calls.append(call)
            continue
        if id(operation) not in copies:
            copies[id(operation)] = _copy(call)
        calls.append(replace(call, operation=copies[id(operation)]))
    numbers = {id(copies[key]) if key in copies else key: value for key, value in graph.numbers.items()}
    return replace(graph, calls=tuple(calls), numbers=numbers)


def _copy(call: Call) -> Any:
    layer = call.operation
    try:
        twin = type(layer).from_config(layer.get_config())
        args, kwargs = keras.tree.map_structure(_placeholder, (call.args, dict(call.kwargs)))
        twin(*args, **kwargs)  # builds it
        _copy_state(layer, twin)
    except Exception as error:  # whatever the layer's own get_config, constructor and build raise
        reason = str(error).strip().split("\n", 1)[0]
        raise ModelError(
            f"Can't copy the layer {call.path!r} ({type(layer).__name__}): {type(error).__name__}: {reason}. Give it a get_config that "
            "returns its arguments, or partition without independent=True."
        ) from error
    return twin


def _placeholder(x: Any) -> Any:
    """A symbol like `x` that belongs to no model, so that building the copy leaves no trace there."""
    return keras.KerasTensor(shape=x.shape, dtype=x.dtype, sparse=x.sparse, ragged=x.ragged) if isinstance(x, keras.KerasTensor) else x


def _copy_state(layer: Any, twin: Any) -> None:
    if len(layer.variables) != len(twin.variables):
        raise ValueError(f"the copy has {len(twin.variables)} variables instead of {len(layer.variables)}")
    for old, new in zip(layer.variables, twin.variables, strict=True):
        new.assign(old)
    for old, new in zip(sublayers(layer), sublayers(twin), strict=True):
        store: dict[str, Any] = {}
        old.save_own_variables(store)
        # Besides the variables, which are equal by now, layers such as Normalization restore here what they derived from them.
        new.load_own_variables(store)
        if isinstance(old, (keras.layers.StringLookup, keras.layers.IntegerLookup)):
            new.set_vocabulary(old.get_vocabulary(include_special_tokens=False))
        new.trainable = old.trainable  # outer layers come first, inner ones correct them
