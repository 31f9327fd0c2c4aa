"""Trains a partition twice from the same weights: undefended, which is the ceiling of every audit, and defended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_privpart.channels import Channel
from keras_privpart.datasets import TASK, Samples, Stream, batches, epochs_of
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.input_kind import given_to
from keras_privpart.partitioning.partition import partition as cut
from keras_privpart.partitioning.partition import with_bottleneck
from keras_privpart.training.callbacks import RestartAdversaries
from keras_privpart.training.checkpoints import Checkpoints
from keras_privpart.training.distillation import Distillation
from keras_privpart.training.privacy_terms.adversaries import Adversary
from keras_privpart.training.privacy_terms.regularizers import Regularizer
from keras_privpart.training.task import count_classes, task_accuracy, task_loss
from keras_privpart.training.trainer import AdversarialTrainer

_EXAMPLES = 4096  # by which a bottleneck of a trained model finds its start

# Called after every epoch: which half of the pair trains, the epoch from 1, its logs.
Progress = Callable[[str, int, dict[str, float]], None]


@dataclass(frozen=True)
class Recipe:
    """How to train: the same for both partitions of a pair, so that they compare.

    Attributes:
        epochs: of each of the two trainings.
        batch_size: examples per step.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        adversary_learning_rate: of the adversaries' Adam, constant, for their target moves.
        seed: of initial weights, order of the data, dropout and training noise.
        initial: `"pretrained"` takes the model for trained: the undefended partition stays as it is, and the defended one keeps its
            server half (`AdversarialTrainer`). By default both are trained.
        label_smoothing: share of the task's labels that is spread over all classes (`task.SmoothedCrossentropy`).
        average: momentum of the moving average of the halves' weights that they end with, such as 0.99; None for the last ones.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    adversary_learning_rate: float = 1e-3
    seed: int = 0
    initial: str | None = None
    label_smoothing: float = 0.0
    average: float | None = None


@dataclass(frozen=True)
class Defence:
    """What the defended partition has and the undefended one lacks; each field as the `AdversarialTrainer` takes it.

    Attributes:
        adversaries, regularizers: the privacy terms.
        channel: on the boundary.
        mode: `"fused"` or `"alternating"`.
        pool: past networks of each adversary that go on reading.
        restart_every: epochs between two restarts of the adversaries; None for never.
        bottleneck: features that cross, fewer than in the undefended one (`with_bottleneck`); None for as many.
        bottleneck_over: `"example"` for so many in all, `"place"` for so many at each place.
        bottleneck_activation: of these features, see `with_bottleneck`.
        expand: what the server makes of them.
        distillation: what the defended one learns from the undefended one, from whose weights it starts then, a linear bottleneck
            from its principal components; None to train it by labels from the same start.
    """

    adversaries: Sequence[Adversary] = ()
    channel: Channel | None = None
    regularizers: Sequence[Regularizer] = ()
    mode: str = "fused"
    pool: int = 0
    restart_every: int | None = None
    bottleneck: int | None = None
    bottleneck_over: str = "example"
    bottleneck_activation: str = "linear"
    expand: str = "linear"
    distillation: Distillation | None = None

    def describe(self) -> dict[str, Any]:
        """JSON-able configurations, for a run's record. What stands as in earlier versions is described as by them."""
        narrow: dict[str, Any] = {}
        if self.bottleneck is not None:
            narrow = {"bottleneck": self.bottleneck, "bottleneck_over": self.bottleneck_over, "expand": self.expand}
            if self.bottleneck_activation != "linear":
                narrow["bottleneck_activation"] = self.bottleneck_activation
        return {
            "adversaries": [{"class": type(a).__name__, **a.get_config()} for a in self.adversaries],
            "channel": None if self.channel is None else {"class": type(self.channel).__name__, **_own_config(self.channel)},
            "regularizers": [{"class": type(r).__name__, **r.get_config()} for r in self.regularizers],
            "mode": self.mode,
            "pool": self.pool,
            "restart_every": self.restart_every,
            **narrow,
            **({} if self.distillation is None else {"distillation": asdict(self.distillation)}),
        }


NO_DEFENCE = Defence()


@dataclass(frozen=True)
class TrainedPair:
    """Both trained partitions, and their logs per epoch."""

    undefended: Partition
    defended: Partition
    undefended_history: dict[str, list[float]]
    defended_history: dict[str, list[float]]


def train_pair(
    parts: Partition,
    train: Samples | Stream,
    test: Samples,
    recipe: Recipe,
    defence: Defence = NO_DEFENCE,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
) -> TrainedPair:
    """Trains an undefended and a defended copy of `parts`; `parts` itself is left as it is.

    Args:
        parts: a plain partition, without a channel.
        train: what to train on, all of it also where it is a `Stream`; `test` only gives the logs' `val_` figures.
        recipe: how.
        defence: of the defended one.
        progress: called after every epoch.
        checkpoints: folder to keep a checkpoint of every epoch in; the same call goes on from what an earlier one, that was killed, left
            there. The caller removes it.

    Raises:
        TrainingError: the model has several outputs, a label is no class of the model's output, or the checkpoints are another training's.
    """
    check_pair(parts, train, test)

    def callbacks(name: str) -> list[keras.callbacks.Callback]:
        chosen: list[keras.callbacks.Callback] = [] if checkpoints is None else [Checkpoints(checkpoints / name)]
        if progress is not None:
            tell = progress
            chosen.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: tell(name, epoch + 1, dict(logs or {}))))
        return chosen

    if recipe.initial == "pretrained":
        trainer = _trainer(_own(parts), recipe, NO_DEFENCE, train)
        logs = trainer.evaluate(batches(test, 256), return_dict=True, verbose=0)
        undefended, history = trainer.partition, {f"val_{key}": [float(value)] for key, value in logs.items()}
    else:
        undefended, history = _fit(parts, train, test, recipe, NO_DEFENCE, callbacks("undefended"))
    start, teacher = (parts, None) if defence.distillation is None else (undefended, undefended)
    defended, defended_history = _fit(start, train, test, recipe, defence, callbacks("defended"), recipe.initial, teacher)
    return TrainedPair(undefended, defended, history, defended_history)


def check_pair(parts: Partition, train: Samples | Stream, test: Samples) -> None:
    """Raises `TrainingError`, before anything is trained, for what `train_pair` cannot train."""
    task_loss(parts.model, train.held.x)  # raises for models whose loss it cannot guess
    _check_labels(parts.model, train, test)


def _fit(
    parts: Partition,
    train: Samples | Stream,
    test: Samples,
    recipe: Recipe,
    defence: Defence,
    callbacks: Sequence[keras.callbacks.Callback],
    initial: str | None = None,
    teacher: Partition | None = None,
) -> tuple[Partition, dict[str, list[float]]]:
    """One of the two trainings: the trained copy, and its logs per epoch."""
    keras.utils.set_random_seed(recipe.seed)
    started = _narrowed(_own(parts), defence, train.held, teacher is not None or initial == "pretrained")
    trainer = _trainer(started, recipe, defence, train, initial, teacher)
    restarts = [] if defence.restart_every is None else [RestartAdversaries(defence.restart_every, recipe.seed)]
    kept = next((callback for callback in callbacks if isinstance(callback, Checkpoints)), None)
    done = 0 if kept is None else kept.done
    course = (recipe.batch_size, recipe.seed, done, recipe.epochs)
    history = trainer.fit(
        train.epochs(*course) if isinstance(train, Stream) else epochs_of(train, *course),
        validation_data=batches(test, 256),
        epochs=recipe.epochs,
        initial_epoch=done,
        steps_per_epoch=_steps(train, recipe),
        callbacks=[*restarts, *callbacks],
        shuffle=False,  # the data set shuffles itself
        verbose=0,
    )
    if kept is not None:
        return trainer.partition, kept.history()
    return trainer.partition, {key: [float(v) for v in values] for key, values in history.history.items()}


def _trainer(
    parts: Partition,
    recipe: Recipe,
    defence: Defence,
    train: Samples | Stream,
    initial: str | None = None,
    teacher: Partition | None = None,
) -> AdversarialTrainer:
    trainer = AdversarialTrainer(
        parts,
        defence.adversaries,
        defence.channel,
        regularizers=defence.regularizers,
        pool=defence.pool,
        initial=initial,
        teacher=teacher,
        distillation=None if teacher is None else defence.distillation,
    )
    averaging = {} if recipe.average is None else {"use_ema": True, "ema_momentum": recipe.average}
    steps = recipe.epochs * _steps(train, recipe)
    trainer.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps), **averaging),
        adversary_optimizer=keras.optimizers.Adam(recipe.adversary_learning_rate),
        loss=task_loss(parts.model, train.held.x, recipe.label_smoothing),
        metrics=[task_accuracy(parts.model, train.held.x)],
        mode=defence.mode,
    )
    return trainer


def _steps(train: Samples | Stream, recipe: Recipe) -> int:
    """Of an epoch."""
    return -(-len(train) // recipe.batch_size)


def _narrowed(parts: Partition, defence: Defence, train: Samples, trained: bool) -> Partition:
    """With the defence's bottleneck; of a trained model it starts at what crosses."""
    if defence.bottleneck is None:
        return parts
    over, activation = defence.bottleneck_over, defence.bottleneck_activation
    if not trained:
        return with_bottleneck(parts, defence.bottleneck, over, expand=defence.expand, activation=activation)
    known = train[:_EXAMPLES]
    labels = known.targets.get(TASK) if (over, activation) == ("example", "softmax") else None
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.max() >= defence.bottleneck:
        labels = None
    return with_bottleneck(parts, defence.bottleneck, over, given_to(parts.device, known.x), defence.expand, activation, labels)


def _own(parts: Partition) -> Partition:
    """The same cut of a copy of the whole model: halves that share its weights, also where those of `parts` were loaded apart."""
    return cut(parts.model, at=list(parts.boundary.sources), public_inputs=parts.public_inputs, independent=True)


def _check_labels(model: keras.Model, train: Samples | Stream, test: Samples) -> None:
    classes = count_classes(model)
    for name, samples in (("training", train), ("test", test)):
        labels = samples.targets[TASK]
        wrong = labels[(labels < 0) | (labels >= classes)]
        if len(wrong):
            raise TrainingError(
                f"Received the label {wrong[0]} in the {name} data; expected 0 to {classes - 1}, for the model's output "
                f"{model.layers[-1].name!r} has {classes} classes. Choose another task, or a model with more outputs."
            )


def _own_config(channel: Channel) -> dict[str, Any]:
    config = {key: value for key, value in channel.get_config().items() if key not in ("name", "trainable", "dtype")}
    if not config.get("warmup"):
        config.pop("warmup", None)  # it came late, and 0 is what was before
    return config
