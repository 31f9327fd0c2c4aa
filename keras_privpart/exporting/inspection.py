"""`inspect`: shows and verifies everything in a bundle, and names each bad file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_privpart.contract import (
    CONTRACT_FILE,
    FOLDERS,
    OLDER_CONTRACTS,
    SERVING_FOLDER,
    Contract,
    FileProblem,
    check_saved_model,
    larger_than_raw,
)
from keras_privpart.errors import ContractError, IntegrityError
from keras_privpart.exporting.promotion import intact_labels
from keras_privpart.exporting.tf_serving.serving_config import MODELS_CONFIG
from keras_privpart.threat_model import ThreatModel

_VERSIONED = tuple(folder for folder in FOLDERS if folder != SERVING_FOLDER)


@dataclass(frozen=True)
class Inspection:
    """What a bundle holds, and what is wrong with it.

    Attributes:
        path: the folder.
        contracts: one per version, as far as they can be read.
        labels: version by label.
        problems: one a bad file.
    """

    path: Path
    contracts: tuple[Contract, ...]
    labels: Mapping[str, int]
    problems: tuple[FileProblem, ...]

    def to_json(self) -> dict[str, Any]:
        versions = [{key: value for key, value in contract.to_json().items() if key != "digest"} for contract in self.contracts]
        return {
            "bundle": str(self.path),
            "intact": not self.problems,
            "problems": [asdict(problem) for problem in self.problems],
            "labels": dict(self.labels),
            "versions": versions,
        }

    def describe(self) -> str:
        """In words. Characters that steer a terminal are replaced: a bundle's texts may be anybody's."""
        lines = [f"Bundle {self.path}"]
        for contract in self.contracts:
            lines += _describe(contract, sorted(label for label, version in self.labels.items() if version == contract.version))
        count = sum(len(contract.files) for contract in self.contracts)
        if self.problems:
            lines += [f"NOT INTACT: {len(self.problems)} of its files are bad.", *(f"- {problem}" for problem in self.problems)]
        else:
            lines.append(f"Intact: {count} files as their contracts say, the files of {SERVING_FOLDER}/ as they were written.")
        return "".join(char if char.isprintable() or char == "\n" else "�" for char in "\n".join(lines))


def inspect(bundle: str | Path, *, partial: bool = False) -> Inspection:
    """Reads and verifies every version of a bundle. A damaged bundle is no error here: it is what the result tells.

    Args:
        bundle: the bundle's folder.
        partial: whether files may be missing, as on a device, which needs no `server/`.
    """
    root = Path(bundle)
    try:
        versions = Contract.versions(root)
    except (ContractError, IntegrityError) as error:
        return Inspection(root, (), {}, (FileProblem(CONTRACT_FILE, str(error)),))
    found = [_contract(root, version) for version in versions]
    contracts = [item for item in found if isinstance(item, Contract)]
    problems = [item for item in found if isinstance(item, FileProblem)]
    for contract in contracts:
        bad = list(contract.file_problems(root, _VERSIONED, partial=partial))
        problems += bad or _graph_problems(root, contract)
    problems += contracts[-1].file_problems(root, (SERVING_FOLDER,), partial=partial)
    labels: Mapping[str, int] = {}
    if (root / MODELS_CONFIG).is_file() and not any(problem.path == MODELS_CONFIG for problem in problems):
        labels = intact_labels(root)
    problems += _strays(root, versions)
    first = {problem.path: problem for problem in reversed(problems)}  # several contracts may name one file
    return Inspection(root, tuple(contracts), labels, tuple(first[path] for path in sorted(first)))


def _contract(root: Path, version: int) -> Contract | FileProblem:
    try:
        return Contract.load(root, version)
    except (ContractError, IntegrityError) as error:
        return FileProblem(f"{OLDER_CONTRACTS}/{version}.json", str(error))


def _graph_problems(root: Path, contract: Contract) -> Iterator[FileProblem]:
    """SavedModels, in files that are as the contract says, that would do more than compute."""
    for folder in (contract.device_folder, contract.server_folder):
        if (root / folder / "saved_model.pb").is_file():
            try:
                check_saved_model(root / folder, folder)
            except IntegrityError as error:
                yield FileProblem(f"{folder}/saved_model.pb", str(error))


def _strays(root: Path, versions: tuple[int, ...]) -> Iterator[FileProblem]:
    """What stands in the bundle and belongs to none of its versions."""
    for entry in sorted(root.iterdir()):
        if entry.name not in (CONTRACT_FILE, OLDER_CONTRACTS, *FOLDERS):
            yield FileProblem(entry.name, f"{entry.name} is not part of a bundle. Keep it elsewhere.")
    for entry in sorted((root / OLDER_CONTRACTS).glob("*")):
        if entry.name not in {f"{version}.json" for version in versions}:
            path = f"{OLDER_CONTRACTS}/{entry.name}"
            yield FileProblem(path, f"{path} is no version's contract. Remove it.")
    for folder in _VERSIONED:
        for entry in sorted((root / folder).glob("*")):
            path = f"{folder}/{entry.name}"
            if entry.name.isdecimal() and entry.name not in map(str, versions):
                yield FileProblem(path, f"{path} belongs to no contract: an export was interrupted, or its contract is gone. Remove it.")


def _sent(contract: Contract) -> str:
    """Bytes that cross for one example, beside those of the raw input."""
    sent, raw = contract.boundary.nbytes, contract.raw_nbytes
    if sent is None or raw is None:
        return "a free number of bytes for one example"
    return f"{sent:,} bytes for one example, {larger_than_raw(sent, raw) or f'the raw input has {raw:,}'}"


def _describe(contract: Contract, labels: list[str]) -> list[str]:
    nbytes = sum(record.nbytes for record in contract.files.values())
    rows = {
        "pair": contract.fingerprint,
        "device": f"{', '.join(contract.formats) or 'none'}; optimised: {contract.optimization}",
        "inputs": ", ".join(f"{t.name}: {t.dtype}{list(t.shape)}" for t in contract.inputs),
        "boundary": str(contract.boundary),
        "sent": _sent(contract),
        "encoding": "none: as the model computes it" if contract.encoding == "none" else contract.encoding,
        "channel": ", ".join(str(layer.get("class")) for layer in contract.channel) or "none",
        "outputs": ", ".join(f"{t.name}: {t.dtype}{list(t.shape)}" for t in contract.outputs),
        "batch": f"at most {contract.max_batch_size} examples per request",
        "files": f"{len(contract.files)}, {nbytes:,} bytes",
        "made with": ", ".join(f"{package} {version}" for package, version in sorted(contract.made_with.items())),
    }
    for row in contract.measurements:
        rows[f"measured, {row.get('form')}"] = ", ".join(f"{key} {_value(value)}" for key, value in row.items() if key != "form")
    title = f"Version {contract.version} of {contract.name!r}" + (f" ({', '.join(labels)})" if labels else "")
    lines = [title, *(f"  {key:<10} {text}" for key, text in rows.items())]
    lines += [f"  audit      {line}" for line in _audit(contract.audit)]
    if contract.threat_model is None:
        return [*lines, "  threat model: none was declared"]
    return [*lines, "  threat model:", *(f"    {line}" for line in ThreatModel.from_json(contract.threat_model).describe().splitlines())]


def _audit(audit: Mapping[str, Any] | None) -> list[str]:
    """One line a fact; an audit that another version wrote is shown as it is."""
    if audit is None:
        return ["none: this version was not audited"]
    kinds = audit.get("kinds")
    flat = {key: value for key, value in audit.items() if key not in ("kinds", "schema", "threat_model")}
    lines = [f"{key}: {json.dumps(value)}" for key, value in flat.items()]
    for kind, facts in (kinds if isinstance(kinds, dict) else {}).items():
        shown = facts.items() if isinstance(facts, dict) else {"": facts}.items()
        lines.append(f"{kind}: " + ", ".join(f"{key} {_value(value)}" for key, value in shown))
    return lines


def _value(value: Any) -> str:
    return "not measured" if value is None else value if isinstance(value, str) else json.dumps(value)
