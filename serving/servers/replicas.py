"""Several servers of one bundle, for clients that take turns."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

from keras_privpart.errors import EngineError

from .choice import free_port
from .engine import PAUSE_SECONDS, Engine, StopFlag, start


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
        """One line a server."""
        return "\n".join(engine.describe() for engine in self.engines)

    def wait(self, stop: StopFlag | None = None) -> None:
        """Blocks as long as all servers run, or until the flag is raised.

        Raises:
            EngineError: one ended by itself; with the last lines of its log.
        """
        while any(engine._process is not None for engine in self.engines) and not (stop is not None and stop.raised):
            for engine in self.engines:
                engine.check_alive()
                engine.refresh()
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
