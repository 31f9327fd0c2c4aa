"""gRPC: one channel per transport, plaintext or TLS, with finite limits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import grpc

from keras_privpart.errors import ServerUnavailableError, ServingError

from .handshake import connection_problem
from .loopback import is_loopback
from .tls import Tls
from .tracing import trace_headers
from .transport import MAX_MESSAGE_BYTES, METHODS, AsyncTransport, Method, Transport, translate

_TOKEN = re.compile(r"[\x21-\x7e]+")


def channel_options(address: str, max_message_bytes: int) -> list[tuple[str, Any]]:
    """Options of a channel: limits, reconnecting, keepalive, and round robin over the addresses of a `dns:///` name."""
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        # Found again soon after a restart; gRPC's own limit is two minutes. The minimum is what one attempt to connect may take.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5000),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # The client alone tries again: it asks for the pair first, since another server may be there.
        ("grpc.enable_retries", 0),
        # Finds dead connections under calls; servers punish pings without calls, and more frequent ones.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]
    if is_loopback(address):  # must not go through a proxy that the environment names
        options.append(("grpc.enable_http_proxy", 0))
    if address.startswith("dns:"):
        options += [("grpc.lb_policy_name", "round_robin"), ("grpc.dns_min_time_between_resolutions_ms", 5000)]
    return options


def channel_credentials(tls: Tls | None, token: str | None) -> grpc.ChannelCredentials | None:
    """TLS and the bearer token of a channel; `None` for plaintext.

    Raises:
        ServingError: a token without TLS, which would be readable on the way, or one that no header can carry.
    """
    if token is not None and tls is None:
        raise ServingError("Received a token without tls; expected both: a token sent in plaintext is everybody's. Pass tls=.")
    if token is not None and not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        raise ServingError("Received a token with spaces, line ends or letters beyond ASCII; expected one word. Strip the file's line end.")
    if tls is None:
        return None
    secure = tls.credentials()
    return secure if token is None else grpc.composite_channel_credentials(secure, grpc.access_token_call_credentials(token))


class GrpcTransport(Transport):
    """One gRPC channel.

    Args:
        address: `host:port`, or any other gRPC target such as `dns:///servers:8500` or `unix:/run/server.sock`.
        max_message_bytes: limit of one message in either direction.
        tls: for an encrypted channel; plaintext without.
        token: sent as `authorization: Bearer <token>`; needs `tls`.
        methods: what can be called.

    Raises:
        ServingError: a token without TLS.
    """

    def __init__(
        self,
        address: str,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        *,
        tls: Tls | None = None,
        token: str | None = None,
        methods: Sequence[Method] = METHODS,
    ) -> None:
        self._address, self._tls, self._answered = address, tls, False
        self._channel = _channel(grpc, address, max_message_bytes, tls, token)
        self._core = _core(self._channel)
        self._calls = _calls(self._channel, methods)
        self._lost = _Losses()

    def send(self, method: Method, request: Any, timeout: float) -> Any:
        try:
            answer = self._calls[method](request, timeout=timeout, metadata=trace_headers())
        except grpc.RpcError as error:
            problem = translate(error.code(), error.details(), self._address)
            if isinstance(problem, ServerUnavailableError) and not self._answered:
                problem = connection_problem(self._address, self._tls, timeout) or problem
            raise problem from error
        except ValueError as error:  # gRPC's way to say that the channel is closed
            raise ServingError(f"{self._address}: {error} Make a new client.") from error
        self._answered = self._lost.ready = True
        return answer

    def connection(self) -> int:
        if self._core is None:
            return 0
        try:
            return self._lost.seen(self._core.check_connectivity_state(False) == grpc.ChannelConnectivity.READY.value[0])
        except ValueError:  # closed, as the next message will say
            return self._lost.seen(False)

    def close(self) -> None:
        self._channel.close()


class AsyncGrpcTransport(AsyncTransport):
    """`GrpcTransport` for asyncio; to be made and used in one event loop."""

    def __init__(
        self,
        address: str,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        *,
        tls: Tls | None = None,
        token: str | None = None,
        methods: Sequence[Method] = METHODS,
    ) -> None:
        self._address, self._tls, self._answered = address, tls, False
        self._channel = _channel(grpc.aio, address, max_message_bytes, tls, token)
        self._calls = _calls(self._channel, methods)
        self._lost = _Losses()

    async def send(self, method: Method, request: Any, timeout: float) -> Any:
        try:
            answer = await self._calls[method](request, timeout=timeout, metadata=trace_headers())
        except grpc.RpcError as error:
            problem = translate(error.code(), error.details(), self._address)
            cause: ServingError | None = None
            if isinstance(problem, ServerUnavailableError) and not self._answered:
                cause = await asyncio.to_thread(connection_problem, self._address, self._tls, timeout)
            raise cause or problem from error
        except grpc.aio.UsageError as error:
            raise ServingError(f"{self._address}: {error} Make a new client.") from error
        self._answered = self._lost.ready = True
        return answer

    def connection(self) -> int:
        return self._lost.seen(self._channel.get_state() is grpc.ChannelConnectivity.READY)

    async def close(self) -> None:
        await self._channel.close()


class _Losses:
    """Counts how often a channel was found to have left READY. Of several addresses behind one name, it is ready while one is."""

    def __init__(self) -> None:
        self.ready = False  # when last seen, or answered over
        self._count = 0

    def seen(self, ready: bool) -> int:
        if self.ready and not ready:
            self._count += 1
        self.ready = ready
        return self._count


def _core(channel: Any) -> Any:
    """gRPC's own channel inside one of `grpc`, and inside what instrumentation wraps around it; `None` where there is none.

    It is the only one that can be asked for its state: `grpc.Channel.subscribe` tells it later, from a thread.
    """
    while isinstance(channel, grpc.Channel):
        channel = getattr(channel, "_channel", None)
    return channel


def _channel(kind: ModuleType, address: str, max_message_bytes: int, tls: Tls | None, token: str | None) -> Any:
    """A channel of `grpc` or of `grpc.aio`, encrypted where there is `tls`."""
    credentials, options = channel_credentials(tls, token), channel_options(address, max_message_bytes)
    if credentials is None:
        return kind.insecure_channel(address, options=options)
    return kind.secure_channel(address, credentials, options=options)


def _calls(channel: Any, methods: Sequence[Method]) -> dict[Method, Any]:
    return {
        method: channel.unary_unary(
            method.path, request_serializer=method.request.SerializeToString, response_deserializer=method.response.FromString
        )
        for method in methods
    }
