"""Callbacks of a training: restart adversaries, and watch what fresh ones recover."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.datasets import Samples
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.input_kind import given_to
from keras_privpart.several_inputs import arrays_of
from keras_privpart.training.fresh_reader import FreshReader
from keras_privpart.training.gradients import as_list
from keras_privpart.training.privacy_terms.adversaries import Adversary, ReconstructionAdversary


class RestartAdversaries(keras.callbacks.Callback):
    """Gives the adversaries new initial weights every few epochs: halves that fool one adversary shall not fool only that one.

    With `AdversarialTrainer(pool=n)` the last `n` stay as frozen readers. What it draws depends on the seed and the epoch only, so that a
    resumed training takes the same course.

    Args:
        every: epochs between two restarts.
        seed: of the new weights.
    """

    def __init__(self, every: int, seed: int = 0) -> None:
        super().__init__()
        self.every = _whole("every", every)
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch and epoch % self.every == 0:
            self.model.restart_adversaries(self.seed * 1_000_003 + epoch)


class PrivacyMonitor(keras.callbacks.Callback):
    """Every few epochs lets fresh adversaries, which the halves have never met, learn to read the boundary, and logs their success.

    Logs: `privacy_<name>`, the share that a fresh adversary recovers of the validation data, 0 to 1. With a `reference` also
    `privacy_<name>_floor` (the same from the server half's answer alone) and `privacy_<name>_leakage`, (share - floor) / (ceiling - floor)
    within [0, 1.5], the ceiling from the reference; it is left out where ceiling and floor are closer than 0.02. `privacy_utility`: the
    logged `utility` less `price` times the largest leakage (the largest share, without a reference; nothing, with a warning, where no
    leakage is defined): what to stop early or to choose checkpoints by (`mode="max"`). Between two looks the last values stay. Put the
    monitor before the callbacks that use its logs.

    It changes nothing about the training. It is a quick look with one small attacker each and no evidence: `keras_privpart.audit` is.

    Args:
        train: what the fresh adversaries learn from, a pair `(x, targets)`; some thousand examples are enough. Not what `fit` trains on, if
            the attackers shall not have the victims' data.
        validation: what they are judged by, likewise.
        adversaries: what to look for; those of the trainer by default.
        every: epochs between two looks.
        epochs, batch_size, learning_rate: of a fresh adversary's training.
        reference: an undefended partition of the same model.
        directory: where to put `<name>_<epoch>.png`, originals above reconstructions, if any.
        utility: name of the logged figure that measures the task.
        price: what full leakage costs, in units of `utility`.
        seed: of the fresh adversaries.
    """

    def __init__(
        self,
        train: Any,
        validation: Any,
        adversaries: Sequence[Adversary] | None = None,
        every: int = 1,
        epochs: int = 3,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        reference: Partition | None = None,
        directory: str | Path | None = None,
        utility: str = "val_accuracy",
        price: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train = Samples.of(train)
        self.validation = Samples.of(validation)
        self.adversaries = adversaries
        self.every = _whole("every", every)
        self.epochs = _whole("epochs", epochs)
        self.batch_size = _whole("batch_size", batch_size)
        self.learning_rate = learning_rate
        self.reference = reference
        self.directory = None if directory is None else Path(directory)
        self.utility = utility
        self.price = price
        self.seed = seed
        self._readers: dict[tuple[str, str], FreshReader] = {}
        self._ceilings: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._told = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._readers, self._last, self._told = {}, {}, False
        for adversary in self._watched():
            adversary.meet(self.model.device)
            adversary.check_values(self.train.x, self.train.targets)
            adversary.check_values(self.validation.x, self.validation.targets)
        if self.reference is not None:
            seen = self._seen(self.reference.device)
            self._ceilings = {a.name: self._recovered("ceiling", a, seen) for a in self._watched()}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        if (epoch + 1) % self.every == 0 or not self._last:
            self._last = self._look(epoch)
        logs.update(self._last)
        if self.utility not in logs:
            raise TrainingError(
                f"The logs have no {self.utility!r}; expected one of {sorted(logs)}. "
                "Pass utility= to PrivacyMonitor, or validation_data= to fit."
            )
        logs["privacy_utility"] = float(logs[self.utility]) - self.price * self._charged()

    def _charged(self) -> float:
        """The largest leakage, or share where there is no reference to measure leakage by; 0 where leakage is undefined."""
        if not self._ceilings:
            return max(self._last.values(), default=0.0)
        leakages = [value for key, value in self._last.items() if key.endswith("_leakage")]
        if not leakages and not self._told:
            self._told = True
            warnings.warn(
                f"The reference leaks hardly more than the answer alone to the adversaries {[a.name for a in self._watched()]}, so that "
                "leakage is undefined and privacy_utility charges nothing for it. Watch for something that the reference gives away.",
                stacklevel=2,
            )
        return max(leakages, default=0.0)

    def _watched(self) -> Sequence[Adversary]:
        return self.model.adversaries if self.adversaries is None else self.adversaries

    def _look(self, epoch: int) -> dict[str, float]:
        found: dict[str, float] = {}
        seen = self._seen(self.model.device)
        answers = [as_list(self.model.server.predict(_packed(z), verbose=0)) for z in seen] if self._ceilings else []
        for adversary in self._watched():
            name = f"privacy_{adversary.name}"
            found[name] = self._recovered("boundary", adversary, seen)
            if self.directory is not None and isinstance(adversary, ReconstructionAdversary) and adversary.reads_picture:
                self._picture(self.directory, adversary, seen[1], epoch)
            if self._ceilings:
                found[f"{name}_floor"] = floor = self._recovered("answer", adversary, answers)
                room = self._ceilings[adversary.name] - floor
                if room > 0.02:
                    found[f"{name}_leakage"] = float(np.clip((found[name] - floor) / room, 0.0, 1.5))
        return found

    def _seen(self, device: keras.Model) -> list[list[np.ndarray]]:
        """What crosses, of both sets."""
        return [as_list(device.predict(given_to(device, part.x), batch_size=256, verbose=0)) for part in (self.train, self.validation)]

    def _recovered(self, what: str, adversary: Adversary, seen: list[list[np.ndarray]]) -> float:
        key = (what, adversary.name)
        if key not in self._readers:
            shapes = [z.shape[1:] for z in seen[0]]
            self._readers[key] = FreshReader(
                adversary, shapes, next(iter(arrays_of(self.train.x).values())).shape[1:], self.seed, self.learning_rate
            )
        learn, judge = ((z, self._target(adversary, part)) for z, part in zip(seen, (self.train, self.validation), strict=True))
        return self._readers[key].recovered(learn, judge, self.epochs, self.batch_size)

    def _target(self, adversary: Adversary, part: Samples) -> np.ndarray:
        return np.asarray(adversary.target(part.x, {key: value for key, value in part.targets.items() if key != "task"}))

    def _picture(self, directory: Path, adversary: Adversary, boundary: list[np.ndarray], epoch: int) -> None:
        few = [z[:8] for z in boundary]
        originals = self._target(adversary, self.validation[:8])
        rows = [np.concatenate(list(images), axis=1) for images in (originals, self._readers["boundary", adversary.name].predict(few))]
        grid = np.clip(np.concatenate(rows, axis=0), 0, 1)[..., :3]
        grid = grid[..., :1] if grid.shape[-1] == 2 else grid  # PNG knows one channel or three
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{adversary.name}_{epoch + 1:04d}.png"
        path.write_bytes(tf.io.encode_png((grid * 255).round().astype("uint8")).numpy())


def _packed(boundary: list[np.ndarray]) -> Any:
    return boundary[0] if len(boundary) == 1 else boundary


def _whole(argument: str, value: Any) -> int:
    return arguments.whole(argument, value, TrainingError, advice="It counts epochs, or examples of a batch.")
