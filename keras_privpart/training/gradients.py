"""Where gradients go in the fused step: from each reader of the boundary, through the boundary, into the device half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from keras_privpart.training.privacy_terms import replica_sums
from keras_privpart.training.privacy_terms.adversaries import Adversary
from keras_privpart.training.privacy_terms.goals import Reversal


@dataclass
class Reading:
    """What one adversary makes of one view of the boundary.

    Attributes:
        adversary: whose it is.
        view: the tensors it reads, a name of its own for the boundary's.
        target: what it should have said.
        error: its loss `[batch]`.
        ignorant_error: the best guess's loss `[batch]`.
        goal_loss: of a goal that is not `Reversal`, a scalar; else `None`.
        tape: has seen the way from `view` to `goal_loss`.
    """

    adversary: Adversary
    view: list[Any]
    target: Any
    error: tf.Tensor
    ignorant_error: tf.Tensor
    goal_loss: Any = None
    tape: tf.GradientTape | None = field(default=None, repr=False)


def read(adversary: Adversary, network: Any, view: list[Any], target: Any, task: Any, *, training: bool, goal: bool) -> Reading:
    """Lets an adversary read a view of the boundary.

    Args:
        adversary, network: who reads.
        view: the boundary's tensors.
        target: what it should say.
        task: the task's target, for goals that want it.
        training: whether its network runs in training mode.
        goal: whether a goal that is not `Reversal` shall be computed, on a tape of its own.
    """
    own = adversary.goal if goal and not isinstance(adversary.goal, (Reversal, type(None))) else None
    if own is None:
        error = adversary.error(target, network(as_structure(view), training=training))
        return Reading(adversary, view, target, error, adversary.ignorant_error(target))
    with tf.GradientTape() as tape:
        tape.watch(view)
        prediction = network(as_structure(view), training=training)
        ignorant = adversary.ignorant_error(target)
        share = 1.0 / tf.maximum(ignorant, 1e-6) if own.relative else None
        # One that the batch gives nothing to guess about (all targets alike) must not blow up.
        share = None if share is None else tf.where(ignorant > 1e-6, share, tf.zeros_like(share))
        goal_loss = own(own.aim(target, task), prediction, sample_weight=share)
    return Reading(adversary, view, target, adversary.error(target, prediction), ignorant, goal_loss, tape)


def towards_goal(reading: Reading, error_gradients: Sequence[Any], weight: Any, scale: Any) -> list[Any]:
    """Gradient of the halves' penalty by the boundary, from an adversary's reading.

    Args:
        reading: as `read` gave it.
        error_gradients: of the adversary's mean error by its view.
        weight: the adversary's, now.
        scale: of the halves' loss to the adversary's, where mixed precision scales them.
    """
    if reading.tape is not None:
        gradients = reading.tape.gradient(reading.goal_loss, reading.view)
        push = tf.where(tf.math.is_finite(reading.goal_loss), weight * scale, 0.0)
        return [None if g is None else tf.cast(tf.math.multiply_no_nan(tf.cast(g, tf.float32), push), g.dtype) for g in gradients]
    goal = reading.adversary.goal if isinstance(reading.adversary.goal, Reversal) else Reversal()
    push = tf.stop_gradient(goal.slope(reading.error, reading.ignorant_error)) * (weight * scale)
    return [None if g is None else _pushed(g, push) for g in error_gradients]


def _pushed(gradient: Any, push: Any) -> Any:
    """`gradient` `[batch, ...]` times `push` `[batch]`, and 0 where the push is 0: an adversary that exploded touches nobody else."""
    push = tf.reshape(push, tf.concat([tf.shape(push), tf.ones([tf.rank(gradient) - 1], tf.int32)], axis=0))
    return tf.cast(tf.math.multiply_no_nan(tf.cast(gradient, tf.float32), push), gradient.dtype)


def added(gradients: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    """Sums of gradients by place, either of which may be missing."""
    return [a if b is None else b if a is None else a + b for a, b in zip(gradients, others, strict=True)]


def backward(tape: tf.GradientTape, boundary: list[Any], gradients: list[Any], penalty: Any, scale: Any, variables: list[Any]) -> list[Any]:
    """Gradients of the device half from those of the boundary and of its own penalty, which `scale` multiplies."""
    reached = [(z, g) for z, g in zip(boundary, gradients, strict=True) if g is not None]
    outputs, output_gradients = [z for z, _ in reached] + [penalty], [g for _, g in reached] + [tf.ones_like(penalty) * scale]
    return tape.gradient(outputs, variables, output_gradients=output_gradients) if variables else []


def merged(device_variables: list[Any], device_gradients: list[Any], server_variables: list[Any], server_gradients: list[Any]) -> list[Any]:
    """(gradient, variable) pairs, each variable once: a layer on both sides of the cut gets the sum."""
    pairs: dict[int, tuple[Any, Any]] = {}
    for gradient, variable in [
        *zip(device_gradients, device_variables, strict=True),
        *zip(server_gradients, server_variables, strict=True),
    ]:
        other = pairs.get(id(variable), (None, None))[0]
        both = gradient if other is None else other if gradient is None else tf.convert_to_tensor(other) + gradient
        pairs[id(variable)] = (both, variable)
    return list(pairs.values())


def views(boundary: list[Any], readers: int) -> list[list[Any]]:
    """The boundary under a name of its own for every reader, so that one backward pass tells their gradients apart."""
    return [[tf.identity(z) for z in boundary] for _ in range(readers)]


def mean_error(reading: Reading) -> tf.Tensor:
    """What the adversary minimises: a scalar."""
    return replica_sums.replica_mean(reading.error)


def as_list(tensors: Any) -> list[Any]:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]


def as_structure(tensors: list[Any]) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors
