"""What layers keep from call to call: the state of stateful recurrent layers, counters and statistics, random seeds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

from keras_privpart.partitioning.graphs.graph import sublayers


def recurrent_states(model: keras.Model) -> dict[str, list[Any]]:
    """State variables of the recurrent layers with `stateful=True`, by the layer's name. Keras does not list them among the weights."""
    found: dict[str, list[Any]] = {}
    for layer in sublayers(model):
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            found.setdefault(layer.name, []).extend(v for v in keras.tree.flatten(layer.states) if isinstance(v, keras.Variable))
    return found


@contextmanager
def kept(*models: keras.Model) -> Iterator[dict[str, Any]]:
    """Within it models may move their state on; afterwards it is what it was. Trainable weights are not looked at.

    Yields:
        Variables that may hold state, by their path.
    """
    variables = {id(v): v for model in models for v in model.non_trainable_variables}
    variables |= {id(v): v for model in models for states in recurrent_states(model).values() for v in states}
    before = [(v, keras.ops.convert_to_numpy(v)) for v in variables.values()]
    try:
        yield {v.path: v for v in variables.values()}
    finally:
        for variable, value in before:
            variable.assign(value)


def moved(model: keras.Model, inputs: Any) -> tuple[str, ...]:
    """What one call of `model` in inference changes: paths of weights, names of stateful recurrent layers. Random seeds do not count.

    The state is afterwards what it was before.
    """
    weights = {id(v): v for v in model.non_trainable_weights}
    with kept(model):
        before = {key: keras.ops.convert_to_numpy(v) for key, v in weights.items()}
        model(inputs, training=False)
        changed = [v.path for key, v in weights.items() if (keras.ops.convert_to_numpy(v) != before[key]).any()]
    return (*changed, *recurrent_states(model))
