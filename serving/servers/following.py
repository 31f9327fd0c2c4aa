"""Follows a bundle while its server runs: what is exported and promoted is verified and handed on, versions first and labels after them.

TensorFlow Serving sets labels before it adds versions, and refuses a whole configuration that moves a label to a version that is not loaded
yet. So the versions go with the labels as they were, and the labels follow when the versions are AVAILABLE.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_privpart.contract import SERVING_FILES, Contract
from keras_privpart.errors import EngineError, IntegrityError, PrivPartError

from ..wire.readiness import AVAILABLE
from .configuration import Configuration
from .control import Control, NotNow

_LOG = logging.getLogger("keras_privpart.serving")
_LONG_SECONDS = 60.0


def verified(bundle: Path) -> list[Contract]:
    """Contracts of all versions, in order, with the files that a server reads compared with them.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
    """
    contracts = [Contract.load(bundle, version) for version in Contract.versions(bundle)]
    for contract in contracts:
        contract.verify_files(bundle, ("server",))
    contracts[-1].verify_files(bundle, ("serving",))
    return contracts


class Follower:
    """Takes one server from one state of its bundle to the next, a step at a time; no step waits for versions to load.

    Args:
        bundle: the bundle's folder.
        contracts: those that the server was started with.
        configuration: the server's own, which it is started with again.
        control: the way to it.
        address: what reports call it.
    """

    def __init__(self, bundle: Path, contracts: Sequence[Contract], configuration: Configuration, control: Control, address: str) -> None:
        self._bundle, self._configuration, self._control, self._address = bundle, configuration, control, address
        self._pairs = {contract.version: contract.fingerprint for contract in contracts}
        self._seen = self._stamp()
        self._taken = configuration.models()
        self._wanted: Any = None
        self._handed_over = False
        self._late_at = 0.0

    def step(self) -> None:
        """Looks once, and does what can be done now. Whatever goes wrong is reported once, and what the server has goes on being served."""
        stamp = self._stamp()
        if stamp is not None and stamp != self._seen:
            self._seen = stamp
            self._look()
        if self._wanted is None:
            return
        try:
            self._hand_on()
        except NotNow:
            return
        except EngineError as error:
            self._give_up(f"The server at {self._address} did not take the bundle's new state: {error}")

    def _look(self) -> None:
        """Verifies what the bundle has become, as at the start."""
        self._wanted = None
        try:
            contracts = verified(self._bundle)
            for contract in contracts:
                if self._pairs.get(contract.version, contract.fingerprint) != contract.fingerprint:
                    raise IntegrityError(
                        f"Version {contract.version} of {self._bundle} is another pair than the one that is loaded. A server keeps what it "
                        "has loaded under a number: export under a new version, or restart it."
                    )
            self._wanted = self._configuration.models()
        except PrivPartError as error:
            self._give_up(f"The bundle's new state is not handed on: {error}")
            return
        self._pairs |= {contract.version: contract.fingerprint for contract in contracts}
        self._handed_over = False
        self._late_at = time.monotonic() + _LONG_SECONDS

    def _hand_on(self) -> None:
        versions = set(_versions(self._wanted))
        if not self._handed_over:
            first = type(self._wanted)()
            first.CopyFrom(self._taken)
            del _versions(first)[:]
            # Versions that an old label names stay until the label has moved.
            _versions(first).extend(sorted(versions | set(_versions(self._taken))))
            self._take(first)
            self._handed_over = True
        states = self._control.states(self._configuration.name)
        for version in sorted(versions & states.keys()):
            if states[version].problem:
                raise EngineError(f"it could not load version {version}: {states[version].problem}")
        missing = sorted(version for version in versions if version not in states or states[version].number != AVAILABLE)
        if not missing:
            self._take(self._wanted)
            self._wanted = None
            labels = ", ".join(f"{label} is {version}" for label, version in sorted(_model(self._taken).version_labels.items()))
            _LOG.info("The server at %s took versions %s; %s.", self._address, ", ".join(map(str, sorted(versions))), labels)
        elif time.monotonic() > self._late_at:
            self._late_at = float("inf")
            _LOG.warning("The server at %s has not loaded versions %s yet; labels wait for them.", self._address, missing)

    def _take(self, config: Any) -> None:
        self._control.reload(config.SerializeToString())
        self._configuration.put_models(config)
        self._taken = config

    def _give_up(self, text: str) -> None:
        self._wanted = None
        _LOG.warning("%s\nWhat is loaded goes on being served. Repair it, and export or promote again.", text)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = (self._bundle / SERVING_FILES[0]).stat()
        except OSError:  # being replaced
            return None
        return found.st_mtime_ns, found.st_ino


def _model(config: Any) -> Any:
    return config.model_config_list.config[0]


def _versions(config: Any) -> Any:
    return _model(config).model_version_policy.specific.versions
