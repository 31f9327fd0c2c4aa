"""A partition on disk: three `.keras` files and `partition.json`, written as a whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

import keras_privpart.channels  # noqa: F401  registers the layers that saved halves may hold, channels among them
from keras_privpart import atomic
from keras_privpart.contract import Boundary
from keras_privpart.errors import BundleExistsError, ContractError, ModelError
from keras_privpart.partitioning.graphs.graph import count_operations, deep_graphs

PARTITION_FILE = "partition.json"
_SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """What `partition.json` says.

    Attributes:
        boundary: what crosses.
        channel: names of the channel's layers, in order.
        public_inputs: names of the inputs that the server half reads raw.
    """

    boundary: Boundary
    channel: tuple[str, ...]
    public_inputs: tuple[str, ...]


def save(target: Path, models: Mapping[str, keras.Model], record: Record, *, overwrite: bool) -> Path:
    """Writes models and record to a temporary sibling of `target`, then renames it; an older one goes once the new one stands.

    Raises:
        BundleExistsError: `target` is there already and `overwrite` is false.
    """
    if target.exists() and not overwrite:
        raise BundleExistsError(f"Received {str(target)!r}, which exists; expected a new folder. Pass overwrite=True to replace it.")
    with atomic.new_folder(target, replace=overwrite) as fresh:
        for name, model in models.items():
            model.save(fresh / f"{name}.keras")
        text = {
            "schema": _SCHEMA,
            "boundary": record.boundary.to_json(),
            "channel": list(record.channel),
            "public_inputs": list(record.public_inputs),
            "operations": max(count_operations(model) for model in models.values()),
        }
        (fresh / PARTITION_FILE).write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
    return target


def load(folder: Path, names: Sequence[str]) -> tuple[dict[str, keras.Model], Record]:
    """Reads what `save` wrote, in Keras' safe mode.

    Raises:
        ModelError: a file is missing, damaged or from a newer version, or holds a layer that safe mode refuses.
    """
    path = folder / PARTITION_FILE
    data = _read(path)
    texts = [data.get("channel"), data.get("public_inputs")]
    if type(data.get("operations")) is not int or not all(isinstance(t, list) and all(isinstance(n, str) for n in t) for t in texts):
        raise ModelError(f"{path} is malformed; expected boundary, channel, public_inputs and operations. Save the partition again.")
    try:
        record = Record(Boundary.from_json(data.get("boundary")), tuple(data["channel"]), tuple(data["public_inputs"]))
    except ContractError as error:
        raise ModelError(f"{path} is malformed: {error}") from error
    return {name: _load_model(folder / f"{name}.keras", data["operations"]) for name in names}, record


def layers_of(model: keras.Model, names: Sequence[str]) -> tuple[keras.layers.Layer, ...]:
    """Layers of a model by name; raises `ModelError` if one is not there."""
    known = {layer.name: layer for layer in model.layers}
    missing = [name for name in names if name not in known]
    if missing:
        raise ModelError(f"{PARTITION_FILE} names the channel {missing}, which is not in the device half. Save the partition again.")
    return tuple(known[name] for name in names)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ModelError(f"Found no {path.name} in {str(path.parent)!r}; expected a folder written by Partition.save.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"Can't read {path}: {error}. Save the partition again.") from error
    schema = data.get("schema") if isinstance(data, dict) else type(data).__name__
    if schema != _SCHEMA:
        raise ModelError(f"{path} has schema {schema!r}; this version reads schema {_SCHEMA}. Upgrade keras_privpart, or save again.")
    return data


def _load_model(path: Path, operations: int) -> keras.Model:
    if not path.is_file():
        raise ModelError(f"Found no {path.name} in {str(path.parent)!r}; expected a folder written by Partition.save.")
    try:
        with deep_graphs(operations):
            return keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras lets through whatever zip, HDF5, JSON and the layers' own constructors raise
        reason = str(error).strip().split("\n", 1)[0]
        raise ModelError(f"Can't load {path}: {type(error).__name__}: {reason} Save the partition again.") from error
