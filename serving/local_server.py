"""A gRPC server with TensorFlow Serving's own messages, for development and tests. It is not TensorFlow Serving.

It runs the real SavedModel of a bundle's `server/` folder and answers with TensorFlow Serving's checks, status codes and messages,
but it has no batching, no version reloading, no REST and no TLS, and Python runs every request. Use `tensorflow_model_server` for
anything that matters.
"""

from __future__ import annotations

import argparse
import os
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
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_privpart.contract import Contract
from keras_privpart.errors import EngineError, PrivPartError

from .servable import Refusal, Servable

NOTICE = "local server, for development and tests; it is not TensorFlow Serving"
_SIGNATURES = "signature_def"
_NO_LIMIT = 2**31 - 1


class LocalServer:
    """Serves the latest version under a bundle's `server/` folder, in this process.

    Args:
        bundle: the bundle's folder; only `contract.json` and `server/` are read.
        port: 0 takes a free one.
        host: interface to listen on.
        workers: requests handled at a time.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
        EngineError: the model cannot be loaded, or the port cannot be had.

    Example:
        >>> with LocalServer("saved_models/faces") as server:  # doctest: +SKIP
        ...     client = Client("saved_models/faces", server.address)
    """

    def __init__(self, bundle: str | Path, port: int = 0, host: str = "127.0.0.1", *, workers: int = 8) -> None:
        root = Path(bundle)
        contract = Contract.load(root)
        contract.verify_files(root, ("server",))
        self.name = contract.name
        self.servable = _load_latest(root / "server")
        # Without this a second server could share the port and take half of the requests.
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _NO_LIMIT), ("grpc.max_send_message_length", _NO_LIMIT)]
        self._server = grpc.server(futures.ThreadPoolExecutor(workers, thread_name_prefix="local-server"), options=options)
        models = _Models(self.name, self.servable)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(models), self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(models), self._server)
        try:
            self.port = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise EngineError(f"Can't listen on {host}:{port}: {error}. Choose another port.") from error
        self.address = f"{host}:{self.port}"
        self._server.start()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self, grace: float = 1.0) -> None:
        """Stops listening at once and gives calls under way `grace` seconds."""
        self._server.stop(grace).wait()

    def describe(self) -> str:
        return f"{NOTICE}: {self.name} version {self.servable.version} at {self.address}"


def _load_latest(base: Path) -> Servable:
    versions = sorted((int(folder.name), folder) for folder in base.iterdir() if folder.is_dir() and folder.name.isdecimal())
    if not versions:
        raise EngineError(f"Found no versions in {base}; expected folders named by whole numbers. Export the bundle again.")
    folder = versions[-1][1]
    try:
        return Servable(folder)
    except (OSError, ValueError, tf.errors.OpError, Refusal) as error:
        raise EngineError(f"Can't load {folder}: {error}. Export the bundle again.") from error


class _Models:
    """Finds the servable that a request means."""

    def __init__(self, name: str, servable: Servable) -> None:
        self.name = name
        self.servable = servable

    def find(self, request: Any) -> Servable:
        if not request.HasField("model_spec"):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        spec = request.model_spec
        self.check_label(spec)
        version = spec.version.value if spec.HasField("version") else None
        if spec.name != self.name or version not in (None, self.servable.version):
            wanted = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
        return self.servable

    def check_label(self, spec: Any) -> None:
        if spec.HasField("version_label"):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {spec.version_label}")

    def describe(self, answered: Any, servable: Servable) -> None:
        answered.name = self.name
        answered.version.value = servable.version


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models: _Models) -> None:
        self._models = models

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        return _answer(context, lambda: self._predict(request))

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        return _answer(context, lambda: self._metadata(request))

    def Classify(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        _unimplemented(context, "Classify")

    def Regress(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        _unimplemented(context, "Regress")

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        _unimplemented(context, "MultiInference")

    def _predict(self, request: Any) -> Any:
        servable = self._models.find(request)
        outputs = servable.predict(request.model_spec.signature_name, request.inputs, request.output_filter)
        response = predict_pb2.PredictResponse()
        self._models.describe(response.model_spec, servable)
        response.model_spec.signature_name = request.model_spec.signature_name or "serving_default"
        for name, tensor in outputs.items():
            response.outputs[name].CopyFrom(tensor)
        return response

    def _metadata(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        if not request.metadata_field:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != _SIGNATURES:
                raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"Metadata field {field} is not supported")
        servable = self._models.find(request)
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signature_defs)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        self._models.describe(response.model_spec, servable)
        response.metadata[_SIGNATURES].Pack(signatures)
        return response


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models: _Models) -> None:
        self._models = models

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        return _answer(context, lambda: self._status(request))

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        _unimplemented(context, "HandleReloadConfigRequest")

    def _status(self, request: Any) -> Any:
        if not request.HasField("model_spec"):
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        spec, servable = request.model_spec, self._models.servable
        self._models.check_label(spec)
        if spec.HasField("version") and (spec.name, spec.version.value) != (self._models.name, servable.version):
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Could not find version {spec.version.value} of model {spec.name}")
        if spec.name != self._models.name:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        status = response.model_version_status.add(version=servable.version, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        status.status.error_code = 0
        return response


def _answer(context: grpc.ServicerContext, compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except Refusal as refusal:
        context.abort(refusal.code, refusal.message)


def _unimplemented(context: grpc.ServicerContext, method: str) -> NoReturn:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented by the local server")
    raise AssertionError  # abort does not return


def main(argv: list[str] | None = None) -> int:
    """Serves until SIGINT, SIGTERM or, with `--exit-with-stdin`, the end of standard input."""
    parser = argparse.ArgumentParser(prog="python -m keras_privpart.serving.local_server", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--port", type=int, default=8500)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when standard input ends, as it does when the parent dies")
    args = parser.parse_args(argv)
    ended: list[int] = []  # not an Event: setting one inside a signal handler can block for ever
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: ended.append(number))
    try:
        server = LocalServer(args.bundle, args.port, args.host)
    except PrivPartError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(server.describe(), flush=True)
    if args.exit_with_stdin:
        threading.Thread(target=_wait_for_end_of_stdin, args=(ended,), daemon=True).start()
    while not ended:
        time.sleep(0.1)
    server.stop()
    return 0


def _wait_for_end_of_stdin(ended: list[int]) -> None:
    while os.read(0, 4096):
        pass
    ended.append(0)


if __name__ == "__main__":
    sys.exit(main())
