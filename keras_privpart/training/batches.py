"""A batch as `fit` gives it, taken apart: the task's target, the private attributes, the weights of examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart.datasets import TASK
from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms.goals import class_labels

EMPTY = "Received an empty data set; expected at least one batch. Check the filters and the splits that made it."


def split_targets(y: Any) -> tuple[Any, dict[str, Any]]:
    """The task's target and the private attributes.

    Raises:
        TrainingError: there are no targets, or named ones without `"task"`.
    """
    if y is None:
        raise TrainingError(f'Received no targets; expected (x, y) or (x, {{"{TASK}": y, ...}}).')
    if not isinstance(y, Mapping):
        return y, {}
    if TASK not in y:
        raise TrainingError(f"Received the targets {sorted(y)}; expected the key {TASK!r} among them.")
    return y[TASK], {key: value for key, value in y.items() if key != TASK}


def with_class_weight(task: Any, sample_weight: Any, class_weight: Mapping[int, float] | None) -> Any:
    """Weights `[batch]` of the examples, by their task class where there are class weights; classes not named count 1.

    Raises:
        TrainingError: both kinds of weights.
    """
    if class_weight is None:
        return sample_weight
    if sample_weight is not None:
        raise TrainingError("Received class_weight and sample weights; expected one of them. Multiply them into the sample weights.")
    classes = 1 + max(class_weight)
    table = tf.constant([float(class_weight.get(i, 1.0)) for i in range(classes + 1)])  # the last one for all classes above
    return tf.gather(table, tf.minimum(class_labels(task, "class_weight"), classes))


def check_not_empty(x: Any) -> None:
    """Raises `TrainingError` for a data set, or arrays, known to hold nothing."""
    if isinstance(x, tf.data.Dataset):
        empty = int(x.cardinality()) == 0
    else:
        empty = any(isinstance(a, (np.ndarray, tf.Tensor)) and len(a.shape) > 0 and a.shape[0] == 0 for a in tf.nest.flatten(x))
    if empty:
        raise TrainingError(EMPTY)
