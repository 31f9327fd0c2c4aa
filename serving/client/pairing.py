"""Confirms that a server holds the server half that belongs to this device half, before anything else is sent to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from keras_privpart.contract import CHECKED_OUTPUT, CHECKED_SIGNATURE, PAIR_INPUT, PAIR_OUTPUT, PAIR_SIGNATURE, STRING, Contract, TensorSpec
from keras_privpart.errors import PairMismatchError, RequestRefusedError, ServerNotFoundError, ServingError

from ..wire import messages, tensors
from ..wire.readiness import AVAILABLE
from ..wire.steps import Send, Steps
from ..wire.transport import METADATA, PREDICT, STATUS

_SIGNATURES = "signature_def"


def name_model(spec: Any, contract: Contract, label: str | None = None) -> None:
    """Fills in a ModelSpec: the contract's model and version, or the label that should name that version.

    Only the question for signatures asks by label; what follows asks for the version that the answer named, since a label may move.
    """
    spec.name = contract.name
    if label is None:
        spec.version.value = contract.version
    else:
        spec.version_label = label


def check_pair(transport: Any, contract: Contract, label: str | None, remaining: Callable[[], float]) -> Steps[None]:
    """Asks for the server's signatures, then for its fingerprint.

    Args:
        transport: the way to the server.
        contract: what it must hold.
        label: the label to ask for; `None` asks for the contract's version.
        remaining: seconds left; raises when there are none.

    Raises:
        PairMismatchError: the server half is another one.
        ServingError: the subclass says why the server could not be asked.
    """
    signatures = yield from _signatures(transport, contract, label, remaining())
    serve = signatures.get(CHECKED_SIGNATURE)
    if serve is None or PAIR_SIGNATURE not in signatures:
        raise _mismatch(contract, f"it has the signatures {sorted(signatures)}; expected {CHECKED_SIGNATURE!r} and {PAIR_SIGNATURE!r}")
    _compare(contract, "input", contract.boundary.tensors, serve.inputs, exact=True)
    # What TensorFlow knows of an output's shape can be less than what Keras knows.
    _compare(contract, "output", (*contract.outputs, TensorSpec(CHECKED_OUTPUT, (None,), STRING)), serve.outputs, exact=False)
    fingerprint = yield from _fingerprint(transport, contract, remaining())
    if fingerprint != contract.fingerprint:
        raise _mismatch(
            contract, f"its fingerprint is {fingerprint[:12]!r}..., this device half belongs to {contract.fingerprint[:12]!r}..."
        )


def explain_missing(transport: Any, contract: Contract, error: ServerNotFoundError, timeout: float) -> Steps[ServerNotFoundError]:
    """Says what a server has instead of the version that it was asked for, if it says so itself.

    Returns:
        An error with that, or `error` as it is.
    """
    request = messages.GetModelStatusRequest()
    request.model_spec.name = contract.name
    try:
        response = yield Send(transport, STATUS, request, timeout)
    except ServingError:
        return error
    versions = sorted(status.version for status in response.model_version_status if status.state == AVAILABLE)
    if not versions or contract.version in versions:
        return error
    older = contract.version < versions[-1]
    hint = (
        "The device half is out of date: use the bundle's newer version." if older else "Export the bundle's version to the server first."
    )
    return ServerNotFoundError(f"{error} The server has version {', '.join(map(str, versions))}, not {contract.version}. {hint}")


def check_answer(contract: Contract, named: Any, count: int) -> None:
    """Raises `PairMismatchError` unless an answer to `count` examples names this pair, once per example."""
    if named.dtype != tensors.WIRE_TYPES[STRING].number or list(named.string_val) != [contract.fingerprint.encode()] * count:
        raise PairMismatchError(
            f"An answer for version {contract.version} of {contract.name!r} came from another pair than the server named before; "
            "the answer was discarded. Serve one bundle at this address, and start again."
        )


def _signatures(transport: Any, contract: Contract, label: str | None, timeout: float) -> Steps[Mapping[str, Any]]:
    request = messages.GetModelMetadataRequest(metadata_field=[_SIGNATURES])
    name_model(request.model_spec, contract, label)
    try:
        response = yield Send(transport, METADATA, request, timeout)
    except RequestRefusedError as error:
        if label is None or not str(error).rstrip(".").endswith(label):
            raise
        raise RequestRefusedError(
            f"{error} The server knows no label {label!r}: give it one with `privpart-keras promote`, or leave label= out."
        ) from error.__cause__
    if response.model_spec.version.value != contract.version:
        raise _mismatch(contract, f"it answers for version {response.model_spec.version.value}")
    try:
        return messages.SignatureDefMap.FromString(response.metadata[_SIGNATURES].value).signature_def
    except DecodeError as error:
        raise _mismatch(contract, f"its signatures cannot be read ({error})") from error


def _fingerprint(transport: Any, contract: Contract, timeout: float) -> Steps[str]:
    request = messages.PredictRequest()
    name_model(request.model_spec, contract)
    request.model_spec.signature_name = PAIR_SIGNATURE
    tensors.encode(np.zeros(1, np.int32), request.inputs[PAIR_INPUT])
    response = yield Send(transport, PREDICT, request, timeout)
    if list(response.outputs) != [PAIR_OUTPUT]:
        raise _mismatch(contract, f"it answers {sorted(response.outputs)} when asked for its fingerprint")
    answer = tensors.decode(response.outputs[PAIR_OUTPUT]).ravel().tolist()
    return answer[0].decode(errors="replace") if len(answer) == 1 and isinstance(answer[0], bytes) else repr(answer)


def _compare(contract: Contract, what: str, specs: Sequence[TensorSpec], infos: Mapping[str, Any], *, exact: bool) -> None:
    if set(infos) != {spec.name for spec in specs}:
        raise _mismatch(contract, f"it has the {what}s {sorted(infos)}; expected {sorted(spec.name for spec in specs)}")
    for spec in specs:
        shape, dtype = tensors.shape_of(infos[spec.name].tensor_shape), tensors.wire_dtype(infos[spec.name].dtype)
        if dtype != spec.dtype or not _agrees(spec.shape, shape, exact):
            got = "unknown rank" if shape is None else list(shape)
            raise _mismatch(contract, f"its {what} {spec.name!r} is {dtype} {got}; expected {spec.dtype} {list(spec.shape)}")


def _agrees(declared: Sequence[int | None], got: Sequence[int | None] | None, exact: bool) -> bool:
    if exact or got is None:
        return not exact or tuple(declared) == got
    return len(declared) == len(got) and all(None in (want, has) or want == has for want, has in zip(declared, got, strict=True))


def _mismatch(contract: Contract, reason: str) -> PairMismatchError:
    return PairMismatchError(
        f"The server's version {contract.version} of {contract.name!r} is not this device half's partner: {reason}. Nothing was sent. "
        "The device half is out of date, or the server serves another bundle: use the same bundle on both sides."
    )
