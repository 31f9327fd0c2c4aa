"""A server with TensorFlow Serving's own messages, for development and tests. It is not TensorFlow Serving.

It runs the real SavedModels of a bundle's `server/` folder and answers with TensorFlow Serving's checks, status codes and messages,
but it has no batching, and Python runs every request. Use `tensorflow_model_server` for anything that matters.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_privpart.contract import SERVING_FILES
from keras_privpart.errors import EngineError, PrivPartError

from ..wire.tls import ServerTls
from .models import Models, read_config
from .rest import RestServer
from .servable import Refusal

NOTICE = "local server, for development and tests; it is not TensorFlow Serving"
THREADS = 64  # what `serve` gives TensorFlow Serving
_SIGNATURES = "signature_def"
_REFUSING = 8  # threads that tell the next caller that there is none for it
_UNKNOWN = grpc.StatusCode.UNKNOWN.value[0]
_NO_LIMIT = 2**31 - 1


class LocalServer:
    """Serves the versions and labels that a bundle's `serving/models.config` names, in this process. Listens when all are loaded.

    Args:
        bundle: the bundle's folder; only its contracts, `server/` and `serving/` are read.
        port: 0 takes a free one.
        host: interface to listen on; an IPv6 address with or without brackets.
        rest_port: port for REST; `None` leaves it closed, 0 takes a free one.
        tls: a `ServerTls`, or the folder that `privpart-keras certs` made; gRPC only.
        workers: requests handled at a time; one more is refused at once, as TensorFlow Serving does with `--grpc_max_threads`.
        cors: whether pages of other origins may ask by REST, as `--rest_api_enable_cors_support` lets them.
        config_file: a copy of `models.config` to start with; the bundle's own when `None`.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
        ServingError: the certificates cannot be used.
        EngineError: the model cannot be loaded, or a port cannot be had.

    Example:
        >>> with LocalServer("saved_models/faces") as server:  # doctest: +SKIP
        ...     client = Client("saved_models/faces", server.address)
    """

    def __init__(
        self,
        bundle: str | Path,
        port: int = 0,
        host: str = "127.0.0.1",
        *,
        rest_port: int | None = None,
        tls: ServerTls | str | Path | None = None,
        workers: int = THREADS,
        cors: bool = False,
        config_file: str | Path | None = None,
    ) -> None:
        credentials = None if tls is None else ServerTls.of(tls).credentials()
        self.models = Models(Path(bundle), None if config_file is None else read_config(Path(config_file)))
        self.name = self.models.name
        self._services = Services(self.models)
        # Without this a second server could share the port and take half of the requests.
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _NO_LIMIT), ("grpc.max_send_message_length", _NO_LIMIT)]
        self._server = grpc.server(futures.ThreadPoolExecutor(workers + _REFUSING, thread_name_prefix="local-server"), options=options)
        answers = _Answers(workers)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(self._services, answers), self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(self._services, answers), self._server)
        host = f"[{host}]" if ":" in host and not host.startswith(("[", "unix")) else host
        target = f"{host}:{port}"
        try:
            self.port = self._server.add_insecure_port(target) if credentials is None else self._server.add_secure_port(target, credentials)
        except RuntimeError as error:
            raise EngineError(f"Can't listen on {target}: {error}. Choose another port.") from error
        self.address = f"{host}:{self.port}"
        self._rest = None if rest_port is None else RestServer(self._services, host, rest_port, cors=cors)
        self.rest_address = None if self._rest is None else self._rest.address
        self._server.start()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self, grace: float = 1.0) -> None:
        """Stops listening at once and gives calls under way `grace` seconds."""
        stopped = self._server.stop(grace)
        if self._rest is not None:
            self._rest.stop()
        stopped.wait()
        self.models.close()

    def describe(self) -> str:
        versions = ", ".join(map(str, self.models.versions))
        return f"{NOTICE}: {self.name} version {versions} at {self.address}"


class Services:
    """What the server can be asked, as functions of TensorFlow Serving's messages; gRPC and REST carry them."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def predict(self, request: Any) -> Any:
        servable = self._models.find(request)
        outputs = servable.predict(request.model_spec.signature_name, request.inputs, request.output_filter)
        response = predict_pb2.PredictResponse()
        self._describe(response.model_spec, servable.version)
        response.model_spec.signature_name = request.model_spec.signature_name or "serving_default"
        for name, tensor in outputs.items():
            response.outputs[name].CopyFrom(tensor)
        return response

    def metadata(self, request: Any) -> Any:
        self._models.spec_of(request)
        if not request.metadata_field:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURES:
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"Metadata field {field} is not supported")
        servable = self._models.find(request)
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        self._describe(response.model_spec, servable.version)
        response.metadata[_SIGNATURES].Pack(signatures)
        return response

    def status(self, request: Any) -> Any:
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in self._models.status(request).items():
            status = response.model_version_status.add(version=version, state=state.number).status
            status.error_code, status.error_message = (_UNKNOWN if state.message else 0), state.message
        return response

    def reload(self, request: Any) -> Any:
        self._models.reload(request.config)
        return model_management_pb2.ReloadConfigResponse()

    def _describe(self, answered: Any, version: int) -> None:
        answered.name = self._models.name
        answered.version.value = version


class _Answers:
    """Answers so many calls at a time, and refuses the next one."""

    def __init__(self, most: int) -> None:
        self._free = threading.Semaphore(most)

    def __call__(self, context: grpc.ServicerContext, compute: Callable[[], Any]) -> Any:
        if not self._free.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
        try:
            return compute()
        except Refusal as refusal:
            context.abort(refusal.code, refusal.message)
        finally:
            self._free.release()


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, services: Services, answers: _Answers) -> None:
        self._services, self._answers = services, answers

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answers(context, lambda: self._services.predict(request))

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answers(context, lambda: self._services.metadata(request))

    def Classify(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        _unimplemented(context, "Classify")

    def Regress(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        _unimplemented(context, "Regress")

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        _unimplemented(context, "MultiInference")


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, services: Services, answers: _Answers) -> None:
        self._services, self._answers = services, answers

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answers(context, lambda: self._services.status(request))

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answers(context, lambda: self._services.reload(request))


def _unimplemented(context: grpc.ServicerContext, method: str) -> NoReturn:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented by the local server")
    raise AssertionError  # abort does not return


def main(argv: list[str] | None = None) -> int:
    """Serves until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m keras_privpart.serving.local.server", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--port", type=int, default=8500)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--rest-port", type=int)
    parser.add_argument("--cors", action="store_true", help="let pages of other origins ask by REST")
    parser.add_argument("--tls", type=Path, help="folder of certificates")
    parser.add_argument("--model-config-file", type=Path, help="a copy of models.config; the bundle's own when left out")
    parser.add_argument("--poll-seconds", type=float, default=2.0, help="how often that file is looked at again; 0 for never")
    args = parser.parse_args(argv)
    ended: list[int] = []  # not an Event: setting one inside a signal handler can block for ever
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: ended.append(number))
    try:
        server = LocalServer(
            args.bundle, args.port, args.host, rest_port=args.rest_port, tls=args.tls, cors=args.cors, config_file=args.model_config_file
        )
    except PrivPartError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(server.describe(), flush=True)
    _serve_until(ended, server, args.model_config_file or args.bundle / SERVING_FILES[0], args.poll_seconds)
    return 0


def _serve_until(ended: list[int], server: LocalServer, config_file: Path, poll_seconds: float) -> None:
    """Polls the configuration as TensorFlow Serving does: what is refused is refused again at every poll. Prints what has changed."""
    seen, told, due = _state(config_file), server.describe(), time.monotonic() + poll_seconds
    while not ended:
        time.sleep(0.05)
        if poll_seconds and time.monotonic() >= due:
            due = time.monotonic() + poll_seconds
            now = _state(config_file)
            if now != seen:
                try:
                    server.models.reload(read_config(config_file))
                    seen = now
                except (PrivPartError, Refusal) as error:  # what is loaded goes on being served
                    print(f"PollFilesystemAndReloadConfig failed to ReloadConfig: {error}", file=sys.stderr, flush=True)
        if told != server.describe():
            told = server.describe()
            print(told, flush=True)
    server.stop()


def _state(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
        return found.st_mtime_ns, found.st_ino
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main())
