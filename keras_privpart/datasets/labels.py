"""Labels and attributes as class indices: whole numbers, truth values, text, -1 and 1, identities, one-hot rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_privpart.errors import DataError

ONE_HOT = "one-hot"


@dataclass(frozen=True)
class Mapped:
    """How many classes there are, and what stands for each where it is something else than its index."""

    classes: int
    values: tuple[Any, ...] = ()


def class_indices(key: str, train: np.ndarray, test: np.ndarray, declared: int | None = None, keep: bool = False) -> Mapped:
    """What the labels `[n]`, or one-hot rows `[n, classes]`, of two splits say of their classes; `numbered` makes class indices of them.

    Args:
        key: their name.
        train, test: of the two splits.
        declared: how many classes there are, where the source tells; whole numbers then are class indices already.
        keep: whether whole numbers from 0 are class indices also where it does not tell, as of a task that a model was trained for. All
            others, and text, are numbered in the order of their values in the training split.

    Raises:
        DataError: neither whole numbers nor one of the others, out of range, or values that the training split lacks.
    """
    (train, rows), (test, more) = plain(key, train), plain(key, test)
    if rows != more:
        raise DataError(f"The label key {key!r} holds rows of {rows} in the training split and of {more} in the test split.")
    if train.dtype.kind != test.dtype.kind and {train.dtype.kind, test.dtype.kind} & {"U"}:
        raise DataError(f"The label key {key!r} holds text in one split and numbers in the other; expected the same in both.")
    if train.dtype == bool:
        return Mapped(2)
    declared = rows or declared
    if declared is not None:
        for split in (train, test):
            wrong = split[(split < 0) | (split >= declared)]
            if len(wrong):
                raise DataError(f"The label key {key!r} holds {int(wrong[0])}; expected 0 to {declared - 1}. Choose a split with labels.")
        return Mapped(declared)
    known = np.unique(train)
    if keep and train.dtype.kind in "iu" and _counted(np.union1d(known, test)):
        return Mapped(1 + int(max(train.max(), test.max())))
    unknown = np.setdiff1d(test, known)
    if len(unknown):
        raise DataError(
            f"The test split holds {len(unknown)} values of {key!r} that the training split lacks, such as {unknown[0].item()!r}; "
            "expected the same classes in both. Choose other splits."
        )
    values = () if np.array_equal(known, np.arange(len(known))) else tuple(known.tolist())
    return Mapped(len(known), values)


def numbered(key: str, labels: np.ndarray, values: tuple[Any, ...] = ()) -> np.ndarray:
    """Class indices `[n]`, int32, of labels as `class_indices` takes them.

    Args:
        key: their name.
        labels: of any examples of either split.
        values: as `class_indices` found them.

    Raises:
        DataError: a label that is none of them.
    """
    found = plain(key, labels)[0]
    if not values:
        return found.astype("int32")
    known = np.array(values)
    places = np.searchsorted(known, found).clip(max=len(known) - 1)
    wrong = found[known[places] != found]
    if len(wrong):
        raise DataError(
            f"Received the value {wrong[0].item()!r} of {key!r}, which was not there before; expected the same at every reading."
        )
    return places.astype("int32")


def meant(key: str, values: np.ndarray, meaning: Sequence[Any] | str) -> np.ndarray:
    """Class indices `[n]`, int32, of values whose meaning is told.

    Args:
        key: their name.
        values: `[n]`, or rows `[n, classes]`.
        meaning: what stands for the classes, in their order, or `"one-hot"`.

    Raises:
        DataError: a value that is none of them, or rows that are not one-hot.
    """
    if meaning == ONE_HOT:
        found, rows = plain(key, values)
        if rows is None:
            raise DataError(f"Received {key!r} as {values.dtype}{list(np.shape(values))}; expected one-hot rows [n, classes].")
        return found.astype("int32")
    if isinstance(meaning, str) or len(set(meaning)) < 2 or len(set(meaning)) != len(meaning):
        raise DataError(f"Received {meaning!r} as the values of {key!r}; expected two or more different ones, or {ONE_HOT!r}.")
    plainly = plain(key, values)[0]
    matches = plainly[:, None] == np.array(list(meaning))[None, :]
    if not matches.any(axis=1).all():
        odd = plainly[~matches.any(axis=1)][0]
        raise DataError(f"Received the value {odd.item()!r} of {key!r}; expected one of {list(meaning)}. Name all of its values.")
    return matches.argmax(axis=1).astype("int32")


def plain(key: str, values: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Labels `[n]` of truth values, whole numbers or text; and the length of the one-hot rows that they were."""
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.dtype.kind in "biuf" and bool(((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all()):
        return values.argmax(axis=1), values.shape[1]
    kind = values.dtype.kind
    if values.ndim == 1 and kind in "OSU":
        return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values.tolist()]), None
    if values.ndim == 1 and (kind in "biu" or (kind == "f" and bool((values == np.round(values)).all()))):
        return values.astype("int64") if kind == "f" else values, None
    shape = "" if values.ndim == 1 else f"{list(values.shape)}"
    raise DataError(f"The label key {key!r} holds {values.dtype}{shape}; expected booleans or whole numbers, text or one-hot rows.")


def _counted(values: np.ndarray) -> bool:
    """Whether distinct whole numbers look like class indices: from 0, at most half of them missing."""
    return bool(values[0] >= 0 and values[-1] < 2 * len(values))
