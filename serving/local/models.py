"""The versions and labels that the local server has loaded, as the bundle's `models.config` asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from keras_privpart.contract import SERVING_FILES, Contract, check_saved_model
from keras_privpart.errors import EngineError

from .servable import Refusal, Servable


class Models:
    """Loaded versions of one model.

    Args:
        bundle: the bundle's folder; only its contracts, `server/` and `serving/` are read.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
        EngineError: a version cannot be loaded.
    """

    def __init__(self, bundle: Path) -> None:
        self._bundle = bundle
        self.name = Contract.load(bundle).name
        # Replaced as a whole: a request sees the state before a change or after it.
        self._loaded: tuple[Mapping[int, Servable], Mapping[str, int]] = ({}, {})
        self.refresh()

    @property
    def versions(self) -> Mapping[int, Servable]:
        return self._loaded[0]

    def refresh(self) -> None:
        """Loads the versions that `models.config` names, then drops the others; without the file, all versions of the bundle."""
        contracts = {version: Contract.load(self._bundle, version) for version in Contract.versions(self._bundle)}
        wanted, labels = set(contracts), {}
        path = self._bundle / SERVING_FILES[0]
        if path.exists():
            contracts[max(contracts)].verify_files(self._bundle, ("serving",))
            text = path.read_text(encoding="utf-8")
            model = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config[0]
            wanted, labels = set(model.model_version_policy.specific.versions), dict(model.version_labels)
        self.load(wanted, labels)

    def load(self, versions: Collection[int], labels: Mapping[str, int] | None = None) -> None:
        """Loads what is missing of these versions, then drops all others, so that a moved client finds its version throughout."""
        servables = {version: self.versions.get(version) or self._servable(version) for version in sorted(versions)}
        self._loaded = (servables, dict(labels or {}))

    def _servable(self, version: int) -> Servable:
        contract = Contract.load(self._bundle, version)
        contract.verify_files(self._bundle, ("server",))
        folder = self._bundle / contract.server_folder
        check_saved_model(folder, contract.server_folder)
        try:
            return Servable(folder)
        except (OSError, ValueError, tf.errors.OpError, Refusal) as error:
            raise EngineError(f"Can't load {folder}: {error}. Export the bundle again.") from error

    def find(self, request: Any) -> Servable:
        """The servable that a request means: a version, what a label stands for, or the newest."""
        spec = self.spec_of(request)
        versions, labels = self._loaded
        version = self._labelled(spec, labels) if spec.HasField("version_label") else None
        if version is None and spec.HasField("version"):
            version = spec.version.value
        if spec.name != self.name or not versions or version not in (None, *versions):
            wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
        return versions[max(versions) if version is None else version]

    def status(self, request: Any) -> list[int]:
        """The versions that a status request asks for."""
        spec = self.spec_of(request)
        versions, labels = self._loaded
        version = self._labelled(spec, labels) if spec.HasField("version_label") else None
        if spec.HasField("version"):
            version = spec.version.value
        if version is not None and (spec.name != self.name or version not in versions):
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {spec.name}")
        if spec.name != self.name:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        return sorted(versions) if version is None else [version]

    @staticmethod
    def spec_of(request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        return request.model_spec

    @staticmethod
    def _labelled(spec: Any, labels: Mapping[str, int]) -> int:
        if spec.version_label not in labels:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}")
        return labels[spec.version_label]
