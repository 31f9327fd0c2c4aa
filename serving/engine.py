"""Starts a server for a bundle: TensorFlow Serving if it can be had, else the local server, and says which."""

from __future__ import annotations

import atexit
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from keras_privpart.contract import Contract
from keras_privpart.errors import EngineError, ServingError

from .choice import BINARY_KIND, DOCKER_KIND, LOCAL_KIND, Choice, choose, free_port, output_of
from .commands import DEFAULT_IMAGE, binary_command, docker_command, local_command
from .readiness import wait_until_available
from .transport import GrpcTransport

_PAUSE_SECONDS = 0.1
_STOP_SECONDS = 10.0
_LAST_LINES = 20


class StopFlag:
    """Says that somebody wants the server to end. Unlike an exception it cannot get lost in code that happens to be running when
    the signal arrives, and unlike a `threading.Event` a signal handler can raise it at any time."""

    def __init__(self) -> None:
        self.raised = False

    def up(self) -> None:
        self.raised = True


class Engine:
    """A running server. Made by `start`; stops at the end of a `with` block.

    Attributes:
        kind: `"tensorflow_model_server"`, `"docker"` or `"local"`.
        address: `host:port` for clients.
        rest_address: `host:port` of the REST interface, or `None`.
        name: the model's name on the server.
        version: the version that is loaded.
        log_path: what the server prints. A temporary log goes when a running server is stopped in order, and stays after a failure.
    """

    def __init__(
        self, choice: Choice, contract: Contract, host: str, port: int, rest_port: int | None, log_path: str | Path | None
    ) -> None:
        self.kind = choice.kind
        self.name = contract.name
        self.version = contract.version
        self.address = f"{host}:{port}"
        self.rest_address = None if rest_port is None else f"{host}:{rest_port}"
        self.log_path = _temporary_log(contract.name) if log_path is None else Path(log_path)
        self._drop_log = log_path is None
        self._choice = choice
        self._container = f"privpart-{contract.name}-{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def describe(self) -> str:
        """One line: which server, what it serves, where, and why no better one."""
        what = {
            BINARY_KIND: f"TensorFlow Serving ({self._choice.program}), listening on every interface",
            DOCKER_KIND: f"TensorFlow Serving in docker (container {self._container})",
            LOCAL_KIND: "local server, for development and tests; it is not TensorFlow Serving",
        }[self.kind]
        why = f" [{'; '.join(self._choice.reasons)}]" if self._choice.reasons else ""
        return f"{what}: {self.name} version {self.version} at {self.address}, log {self.log_path}{why}"

    def wait(self, stop: StopFlag | None = None) -> None:
        """Blocks as long as the server runs, or until the flag is raised.

        Raises:
            EngineError: it ended by itself; with the last lines of its log.
        """
        while self._process is not None and not (stop is not None and stop.raised):
            self.check_alive()
            time.sleep(_PAUSE_SECONDS)

    def check_alive(self) -> None:
        """Raises `EngineError`, with the last lines of its log, if the server has ended by itself."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            raise EngineError(f"The {self.kind} server ended with status {code}.\n{self.last_lines()}")

    def last_lines(self) -> str:
        """The end of the server's log."""
        text = self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.is_file() else ""
        return "\n".join([f"Last lines of {self.log_path}:", *(f"  {line}" for line in text.splitlines()[-_LAST_LINES:])])

    def stop(self) -> None:
        """Ends the server and waits for it. Does nothing the second time."""
        process, self._process = self._process, None
        atexit.unregister(self.stop)
        if process is None:
            return
        if process.poll() is not None:
            self._drop_log = False
        if process.poll() is None and self.kind == DOCKER_KIND:
            # Signals to `docker run` do not always reach the container.
            output_of([self._choice.program, "stop", "--time=5", self._container], timeout=_STOP_SECONDS + 5)
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()
        if self._drop_log:
            self.log_path.unlink(missing_ok=True)

    def launch(self, command: list[str]) -> None:
        """Runs the server's command line; `start` does."""
        with self.log_path.open("ab") as log:
            try:
                # A session of its own: Ctrl-C reaches this process alone, which then stops the server in order.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                )
            except OSError as error:
                raise EngineError(f"Can't run {command[0]}: {error.strerror}. Check that it is installed and may be run.") from error
        atexit.register(self.stop)


def start(
    bundle: str | Path,
    port: int = 8500,
    rest_port: int | None = None,
    timeout: float = 60.0,
    prefer: str | None = None,
    *,
    host: str = "127.0.0.1",
    image: str = DEFAULT_IMAGE,
    log_path: str | Path | None = None,
    stop: StopFlag | None = None,
) -> Engine:
    """Starts a server for a bundle and waits until it has loaded the model.

    Takes `tensorflow_model_server` if it is on the PATH, else docker if an engine answers, else the local server.

    Args:
        bundle: the bundle's folder. The server sees its `server/` folder only.
        port: gRPC port; 0 takes a free one.
        rest_port: port for REST, which only TensorFlow Serving has; `None` leaves it closed, 0 takes a free one.
        timeout: seconds until the model must be loaded.
        prefer: one of `KINDS`: that kind or none.
        host: interface to listen on. `tensorflow_model_server` always listens on all.
        image: docker image.
        log_path: where the server's output goes; a temporary file when `None`.
        stop: gives up as soon as it is raised.

    Returns:
        The running server. Stop it, or use it in a `with` block.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
        EngineError: the port is in use, no such server can be had, it died, it was not ready in time, or `stop` was raised.
    """
    root = Path(bundle).resolve()
    contract = Contract.load(root)
    contract.verify_files(root, ("server",))
    choice = choose(prefer)
    if rest_port is not None and choice.kind == LOCAL_KIND:
        raise EngineError(f"Received rest_port={rest_port}; the local server has no REST. Leave rest_port out.")
    listening = "" if choice.kind == BINARY_KIND else host
    port = free_port(listening, port)
    rest_port = None if rest_port is None else free_port(listening, rest_port)
    engine = Engine(choice, contract, host, port, rest_port, log_path)
    folder = root / "server"
    command = {
        BINARY_KIND: lambda: binary_command(choice.program, contract.name, folder, port, rest_port),
        DOCKER_KIND: lambda: docker_command(choice.program, image, engine._container, contract.name, folder, host, port, rest_port),
        LOCAL_KIND: lambda: local_command(root, host, port),
    }[choice.kind]()
    try:
        engine.launch(command)
        _wait_until_ready(engine, contract, timeout, stop)
    except BaseException:
        engine._drop_log = False
        engine.stop()
        raise
    return engine


def serve(bundle: str | Path, *args: Any, on_ready: Callable[[Engine], None] | None = None, **kwargs: Any) -> None:
    """Serves a bundle until SIGINT or SIGTERM, then stops the server and returns.

    Args:
        bundle: the bundle's folder.
        *args: as for `start`.
        on_ready: called once the model is loaded, to say where.
        **kwargs: as for `start`.

    Raises:
        EngineError: as for `start`, or the server ended by itself.
    """
    stop = StopFlag()
    with _stop_signals(stop):
        try:
            engine = start(bundle, *args, stop=stop, **kwargs)
        except EngineError:
            if stop.raised:
                return
            raise
        with engine:
            if on_ready is not None:
                on_ready(engine)
            engine.wait(stop)


def _temporary_log(name: str) -> Path:
    with tempfile.NamedTemporaryFile(prefix=f"privpart-{name}-", suffix=".log", delete=False) as file:
        return Path(file.name)


def _wait_until_ready(engine: Engine, contract: Contract, timeout: float, stop: StopFlag | None) -> None:
    def go_on() -> None:
        engine.check_alive()
        if stop is not None and stop.raised:
            raise EngineError(f"The {engine.kind} server was stopped before it was ready.")

    transport = GrpcTransport(engine.address)
    try:
        wait_until_available(transport, contract.name, contract.version, timeout, go_on)
    except EngineError:
        raise
    except ServingError as error:
        raise EngineError(f"The {engine.kind} server is not ready: {error}\n{engine.last_lines()}") from error
    finally:
        transport.close()


@contextmanager
def _stop_signals(flag: StopFlag) -> Iterator[None]:
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
