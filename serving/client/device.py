"""Runs the device half. The seam is `DeviceRunner`: one runner per format."""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_privpart.contract import DEVICE_SIGNATURE, NOISE_KEY, WEB, Contract, check_saved_model, glob_free
from keras_privpart.errors import BundleError, ContractError, IntegrityError
from keras_privpart.quiet import hushed

from . import noise_keys

SAVED_MODEL = "saved_model"
_MOST_THREADS = 4  # of LiteRT: more are slower on the big and small cores of phones


class DeviceRunner(ABC):
    """The device half of one bundle, loaded. May be used from several threads."""

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one batch: the contract's inputs `[n, ...]` by name, to the boundary's tensors `[n, ...]` by name."""


class SavedModelRunner(DeviceRunner):
    """The device half as a SavedModel. Loading it imports TensorFlow.

    Args:
        folder: the SavedModel, already verified against the contract.
        noise_key: see `noise_key.key_for`; used only where the half's noise is frozen.

    Raises:
        BundleError: TensorFlow is missing or cannot load the folder.
        IntegrityError: its graph would do more than compute.
    """

    def __init__(self, folder: Path, noise_key: bytes | str | Path | None = None) -> None:
        try:
            import tensorflow as tf
        except ImportError as error:
            raise BundleError(f"The device half {folder} is a SavedModel and needs TensorFlow: {error}. Install tensorflow.") from error
        check_saved_model(folder, f"{folder.parent.name}/{folder.name}")
        self._constant = tf.constant
        try:
            # The loaded object must stay alive as long as its signature is called.
            with glob_free(folder) as plain:
                self._model = tf.saved_model.load(str(plain))
            self._signature = self._model.signatures[DEVICE_SIGNATURE]
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise BundleError(f"Can't load the device half {folder}: {error}. Export the bundle again.") from error
        locks = [variable for variable in self._signature.variables if NOISE_KEY in variable.name]
        secret = noise_keys.secret(noise_key) if locks else b""
        for variable in locks:
            variable.assign(np.frombuffer(noise_keys.key_of(secret, variable.name), "<u4"))

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        boundary = self._signature(**{name: self._constant(value) for name, value in inputs.items()})
        return {name: np.asarray(value.numpy()) for name, value in boundary.items()}


class LiteRTRunner(DeviceRunner):
    """The device half as a LiteRT file, run by `ai_edge_litert`. Needs no TensorFlow.

    Args:
        file: the file, already verified against the contract.

    Raises:
        BundleError: LiteRT is missing or cannot load the file.
    """

    def __init__(self, file: Path) -> None:
        try:
            interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter
        except ImportError as error:
            raise BundleError(
                f"The device half {file} needs LiteRT: {error}. Install it: pip install 'keras_privpart[litert]', or ai-edge-litert alone."
            ) from error
        try:
            with hushed():  # it tells of its delegate, when that is first needed
                self._interpreter: Any = interpreter(model_path=str(file), num_threads=min(os.cpu_count() or 1, _MOST_THREADS))
                self._interpreter.allocate_tensors()
            self._signature = self._interpreter.get_signature_runner(DEVICE_SIGNATURE)
        except (ValueError, RuntimeError) as error:
            raise BundleError(f"Can't load the device half {file}: {error}. Export the bundle again.") from error
        self._lock = threading.Lock()  # an interpreter has one set of buffers

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        with self._lock:
            return {name: np.array(value) for name, value in self._signature(**inputs).items()}


def load_device(
    bundle: Path, contract: Contract, device_format: str | None = None, noise_key: bytes | str | Path | None = None
) -> DeviceRunner:
    """Loads the device half of a verified bundle.

    Args:
        bundle: the bundle's folder.
        contract: its contract.
        device_format: one of `contract.formats`; `None` takes the first LiteRT form if there is one and LiteRT is installed, else the
            SavedModel.
        noise_key: the secret of frozen noise, or its file; one of its own where `None`.

    Raises:
        IntegrityError: the contract lists no device half.
        ContractError: it lists none of this format, or only that of browsers.
        BundleError: the device half cannot be loaded.
    """
    if not contract.formats:
        raise IntegrityError(f"The contract lists no file of {contract.device_folder}/; expected a device half. Export the bundle again.")
    chosen = _choice(contract) if device_format is None else device_format
    if chosen == WEB:
        raise ContractError(
            f"Received the format 'web', which browsers run; version {contract.version} of {contract.name!r} has {list(contract.formats)}. "
            "Choose another of them, or export again with 'litert' or 'saved_model' too."
        )
    file = bundle / contract.device_file(chosen)
    return SavedModelRunner(file.parent, noise_key) if chosen == SAVED_MODEL else LiteRTRunner(file)


def needs_tensorflow(contract: Contract, device_format: str | None = None) -> bool:
    """Whether `load_device` would load the SavedModel, and with it TensorFlow."""
    return (_choice(contract) if device_format is None else device_format) == SAVED_MODEL


def _choice(contract: Contract) -> str:
    light = [form for form in contract.formats if form not in (SAVED_MODEL, WEB)]
    has_runtime = importlib.util.find_spec("ai_edge_litert") is not None
    return light[0] if light and (has_runtime or SAVED_MODEL not in contract.formats) else next(iter(contract.formats), SAVED_MODEL)
