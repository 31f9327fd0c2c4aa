"""The versions and labels that the local server has loaded. They change as TensorFlow Serving's do when its configuration is reloaded."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.config import model_server_config_pb2

from keras_privpart.contract import SERVING_FILES, Contract, check_saved_model
from keras_privpart.errors import EngineError, PrivPartError

from .servable import Refusal, Servable


@dataclass(frozen=True)
class State:
    """Where a version stands: a `ModelVersionStatus.State`, and why loading it failed."""

    number: int
    message: str = ""


_LOADING, _AVAILABLE = State(ModelVersionStatus.LOADING), State(ModelVersionStatus.AVAILABLE)
_UNLOADING, _END = State(ModelVersionStatus.UNLOADING), State(ModelVersionStatus.END)


class Models:
    """Loaded versions of one model.

    Args:
        bundle: the bundle's folder; only its contracts, `server/` and `serving/` are read.
        config: what to load first; the bundle's `models.config` when `None`, or all versions where that is missing.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
        EngineError: a version cannot be loaded.
    """

    def __init__(self, bundle: Path, config: Any = None) -> None:
        self._bundle = bundle
        self.name = Contract.load(bundle).name
        self._reloading = threading.Lock()
        # Replaced as wholes: a request sees the state before a change or after it.
        self._servables: Mapping[int, Servable] = {}
        self._labels: Mapping[str, int] = {}
        self._states: Mapping[int, State] = {}
        self._failures: dict[int, PrivPartError] = {}
        self._wanted: frozenset[int] = frozenset()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="local-server-loader")
        self._settled: Future[None] = Future()
        try:
            self.reload(bundle_config(bundle) if config is None else config)
            self.wait()
        except Refusal as refusal:
            raise EngineError(f"Can't serve {bundle}: {refusal.message}. Export the bundle again.") from refusal
        for failure in self._failures.values():
            raise failure
        for version in sorted(self._wanted - self._servables.keys()):  # not even a folder: says which files are missing
            Contract.load(bundle, version).verify_files(bundle, ("server",))

    @property
    def versions(self) -> Mapping[int, Servable]:
        """Those that answer."""
        return self._servables

    @property
    def labels(self) -> Mapping[str, int]:
        return self._labels

    def reload(self, config: Any) -> None:
        """Takes a `ModelServerConfig` as TensorFlow Serving does: labels first, then versions, which load after this returns.

        A label that is new may name any version. One that moves may only name a version that is loaded: otherwise nothing of the
        configuration is taken.

        Raises:
            Refusal: the configuration is not taken; nothing has changed.
        """
        if config.WhichOneof("config") is None:
            return  # TensorFlow Serving takes no action either
        with self._reloading:
            model = self._model_of(config)
            labels = dict(model.version_labels)
            for label, version in sorted(labels.items()):
                state = self._states.get(version)
                if self._labels.get(label, version) != version and state != _AVAILABLE:
                    raise Refusal(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {self.name}, which is not currently available "
                        "for inference",
                    )
            self._labels = labels
            self._wanted = frozenset(model.model_version_policy.specific.versions)
            self._settled = self._loader.submit(self._settle)

    def wait(self) -> None:
        """Waits until what was asked for last is loaded, or has failed."""
        self._settled.result()

    def refresh(self) -> None:
        """Reloads the bundle's `models.config`, and waits. Raises what `reload` does, and `IntegrityError` for a damaged file."""
        self.reload(bundle_config(self._bundle))
        self.wait()

    def load(self, versions: Collection[int], labels: Mapping[str, int] | None = None) -> None:
        """Loads what is missing of these versions, then drops all others, and waits."""
        self.reload(_config(self.name, versions, labels or {}))
        self.wait()

    def close(self) -> None:
        """Loads no more."""
        self._loader.shutdown()

    def _model_of(self, config: Any) -> Any:
        listed = config.model_config_list.config
        places = (f"/models/{self.name}", str((self._bundle / "server").resolve()))
        if len(listed) != 1 or listed[0].name != self.name or listed[0].base_path not in places:
            raise Refusal(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"The local server serves {self.name} of one bundle; expected one model of that name, at one of {list(places)}",
            )
        return listed[0]

    def _settle(self) -> None:
        """Loads what is wanted, and after that drops the rest: a moved client finds its version throughout."""
        wanted = self._wanted
        for version in self._failures.keys() - wanted:
            del self._failures[version]
        for version in sorted(wanted):
            # A version that failed is not tried again until it was taken out of the configuration.
            if version in self._servables or version in self._failures or not (self._bundle / "server" / str(version)).is_dir():
                continue
            self._set(version, _LOADING)
            try:
                servable = self._servable(version)
            except PrivPartError as error:
                self._failures[version] = error
                self._set(version, State(ModelVersionStatus.END, str(error)))
            else:
                self._servables = {**self._servables, version: servable}
                self._set(version, _AVAILABLE)
        if wanted and not wanted & self._servables.keys():
            return  # nothing would answer
        for version in sorted(self._servables.keys() - wanted):
            self._set(version, _UNLOADING)
            self._servables = {held: servable for held, servable in self._servables.items() if held != version}
            self._set(version, _END)

    def _set(self, version: int, state: State) -> None:
        self._states = {**self._states, version: state}

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
        servables = self._servables
        version = self._labelled(spec) if spec.HasField("version_label") else None
        if version is None and spec.HasField("version"):
            version = spec.version.value
        if spec.name != self.name or not servables or version not in (None, *servables):
            wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
        return servables[max(servables) if version is None else version]

    def status(self, request: Any) -> dict[int, State]:
        """The versions that a status request asks for, the newest first; those that were unloaded stay in the list."""
        spec = self.spec_of(request)
        states = self._states
        version = self._labelled(spec) if spec.HasField("version_label") else None
        if spec.HasField("version"):
            version = spec.version.value
        if version is not None and (spec.name != self.name or version not in states):
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {spec.name}")
        if spec.name != self.name or not states:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        return {held: states[held] for held in sorted(states, reverse=True) if version in (None, held)}

    @staticmethod
    def spec_of(request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        return request.model_spec

    def _labelled(self, spec: Any) -> int:
        version = self._labels.get(spec.version_label) if spec.name == self.name else None
        if version is None:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}")
        return version


def bundle_config(bundle: Path) -> Any:
    """The `ModelServerConfig` of a bundle's `models.config`, verified; of all its versions where the file is missing.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
    """
    path = bundle / SERVING_FILES[0]
    if not path.exists():
        return _config(Contract.load(bundle).name, Contract.versions(bundle), {})
    Contract.load(bundle).verify_files(bundle, ("serving",))
    return read_config(path)


def read_config(path: Path) -> Any:
    """The `ModelServerConfig` in a file.

    Raises:
        EngineError: it cannot be read, or is none.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), model_server_config_pb2.ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise EngineError(f"Can't read {path}: {error}. Expected a models.config as export writes it.") from error


def _config(name: str, versions: Collection[int], labels: Mapping[str, int]) -> Any:
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add(name=name, base_path=f"/models/{name}")
    model.model_version_policy.specific.versions.extend(sorted(versions))
    for label, version in labels.items():
        model.version_labels[label] = version
    return config
