"""Checkpoints: what a training that was killed needs to go on after its last whole epoch, on the same course."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras

from keras_privpart import atomic
from keras_privpart.errors import TrainingError

STATE = "state.json"


class Checkpoints(keras.callbacks.Callback):
    """After every epoch puts weights, optimizers, random generators and logs into a folder; restores them when a training begins.

    Pass `initial_epoch=checkpoints.done` to `fit`. Each checkpoint stands whole before the one before it goes: a kill at any moment
    costs one epoch at most.

    Args:
        folder: of this training alone; made with the first checkpoint.

    Raises:
        TrainingError: the folder holds what is no checkpoint; at the start of `fit`, the checkpoint of another training.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.logs = _logs_in(folder)

    @property
    def done(self) -> int:
        """Epochs that need not be trained again."""
        return len(self.logs)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not self.done:
            return
        try:
            self.model.load_weights(self._weights(self.done))
        except (OSError, ValueError, KeyError) as error:
            raise _unusable(self.folder, str(error).splitlines()[0]) from error

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        before = self._weights(self.done)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs.append({key: float(value) for key, value in (logs or {}).items()})
        with atomic.new_file(self._weights(self.done)) as fresh:
            self.model.save_weights(fresh)
        atomic.write_text(self.folder / STATE, json.dumps({"logs": self.logs}) + "\n")
        before.unlink(missing_ok=True)

    def history(self) -> dict[str, list[float]]:
        """As `History.history`, of all epochs, those before a kill among them."""
        return {key: [epoch[key] for epoch in self.logs if key in epoch] for key in (self.logs[-1] if self.logs else {})}

    def _weights(self, epochs: int) -> Path:
        return self.folder / f"after-{epochs}.weights.h5"


def _logs_in(folder: Path) -> list[dict[str, float]]:
    path = folder / STATE
    if not path.is_file():
        return []
    try:
        logs = json.loads(path.read_text(encoding="utf-8"))["logs"]
        return [{str(key): float(value) for key, value in epoch.items()} for epoch in logs]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unusable(folder, f"{STATE} is damaged ({error})") from error


def _unusable(folder: Path, reason: str) -> TrainingError:
    return TrainingError(
        f"Received the checkpoints in {str(folder)!r}, which this training cannot go on from: {reason}; expected its own. "
        "Remove the folder to train from the start."
    )
