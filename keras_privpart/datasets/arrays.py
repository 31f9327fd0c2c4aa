"""Arrays of your own: `.npz` files, and functions of yours that return examples."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_privpart.datasets.columns import Arrays, Columns, Parts, Request, divided
from keras_privpart.datasets.samples import TASK, Dataset, Samples
from keras_privpart.datasets.streams import is_stream
from keras_privpart.errors import DataError
from keras_privpart.named_function import called
from keras_privpart.several_inputs import Inputs, arrays_of, each

ENDING = ".npz"
_RETURNS = (
    "examples, as Samples, (x, targets) arrays or a tf.data.Dataset of batches, or a pair of such to train and to test on, or a "
    "datasets.Dataset"
)


def npz(request: Request) -> Columns:
    """A `.npz` file with the inputs `x`, the labels `y` and attributes by their names; or each of them twice, as `x_train` and `x_test`.

    Where a model takes several inputs, `request.inputs`, an array of each name stands in place of `x`.

    Raises:
        DataError: no such file, objects in it, or no inputs.
    """
    request.refuse("a .npz file", "train_split", "test_split")
    found = _read(Path(request.name))
    ends = (f"_{request.train_split}", f"_{request.test_split}")
    train: Arrays
    test: Arrays
    train, test = (
        _gathered(request, {key.removesuffix(end): _single(value) for key, value in found.items() if key.endswith(end)}) for end in ends
    )
    if "x" in train and "x" in test:
        return Columns(train, test, "x", _label(train))
    columns = _gathered(request, {key: _single(value) for key, value in found.items()})
    if "x" not in columns or (request.train_split, request.test_split) != ("train", "test"):
        raise DataError(
            f"File {request.name!r} holds the arrays {sorted(found)}; expected 'x{ends[0]}' and 'x{ends[1]}', or 'x', which is divided, "
            f"with labels 'y' and attributes by name.{_or_inputs(request)}"
        )
    for key, value in columns.items():
        if key != "x" and (not value.ndim or len(value) != len(columns["x"])):
            raise DataError(f"File {request.name!r} holds {len(columns['x'])} inputs and {key!r} {list(value.shape)}; expected as many.")
    label = _label(columns)
    train, test = divided(columns, request.task or label)
    return Columns(train, test, "x", label)


def inputs(path: Path, names: Sequence[str]) -> Any:
    """The inputs of a model alone: a `.npy` file of one array, or a `.npz` file as `npz` takes it, of which labels are left out.

    Args:
        path: of the file.
        names: of the model's inputs.

    Returns:
        An array `[n, ...]`, or `Inputs` where there are several names.

    Raises:
        DataError: no such file, objects in it, or not these inputs.
    """
    found = _read(path)
    request = Request(str(path), inputs=tuple(names) if len(names) > 1 else ())
    columns = _gathered(request, found)
    x = columns.get("x", None if len(names) > 1 else columns.get(names[0]))
    if x is None or isinstance(x, Inputs) != (len(names) > 1):
        keys = " and ".join(map(repr, names)) if len(names) > 1 else f"'x' or {names[0]!r}"
        raise DataError(f"File {str(path)!r} holds the arrays {sorted(found)}; expected {keys} in a .npz file, the examples first.")
    if any(not array.ndim or not len(array) for array in arrays_of(x).values()):
        raise DataError(f"File {str(path)!r} holds no examples; expected an array [n, ...] of each input, n at least 1.")
    return x


def function(request: Request) -> Columns:
    """What a function `package.module:function` returns.

    Raises:
        DataError: there is no such function, or what it returns is no set of examples.
    """
    request.refuse("a function's data")
    made = called(request.name, _RETURNS, DataError)
    if isinstance(made, Dataset):
        made = (made.train, made.test)
    if isinstance(made, Mapping) and set(made) == {"train", "test"}:
        made = (made["train"], made["test"])
    if made is None or isinstance(made, (str, Mapping)):
        raise DataError(f"{request.name} returned {_shown(made)}; expected {_RETURNS}.")
    train: Arrays
    test: Arrays
    several = isinstance(made, (tuple, list)) and len(made) == 2 and not _is_pair(made)
    parts: Any = made if several else (made,)
    if request.limit is not None and any(map(is_stream, parts)):
        return _streams(request, parts)
    if several:
        train, test = (_columns_of(request, part) for part in parts)
    else:
        columns = _columns_of(request, made)
        train, test = divided(columns, request.task or TASK)
    return Columns(train, test, "x", TASK)


def _streams(request: Request, parts: Sequence[Any]) -> Columns:
    """Both splits as they come, in batches."""
    if len(parts) != 2:
        raise DataError(f"{request.name} returned one stream; expected two, to train and to test on. Return (train, test).")

    def reader(data: Any) -> Parts:
        return lambda: (_columns(request, part) for part in Samples.parts(data))

    train, test = map(reader, parts)
    return Columns(train, test, "x", TASK)


def _columns_of(request: Request, data: Any) -> dict[str, np.ndarray]:
    try:
        samples = Samples.of(tuple(data) if isinstance(data, list) else data)
    except DataError as error:
        raise DataError(f"{request.name}: {error} A function returns {_RETURNS}.") from error
    return _columns(request, samples)


def _columns(request: Request, samples: Samples) -> dict[str, np.ndarray]:
    several = next((value for value in samples.targets.values() if isinstance(value, Inputs)), None)
    if several is not None:
        raise DataError(
            f"{request.name}: received the labels {', '.join(several.arrays)} side by side; commands take one label of the task. "
            "Train and audit such a model in Python, or join them."
        )
    return {**{key: np.asarray(value) for key, value in samples.targets.items()}, "x": each(samples.x, _single)}


def _gathered(request: Request, columns: dict[str, np.ndarray]) -> Arrays:
    """The same with the several inputs of a model, where all of them are there, as one, `x`."""
    if not request.inputs or not set(request.inputs) <= set(columns):
        return columns
    inputs = {name: columns[name] for name in request.inputs}
    counts = {name: len(value) if value.ndim else 0 for name, value in inputs.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"File {request.name!r} holds inputs of {counts} examples; expected as many of each.")
    return {**{key: value for key, value in columns.items() if key not in inputs}, "x": Inputs(inputs)}


def _or_inputs(request: Request) -> str:
    return f" Or, for this model, an array for each of its inputs: {', '.join(request.inputs)}." if request.inputs else ""


def _is_pair(pair: Any) -> bool:
    """Whether two things are inputs and their targets, and no sets of examples: arrays, or mappings of such; several inputs as a tuple."""
    x, y = pair
    if isinstance(x, (Mapping, tuple)):
        return hasattr(y, "shape") or isinstance(y, Mapping)
    return hasattr(x, "shape") and (hasattr(y, "shape") or isinstance(y, (Mapping, list)))


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError(f"Found no file {str(path)!r}; expected what numpy.savez writes. Check the path.")
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            return {"x": file} if isinstance(file, np.ndarray) else {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"Can't read {str(path)!r}: {error}. Expected what numpy.savez writes, without objects.") from error


def _single(values: np.ndarray) -> np.ndarray:
    """Double precision costs twice the memory and is not what a device computes in."""
    return values.astype("float32") if values.dtype == np.float64 else values


def _label(columns: Mapping[str, np.ndarray]) -> str:
    return next((key for key in ("y", "label", TASK) if key in columns), "y")


def _shown(made: Any) -> str:
    return f"a mapping of {sorted(map(str, made))}" if isinstance(made, Mapping) else repr(made)
