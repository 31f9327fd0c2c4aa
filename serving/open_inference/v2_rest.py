"""The Open Inference Protocol over REST: tensors as JSON."""

from __future__ import annotations

import json
from typing import Any

import grpc
import numpy as np

from keras_privpart.contract import Contract

from ..wire import tensors
from ..wire.http_transport import HttpTransport, http_code
from ..wire.tls import Tls
from ..wire.transport import MAX_MESSAGE_BYTES, METADATA, STATUS, Method
from . import v2

# JSON has no form for half floats; the protocol's servers refuse them there.
_JSON_DTYPES = v2.DATATYPES.keys() - {"float16"}


class V2RestTransport(HttpTransport):
    """REST as Triton, OpenVINO Model Server, MLServer and KServe speak it.

    Args:
        address: `host:port` of the REST port, or of a proxy before it.
        contract: says which outputs to ask for.
        max_message_bytes: limit of one message in either direction, as JSON.
        tls: for HTTPS, where the server or a proxy before it has that.
        token: sent as `Authorization: Bearer <token>`; needs `tls`.

    Raises:
        ServingError: a tensor of the contract cannot travel as JSON, the address is none, or a token comes without TLS.
    """

    server = "the Open Inference Protocol"

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
        v2.check_dtypes(contract, _JSON_DTYPES, "Use transport='v2-grpc'.")
        self._outputs = [{"name": name} for name in v2.wanted_outputs(contract)]

    def _write(self, method: Method, request: Any) -> tuple[str, bytes | None]:
        version = v2.version_of(request.model_spec)
        path = f"/v2/models/{request.model_spec.name}" + (f"/versions/{version}" if version else "")
        if method is STATUS:
            return f"{path}/ready" if version else path, None
        if method is METADATA or v2.asks_for_pair(request):
            return path, None
        inputs = [_tensor(name, tensors.decode(tensor)) for name, tensor in request.inputs.items()]
        return f"{path}/infer", json.dumps({"inputs": inputs, "outputs": self._outputs}, separators=(",", ":")).encode()

    def _code(self, verb: str, status: int) -> grpc.StatusCode:
        # Some servers answer 400 where a model or a version is not there, or not ready.
        return grpc.StatusCode.NOT_FOUND if verb == "GET" and status == 400 else http_code(status)

    def _read(self, method: Method, request: Any, answer: Any) -> Any:
        version = v2.version_of(request.model_spec)
        if method is STATUS:
            return v2.status(version, () if version else map(str, answer.get("versions", ())))
        if method is METADATA:
            versions = list(map(str, answer.get("versions") or ()))
            return v2.metadata(version, versions, _told(answer.get("inputs")), _told(answer["outputs"]))
        if v2.asks_for_pair(request):
            return v2.pair(_told(answer["outputs"]))
        return v2.answers({output["name"]: _array(output) for output in answer["outputs"]})


def _told(described: Any) -> list[v2.Told]:
    return [(tensor["name"], tensor["datatype"], [int(size) for size in tensor["shape"]]) for tensor in described or ()]


def _tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    datatype = v2.DATATYPES[array.dtype.name]
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}


def _array(output: dict[str, Any]) -> np.ndarray:
    values = np.array(output["data"], object).ravel()
    if any(value is None for value in values):
        raise ValueError(f"{output['name']} has values that are no numbers, which JSON cannot carry")
    return values.astype(v2.dtype_of(output["datatype"])).reshape(output["shape"])
