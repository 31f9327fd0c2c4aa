"""What makes a partition unfit for a bundle, found before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_privpart.errors import BundleError
from keras_privpart.partitioning.graphs.names import untraceable_layers
from keras_privpart.partitioning.graphs.state import moved, recurrent_states
from keras_privpart.partitioning.halves import Partition

_STATE = (
    "A server answers everybody from one state, and devices lose theirs when they restart: one person's data would leak into another's "
    "answer. Take the state as an input and return it as an output, or build the layers without it."
)


def check_exportable(partition: Partition) -> None:
    """Raises `BundleError` for halves that TensorFlow cannot trace, or whose layers keep a state between requests."""
    names = [name for half in (partition.device, partition.server) for name in untraceable_layers(half)]
    if names:
        raise BundleError(
            f"Received layers called {names}; TensorFlow makes graphs only of names from A-Z, a-z, 0-9, '_', '.' and '-'. Rename them."
        )
    stateful = [name for half in (partition.device, partition.server) for name in recurrent_states(half)]
    if stateful:
        raise BundleError(f"Received the recurrent layers {stateful} with stateful=True; expected none. {_STATE}")


def check_answers(partition: Partition, values: Sequence[Any]) -> None:
    """Runs both halves once.

    Args:
        partition: whose halves to run.
        values: inputs of the device half, in order.

    Raises:
        BundleError: what crosses is not what the boundary declares, or a call in inference changes weights of a layer.
    """
    inputs = keras.tree.pack_sequence_as(partition.device.input, [tf.constant(value) for value in values])
    sent = partition.device(inputs, training=False)
    misfit = partition.misfit(sent)
    if misfit:
        raise BundleError(misfit)
    changed = [*moved(partition.device, inputs), *moved(partition.server, sent)]
    if changed:
        raise BundleError(f"Received layers whose variables {changed} change at every call in inference; expected none. {_STATE}")
