"""How well the task is done where accuracy does not say: regression, several labels or outputs, segmentation, a measure of your own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_privpart.auditing.scoring import metrics
from keras_privpart.auditing.scoring.intervals import Score, score_of, score_of_whole
from keras_privpart.datasets import TASK, Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.graphs.graph import output_names
from keras_privpart.several_inputs import Inputs

# From truth and answers of one output, each `[n, ...]`, to a number for every example `[n]`, or to one for all.
Measure = Callable[[np.ndarray, np.ndarray], Any]
Metric = str | Measure | Mapping[str, Any] | None  # a Keras metric is a `Measure` to Python


def accuracy(truth: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Share of right classes of each example, `[n]`: of labels `[n, ...]` or one-hot rows, and scores `[n, ..., classes]` or `[n, 1]`."""
    if answers.shape[-1] == 1:
        truth = truth.reshape(answers.shape[:-1])
        right = (answers[..., 0] > _threshold(answers)) == (truth > 0.5)
    else:
        labels = truth.argmax(axis=-1) if truth.shape == answers.shape else truth.reshape(answers.shape[:-1])
        right = answers.argmax(axis=-1) == labels
    return _each(right)


def absolute_error(truth: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Mean absolute error of each example, `[n]`, in the target's units: lower is better."""
    return _each(np.abs(truth.astype("float64").reshape(answers.shape) - answers))


def squared_error(truth: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Mean squared error of each example, `[n]`: lower is better."""
    return _each(np.square(truth.astype("float64").reshape(answers.shape) - answers))


def label_auc(truth: np.ndarray, answers: np.ndarray) -> float:
    """Area under the ROC curve, averaged over the labels `[n, labels]` that vary."""
    truth, answers = truth.reshape(len(truth), -1) > 0.5, answers.reshape(len(answers), -1)
    found = [metrics.auc(t, a) for t, a in zip(truth.T, answers.T, strict=True) if t.any() and not t.all()]
    return float(np.mean(found)) if found else float("nan")


def mean_iou(truth: np.ndarray, answers: np.ndarray) -> float:
    """Intersection over union of the classes' areas, averaged over the classes that occur: of labels `[n, h, w]` and scores per place.

    References:
        Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2010.
    """
    if answers.shape[-1] == 1:
        named, labels = (answers[..., 0] > _threshold(answers)).astype(int), (truth.reshape(answers.shape[:-1]) > 0.5).astype(int)
    else:
        named = answers.argmax(axis=-1)
        labels = (truth.argmax(axis=-1) if truth.shape == answers.shape else truth.reshape(named.shape)).astype(int)
    classes = np.union1d(named, labels)
    shares = [np.sum((named == c) & (labels == c)) / np.sum((named == c) | (labels == c)) for c in classes]
    return float(np.mean(shares))


MEASURES: dict[str, tuple[str, Measure]] = {
    "accuracy": ("accuracy", accuracy),
    "mae": ("mean absolute error", absolute_error),
    "mse": ("mean squared error", squared_error),
    "auc": ("AUC, mean of labels", label_auc),
    "iou": ("mean IoU", mean_iou),
}
_COMPILED = {
    "acc": "accuracy",
    "mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "sparse_categorical_accuracy": "accuracy",
    "categorical_accuracy": "accuracy",
}


def utilities(
    model: keras.Model, samples: Samples, looks: Sequence[Sequence[np.ndarray]], metric: Metric, seed: int, models: int
) -> dict[str, Score]:
    """How well the task is done, by name of the measure, with that of the output where there are several.

    Args:
        model: whose outputs and compiled metrics are looked at.
        samples: the victims; `"task"` are labels `[n, ...]`, or several by output name.
        looks: the outputs of every look, model by model.
        metric: what to measure: a name among `MEASURES`, a Keras metric, or a function of truth and answers, or such by output name. None
            for what the model was compiled with, where that is a metric, and else for what fits labels and outputs.
        seed: of the resamples.
        models: how many models the looks are of.

    Raises:
        AuditError: an unknown name, or a measure that cannot be taken of these outputs.
    """
    names, truths = output_names(model), _truths(model, samples)
    found = {}
    for i, (name, truth) in enumerate(zip(names, truths, strict=True)):
        if truth is None:
            continue
        wanted = metric.get(name) if isinstance(metric, Mapping) else metric
        chosen = _named(wanted) if wanted is not None else _compiled(model, name, len(names)) or fitting(truth, looks[0][i])
        if chosen is None:
            continue
        title, measure = chosen
        try:
            found[title if len(names) == 1 else f"{title} of {name}"] = _scored(measure, truth, [look[i] for look in looks], seed, models)
        except (ValueError, TypeError, IndexError) as error:
            raise AuditError(
                f"Received metric={title!r} for labels {list(truth.shape[1:])} and outputs {list(looks[0][i].shape[1:])}, which it cannot "
                f"measure: {error}. Give one that fits: {', '.join(MEASURES)}, a Keras metric, or a function of truth and answers."
            ) from error
    return found


def fitting(truth: np.ndarray, answers: np.ndarray) -> tuple[str, Measure] | None:
    """The measure that labels and outputs call for, with its name; None where they do not go together."""
    same = truth.size == answers.size
    whole = truth.dtype.kind in "iub"
    binary = same and bool(np.isin(truth, (0, 1)).all())
    places = answers.ndim > 2
    if binary and answers.shape[-1] == 1:
        return MEASURES["iou" if places else "accuracy"]
    if binary and not places:
        one_hot = answers.shape[-1] > 1 and bool((truth.reshape(answers.shape).sum(axis=-1) == 1).all())
        return MEASURES["accuracy" if one_hot else "auc"]
    if same and not (whole and binary):
        return MEASURES["mae"]
    if truth.size * answers.shape[-1] == answers.size and np.array_equal(truth, np.round(truth)):
        return MEASURES["iou" if answers.ndim > 3 else "accuracy"]
    return None


def _truths(model: keras.Model, samples: Samples) -> list[np.ndarray | None]:
    """Labels of every output; None for those that have none."""
    names, given = output_names(model), samples.targets.get(TASK)
    if isinstance(given, Inputs):
        arrays = given.renamed(names).arrays if len(given.arrays) == len(names) else given.arrays
        return [arrays.get(name) for name in names]
    return [None if given is None else np.asarray(given)] if len(names) == 1 else [None] * len(names)


def _named(wanted: Any) -> tuple[str, Measure]:
    if isinstance(wanted, str):
        if wanted not in MEASURES:
            raise AuditError(
                f"Received metric={wanted!r}; expected one of {', '.join(MEASURES)}, a Keras metric, or a function of truth and answers."
            )
        return MEASURES[wanted]
    if isinstance(wanted, keras.metrics.Metric):
        return wanted.name, _KerasMeasure(wanted)
    if not callable(wanted):
        raise AuditError(f"Received metric={wanted!r}; expected a name, a Keras metric, or a function of truth and answers. Give one.")
    return getattr(wanted, "__name__", type(wanted).__name__), wanted


def _compiled(model: keras.Model, output: str, outputs: int) -> tuple[str, Measure] | None:
    """The first metric that a model was compiled with, of an output; None where there is none."""
    config = (model.get_compile_config() if model.compiled else None) or {}
    listed = config.get("metrics")
    if isinstance(listed, Mapping) and "class_name" not in listed:
        listed = listed.get(output)
    elif outputs > 1:
        return None  # which belongs to which is Keras' to know
    while isinstance(listed, (list, tuple)):
        listed = listed[0] if listed else None
    if isinstance(listed, str):
        name = _COMPILED.get(listed, listed)
        return MEASURES.get(name)
    metric = keras.saving.deserialize_keras_object(listed) if isinstance(listed, Mapping) else None
    return _named(metric) if isinstance(metric, keras.metrics.Metric) else None


class _KerasMeasure:
    """A Keras metric as a function of all examples, from a state of its own."""

    def __init__(self, metric: keras.metrics.Metric) -> None:
        self._metric = metric.__class__.from_config(metric.get_config())

    def __call__(self, truth: np.ndarray, answers: np.ndarray) -> float:
        self._metric.reset_state()
        self._metric.update_state(truth, answers)
        return float(keras.ops.convert_to_numpy(self._metric.result()))


def _scored(measure: Measure, truth: np.ndarray, looks: Sequence[np.ndarray], seed: int, models: int) -> Score:
    values = [np.asarray(measure(truth, answers), "float64") for answers in looks]
    if all(value.shape == (len(truth),) for value in values):
        return score_of(values, seed, models)
    if any(value.ndim for value in values):
        raise ValueError(f"it gave an array of shape {list(values[0].shape)}, where one number, or one an example, is wanted")
    return score_of_whole(lambda rows: [float(measure(truth[rows], answers[rows])) for answers in looks], len(truth), seed, models)


def _each(values: np.ndarray) -> np.ndarray:
    mean: np.ndarray = values.reshape(len(values), -1).astype("float64").mean(axis=1)
    return mean


def _threshold(scores: np.ndarray) -> float:
    """One half of probabilities, 0 of logits."""
    return 0.5 if scores.min() >= 0 and scores.max() <= 1 else 0.0
