"""A fresh reader: an adversary's network that learns from scratch on a boundary that does not answer. Quick, for watching a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.partitioning.graphs.copying import fresh_model
from keras_privpart.training.gradients import as_structure
from keras_privpart.training.privacy_terms.adversaries import Adversary, Shapes
from keras_privpart.training.roster import seeded


class FreshReader:
    """Learns to read a boundary, as often as asked, each time from the same initial weights.

    Args:
        adversary: what to read, with which network and which loss.
        boundary_shapes: of what it reads, without the batch.
        input_shape: of the model's input, without the batch.
        seed: of the initial weights and of the order of the examples.
        learning_rate: of Adam.
    """

    def __init__(
        self, adversary: Adversary, boundary_shapes: Shapes, input_shape: tuple[int | None, ...], seed: int = 0, learning_rate: float = 2e-3
    ) -> None:
        with seeded(seed):
            self.network = fresh_model(adversary.build(boundary_shapes, input_shape))
        self.adversary = adversary
        self.seed = seed
        self.optimizer = keras.optimizers.Adam(learning_rate)
        self.optimizer.build(self.network.trainable_variables)
        self._state = [*self.network.variables, *self.optimizer.variables]
        self._initial = [np.asarray(v.numpy()) for v in self._state]
        self._step = tf.function(self._learn, reduce_retracing=True)

    def recovered(
        self, learn: tuple[Sequence[np.ndarray], np.ndarray], judge: tuple[Sequence[np.ndarray], np.ndarray], epochs: int, batch_size: int
    ) -> float:
        """Learns from one part of the data, and says what share it recovers of the other: 1 - error / error of a guess, at least 0.

        Args:
            learn, judge: (the boundary's tensors, targets), each with the examples first.
            epochs: passes over `learn`.
            batch_size: examples per step; a ragged last batch is left out if there is another.
        """
        for variable, value in zip(self._state, self._initial, strict=True):
            variable.assign(value)
        rng, n = np.random.default_rng(self.seed), len(learn[1])
        for _ in range(epochs):
            order = rng.permutation(n)
            for start in range(0, max(1, n - batch_size + 1), batch_size):
                chosen = order[start : start + batch_size]
                self._step([tf.convert_to_tensor(z[chosen]) for z in learn[0]], tf.convert_to_tensor(learn[1][chosen]))
        boundary, target = judge
        prediction = tf.convert_to_tensor(self.predict(boundary))
        error = float(tf.reduce_mean(self.adversary.error(tf.convert_to_tensor(target), prediction)))
        guess = float(tf.reduce_mean(self.adversary.ignorant_error(tf.convert_to_tensor(target))))
        return max(0.0, 1.0 - error / max(guess, 1e-6))

    def predict(self, boundary: Sequence[np.ndarray], batch_size: int = 256) -> np.ndarray:
        """Its predictions, `[n, ...]`."""
        n = len(boundary[0])
        parts = [self.network(as_structure([z[i : i + batch_size] for z in boundary]), training=False) for i in range(0, n, batch_size)]
        return np.concatenate([np.asarray(p) for p in parts])

    def _learn(self, boundary: list[Any], target: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.adversary.error(target, self.network(as_structure(boundary), training=True)))
        variables = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
