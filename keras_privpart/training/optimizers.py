"""Optimizers of the adversaries: a common one, and own ones for those that step on their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_privpart.training.privacy_terms.adversaries import Adversary


def copied(optimizer: keras.optimizers.Optimizer | str) -> keras.optimizers.Optimizer:
    """A new optimizer of the same configuration, for an optimizer or its name."""
    optimizer = keras.optimizers.get(optimizer)
    return type(optimizer).from_config(optimizer.get_config())


def wrapped(optimizer: keras.optimizers.Optimizer, policy: str) -> keras.optimizers.Optimizer:
    """With loss scaling where the dtype policy needs it: `compile` of Keras does that for the trainer's own optimizer only."""
    if policy != "mixed_float16" or isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, name="loss_scale_optimizer")


def own(
    adversaries: Sequence[Adversary], common: keras.optimizers.Optimizer, steps: Sequence[int], policy: str
) -> list[keras.optimizers.Optimizer | None]:
    """For each adversary an optimizer of its own, or `None` where the common one serves.

    One with steps of its own needs its own: a common optimizer would count the steps of the others as well.

    Args:
        adversaries: of the trainer.
        common: the trainer's `adversary_optimizer`.
        steps: how many steps each makes on a detached boundary.
        policy: name of the trainer's dtype policy.
    """
    needed = [a.optimizer is not None or n > 0 for a, n in zip(adversaries, steps, strict=True)]
    chosen = [common if a.optimizer is None else a.optimizer for a in adversaries]
    return [wrapped(copied(c), policy) if n else None for c, n in zip(chosen, needed, strict=True)]


def inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer within loss scaling, or itself."""
    return optimizer.inner_optimizer if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) else optimizer


def loss_scale(optimizer: keras.optimizers.Optimizer) -> Any:
    """What the optimizer wants its loss multiplied by; the number 1.0 without loss scaling."""
    if inner(optimizer) is optimizer and optimizer.loss_scale_factor is None:
        return 1.0
    return tf.convert_to_tensor(optimizer.scale_loss(tf.ones([])))


def scaled(loss: Any, scale: Any) -> Any:
    """`loss * scale`, untouched where the scale is the number 1.0."""
    return loss if isinstance(scale, float) and scale == 1.0 else loss * scale


def reset(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Puts an optimizer back to its first step; its learning rate stays."""
    fresh = copied(optimizer)
    fresh.build(variables)
    learning_rate = optimizer.learning_rate
    for old, new in zip(optimizer.variables, fresh.variables, strict=True):
        if old is not learning_rate:
            old.assign(new)
