"""TensorFlow Serving's REST interface, for places where gRPC cannot go. Slower: numbers travel as decimal text.

The same messages go in and come out, so every check of the client holds here as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import queue
import re
import selectors
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np

from keras_privpart.contract import CHECKED_OUTPUT, PAIR_OUTPUT, STRING, Contract
from keras_privpart.errors import RequestRefusedError, SecureConnectionError, ServerFailedError, ServerUnavailableError, ServingError

from . import messages, tensors
from .grpc_transport import channel_credentials
from .tls import Tls
from .tracing import trace_headers
from .transport import MAX_MESSAGE_BYTES, METADATA, PREDICT, STATUS, AsyncTransport, Method, Transport, translate

# TensorFlow Serving's HTTP status codes, and what proxies before it answer. Others follow their hundred.
HTTP_CODES: dict[int, grpc.StatusCode] = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ALREADY_EXISTS,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    502: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# What TensorFlow Serving reads from JSON, and writes to it.
JSON_DTYPES = frozenset(("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", STRING))
_STATES = {"UNKNOWN": 0, "START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}
_ALIASES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}
_DT = {f"DT_{_ALIASES.get(name, name.upper())}": wire.number for name, wire in tensors.WIRE_TYPES.items()}
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[^:/\s]+):(?P<port>\d{1,5})")
_IDLE_CONNECTIONS = 16
_OTHER_PROTOCOL = (http.client.BadStatusLine, http.client.UnknownProtocol, http.client.LineTooLong)


def http_code(status: int) -> grpc.StatusCode:
    """The gRPC status code that stands for an HTTP status other than 200."""
    hundred = {4: grpc.StatusCode.INVALID_ARGUMENT, 5: grpc.StatusCode.INTERNAL}.get(status // 100, grpc.StatusCode.UNKNOWN)
    return HTTP_CODES.get(status, hundred)


class RestTransport(Transport):
    """REST over HTTP connections that are kept alive.

    Args:
        address: `host:port` of the REST port, or of a proxy before it.
        contract: says which dtypes the answers have, which JSON does not.
        max_message_bytes: limit of one message in either direction, as JSON.
        tls: for HTTPS; TensorFlow Serving itself has none, a proxy may.
        token: sent as `Authorization: Bearer <token>`; needs `tls`.

    Raises:
        ServingError: a tensor of the contract cannot travel as JSON, the address is none, or a token comes without TLS.
    """

    def __init__(
        self,
        address: str,
        contract: Contract,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        *,
        tls: Tls | None = None,
        token: str | None = None,
    ) -> None:
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise ServingError(f"Received the address {address!r}; expected host:port of the REST port, such as 'localhost:8501'.")
        for spec in (*contract.boundary.tensors, *contract.outputs):
            if spec.dtype not in JSON_DTYPES:
                raise ServingError(f"{spec.name!r} is {spec.dtype}, which TensorFlow Serving's REST cannot carry. Use gRPC.")
        channel_credentials(tls, token)  # refuses a token without TLS
        self._dtypes = {spec.name: spec.dtype for spec in contract.outputs} | {CHECKED_OUTPUT: STRING, PAIR_OUTPUT: STRING}
        self._host, self._port = found["host"].strip("[]"), int(found["port"])
        self._address, self._limit = address, max_message_bytes
        self._context = None if tls is None else tls.context()
        self._headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue(_IDLE_CONNECTIONS)
        self._under_way: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._lost = 0

    def send(self, method: Method, request: Any, timeout: float) -> Any:
        path, body = _REQUESTS[method](request)
        if body is not None and len(body) > self._limit:
            raise translate(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"the request has {len(body)} bytes, the limit is {self._limit}", self._address
            )
        status, raw = self._exchange("GET" if body is None else "POST", path, body, timeout)
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = raw[:200].decode("utf-8", "replace")
        if status != 200:
            details = answer.get("error") if isinstance(answer, dict) else answer
            raise translate(http_code(status), f"HTTP {status}: {details}", self._address)
        try:
            return self._read(method, answer)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ServerFailedError(f"{self._address}: the answer to {path} is not TensorFlow Serving's ({error!r}).") from error

    def connection(self) -> int:
        """Drops idle connections that the server has ended, and counts them: whoever takes their place may be another server."""
        with self._lock:
            idle = [self._idle.get_nowait() for _ in range(self._idle.qsize())]
            for connection in idle:
                if connection.sock is not None and _ended(connection.sock):
                    connection.close()
                    self._lost += 1
                else:
                    self._idle.put_nowait(connection)
            return self._lost

    def close(self) -> None:
        with self._lock:
            self._closed = True
            under_way = tuple(self._under_way)
        for connection in under_way:  # wakes whoever waits in it; that closes it
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def _exchange(self, verb: str, path: str, body: bytes | None, timeout: float) -> tuple[int, bytes]:
        """One request and its answer, over an idle connection or a new one. An idle one that the server has closed is no failure."""
        headers = self._headers | dict(trace_headers() or ())
        with self._lock:
            if self._closed:
                raise self._closed_error()
            connection = self._connection()
            self._under_way.add(connection)
        try:
            status, raw = self._ask(connection, verb, path, body, headers, timeout)
        except BaseException:
            connection.close()
            raise
        finally:
            with self._lock:
                self._under_way.discard(connection)
        with self._lock:
            if self._closed or self._idle.full():
                connection.close()
            else:
                self._idle.put_nowait(connection)
        return status, raw

    def _ask(
        self, connection: http.client.HTTPConnection, verb: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> tuple[int, bytes]:
        while True:
            fresh = connection.sock is None
            try:
                self._prepare(connection, timeout)
                connection.request(verb, path, body, headers)
                response = connection.getresponse()
                raw = response.read(self._limit + 1)
                break
            except TimeoutError as error:
                raise translate(grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {timeout:.3g} s", self._address) from error
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if self._closed:
                    raise self._closed_error() from error
                if fresh:
                    raise self._failure(error) from error
        if len(raw) > self._limit:
            raise translate(grpc.StatusCode.RESOURCE_EXHAUSTED, f"the answer has more than {self._limit} bytes", self._address)
        return response.status, raw

    def _closed_error(self) -> ServingError:
        return ServingError(f"{self._address}: the connection is closed. Make a new client.")

    def _connection(self) -> http.client.HTTPConnection:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            pass
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port)
        return http.client.HTTPSConnection(self._host, self._port, context=self._context)

    def _prepare(self, connection: http.client.HTTPConnection, timeout: float) -> None:
        connection.timeout = timeout
        if connection.sock is None:
            connection.connect()
        else:
            connection.sock.settimeout(timeout)
        if self._closed:  # meanwhile: `close` found no socket to end
            raise ConnectionAbortedError

    def _failure(self, error: Exception) -> ServingError:
        if isinstance(error, ssl.SSLError):
            return SecureConnectionError(f"{self._address}: {error}. Check that the address speaks TLS, and tls=.")
        if isinstance(error, _OTHER_PROTOCOL) and not isinstance(error, http.client.RemoteDisconnected):
            return RequestRefusedError(
                f"{self._address}: the port does not speak HTTP/1.1; gRPC ports do not. Use the REST port, or transport='grpc'."
            )
        return ServerUnavailableError(f"{self._address}: UNAVAILABLE: {error!r}. Check the address, and that the server is up.")

    def _read(self, method: Method, answer: dict[str, Any]) -> Any:
        if method is STATUS:
            return _status(answer["model_version_status"])
        if method is METADATA:
            return _metadata(answer)
        outputs = answer["outputs"]
        response = messages.PredictResponse()
        # A single output stands without its name; the fingerprint is the only one that comes alone.
        for name, value in (outputs if isinstance(outputs, dict) else {PAIR_OUTPUT: outputs}).items():
            dtype = self._dtypes.get(name, STRING)
            array = np.array(value, dtype=object if dtype == STRING else dtype)
            if dtype == STRING and not all(isinstance(item, str) for item in array.ravel()):
                raise ValueError(f"{name} is no text")
            tensors.encode(array, response.outputs[name])
        return response


class AsyncRestTransport(AsyncTransport):
    """REST for asyncio: a `RestTransport` in threads.

    Args:
        transport: closed with this one.
    """

    def __init__(self, transport: RestTransport) -> None:
        self._transport = transport

    async def send(self, method: Method, request: Any, timeout: float) -> Any:
        return await asyncio.to_thread(self._transport.send, method, request, timeout)

    def connection(self) -> int:
        return self._transport.connection()

    async def close(self) -> None:
        self._transport.close()


def _ended(sock: socket.socket) -> bool:
    """Whether there is anything to read on an idle connection: its end, or what nobody asked for."""
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _predict_request(request: Any) -> tuple[str, bytes]:
    inputs = {name: _values(tensors.decode(tensor)) for name, tensor in request.inputs.items()}
    body = {"signature_name": request.model_spec.signature_name, "inputs": inputs}
    return f"{_model(request.model_spec)}:predict", json.dumps(body, separators=(",", ":")).encode()


def _values(array: np.ndarray) -> Any:
    # Every float32 is a double, and JSON carries doubles exactly. NaN and infinities travel as TensorFlow Serving writes them.
    return [item.decode() for item in array] if array.dtype.kind == "O" else array.tolist()


def _metadata_request(request: Any) -> tuple[str, None]:
    return f"{_model(request.model_spec)}/metadata", None


def _status_request(request: Any) -> tuple[str, None]:
    return _model(request.model_spec), None


_REQUESTS: dict[Method, Callable[[Any], tuple[str, bytes | None]]] = {
    PREDICT: _predict_request,
    METADATA: _metadata_request,
    STATUS: _status_request,
}


def _model(spec: Any) -> str:
    number = f"/versions/{spec.version.value}" if spec.HasField("version") else ""
    return f"/v1/models/{spec.name}{f'/labels/{spec.version_label}' if spec.version_label else number}"


def _status(entries: list[dict[str, Any]]) -> Any:
    response = messages.GetModelStatusResponse()
    for entry in entries:
        status = response.model_version_status.add(version=int(entry["version"]), state=_STATES[entry["state"]])
        failed = entry.get("status", {})
        status.status.error_code = 0 if failed.get("error_code", "OK") == "OK" else 2  # UNKNOWN: the text says which
        status.status.error_message = failed.get("error_message", "")
    return response


def _metadata(answer: dict[str, Any]) -> Any:
    signatures = messages.SignatureDefMap()
    for name, signature in answer["metadata"]["signature_def"]["signature_def"].items():
        for side in ("inputs", "outputs"):
            for alias, info in signature.get(side, {}).items():
                _fill(getattr(signatures.signature_def[name], side)[alias], info)
        signatures.signature_def[name].method_name = signature.get("method_name", "")
    response = messages.GetModelMetadataResponse()
    response.model_spec.version.value = int(answer["model_spec"]["version"])
    response.metadata["signature_def"].value = signatures.SerializeToString()
    return response


def _fill(message: Any, info: dict[str, Any]) -> None:
    message.dtype = _DT.get(info["dtype"], 0)
    shape = info["tensor_shape"]
    message.tensor_shape.unknown_rank = shape.get("unknown_rank", False)
    for dim in shape.get("dim", []):
        message.tensor_shape.dim.add(size=int(dim["size"]))
