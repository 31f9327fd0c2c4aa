"""The reference of an audit: an undefended twin, which shows what no defence would leak; trained once and kept in the audit's cache."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_privpart
from keras_privpart import atomic
from keras_privpart.auditing.knowledge.splits import Split
from keras_privpart.auditing.store import digest_of, digest_of_samples, read_arrays
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError, CutError, ModelError
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.partition import fresh_partition
from keras_privpart.training.task import LEARNING_RATE, trained_afresh, unlabelled, unscored

HINT = "Train an undefended partition yourself and give it as reference=."
_ORIGIN = "origin"


def undefended_twin(partition: Partition, train: Samples, held_out: Samples, seed: int) -> tuple[Partition, str]:
    """The same architecture with fresh weights, trained on the task alone (`task.learn_task`), cut at the same place, without a channel.

    The loss follows the output: cross-entropy for classes (of logits or probabilities, whichever the model gives), binary
    cross-entropy for a single unit. Layers that were adapted to data, such as `Normalization`, stay as they are.

    Returns:
        The twin and a sentence that says how it was made.

    Raises:
        AuditError: the model has several outputs, the labels are not whole numbers `[n]`, or the model cannot be copied or cut again.
            Then give `reference=`.
    """
    reason = unlabelled(train) or unscored(partition.model)
    if reason is not None:
        raise AuditError(f"An undefended twin can't be trained: {reason}. {HINT}")
    try:
        twin, epochs = trained_afresh(partition, train, held_out, seed)
    except (ModelError, CutError) as error:
        raise _not_again(error) from error
    return twin, f"an undefended twin trained by the audit on the task alone ({epochs} epochs, Adam at {LEARNING_RATE}, early stopping)"


def undefended(partition: Partition, data: Split, seed: int, cache: str | Path | None) -> tuple[Partition, str]:
    """An undefended twin of a partition's model and a sentence that says how it was made, see `undefended_twin`.

    With a cache, its weights are kept in `twin-<digest>.npz`, by all that determines them.
    """
    if cache is None:
        return undefended_twin(partition, data.known, data.held_out, seed)
    try:
        keras.utils.set_random_seed(seed)
        twin = fresh_partition(partition)
    except (ModelError, CutError) as error:
        raise _not_again(error) from error
    path = Path(cache) / f"twin-{_key(partition, twin, data, seed)}.npz"
    kept = read_arrays(path)
    if kept is not None:
        origin = kept.pop(_ORIGIN).tobytes().decode()
        twin.model.set_weights([kept[f"weight_{i}"] for i in range(len(kept))])
        return twin, origin
    twin, origin = undefended_twin(partition, data.known, data.held_out, seed)
    arrays = {f"weight_{i}": weight for i, weight in enumerate(twin.model.get_weights())}
    atomic.write_arrays(path, {**arrays, _ORIGIN: np.frombuffer(origin.encode(), "uint8")})
    return twin, origin


def _key(partition: Partition, untrained: Partition, data: Split, seed: int) -> str:
    """Of all that determines a twin: architecture, where it starts, what its layers were adapted to, data, versions."""
    versions = [keras_privpart.__version__, keras.__version__, tf.__version__]
    words = [layer.get_vocabulary() for layer in partition.model.layers if isinstance(layer, _LOOKUPS)]
    facts = [partition.model.to_json(), list(partition.boundary.sources), seed, versions, str(words)]
    start = untrained.model.get_weights()
    return digest_of(json.dumps(facts).encode(), digest_of_samples(data.known, data.held_out).encode(), *start)


_LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup, keras.layers.TextVectorization)


def _not_again(error: Exception) -> AuditError:
    return AuditError(f"The model cannot be copied and cut again for an undefended twin: {error} {HINT}")
