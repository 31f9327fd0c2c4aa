"""`Samples`, examples in memory, `Dataset`, a set of them split for training and testing, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from keras_privpart.datasets.labels import meant
from keras_privpart.errors import DataError
from keras_privpart.several_inputs import Inputs, joined, plain

TASK = "task"


@dataclass(frozen=True)
class Samples:
    """Examples in memory.

    Attributes:
        x: inputs `[n, ...]`, or `Inputs` where a model takes several.
        targets: `"task"` and any private attribute, each `[n, ...]`; the task's as `Inputs` by output name where a model has several.
        value_range: of pictures in `x` that are no uint8, the values of black and white; None for [0, 1].
    """

    x: Any
    targets: Mapping[str, Any]
    value_range: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Samples:
        """The examples at a slice or an array of indices."""
        return replace(self, x=self.x[index], targets={key: value[index] for key, value in self.targets.items()})

    def mapped(self, values: Mapping[str, Sequence[Any] | str]) -> Samples:
        """The same with attributes as class indices.

        Args:
            values: of attributes by name, what stands for their classes, in the classes' order: `{"sex": ("f", "m"), "Young": (-1, 1)}`, or
                `"one-hot"` for rows.

        Raises:
            DataError: there is no such attribute, or it holds another value.
        """
        found = dict(self.targets)
        for key, meaning in values.items():
            if key not in found:
                raise DataError(f"Received values of {key!r} and the targets {sorted(found)}; expected it among them.")
            found[key] = meant(key, found[key], meaning)
        return replace(self, targets=found)

    @classmethod
    def of(cls, data: Any) -> Samples:
        """Collects examples in memory.

        Args:
            data: `Samples`; a pair of arrays `(x, y)` or `(x, {"task": y, ...})`; or batches of such pairs, as a `tf.data.Dataset`, a
                `keras.utils.PyDataset` or a generator that ends. Several inputs are a dict by input name, or a tuple in the model's order.
                Weights of examples are left out.

        Raises:
            DataError: there are no examples, no targets, or parts that do not go together.
        """
        if isinstance(data, Samples):
            return data
        pairs = [data] if isinstance(data, tuple) and len(data) in (2, 3) else _batches_of(data)
        if not pairs:
            raise DataError("Received an empty data set; expected at least one batch.")
        named = [_named_pair(pair) for pair in pairs]
        keys = list(named[0][1])
        if any(set(y) != set(keys) for _, y in named):
            raise DataError(f"Received batches with different targets, {keys} in the first; expected the same in all.")
        x = _joined_inputs([x for x, _ in named])
        targets = {key: _joined_labels(key, [y[key] for _, y in named]) for key in keys}
        for key, value in targets.items():
            if len(value) != len(x):
                raise DataError(f"Received {len(x)} inputs and {len(value)} values of {key!r}; expected as many of both.")
        if not len(x):
            raise DataError("Received an empty data set; expected at least one example.")
        return cls(x, targets)


def _batches_of(data: Any) -> list[Any]:
    if hasattr(data, "as_numpy_iterator"):
        return list(data.as_numpy_iterator())
    if isinstance(data, Iterator):
        return list(data)
    import keras

    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        if count is None:
            raise DataError("Received a PyDataset without an end; expected one that says its number of batches. Give it num_batches.")
        return [data[i] for i in range(count)]
    raise DataError(f"Received {type(data).__name__}; expected a tf.data.Dataset of batches or a pair of arrays (x, targets).")


def _named_pair(pair: Any) -> tuple[Any, Mapping[str, Any]]:
    """A pair as an array `[n, ...]`, or several by name, and targets by name."""
    if not isinstance(pair, (tuple, list)) or len(pair) not in (2, 3):
        raise DataError(f"Received batches of {type(pair).__name__}; expected pairs (x, targets). Let the data set yield both.")
    x, y = pair[:2]
    inputs = dict(x) if isinstance(x, Mapping) else {str(i): part for i, part in enumerate(x)} if isinstance(x, tuple) else {"x": x}
    values = {str(name): np.asarray(value) for name, value in inputs.items()}
    wrong = next((name for name, value in values.items() if not value.ndim), None)
    if wrong is not None or not values:
        got = f"{type(inputs[wrong]).__name__} as inputs" if wrong is not None else "no input"
        raise DataError(f"Received {got}; expected an array [n, ...].")
    if len({len(value) for value in values.values()}) > 1:
        counts = ", ".join(f"{len(value)} of {name!r}" for name, value in values.items())
        raise DataError(f"Received inputs of different numbers of examples: {counts}; expected as many of each.")
    only = next(iter(values.values()))
    return only if len(values) == 1 else Inputs(values), y if isinstance(y, Mapping) else {TASK: y}


def _joined_inputs(parts: Sequence[Any]) -> Any:
    """All batches as one, of arrays or of several inputs."""
    names = [list(part.arrays) if isinstance(part, Inputs) else None for part in parts]
    if any(found != names[0] for found in names):
        raise DataError(f"Received batches with different inputs, {names[0] or 'one array'} in the first; expected the same in all.")
    if names[0] is None:
        return _joined("inputs", parts)
    for name in names[0]:
        _check_shapes(f"inputs {name!r}", [part.arrays[name] for part in parts])
    return joined(parts)


def _joined_labels(key: str, parts: Sequence[Any]) -> Any:
    """All batches' values of a target as one: an array, or several by output name."""
    if not all(isinstance(part, (Mapping, tuple)) for part in parts):
        return _joined(f"values of {key!r}", [np.asarray(part) for part in parts])
    named = [part if isinstance(part, Mapping) else {str(i): value for i, value in enumerate(part)} for part in parts]
    return _joined_inputs([Inputs({str(name): np.asarray(value) for name, value in part.items()}) for part in named])


def _joined(what: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    _check_shapes(what, parts)
    return np.concatenate(parts)


def _check_shapes(what: str, parts: Sequence[np.ndarray]) -> None:
    shapes = {part.shape[1:] if part.ndim else () for part in parts}
    if len(shapes) > 1 or not all(part.ndim for part in parts):
        found = ", ".join(str(list(shape)) for shape in sorted(shapes)[:3])
        raise DataError(f"Received {what} of different shapes: {found}; expected one, the examples first. Resize pictures before.")


@dataclass(frozen=True)
class Dataset:
    """A data set split for training and testing.

    Attributes:
        name: as it was asked for.
        train, test: examples.
        classes: how many values each target has, `"task"` among them.
        values: what was found, class by class, for targets that held something else than class indices: text, -1 and 1, identities.
        features: names of the inputs' columns, of tables.
    """

    name: str
    train: Samples
    test: Samples
    classes: Mapping[str, int]
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    features: tuple[str, ...] = ()


def batches(samples: Samples, batch_size: int, seed: int | None = None) -> Any:
    """A `tf.data.Dataset` of batches `(x, targets)`; targets are plain labels where the task is the only one.

    Args:
        samples: what to batch.
        batch_size: examples per batch; the last one may be smaller.
        seed: shuffles anew every epoch, in an order that the seed decides; `None` keeps the order.
    """
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((plain(samples.x), _plain_targets(samples)))
    if seed is not None:
        dataset = dataset.shuffle(len(samples), seed=seed, reshuffle_each_iteration=True)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def epochs_of(samples: Samples, batch_size: int, seed: int, first: int, end: int) -> Any:
    """As `batches`, shuffled, but all epochs from `first` to before `end` in one stream: `fit` takes it with `steps_per_epoch`.

    The order of an epoch follows from the seed and its number alone, so that a training can go on in the middle.
    """
    import tensorflow as tf

    columns = tf.nest.map_structure(tf.constant, (plain(samples.x), _plain_targets(samples)))

    def epoch(number: Any) -> Any:
        order = tf.argsort(tf.random.stateless_uniform([len(samples)], [tf.constant(seed, tf.int64), number]))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    def gathered(rows: Any) -> Any:
        return tf.nest.map_structure(lambda column: tf.gather(column, rows), columns)

    return tf.data.Dataset.range(first, end).flat_map(epoch).map(gathered, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _plain_targets(samples: Samples) -> Any:
    return samples.targets[TASK] if set(samples.targets) == {TASK} else dict(samples.targets)
