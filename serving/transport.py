"""Carries one message to the server and its answer back. gRPC here; the seam is `Transport.send`."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import grpc

from keras_privpart.errors import (
    DeadlineExceededError,
    PermissionRefusedError,
    RequestRefusedError,
    ServerFailedError,
    ServerNotFoundError,
    ServerOverloadedError,
    ServerUnavailableError,
    ServingError,
)

from . import messages

MAX_MESSAGE_BYTES = 256 << 20


@dataclass(frozen=True)
class Method:
    """One remote call: its path and the classes of its messages."""

    path: str
    request: Any
    response: Any


PREDICT = Method("/tensorflow.serving.PredictionService/Predict", messages.PredictRequest, messages.PredictResponse)
METADATA = Method(
    "/tensorflow.serving.PredictionService/GetModelMetadata", messages.GetModelMetadataRequest, messages.GetModelMetadataResponse
)
STATUS = Method("/tensorflow.serving.ModelService/GetModelStatus", messages.GetModelStatusRequest, messages.GetModelStatusResponse)

# Every status code but OK, and what it means to a caller.
STATUS_ERRORS: dict[grpc.StatusCode, type[ServingError]] = {
    grpc.StatusCode.CANCELLED: ServerFailedError,
    grpc.StatusCode.UNKNOWN: ServerFailedError,
    grpc.StatusCode.INVALID_ARGUMENT: RequestRefusedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.NOT_FOUND: ServerNotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: RequestRefusedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionRefusedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerOverloadedError,
    grpc.StatusCode.FAILED_PRECONDITION: RequestRefusedError,
    grpc.StatusCode.ABORTED: ServerFailedError,
    grpc.StatusCode.OUT_OF_RANGE: RequestRefusedError,
    grpc.StatusCode.UNIMPLEMENTED: RequestRefusedError,
    grpc.StatusCode.INTERNAL: ServerFailedError,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailableError,
    grpc.StatusCode.DATA_LOSS: ServerFailedError,
    grpc.StatusCode.UNAUTHENTICATED: PermissionRefusedError,
}

_HINTS: dict[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAVAILABLE: "Check the address, and that the server is up.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Raise timeout, or send smaller batches.",
    grpc.StatusCode.NOT_FOUND: "Start the server on this bundle's server/ folder.",
    grpc.StatusCode.UNIMPLEMENTED: "Expected TensorFlow Serving's gRPC port; this server speaks something else.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Send smaller batches, or fewer at once.",
}

# A connection to this machine must not go through a proxy that the environment names.
_LOOPBACK = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?|unix:.*")


class Transport(ABC):
    """Carries messages to one address. Which server answers there may change from message to message."""

    @abstractmethod
    def send(self, method: Method, request: Any, timeout: float) -> Any:
        """Sends one request and returns its answer.

        Args:
            method: what to call.
            request: a message of `method.request`.
            timeout: seconds.

        Raises:
            ServingError: the subclass says what went wrong. `ServerUnavailableError` alone is worth another try.
        """

    @abstractmethod
    def close(self) -> None:
        """Ends the connection. Calls under way end with an error."""


class GrpcTransport(Transport):
    """One plaintext gRPC channel.

    Args:
        address: `host:port`, or any other gRPC target such as `unix:/run/server.sock`.
        max_message_bytes: limit of one message in either direction.
    """

    def __init__(self, address: str, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        options: list[tuple[str, Any]] = [
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            # Found again soon after a restart; gRPC's own limit is two minutes.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        if _LOOPBACK.fullmatch(address):
            options.append(("grpc.enable_http_proxy", 0))
        self._address = address
        self._channel = grpc.insecure_channel(address, options=options)
        self._calls = {
            method: self._channel.unary_unary(
                method.path, request_serializer=method.request.SerializeToString, response_deserializer=method.response.FromString
            )
            for method in (PREDICT, METADATA, STATUS)
        }

    def send(self, method: Method, request: Any, timeout: float) -> Any:
        try:
            return self._calls[method](request, timeout=timeout)
        except grpc.RpcError as error:
            raise translate(error.code(), error.details(), self._address) from error
        except ValueError as error:  # gRPC's way to say that the channel is closed
            raise ServingError(f"{self._address}: {error} Make a new client.") from error

    def close(self) -> None:
        self._channel.close()


def translate(code: grpc.StatusCode, details: str | None, address: str) -> ServingError:
    """The library's error for a gRPC status."""
    reason = (details or "no details").rstrip(".")
    hint = f" {_HINTS[code]}" if code in _HINTS else ""
    return STATUS_ERRORS[code](f"{address}: {code.name}: {reason}.{hint}")
