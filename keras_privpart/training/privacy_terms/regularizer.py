"""`Regularizer`: what all privacy terms without an adversary have in common."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras

from keras_privpart.contract import Boundary
from keras_privpart.training.privacy_terms.schedules import Weight, checked_weight, weight_config


@dataclass(frozen=True)
class Crossing:
    """What a regulariser may look at: one batch on its way across the boundary.

    Attributes:
        x: the device half's input.
        boundary: the boundary's tensors, each `[batch, ...]`, as they cross, channel included.
        task: the task's target.
        private: the private attributes by name.
        step: how many steps the halves have made.
        input_gradient: from tensors of the boundary, and one of the same shape for each, to the gradient, by `x`, of the sum of their
            products.
        training: whether the halves learn from it; else nothing that is kept changes.
        state: what the regulariser keeps from batch to batch, see `Regularizer.state`.
    """

    x: Any
    boundary: list[Any]
    task: Any
    private: Mapping[str, Any]
    step: Any
    input_gradient: Callable[[list[Any], list[Any]], Any] | None = None
    training: bool = True
    state: Any = None


class Regularizer(abc.ABC):
    """Base of all regularisers: the halves minimise the task's loss plus `weight` times the penalty.

    Under `tf.distribute` every replica takes the penalty over its own part of the batch.

    Args:
        weight: a number or a function of the step (`schedules`). 0 leaves the halves exactly as plain training would.
        name: names its metric.
    """

    # Whether `Crossing.input_gradient` is wanted, which costs a second pass back through the device half.
    needs_input_gradient = False

    def __init__(self, weight: Weight, name: str) -> None:
        self.weight = checked_weight(weight, name)
        self.name = name

    def state(self, boundary: Boundary) -> keras.layers.Layer | None:
        """What is kept from batch to batch, as the weights of a layer that a trainer holds; None where nothing is."""
        return None

    @abc.abstractmethod
    def penalty(self, crossing: Crossing) -> Any:
        """The penalty of a batch, a float32 scalar."""

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"weight": weight_config(self.weight), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        weight = config["weight"]
        if isinstance(weight, dict):
            config = {**config, "weight": keras.saving.deserialize_keras_object(weight)}
        return cls(**config)
