"""What the Open Inference Protocol says, as the messages of TensorFlow Serving that a client compares, and the other way round.

The protocol knows no signatures: a model has inputs and outputs, and that is all that a server tells of it without running it. So
the pair's fingerprint stands in an output's name, which the server reads from the model file, and that output holds its bytes, once
an example.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_privpart.contract import (
    CHECKED_OUTPUT,
    CHECKED_SIGNATURE,
    PAIR_INPUT,
    PAIR_OUTPUT,
    PAIR_SIGNATURE,
    STRING,
    V2_PAIR_PREFIX,
    Contract,
)
from keras_privpart.errors import ServingError

from ..wire import messages, tensors
from ..wire.readiness import AVAILABLE

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
_DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}

# Name, datatype and shape of an input or an output, free dimensions as -1.
Told = tuple[str, str, Sequence[int]]


def check_dtypes(contract: Contract, known: Iterable[str], advice: str) -> None:
    """Raises `ServingError` for a tensor of the contract that cannot travel."""
    for spec in (*contract.boundary.tensors, *contract.outputs):
        if spec.dtype not in known:
            raise ServingError(f"{spec.name!r} is {spec.dtype}, which the Open Inference Protocol cannot carry here. {advice}")


def version_of(spec: Any) -> str:
    """The version that a request asks for; empty for any.

    Raises:
        ServingError: it asks for a label.
    """
    if spec.version_label:
        raise ServingError(f"Received label={spec.version_label!r}; the Open Inference Protocol knows versions only. Leave label= out.")
    return str(spec.version.value) if spec.HasField("version") else ""


def asks_for_pair(request: Any) -> bool:
    """Whether a `PredictRequest` asks for the fingerprint, which the model's description holds, and not for answers."""
    return request.model_spec.signature_name == PAIR_SIGNATURE


def wanted_outputs(contract: Contract) -> list[str]:
    """Names of the outputs to ask for. A server that holds another pair has no output of the last name."""
    return [*(spec.name for spec in contract.outputs), V2_PAIR_PREFIX + contract.fingerprint]


def dtype_of(datatype: str) -> str:
    """The dtype that the protocol calls `datatype`. Raises `ValueError` for one that no contract can declare."""
    if datatype not in _DTYPES:
        raise ValueError(f"unknown datatype {datatype!r}")
    return _DTYPES[datatype]


def status(version: str, versions: Iterable[str]) -> Any:
    """A `GetModelStatusResponse` from the versions that a server holds, or from the one that it said is ready."""
    response = messages.GetModelStatusResponse()
    for held in [version] if version else versions:
        if held.isdecimal():
            response.model_version_status.add(version=int(held), state=AVAILABLE)
    return response


def metadata(version: str, versions: Sequence[str], inputs: Iterable[Told], outputs: Iterable[Told]) -> Any:
    """A `GetModelMetadataResponse` from a model's description, as if each output that names a pair were the checked one."""
    signatures = messages.SignatureDefMap()
    checked = signatures.signature_def[CHECKED_SIGNATURE]
    for name, datatype, shape in inputs:
        _describe(checked.inputs[name], _DTYPES.get(datatype), shape)
    for name, datatype, shape in outputs:
        if is_pair(name):
            _describe(checked.outputs[CHECKED_OUTPUT], STRING, shape[:1])
            pair = signatures.signature_def[PAIR_SIGNATURE]
            _describe(pair.inputs[PAIR_INPUT], "int32", (-1,))
            _describe(pair.outputs[PAIR_OUTPUT], STRING, (-1,))
        else:
            _describe(checked.outputs[name], _DTYPES.get(datatype), shape)
    response = messages.GetModelMetadataResponse()
    # The question named a version; servers may leave the list out, or list what else they hold.
    answers = version if not versions or version in versions else versions[0]
    response.model_spec.version.value = int(answers) if answers.isdecimal() else 0
    response.metadata["signature_def"].value = signatures.SerializeToString()
    return response


def pair(outputs: Iterable[Told]) -> Any:
    """A `PredictResponse` with the fingerprints that a model's outputs name: one, if it is the server half of a pair."""
    named = [name.removeprefix(V2_PAIR_PREFIX).encode() for name, _, _ in outputs if is_pair(name)]
    response = messages.PredictResponse()
    tensors.encode(np.array(named, object), response.outputs[PAIR_OUTPUT])
    return response


def answers(arrays: Mapping[str, np.ndarray]) -> Any:
    """A `PredictResponse` from a model's outputs.

    Raises:
        ValueError: the pair's output holds no fingerprints.
    """
    response = messages.PredictResponse()
    for name, array in arrays.items():
        if not is_pair(name):
            tensors.encode(array, response.outputs[name])
            continue
        if array.dtype != np.uint8 or array.ndim != 2:
            raise ValueError(f"{name} is {array.dtype}{list(array.shape)}, not bytes, a row an example")
        tensors.encode(np.array([row.tobytes().hex().encode() for row in array], object), response.outputs[CHECKED_OUTPUT])
    return response


def is_pair(name: str) -> bool:
    """Whether an output names a pair."""
    return name.startswith(V2_PAIR_PREFIX)


def _describe(info: Any, dtype: str | None, shape: Sequence[int]) -> None:
    info.dtype = 0 if dtype is None else tensors.WIRE_TYPES[dtype].number
    info.tensor_shape.SetInParent()
    for size in shape:
        info.tensor_shape.dim.add(size=size)
