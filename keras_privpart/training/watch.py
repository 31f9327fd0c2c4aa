"""What every `fit` looks after: losses that are no numbers, and adversaries that have nothing to learn."""

from __future__ import annotations

import math
import warnings
from typing import Any

import keras

from keras_privpart.errors import TrainingError
from keras_privpart.training.batches import EMPTY


class TrainingWatch(keras.callbacks.Callback):
    """Looks at the logs after every epoch.

    Raises:
        TrainingError: the task's loss is not finite, or there was not a single batch.

    Warns:
        UserWarning: an adversary exploded, or its target is the same all over every batch. Once each.
    """

    # Keras would otherwise wait for every batch's logs before it starts the next one.
    async_safe = True

    def __init__(self) -> None:
        super().__init__()
        self.warned: set[str] = set()
        self.batches = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.batches += 1

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        if not self.batches:
            raise TrainingError(EMPTY)
        for adversary in self.model.adversaries:
            name = adversary.name
            if not math.isfinite(logs.get(f"{name}_loss", 0.0)):
                self._warn(
                    f"The adversary {name!r} exploded: its loss is {logs[f'{name}_loss']} in epoch {epoch + 1}. "
                    "It defends nothing any more. Lower the learning rate of adversary_optimizer, or give it clipnorm=1.0."
                )
            elif logs.get(f"{name}_guess", 1.0) < 1e-6:
                self._warn(
                    f"The adversary {name!r} has nothing to learn: within every batch of epoch {epoch + 1} its target is the same "
                    "(a constant attribute, batches of one class, or batches of one example). It defends nothing. "
                    "Shuffle the data, use larger batches, or leave this adversary out."
                )
        loss = logs.get("loss", 0.0)
        if not math.isfinite(loss):
            raise TrainingError(
                f"The loss is {loss} in epoch {epoch + 1}; expected a finite number. Lower the learning rate, give the optimizer "
                "clipnorm=1.0, and look for inputs or targets that are not numbers."
            )

    def _warn(self, text: str) -> None:
        key = text.split(":", 1)[0]
        if key not in self.warned:
            self.warned.add(key)
            warnings.warn(text, stacklevel=2)
