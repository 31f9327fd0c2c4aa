"""Undefended twins that an audit trains, kept in its cache."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.auditing.knowledge.splits import Split
from keras_privpart.auditing.store import digest_of, digest_of_samples, read_arrays, write_arrays
from keras_privpart.auditing.task import fresh_copy, undefended_twin
from keras_privpart.partitioning.halves import Partition

_ORIGIN = "origin"


def undefended(partition: Partition, data: Split, seed: int, cache: str | Path | None) -> tuple[Partition, str]:
    """An undefended twin of a partition's model and a sentence that says how it was made, see `task.undefended_twin`.

    With a cache, its weights are kept in `twin-<digest>.npz`, by all that determines them.
    """
    if cache is None:
        return undefended_twin(partition, data.known, data.held_out, seed)
    facts = [partition.model.to_json(), list(partition.boundary.sources), seed, keras.__version__, tf.__version__]
    key = digest_of(json.dumps(facts).encode(), digest_of_samples(data.known, data.held_out).encode())
    path = Path(cache) / f"twin-{key}.npz"
    kept = read_arrays(path)
    if kept is not None:
        origin = kept.pop(_ORIGIN).tobytes().decode()
        twin = fresh_copy(partition, seed)
        twin.model.set_weights([kept[f"weight_{i}"] for i in range(len(kept))])
        return twin, origin
    twin, origin = undefended_twin(partition, data.known, data.held_out, seed)
    arrays = {f"weight_{i}": weight for i, weight in enumerate(twin.model.get_weights())}
    write_arrays(path, {**arrays, _ORIGIN: np.frombuffer(origin.encode(), "uint8")})
    return twin, origin
