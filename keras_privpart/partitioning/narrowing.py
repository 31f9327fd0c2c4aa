"""A bottleneck at the boundary: few features cross, and the server half spreads them out again. It changes the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from scipy.special import softmax
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV

from keras_privpart import arguments
from keras_privpart.channels.bottleneck import HIDDEN, Expand, ExpandConvolutions, ExpandDense, Squeeze
from keras_privpart.errors import CutError

if TYPE_CHECKING:
    from keras_privpart.partitioning.halves import Partition


OVER = ("place", "example")
EXPAND = ("linear", "dense", "convolutions")
ACTIVATIONS = ("linear", "tanh", "softmax")
_ROUNDING = 1e-5  # of float32 boundaries
_LEAD = 3.0
_WIDE = 4096  # numbers of an example from which features that compete collapse into a few at usual learning rates


def narrowed(
    parts: Partition,
    features: int,
    over: str,
    examples: Any = None,
    expand: str = "linear",
    activation: str = "linear",
    labels: Any = None,
) -> tuple[keras.Model, list[str]]:
    """The changed model of `with_bottleneck`, on the layers of `parts`, and the addresses of its boundary.

    Raises:
        CutError: as `with_bottleneck`.
    """
    if parts.channel:
        raise CutError(f"Received a partition with a channel, {parts.channel[0].name!r}; expected a plain one. Put it on afterwards.")
    arguments.choice("over", over, OVER, CutError)
    arguments.choice("expand", expand, EXPAND, CutError)
    arguments.choice("activation", activation, ACTIVATIONS, CutError)
    outputs = keras.tree.flatten(parts.device.output)
    flat_ones = [list(z.shape) for z in outputs if _narrows(z) and len(z.shape) != 4]
    if expand == "convolutions" and flat_ones:
        raise CutError(
            f"Received expand='convolutions' for a boundary {flat_ones}; expected [batch, height, width, channels]. Use 'dense'."
        )
    widths = [z.shape[-1] if over == "place" else _size(z) for z in outputs if _narrows(z)]
    if not widths or not arguments.is_whole(features, 1, min(widths) - 1):
        raise CutError(
            f"Received bottleneck={features!r} at {', '.join(parts.boundary.sources)} with {widths} features; expected a whole number "
            "from 1 that is smaller than each. Choose fewer features, or another cut."
        )
    features = int(features)
    seen = None if examples is None else keras.tree.flatten(parts.device.predict(examples, verbose=0))
    classes = None if labels is None else _classes(labels, seen, over, activation)
    squeezed: list[str | None] = []
    expanded: list[Any] = []
    for i, z in enumerate(outputs):
        if not _narrows(z):
            squeezed.append(None)
            expanded.append(z)
            continue
        suffix = f"_{i}" if len(outputs) > 1 else ""
        flat = over == "example" and len(z.shape) > 2
        narrow = keras.layers.Flatten(name=f"bottleneck_flat{suffix}", dtype=z.dtype)(z) if flat else z
        scale = min(1.0, _WIDE / narrow.shape[-1]) if activation == "softmax" else 1.0
        if scale < 1:  # a step of Adam moves a sum of n numbers by n learning rates
            narrow = keras.layers.Rescaling(scale, name=f"bottleneck_scale{suffix}", dtype=z.dtype)(narrow)
        down, up = _pair(narrow, features, suffix, expand, z.shape[1:] if flat else None, activation)
        down.kernel.assign(down.kernel / scale)
        if seen is not None:
            rows = scale * seen[i].reshape(-1, down.kernel.shape[0]).astype("float64")
            if activation != "softmax":
                _to_principal(down, up, rows)
            elif classes is None:
                _to_clusters(down, up, rows)
            else:
                _to_classes(down, up, rows, classes)
        squeezed.append(down.name)
        wide = up(down(narrow))
        expanded.append(keras.layers.Reshape(z.shape[1:], name=f"bottleneck_shape{suffix}", dtype=z.dtype)(wide) if flat else wide)
    names = [name or source for name, source in zip(squeezed, parts.boundary.sources, strict=True)]
    public = [x for x in parts.model.inputs if x.name.split(":")[0] in parts.public_inputs]
    if public:
        raise CutError(f"Received a partition with the public inputs {list(parts.public_inputs)}; expected none with a bottleneck.")
    whole = keras.Model(parts.device.input, _through(parts.server, expanded), name=parts.model.name)
    return whole, names


def _narrows(z: Any) -> bool:
    return keras.backend.is_float_dtype(z.dtype)


def _size(z: Any) -> int:
    """Values of one example; 0 where a dimension is open."""
    return 0 if None in z.shape[1:] else math.prod(z.shape[1:])


def _pair(z: Any, features: int, suffix: str, expand: str, grid: tuple[int, ...] | None, activation: str) -> tuple[Squeeze, Expand]:
    width, hidden = z.shape[-1], max(HIDDEN, 4 * features)
    down = Squeeze(features, activation=activation, name=f"bottleneck{suffix}", dtype=z.dtype)
    named = {"name": f"bottleneck_expansion{suffix}", "dtype": z.dtype}
    up: Expand
    if expand == "dense":
        up = ExpandDense(width, hidden, **named)
    elif expand == "convolutions":
        up = ExpandConvolutions(width, hidden, grid, **named)
    else:
        up = Expand(width, **named)
    down.build(z.shape)
    up.build((*z.shape[:-1], features))
    kernel = np.asarray(keras.ops.convert_to_numpy(keras.initializers.Orthogonal()((width, features), dtype="float32")))
    down.kernel.assign(kernel)
    up.kernel.assign(kernel.T)
    return down, up


def _to_principal(down: Squeeze, up: Expand, rows: np.ndarray) -> None:
    """Starts the pair at the principal components of what crossed: features of mean 0 and variance 1, and the least squares way back."""
    features = down.units
    _enough(rows, features)
    components = PCA(features, random_state=0).fit(rows)
    spread = np.sqrt(components.explained_variance_)
    varied = int((spread > _ROUNDING * spread[0]).sum())
    if varied < features:
        raise CutError(
            f"Received bottleneck={features}, but the boundary of these examples varies in {varied} directions only; expected at most as "
            "many features. Choose fewer, or give other examples."
        )
    kernel = components.components_.T / spread
    down.kernel.assign(kernel)
    down.bias.assign(-components.mean_ @ kernel)
    up.kernel.assign(components.components_ * spread[:, None])
    up.bias.assign(components.mean_)


def _to_clusters(down: Squeeze, up: Expand, rows: np.ndarray) -> None:
    """Starts a pair whose features compete at clusters of what crossed, each feature the likeness to one of them.

    `softmax(x @ c / t - |c|^2 / 2 t)` over centres c is `softmax(-|x - c|^2 / 2 t)`; t lets the nearest lead the second by `_LEAD` in the
    logits, in the median. The way back is by least squares from the features as a channel normalises them.
    """
    features = down.units
    _enough(rows, features)
    found = KMeans(features, n_init=1, random_state=0).fit(rows)
    centres, nearest = found.cluster_centers_, np.sort(found.transform(rows) ** 2, axis=1)
    spread = max(float(np.median(nearest[:, 1] - nearest[:, 0])) / (2 * _LEAD), 1e-12) if features > 1 else 1.0
    _compete(down, up, rows, centres.T / spread, -np.square(centres).sum(axis=1) / (2 * spread))


def _to_classes(down: Squeeze, up: Expand, rows: np.ndarray, classes: np.ndarray) -> None:
    """Starts it at the examples' classes, each feature the likeness to one of them, or to one part of one where features are left over.

    Likenesses are by ridge regression, its penalty by leave-one-out; clusters alone may have nothing to do with the task.
    """
    features, count = down.units, int(classes.max()) + 1
    _enough(rows, features)
    if count > features:
        raise CutError(f"Received labels of {count} classes for {features} features; expected as many features or more. Leave labels out.")
    part, taken = np.zeros(len(rows), int), 0
    for each in range(count):
        mine = np.flatnonzero(classes == each)
        share = min(len(mine), features // count + (each < features % count))
        if share:
            part[mine] = taken + KMeans(share, n_init=1, random_state=0).fit_predict(rows[mine])
        taken += share
    mean = rows.mean(axis=0)
    found = RidgeCV(alphas=np.square(rows - mean).sum() / len(rows) * np.logspace(-3, 1, 9)).fit(rows, np.eye(features)[part])
    best = np.sort(found.predict(rows), axis=1)
    spread = max(float(np.median(best[:, -1] - best[:, -2])) / _LEAD, 1e-12)
    _compete(down, up, rows, found.coef_.T / spread, found.intercept_ / spread)


def _compete(down: Squeeze, up: Expand, rows: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Sets a pair's weights, the way back by least squares from the features as a channel normalises them."""
    down.kernel.assign(kernel)
    down.bias.assign(bias)
    codes = softmax(rows @ kernel + bias, axis=1)
    codes = (codes - codes.mean(axis=0)) / np.maximum(codes.std(axis=0), _ROUNDING)
    mean = rows.mean(axis=0)
    up.kernel.assign(np.linalg.lstsq(codes, rows - mean, rcond=None)[0])
    up.bias.assign(mean)


def _classes(labels: Any, seen: Any, over: str, activation: str) -> np.ndarray:
    """The classes `[n]` of the examples from which features start that compete."""
    found = np.asarray(labels)
    whole = found.ndim == 1 and np.issubdtype(found.dtype, np.integer) and len(found) > 0 and found.min() >= 0
    if not whole or seen is None or any(len(z) != len(found) for z in seen) or over != "example" or activation != "softmax":
        given = "no examples" if seen is None else f"{len(seen[0])} examples"
        raise CutError(
            f"Received labels {found.dtype} {list(found.shape)} with {given}, over={over!r} and activation={activation!r}; expected the "
            'class, from 0, of each example, over="example" and activation="softmax". Leave labels out, or give these.'
        )
    return found


def _enough(rows: np.ndarray, features: int) -> None:
    if len(rows) <= features:
        raise CutError(f"Received examples with {len(rows)} rows for {features} features; expected more. Give more examples.")


def _through(server: keras.Model, tensors: list[Any]) -> Any:
    """The server half's graph, on these tensors: flat, so that the outputs keep their names."""
    return keras.Function(server.inputs, server.output).call(tensors)
