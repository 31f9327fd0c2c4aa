"""Goals: what the halves do about an adversary. By default they undo what it learns (`Reversal`); others pull its answer somewhere.

`Reversal` costs nothing: the halves follow the adversary's own gradient, turned round. Every other goal is a loss of its own, and takes a
second pass back through the adversary's network.
"""

from __future__ import annotations

import abc
from typing import Any

import keras
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.channels import PACKAGE
from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms import objectives

_DISTANCES = {"mse": objectives.mse, "l1": objectives.l1}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Reversal:
    """Gradient reversal: the halves raise the adversary's error, per example, until it is as bad as a guess.

    Args:
        threshold: the error at which the halves stop, in the adversary's own units. By default that of the best guess that ignores
            the boundary. The penalty is the share `1 - error / threshold`, at least 0.
        bounded: whether they stop at all. Unbounded, the penalty is `-error`: the classical form, which rewards an inverted image.

    References:
        Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016.
    """

    def __init__(self, threshold: float | None = None, bounded: bool = True) -> None:
        if threshold is not None:
            threshold = arguments.number("threshold", threshold, TrainingError, positive=True, advice="Use None for the guess's error.")
        if threshold is not None and not bounded:
            raise TrainingError(f"Received threshold={threshold!r} with bounded=False; expected one of them. Leave bounded=True.")
        self.threshold = threshold
        self.bounded = bool(bounded)

    def slope(self, error: Any, ignorant_error: Any) -> tf.Tensor:
        """Slope `[batch]` of the penalty by the error, 0 where the halves have nothing left to do or the error is not finite."""
        limit = ignorant_error if self.threshold is None else tf.fill(tf.shape(error), tf.constant(self.threshold, error.dtype))
        limit = tf.maximum(limit, tf.constant(1e-6, error.dtype))
        if not self.bounded:
            return tf.where(tf.math.is_finite(error), -tf.ones_like(error), tf.zeros_like(error))
        return tf.where(error < limit, -1.0 / limit, tf.zeros_like(error))

    def get_config(self) -> dict[str, Any]:
        return {"threshold": self.threshold, "bounded": self.bounded}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Reversal:
        return cls(**config)


class Goal(keras.losses.Loss):
    """Base of goals with a loss of their own: of the adversary's prediction `y_pred` and what it should be, `y_true`.

    Being a `keras.losses.Loss`, it takes the mean over the batch and the replicas right.
    """

    # Whether the loss is divided by the best guess's error, so that a perfect attacker costs about 1, in whatever units.
    relative = False

    def __init__(self, name: str) -> None:
        super().__init__(name=name)

    @abc.abstractmethod
    def aim(self, target: Any, task: Any) -> tf.Tensor:
        """`y_true`: what the prediction shall become, from the adversary's target and the task's, both `[batch, ...]`."""

    @abc.abstractmethod
    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        """The loss, `[batch]`."""

    def get_config(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Goal:
        return cls(**config)


@keras.saving.register_keras_serializable(package=PACKAGE)
class Dissimilarity(Goal):
    """Makes the reconstruction structurally unlike the image: the mean of |SSIM|.

    The absolute value matters: without it an inverted image is rewarded, which shows as much.
    """

    def __init__(self) -> None:
        super().__init__("dissimilarity")

    def aim(self, target: Any, task: Any) -> tf.Tensor:
        return target

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        return tf.abs(objectives.ssim(y_true, y_pred))


class _Pull(Goal):
    """Pulls predictions towards a mean; the loss is relative to the best guess's error."""

    relative = True

    def __init__(self, name: str, distance: str) -> None:
        super().__init__(name)
        if distance not in _DISTANCES:
            raise TrainingError(f"Received distance={distance!r}; expected one of {', '.join(_DISTANCES)}. Choose one of them.")
        self.distance = distance

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        return _DISTANCES[self.distance](y_true, y_pred)


@keras.saving.register_keras_serializable(package=PACKAGE)
class PullToMean(_Pull):
    """Makes the prediction the mean of all (other) examples: what a guess says. Bounded, with its best at the guess.

    Args:
        distance: `"mse"` or `"l1"`.
    """

    def __init__(self, distance: str = "mse") -> None:
        super().__init__("pull_to_mean", distance)

    def aim(self, target: Any, task: Any) -> tf.Tensor:
        return objectives.mean_of_others(target)

    def get_config(self) -> dict[str, Any]:
        return {"distance": self.distance}


@keras.saving.register_keras_serializable(package=PACKAGE)
class PullToClassMean(_Pull):
    """Makes the prediction the mean of the (other) examples of the same task class: what the task's answer tells anyway.

    Args:
        classes: how many classes the task has; its targets must be whole numbers from 0.
        distance: `"mse"` or `"l1"`.
    """

    def __init__(self, classes: int, distance: str = "mse") -> None:
        super().__init__("pull_to_class_mean", distance)
        self.classes = arguments.whole("classes", classes, TrainingError, advice="Give the number of the task's classes.")

    def aim(self, target: Any, task: Any) -> tf.Tensor:
        return objectives.class_mean_of_others(target, class_labels(task, "PullToClassMean"), self.classes)

    def get_config(self) -> dict[str, Any]:
        return {"classes": self.classes, "distance": self.distance}


@keras.saving.register_keras_serializable(package=PACKAGE)
class MaximumEntropy(Goal):
    """Makes a classifier's prediction uniform (`objectives.max_entropy_gap`)."""

    def __init__(self) -> None:
        super().__init__("maximum_entropy")

    def aim(self, target: Any, task: Any) -> tf.Tensor:
        return tf.cast(target, tf.float32)

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        return objectives.max_entropy_gap(y_pred)


@keras.saving.register_keras_serializable(package=PACKAGE)
class PredictPrior(Goal):
    """Makes a classifier's prediction the class frequencies of the batch: what a guess says (`objectives.prior_gap`).

    Args:
        classes: how many values the attribute has.
    """

    def __init__(self, classes: int = 2) -> None:
        super().__init__("predict_prior")
        self.classes = arguments.whole("classes", classes, TrainingError, least=2, advice="Give the attribute's classes.")

    def aim(self, target: Any, task: Any) -> tf.Tensor:
        frequencies = objectives.class_frequencies(target, self.classes)
        return tf.broadcast_to(frequencies, [tf.shape(target)[0], self.classes])

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        return objectives.prior_gap(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        return {"classes": self.classes}


def class_labels(task: Any, owner: str) -> tf.Tensor:
    """The task's target as class labels `[batch]`, int32; from one-hot rows as well.

    Raises:
        TrainingError: the targets are no classes.
    """
    if isinstance(task, (dict, list, tuple)) or task is None:
        raise TrainingError(f"Received {type(task).__name__} as the task's target; {owner} expects one array of class labels.")
    task = tf.convert_to_tensor(task)
    if task.shape.rank == 2 and task.shape[-1] != 1:
        return tf.argmax(task, axis=-1, output_type=tf.int32)
    if not task.dtype.is_integer and task.dtype != tf.bool:
        raise TrainingError(f"Received task targets of {task.dtype.name}; {owner} expects whole numbers from 0. Cast the labels to int32.")
    return tf.reshape(tf.cast(task, tf.int32), [-1])
