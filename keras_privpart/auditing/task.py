"""The task itself: how often the answer is right, and the undefended twin that shows what no defence would leak."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from keras_privpart.auditing.knowledge.views import BATCH
from keras_privpart.datasets import TASK, Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.partition import partition as cut

EPOCHS = 60
PATIENCE = 6
_BATCH, _BATCHES = 64, 32
_LEARNING_RATE = 1e-3
HINT = "Train an undefended partition yourself and give it as reference=."


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


def undefended_twin(partition: Partition, train: Samples, held_out: Samples, seed: int) -> tuple[Partition, str]:
    """The same architecture with fresh weights, trained on the task alone, cut at the same place, without a channel.

    Plain training: Adam at 0.001, at most 60 epochs of at least 32 batches of at most 64, ended after 6 epochs without a
    lower validation loss, best weights kept. The loss follows the output: cross-entropy for classes (of logits or probabilities,
    whichever the model gives), binary cross-entropy for a single unit.

    Returns:
        The twin and a sentence that says how it was made.

    Raises:
        AuditError: the model has several outputs, the labels are not whole numbers `[n]`, or the model cannot be copied or cut again.
            Then give `reference=`.
    """
    reason = unlabelled(train) or unscored(partition.model)
    if reason is not None:
        raise AuditError(f"An undefended twin can't be trained: {reason}. {HINT}")
    twin = fresh_copy(partition, seed)
    epochs = learn_task(twin.model, task_loss(partition.model, train), train, held_out)
    return twin, f"an undefended twin trained by the audit on the task alone ({epochs} epochs, Adam at {_LEARNING_RATE}, early stopping)"


def fresh_copy(partition: Partition, seed: int) -> Partition:
    """The same architecture with fresh weights, cut at the same place, without a channel.

    Raises:
        AuditError: the model cannot be copied or cut again.
    """
    sources = list(partition.boundary.sources)
    if not all(sources):
        raise AuditError(f"Received a boundary that does not say where the model was cut; expected the tensors' addresses. {HINT}")
    try:
        keras.utils.set_random_seed(seed)
        return cut(keras.models.clone_model(partition.model), sources, public_inputs=partition.public_inputs)
    except Exception as error:  # copying runs the constructors of the user's own layers, which raise whatever they like
        reason = str(error).strip().split("\n", 1)[0]
        raise AuditError(f"The model cannot be copied and cut again for an undefended twin: {reason} {HINT}") from error


def learn_task(model: keras.Model, loss: keras.losses.Loss, train: Samples, held_out: Samples, most: int | None = None) -> int:
    """Trains a model on the task alone, as `undefended_twin` says; returns for how many epochs, of `most` (60)."""
    model.compile(keras.optimizers.Adam(_LEARNING_RATE), loss)
    stop = keras.callbacks.EarlyStopping(patience=PATIENCE, restore_best_weights=True)
    history = model.fit(
        train.x,
        np.asarray(train.targets[TASK]).reshape(len(train)),
        validation_data=(held_out.x, np.asarray(held_out.targets[TASK]).reshape(len(held_out))),
        batch_size=max(1, min(_BATCH, len(train) // _BATCHES)),
        epochs=EPOCHS if most is None else most,
        callbacks=[stop],
        verbose=0,
    )
    return len(history.epoch)


def unlabelled(samples: Samples) -> str | None:
    """Why a model cannot be trained on the task with such samples; None if it can."""
    labels = samples.targets.get(TASK)
    return f'there are no whole-number labels "{TASK}" [n] to train with' if labels is None or not _are_classes(labels) else None


def unscored(model: keras.Model) -> str | None:
    """Why the audit does not know how to train such a model; None if it does."""
    shapes = [list(t.shape) for t in model.outputs]
    one = len(shapes) == 1 and len(shapes[0]) == 2
    return None if one else f"the model has the outputs {shapes}; one of [batch, classes] can be trained"


def task_loss(model: keras.Model, train: Samples) -> keras.losses.Loss:
    """Cross-entropy that fits the model's output: of classes or a single unit, logits or probabilities."""
    outputs = np.asarray(model(train.x[:BATCH], training=False))
    if outputs.shape[1] == 1:
        return keras.losses.BinaryCrossentropy(from_logits=not _in_unit(outputs))
    sums_to_one = _in_unit(outputs) and np.allclose(outputs.sum(axis=1), 1.0, atol=1e-3)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=not sums_to_one)


def _in_unit(values: np.ndarray) -> bool:
    return bool(values.min() >= 0.0 and values.max() <= 1.0)


def _are_classes(labels: Any) -> bool:
    labels = np.asarray(labels)
    return labels.size == len(labels) and (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool)
