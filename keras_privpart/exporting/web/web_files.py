"""The files of `device/<version>/web/`: the client module, LiteRT.js where it was asked for, and the manifest that the module reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from keras_privpart.contract import DEVICE_FILES, UNSIGNED, WEB, WEB_MANIFEST, Contract, TensorSpec
from keras_privpart.errors import BundleError

MODULE = Path(__file__).parent / "browser"
MODULE_FILES = ("privpart.js", "privpart.d.ts")
MANIFEST_SCHEMA = 1
# Of tensors that LiteRT.js takes and gives; an int8 tensor of the boundary leaves the half as uint8.
DTYPES = ("float32", "int32", "uint8")
_WIRE = (*DTYPES, "int8")


def check_web(inputs: Sequence[TensorSpec], boundary: Sequence[TensorSpec]) -> None:
    """Raises `BundleError` unless LiteRT.js can take these inputs and give this boundary: fixed sizes, and few dtypes."""
    for what, specs, dtypes in (("input", inputs, DTYPES), ("boundary tensor", boundary, _WIRE)):
        for spec in specs:
            if spec.nbytes is None and spec.dtype in dtypes:
                raise BundleError(
                    f"Received the format 'web' for the {what} {spec.name!r} of shape {list(spec.shape)}; expected every size but the "
                    "batch to be fixed, since LiteRT.js reserves its tensors once. Give the Input its sizes, or leave the format out."
                )
            if spec.dtype not in dtypes:
                raise BundleError(
                    f"Received the format 'web' for the {what} {spec.name!r} of dtype {spec.dtype}; LiteRT.js knows {', '.join(dtypes)}. "
                    "Export with encoding='none' or 'int8', or leave the format out."
                )


def write_module(folder: Path, runtime: Mapping[str, bytes]) -> None:
    """Puts the client module, and LiteRT.js, into `web/` of a version's device folder.

    Args:
        folder: `device/<version>`, with `web/` in it.
        runtime: what `litert_js.runtime_files` returned; nothing for a page that brings LiteRT.js itself.
    """
    files = {name: (MODULE / name).read_bytes() for name in MODULE_FILES} | {f"runtime/{name}": data for name, data in runtime.items()}
    for name, data in files.items():
        target = folder / WEB / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def write_manifest(root: Path, contract: Contract) -> None:
    """Writes the manifest of a version whose pair has its fingerprint."""
    text = json.dumps(manifest(contract), indent=2, allow_nan=False) + "\n"
    (root / contract.device_folder / WEB_MANIFEST).write_text(text, encoding="utf-8")


def manifest(contract: Contract) -> dict[str, Any]:
    """What the module must know: how to ask the server, the tensors as LiteRT.js sees them, and the half's SHA-256.

    `boundary` is as the half gives it and as it crosses: where the contract says int8, uint8 with the zero point 128 higher.
    """
    model = contract.files[contract.device_file(WEB)]
    return {
        "schema": MANIFEST_SCHEMA,
        "name": contract.name,
        "version": contract.version,
        "fingerprint": contract.fingerprint,
        "encoding": contract.encoding,
        "max_batch_size": contract.max_batch_size,
        "model": {"file": Path(DEVICE_FILES[WEB]).name, "sha256": model.sha256, "bytes": model.nbytes},
        "inputs": [_described(spec) for spec in contract.inputs],
        "boundary": [_described(_unsigned(spec)) for spec in contract.boundary.tensors],
        "outputs": [_described(spec) for spec in contract.outputs],
    }


def _unsigned(spec: TensorSpec) -> TensorSpec:
    zero_point = None if spec.zero_point is None else spec.zero_point + UNSIGNED
    return replace(spec, dtype="uint8", zero_point=zero_point) if spec.dtype == "int8" else spec


def _described(spec: TensorSpec) -> dict[str, Any]:
    """Without the batch, and without what says nothing."""
    record = asdict(replace(spec, shape=spec.shape[1:]))
    return {key: record[key] for key in ("name", "shape", "dtype", "scale", "zero_point") if record[key] is not None}
