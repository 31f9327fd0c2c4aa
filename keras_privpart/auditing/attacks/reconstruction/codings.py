"""Codings: how the values of an input become what a network predicts, and how its predictions become evidence, for each kind of input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from keras_privpart.auditing.knowledge.images import as_images
from keras_privpart.auditing.scoring.evidence import Evidence, Pictures
from keras_privpart.auditing.scoring.recovered import Signals, Tables, Tokens
from keras_privpart.datasets import Samples
from keras_privpart.partitioning.input_kind import PICTURE, SIGNAL, TOKENS, InputKind, column_names, flat_rows
from keras_privpart.training.privacy_terms.input_heads import InputHead, PictureHead, SignalHead, TableHead, TokenHead

BEST = 5  # guesses of a token that count
MOST_VALUES, MOST_SCORES = 4096, 1 << 18  # of a token or category; tokens times places
FEW_VALUES = 32  # a column of no more different whole numbers holds categories


class Coding(ABC):
    """Settled on the attacker's own examples: it knows no other values than those.

    Attributes:
        head: what a network predicts.
    """

    head: InputHead

    @abstractmethod
    def encode(self, x: np.ndarray) -> np.ndarray:
        """Values `[n, ...]` as targets `[n, *head.target_shape]`, float32."""

    @abstractmethod
    def rows(self, x: np.ndarray) -> Any:
        """Values as rows `[n, numbers]`, dense or sparse, of which a weighted mean, in the prediction's shape, is a prediction."""

    @abstractmethod
    def answers(self, predictions: np.ndarray) -> np.ndarray:
        """What predictions `[n, *head.prediction_shape]` say, in the values' own units, `[n, ...]`."""

    @abstractmethod
    def evidence(self, x: np.ndarray, answers: np.ndarray, keep: int) -> Evidence:
        """Answers beside the truth `[n, ...]`; the first `keep` may be kept for the report."""

    def mean(self, weights: np.ndarray, rows: Any) -> np.ndarray:
        """The prediction `[k, *head.prediction_shape]` that is the mean of rows, weighted by `[k, n]`."""
        means = np.asarray((weights / weights.sum(axis=1, keepdims=True)) @ rows, "float32")
        return means.reshape(len(weights), *self.head.prediction_shape)


def coding_of(kind: InputKind, own: np.ndarray) -> Coding:
    """The coding of an input of this kind, for an attacker who has the examples `own` `[n, ...]`."""
    if kind.kind == PICTURE:
        return _PictureCoding(own)
    if kind.kind == SIGNAL:
        return _SignalCoding(own)
    return _TokenCoding(own, kind.padding) if kind.kind == TOKENS else _TableCoding(own, kind)


class _PictureCoding(Coding):
    def __init__(self, own: np.ndarray) -> None:
        self.head: PictureHead = PictureHead(tuple(own.shape[1:]))

    def encode(self, x: np.ndarray) -> np.ndarray:
        return _pictures(x)

    def rows(self, x: np.ndarray) -> Any:
        return flat_rows(_pictures(x))

    def answers(self, predictions: np.ndarray) -> np.ndarray:
        return np.clip(predictions, 0, 1)

    def evidence(self, x: np.ndarray, answers: np.ndarray, keep: int) -> Evidence:
        return Pictures.of(_pictures(x), answers, keep)


class _SignalCoding(Coding):
    """Each channel is centred and of unit variance; answers are in the signal's own units."""

    def __init__(self, own: np.ndarray) -> None:
        signals = _channelled(own)
        self.head: SignalHead = SignalHead(signals.shape[1], signals.shape[2])
        self._shift, self._scale = _scaling(signals.reshape(-1, signals.shape[2]))
        self._mean = signals.mean(axis=0)

    def encode(self, x: np.ndarray) -> np.ndarray:
        coded: np.ndarray = ((_channelled(x) - self._shift) / self._scale).astype("float32")
        return coded

    def rows(self, x: np.ndarray) -> Any:
        return flat_rows(self.encode(x))

    def answers(self, predictions: np.ndarray) -> np.ndarray:
        return predictions * self._scale + self._shift

    def evidence(self, x: np.ndarray, answers: np.ndarray, keep: int) -> Evidence:
        return Signals.of(_channelled(x), answers, self._mean)


class _TokenCoding(Coding):
    """Tokens as indices of those that the attacker has seen, the commonest ones where there are many; -1 for all else and for padding."""

    def __init__(self, own: np.ndarray, padding: int | None) -> None:
        tokens = flat_rows(own).astype("int64")
        self._padding = padding
        held = tokens[self._held(tokens)]
        found, counts = np.unique(held, return_counts=True)
        most = max(BEST, min(MOST_VALUES, MOST_SCORES // tokens.shape[1]))
        self._known = np.sort(found[np.argsort(-counts, kind="stable")[:most]])
        self.head: TokenHead = TokenHead(tokens.shape[1], max(1, len(self._known)))
        # A place's own frequencies, and where it has seen little those of all places.
        everywhere = np.bincount(np.searchsorted(self._known, held[np.isin(held, self._known)]), minlength=self.head.values)
        places = np.asarray(self.rows(own).sum(axis=0)).reshape(self.head.prediction_shape)
        self._guesses = self.answers((places + everywhere / max(1, everywhere.sum()))[None])[0]

    def encode(self, x: np.ndarray) -> np.ndarray:
        tokens = flat_rows(x).astype("int64")
        places = np.minimum(np.searchsorted(self._known, tokens), len(self._known) - 1)
        return np.where(self._held(tokens) & (self._known[places] == tokens), places, -1).astype("float32")

    def rows(self, x: np.ndarray) -> Any:
        coded = self.encode(x).astype("int64")
        example, place = np.nonzero(coded >= 0)
        column = place * self.head.values + coded[example, place]
        shape = (len(coded), self.head.length * self.head.values)
        return csr_array((np.ones(len(example), "float32"), (example, column)), shape=shape)

    def answers(self, predictions: np.ndarray) -> np.ndarray:
        """The five best tokens at every place, best first, `[n, length, 5]`; fewer where there are fewer."""
        return np.argsort(-predictions, axis=-1, kind="stable")[..., :BEST]

    def evidence(self, x: np.ndarray, answers: np.ndarray, keep: int) -> Evidence:
        truth = self.encode(x).astype("int64")
        held = self._held(flat_rows(x))
        return Tokens(*self._shares(truth, held, answers), *self._shares(truth, held, np.broadcast_to(self._guesses, answers.shape)))

    @staticmethod
    def _shares(truth: np.ndarray, held: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of each victim's tokens, those named first, and among all answers."""
        right = (answers == truth[..., None]) & held[..., None]
        count = np.maximum(1, held.sum(axis=1))
        return right[..., 0].sum(axis=1) / count, right.any(axis=2).sum(axis=1) / count

    def _held(self, tokens: np.ndarray) -> np.ndarray:
        return np.ones(tokens.shape, bool) if self._padding is None else tokens != self._padding


class _TableCoding(Coding):
    """Columns of numbers, centred and of unit variance, and of categories, as indices of those that the attacker has seen, else -1."""

    def __init__(self, own: np.ndarray, kind: InputKind) -> None:
        columns = flat_rows(own)
        self._names = np.array(column_names(kind.name, columns.shape[1]))
        self._classes = {i: found for i in range(columns.shape[1]) if (found := _categories(columns[:, i], kind)) is not None}
        self._numbers = [i for i in range(columns.shape[1]) if i not in self._classes]
        self._shift, self._scale = _scaling(columns[:, self._numbers].astype("float64"))
        self.head: TableHead = TableHead(len(self._numbers), tuple(len(found) for found in self._classes.values()))
        self._guesses = self.answers(np.asarray(self.rows(own)).mean(axis=0, keepdims=True))[0]

    def encode(self, x: np.ndarray) -> np.ndarray:
        columns = flat_rows(x)
        numbers = (columns[:, self._numbers].astype("float64") - self._shift) / self._scale
        indices = [_indices(columns[:, i], found) for i, found in self._classes.items()]
        return np.concatenate([numbers, *(i[:, None] for i in indices)], axis=1).astype("float32")

    def rows(self, x: np.ndarray) -> Any:
        coded, count = self.encode(x), len(self._numbers)
        hot = [coded[:, count + i, None] == np.arange(width) for i, width in enumerate(self.head.categories)]
        return np.concatenate([coded[:, :count], *hot], axis=1).astype("float32")

    def answers(self, predictions: np.ndarray) -> np.ndarray:
        """A number or an index for every column, in the table's order."""
        found = np.empty((len(predictions), len(self._names)))
        count = len(self._numbers)
        found[:, self._numbers] = predictions[:, :count] * self._scale + self._shift
        scores = np.split(predictions[:, count:], np.cumsum(self.head.categories)[:-1].astype(int), axis=1) if self._classes else []
        for column, each in zip(self._classes, scores, strict=True):
            found[:, column] = each.argmax(axis=1)
        return found

    def evidence(self, x: np.ndarray, answers: np.ndarray, keep: int) -> Evidence:
        columns = flat_rows(x)
        truth = np.empty(answers.shape)
        truth[:, self._numbers] = columns[:, self._numbers].astype("float64")
        for column, found in self._classes.items():
            truth[:, column] = _indices(columns[:, column], found)
        categories = np.isin(np.arange(len(self._names)), list(self._classes))
        return Tables(truth, answers, self._names, categories, self._guesses)


def _pictures(x: np.ndarray) -> np.ndarray:
    """Pictures `[n, h, w, c]` in [0, 1]."""
    return as_images(Samples(x, {}))


def _channelled(x: np.ndarray) -> np.ndarray:
    """Signals `[n, time, channels]`; those of one channel may lack it."""
    return x.reshape(*x.shape[:2], -1) if x.ndim > 2 else x[..., None]


def _scaling(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of columns `[n, columns]`; 1 for what does not vary."""
    mean, deviation = rows.astype("float64").mean(axis=0), rows.astype("float64").std(axis=0)
    return mean, np.where(deviation > 1e-9 * np.maximum(np.abs(mean), 1e-9), deviation, 1.0)


def _categories(column: np.ndarray, kind: InputKind) -> np.ndarray | None:
    """The categories of a column, the commonest ones where there are many; None for numbers."""
    is_number = np.issubdtype(column.dtype, np.number)
    found, counts = np.unique(column, return_counts=True)
    if is_number and kind.values is None and (len(found) > FEW_VALUES or not np.array_equal(found, np.round(found))):
        return None
    return np.sort(found[np.argsort(-counts, kind="stable")[:MOST_VALUES]])


def _indices(column: np.ndarray, categories: np.ndarray) -> np.ndarray:
    places = np.minimum(np.searchsorted(categories, column), len(categories) - 1)
    return np.where(categories[places] == column, places, -1)
