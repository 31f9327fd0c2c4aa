"""The task: the loss that fits a model's output, how often an answer is right, and plain training on the task alone."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_privpart.channels import PACKAGE
from keras_privpart.datasets import TASK, Samples
from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.input_kind import given_to
from keras_privpart.partitioning.partition import fresh_partition
from keras_privpart.several_inputs import Inputs

EPOCHS = 60
PATIENCE = 6
LEARNING_RATE = 1e-3
_BATCH, _BATCHES = 64, 32
_SHOWN = 256  # examples by which an output is told to be of probabilities


def unlabelled(samples: Samples) -> str | None:
    """Why a model cannot be trained on the task with such samples; None if it can."""
    labels = samples.targets.get(TASK)
    return f'there are no whole-number labels "{TASK}" [n] to train with' if labels is None or not _are_classes(labels) else None


def unscored(model: keras.Model) -> str | None:
    """Why nobody knows how to train such a model; None if it has one output `[batch, classes]`, or `[batch, 1]` for yes or no."""
    shapes = [list(t.shape) for t in model.outputs]
    one = len(shapes) == 1 and len(shapes[0]) == 2
    return None if one else f"the model has the outputs {shapes}; one of [batch, classes] can be trained"


def count_classes(model: keras.Model) -> int:
    """Classes that the labels of a model with one output may name: a single unit tells two."""
    return 2 if _is_binary(model) else int(model.outputs[0].shape[-1])


@keras.saving.register_keras_serializable(package=PACKAGE)
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of whole-number labels of which a share is spread over all classes.

    Args:
        label_smoothing: the share, 0 to 1.
        from_logits: whether answers are logits.

    References:
        Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016.
    """

    def __init__(self, label_smoothing: float, from_logits: bool, name: str = "smoothed_crossentropy", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing
        self.from_logits = from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """`[batch, ...]`, of labels `[batch, ...]` and answers `[batch, ..., classes]`."""
        labels = keras.ops.reshape(y_true, keras.ops.shape(y_pred)[:-1])
        rows = keras.ops.one_hot(keras.ops.cast(labels, "int32"), y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(rows, y_pred, self.from_logits, self.label_smoothing)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_smoothing": self.label_smoothing, "from_logits": self.from_logits}


def task_loss(model: keras.Model, x: np.ndarray, label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Cross-entropy that fits the model's output: of classes or a single unit, from probabilities or logits.

    Args:
        model: with one output `[batch, ..., classes]` or `[batch, 1]`.
        x: inputs `[n, ...]`; looked at only where the last layer does not say what it gives.
        label_smoothing: share of the labels that is spread over all classes: of the task alone, adversaries learn from labels as they are.

    Raises:
        TrainingError: the model has several outputs, whose loss nobody can guess.
    """
    from_logits = not _gives_probabilities(model, x)
    if _is_binary(model):
        return keras.losses.BinaryCrossentropy(from_logits=from_logits, label_smoothing=label_smoothing)
    if label_smoothing:
        return SmoothedCrossentropy(label_smoothing, from_logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def task_accuracy(model: keras.Model, x: np.ndarray) -> keras.metrics.Metric:
    """The metric `accuracy`, for the same outputs as `task_loss`: the largest entry, or the side of one half (of 0 for a logit)."""
    probabilities = _gives_probabilities(model, x)
    if _is_binary(model):
        return keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.5 if probabilities else 0.0)
    return keras.metrics.SparseCategoricalAccuracy(name="accuracy")


def correct(answer: list[np.ndarray], samples: Samples) -> np.ndarray | None:
    """Whether each answer names the task's class, `[n]` of 0 and 1.

    Args:
        answer: the outputs of the server half. One output `[n, classes]` is read by its largest entry, `[n, 1]` by the side of one
            half (of 0, where values outside [0, 1] show that it is a logit).
        samples: with the task's labels, whole numbers from 0.

    Returns:
        None where there is no such output or no such label: other tasks have no accuracy.
    """
    labels = samples.targets.get(TASK)
    if labels is None or len(answer) != 1 or answer[0].ndim != 2 or not _are_classes(labels):
        return None
    scores, labels = answer[0], np.asarray(labels).reshape(len(labels))
    if scores.shape[1] > 1:
        return (scores.argmax(axis=1) == labels).astype("float64")
    return ((scores[:, 0] > (0.5 if _in_unit(scores) else 0.0)) == (labels > 0)).astype("float64")


def learn_task(model: keras.Model, loss: keras.losses.Loss, train: Samples, held_out: Samples, most: int | None = None) -> int:
    """Trains a model on the task alone; returns for how many epochs.

    Adam at 0.001, at least 32 batches of at most 64 an epoch, at most `most` (60) epochs, ended after 6 without a lower validation loss;
    the best weights are kept.
    """
    model.compile(keras.optimizers.Adam(LEARNING_RATE), loss)
    stop = keras.callbacks.EarlyStopping(patience=PATIENCE, restore_best_weights=True)
    history = model.fit(
        given_to(model, train.x),
        np.asarray(train.targets[TASK]).reshape(len(train)),
        validation_data=(given_to(model, held_out.x), np.asarray(held_out.targets[TASK]).reshape(len(held_out))),
        batch_size=max(1, min(_BATCH, len(train) // _BATCHES)),
        epochs=EPOCHS if most is None else most,
        callbacks=[stop],
        verbose=0,
    )
    return len(history.epoch)


def trained_afresh(parts: Partition, train: Samples, held_out: Samples, seed: int) -> tuple[Partition, int]:
    """The same cut of the same architecture, without a channel, trained from new weights by `learn_task`; and for how many epochs.

    Raises:
        ModelError, CutError: as `fresh_partition`.
    """
    keras.utils.set_random_seed(seed)
    twin = fresh_partition(parts)
    return twin, learn_task(twin.model, task_loss(parts.model, train.x), train, held_out)


def _is_binary(model: keras.Model) -> bool:
    return len(model.outputs[0].shape) == 2 and model.outputs[0].shape[-1] == 1


def _gives_probabilities(model: keras.Model, x: np.ndarray) -> bool:
    if len(model.outputs) != 1:
        raise TrainingError(
            f"Received a model with {len(model.outputs)} outputs; expected one, whose loss can be guessed. Train it with "
            "AdversarialTrainer in Python."
        )
    said = gives_probabilities(model)
    if said is not None:
        return said
    outputs = np.asarray(model(given_to(model, x[:_SHOWN]), training=False))
    return _in_unit(outputs) and (_is_binary(model) or np.allclose(outputs.sum(axis=-1), 1.0, atol=1e-3))


def gives_probabilities(model: keras.Model) -> bool | None:
    """Whether a model's only output holds probabilities, by its last activation; None where the last layer does not say."""
    last = _last_activation(model)
    return None if last is None else last == ("sigmoid" if _is_binary(model) else "softmax")


def _last_activation(model: keras.Model) -> str | None:
    """Name of the activation that makes a model's only output; None where the last layer does not say."""
    calls = model.layers if isinstance(model, keras.Sequential) else model.operations
    last = next((call for call in reversed(calls) if not isinstance(call, keras.layers.Identity)), None)
    if isinstance(last, keras.Sequential) or (isinstance(last, keras.Model) and last.inputs):
        return _last_activation(last)
    if isinstance(last, keras.layers.Softmax):
        return "softmax"
    if isinstance(last, (keras.layers.Dense, keras.layers.Activation)):
        return str(getattr(last.activation, "__name__", ""))
    return None


def _in_unit(values: np.ndarray) -> bool:
    return bool(values.min() >= 0.0 and values.max() <= 1.0)


def _are_classes(labels: Any) -> bool:
    if isinstance(labels, Inputs):  # of several outputs
        return False
    labels = np.asarray(labels)
    return labels.size == len(labels) and (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool)
