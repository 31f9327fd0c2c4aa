"""Writes the files that run a bundle's server half for good: compose with a proxy, Kubernetes, KServe, and a Grafana dashboard."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from keras_privpart import arguments, atomic
from keras_privpart.contract import Contract
from keras_privpart.errors import EngineError

from ..wire.transport import METHODS
from .commands import CONFIG_FOLDER, DEFAULT_IMAGE, GRPC_PORT, POLL_SECONDS, REST_PORT, container_command, model_folder, server_flags
from .configuration import BATCHING, MODELS, MONITORING, PROMETHEUS_PATH
from .open_inference_deployment import open_inference_texts
from .proxy import ENVOY_IMAGE, TEMPLATES, envoy

_CONFIG = (MODELS, BATCHING, MONITORING)
_MOST = 5  # times the replicas, when there is much to do
_NAME_LENGTH = 50  # a label has 63 letters, and some names get an ending


@dataclass(frozen=True)
class Deployment:
    """What `write_deployment` wrote: the folder, and its files relative to it."""

    folder: Path
    files: tuple[str, ...]


def write_deployment(bundle: str | Path, folder: str | Path, *, replicas: int = 2, image: str = DEFAULT_IMAGE) -> Deployment:
    """Writes `compose.yaml`, `envoy.yaml`, `envoy-web.yaml`, `kubernetes.yaml`, `kserve.yaml`, `grafana.json` and the server's `config/`.

    Where versions have an ONNX half, `open-inference/` holds files for Triton and MLServer beside these, which are TensorFlow Serving's.
    The files hold copies of the bundle's `serving/*.config`: write them again after an export or a promotion.

    Args:
        bundle: the bundle's folder, on this machine.
        folder: a folder that is not there yet, outside the bundle.
        replicas: servers, from 1.
        image: TensorFlow Serving's docker image.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
        EngineError: the folder is there, is inside the bundle or cannot be written, or an argument is wrong.
    """
    root, target = Path(bundle).resolve(), Path(folder)
    contract = Contract.load(root)
    contract.verify_files(root, ("server", "serving"))
    replicas = arguments.whole("replicas", replicas, EngineError)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", image):
        raise EngineError(f"Received image={image!r}; expected a docker image such as {DEFAULT_IMAGE!r}.")
    if target.exists() or target.is_symlink():
        raise EngineError(f"{target} is there already. Choose another folder: what is deployed is not overwritten.")
    if root in target.resolve().parents:
        raise EngineError(f"{target} is inside the bundle, which holds nothing but what its contract lists. Choose a folder beside it.")
    texts = _texts(root, target, contract, replicas, image)
    _install(target, texts)
    return Deployment(target, tuple(sorted(texts)))


def object_name(name: str) -> str:
    """A model's name as Kubernetes names objects: small letters, digits and dashes, starting with a letter."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_NAME_LENGTH].strip("-")
    return plain if plain[:1].isalpha() else f"model-{plain}".strip("-")


def _texts(root: Path, target: Path, contract: Contract, replicas: int, image: str) -> dict[str, str]:
    config = {name: (root / "serving" / name).read_text(encoding="utf-8") for name in _CONFIG}
    flags = server_flags(CONFIG_FOLDER, _CONFIG, GRPC_PORT, REST_PORT, POLL_SECONDS)
    values = {
        "image": image,
        "envoy_image": ENVOY_IMAGE,
        "replicas": str(replicas),
        "most_replicas": str(replicas * _MOST),
        "name": contract.name,
        "name_regex": re.escape(contract.name).replace("\\", "\\\\"),  # inside double quotes of YAML
        "object": object_name(contract.name),
        "model_folder": model_folder(contract.name),
        "metrics_path": PROMETHEUS_PATH,
        "bundle": Path(os.path.relpath(root, target.resolve())).as_posix(),
        "config": "\n".join(f"  {name}: |\n{textwrap.indent(text.rstrip(), '    ')}" for name, text in config.items()),
    }
    files = {}
    for name, depth in (("compose.yaml", 6), ("kubernetes.yaml", 12), ("kserve.yaml", 10), ("envoy-web.yaml", 0)):
        own = {**values, "flags": _listed(flags, depth), "command": _listed(container_command(flags), depth)}
        files[name] = Template((TEMPLATES / name).read_text(encoding="utf-8")).substitute(own)
    files["envoy.yaml"] = envoy(METHODS, GRPC_PORT)
    files["grafana.json"] = (TEMPLATES / "grafana.json").read_text(encoding="utf-8")
    return files | {f"config/{name}": text for name, text in config.items()} | open_inference_texts(root, values)


def _listed(flags: Sequence[str], depth: int) -> str:
    return "\n".join(f"{' ' * depth}- {json.dumps(flag)}" for flag in flags)


def _install(target: Path, texts: dict[str, str]) -> None:
    try:
        with atomic.new_folder(target) as fresh:
            atomic.write_texts(fresh, texts)
    except OSError as error:
        raise EngineError(f"Can't write {target}: {error.strerror}. Choose a folder that you may write to.") from error
