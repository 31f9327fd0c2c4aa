"""What an attacker predicts of an input, by its kind: the network's output, what it minimises, and what a guess that sees nothing gets.

One for each kind of `input_kind`: both those who train along and the fresh attackers of an audit use them. Targets and predictions are
float32 tensors with the batch first, errors `[batch]`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from keras_privpart.training.privacy_terms import networks, objectives, replica_sums, sequence_networks

_LEAST = 1e-12
Shapes = Sequence[tuple[int | None, ...]]


class InputHead(ABC):
    """A frozen dataclass of plain values: heads that are equal may share a compiled network."""

    @property
    @abstractmethod
    def target_shape(self) -> tuple[int, ...]:
        """Of one example's target, without the batch."""

    @property
    @abstractmethod
    def prediction_shape(self) -> tuple[int, ...]:
        """Of one example's prediction, without the batch."""

    @abstractmethod
    def network(self, boundary_shapes: Shapes, size: str, name: str = "decoder") -> keras.Model:
        """A new network from the boundary to the prediction."""

    @abstractmethod
    def error(self, target: Any, prediction: Any) -> tf.Tensor:
        """What the attacker minimises, `[batch]`."""

    @abstractmethod
    def ignorant_error(self, target: Any) -> tf.Tensor:
        """The error of the best guess that is the same for all examples of the batch, of all replicas, `[batch]`."""


@dataclass(frozen=True)
class PictureHead(InputHead):
    """A picture in [0, 1]."""

    shape: tuple[int, ...]

    @property
    def target_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        return self.shape

    def network(self, boundary_shapes: Shapes, size: str, name: str = "decoder") -> keras.Model:
        return networks.decoder(boundary_shapes, self.shape, size, name)

    def error(self, target: Any, prediction: Any) -> tf.Tensor:
        return objectives.mse(target, tf.cast(prediction, tf.float32))

    def ignorant_error(self, target: Any) -> tf.Tensor:
        return objectives.mse(target, _same_for_all(target))


@dataclass(frozen=True)
class SignalHead(InputHead):
    """The samples of a signal, each channel centred and of unit variance: mean squared error."""

    length: int
    channels: int

    @property
    def target_shape(self) -> tuple[int, ...]:
        return self.length, self.channels

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        return self.target_shape

    def network(self, boundary_shapes: Shapes, size: str, name: str = "decoder") -> keras.Model:
        return sequence_networks.sequence_decoder(boundary_shapes, self.length, self.channels, size, name)

    def error(self, target: Any, prediction: Any) -> tf.Tensor:
        return objectives.mse(target, tf.cast(prediction, tf.float32))

    def ignorant_error(self, target: Any) -> tf.Tensor:
        # The variance, for every example: a quiet one's own distance from the mean would be next to nothing.
        return tf.fill([tf.shape(target)[0]], replica_sums.batch_mean(objectives.mse(target, _same_for_all(target))))


@dataclass(frozen=True)
class TokenHead(InputHead):
    """The token at each place, of `values`: cross-entropy, over places that hold one. Targets under 0 are none, and left out."""

    length: int
    values: int

    @property
    def target_shape(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        return self.length, self.values

    def network(self, boundary_shapes: Shapes, size: str, name: str = "decoder") -> keras.Model:
        return sequence_networks.sequence_decoder(boundary_shapes, self.length, self.values, size, name)

    def error(self, target: Any, prediction: Any) -> tf.Tensor:
        labels = tf.cast(target, tf.int32)
        logits = tf.cast(prediction, tf.float32)
        lost = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.maximum(labels, 0), logits=logits)
        return _mean_where(lost, labels >= 0)

    def ignorant_error(self, target: Any) -> tf.Tensor:
        labels = tf.cast(target, tf.int32)
        held = labels >= 0
        return _mean_where(_surprise(labels, held, self.values), held)


@dataclass(frozen=True)
class TableHead(InputHead):
    """The columns of a table: numbers first, centred and of unit variance, then categories as indices; squared error and cross-entropy.

    Every column counts the same. The error of categories is in units of their entropy's natural logarithm of how many there are.

    Attributes:
        numbers: how many columns are numbers.
        categories: how many values each other column has.
    """

    numbers: int
    categories: tuple[int, ...] = ()

    @property
    def target_shape(self) -> tuple[int, ...]:
        return (self.numbers + len(self.categories),)

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        return (self.numbers + sum(self.categories),)

    def network(self, boundary_shapes: Shapes, size: str, name: str = "decoder") -> keras.Model:
        return networks.probe(boundary_shapes, self.prediction_shape[0], "mlp" if size == "small" else "conv", name)

    def error(self, target: Any, prediction: Any) -> tf.Tensor:
        prediction = tf.cast(prediction, tf.float32)
        squares = tf.reduce_sum(tf.square(target[:, : self.numbers] - prediction[:, : self.numbers]), axis=1)
        logits = tf.split(prediction[:, self.numbers :], list(self.categories), axis=1) if self.categories else []
        lost = [self._lost(tf.cast(target[:, self.numbers + i], tf.int32), each, i) for i, each in enumerate(logits)]
        return tf.add_n([squares, *lost]) / self.target_shape[0]

    def _lost(self, labels: tf.Tensor, logits: tf.Tensor, column: int) -> tf.Tensor:
        return objectives.cross_entropy(tf.maximum(labels, 0), logits) / self._unit(column)

    def _unit(self, column: int) -> float:
        return math.log(max(2, self.categories[column]))

    def ignorant_error(self, target: Any) -> tf.Tensor:
        numbers = target[:, : self.numbers]
        total = tf.reduce_sum(replica_sums.batch_mean(tf.square(numbers - _same_for_all(numbers))))
        found = tf.fill([tf.shape(target)[0]], total)
        for i, count in enumerate(self.categories):
            labels = tf.cast(target[:, self.numbers + i], tf.int32)
            found += _surprise(labels, labels >= 0, count) / self._unit(i)
        return found / self.target_shape[0]


def standardised(values: Any) -> tf.Tensor:
    """Numbers `[batch, ..., channels]` with the batch's mean 0 and variance 1 in every channel; what does not vary becomes 0."""
    values = tf.cast(values, tf.float32)
    axes = list(range(1, values.shape.rank - 1))
    mean = replica_sums.batch_mean(tf.reduce_mean(values, axis=axes))
    centred = values - mean
    variance = replica_sums.batch_mean(tf.reduce_mean(tf.square(centred), axis=axes))
    return centred * tf.math.rsqrt(tf.maximum(variance, _LEAST))


def _same_for_all(target: Any) -> tf.Tensor:
    return tf.broadcast_to(replica_sums.batch_mean(target), tf.shape(target))


def _surprise(labels: tf.Tensor, held: tf.Tensor, values: int) -> tf.Tensor:
    """Negative logarithm, in nats, of how often each of the `labels` that are `held` occurs among those of all replicas' batch."""
    known = tf.maximum(labels, 0)
    counts = tf.math.bincount(tf.reshape(known, [-1]), tf.reshape(tf.cast(held, tf.float32), [-1]), values, values)
    counts = replica_sums.batch_sum(tf.ensure_shape(counts, [values])[None])
    share = tf.gather(counts, known) / tf.maximum(tf.reduce_sum(counts), 1.0)
    return -tf.math.log(tf.maximum(share, 1e-7))


def _mean_where(values: tf.Tensor, held: tf.Tensor) -> tf.Tensor:
    """Mean of each row over the places that are held, 0 where none is."""
    weights = tf.cast(held, tf.float32)
    return tf.reduce_sum(values * weights, axis=1) / tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)
