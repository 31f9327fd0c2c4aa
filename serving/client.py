"""`Client`: runs the device half here, sends the boundary and nothing else, and returns the server half's answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from keras_privpart.contract import CHECKED_OUTPUT, CHECKED_SIGNATURE, Contract
from keras_privpart.errors import DeadlineExceededError, PairMismatchError, ServerFailedError, ServerUnavailableError, ServingError

from . import messages, tensors
from .device import DeviceRunner, load_device
from .inputs import prepare_inputs
from .pairing import check_answer, check_pair
from .readiness import wait_until_available
from .transport import MAX_MESSAGE_BYTES, PREDICT, GrpcTransport, Transport

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Client:
    """Queries a served bundle.

    It fails closed: the bundle's files are compared with the contract before the device half is loaded; the server must show
    the contract's signature and the pair's fingerprint before the first request and again after every failed one; every answer
    must carry that fingerprint, since behind a proxy another server may answer; the version is pinned; and each tensor is
    compared with the boundary's specification before it is sent. Neither inputs nor boundaries are ever logged.

    A client may be used from several threads.

    Args:
        bundle_path: the bundle's folder; `server/` may be missing from it.
        address: `host:port` of the server's gRPC port.
        timeout: seconds for one request, tries included. A large input is several requests.
        version: the version wanted; `None` takes the bundle's.
        max_message_bytes: limit of one message in either direction; batches are made to fit.
        transport: another way to the server than gRPC; the client closes it.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
        BundleError: the device half cannot be loaded.

    Example:
        >>> with Client("saved_models/faces", "localhost:8500") as client:  # doctest: +SKIP
        ...     scores = client.predict(x)
    """

    def __init__(
        self,
        bundle_path: str | Path,
        address: str,
        *,
        timeout: float = 10.0,
        version: int | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        transport: Transport | None = None,
    ) -> None:
        if not address or not isinstance(address, str):
            raise ServingError(f"Received the address {address!r}; expected host:port, such as 'localhost:8500'.")
        if not timeout > 0:
            raise ServingError(f"Received timeout={timeout!r}; expected seconds above 0.")
        bundle = Path(bundle_path)
        self.contract = Contract.load(bundle, version)
        self.contract.verify_files(bundle, ("device",))
        self.contract.verify_files(bundle, ("server", "serving", "report"), partial=True)
        self.address = address
        self.timeout = timeout
        self._max_message_bytes = max_message_bytes
        self._device: DeviceRunner = load_device(bundle, self.contract)
        self._transport = transport if transport is not None else GrpcTransport(address, max_message_bytes)
        self._lock = threading.Lock()
        self._paired = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def wait_for_ready(self, timeout: float = 60.0) -> None:
        """Waits until the server has loaded the contract's version, then confirms the pair.

        Args:
            timeout: seconds.

        Raises:
            ServerUnavailableError, DeadlineExceededError, ServerNotFoundError: still so when the time is up.
            PairMismatchError: the server is up with another pair.
        """
        end = time.monotonic() + timeout
        wait_until_available(self._transport, self.contract.name, self.contract.version, timeout)
        self._confirm_pair(end)

    def predict(self, x: Any) -> np.ndarray | dict[str, np.ndarray]:
        """Runs the device half here and the server half there.

        Args:
            x: inputs `[n, ...]`: one array, a list in the inputs' order, or a dict by name. Any n; it is sent in batches.

        Returns:
            The model's output `[n, ...]`, or a dict of them by name when the model has several.

        Raises:
            DataError: `x` is not what the device half takes.
            BoundaryMismatchError: the device half produced something else than the contract declares.
            PairMismatchError: the server half is another one. Nothing was sent.
            ServingError: the subclass says what went wrong at the server.
        """
        inputs = prepare_inputs(x, self.contract.inputs)
        answers = [self._score_batch(self._encode_batch(batch)) for batch in self._batches(inputs)]
        return self._join(answers)

    def encode(self, x: Any) -> dict[str, np.ndarray]:
        """Runs the device half only: inputs as for `predict`, to the boundary's tensors `[n, ...]` by name. Sends nothing."""
        inputs = prepare_inputs(x, self.contract.inputs)
        encoded = [self._encode_batch(batch) for batch in self._batches(inputs)]
        return {name: np.concatenate([batch[name] for batch in encoded]) for name in self.contract.boundary.names}

    def score(self, boundary: Mapping[str, Any] | np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """Sends boundary tensors, as `encode` returns them, and returns what `predict` would."""
        single = self.contract.boundary.names[0]
        named = boundary if isinstance(boundary, Mapping) else {single: boundary}
        arrays = {name: np.asarray(value) for name, value in named.items()}
        self.contract.boundary.check(arrays)
        return self._join([self._score_batch(batch) for batch in self._batches(arrays)])

    def _batches(self, arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Slices that the server takes in one request: at most the contract's batch size, within half the message limit."""
        size = self.contract.boundary.nbytes
        step = self.contract.max_batch_size if not size else min(self.contract.max_batch_size, self._max_message_bytes // 2 // size)
        step = max(step, 1)
        count = len(next(iter(arrays.values())))
        return [{name: array[start : start + step] for name, array in arrays.items()} for start in range(0, count, step)]

    def _encode_batch(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        boundary = self._device.run(inputs)
        self.contract.boundary.check(boundary)
        return boundary

    def _score_batch(self, boundary: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Sends one batch. The only place where tensors leave."""
        self.contract.boundary.check(boundary)
        request = messages.PredictRequest()
        request.model_spec.name = self.contract.name
        request.model_spec.version.value = self.contract.version
        request.model_spec.signature_name = CHECKED_SIGNATURE
        for name in self.contract.boundary.names:
            tensors.encode(boundary[name], request.inputs[name])
        end = time.monotonic() + self.timeout
        pause = _FIRST_PAUSE
        while True:
            self._confirm_pair(end)
            try:
                response = self._transport.send(PREDICT, request, _remaining(end))
            except ServerUnavailableError as error:
                self._paired = False  # another server may be there after a restart
                pause = _wait(pause, end, error)
            except ServingError:
                self._paired = False
                raise
            else:
                return self._read(response, len(next(iter(boundary.values()))))

    def _confirm_pair(self, end: float) -> None:
        """Makes sure that the server holds this pair's server half, unless that is known."""
        pause = _FIRST_PAUSE
        while not self._paired:
            if not self._lock.acquire(timeout=_remaining(end)):
                continue  # another thread is asking; out of time by now
            try:
                if not self._paired:  # another thread may have asked meanwhile
                    check_pair(self._transport, self.contract, lambda: _remaining(end))
                    self._paired = True
            except ServerUnavailableError as error:
                pause = _wait(pause, end, error)
            finally:
                self._lock.release()

    def _read(self, response: Any, count: int) -> dict[str, np.ndarray]:
        specs = {spec.name: spec for spec in self.contract.outputs}
        if set(response.outputs) != {*specs, CHECKED_OUTPUT}:
            raise ServerFailedError(f"{self.address} answered {sorted(response.outputs)}; expected {sorted([*specs, CHECKED_OUTPUT])}.")
        try:
            check_answer(self.contract, response.outputs[CHECKED_OUTPUT], count)
        except PairMismatchError:
            self._paired = False
            raise
        answers = {}
        for name, spec in specs.items():
            message = response.outputs[name]
            shape, dtype = tensors.shape_of(message.tensor_shape), tensors.wire_dtype(message.dtype)
            wanted = (count, *spec.shape[1:])
            fits = shape is not None and len(shape) == len(wanted) and all(w in (None, g) for w, g in zip(wanted, shape, strict=True))
            if dtype != spec.dtype or not fits:
                raise ServerFailedError(
                    f"{self.address} answered {name!r} as {dtype}{list(shape or ())} to {count} examples; "
                    f"the contract declares {spec.dtype}{list(spec.shape)}."
                )
            answers[name] = tensors.decode(message)
        return answers

    def _join(self, answers: list[dict[str, np.ndarray]]) -> np.ndarray | dict[str, np.ndarray]:
        joined = {spec.name: np.concatenate([answer[spec.name] for answer in answers]) for spec in self.contract.outputs}
        return joined if len(joined) > 1 else next(iter(joined.values()))


def _remaining(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise DeadlineExceededError("No answer within the deadline. Raise timeout, or send smaller batches.")
    return left


def _wait(pause: float, end: float, error: ServingError) -> float:
    """Sleeps before another try and returns the next pause; raises `error` when no time is left for one."""
    if time.monotonic() + pause >= end:
        raise error
    time.sleep(pause)
    return min(2 * pause, _LONGEST_PAUSE)
