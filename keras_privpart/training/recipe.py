"""Trains a partition twice from the same weights: undefended, which is the ceiling of every audit, and defended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_privpart.channels import Channel
from keras_privpart.datasets import TASK, Samples, batches
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.cut import partition as cut
from keras_privpart.partitioning.halves import Partition
from keras_privpart.training.adversaries import Adversary
from keras_privpart.training.regularizers import Regularizer
from keras_privpart.training.trainer import AdversarialTrainer

# Called after every epoch: which half of the pair trains, the epoch from 1, its logs.
Progress = Callable[[str, int, dict[str, float]], None]


@dataclass(frozen=True)
class Recipe:
    """How to train: the same for both partitions of a pair, so that they compare.

    Attributes:
        epochs: of each of the two trainings.
        batch_size: examples a step.
        learning_rate: of Adam at the start; it falls to zero along a cosine.
        adversary_learning_rate: of the adversaries' Adam, constant, for their target moves.
        seed: of initial weights, order of the data, dropout and training noise.
        initial: `"pretrained"` takes the model for trained: the undefended partition stays as it is, and the defended one keeps its
            server half (`AdversarialTrainer`). By default both are trained.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    adversary_learning_rate: float = 1e-3
    seed: int = 0
    initial: str | None = None


@dataclass(frozen=True)
class TrainedPair:
    """Both trained partitions, and their logs an epoch."""

    undefended: Partition
    defended: Partition
    undefended_history: dict[str, list[float]]
    defended_history: dict[str, list[float]]


def task_loss(model: keras.Model) -> keras.losses.Loss:
    """Cross-entropy of whole-number labels; from logits unless the model ends in a softmax.

    Raises:
        TrainingError: the model has several outputs, for which a command line can't guess the loss.
    """
    if len(model.outputs) != 1:
        raise TrainingError(
            f"Received a model with {len(model.outputs)} outputs; expected one. Train it with AdversarialTrainer in Python."
        )
    last = model.layers[-1]
    softmax = isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) is keras.activations.softmax
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not softmax)


def train_pair(
    parts: Partition,
    train: Samples,
    test: Samples,
    recipe: Recipe,
    adversaries: Sequence[Adversary] = (),
    channel: Channel | None = None,
    progress: Progress | None = None,
    regularizers: Sequence[Regularizer] = (),
) -> TrainedPair:
    """Trains an undefended and a defended copy of `parts`; `parts` itself is left as it is.

    Args:
        parts: a plain partition, without a channel.
        train: what to train on; `test` only gives the logs' `val_` figures.
        recipe: how.
        adversaries: for the defended one.
        channel: for the defended one.
        progress: called after every epoch.
        regularizers: for the defended one.

    Raises:
        TrainingError: the model has several outputs, or a label is no class of the model's output.
    """
    _check_labels(parts.model, train, test)

    def fit(name: str, adversaries: Sequence[Adversary], channel: Channel | None) -> tuple[Partition, dict[str, list[float]]]:
        keras.utils.set_random_seed(recipe.seed)
        defended = name == "defended"
        trainer = AdversarialTrainer(
            _copied(parts),
            adversaries,
            channel,
            regularizers=regularizers if defended else (),
            initial=recipe.initial if defended else None,
        )
        steps = recipe.epochs * -(-len(train) // recipe.batch_size)
        trainer.compile(
            optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)),
            adversary_optimizer=keras.optimizers.Adam(recipe.adversary_learning_rate),
            loss=task_loss(parts.model),
            metrics=["accuracy"],
        )
        if recipe.initial == "pretrained" and not defended:
            logs = trainer.evaluate(batches(test, 256), return_dict=True, verbose=0)
            return trainer.partition, {f"val_{key}": [float(value)] for key, value in logs.items()}
        callbacks = []
        if progress is not None:
            report = progress
            callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: report(name, epoch + 1, dict(logs or {}))))
        history = trainer.fit(
            batches(train, recipe.batch_size, seed=recipe.seed),
            validation_data=batches(test, 256),
            epochs=recipe.epochs,
            callbacks=callbacks,
            shuffle=False,  # the data set shuffles itself
            verbose=0,
        )
        return trainer.partition, {key: [float(v) for v in values] for key, values in history.history.items()}

    undefended, undefended_history = fit("undefended", (), None)
    defended, defended_history = fit("defended", adversaries, channel)
    return TrainedPair(undefended, defended, undefended_history, defended_history)


def _copied(parts: Partition) -> Partition:
    """The same cut of a copy of the whole model: its halves and its `model` share weights, as those of any partition."""
    model = keras.models.clone_model(parts.model)
    model.set_weights(parts.model.get_weights())
    return cut(model, at=list(parts.boundary.sources), public_inputs=parts.public_inputs)


def _check_labels(model: keras.Model, train: Samples, test: Samples) -> None:
    classes = model.outputs[0].shape[-1]
    for name, samples in (("training", train), ("test", test)):
        labels = samples.targets[TASK]
        wrong = labels[(labels < 0) | (labels >= classes)]
        if len(wrong):
            raise TrainingError(
                f"Received the label {wrong[0]} in the {name} data; expected 0 to {classes - 1}, for the model's output "
                f"{model.output_names[0]!r} has {classes} classes. Choose another task, or a model with more outputs."
            )


def describe(adversaries: Sequence[Adversary], channel: Channel | None) -> dict[str, Any]:
    """The defence as JSON-able configurations, for a run's record."""
    return {
        "adversaries": [{"class": type(a).__name__, **a.get_config()} for a in adversaries],
        "channel": None if channel is None else {"class": type(channel).__name__, **_own_config(channel)},
    }


def _own_config(channel: Channel) -> dict[str, Any]:
    return {key: value for key, value in channel.get_config().items() if key not in ("name", "trainable", "dtype")}
