"""`Request`, what is asked of a source of data, and `Columns`, what it gives: arrays by key, which become a `Dataset`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keras_privpart.datasets.labels import class_indices, numbered, plain
from keras_privpart.datasets.samples import TASK, Dataset, Samples
from keras_privpart.datasets.streams import Stream
from keras_privpart.errors import DataError
from keras_privpart.several_inputs import Inputs, arrays_of

TEST_SHARE = 0.2

Arrays = Mapping[str, Any]  # `np.ndarray`s `[n, ...]`, and `Inputs` where a model takes several
Parts = Callable[[], Iterator[Arrays]]


@dataclass(frozen=True)
class Request:
    """What is asked of a source; the fields are the arguments of `load`."""

    name: str
    task: str | None = None
    private: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    train_split: str = "train"
    test_split: str = "test"
    image_size: int | None = None
    data_dir: str | None = None
    download: bool = True
    image: str | None = None
    attributes: str | None = None
    value_range: tuple[float, float] | None = None
    channels: int | None = None
    inputs: tuple[str, ...] = ()
    limit: int | None = None

    def keys(self, label: str) -> dict[str, str]:
        """The keys of the targets by the targets' names: the task, then the attributes, by the last part of their keys."""
        keys = {key.rsplit("/", 1)[-1]: key for key in (*self.private, *self.others)}
        if len(keys) < len({*self.private, *self.others}) or len(set(self.private)) < len(self.private) or TASK in keys:
            raise DataError(
                f"Received the private keys {[*self.private, *self.others]}; expected keys whose last parts differ, none of them {TASK!r}."
            )
        return {TASK: self.task or label, **keys}

    def refuse(self, what: str, *allowed: str, hint: str = "") -> None:
        """Raises `DataError` where something is asked that a source of its kind does not have."""
        plain = Request(self.name)
        for option in ("train_split", "test_split", "image_size", "image", "attributes"):
            if option not in allowed and (value := getattr(self, option)) != getattr(plain, option):
                raise DataError(f"Received {option}={value!r} for {what}; expected none. {hint or 'Leave it out.'}".rstrip())


@dataclass(frozen=True)
class Columns:
    """Both splits.

    Attributes:
        train, test: arrays `[n, ...]` by key; the inputs may be `Inputs`. Of streams, a function that reads them part by part.
        x: key of the inputs.
        label: key of the task's label where nothing else is asked.
        declared: how many classes the labels have of which the source tells.
        own: whether whole-number labels of the task count classes as they are, from 0, as they do in data of one's own.
        features: names of the inputs' columns, of tables.
    """

    train: Arrays | Parts
    test: Arrays | Parts
    x: str
    label: str = "label"
    declared: Mapping[str, int] = field(default_factory=dict)
    own: bool = True
    features: tuple[str, ...] = ()


def divided(columns: Arrays, key: str) -> tuple[Arrays, Arrays]:
    """One set of examples in two, the first in an order at random: a fifth to test on, of every value of `key` alike where that can be."""
    from sklearn.model_selection import train_test_split

    count = len(next(iter(columns.values())))
    if count < 2:
        raise DataError(f"Received {count} examples; expected more, to train on and to test on. Give more.")
    labels = columns.get(key)
    even = None
    if labels is not None and len(labels) == count:
        even = np.unique(plain(key, labels)[0], return_inverse=True)[1]
        tested = max(1, round(TEST_SHARE * count))
        if np.bincount(even).min() < 2 or tested < even.max() + 1 or count - tested < even.max() + 1:
            even = None
    train, test = train_test_split(np.arange(count), test_size=max(1, round(TEST_SHARE * count)), random_state=0, stratify=even)
    test = np.sort(test)
    return {k: v[train] for k, v in columns.items()}, {k: v[test] for k, v in columns.items()}


def assembled(request: Request, found: Columns) -> Dataset:
    """Columns as a `Dataset`.

    Raises:
        DataError: a split is empty, parts do not go together, or a key is missing or holds no classes.
    """
    if callable(found.train) or callable(found.test):
        return _streamed(request, found)
    keys = request.keys(found.label)
    _check(request.name, found.train, found.test, found.x, keys)
    train, test = (_samples(columns, found.x, keys) for columns in (found.train, found.test))
    return _classed(request, found, train, test)


def _streamed(request: Request, found: Columns) -> Dataset:
    """The same of streams, whose first parts are looked at before all are read; the test data are a draw."""
    assert callable(found.train)
    assert callable(found.test)
    assert request.limit is not None
    keys, limit = request.keys(found.label), request.limit
    _check(request.name, next(found.train(), {}), next(found.test(), {}), found.x, keys)

    def stream(parts: Parts) -> Stream:
        return Stream.of(lambda: (_samples(columns, found.x, keys) for columns in parts()), limit)

    return _classed(request, found, stream(found.train), stream(found.test))


def _samples(columns: Arrays, x: str, keys: Mapping[str, str]) -> Samples:
    return Samples(columns[x], {target: columns[key] for target, key in keys.items()})


def _check(name: str, train: Arrays, test: Arrays, x: str, keys: Mapping[str, str]) -> None:
    for split, columns in (("train", train), ("test", test)):
        if not columns or not len(columns[x]):
            raise DataError(f"The {split} split of {name!r} is empty; expected at least one example.")
    _one_form(train[x], test[x])
    for key in keys.values():
        if key not in train or key not in test or key == x:
            raise DataError(f"Data set {name!r} has no label key {key!r}; expected one of: {_near(key, train, x)}.")
        for columns in (train, test):
            if len(columns[key]) != len(columns[x]):
                raise DataError(f"Received {len(columns[x])} inputs and {len(columns[key])} values of {key!r}; expected as many of both.")


def _classed(request: Request, found: Columns, train: Samples | Stream, test: Samples | Stream) -> Dataset:
    """With class indices for targets."""
    classes, values = {}, {}
    for target, key in request.keys(found.label).items():
        keep = found.own and target == TASK
        mapped = class_indices(key, train.targets[target], test.targets[target], found.declared.get(key), keep)
        classes[target] = mapped.classes
        if mapped.values:
            values[target] = mapped.values

    def indices(targets: Arrays) -> Arrays:
        return {target: numbered(target, array, values.get(target, ())) for target, array in targets.items()}

    train, test = (part.with_targets(indices) for part in (train, test))
    return Dataset(request.name, train, test.held, classes, values, found.features)


def _one_form(train: Any, test: Any) -> None:
    """Raises `DataError` where the two splits have other inputs, or inputs of other shapes."""
    by_name = [arrays_of(x) for x in (train, test)]
    if isinstance(train, Inputs) != isinstance(test, Inputs) or set(by_name[0]) != set(by_name[1]):
        raise DataError(
            f"Received the inputs {sorted(by_name[0])} to train on and {sorted(by_name[1])} to test on; expected the same. "
            "Give both splits all of them."
        )
    for name in by_name[0]:
        one_shape(arrays[name].shape[1:] for arrays in by_name)


def one_shape(shapes: Iterable[Sequence[int]], cause: Exception | None = None) -> None:
    """Raises `DataError` for inputs of several shapes."""
    found = sorted({tuple(shape) for shape in shapes})
    if len(found) < 2:
        return
    several = ", ".join("x".join(map(str, shape)) for shape in found[:3])
    if {len(shape) for shape in found} == {3}:
        raise DataError(
            f"Received pictures of {len(found)} sizes, such as {several}; expected one. Resize them: image_size=64, or --image-size 64."
        ) from cause
    raise DataError(f"Received inputs of the shapes {several}; expected one in both splits.") from cause


def _near(key: str, train: Arrays, x: str) -> str:
    known = sorted(k for k in train if k != x)
    return ", ".join(difflib.get_close_matches(key, known, n=5, cutoff=0.4) or known) or "none; there are inputs only"
