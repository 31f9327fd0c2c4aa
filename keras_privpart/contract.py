"""What the two halves agree on: the boundary's tensors, the wire names, and the files of a bundle.

This module needs no TensorFlow: a device reads the contract before it loads anything else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from keras_privpart.boundary import (
    DTYPES,
    STRING,
    Boundary,
    TensorSpec,
    boundary_names,
    checked_record,
    dtype_name,
    dtype_size,
    larger_than_raw,
    raw_nbytes,
    specs_from_json,
)
from keras_privpart.errors import ContractError, IntegrityError, PrivPartError
from keras_privpart.glob_free import glob_free
from keras_privpart.graph_safety import check_saved_model
from keras_privpart.integrity import FileProblem, FileRecord, check_path, read_text, recorded_problems, sealed_problems, stray_problems
from keras_privpart.strict_json import digest, parse
from keras_privpart.threat_model import ThreatModel

__all__ = [
    "BYTES_SIGNATURE",
    "CHECKED_OUTPUT",
    "CHECKED_SIGNATURE",
    "CONTRACT_FILE",
    "DEFAULT_SIGNATURE",
    "DEVICE_FILES",
    "DEVICE_SIGNATURE",
    "DTYPES",
    "ENCODINGS",
    "FOLDERS",
    "PAIR_INPUT",
    "PAIR_OUTPUT",
    "PAIR_SIGNATURE",
    "SCHEMA_VERSION",
    "SERVER_FORMATS",
    "SERVER_ONNX",
    "SERVE_SIGNATURE",
    "SERVING_FILES",
    "STRING",
    "UNSIGNED",
    "V2_PAIR_PREFIX",
    "WEB",
    "WEB_MANIFEST",
    "Boundary",
    "Contract",
    "FileProblem",
    "FileRecord",
    "TensorSpec",
    "boundary_names",
    "check_name",
    "check_saved_model",
    "dtype_name",
    "dtype_size",
    "glob_free",
    "larger_than_raw",
    "raw_nbytes",
]

SCHEMA_VERSION = 2
# The newest version's contract. Those of older versions stand in contracts/<version>.json.
CONTRACT_FILE = "contract.json"
OLDER_CONTRACTS = "contracts"
FOLDERS = ("device", "server", "serving", "report")
SERVING_FOLDER = "serving"
SERVING_FILES = ("serving/models.config", "serving/batching.config", "serving/monitoring.config", "serving/ssl.config")
ENCODINGS = ("none", "int8", "float16")
# Forms of the device half, and the file inside `device/<version>/` that each is recognised by.
DEVICE_FILES = {
    "saved_model": "saved_model.pb",
    "litert": "model.tflite",
    "litert-float16": "model.float16.tflite",
    "litert-dynamic": "model.dynamic.tflite",
    "litert-int8": "model.int8.tflite",
    "web": "web/model.tflite",
}
# Forms of the server half: TensorFlow Serving's, always there, and the file beside it that servers of the Open Inference Protocol run.
SERVER_FORMATS = ("saved_model", "onnx")
SERVER_ONNX = "model.onnx"
# The form for browsers. Its manifest names the pair, so it is the one file of the device half that the pair's fingerprint does not cover.
WEB, WEB_MANIFEST = "web", "web/manifest.json"

# Wire names. The signature that answers requests, its alias in TensorFlow Serving, the one that names the pair, and the one that
# answers requests and names the pair with every answer: behind a proxy, or after a restart, another server may answer than was asked.
# The last does the same for a boundary of bytes, one string an example, which JSON carries as base64.
SERVE_SIGNATURE = "serve"
DEFAULT_SIGNATURE = "serving_default"
PAIR_SIGNATURE = "pair"
PAIR_INPUT = "query"
PAIR_OUTPUT = "fingerprint"
CHECKED_SIGNATURE = "serve_checked"
CHECKED_OUTPUT = "pair_fingerprint"
# The same for servers of the Open Inference Protocol, which know no signatures: an output whose name ends with the fingerprint, and which
# holds its 32 bytes, once an example.
V2_PAIR_PREFIX = f"{CHECKED_OUTPUT}_"
# In bytes, int8 steps are counted from 0, not from -128: LiteRT.js knows no int8.
BYTES_SIGNATURE, UNSIGNED = "serve_bytes", 128
DEVICE_SIGNATURE = "serving_default"
# A variable of the device half whose name holds this is a key of noise, to be set on the device: none is written into a bundle.
NOISE_KEY, NOISE_KEY_BYTES = "frozen_noise_key", 32

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
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
class Contract:
    """Everything a device needs to know about its server half, and the hashes that tie the two together.

    One contract covers one version of a bundle. `fingerprint` names the pair: it covers the wire (boundary, encoding, inputs,
    outputs), every file of the device half and the weights of the server half, and is baked into the server half, which answers it
    on request.

    Attributes:
        boundary: what crosses the wire. Under an encoding these are the encoded tensors: their dtype is the encoding's, and int8
            tensors carry `scale` and `zero_point`. The device half emits them, the server half takes them.
        files: every file of `device/<version>/`, `server/<version>/` and `report/<version>/`. The files of `serving/` speak of all
            versions and are sealed instead.
        encoding: one of `ENCODINGS`.
        channel: the channel's layers, as Keras configurations.
        audit: the audit's few numbers; `None` where nothing was audited.
        max_batch_size: the most examples that one request may carry; larger inputs are split.
        threat_model: what `ThreatModel.to_json` returns; `None` where none was declared.
        optimization: what was done to the device half's weights before the export: `"none"`, `"prune:0.5"`, ...
        measurements: one row per form of the device half: bytes, error, accuracy, leakage; `None` in a row means not measured.
        value_range: black and white as the device half takes pictures; `None` where nothing tells.
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
    threat_model: Mapping[str, Any] | None = None
    optimization: str = "none"
    measurements: tuple[Mapping[str, Any], ...] = ()
    value_range: tuple[float, float] | None = None

    @property
    def raw_nbytes(self) -> int | None:
        """Bytes of one example's inputs as a client without a device half would send them; `None` where a size is free."""
        sizes = [t.raw_nbytes for t in self.inputs]
        return None if any(s is None for s in sizes) else sum(s for s in sizes if s is not None)

    @property
    def device_folder(self) -> str:
        return f"device/{self.version}"

    @property
    def server_folder(self) -> str:
        return f"server/{self.version}"

    @property
    def report_folder(self) -> str:
        return f"report/{self.version}"

    @property
    def formats(self) -> tuple[str, ...]:
        """Forms in which the device half is there, keys of `DEVICE_FILES`."""
        return tuple(form for form, file in DEVICE_FILES.items() if f"{self.device_folder}/{file}" in self.files)

    @property
    def server_formats(self) -> tuple[str, ...]:
        """Forms in which the server half is there, of `SERVER_FORMATS`."""
        return SERVER_FORMATS if f"{self.server_folder}/{SERVER_ONNX}" in self.files else SERVER_FORMATS[:1]

    def device_file(self, form: str) -> str:
        """Path of one form of the device half inside the bundle: the LiteRT file, or `saved_model.pb`.

        Raises:
            ContractError: the bundle lacks that form.
        """
        if form not in self.formats:
            raise ContractError(
                f"Received the format {form!r}; version {self.version} of {self.name!r} has {list(self.formats)}. "
                f"Choose one of them, or export again with formats=[{form!r}]."
            )
        return f"{self.device_folder}/{DEVICE_FILES[form]}"

    def expected_fingerprint(self) -> str:
        """The pair's fingerprint as it follows from the rest of the contract: SHA-256 of its canonical JSON."""
        manifest = f"{self.device_folder}/{WEB_MANIFEST}"
        device = {path: record.sha256 for path, record in self.files.items() if path.startswith("device/") and path != manifest}
        covered = {
            "version": self.version,
            "boundary": self.boundary.to_json(),
            "inputs": [asdict(t) for t in self.inputs],
            "outputs": [asdict(t) for t in self.outputs],
            "encoding": self.encoding,
            "device": device,
            "server_weights": self.server_weights,
        }
        return digest(covered)

    def with_fingerprint(self) -> Contract:
        """The same contract with its fingerprint filled in."""
        return replace(self, fingerprint=self.expected_fingerprint())

    def verify_files(self, root: Path, folders: Iterable[str] = FOLDERS, *, partial: bool = False) -> None:
        """Compares the files under `root` with the contract.

        Args:
            root: the bundle's folder.
            folders: top-level folders to look at. Of `device`, `server` and `report` only this version's folders count.
            partial: whether files may be missing (a device has no `server/`). Changed or unlisted files never pass.

        Raises:
            IntegrityError: names the first file that is missing, changed, a link, or not listed.
        """
        for problem in self.file_problems(root, folders, partial=partial):
            raise IntegrityError(problem.text)

    def file_problems(self, root: Path, folders: Iterable[str] = FOLDERS, *, partial: bool = False) -> Iterator[FileProblem]:
        """What `verify_files` raises the first of: every file that is missing, changed, a link, or not listed."""
        folders, listing = tuple(folders), f"the contract of version {self.version}"
        versioned = [folder for folder in folders if folder != SERVING_FOLDER]
        records = {path: record for path, record in self.files.items() if path.split("/", 1)[0] in versioned}
        yield from recorded_problems(root, records, partial=partial, listing=listing)
        yield from stray_problems(root, versioned, self.version, records, listing)
        if SERVING_FOLDER in folders:
            yield from sealed_problems(root, SERVING_FILES, self.version, self._fingerprint_of(root), partial=partial)

    def _fingerprint_of(self, root: Path) -> Callable[[int], str]:
        return lambda version: (self if version == self.version else Contract.load(root, version)).fingerprint

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
            "threat_model": None if self.threat_model is None else dict(self.threat_model),
            "optimization": self.optimization,
            "measurements": [dict(row) for row in self.measurements],
        }
        if self.value_range is not None:  # bundles of earlier versions had none
            body["value_range"] = list(self.value_range)
        return {**body, "digest": digest(body)}

    def dumps(self) -> str:
        return json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"

    @classmethod
    def load(cls, bundle: str | Path, version: int | None = None) -> Contract:
        """Reads one version's contract of a bundle folder and checks its digest and fingerprint.

        Args:
            bundle: the bundle's folder.
            version: the version that the caller wants; `None` takes the newest, whose contract is `contract.json`.

        Raises:
            ContractError: no contract there, unreadable, malformed, from a future schema, or the bundle holds no such version.
            IntegrityError: the contract was changed after it was written.
        """
        root = Path(bundle)
        newest = cls.loads(read_text(root, CONTRACT_FILE, _MAX_BYTES))
        if version in (None, newest.version):
            return newest
        held = cls.versions(root)
        if version not in held:
            listed = f"version{'s' if len(held) > 1 else ''} {', '.join(map(str, held))}"
            raise ContractError(
                f"Received version {version!r}; the bundle {str(bundle)!r} holds {listed}. "
                "Ask for one of those, or export the version you want."
            )
        path = f"{OLDER_CONTRACTS}/{version}.json"
        older = cls.loads(read_text(root, path, _MAX_BYTES), path)
        if (older.name, older.version) != (newest.name, version):
            raise IntegrityError(
                f"{path} is the contract of version {older.version} of {older.name!r}; expected version {version} of {newest.name!r}. "
                "Copy the bundle again."
            )
        return older

    @classmethod
    def versions(cls, bundle: str | Path) -> tuple[int, ...]:
        """Versions that a bundle holds, in order: the newest by `contract.json`, the others by the names in `contracts/`.

        Raises:
            ContractError, IntegrityError: as for `load`.
        """
        root = Path(bundle)
        stems = [file.stem for file in (root / OLDER_CONTRACTS).glob("*.json")]
        older = {int(stem) for stem in stems if stem.isascii() and stem.isdecimal() and str(int(stem)) == stem}
        return tuple(sorted({cls.load(root).version, *older}))

    @classmethod
    def loads(cls, text: str, file: str = CONTRACT_FILE) -> Contract:
        """Parses a contract's JSON. Unknown, missing and duplicate keys and other schemas are refused.

        Args:
            text: the JSON.
            file: where it comes from, for messages.
        """
        data = parse(text, file)
        schema = data.pop("schema", None)
        if schema != SCHEMA_VERSION:
            raise ContractError(
                f"{file} has schema {schema!r}; this version of keras_privpart reads schema {SCHEMA_VERSION}. "
                "Upgrade keras_privpart, or export the bundle again."
            )
        written = data.pop("digest", None)
        try:
            needed = tuple(f.name for f in fields(cls) if f.name != "value_range")
            contract = cls._from_record(checked_record(cls, data, needed))
        except ContractError as error:
            raise ContractError(f"{file}: {error}") from error
        if contract.to_json()["digest"] != written:
            raise IntegrityError(f"{file} was changed after it was written (its digest differs). Export the bundle again.")
        if contract.fingerprint != contract.expected_fingerprint():
            raise IntegrityError(f"{file}: the pair fingerprint does not follow from its fields. Export the bundle again.")
        return contract

    @classmethod
    def _from_record(cls, data: dict[str, Any]) -> Contract:
        for key, (kind, expected) in _KINDS.items():
            if type(data.get(key)) is not kind and not (key in _NULLABLE and data.get(key) is None):
                raise ContractError(f"Received {key} as {type(data.get(key)).__name__}; expected {expected}. Export the bundle again.")
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
        for key, unit in (("channel", "a layer"), ("measurements", "a form of the device half")):
            if not all(isinstance(entry, dict) for entry in data[key]):
                raise ContractError(f"Received {key} with an entry that is not an object; expected one {unit}. Export the bundle again.")
        for path in data["files"]:
            check_path(path)
        value_range = data.get("value_range")
        if value_range is not None and (len(value_range) != 2 or not all(type(v) is float for v in value_range)):
            raise ContractError(f"Received value_range {value_range!r}; expected two numbers. Export the bundle again.")
        if data["threat_model"] is not None:
            _check_threat_model(data["threat_model"])
        return cls(
            **{
                **data,
                "name": check_name(data["name"]),
                "boundary": Boundary.from_json(data["boundary"]),
                "inputs": specs_from_json(data["inputs"], "inputs"),
                "outputs": specs_from_json(data["outputs"], "outputs"),
                "files": {path: FileRecord.from_json(path, record) for path, record in data["files"].items()},
                "channel": tuple(data["channel"]),
                "measurements": tuple(data["measurements"]),
                "value_range": None if value_range is None else tuple(value_range),
            }
        )


_KINDS: dict[str, tuple[type, str]] = {
    "name": (str, "text"),
    "version": (int, "a whole number"),
    "max_batch_size": (int, "a whole number"),
    "server_weights": (str, "text"),
    "fingerprint": (str, "text"),
    "encoding": (str, "text"),
    "optimization": (str, "text"),
    "files": (dict, "an object"),
    "made_with": (dict, "an object"),
    "audit": (dict, "an object or null"),
    "threat_model": (dict, "an object or null"),
    "channel": (list, "a list"),
    "measurements": (list, "a list"),
    "value_range": (list, "a list of two numbers"),
}
_NULLABLE = ("audit", "threat_model", "value_range")


def _check_threat_model(data: Any) -> None:
    try:
        ThreatModel.from_json(data)
    except (PrivPartError, TypeError) as error:
        raise ContractError(f"The threat model is malformed: {error} Export the bundle again.") from error
