"""The Open Inference Protocol over gRPC: tensors as raw bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from keras_privpart.contract import Contract
from keras_privpart.errors import ServerFailedError, ServerNotFoundError, ServingError

from ..wire import tensors
from ..wire.grpc_transport import AsyncGrpcTransport, GrpcTransport
from ..wire.tls import Tls
from ..wire.transport import MAX_MESSAGE_BYTES, METADATA, STATUS, AsyncTransport, Method, Transport
from . import v2
from .v2_messages import INFER, MODEL, READY, V2_METHODS, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest

# The field of a tensor's contents that holds its values, where they are not raw.
_FIELDS = {
    **dict.fromkeys(("int8", "int16", "int32"), "int_contents"),
    **dict.fromkeys(("uint8", "uint16", "uint32"), "uint_contents"),
    "bool": "bool_contents",
    "int64": "int64_contents",
    "uint64": "uint64_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
}

Call = tuple[Method, Any, Callable[[Any], Any]]


class V2GrpcTransport(Transport):
    """`GRPCInferenceService`, over one gRPC channel.

    Args:
        address: `host:port` or any other gRPC target.
        contract: says which outputs to ask for.
        max_message_bytes: limit of one message in either direction.
        tls: for an encrypted channel; plaintext without.
        token: sent as `authorization: Bearer <token>`; needs `tls`.

    Raises:
        ServingError: a tensor of the contract that cannot travel, or a token without TLS.
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
        self._calls = _Calls(contract, address)
        self._channel = GrpcTransport(address, max_message_bytes, tls=tls, token=token, methods=V2_METHODS)

    def send(self, method: Method, request: Any, timeout: float) -> Any:
        call, message, read = self._calls.of(method, request)
        try:
            return read(self._channel.send(call, message, timeout))
        except ServerFailedError as error:
            raise _meant(call, error) from error.__cause__

    def connection(self) -> int:
        return self._channel.connection()

    def close(self) -> None:
        self._channel.close()


class AsyncV2GrpcTransport(AsyncTransport):
    """`V2GrpcTransport` for asyncio; to be made and used in one event loop."""

    def __init__(
        self,
        address: str,
        contract: Contract,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        *,
        tls: Tls | None = None,
        token: str | None = None,
    ) -> None:
        self._calls = _Calls(contract, address)
        self._channel = AsyncGrpcTransport(address, max_message_bytes, tls=tls, token=token, methods=V2_METHODS)

    async def send(self, method: Method, request: Any, timeout: float) -> Any:
        call, message, read = self._calls.of(method, request)
        try:
            return read(await self._channel.send(call, message, timeout))
        except ServerFailedError as error:
            raise _meant(call, error) from error.__cause__

    def connection(self) -> int:
        return self._channel.connection()

    async def close(self) -> None:
        await self._channel.close()


class _Calls:
    """What a client sends, as calls of the protocol: which one, its message, and how its answer is read."""

    def __init__(self, contract: Contract, address: str) -> None:
        v2.check_dtypes(contract, v2.DATATYPES, "Use transport='grpc' with TensorFlow Serving.")
        self._outputs, self._address = v2.wanted_outputs(contract), address

    def of(self, method: Method, request: Any) -> Call:
        name, version = request.model_spec.name, v2.version_of(request.model_spec)
        if method is STATUS and version:
            return READY, ModelReadyRequest(name=name, version=version), lambda told: v2.status(version if told.ready else "", ())
        described = ModelMetadataRequest(name=name, version=version)
        if method is STATUS:
            return MODEL, described, lambda told: v2.status("", told.versions)
        if method is METADATA:
            return MODEL, described, lambda told: v2.metadata(version, told.versions, _told(told.inputs), _told(told.outputs))
        if v2.asks_for_pair(request):
            return MODEL, described, lambda told: v2.pair(_told(told.outputs))
        return INFER, self._infer(request, name, version), self._read

    def _infer(self, request: Any, name: str, version: str) -> Any:
        message = ModelInferRequest(model_name=name, model_version=version)
        for own, tensor in request.inputs.items():
            array = tensors.decode(tensor)
            message.inputs.add(name=own, datatype=v2.DATATYPES[array.dtype.name], shape=array.shape)
            message.raw_input_contents.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        for wanted in self._outputs:
            message.outputs.add(name=wanted)
        return message

    def _read(self, answer: Any) -> Any:
        try:
            raw = answer.raw_output_contents
            if len(raw) not in (0, len(answer.outputs)):
                raise ValueError(f"{len(raw)} raw tensors for {len(answer.outputs)} outputs")
            return v2.answers({output.name: _array(output, raw[i] if raw else None) for i, output in enumerate(answer.outputs)})
        except (ValueError, KeyError) as error:
            raise ServerFailedError(f"{self._address}: the answer is not the Open Inference Protocol's ({error}).") from error


def _meant(call: Method, error: ServerFailedError) -> ServingError:
    """MLServer answers UNKNOWN to whoever asks whether a version is ready that it does not have."""
    return ServerNotFoundError(str(error)) if call is READY else error


def _told(described: Any) -> list[v2.Told]:
    return [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in described]


def _array(output: Any, raw: bytes | None) -> np.ndarray:
    dtype = v2.dtype_of(output.datatype)
    if raw is not None:
        return np.frombuffer(raw, np.dtype(dtype).newbyteorder("<")).astype(dtype).reshape(output.shape)
    if dtype not in _FIELDS:
        raise ValueError(f"{output.name} is {output.datatype} and not raw")
    return np.array(getattr(output.contents, _FIELDS[dtype]), dtype).reshape(output.shape)
