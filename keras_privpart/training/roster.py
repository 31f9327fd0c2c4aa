"""The adversaries' networks: those that learn, and a pool of past ones that no longer do."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.graphs.copying import fresh_model
from keras_privpart.partitioning.graphs.graph import sublayers
from keras_privpart.training.gradients import Reading, read
from keras_privpart.training.privacy_terms import replica_sums
from keras_privpart.training.privacy_terms.adversaries import Adversary, Shapes


class Roster(keras.layers.Layer):
    """Holds and runs the networks of all adversaries.

    Args:
        adversaries: whose networks to build.
        boundary_shapes: of the boundary's tensors, without the batch.
        input_shape: of the device half's (first) input, without the batch.
        pool: how many past networks of each adversary keep reading the boundary after a restart, with frozen weights.
    """

    def __init__(
        self, adversaries: Sequence[Adversary], boundary_shapes: Shapes, input_shape: tuple[int | None, ...], pool: int = 0
    ) -> None:
        super().__init__(name="roster")
        self.adversaries = tuple(adversaries)
        self.pool = arguments.whole("pool", pool, TrainingError, least=0, advice="It counts past networks per adversary.")
        self._shapes = (tuple(boundary_shapes), tuple(input_shape))
        self.networks = [self._built(adversary) for adversary in self.adversaries]
        self.past = [self._built(adversary) for _ in range(self.pool) for adversary in self.adversaries]
        for network in self.past:
            network.trainable = False
        self.restarts = (
            self.add_weight(name="restarts", shape=(), dtype="int32", initializer="zeros", trainable=False) if self.pool else None
        )
        self.built = True

    @property
    def variables_by_adversary(self) -> list[list[Any]]:
        """Trainable variables of the networks that learn, in the adversaries' order."""
        return [network.trainable_variables for network in self.networks]

    def readers(self) -> int:
        """How many views of the boundary the networks take, the past ones included."""
        return len(self.networks) + len(self.past)

    def readings(self, views: Sequence[list[Any]], targets: Sequence[Any], task: Any, training: bool) -> list[Reading]:
        """Lets every network read its view; those that learn come first, then the past ones where there are views for them."""
        networks, adversaries = [*self.networks, *self.past], [*self.adversaries] * (1 + self.pool)
        found = []
        for i, view in enumerate(views):
            learns = i < len(self.networks)
            target = targets[i % len(self.adversaries)]
            found.append(read(adversaries[i], networks[i], view, target, task, training=training and learns, goal=training))
        return found

    def shares(self) -> list[Any]:
        """What share of its adversary's weight each network has: equal ones of those that learn and the past ones there are so far."""
        if self.restarts is None:
            return [1.0] * len(self.networks)
        filled = tf.minimum(tf.convert_to_tensor(self.restarts), self.pool)
        share = 1.0 / (1.0 + tf.cast(filled, tf.float32))
        past = [tf.where(slot < filled, share, 0.0) for slot in range(self.pool) for _ in self.networks]
        return [*([share] * len(self.networks)), *past]

    def restart(self, seed: int) -> None:
        """Gives every adversary new initial weights, drawn from `seed`; the old ones go into the pool, over its oldest."""
        if self.restarts is not None:
            slot = int(self.restarts.numpy()) % self.pool
            for old, new in zip(self.networks, self.past[slot * len(self.networks) :], strict=False):
                _copy(old, new)
            self.restarts.assign_add(1)
        with seeded(seed):
            for adversary, network in zip(self.adversaries, self.networks, strict=True):
                _copy(fresh_model(self._built(adversary)), network)  # one of the user's own arrives with weights

    def _built(self, adversary: Adversary) -> keras.Model:
        network = adversary.build(*self._shapes)
        if replica_sums.count() > 1:
            # Their statistics are those of the whole batch, as they would be on one device.
            for layer in sublayers(network):
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        return network


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it, Keras draws default seeds from `seed`; afterwards it goes on as if nothing had been drawn."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def _copy(source: keras.Model, target: keras.Model) -> None:
    for new, old in zip(target.variables, source.variables, strict=True):
        new.assign(old)
