"""Adam inside TensorFlow's graph, for loops that never leave it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


class Adam:
    """Adam's moments of some variables, and its step: TensorFlow's fused kernel, one operation per variable.

    Attackers are small: an optimizer that leaves the graph at every step costs more than the step.

    Args:
        variables: what it changes.

    References:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    """

    def __init__(self, variables: Sequence[tf.Variable]) -> None:
        self._variables = list(variables)
        self._moments = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in self._variables]
        self._done = tf.Variable(0, dtype=tf.int64)

    @property
    def steps(self) -> int:
        """How many steps were made since the last reset."""
        return int(self._done)

    def reset(self) -> None:
        """Forgets all steps."""
        self._done.assign(0)
        for pair in self._moments:
            for moment in pair:
                moment.assign(tf.zeros_like(moment))

    def apply(self, gradients: Sequence[tf.Tensor], rate: Any) -> None:
        """One step, with the gradients of the variables in their order and this learning rate, a scalar."""
        self._done.assign_add(1)
        step = tf.cast(self._done, tf.float32)
        for variable, gradient, (m, v) in zip(self._variables, gradients, self._moments, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=tf.pow(0.9, step),
                beta2_power=tf.pow(0.999, step),
                lr=rate,
                beta1=0.9,
                beta2=0.999,
                epsilon=1e-8,
                grad=gradient,
            )
