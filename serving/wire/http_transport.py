"""JSON over HTTP connections that are kept alive: what the REST interfaces of servers have in common"""

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
from abc import abstractmethod
from typing import Any, ClassVar

import grpc

from keras_privpart.errors import RequestRefusedError, SecureConnectionError, ServerFailedError, ServerUnavailableError, ServingError

from .grpc_transport import channel_credentials
from .tls import Tls
from .tracing import trace_headers
from .transport import MAX_MESSAGE_BYTES, AsyncTransport, Method, Transport, translate

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
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[^:/\s]+):(?P<port>\d{1,5})")
_IDLE_CONNECTIONS = 16
_OTHER_PROTOCOL = (http.client.BadStatusLine, http.client.UnknownProtocol, http.client.LineTooLong)


def http_code(status: int) -> grpc.StatusCode:
    """The gRPC status code that stands for an HTTP status other than 200."""
    hundred = {4: grpc.StatusCode.INVALID_ARGUMENT, 5: grpc.StatusCode.INTERNAL}.get(status // 100, grpc.StatusCode.UNKNOWN)
    return HTTP_CODES.get(status, hundred)


class HttpTransport(Transport):
    """Connections to one address, and the exchange of JSON over them.

    Args:
        address: `host:port` of the REST port, or of a proxy before it.
        max_message_bytes: limit of one message in either direction, as JSON.
        tls: for HTTPS, where the server or a proxy before it has that.
        token: sent as `Authorization: Bearer <token>`; needs `tls`.

    Attributes:
        server: whose interface it is, for messages.

    Raises:
        ServingError: the address is none, or a token comes without TLS.
    """

    server: ClassVar[str]

    def __init__(
        self, address: str, max_message_bytes: int = MAX_MESSAGE_BYTES, *, tls: Tls | None = None, token: str | None = None
    ) -> None:
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise ServingError(f"Received the address {address!r}; expected host:port of the REST port, such as 'localhost:8501'.")
        channel_credentials(tls, token)  # refuses a token without TLS
        self._host, self._port = found["host"].strip("[]"), int(found["port"])
        self._address, self._limit = address, max_message_bytes
        self._context = None if tls is None else tls.context()
        self._headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
        self._idle: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue(_IDLE_CONNECTIONS)
        self._under_way: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._lost = 0

    @abstractmethod
    def _write(self, method: Method, request: Any) -> tuple[str, bytes | None]:
        """The path that a request goes to, and what is posted there; `None` to get it."""

    @abstractmethod
    def _read(self, method: Method, request: Any, answer: Any) -> Any:
        """The answer's JSON as a message of `method.response`. Whatever Python raises on JSON of another form may pass."""

    def _code(self, verb: str, status: int) -> grpc.StatusCode:
        """What an HTTP status other than 200 means."""
        return http_code(status)

    def send(self, method: Method, request: Any, timeout: float) -> Any:
        path, body = self._write(method, request)
        if body is not None and len(body) > self._limit:
            raise translate(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"the request has {len(body)} bytes, the limit is {self._limit}", self._address
            )
        verb = "GET" if body is None else "POST"
        status, raw = self._exchange(verb, path, body, timeout)
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = raw[:200].decode("utf-8", "replace")
        if status != 200:
            details = answer.get("error") if isinstance(answer, dict) else answer
            raise translate(self._code(verb, status), f"HTTP {status}: {details}", self._address)
        try:
            return self._read(method, request, answer)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ServerFailedError(f"{self._address}: the answer to {path} is not {self.server}'s ({error!r}).") from error

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


class AsyncHttpTransport(AsyncTransport):
    """JSON over HTTP for asyncio: an `HttpTransport` in threads.

    Args:
        transport: closed with this one.
    """

    def __init__(self, transport: HttpTransport) -> None:
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
