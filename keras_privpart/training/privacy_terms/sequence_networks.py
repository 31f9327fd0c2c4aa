"""Decoders from a boundary back to a sequence: the samples of a signal, or scores of every token at every place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms.networks import BUDGETS, Budget, Shape, boundary_inputs, flattened, hidden_units, normalised

_WIDTH = 5  # places that a convolution sees


def sequence_decoder(boundary_shapes: Sequence[Shape], length: int, units: int, size: str = "small", name: str = "decoder") -> keras.Model:
    """Builds a network from the boundary to `units` numbers at each of `length` places: a path along the sequence and a dense one, summed.

    The path along the sequence takes every tensor that has places, `[t, ...]`, spreads each place over `length / t` of its own and looks at
    its neighbours; where the boundary has as many places as the input, each is read where it stands. The dense path sees the whole
    boundary at once: what a defence pooled, or keeps in one vector, has no places. Every input is normalised per channel first.

    Args:
        boundary_shapes: shapes of the boundary's tensors without the batch, any rank.
        length: of the sequence to recover.
        units: numbers at each place: channels of a signal, or tokens to tell apart.
        size: `"small"`, `"medium"`, `"large"`, `"deep"` or `"huge"`, as for `networks.decoder`.
        name: of the model.

    Returns:
        A `keras.Model` from one tensor, or a list of tensors where there are several shapes, to `[batch, length, units]`, float32.

    Raises:
        TrainingError: no shapes, a free or empty dimension, or an unknown size.
    """
    inputs = boundary_inputs(boundary_shapes)
    if size not in BUDGETS:
        raise TrainingError(f"Received the size {size!r}; expected one of {list(BUDGETS)}. Choose one of them.")
    budget = BUDGETS[size]
    tensors = [normalised(x) for x in inputs]
    wide = 4 * budget.channels
    paths = [_along(x, length, wide) for x in tensors if len(x.shape) > 2 and x.shape[1] > 1]
    features = layers.Add()([*paths, _dense_path(tensors, length, wide, budget)]) if paths else _dense_path(tensors, length, wide, budget)
    features = layers.Activation("relu")(features)
    for _ in range(1 + budget.blocks):
        closer = layers.Conv1D(wide, _WIDTH, padding="same", activation="relu")(features)
        features = layers.Add()([features, closer])
    answer = layers.Dense(units, dtype="float32", name="places")(features)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], answer, name=name)


def _along(x: Any, length: int, channels: int) -> Any:
    """`x` `[batch, t, ...]` as `[batch, length, channels]`: each place is spread over as many as it stands for."""
    places = x.shape[1]
    x = layers.Reshape((places, math.prod(x.shape[2:])))(x)
    spread = math.ceil(length / places)
    x = layers.Reshape((places * spread, channels))(layers.Dense(spread * channels)(x))
    if places * spread == length:
        return x
    if places > length:
        x = layers.AveragePooling1D(math.ceil(places / length), padding="same")(x)
        x = layers.UpSampling1D(math.ceil(length / x.shape[1]))(x)
    return layers.Cropping1D((0, x.shape[1] - length))(x)


def _dense_path(tensors: Sequence[Any], length: int, channels: int, budget: Budget) -> Any:
    flat = flattened(tensors)
    units = hidden_units(budget.hidden, budget.dense_weights, flat.shape[-1] + length)
    depth = max(1, min(channels, budget.dense_weights // (units * length)))
    x = layers.Dense(units, activation="relu", name="dense_hidden")(flat)
    x = layers.Reshape((length, depth))(layers.Dense(length * depth, name="dense_path")(x))
    return x if depth == channels else layers.Dense(channels, name="dense_channels")(x)
