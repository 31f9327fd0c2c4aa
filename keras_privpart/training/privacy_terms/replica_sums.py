"""Sums and means over the whole batch, however many replicas share it (`tf.distribute`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


def count() -> int:
    """How many replicas share a batch; 1 without a strategy."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def batch_sum(x: Any) -> tf.Tensor:
    """Sum of `x` `[batch, ...]` over the examples of all replicas, `[...]`. Not meant to be differentiated."""
    total = tf.reduce_sum(tf.stop_gradient(x), axis=0)
    context = tf.distribute.get_replica_context()
    if count() == 1 or context is None:
        return total
    return context.all_reduce(tf.distribute.ReduceOp.SUM, total)


def batch_size(x: Any) -> tf.Tensor:
    """How many examples all replicas have together, as float32."""
    return batch_sum(tf.ones([tf.shape(x)[0]], tf.float32))


def batch_mean(x: Any) -> tf.Tensor:
    """Mean of `x` `[batch, ...]` over the examples of all replicas, `[...]`: what is called the batch's mean on one device."""
    if count() == 1:
        return tf.reduce_mean(tf.stop_gradient(x), axis=0)
    return batch_sum(x) / tf.cast(batch_size(x), x.dtype)


def replica_mean(error: Any) -> tf.Tensor:
    """Mean of `[batch]` over this replica, such that the replicas' gradients add up to that of the whole batch."""
    mean = tf.reduce_mean(error)
    return mean if count() == 1 else mean / tf.cast(count(), mean.dtype)


def total(losses: Sequence[Any]) -> tf.Tensor:
    """Sum of scalars that every replica computes alike, such as weight decay, scaled as Keras does: replicas add up to one."""
    return tf.add_n([tf.cast(loss, tf.float32) / count() for loss in losses]) if losses else tf.zeros([])
