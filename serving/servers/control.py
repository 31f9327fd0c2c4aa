"""Tells a running server to take another configuration, and asks it where its versions stand."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from google.protobuf import wrappers_pb2

from keras_privpart.errors import EngineError

from ..wire import messages
from ..wire.grpc_transport import channel_credentials, channel_options
from ..wire.tls import Tls
from ..wire.transport import MAX_MESSAGE_BYTES, STATUS

_RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
_SECONDS = 5.0
# The server may be starting, or busy: the same is worth asking again.
_LATER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)


class NotNow(Exception):
    """The server could not be asked, and may be asked again."""


@dataclass(frozen=True)
class VersionState:
    """A number of `ModelVersionStatus.State`, and the server's words where loading failed."""

    number: int
    problem: str


class Control:
    """One server's administration.

    Args:
        address: `host:port` of its gRPC port.
        tls: certificates that it asks for; plaintext without.
    """

    def __init__(self, address: str, tls: Tls | None) -> None:
        credentials, options = channel_credentials(tls, None), channel_options(address, MAX_MESSAGE_BYTES)
        plain = credentials is None
        self._channel = grpc.insecure_channel(address, options) if plain else grpc.secure_channel(address, credentials, options)
        # A message whose first field is a message is on the wire what one is whose first field holds its bytes: the original of this
        # one loads TensorFlow.
        bytes_value = wrappers_pb2.BytesValue
        self._reload = self._channel.unary_unary(
            _RELOAD, request_serializer=bytes_value.SerializeToString, response_deserializer=lambda answer: answer
        )
        self._status = self._channel.unary_unary(
            STATUS.path, request_serializer=STATUS.request.SerializeToString, response_deserializer=STATUS.response.FromString
        )

    def reload(self, config: bytes) -> None:
        """Hands a serialised `ModelServerConfig` on.

        Raises:
            EngineError: the server refuses it; with its words.
            NotNow: it could not be asked.
        """
        try:
            self._reload(wrappers_pb2.BytesValue(value=config), timeout=_SECONDS)
        except grpc.RpcError as error:
            if error.code() in _LATER:
                raise NotNow from error
            raise EngineError(f"{error.code().name}: {error.details()}") from error

    def states(self, name: str) -> dict[int, VersionState]:
        """Every version that the server knows of a model.

        Raises:
            EngineError: it knows no such model, or refuses to say.
            NotNow: it could not be asked.
        """
        request = messages.GetModelStatusRequest()
        request.model_spec.name = name
        try:
            answer = self._status(request, timeout=_SECONDS)
        except grpc.RpcError as error:
            if error.code() in _LATER:
                raise NotNow from error
            raise EngineError(f"{error.code().name}: {error.details()}") from error
        return {
            status.version: VersionState(status.state, status.status.error_message if status.status.error_code else "")
            for status in answer.model_version_status
        }

    def close(self) -> None:
        self._channel.close()
