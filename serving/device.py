"""Runs the device half. The seam is `DeviceRunner`: one runner a format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_privpart.contract import DEVICE_SIGNATURE, Contract
from keras_privpart.errors import BundleError, IntegrityError


class DeviceRunner(ABC):
    """The device half of one bundle, loaded."""

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one batch: the contract's inputs `[n, ...]` by name, to the boundary's tensors `[n, ...]` by name."""


class SavedModelRunner(DeviceRunner):
    """The device half as a SavedModel. Loading it imports TensorFlow.

    Args:
        folder: the SavedModel, already verified against the contract.

    Raises:
        BundleError: TensorFlow is missing or cannot load the folder.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import tensorflow as tf
        except ImportError as error:
            raise BundleError(f"The device half {folder} is a SavedModel and needs TensorFlow: {error}. Install tensorflow.") from error
        self._constant = tf.constant
        try:
            # The loaded object must stay alive as long as its signature is called.
            self._model = tf.saved_model.load(str(folder))
            self._signature = self._model.signatures[DEVICE_SIGNATURE]
        except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
            raise BundleError(f"Can't load the device half {folder}: {error}. Export the bundle again.") from error

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        boundary = self._signature(**{name: self._constant(value) for name, value in inputs.items()})
        return {name: np.asarray(value.numpy()) for name, value in boundary.items()}


def load_device(bundle: Path, contract: Contract) -> DeviceRunner:
    """Loads the device half of a verified bundle.

    Raises:
        IntegrityError: the contract lists no device half.
        BundleError: the device half cannot be loaded.
    """
    folder = contract.device_folder
    if f"{folder}/saved_model.pb" not in contract.files:
        raise IntegrityError(f"The contract lists no {folder}/saved_model.pb; expected a device half. Export the bundle again.")
    return SavedModelRunner(bundle / folder)
