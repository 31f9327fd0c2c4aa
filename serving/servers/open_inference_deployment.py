"""Writes the files that run a bundle's ONNX half for good: Triton behind a proxy by compose, and MLServer in KServe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from string import Template

from keras_privpart.contract import SERVER_ONNX, Contract

from ..open_inference.v2_messages import V2_METHODS
from .commands import model_folder
from .proxy import TEMPLATES, envoy

FOLDER = "open-inference"
TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:25.03-py3"
MLSERVER = "1.7.1"  # that the package's runtime is tried with
TRITON_GRPC_PORT = 8001
_RUNTIME = "keras_privpart.serving.open_inference.mlserver_runtime.OnnxModel"


def open_inference_texts(root: Path, values: Mapping[str, str]) -> dict[str, str]:
    """The texts of `compose.yaml`, `envoy.yaml`, `config.pbtxt`, `kserve.yaml` and `Dockerfile`, by their paths; none without an ONNX half.

    Args:
        root: the bundle's folder.
        values: what the templates of all servers have in common.

    Raises:
        ContractError, IntegrityError: a version is not what its contract says.
    """
    held = [Contract.load(root, version) for version in Contract.versions(root)]
    contracts = [contract for contract in held if "onnx" in contract.server_formats]
    if not contracts:
        return {}
    for contract in contracts:
        contract.verify_files(root, ("server",))
    own = {
        **values,
        "triton_image": TRITON_IMAGE,
        "mlserver": MLSERVER,
        "package": contracts[-1].made_with["keras_privpart"],
        "max_batch_size": str(max(contract.max_batch_size for contract in contracts)),
        "versions": "\n".join(_mount(contract, values["bundle"]) for contract in contracts),
        "settings": "\n".join(f"  {_settings_file(c)}: |\n    {json.dumps(_settings(c))}" for c in contracts),
        "items": "\n".join(f"            - {{key: {_settings_file(c)}, path: {c.version}/model-settings.json}}" for c in contracts),
    }
    texts = {path.name: path.read_text(encoding="utf-8") for path in (TEMPLATES / FOLDER).iterdir()}
    written = {name: Template(text).substitute(own) for name, text in texts.items()}
    return {f"{FOLDER}/{name}": text for name, text in (written | {"envoy.yaml": envoy(V2_METHODS, TRITON_GRPC_PORT)}).items()}


def _mount(contract: Contract, bundle: str) -> str:
    """A version's folder, where Triton looks for it: a mount of its own, since inside a read-only one config.pbtxt had no place."""
    source = f"${{BUNDLE:-../{bundle}}}/server/{contract.version}"
    target = f"{model_folder(contract.name)}/{contract.version}"
    lines = ("- type: bind", f'  source: "{source}"', f'  target: "{target}"', "  read_only: true")
    return "\n".join(f"{' ' * 6}{line}" for line in lines)


def _settings_file(contract: Contract) -> str:
    return f"model-settings-{contract.version}.json"


def _settings(contract: Contract) -> dict[str, object]:
    uri = f"{model_folder(contract.name)}/{contract.version}/{SERVER_ONNX}"
    return {"name": contract.name, "implementation": _RUNTIME, "parameters": {"uri": uri, "version": str(contract.version)}}
