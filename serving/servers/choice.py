"""Which server can be had here, and on which port."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass

from keras_privpart.errors import EngineError

from .commands import BINARY

BINARY_KIND, DOCKER_KIND, LOCAL_KIND = "tensorflow_model_server", "docker", "local"
KINDS = (BINARY_KIND, DOCKER_KIND, LOCAL_KIND)

_DOCKER_SECONDS = 10.0


@dataclass(frozen=True)
class Choice:
    """A kind of server, the program that runs it, and why the better kinds were passed over."""

    kind: str
    program: str
    reasons: tuple[str, ...] = ()


def choose(prefer: str | None = None) -> Choice:
    """The best server that can be had here.

    Raises:
        EngineError: `prefer` is unknown or cannot be had.
    """
    if prefer is not None and prefer not in KINDS:
        raise EngineError(f"Received prefer={prefer!r}; expected one of {list(KINDS)}, or None for the best that can be had.")
    reasons: list[str] = []
    for kind in KINDS if prefer is None else (prefer,):
        program, reason = _find(kind)
        if program is not None:
            return Choice(kind, program, tuple(reasons))
        reasons.append(reason)
    raise EngineError(f"Can't start the {prefer} server: {'; '.join(reasons)}. Install it, or leave prefer out.")


def free_port(host: str, port: int) -> int:
    """Returns `port`, or a free one for 0.

    Raises:
        EngineError: the port is in use, or cannot be had.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Lets a port be taken again right after a restart; a port that somebody listens on is refused all the same.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise EngineError(f"Can't listen on port {port}: {error}. Choose another port, or 0 for a free one.") from error
        return probe.getsockname()[1]


def _find(kind: str) -> tuple[str | None, str]:
    """The program that runs a kind of server, or `None` and the reason."""
    if kind == LOCAL_KIND:
        return sys.executable, ""
    program = shutil.which(BINARY if kind == BINARY_KIND else "docker")
    if program is None:
        return None, f"{BINARY if kind == BINARY_KIND else 'docker'} is not on the PATH"
    # A docker client without an engine prints its own version and may still end with status 0.
    if kind == DOCKER_KIND and not output_of([program, "info", "--format", "{{.ServerVersion}}"], timeout=_DOCKER_SECONDS):
        return None, "no docker engine answers"
    return program, ""


def output_of(command: list[str], timeout: float) -> str:
    """Output of a command; empty when it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
