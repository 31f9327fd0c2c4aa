"""Tables: CSV and parquet files as columns, and as examples of a tabular model."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path

import numpy as np

from keras_privpart.datasets.columns import Columns, Request, divided
from keras_privpart.errors import DataError

ENDINGS = (".csv", ".parquet")


def table(request: Request) -> Columns:
    """A table with a row an example: the task's column, the private attributes' columns, and the inputs: all other columns, in their order.

    Raises:
        DataError: no such table, no such column, or an input that is no number.
    """
    request.refuse("a table")
    columns = read_table(Path(request.name))
    task, label = request.keys("label")["task"], {}
    for key in (task, *request.private, *request.others):
        if key not in columns:
            hint = " Name the task's column: task= (--task)." if key == task and request.task is None else ""
            raise DataError(f"Table {request.name!r} has no column {key!r}; expected one of: {', '.join(columns)}.{hint}")
        label[key] = columns[key]
    features = [name for name in columns if name not in (task, *request.private)]
    if not features:
        raise DataError(f"Table {request.name!r} has the columns {list(columns)}, none of them left as an input; expected at least one.")
    rows = np.stack([_numbers(request.name, name, columns[name]) for name in features], axis=1)
    train, test = divided({"inputs of the table": rows, **label}, task)
    return Columns(train, test, "inputs of the table", label=task, features=tuple(features))


def read_table(path: Path) -> dict[str, np.ndarray]:
    """The columns of a CSV file with a header, or of a parquet file, `[rows]` each: whole numbers, else numbers, else text.

    Raises:
        DataError: no such file, no header or no rows, rows of another length than the header, or pyarrow is not installed.
    """
    if not path.is_file():
        raise DataError(f"Found no table {str(path)!r}; expected a .csv or .parquet file. Check the path.")
    columns = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    if not columns or not len(next(iter(columns.values()))):
        raise DataError(f"Table {str(path)!r} has no rows; expected a header and at least one.")
    return columns


def _csv(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"Can't read the table {str(path)!r}: {error}. Expected comma-separated values in UTF-8.") from error
    header, *rows = rows or [[]]
    header = [name.strip() for name in header]
    if len(set(header)) < len(header):
        raise DataError(f"Table {str(path)!r} has the columns {header}; expected each name once. Rename one.")
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise DataError(f"Row {number} of the table {str(path)!r} has {len(row)} values; expected {len(header)}, as in its first row.")
    return {name: _typed([row[i].strip() for row in rows]) for i, name in enumerate(header)}


def _typed(values: list[str]) -> np.ndarray:
    text = np.array(values)
    for kind in ("int64", "float64"):
        with contextlib.suppress(ValueError, OverflowError):
            return text.astype(kind)
    return text


def _parquet(path: Path) -> dict[str, np.ndarray]:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise DataError(
            f"Reading {str(path)!r} needs pyarrow, which is not installed. Run: pip install 'keras_privpart[parquet]', or give a .csv."
        ) from error
    try:
        found = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"Can't read the table {str(path)!r}: {str(error).splitlines()[0]}. Expected a parquet file.") from error
    return {name: found.column(name).to_numpy() for name in found.column_names}


def _numbers(name: str, column: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"Column {column!r} of {name!r} holds {values.dtype}, such as {values[0]!r}; expected numbers as inputs. Encode it, leave it "
            "out of the file, or name it with --private if it is an attribute."
        )
    numbers = values.astype("float32")
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise DataError(f"Column {column!r} of {name!r} holds {values[bad[0]]} in row {bad[0] + 2}; expected finite numbers. Fill it in.")
    return numbers
