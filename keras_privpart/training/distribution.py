"""What stock Keras lacks to `fit` under `tf.distribute.MultiWorkerMirroredStrategy`, as a base of the trainer.

Without several workers it changes nothing.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class SeveralWorkers(keras.Model):
    """A model that is built, optimizers too, before `fit`; so that Keras need not build it from a batch that lies on several machines."""

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras would reduce a batch of values that are on other machines, and raise.
        if not spans_workers(self.distribute_strategy):
            super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)


def spans_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy spans several workers."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def reducible(logs: dict[str, Any]) -> dict[str, Any]:
    """Logs as Keras reduces them over workers: along an axis, which a scalar does not have."""
    if not spans_workers(tf.distribute.get_strategy()):
        return logs
    return {key: tf.reshape(value, [1]) for key, value in logs.items()}
