"""Trains an attacker's network from scratch, again and again: compiled once, weights drawn anew for every fit."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.auditing.attacks.base.adam import Adam

PREDICT_BATCH = 256
_WEIGHTS_ARE_DRAWN = threading.RLock()  # from the one global random state: by one learner at a time


@dataclass(frozen=True)
class Effort:
    """What one fit may cost.

    Attributes:
        epochs: passes over the attacker's data; every pass sees fresh channel noise.
        batch_size: examples per step; the whole data set where that is smaller.
        learning_rate: Adam's, at its height; it rises over the first 5 % of the steps and falls to 0 along a cosine.
        patience: the fit ends early after this share of its epochs without a lower validation loss.
        iterations: steps of an attack that works on each picture by itself.
    """

    epochs: int
    batch_size: int
    learning_rate: float = 4e-3
    patience: float = 0.34
    iterations: int = 300


class Learner:
    """One network with its compiled training loop.

    Training runs an epoch at a time inside TensorFlow: attackers are small, and leaving the graph at every step costs more
    than the step.

    Args:
        build: makes the network with fresh weights; its weights follow `keras.utils.set_random_seed`.
        loss: `(truth, prediction) -> [batch]`.
    """

    def __init__(self, build: Callable[[], keras.Model], loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> None:
        self._build = build
        self._loss = loss
        with _WEIGHTS_ARE_DRAWN:
            self._network = build()
        self._adam = Adam(self._trainable)
        channels = [x.shape[-1] if len(x.shape) > 1 else 1 for x in self._network.inputs]
        self._shift = [tf.Variable(tf.zeros([c])) for c in channels]
        self._scale = [tf.Variable(tf.ones([c])) for c in channels]
        self._train = tf.function(self._train_batches, reduce_retracing=True)
        self._validate = tf.function(self._mean_loss, reduce_retracing=True)
        inputs = [tf.TensorSpec(x.shape, tf.float32) for x in self._network.inputs]
        self._predict = tf.function(self._outputs, input_signature=[inputs]).get_concrete_function()

    @property
    def network(self) -> keras.Model:
        """The network, with the weights of the last fit."""
        return self._network

    @property
    def _trainable(self) -> list[tf.Variable]:
        return [v.value for v in self._network.trainable_variables]

    def fit(
        self,
        epochs: Callable[[], Iterable[tuple[list[tf.Tensor], tf.Tensor]]],
        held_out: tuple[list[tf.Tensor], tf.Tensor],
        examples: int,
        effort: Effort,
        seed: int,
    ) -> float:
        """Trains from fresh weights and keeps those of the epoch with the lowest validation loss.

        Args:
            epochs: called once per epoch; gives the attacker's examples in chunks of `(boundary tensors, truth)`.
            held_out: the validation examples.
            examples: how many examples an epoch has.
            effort: what the fit may cost.
            seed: of the weights and the order of the examples.

        Returns:
            The lowest validation loss; infinite if no epoch gave a finite one.
        """
        self._renew(seed)
        self._standardise(held_out[0])
        order = np.random.default_rng(seed)
        size = min(effort.batch_size, examples)
        total, patience = effort.epochs * max(1, examples // size), max(3, math.ceil(effort.patience * effort.epochs))
        best, since, kept = math.inf, 0, None
        for _ in range(effort.epochs):
            for tensors, truth in epochs():
                self._train(tensors, truth, _batches(order, len(truth), size), _schedule(self._adam.steps, total, effort))
            loss = float(self._validate(*held_out))
            if loss < best:
                best, since = loss, 0
                kept = self.weights()
            else:
                since += 1
            if since >= patience:
                break
        if kept is not None:
            self.restore(kept)
        return best

    def weights(self) -> list[tf.Tensor]:
        """A copy of the network's weights and statistics."""
        return [tf.identity(v.value) for v in self._network.variables]

    def restore(self, weights: list[tf.Tensor]) -> None:
        """Puts a copy made by `weights` back."""
        for variable, value in zip(self._network.variables, weights, strict=True):
            variable.assign(value)

    def predict(self, tensors: list[tf.Tensor]) -> np.ndarray:
        """The network's answers, without dropout, `[n, ...]`."""
        chunks = [self._predict([t[i : i + PREDICT_BATCH] for t in tensors]).numpy() for i in range(0, len(tensors[0]), PREDICT_BATCH)]
        return np.concatenate(chunks)

    def standalone(self) -> keras.Model:
        """The network with the standardising of its inputs before it, on layers of its own."""
        inputs = [keras.Input(x.shape[1:]) for x in self._network.inputs]
        ready = [
            keras.layers.Normalization(axis=-1, mean=shift.numpy(), variance=np.square(scale.numpy()))(x)
            for x, shift, scale in zip(inputs, self._shift, self._scale, strict=True)
        ]
        network = keras.models.clone_model(self._network)
        network.set_weights(self._network.get_weights())
        return keras.Model(_alone(inputs), network(_alone(ready)))

    def _renew(self, seed: int) -> None:
        """Fresh weights, statistics, dropout seeds and optimizer state."""
        with _WEIGHTS_ARE_DRAWN:
            keras.utils.set_random_seed(seed)
            fresh = self._build()
        for variable, value in zip(self._network.variables, fresh.variables, strict=True):
            variable.assign(value.value)
        self._adam.reset()

    def _standardise(self, tensors: list[tf.Tensor]) -> None:
        """Sets what is subtracted from and divides each channel, by these examples.

        The network normalises as well, but in single precision: a channel that is the same for all would become amplified rounding.
        """
        for tensor, shift, scale in zip(tensors, self._shift, self._scale, strict=True):
            rows = np.asarray(tensor, "float64").reshape(-1, shift.shape[0])
            mean, deviation = rows.mean(axis=0), rows.std(axis=0)
            shift.assign(mean.astype("float32"))
            scale.assign(np.where(deviation > 1e-6 * np.abs(rows).max(axis=0), deviation, 1.0).astype("float32"))

    def standardised(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """What is given to the network of tensors `[n, ...]`."""
        return [(t - shift) / scale for t, shift, scale in zip(tensors, self._shift, self._scale, strict=True)]

    def _answer(self, tensors: list[tf.Tensor], training: bool) -> tf.Tensor:
        ready = self.standardised(tensors)
        return self._network(ready if len(ready) > 1 else ready[0], training=training)

    def _outputs(self, tensors: list[tf.Tensor]) -> tf.Tensor:
        return self._answer(tensors, training=False)

    def _mean_loss(self, tensors: list[tf.Tensor], truth: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        count = tf.shape(truth)[0]
        for start in tf.range(0, count, PREDICT_BATCH):
            end = tf.minimum(start + PREDICT_BATCH, count)
            total += tf.reduce_sum(self._loss(truth[start:end], self._outputs([t[start:end] for t in tensors])))
        return total / tf.cast(count, tf.float32)

    def _train_batches(self, tensors: list[tf.Tensor], truth: tf.Tensor, batches: tf.Tensor, rates: tf.Tensor) -> None:
        for i in tf.range(tf.shape(batches)[0]):
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)  # steps follow each other; more only costs bookkeeping
            rows = batches[i]
            with tf.GradientTape() as tape:
                answer = self._answer([tf.gather(t, rows) for t in tensors], training=True)
                loss = tf.reduce_mean(self._loss(tf.gather(truth, rows), answer))
            # One wild batch must not end an attack: attackers are compared by their best, not by their luck.
            gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, self._trainable), 5.0)
            self._adam.apply(gradients, rates[i])


def _alone(tensors: list[Any]) -> Any:
    """A list of one is the one to Keras."""
    return tensors if len(tensors) > 1 else tensors[0]


def _batches(order: np.random.Generator, examples: int, size: int) -> tf.Tensor:
    """Shuffled row numbers `[steps, size]`; the remainder waits for another epoch's shuffle."""
    steps = max(1, examples // size)
    return tf.constant(np.resize(order.permutation(examples), (steps, size)).astype("int32"))


def _schedule(done: int, total: int, effort: Effort) -> tf.Tensor:
    """Learning rates of the remaining steps: a short rise, then a cosine down to 0."""
    steps = np.arange(done + 1, total + 2, dtype="float64")
    rise = np.minimum(1.0, steps / max(1.0, 0.05 * total))
    return tf.constant((effort.learning_rate * rise * 0.5 * (1 + np.cos(np.pi * np.minimum(1.0, steps / (total + 1))))).astype("float32"))
