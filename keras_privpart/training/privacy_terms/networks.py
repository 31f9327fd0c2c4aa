"""The networks of attackers: decoders from a boundary back to an image, probes from a boundary to an attribute.

Both sides of the argument build them: adversaries that train with the halves, and the fresh attackers of an audit. Inputs are
the boundary's tensors in order, as numbers, shapes without the batch: image maps `[h, w, c]`, sequences `[t, c]`, vectors `[n]`,
token ids or masks `[t]`, scalars `[]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import layers

from keras_privpart import arguments
from keras_privpart.errors import TrainingError

# A shape without the batch, as Keras gives it; a free dimension (None) is refused when the network is built.
Shape = Sequence[int | None]


class Budget(NamedTuple):
    """What a decoder of one size may spend."""

    channels: int  # of a convolution, at most
    blocks: int  # residual blocks on the boundary's own grid
    hidden: int  # units of the dense path, at most
    conv_macs: int  # multiply-adds of one convolution, an image
    dense_weights: int  # weights of the dense path
    depth: int = 1  # hidden layers of the dense path
    refinements: int = 0  # times that the sum of both paths is looked at again


BUDGETS: dict[str, Budget] = {
    "small": Budget(channels=16, blocks=0, hidden=128, conv_macs=500_000, dense_weights=500_000),
    "medium": Budget(channels=32, blocks=1, hidden=512, conv_macs=2_000_000, dense_weights=2_000_000),
    "large": Budget(channels=64, blocks=2, hidden=1024, conv_macs=6_000_000, dense_weights=6_000_000),
    "deep": Budget(channels=16, blocks=1, hidden=768, conv_macs=1_000_000, dense_weights=3_000_000, depth=3, refinements=2),
    "huge": Budget(channels=128, blocks=4, hidden=2048, conv_macs=20_000_000, dense_weights=20_000_000),
}
_PROBES = ("linear", "mlp", "conv")
_MIN_CHANNELS = 8
_CHANNELS_A_PIXEL = 2  # of the image's shorter side: little pictures have little texture
_MIN_HIDDEN = 16
_PROBE_WEIGHTS = 4_000_000


def decoder(boundary_shapes: Sequence[Shape], image_shape: Shape, size: str = "medium", name: str = "decoder") -> keras.Model:
    """Builds a network from the boundary to an image: a convolutional and a dense path, summed before the sigmoid.

    The convolutional path starts on the boundary's own grid (a sequence of `k * k` vectors counts as a grid; what has no grid is
    projected onto one), doubles it up to the image's size, and meets there the boundary resized to full resolution. The dense path
    sees the whole boundary at once, through one hidden layer: what a defence moves about, a convolution misses.
    Every input is normalised per channel first, so the scale of the boundary decides nothing.

    Costs are limited. A convolution has at most 16, 32, 64 or 128 channels (small, medium, large, huge), fewer on small images (2 a
    pixel of the shorter side) and where it would take more than 0.5, 2, 6 or 20 million multiply-adds an image, never under 8. The hidden
    layer of the dense path has at most 128, 512, 1,024 or 2,048 units, fewer where the path would have more than 0.5, 2, 6 or 20 million
    weights, never under 16: on large images and boundaries the dense path is a bottleneck.

    Args:
        boundary_shapes: shapes of the boundary's tensors without the batch, any rank.
        image_shape: `(height, width, channels)` of the image to recover.
        size: `"small"`, `"medium"`, `"large"` or `"huge"`.
        name: name of the model.

    Returns:
        A `keras.Model` from one tensor, or a list of tensors where there are several shapes, to `[batch, height, width, channels]` in
        [0, 1], float32. Weights follow `keras.utils.set_random_seed`.

    Raises:
        TrainingError: no shapes, a free or empty dimension, an image shape that is none, or an unknown size.
    """
    inputs = boundary_inputs(boundary_shapes)
    if size not in BUDGETS:
        raise TrainingError(f"Received the size {size!r}; expected one of {list(BUDGETS)}. Choose one of them.")
    budget, pixels = BUDGETS[size], _image_shape(image_shape)
    tensors = [normalised(x) for x in inputs]
    features = _conv_features(tensors, pixels, budget)
    guess = layers.Conv2D(pixels[2], 1, dtype="float32", name="conv_path")(features)
    picture = layers.Add(name="paths")([guess, _dense_path(tensors, pixels, budget)])
    for _ in range(budget.refinements):
        closer = layers.Conv2D(features.shape[-1], 3, padding="same", activation="relu")(layers.Concatenate()([picture, features]))
        picture = layers.Add()([picture, layers.Conv2D(pixels[2], 3, padding="same", dtype="float32")(closer)])
    picture = layers.Activation("sigmoid", dtype="float32", name="image")(picture)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], picture, name=name)


def probe(boundary_shapes: Sequence[Shape], units: int, kind: str = "mlp", name: str = "probe") -> keras.Model:
    """Builds a classifier of the boundary.

    `"linear"`: one dense layer on the flattened boundary. `"mlp"`: two hidden layers, the first of 256 units (fewer, not under
    16, where it would have more than 4 million weights). `"conv"`: two strided convolutions on every image map (or sequence), beside
    everything that has no grid, then one hidden layer.
    Every input is normalised per channel first.

    Args:
        boundary_shapes: shapes of the boundary's tensors without the batch, any rank.
        units: number of classes, at least 2 (or 1 for a single logit).
        kind: `"linear"`, `"mlp"` or `"conv"`.
        name: name of the model.

    Returns:
        A `keras.Model` from one tensor, or a list of tensors where there are several shapes, to logits `[batch, units]`, float32.

    Raises:
        TrainingError: no shapes, a free or empty dimension, no units, or an unknown kind.
    """
    inputs = boundary_inputs(boundary_shapes)
    units = arguments.whole("units", units, TrainingError, advice="Give the number of classes.")
    if kind not in _PROBES:
        raise TrainingError(f"Received the kind {kind!r}; expected one of {list(_PROBES)}. Choose one of them.")
    tensors = [normalised(x) for x in inputs]
    if kind == "conv":
        tensors = [_features(x) for x in tensors]
    x = flattened(tensors)
    if kind != "linear":
        hidden = hidden_units(256, _PROBE_WEIGHTS, x.shape[-1])
        x = layers.Dropout(0.1, name="dropout")(layers.Dense(hidden, activation="relu", name="hidden")(x))
    if kind == "mlp":
        x = layers.Dense(128, activation="relu", name="hidden_2")(x)
    logits = layers.Dense(units, dtype="float32", name="logits")(x)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], logits, name=name)


def _image_shape(shape: Shape) -> tuple[int, int, int]:
    known = [d for d in shape if arguments.is_whole(d)]
    if len(shape) != 3 or len(known) != 3:
        raise TrainingError(
            f"Received the image shape {tuple(shape)!r}; expected (height, width, channels), whole numbers from 1. "
            "Decoders recover images only."
        )
    return known[0], known[1], known[2]


def boundary_inputs(shapes: Sequence[Shape]) -> list[Any]:
    """One float input per shape; a scalar per example becomes a vector of one."""
    if not shapes:
        raise TrainingError("Received no boundary shapes; expected at least one. Give the shape of every tensor, without the batch.")
    for shape in shapes:
        if not all(arguments.is_whole(d) for d in shape):
            raise TrainingError(
                f"Received the boundary shape {tuple(shape)!r}; expected whole numbers from 1, without the batch. "
                "Fix the free dimensions, for example by padding sequences to one length."
            )
    return [keras.Input(tuple(shape), name=f"z_{i}" if len(shapes) > 1 else "z") for i, shape in enumerate(shapes)]


def normalised(x: Any) -> Any:
    """Zero mean and unit variance per channel: per feature for vectors and ids, per last axis for all else."""
    if len(x.shape) == 1:
        x = layers.Reshape((1,))(x)
    # A tiny epsilon, because a boundary may be tiny; a quick momentum, because an adversary's boundary moves under it.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-12, center=False, scale=False, dtype="float32")(x)


def flattened(tensors: Sequence[Any]) -> Any:
    flat = [x if len(x.shape) == 2 else layers.Flatten()(x) for x in tensors]
    return flat[0] if len(flat) == 1 else layers.Concatenate()(flat)


def hidden_units(most: int, weights: int, features: int) -> int:
    """Units of a hidden layer that sees `features` numbers in and out, within a number of weights."""
    return max(_MIN_HIDDEN, min(most, weights // features))


def _as_grid(x: Any) -> Any | None:
    """`x` as `[batch, h, w, c]`: maps, volumes with their last axes joined, sequences of a square number of vectors; None for all else."""
    rank, shape = len(x.shape) - 1, tuple(x.shape[1:])
    if rank == 3:
        return x
    if rank > 3:
        return layers.Reshape((shape[0], shape[1], math.prod(shape[2:])))(x)
    if rank == 2 and shape[0] > 1 and math.isqrt(shape[0]) ** 2 == shape[0]:
        return layers.Reshape((math.isqrt(shape[0]), math.isqrt(shape[0]), shape[1]))(x)
    return None


def _conv_features(tensors: Sequence[Any], image_shape: tuple[int, int, int], budget: Budget) -> Any:
    height, width, _ = image_shape
    most = max(_MIN_CHANNELS, min(budget.channels, _CHANNELS_A_PIXEL * min(height, width)))

    def conv(x: Any) -> Any:
        _, h, w, c = x.shape
        room = budget.conv_macs // (9 * h * w)
        # Also square: the next convolution has as many channels in as this one has out.
        return layers.Conv2D(max(_MIN_CHANNELS, min(most, room // c, math.isqrt(room))), 3, padding="same", activation="relu")(x)

    found = [_as_grid(x) for x in tensors]
    grids = [g for g in found if g is not None]
    gridless = [x for x, g in zip(tensors, found, strict=True) if g is None]
    if gridless:
        h, w = math.ceil(height / 4), math.ceil(width / 4)
        flat = flattened(gridless)
        depth = max(1, min(most, budget.dense_weights // (h * w * flat.shape[-1])))
        grids.append(layers.Reshape((h, w, depth))(layers.Dense(h * w * depth, activation="relu")(flat)))
    # All grids meet on the coarsest one; each comes back at full resolution.
    h, w = min(g.shape[1] for g in grids), min(g.shape[2] for g in grids)
    x = conv(_joined([_resized(g, h, w) for g in grids]))
    for _ in range(budget.blocks):
        x = layers.Add()([x, layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")(x)])
    while h < height or w < width:
        h, w = _doubled(h, height), _doubled(w, width)
        x = conv(_resized(x, h, w))
    skips = [_resized(layers.Conv2D(x.shape[-1], 1)(g), height, width) for g in grids]
    return conv(layers.Add()([_resized(x, height, width), *skips]))


def _doubled(side: int, limit: int) -> int:
    return min(limit, 2 * side) if side < limit else side


def _joined(grids: list[Any]) -> Any:
    return grids[0] if len(grids) == 1 else layers.Concatenate()(grids)


def _resized(x: Any, height: int, width: int) -> Any:
    if tuple(x.shape[1:3]) == (height, width):
        return x
    return layers.Resizing(height, width, interpolation="bilinear", antialias=x.shape[1] > height or x.shape[2] > width)(x)


def _dense_path(tensors: Sequence[Any], image_shape: tuple[int, int, int], budget: Budget) -> Any:
    flat, pixels = flattened(tensors), math.prod(image_shape)
    units = hidden_units(budget.hidden, budget.dense_weights, flat.shape[-1] + pixels + (budget.depth - 1) * budget.hidden)
    x = layers.Dense(units, activation="relu", name="dense_hidden")(flat)
    for _ in range(budget.depth - 1):
        x = layers.Add()([x, layers.Dense(units, activation="relu")(x)])
    return layers.Reshape(image_shape)(layers.Dense(pixels, dtype="float32", name="dense_path")(x))


def _features(x: Any) -> Any:
    """Two strided convolutions over whatever grid `x` has; unchanged where it has none."""
    grid = _as_grid(x)
    if grid is not None:
        for filters in (32, 64):
            grid = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(grid)
        return grid
    if len(x.shape) == 3:
        for filters in (32, 64):
            x = layers.Conv1D(filters, 3, strides=2, padding="same", activation="relu")(x)
    return x
