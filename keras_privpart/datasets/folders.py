"""Pictures in folders, a sub-folder a class, as `keras.utils.image_dataset_from_directory` takes them; attributes from a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keras_privpart.datasets.columns import Columns, Request, divided, one_shape
from keras_privpart.datasets.pixels import in_range
from keras_privpart.datasets.tables import read_table
from keras_privpart.errors import DataError

PREFIX = "folder:"
ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_IMAGE, _LABEL = "image", "label"


def folder(request: Request) -> Columns:
    """Pictures under a folder, uint8 unless another range is asked for, with the number of their sub-folder as `"label"`.

    There are either the sub-folders `train` and `test` (or those that the splits name), or one set that is divided, see `divided`.

    Raises:
        DataError: no pictures, damaged ones, several sizes, or a table of attributes that does not name each.
    """
    request.refuse("a folder of pictures", "train_split", "test_split", "image_size", "attributes")
    root = Path(request.name.removeprefix(PREFIX)).expanduser()
    if not root.is_dir():
        raise DataError(f"Found no folder {str(root)!r}; expected one with a sub-folder of pictures for every class. Check the path.")
    splits = [root / request.train_split, root / request.test_split]
    there = [split.is_dir() for split in splits]
    if any(there) and (not all(there) or splits[0] == splits[1]):
        found = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir()))
        raise DataError(
            f"Folder {str(root)!r} has the sub-folders {found}; expected {request.train_split!r} and {request.test_split!r}, or neither. "
            "Name those to train and to test on: train_split=, test_split= (--train-split, --test-split)."
        )
    if not all(there):
        request.refuse("a folder without such sub-folders", "image_size", "attributes", hint="One set is divided by itself.")
    classes = _classes(splits[0] if all(there) else root)
    files = [_labelled(split, classes) for split in (splits if all(there) else [root])]
    if all(there):  # the first of the training examples speak for all, and were all of one class; those to test on keep their order
        files[0] = [files[0][i] for i in np.random.default_rng(0).permutation(len(files[0]))]
    rows = _Rows([path for split in files for path, _ in split], root, request) if request.attributes else None
    columns = [_columns(split, bool(classes), rows, request) for split in files]
    one_shape({pictures[_IMAGE].shape[1:] for pictures in columns})
    train, test = columns if all(there) else divided(columns[0], request.task or _LABEL)
    return Columns(train, test, _IMAGE, _LABEL, {_LABEL: len(classes)} if classes else {})


def _classes(split: Path) -> list[str]:
    """Names of the sub-folders with pictures, sorted: the class indices follow this order."""
    return [name.name for name in sorted(split.iterdir()) if name.is_dir() and not name.name.startswith(".") and _files(name)]


def _files(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in ENDINGS and p.is_file() and not p.name.startswith(".")]


def _labelled(split: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """Every picture of a split with the index of its class; 0 where there are no classes."""
    more = set(_classes(split)) - set(classes)
    if more:
        raise DataError(f"Folder {str(split)!r} has the classes {sorted(more)}, which the training data lack; expected {list(classes)}.")
    files = [(file, i) for i, name in enumerate(classes) for file in _files(split / name)] or [(file, 0) for file in _files(split)]
    if not files:
        raise DataError(f"Folder {str(split)!r} holds no pictures; expected sub-folders with files that end in {', '.join(ENDINGS)}.")
    return files


def _columns(files: Sequence[tuple[Path, int]], labelled: bool, rows: _Rows | None, request: Request) -> dict[str, np.ndarray]:
    paths = [path for path, _ in files]
    columns = {} if rows is None else rows.columns(paths)
    columns[_IMAGE] = in_range(_read(paths, request), request.value_range)
    if labelled:
        columns[_LABEL] = np.array([i for _, i in files])
    return columns


def _read(paths: Sequence[Path], request: Request) -> np.ndarray:
    """Pictures `[n, h, w, c]`, uint8."""
    channels = 3 if request.channels is None else request.channels
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(lambda path: _picture(path, channels, request.image_size), paths))
    one_shape({picture.shape for picture in pictures})
    return np.stack(pictures)


def _picture(path: Path, channels: int, size: int | None) -> np.ndarray:
    import tensorflow as tf

    try:
        picture = tf.io.decode_image(path.read_bytes(), channels=channels, expand_animations=False)
    except (OSError, ValueError, tf.errors.OpError) as error:
        reason = str(getattr(error, "message", error)).splitlines()[0][:120]
        raise DataError(f"Can't read the picture {str(path)!r} with {channels} channels: {reason}. Replace or delete it.") from error
    if size is not None and picture.shape[:2] != (size, size):
        picture = tf.cast(tf.clip_by_value(tf.round(tf.image.resize(picture, [size, size], antialias=True)), 0, 255), tf.uint8)
    pixels: np.ndarray = picture.numpy()
    return pixels


class _Rows:
    """The rows of a table of attributes, found by the names of pictures: paths under the folder or under a split, or file names alone.

    Args:
        paths: all pictures, of both splits: a name that several have names none of them.
        root: the folder.
        request: names the table, and the keys that are wanted.

    Raises:
        DataError: no column names the pictures, or one names a picture twice.
    """

    def __init__(self, paths: Sequence[Path], root: Path, request: Request) -> None:
        self._root, self._file = root, request.attributes or ""
        self._table = read_table(Path(self._file))
        self._shared = {name for name, times in Counter(name for path in paths for name in self._spellings(path)).items() if times > 1}
        texts = [name for name, values in self._table.items() if values.dtype.kind in "OU"]
        found = {name: self._found(name, paths) for name in texts}
        self._named = max(found, key=lambda name: len(found[name]), default="")
        self._row = found.get(self._named, {})

    def columns(self, paths: Sequence[Path]) -> dict[str, np.ndarray]:
        """The columns that hold attributes, a row for every picture, in the pictures' order."""
        missing = [path for path in paths if path not in self._row]
        if missing:
            where = f"column {self._named!r}" if self._row else f"any of the columns {list(self._table)}"
            raise DataError(
                f"Table {self._file!r} does not name {str(missing[0].relative_to(self._root))!r}, one of {len(missing)} such pictures, in "
                f"{where}; expected a row for each, by file name or by path under the folder. Add them."
            )
        rows = np.array([self._row[path] for path in paths])
        return {name: values[rows] for name, values in self._table.items() if name != self._named}

    def _found(self, column: str, paths: Sequence[Path]) -> dict[Path, int]:
        """The row of every picture that a column names."""
        names = [str(value).replace("\\", "/").removeprefix("./") for value in self._table[column].tolist()]
        at, times = {name: row for row, name in enumerate(names)}, Counter(names)
        found = {}
        for path in paths:
            spelled = [name for name in self._spellings(path) if name in at and name not in self._shared]
            if spelled and times[spelled[0]] > 1:
                raise DataError(f"Table {self._file!r} names {spelled[0]!r} twice, in column {column!r}; expected one row a picture.")
            if spelled:
                found[path] = at[spelled[0]]
        return found

    def _spellings(self, path: Path) -> list[str]:
        parts = path.relative_to(self._root).parts
        return ["/".join(parts[i:]) for i in range(len(parts))]
