"""Carries one message to a server and its answer back. The seam is `send`; `grpc_transport` and `rest` are the ways through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import grpc

from keras_privpart.errors import (
    DeadlineExceededError,
    PermissionRefusedError,
    RequestRefusedError,
    ServerBusyError,
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

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


PREDICT = Method("/tensorflow.serving.PredictionService/Predict", messages.PredictRequest, messages.PredictResponse)
METADATA = Method(
    "/tensorflow.serving.PredictionService/GetModelMetadata", messages.GetModelMetadataRequest, messages.GetModelMetadataResponse
)
STATUS = Method("/tensorflow.serving.ModelService/GetModelStatus", messages.GetModelStatusRequest, messages.GetModelStatusResponse)
METHODS = (PREDICT, METADATA, STATUS)

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

# What gRPC's servers answer without reading the request.
_BUSY = "Server Threadpool Exhausted"

_HINTS: dict[grpc.StatusCode, str] = {
    grpc.StatusCode.UNAVAILABLE: "Check the address, and that the server is up.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Raise timeout, or send smaller batches.",
    grpc.StatusCode.NOT_FOUND: "Start the server on this bundle's server/ folder.",
    grpc.StatusCode.UNIMPLEMENTED: "Expected the gRPC port of TensorFlow Serving, or with transport='v2-grpc' of an Open Inference server; "
    "this server speaks something else.",
    grpc.StatusCode.RESOURCE_EXHAUSTED: "Send smaller batches, or fewer at once.",
    grpc.StatusCode.UNAUTHENTICATED: "Pass token=, or a client certificate in tls=.",
    grpc.StatusCode.PERMISSION_DENIED: "Pass a token or a client certificate that may use this model.",
}


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
            ServingError: the subclass says what went wrong. `ServerUnavailableError` and `ServerBusyError` are worth another try.
        """

    def connection(self) -> int:
        """Connections lost so far, as far as is known. Where it has grown, another server may answer now. 0 where nobody can tell."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Ends the connection. Calls under way end with an error."""


class AsyncTransport(ABC):
    """`Transport` for asyncio."""

    def connection(self) -> int:
        """As `Transport.connection`."""
        return 0

    @abstractmethod
    async def send(self, method: Method, request: Any, timeout: float) -> Any:
        """As `Transport.send`."""

    @abstractmethod
    async def close(self) -> None:
        """As `Transport.close`."""


def translate(code: grpc.StatusCode, details: str | None, address: str) -> ServingError:
    """The library's error for a gRPC status."""
    reason = (details or "no details").rstrip(".")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and reason == _BUSY:  # a message above the limit has the same code
        return ServerBusyError(f"{address}: {code.name}: {reason}. Send fewer requests at once, or give the server more threads.")
    hint = f" {_HINTS[code]}" if code in _HINTS else ""
    return STATUS_ERRORS[code](f"{address}: {code.name}: {reason}.{hint}")
