"""`Store`: evidence that was found before, by a digest of all that determines it: an audit that is started again repeats nothing."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_privpart
from keras_privpart import atomic
from keras_privpart.auditing.attacks import Attack, Effort
from keras_privpart.auditing.attacks.base.repeatable import Repeatable
from keras_privpart.auditing.scoring.evidence import Evidence, Guesses, Pictures, Ranks, Regressions
from keras_privpart.auditing.scoring.recovered import Signals, Tables, Tokens
from keras_privpart.datasets import Samples
from keras_privpart.partitioning.halves import Partition
from keras_privpart.several_inputs import arrays_of

SCHEMA_VERSION = 2
KINDS: dict[str, type[Evidence]] = {kind.__name__: kind for kind in (Guesses, Pictures, Ranks, Regressions, Signals, Tables, Tokens)}
_RECORD = "record"  # the entry of a file that is not an array of the evidence


@dataclass(frozen=True)
class Found:
    """What one fitted attacker came to, with what it had to tell, and its headline score on the held-out examples, where it was taken."""

    evidence: Evidence
    notes: tuple[str, ...] = ()
    held_out: float = math.nan


class Store:
    """Remembers in memory, and in a folder if there is one: a file of plain arrays for each fit, `<digest>.npz`, never a pickle.

    A file appears under its name only when it is complete; one that cannot be read counts as not there.

    Args:
        folder: made when missing; None to remember within one audit only.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._folder = None if folder is None else Path(folder)
        self._memory: dict[str, Found] = {}
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str | None) -> Found | None:
        """What was found under a key; None where nothing was, or there is no key."""
        if key is None:
            return None
        if key not in self._memory and self._folder is not None and (self._folder / f"{key}.npz").is_file():
            found = _read(self._folder / f"{key}.npz")
            if found is not None:
                self._memory[key] = found
        return self._memory.get(key)

    def put(self, key: str | None, found: Found) -> None:
        """Remembers; without a key, or for evidence of a kind of the caller's own, does nothing."""
        if key is None or KINDS.get(type(found.evidence).__name__) is not type(found.evidence):
            return
        self._memory[key] = found
        if self._folder is not None:
            record: dict[str, Any] = {"schema": SCHEMA_VERSION, "kind": type(found.evidence).__name__, "notes": list(found.notes)}
            record["held_out"] = None if math.isnan(found.held_out) else found.held_out
            text = np.frombuffer(json.dumps(record).encode(), "uint8")
            atomic.write_arrays(self._folder / f"{key}.npz", {**found.evidence.arrays(), _RECORD: text})


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """What `atomic.write_arrays` wrote; None where there is nothing, or nothing whole."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile):
        return None


def _read(path: Path) -> Found | None:
    arrays = read_arrays(path)
    if arrays is None:
        return None
    try:
        record = json.loads(arrays.pop(_RECORD).tobytes())
        if record["schema"] != SCHEMA_VERSION:
            return None
        return Found(
            KINDS[record["kind"]](**arrays), tuple(record["notes"]), math.nan if record["held_out"] is None else record["held_out"]
        )
    except (ValueError, KeyError, TypeError):
        return None


def key_of(attack: str | None, view: str | None, data: str, effort: Effort, seed: int) -> str | None:
    """Of a fit: everything that determines it. None where what is seen, or the attack (see `digest_of_attack`), has no digest."""
    if view is None or attack is None:
        return None
    facts = {
        "schema": SCHEMA_VERSION,
        "versions": [keras_privpart.__version__, keras.__version__, tf.__version__],
        "attack": attack,
        "view": view,
        "data": data,
        "effort": asdict(effort),
        "seed": seed,
    }
    return digest_of(json.dumps(facts, sort_keys=True).encode())


def digest_of_attack(attack: Attack) -> str | None:
    """Of an attack that has learned nothing yet, by all of its settings; None where one cannot be described: it is never cached."""
    try:
        return digest_of(json.dumps(description(attack), sort_keys=True).encode())
    except Indescribable:
        return None


class Indescribable(Exception):
    """A setting cannot be told from another of its kind; nothing that was found with it may be taken for another's."""


def description(thing: Repeatable) -> dict[str, Any]:
    """Class and settings of an attack: what its constructor was given, and its public attributes.

    Raises:
        Indescribable: a setting is a function, or another object that does not compare by value.
    """
    args, kwargs = thing.made_with
    public = {name: value for name, value in vars(thing).items() if not name.startswith("_") and name != "notes"}
    return {"class": type(thing).__qualname__, "given": [_described(args), _described(kwargs)], "has": _described(public)}


def _described(value: Any) -> Any:
    """A setting as JSON: equal for equal settings, and for no others."""
    if isinstance(value, Repeatable):
        return description(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return ["array", digest_of(value)]
    if isinstance(value, Mapping):
        return ["mapping", sorted(([_described(k), _described(v)] for k, v in value.items()), key=json.dumps)]
    if isinstance(value, (set, frozenset)):
        return ["set", sorted((_described(v) for v in value), key=json.dumps)]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [_described(v) for v in value]]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__qualname__, _described({f.name: getattr(value, f.name) for f in fields(value)})]
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, Path)):
        return [type(value).__name__, repr(value)]
    raise Indescribable(f"{type(value).__name__} {value!r}")


def digest_of_halves(partition: Partition, *more: str) -> str | None:
    """Of the architecture and the weights of both halves; None where they are no Keras models that can be written down."""
    halves = (partition.device, partition.server)
    if not all(isinstance(half, keras.Model) for half in halves):
        return None
    try:
        texts = [half.to_json() for half in halves]
    except (NotImplementedError, TypeError, ValueError):  # a layer of the user's own that has no configuration
        return None
    return digest_of(*(t.encode() for t in (*texts, *more)), *(w for half in halves for w in half.get_weights()))


def digest_of_samples(*samples: Samples) -> str:
    """Of inputs and targets, names and order included."""
    parts: list[Any] = []
    for s in samples:
        parts += [repr(s.value_range).encode()] if s.value_range else []
        parts += _parts(s.x)
        for key in sorted(s.targets):
            parts += [key.encode(), *_parts(s.targets[key])]
    return digest_of(*parts)


def _parts(values: Any) -> list[Any]:
    """An array, or several each behind its name."""
    return [part for name, array in arrays_of(values).items() for part in ((name.encode(), array) if name else (np.asarray(array),))]


def digest_of(*parts: bytes | np.ndarray) -> str:
    """One digest of bytes and arrays, their lengths, types and shapes included."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if not isinstance(part, bytes):
            part = np.asarray(part)  # a scalar weight is no array
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            part = np.ascontiguousarray(part).tobytes() if part.dtype != object else repr(part.tolist()).encode()
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
