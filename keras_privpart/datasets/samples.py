"""`Samples`, examples in memory, `Dataset`, a set of them split for training and testing, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_privpart import arguments
from keras_privpart.datasets.labels import meant
from keras_privpart.errors import DataError
from keras_privpart.several_inputs import Inputs, joined, plain

if TYPE_CHECKING:
    from keras_privpart.datasets.streams import Stream

TASK = "task"


@dataclass(frozen=True)
class Samples:
    """Examples in memory.

    Attributes:
        x: inputs `[n, ...]`, or `Inputs` where a model takes several.
        targets: `"task"` and any private attribute, each `[n, ...]`; the task's as `Inputs` by output name where a model has several.
        value_range: of pictures in `x` that are no uint8, the values of black and white; None for [0, 1].
        drawn_from: how many examples there were where these are a draw of them; None where they are all.
    """

    x: Any
    targets: Mapping[str, Any]
    value_range: tuple[float, float] | None = None
    drawn_from: int | None = None

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Any) -> Samples:
        """The examples at a slice or an array of indices."""
        return replace(self, x=self.x[index], targets={key: value[index] for key, value in self.targets.items()})

    @property
    def held(self) -> Samples:
        """Those that are in memory: all. Of a `Stream` they are a draw."""
        return self

    @property
    def pair(self) -> tuple[Any, Any]:
        """`(x, targets)` as Keras takes them: a dict of several inputs; plain labels where the task is the only target."""
        targets = self.targets[TASK] if set(self.targets) == {TASK} else dict(self.targets)
        return plain(self.x), targets

    def with_inputs(self, change: Callable[[Any], Any]) -> Samples:
        """The same with other inputs, made of these by a function."""
        return replace(self, x=change(self.x))

    def with_targets(self, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Samples:
        """The same with other targets, made of these by a function."""
        return replace(self, targets=change(self.targets))

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
    def of(cls, data: Any, limit: int | None = None, seed: int = 0) -> Samples:
        """Collects examples in memory: all of them, or a draw.

        Args:
            data: `Samples`; a pair of arrays `(x, y)` or `(x, {"task": y, ...})`; or batches of such pairs, as a `tf.data.Dataset`, a
                `keras.utils.PyDataset` or a generator that ends. Several inputs are a dict by input name, or a tuple in the model's order.
                Weights of examples are left out.
            limit: the most examples to keep, drawn while batches pass by, each with the same chance: a set may be larger than memory, and
                at most twice so many examples and one batch are held at a time. None for all.
            seed: of the draw, which is the same again where the batches come in the same order.

        Raises:
            DataError: there are no examples, no targets, parts that do not go together, or `limit` is no whole number from 1.
        """
        if limit is None and isinstance(data, Samples):
            return data
        parts = cls.parts(data)
        if limit is not None:
            return _drawn(parts, arguments.whole("limit", limit, DataError, advice="Leave it out for all examples."), seed)
        return cls.joined(list(parts))

    @classmethod
    def parts(cls, data: Any) -> Iterator[Samples]:
        """The same as they come, batch by batch; nothing is kept.

        Raises:
            DataError: as `of`.
        """
        if isinstance(data, Samples):
            yield data
            return
        keys: list[str] = []
        for pair in [data] if isinstance(data, tuple) and len(data) in (2, 3) else _batches_of(data):
            x, y = _named_pair(pair)
            keys = keys or list(y)
            if set(y) != set(keys):
                raise DataError(f"Received batches with different targets, {keys} in the first; expected the same in all.")
            targets = {key: _labels(key, y[key]) for key in keys}
            for key, value in targets.items():
                if len(value) != len(x):
                    raise DataError(f"Received {len(x)} inputs and {len(value)} values of {key!r}; expected as many of both.")
            yield cls(x, targets)

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """The examples of all parts, one after the other.

        Raises:
            DataError: there are none, or parts do not go together.
        """
        if not parts:
            raise DataError("Received an empty data set; expected at least one batch.")
        x = _joined_inputs([part.x for part in parts])
        if not len(x):
            raise DataError("Received an empty data set; expected at least one example.")
        return replace(parts[0], x=x, targets={key: _joined_labels(key, [part.targets[key] for part in parts]) for key in parts[0].targets})


def _drawn(parts: Iterator[Samples], limit: int, seed: int) -> Samples:
    """A draw of what passes by: every example gets a random number, and those with the smallest are kept, in their order."""
    numbers = np.random.default_rng(seed)
    kept: list[Samples] = []
    ranks = np.empty(0)
    bar, seen = 1.0, 0
    for part in parts:
        found = numbers.random(len(part))
        under = found < bar
        seen += len(part)
        if not under.any():
            continue
        kept.append(part[under])
        ranks = np.concatenate([ranks, found[under]])
        if len(ranks) > 2 * limit:
            kept, ranks = _smallest(kept, ranks, limit)
            bar = float(ranks.max())
    found_all, _ = _smallest(kept, ranks, limit)
    samples = Samples.joined(found_all)
    return samples if seen == len(samples) else replace(samples, drawn_from=samples.drawn_from or seen)


def _smallest(kept: list[Samples], ranks: np.ndarray, limit: int) -> tuple[list[Samples], np.ndarray]:
    """Of these, the ones with the smallest numbers, in their order."""
    if len(ranks) <= limit:
        return kept, ranks
    chosen = np.sort(np.argpartition(ranks, limit - 1)[:limit])
    return [Samples.joined(kept)[chosen]], ranks[chosen]


def _batches_of(data: Any) -> Iterator[Any]:
    if hasattr(data, "as_numpy_iterator"):
        return iter(data.as_numpy_iterator())
    if isinstance(data, Iterator):
        return data
    import keras

    if isinstance(data, keras.utils.PyDataset):
        count = data.num_batches
        if count is None:
            raise DataError("Received a PyDataset without an end; expected one that says its number of batches. Give it num_batches.")
        return (data[i] for i in range(count))
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


def _labels(key: str, value: Any) -> Any:
    """A batch's values of a target: an array, or several by output name."""
    if not isinstance(value, (Mapping, tuple)):
        found = np.asarray(value)
        if not found.ndim:
            _check_shapes(f"values of {key!r}", [found])
        return found
    named = value if isinstance(value, Mapping) else {str(i): part for i, part in enumerate(value)}
    return Inputs({str(name): np.asarray(part) for name, part in named.items()})


def _joined_labels(key: str, parts: Sequence[Any]) -> Any:
    """All batches' values of a target as one."""
    return _joined_inputs(parts) if isinstance(parts[0], Inputs) else _joined(f"values of {key!r}", parts)


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
        train: examples to train on; a `Stream` where they were asked for with a limit, and come in batches.
        test: others.
        classes: how many values each target has, `"task"` among them.
        values: what was found, class by class, for targets that held something else than class indices: text, -1 and 1, identities.
        features: names of the inputs' columns, of tables.
    """

    name: str
    train: Samples | Stream
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

    dataset = tf.data.Dataset.from_tensor_slices(samples.pair)
    if seed is not None:
        dataset = dataset.shuffle(len(samples), seed=seed, reshuffle_each_iteration=True)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def epochs_of(samples: Samples, batch_size: int, seed: int, first: int, end: int) -> Any:
    """As `batches`, shuffled, but all epochs from `first` to before `end` in one stream: `fit` takes it with `steps_per_epoch`.

    The order of an epoch follows from the seed and its number alone, so that a training can go on in the middle.
    """
    import tensorflow as tf

    columns = tf.nest.map_structure(tf.constant, samples.pair)

    def epoch(number: Any) -> Any:
        order = tf.argsort(tf.random.stateless_uniform([len(samples)], [tf.constant(seed, tf.int64), number]))
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    def gathered(rows: Any) -> Any:
        return tf.nest.map_structure(lambda column: tf.gather(column, rows), columns)

    return tf.data.Dataset.range(first, end).flat_map(epoch).map(gathered, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
