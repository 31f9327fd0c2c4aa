"""Waits until a server has loaded one version of one model."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from keras_privpart.errors import (
    DeadlineExceededError,
    ServerBusyError,
    ServerFailedError,
    ServerNotFoundError,
    ServerUnavailableError,
    ServingError,
)

from . import messages
from .steps import Send, Sleep, Steps
from .transport import STATUS

# TensorFlow Serving's ModelVersionStatus.State.
STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
AVAILABLE, _END = 30, 50
_ATTEMPT_SECONDS = 5.0
_PAUSE_SECONDS = 0.1


def wait_until_available(
    transport: Any, name: str, version: int, timeout: float, check_alive: Callable[[], None] | None = None
) -> Steps[None]:
    """Asks for the model's status until it is AVAILABLE.

    Args:
        transport: the way to the server.
        name: the model's name on the server.
        version: the version that must be loaded.
        timeout: seconds.
        check_alive: called before each attempt; raises when waiting has become pointless.

    Raises:
        ServerUnavailableError, DeadlineExceededError, ServerNotFoundError: still so when the time is up.
        ServerFailedError: the server gave up loading the version.
    """
    end = time.monotonic() + timeout
    while True:
        if check_alive is not None:
            check_alive()
        problem = yield from _problem(transport, name, version, min(_ATTEMPT_SECONDS, max(end - time.monotonic(), 0.01)))
        if problem is None:
            return
        if time.monotonic() + _PAUSE_SECONDS >= end:
            raise type(problem)(f"Not ready within {timeout:.3g} s: {problem}") from problem
        yield Sleep(_PAUSE_SECONDS, retry=False)


def _problem(transport: Any, name: str, version: int, timeout: float) -> Steps[ServingError | None]:
    """What stands in the way, if waiting may help; `None` when the version is available."""
    request = messages.GetModelStatusRequest()
    request.model_spec.name = name
    request.model_spec.version.value = version
    try:
        response = yield Send(transport, STATUS, request, timeout)
    except (ServerUnavailableError, ServerBusyError, DeadlineExceededError, ServerNotFoundError) as error:
        return error
    for status in response.model_version_status:
        if status.version == version and status.state == AVAILABLE:
            return None
        if status.version == version and status.state == _END and status.status.error_code:
            raise ServerFailedError(f"The server could not load version {version} of {name!r}: {status.status.error_message}")
    states = {status.version: STATES.get(status.state, str(status.state)) for status in response.model_version_status}
    return ServerUnavailableError(f"version {version} of {name!r} is not available yet; the server has {states or 'no versions'}.")
