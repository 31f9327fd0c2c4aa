"""How an adversary's weight changes over a training: serialisable functions of the step."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_privpart import arguments
from keras_privpart.channels import PACKAGE
from keras_privpart.errors import TrainingError

# What an adversary or a regulariser takes as its weight.
Weight = float | Callable[[Any], Any]


class WeightSchedule(abc.ABC):
    """Base of all schedules: a function from the number of finished steps of the halves to a weight of at least 0."""

    @abc.abstractmethod
    def __call__(self, step: Any) -> tf.Tensor:
        """Weight at `step`, a float32 scalar. `step` counts updates of the halves from 0, over epochs and resumed runs."""

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WeightSchedule:
        return cls(**config)


class _Ramp(WeightSchedule):
    """From `start` to `end` within `steps` steps, after `delay` steps at `start`."""

    def __init__(self, start: float, end: float, steps: int, delay: int = 0) -> None:
        self.start = arguments.number("start", start, TrainingError)
        self.end = arguments.number("end", end, TrainingError)
        self.steps = arguments.whole("steps", steps, TrainingError, advice="It counts batches.")
        self.delay = arguments.whole("delay", delay, TrainingError, least=0, advice="It counts batches.")

    def __call__(self, step: Any) -> tf.Tensor:
        done = tf.clip_by_value((tf.cast(step, tf.float32) - self.delay) / self.steps, 0.0, 1.0)
        return self.start + (self.end - self.start) * self.shape(done)

    @abc.abstractmethod
    def shape(self, done: tf.Tensor) -> tf.Tensor:
        """Share of the way from `start` to `end`, at a share `done` of the steps."""

    def get_config(self) -> dict[str, Any]:
        return {"start": self.start, "end": self.end, "steps": self.steps, "delay": self.delay}


@keras.saving.register_keras_serializable(package=PACKAGE)
class LinearWeight(_Ramp):
    """Straight from `start` to `end`. From 0 it is a warm-up: the adversary learns before the halves listen to it.

    Args:
        start, end: weights at the beginning and at the end.
        steps: batches from one to the other.
        delay: batches at `start` before that.

    Example:
        >>> float(LinearWeight(0.0, 2.0, steps=100, delay=50)(100))
        1.0
    """

    def shape(self, done: tf.Tensor) -> tf.Tensor:
        return done


@keras.saving.register_keras_serializable(package=PACKAGE)
class CosineWeight(_Ramp):
    """From `start` to `end` along half a cosine: slow at both ends.

    Args:
        start, end: weights at the beginning and at the end.
        steps: batches from one to the other.
        delay: batches at `start` before that.
    """

    def shape(self, done: tf.Tensor) -> tf.Tensor:
        return 0.5 - 0.5 * tf.cos(math.pi * done)


def checked_weight(weight: Any, name: str) -> Weight:
    """`weight` as a float, or as the callable it is; anything else raises `TrainingError`."""
    if callable(weight):
        return weight
    advice = "It may also be a schedule, such as LinearWeight(0.0, 1.0, steps=1000)."
    return arguments.number("weight", weight, TrainingError, owner=name, advice=advice)


def is_off(weight: Weight) -> bool:
    """Whether a weight is the number 0, so that nothing need be computed for it."""
    return not callable(weight) and weight == 0


def weight_at(weight: Weight, step: Any) -> tf.Tensor:
    """The weight at a step, as a float32 scalar."""
    return tf.cast(weight(step) if callable(weight) else weight, tf.float32)


def weight_config(weight: Weight) -> Any:
    """The weight for `get_config`. A plain function must be registered with `keras.saving.register_keras_serializable`."""
    return keras.saving.serialize_keras_object(weight) if callable(weight) else weight
