"""A batch as `fit` gives it, taken apart: the task's target, the private attributes, the weights of examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.datasets import TASK
from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms.goals import class_labels

EMPTY = "Received an empty data set; expected at least one batch. Check the filters and the splits that made it."


def split_targets(y: Any, model: keras.Model | None = None) -> tuple[Any, dict[str, Any]]:
    """The task's target and the private attributes.

    Args:
        y: what `fit` gives.
        model: the whole one; where it has several outputs, their names may stand in place of `"task"`.

    Raises:
        TrainingError: there are no targets, or named ones without `"task"`.
    """
    if y is None:
        raise TrainingError(f'Received no targets; expected (x, y) or (x, {{"{TASK}": y, ...}}).')
    if not isinstance(y, Mapping):
        return y, {}
    outputs = [] if model is None or TASK in y else _output_names(model)
    if model is not None and len(outputs) > 1 and set(outputs) <= set(y):
        task = {name: y[name] for name in outputs} if isinstance(model.output, Mapping) else [y[name] for name in outputs]
        return task, {key: value for key, value in y.items() if key not in outputs}
    if TASK not in y:
        raise TrainingError(f"Received the targets {sorted(y)}; expected the key {TASK!r} among them{_or_outputs(outputs)}.")
    return y[TASK], {key: value for key, value in y.items() if key != TASK}


def with_text(y: Any) -> Any:
    """Targets by name with text as objects: Keras makes tensors of such arrays only."""
    if not isinstance(y, Mapping):
        return y
    return {key: _text(value) for key, value in y.items()}


def _text(value: Any) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "SU":
        return value
    return (np.char.decode(value) if value.dtype.kind == "S" else value).astype(object)


def _output_names(model: keras.Model) -> list[str]:
    return list(model.output) if isinstance(model.output, Mapping) else list(model.output_names)


def _or_outputs(outputs: list[str]) -> str:
    return f", or those of all outputs, {outputs}" if len(outputs) > 1 else ""


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
