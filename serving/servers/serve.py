"""`serve`: a bundle's server in the foreground, until somebody stops it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_privpart.errors import EngineError

from .engine import Engine, StopFlag, start
from .replicas import Replicas, start_replicas


def serve(
    bundle: str | Path, *args: Any, replicas: int = 1, on_ready: Callable[[Engine | Replicas], None] | None = None, **kwargs: Any
) -> None:
    """Serves a bundle until SIGINT or SIGTERM, then stops the server and returns.

    Args:
        bundle: the bundle's folder.
        *args: as for `start`.
        replicas: servers on ports that follow each other.
        on_ready: called once the model is loaded, to say where.
        **kwargs: as for `start`.

    Raises:
        EngineError: as for `start`, or the server ended by itself.
    """
    stop = StopFlag()
    with stop_signals(stop):
        try:
            running: Engine | Replicas
            if replicas == 1:
                running = start(bundle, *args, stop=stop, **kwargs)
            else:
                running = start_replicas(replicas, bundle, *args, stop=stop, **kwargs)
        except EngineError:
            if stop.raised:
                return
            raise
        with running:
            if on_ready is not None:
                on_ready(running)
            running.wait(stop)


@contextmanager
def stop_signals(flag: StopFlag) -> Iterator[None]:
    """SIGINT and SIGTERM raise the flag, and do nothing else, as long as the block runs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    previous = {number: signal.signal(number, lambda *_: flag.up()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
