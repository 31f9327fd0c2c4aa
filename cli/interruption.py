"""Ctrl-C: a command ends within seconds whatever it is doing, keeps what is finished, and says how to go on."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

Command = TypeVar("Command", bound=Callable[..., Any])

GRACE = 2.0
STATUS = 130  # as a shell has it: 128 and the signal's number


def interruptible(how_to_go_on: str) -> Callable[[Command], Command]:
    """Lets Ctrl-C end a command within `GRACE` seconds, with status 130.

    Python tells a program of Ctrl-C between two of its own instructions only, and waits for its threads at the end: inside TensorFlow
    either can take minutes. So a thread is woken by the signal itself, gives the command `GRACE` seconds to clean up, and then ends the
    process. Results are written in one step each: nothing that is finished is lost.

    Args:
        how_to_go_on: what is kept, and what to run next; printed on stderr.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapped(*args: Any, **options: Any) -> Any:
            with _watched(how_to_go_on):
                return command(*args, **options)

        return cast("Command", wrapped)

    return decorate


@contextlib.contextmanager
def _watched(how_to_go_on: str) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    told, terminal = threading.Lock(), os.dup(2)  # while TensorFlow is imported, 2 itself leads elsewhere

    def tell() -> None:
        if told.acquire(blocking=False):
            os.write(terminal, f"\nStopped. {how_to_go_on}\n".encode())

    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(ear, tell), daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        tell()
        raise SystemExit(STATUS) from None  # the watch goes on: other threads may keep the process from ending
    finally:
        signal.set_wakeup_fd(before)
        os.close(mouth)


def _watch(ear: int, tell: Callable[[], None]) -> None:
    """Ends the process some time after the signal; returns when the command is over."""
    with os.fdopen(ear, "rb", buffering=0) as signals:
        while number := signals.read(1):
            if number[0] == signal.SIGINT:
                threading.Event().wait(GRACE)
                tell()
                os._exit(STATUS)
