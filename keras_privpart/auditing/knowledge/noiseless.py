"""`Noiseless`: what would cross but for the channel's noise, for those who know the device half and how strong the noise is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_privpart.channels import GaussianChannel, QuantizeChannel
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.graphs.assembly import bypass
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.input_kind import given_to

_BATCH = 256


def inapplicable(partition: Partition) -> str | None:
    """Why the noise of a partition cannot be told from the rest; None if it can."""
    if not isinstance(partition.device, keras.Model):
        return "the device half is no Keras model, so that what would cross without noise cannot be seen"
    tensors = keras.tree.flatten(partition.device.output)
    if not all(keras.backend.is_float_dtype(t.dtype) for t in tensors):
        return "masks or whole numbers cross the boundary"
    if not partition.channel:
        return "neither noise nor a quantiser stands on the boundary: numbers of unlimited precision carry unlimited bits"
    noisy = all(isinstance(c, GaussianChannel) and c.stddev > 0 for c in partition.channel)
    rounded = all(isinstance(c, QuantizeChannel) and c.bits is not None for c in partition.channel)
    if len(partition.channel) != len(tensors) or not (noisy or rounded):
        kinds = ", ".join(type(c).__name__ for c in partition.channel)
        return f"on the boundary's {len(tensors)} tensors stands {kinds}; bits are known of Gaussian noise alone and of a quantiser alone"
    return None


@dataclass(frozen=True)
class Noiseless:
    """What would cross without noise, as rows of numbers; before frozen noise, as rounded as it is there.

    Attributes:
        rows: of each input, all tensors side by side, `[n, numbers]`, float32.
        widths: numbers of each tensor.
        stddev: of the noise of each number `[numbers]`; None behind a quantiser, which adds none.
    """

    rows: np.ndarray
    widths: tuple[int, ...]
    stddev: np.ndarray | None

    @classmethod
    def of(cls, partition: Partition, x: np.ndarray) -> Noiseless:
        """Looks at inputs `[n, ...]`.

        Raises:
            AuditError: the partition's noise cannot be told from the rest (`inapplicable`).
        """
        reason = inapplicable(partition)
        if reason is not None:
            raise AuditError(
                f"Received a partition of which no bits are known: {reason}. Expected one such channel on each tensor. Add it."
            )
        plain = bypass(partition.device, partition.channel)
        parts = [_seen(plain, partition.channel, given_to(plain, x[i : i + _BATCH])) for i in range(0, len(x), _BATCH)]
        tensors = [np.concatenate(column) for column in zip(*parts, strict=True)]
        stddev = None
        if isinstance(partition.channel[0], GaussianChannel):
            each = zip(partition.channel, tensors, strict=True)
            stddev = np.concatenate([np.broadcast_to(c.noise_stddev(), t.shape[1:]).reshape(-1) for c, t in each])
        flat = [t.reshape(len(t), -1) for t in tensors]
        return cls(np.concatenate(flat, axis=1), tuple(t.shape[1] for t in flat), stddev)


def _seen(plain: keras.Model, channels: tuple[Any, ...], x: np.ndarray) -> list[np.ndarray]:
    tensors = keras.tree.flatten(plain(x, training=False))
    passed = [
        c.without_noise(t, training=False) if isinstance(c, GaussianChannel) else c(t, training=False)
        for c, t in zip(channels, tensors, strict=True)
    ]
    return [np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(t, "float32"))) for t in passed]
