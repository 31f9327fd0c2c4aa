"""Names that TensorFlow can trace: Keras makes a scope of every layer's and model's name, and graphs refuse most characters there."""

from __future__ import annotations

import re

import keras

from keras_privpart.partitioning.graphs.graph import sublayers

# tf.Graph.name_scope allows more, such as "/" and ">"; Keras forbids the one, and nobody needs the other.
_SCOPE = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\-]*")


def traceable(name: str) -> str:
    """`name` with an underscore for every character that a graph refuses, such as spaces and umlauts; a good name stays."""
    if _SCOPE.fullmatch(name):
        return name
    clean = re.sub(r"[^A-Za-z0-9_.\-]", "_", name)
    return clean if _SCOPE.fullmatch(clean) else f"x{clean}"


def untraceable_layers(model: keras.Model) -> tuple[str, ...]:
    """Names of the layers in `model`, itself included, that no graph can be made of. Inputs may have any name."""
    layers = [layer for layer in sublayers(model) if not isinstance(layer, keras.layers.InputLayer)]
    return tuple(dict.fromkeys(layer.name for layer in layers if not _SCOPE.fullmatch(layer.name.lstrip("_"))))
