"""What the two halves agree on: the boundary's tensors, the wire names, and the files of a bundle.

This module needs no TensorFlow: a device reads the contract before it loads anything else.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from keras_privpart.boundary import (
    DTYPES,
    STRING,
    Boundary,
    TensorSpec,
    boundary_names,
    checked_record,
    dtype_name,
    dtype_size,
    specs_from_json,
)
from keras_privpart.errors import ContractError, IntegrityError

__all__ = [
    "CHECKED_OUTPUT",
    "CHECKED_SIGNATURE",
    "CONTRACT_FILE",
    "DEFAULT_SIGNATURE",
    "DEVICE_SIGNATURE",
    "DTYPES",
    "ENCODINGS",
    "FOLDERS",
    "PAIR_INPUT",
    "PAIR_OUTPUT",
    "PAIR_SIGNATURE",
    "SCHEMA_VERSION",
    "SERVE_SIGNATURE",
    "STRING",
    "Boundary",
    "Contract",
    "FileRecord",
    "TensorSpec",
    "boundary_names",
    "check_name",
    "dtype_name",
    "dtype_size",
]

SCHEMA_VERSION = 1
CONTRACT_FILE = "contract.json"
FOLDERS = ("device", "server", "serving", "report")
ENCODINGS = ("none",)

# Wire names. The signature that answers requests, its alias in TensorFlow Serving, the one that names the pair, and the one that
# answers requests and names the pair with every answer: behind a proxy, or after a restart, another server may answer than was asked.
SERVE_SIGNATURE = "serve"
DEFAULT_SIGNATURE = "serving_default"
PAIR_SIGNATURE = "pair"
PAIR_INPUT = "query"
PAIR_OUTPUT = "fingerprint"
CHECKED_SIGNATURE = "serve_checked"
CHECKED_OUTPUT = "pair_fingerprint"
DEVICE_SIGNATURE = "serving_default"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES = 16 << 20  # of contract.json: a few thousand files at the very most


def check_name(name: str) -> str:
    """Returns `name` if it can be a model's name on a server and a folder's name on disk, else raises `ContractError`."""
    if not _NAME.fullmatch(name):
        raise ContractError(
            f"Received the model name {name!r}; expected letters, digits, '_', '.' or '-', starting with a letter or digit, "
            "at most 128 characters. Rename the bundle's folder."
        )
    return name


@dataclass(frozen=True)
class FileRecord:
    """SHA-256 and size of one file of the bundle."""

    sha256: str
    nbytes: int

    @classmethod
    def of(cls, path: Path, limit: int | None = None) -> FileRecord:
        """Measures a file; reads at most `limit` + 1 bytes."""
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                size += len(chunk)
                if limit is not None and size > limit:
                    break
                digest.update(chunk)
        return cls(digest.hexdigest(), size)

    @classmethod
    def from_json(cls, path: str, data: Any) -> FileRecord:
        record = checked_record(cls, data, ("sha256", "nbytes"))
        sha256, nbytes = record["sha256"], record["nbytes"]
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256) or type(nbytes) is not int or nbytes < 0:
            raise ContractError(f"The record of {path} is malformed; expected a SHA-256 and a size. Export the bundle again.")
        return cls(sha256, nbytes)


@dataclass(frozen=True)
class Contract:
    """Everything a device needs to know about its server half, and the hashes that tie the two together.

    `fingerprint` names the pair: it covers the wire (boundary, encoding, inputs, outputs), every file of the device half and
    the weights of the server half, and is baked into the server half, which answers it on request.

    `max_batch_size` is the most examples that one request may carry; larger inputs are split.
    """

    name: str
    version: int
    boundary: Boundary
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    server_weights: str
    fingerprint: str
    files: Mapping[str, FileRecord]
    encoding: str = "none"
    channel: tuple[Mapping[str, Any], ...] = ()
    made_with: Mapping[str, str] = field(default_factory=dict)
    audit: Mapping[str, Any] | None = None
    max_batch_size: int = 32

    @property
    def device_folder(self) -> str:
        return f"device/{self.version}"

    @property
    def server_folder(self) -> str:
        return f"server/{self.version}"

    def expected_fingerprint(self) -> str:
        """The pair's fingerprint as it follows from the rest of the contract: SHA-256 of its canonical JSON."""
        device = {path: record.sha256 for path, record in self.files.items() if path.startswith("device/")}
        covered = {
            "version": self.version,
            "boundary": self.boundary.to_json(),
            "inputs": [asdict(t) for t in self.inputs],
            "outputs": [asdict(t) for t in self.outputs],
            "encoding": self.encoding,
            "device": device,
            "server_weights": self.server_weights,
        }
        return hashlib.sha256(_canonical(covered)).hexdigest()

    def with_fingerprint(self) -> Contract:
        """The same contract with its fingerprint filled in."""
        return replace(self, fingerprint=self.expected_fingerprint())

    def verify_files(self, root: Path, folders: Iterable[str] = FOLDERS, *, partial: bool = False) -> None:
        """Compares the files under `root` with the contract.

        Args:
            root: the bundle's folder.
            folders: top-level folders to look at.
            partial: whether files may be missing (a device has no `server/`). Changed or unlisted files never pass.

        Raises:
            IntegrityError: names the first file that is missing, changed, a link, or not listed.
        """
        wanted = {path: rec for path, rec in self.files.items() if path.split("/", 1)[0] in set(folders)}
        for path, record in sorted(wanted.items()):
            file = root / path
            if any(part.is_symlink() for part in (file, *list(file.parents)[: path.count("/")])):
                raise IntegrityError(f"{path} is reached through a symbolic link; a bundle holds plain files only. Copy the bundle again.")
            if not file.is_file():
                if partial and not file.exists():
                    continue
                raise IntegrityError(f"{path} is listed in {CONTRACT_FILE} and missing in {root}. Copy the bundle again.")
            if FileRecord.of(file, limit=record.nbytes) != record:
                raise IntegrityError(f"{path} differs from {CONTRACT_FILE} (SHA-256 or size). Copy the bundle again, or export it again.")
        for folder in folders:
            for file in sorted((root / folder).rglob("*")):
                path = file.relative_to(root).as_posix()
                if (file.is_symlink() or not file.is_dir()) and path not in wanted and self._owns(path):
                    raise IntegrityError(f"{path} is not listed in {CONTRACT_FILE}. Remove it, or export the bundle again.")

    def _owns(self, path: str) -> bool:
        """Whether a file belongs to this contract: other versions' folders have contracts of their own."""
        top, _, rest = path.partition("/")
        return top not in ("device", "server") or rest.split("/", 1)[0] == str(self.version)

    def to_json(self) -> dict[str, Any]:
        body = {
            "schema": SCHEMA_VERSION,
            "name": self.name,
            "version": self.version,
            "boundary": self.boundary.to_json(),
            "encoding": self.encoding,
            "inputs": [asdict(t) for t in self.inputs],
            "outputs": [asdict(t) for t in self.outputs],
            "channel": [dict(c) for c in self.channel],
            "server_weights": self.server_weights,
            "fingerprint": self.fingerprint,
            "files": {path: asdict(record) for path, record in sorted(self.files.items())},
            "made_with": dict(self.made_with),
            "audit": None if self.audit is None else dict(self.audit),
            "max_batch_size": self.max_batch_size,
        }
        return {**body, "digest": hashlib.sha256(_canonical(body)).hexdigest()}

    def dumps(self) -> str:
        return json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"

    @classmethod
    def load(cls, bundle: str | Path, version: int | None = None) -> Contract:
        """Reads `contract.json` of a bundle folder and checks its digest and fingerprint.

        Args:
            bundle: the bundle's folder.
            version: the version that the caller wants; `None` takes the one that the bundle holds.

        Raises:
            ContractError: no contract there, unreadable, malformed, from a future schema, or of another version.
            IntegrityError: the contract was changed after it was written.
        """
        path = Path(bundle) / CONTRACT_FILE
        if not path.is_file():
            raise ContractError(f"Found no {CONTRACT_FILE} in {str(bundle)!r}; expected a folder written by `privpart-keras export`.")
        try:
            with path.open("rb") as stream:
                raw = stream.read(_MAX_BYTES + 1)
            text = raw.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ContractError(f"Can't read {path}: {error}. Export the bundle again.") from error
        if len(raw) > _MAX_BYTES:
            raise ContractError(f"{path} is larger than {_MAX_BYTES} bytes; expected a contract. Do not use this bundle.")
        contract = cls.loads(text)
        if version not in (None, contract.version):
            raise ContractError(
                f"Received version {version!r}; the bundle {str(bundle)!r} holds version {contract.version}. "
                "Ask for that one, or export the version you want."
            )
        return contract

    @classmethod
    def loads(cls, text: str) -> Contract:
        """Parses a contract's JSON. Unknown, missing and duplicate keys and future schemas are refused."""
        try:
            data = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            if isinstance(error, ContractError):
                raise
            raise ContractError(f"{CONTRACT_FILE} is not JSON: {error}. Export the bundle again.") from error
        if not isinstance(data, dict):
            raise ContractError(f"{CONTRACT_FILE} holds a {type(data).__name__}; expected an object. Export the bundle again.")
        schema = data.pop("schema", None)
        if schema != SCHEMA_VERSION:
            raise ContractError(
                f"{CONTRACT_FILE} has schema {schema!r}; this version of keras_privpart reads schema {SCHEMA_VERSION}. "
                "Upgrade keras_privpart, or export the bundle again."
            )
        digest = data.pop("digest", None)
        contract = cls._from_record(checked_record(cls, data, tuple(f.name for f in fields(cls))))
        if contract.to_json()["digest"] != digest:
            raise IntegrityError(f"{CONTRACT_FILE} was changed after it was written (its digest differs). Export the bundle again.")
        if contract.fingerprint != contract.expected_fingerprint():
            raise IntegrityError(f"{CONTRACT_FILE}: the pair fingerprint does not follow from its fields. Export the bundle again.")
        return contract

    @classmethod
    def _from_record(cls, data: dict[str, Any]) -> Contract:
        for key, (kind, expected) in _KINDS.items():
            if type(data[key]) is not kind and not (key == "audit" and data[key] is None):
                raise ContractError(f"Received {key} as {type(data[key]).__name__}; expected {expected}. Export the bundle again.")
        for key in ("version", "max_batch_size"):
            if not 1 <= data[key] < 1 << 63:
                raise ContractError(
                    f"Received the {key} {data[key]}; expected a whole number from 1 to 2**63 - 1. Export the bundle again."
                )
        if data["encoding"] not in ENCODINGS:
            raise ContractError(
                f"Received the encoding {data['encoding']!r}; this version of keras_privpart knows {list(ENCODINGS)}. "
                "Upgrade keras_privpart, or export the bundle again."
            )
        if not all(isinstance(entry, dict) for entry in data["channel"]):
            raise ContractError("Received a channel that is not an object; expected one object a layer. Export the bundle again.")
        for path in data["files"]:
            _check_path(path)
        return cls(
            **{
                **data,
                "name": check_name(data["name"]),
                "boundary": Boundary.from_json(data["boundary"]),
                "inputs": specs_from_json(data["inputs"], "inputs"),
                "outputs": specs_from_json(data["outputs"], "outputs"),
                "files": {path: FileRecord.from_json(path, record) for path, record in data["files"].items()},
                "channel": tuple(data["channel"]),
            }
        )


_KINDS: dict[str, tuple[type, str]] = {
    "name": (str, "text"),
    "version": (int, "a whole number"),
    "max_batch_size": (int, "a whole number"),
    "server_weights": (str, "text"),
    "fingerprint": (str, "text"),
    "encoding": (str, "text"),
    "files": (dict, "an object"),
    "made_with": (dict, "an object"),
    "audit": (dict, "an object or null"),
    "channel": (list, "a list"),
}


def _check_path(path: str) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ".." in parts or "\0" in path or PurePosixPath(*parts).as_posix() != path:
        raise ContractError(f"Received the file path {path!r}; expected a plain relative path inside the bundle. Do not use this bundle.")


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ContractError(f"{CONTRACT_FILE} has the keys {twice} twice; expected each once. Export the bundle again.")
    return dict(pairs)


def _no_constant(name: str) -> NoReturn:
    raise ContractError(f"{CONTRACT_FILE} holds {name}, which is not JSON; expected finite numbers. Export the bundle again.")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_constant(text)
