"""TensorFlow Serving's REST interface, for places where gRPC cannot go. Slower: numbers travel as decimal text.

The same messages go in and come out, so every check of the client holds here as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_privpart.contract import CHECKED_OUTPUT, PAIR_OUTPUT, STRING, Contract
from keras_privpart.errors import ServingError

from . import messages, tensors
from .http_transport import HttpTransport
from .tls import Tls
from .transport import MAX_MESSAGE_BYTES, METADATA, PREDICT, STATUS, Method

# What TensorFlow Serving reads from JSON, and writes to it.
JSON_DTYPES = frozenset(("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", STRING))
_STATES = {"UNKNOWN": 0, "START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}
_ALIASES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}
_DT = {f"DT_{_ALIASES.get(name, name.upper())}": wire.number for name, wire in tensors.WIRE_TYPES.items()}


class RestTransport(HttpTransport):
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

    server = "TensorFlow Serving"

    def __init__(
        self,
        address: str,
        contract: Contract,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        *,
        tls: Tls | None = None,
        token: str | None = None,
    ) -> None:
        super().__init__(address, max_message_bytes, tls=tls, token=token)
        for spec in (*contract.boundary.tensors, *contract.outputs):
            if spec.dtype not in JSON_DTYPES:
                raise ServingError(f"{spec.name!r} is {spec.dtype}, which TensorFlow Serving's REST cannot carry. Use gRPC.")
        self._dtypes = {spec.name: spec.dtype for spec in contract.outputs} | {CHECKED_OUTPUT: STRING, PAIR_OUTPUT: STRING}

    def _write(self, method: Method, request: Any) -> tuple[str, bytes | None]:
        return _REQUESTS[method](request)

    def _read(self, method: Method, request: Any, answer: dict[str, Any]) -> Any:
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
