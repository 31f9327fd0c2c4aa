"""Several servers of one bundle, for clients that take turns."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from keras_privpart.errors import EngineError

from .choice import free_port
from .engine import PAUSE_SECONDS, Engine, StopFlag, start

_LOG = logging.getLogger("keras_privpart.serving")
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_TRIES = 3


class Replica:
    """One of several servers: started again when it ends by itself, later each time that it does not come to serve in between."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.failures = 0  # since it last served
        self._serves = True
        self._due: float | None = None

    def step(self) -> None:
        """Looks once, and does what is due."""
        if self._due is not None:
            if time.monotonic() >= self._due:
                self._due, self._serves = None, False
                self.engine.relaunch()
            return
        code = self.engine.exit_status()
        if code is not None:
            pause = min(_FIRST_PAUSE * 2**self.failures, _LONGEST_PAUSE)
            self.failures += 1
            self._due = time.monotonic() + pause
            _LOG.warning(
                "The replica at %s ended with status %s.%s It is started again in %.3g s; the others serve on.\n%s",
                self.engine.address, code, self.engine.load_failure(), pause, self.engine.last_lines(),
            )  # fmt: skip
        elif self._serves:
            self.engine.refresh()
        elif _listens(self.engine.own_address):  # which a server does when it has loaded its models
            self.failures, self._serves = 0, True
            self.engine.has_loaded()
            _LOG.info("The replica at %s serves again.", self.engine.address)


class Replicas:
    """Several servers of one bundle, for clients that take turns. Made by `start_replicas`."""

    def __init__(self, engines: list[Engine]) -> None:
        self.engines = tuple(engines)
        self.kind, self.name, self.version = engines[0].kind, engines[0].name, engines[0].version
        self.addresses = tuple(engine.address for engine in engines)
        self.address = ", ".join(self.addresses)
        rest = [engine.rest_address for engine in engines if engine.rest_address is not None]
        self.rest_address = ", ".join(rest) or None
        self.log_path = ", ".join(str(engine.log_path) for engine in engines)

    def __enter__(self) -> Replicas:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def describe(self) -> str:
        """One line per server."""
        return "\n".join(engine.describe() for engine in self.engines)

    def wait(self, stop: StopFlag | None = None) -> None:
        """Blocks until the flag is raised. A server that ends by itself is started again; meanwhile the others serve on.

        Raises:
            EngineError: none serves, and each was started three times in vain; with the last lines of the log of one that ended.
        """
        replicas = [Replica(engine) for engine in self.engines]
        while any(engine.started for engine in self.engines) and not (stop is not None and stop.raised):
            for replica in replicas:
                replica.step()
            if all(replica.failures > _TRIES for replica in replicas):
                ended = next(engine for engine in self.engines if engine.exit_status() is not None)  # others may just have begun again
                raise EngineError(f"No replica serves, after {_TRIES} restarts of each.\n{ended.last_lines()}")
            time.sleep(PAUSE_SECONDS)

    def stop(self) -> None:
        """Ends all servers."""
        for engine in self.engines:
            engine.stop()


def start_replicas(
    count: int, bundle: str | Path, port: int = 8500, rest_port: int | None = None, *args: Any, log_path: Any = None, **kwargs: Any
) -> Replicas:
    """Starts several servers of one bundle, one after the other, on ports that follow each other.

    Args:
        count: how many, from 1.
        bundle: the bundle's folder.
        port: the first one's gRPC port; 0 takes free ones.
        rest_port: the first one's REST port; 0 takes free ones, `None` leaves them closed.
        *args: as for `start`.
        log_path: the first one's log; the others' names end with their number.
        **kwargs: as for `start`.

    Raises:
        EngineError: as for `start`; none is left running.
    """
    if count < 1:
        raise EngineError(f"Received {count} replicas; expected a whole number from 1.")
    for first in (port, rest_port):
        for index in range(count if first else 0):  # all, before the first server is started
            free_port(kwargs.get("host", "127.0.0.1"), (first or 0) + index)
    engines: list[Engine] = []
    try:
        for index in range(count):
            own = [None if first is None else first and first + index for first in (port, rest_port)]
            log = log_path if log_path is None or index == 0 else Path(f"{log_path}.{index}")
            engines.append(start(bundle, own[0] or 0, own[1], *args, log_path=log, **kwargs))
    except BaseException:
        for engine in engines:
            engine.stop()
        raise
    return Replicas(engines)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True
