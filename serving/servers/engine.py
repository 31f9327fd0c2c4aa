"""Starts a server for a bundle: TensorFlow Serving if it can be had, else the local server, and says which."""

from __future__ import annotations

import atexit
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from keras_privpart.contract import Contract
from keras_privpart.errors import EngineError, ServingError

from ..wire.client_metrics import NoMetrics
from ..wire.grpc_transport import GrpcTransport
from ..wire.readiness import wait_until_available
from ..wire.steps import run
from ..wire.tls import ServerTls, Tls
from .choice import BINARY_KIND, DOCKER_KIND, LOCAL_KIND, Choice, choose, free_port, output_of
from .commands import CORS, DEFAULT_IMAGE, LOCAL_CORS, SERVER_ENVIRONMENT, binary_command, docker_command, local_command, model_folder
from .configuration import Configuration
from .control import Control
from .following import Follower, verified

PAUSE_SECONDS = 0.1
_STOP_SECONDS = 10.0
_LAST_LINES = 20
_SUPERVISOR = Path(__file__).with_name("supervisor.py")
# What TensorFlow Serving writes about a version that it cannot load.
_LOAD_FAILURE = re.compile(r"(?:Loading servable: \{.*\} failed|Failed to start server).*", re.IGNORECASE)


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
        port: where gRPC is listened to.
        address: `host:port` for clients.
        addresses: the same, as a tuple of one: what several replicas have as well.
        rest_address: `host:port` of the REST interface, or `None`.
        name: the model's name on the server.
        version: the newest version that is loaded.
        log_path: what the server prints. A temporary log goes when a running server is stopped in order, and stays after a failure.
    """

    def __init__(
        self, choice: Choice, contract: Contract, host: str, port: int, rest_port: int | None, log_path: str | Path | None
    ) -> None:
        self.kind = choice.kind
        self.name = contract.name
        self.version = contract.version
        self.port = port
        self.address = f"{host}:{port}"
        self.addresses = (self.address,)
        self.rest_address = None if rest_port is None else f"{host}:{rest_port}"
        self.log_path = _temporary_log(contract.name) if log_path is None else Path(log_path)
        self._drop_log = log_path is None
        self._choice = choice
        self._container = f"privpart-{contract.name}-{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._command: list[str] = []
        self._log_start = 0  # a log that is appended to holds other runs too
        self._configuration: Configuration | None = None
        self._follower: Follower | None = None
        self._control: Control | None = None

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
            self.refresh()
            time.sleep(PAUSE_SECONDS)

    def refresh(self) -> None:
        """Hands on what was exported and promoted since; `wait` does, ten times a second. A call looks once and does not wait for loading.

        What is not as its contract says is not handed on. Problems go to the logger `keras_privpart.serving`, each once.
        """
        if self._follower is not None:
            self._follower.step()

    def check_alive(self) -> None:
        """Raises `EngineError`, with the last lines of its log, if the server has ended by itself."""
        code = self.exit_status()
        if code is not None:
            raise EngineError(f"The {self.kind} server ended with status {code}.{self.load_failure()}\n{self.last_lines()}")

    def exit_status(self) -> int | None:
        """How the server ended by itself; `None` while it runs, and after `stop`."""
        return None if self._process is None else self._process.poll()

    def load_failure(self) -> str:
        """What the log says last about a version that could not be loaded, as a sentence that follows another; empty when nothing."""
        found = [match[0] for match in map(_LOAD_FAILURE.search, self._log_lines()) if match]
        return f" It could not load the model: {found[-1]}." if found else ""

    def last_lines(self) -> str:
        """The end of the server's log."""
        return "\n".join([f"Last lines of {self.log_path}:", *(f"  {line}" for line in self._log_lines()[-_LAST_LINES:])])

    def _log_lines(self) -> list[str]:
        raw = self.log_path.read_bytes() if self.log_path.is_file() else b""
        return raw[self._log_start :].decode("utf-8", "replace").splitlines()

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
        if self._control is not None:
            self._control.close()
        if self._configuration is not None:
            self._configuration.remove()
        if self._drop_log:
            self.log_path.unlink(missing_ok=True)

    def launch(self, command: list[str], configuration: Configuration) -> None:
        """Runs the server's command line; `start` does. The configuration goes when the server stops."""
        self._command, self._configuration = command, configuration
        self.relaunch()
        atexit.register(self.stop)

    def relaunch(self) -> None:
        """Runs a server that has ended once more, at the same place, with what it was told last."""
        if self._configuration is None:
            raise EngineError("The server was never started. Call start.")
        self._configuration.show_key()
        stop = [self._choice.program, "stop", "--time=5", self._container] if self.kind == DOCKER_KIND else None
        job = {"command": self._command, "parent": os.getpid(), "stop": stop, "remove": str(self._configuration.folder)}
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            # A session of its own: Ctrl-C reaches this process alone, which then stops the server in order.
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_SUPERVISOR), json.dumps(job)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **SERVER_ENVIRONMENT},
            )

    def follow(self, bundle: Path, contracts: list[Contract], tls: Tls | None) -> None:
        """The server has loaded its models: from now on `refresh` follows the bundle."""
        if self._configuration is not None:
            self.has_loaded()
            self._control = Control(self.own_address, tls)
            self._follower = Follower(bundle, contracts, self._configuration, self._control, self.address)

    def has_loaded(self) -> None:
        """The server has read all that it reads at its start: the file with its key goes."""
        if self._configuration is not None:
            self._configuration.hide_key()

    @property
    def started(self) -> bool:
        """Whether `stop` is still to come."""
        return self._process is not None

    @property
    def own_address(self) -> str:
        """Where this machine reaches the server. One that listens everywhere is asked here: no certificate holds a name for everywhere."""
        host, _, port = self.address.rpartition(":")
        return f"127.0.0.1:{port}" if host == "0.0.0.0" else self.address


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
    batching: bool = False,
    cors: bool = False,
    tls: str | Path | None = None,
    stop: StopFlag | None = None,
) -> Engine:
    """Starts a server for a bundle and waits until it has loaded every version.

    Takes `tensorflow_model_server` if it is on the PATH, else docker if an engine answers, else the local server.

    Args:
        bundle: the bundle's folder. The server sees its `server/` folder and its configuration only.
        port: gRPC port; 0 takes a free one.
        rest_port: port for REST; `None` leaves it closed, 0 takes a free one.
        timeout: seconds until the model must be loaded.
        prefer: one of `KINDS`: that kind or none.
        host: interface to listen on. `tensorflow_model_server` always listens on all.
        image: docker image.
        log_path: where the server's output goes; a temporary file when `None`.
        batching: whether the server joins requests into batches, as `serving/batching.config` says.
        cors: whether browsers may ask by REST from pages of other origins, any of them: for development.
        tls: folder that `privpart-keras certs` made: clients must show a certificate of its authority. TensorFlow Serving has no TLS on
            the REST port.
        stop: gives up as soon as it is raised.

    Returns:
        The running server. Stop it, or use it in a `with` block.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
        ServingError: the certificates cannot be used.
        EngineError: the port is in use, no such server can be had, it died, it was not ready in time, or `stop` was raised.
    """
    root = Path(bundle).resolve()
    contracts = verified(root)
    choice = choose(prefer)
    _check_options(choice, rest_port, batching, cors, tls)
    listening = "" if choice.kind == BINARY_KIND else host
    port = free_port(listening, port)
    rest_port = None if rest_port is None else free_port(listening, rest_port)
    engine = Engine(choice, contracts[-1], host, port, rest_port, log_path)
    try:
        command, configuration = _command(engine, root, contracts[-1], image, host, port, rest_port, batching, tls)
        allowing = [LOCAL_CORS if choice.kind == LOCAL_KIND else CORS] if cors else []
        engine.launch([*command, *allowing], configuration)
        client_tls = None if tls is None else Tls.of(tls)
        _wait_until_ready(engine, contracts, timeout, client_tls, stop)
        engine.follow(root, contracts, client_tls)
    except BaseException:
        engine._drop_log = False
        engine.stop()
        raise
    return engine


def _check_options(choice: Choice, rest_port: int | None, batching: bool, cors: bool, tls: str | Path | None) -> None:
    if cors and rest_port is None:
        raise EngineError("Received cors=True without rest_port; browsers ask by REST. Give a REST port (--rest-port 8501).")
    if tls is not None and rest_port is not None:
        raise EngineError(
            f"Received rest_port={rest_port} with tls; TensorFlow Serving's REST port is never encrypted. Leave one out, or put a proxy "
            "that ends TLS before the REST port."
        )
    if batching and choice.kind == LOCAL_KIND:
        raise EngineError("Received batching=True; the local server answers each request by itself. Leave batching out.")


def _command(
    engine: Engine,
    root: Path,
    contract: Contract,
    image: str,
    host: str,
    port: int,
    rest_port: int | None,
    batching: bool,
    tls: str | Path | None,
) -> tuple[list[str], Configuration]:
    """The command line of the kind that was chosen, and the configuration that it reads."""
    folder, program = root / "server", engine._choice.program
    if engine.kind == LOCAL_KIND:
        made = Configuration(root, contract, str(folder), batching=False, rest=False, tls=None)
        return local_command(root, made.folder, host, port, rest_port, None if tls is None else Path(tls).resolve()), made
    base_path = str(folder) if engine.kind == BINARY_KIND else model_folder(contract.name)
    secure = None if tls is None else ServerTls.of(tls)
    made = Configuration(root, contract, base_path, batching=batching, rest=rest_port is not None, tls=secure)
    if engine.kind == BINARY_KIND:
        return binary_command(program, made.folder, made.files, port, rest_port), made
    name = contract.name
    return docker_command(program, image, engine._container, name, folder, made.folder, made.files, host, port, rest_port), made


def _temporary_log(name: str) -> Path:
    with tempfile.NamedTemporaryFile(prefix=f"privpart-{name}-", suffix=".log", delete=False) as file:
        return Path(file.name)


def _wait_until_ready(engine: Engine, contracts: list[Contract], timeout: float, tls: Tls | None, stop: StopFlag | None) -> None:
    def go_on() -> None:
        engine.check_alive()
        if stop is not None and stop.raised:
            raise EngineError(f"The {engine.kind} server was stopped before it was ready.")

    end = time.monotonic() + timeout
    transport = GrpcTransport(engine.own_address, tls=tls)
    try:
        for contract in contracts:
            run(wait_until_available(transport, contract.name, contract.version, max(end - time.monotonic(), 0.01), go_on), NoMetrics())
    except EngineError:
        raise
    except ServingError as error:
        raise EngineError(f"The {engine.kind} server is not ready:{engine.load_failure()} {error}\n{engine.last_lines()}") from error
    finally:
        transport.close()
