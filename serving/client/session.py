"""Everything that a client checks and decides, without sending anything itself: the blocking and the asyncio client drive it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_privpart.contract import CHECKED_OUTPUT, CHECKED_SIGNATURE, Contract
from keras_privpart.errors import (
    DeadlineExceededError,
    ServerBusyError,
    ServerFailedError,
    ServerNotFoundError,
    ServerUnavailableError,
    ServingError,
)

from ..wire import messages, tensors
from ..wire.readiness import wait_until_available
from ..wire.steps import Send, Sleep, Steps
from ..wire.transport import PREDICT
from .device import DeviceRunner, load_device
from .inputs import prepare_inputs
from .pairing import check_answer, check_pair, explain_missing, name_model

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

Arrays = dict[str, np.ndarray]


class Link:
    """The way to one server, and whether that server is known to hold this pair's server half."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        # A new object at every doubt: what was asked before the doubt arose confirms nothing, in whatever thread it was asked.
        self.doubt = object()
        self._confirmed: tuple[object, int] | None = None

    @property
    def paired(self) -> bool:
        """Whether nothing has given rise to doubt since the server showed its pair: no failure, and no lost connection."""
        return self._confirmed is not None and self._confirmed == self.state

    @property
    def state(self) -> tuple[object, int]:
        return self.doubt, self.transport.connection()

    def confirm(self, state: tuple[object, int]) -> None:
        """Takes what `state` was before the server was asked."""
        self._confirmed = state

    def suspect(self) -> None:
        self.doubt = object()


class Session:
    """One bundle's device half, loaded and verified, and the servers that may answer it.

    Args:
        bundle_path: the bundle's folder; `server/` may be missing from it.
        timeout: seconds for one request, tries included.
        version: the version wanted; `None` takes the bundle's.
        label: the label to ask servers for instead of the version.
        max_message_bytes: limit of one message in either direction.
        device_format: the form of the device half to run, one of the contract's `formats`; `None` takes the lightest that can be had.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
        BundleError: the device half cannot be loaded.
        ServingError: an argument is wrong.
    """

    def __init__(
        self,
        bundle_path: str | Path,
        *,
        timeout: float,
        version: int | None,
        label: str | None,
        max_message_bytes: int,
        device_format: str | None,
        noise_key: bytes | str | Path | None,
    ) -> None:
        self._process = os.getpid()
        if not timeout > 0:
            raise ServingError(f"Received timeout={timeout!r}; expected seconds above 0.")
        if label is not None and (not isinstance(label, str) or not label):
            raise ServingError(f"Received label={label!r}; expected a version's label on the server such as 'stable', or None.")
        bundle = Path(bundle_path)
        self.contract = Contract.load(bundle, version)
        self.contract.verify_files(bundle, ("device",))
        self.contract.verify_files(bundle, ("server", "serving", "report"), partial=True)
        self.timeout = timeout
        self.label = label
        self.device: DeviceRunner = load_device(bundle, self.contract, device_format, noise_key)
        self._max_message_bytes = max_message_bytes
        self._links: tuple[Link, ...] = ()
        self._turn = itertools.count()

    def connect(self, transports: Sequence[Any]) -> None:
        """Sets the servers. Requests go to them by turns; each is asked for its pair before it is sent anything."""
        self._links = tuple(Link(transport) for transport in transports)

    @property
    def is_at_home(self) -> bool:
        """Whether this is the process that the session was made in."""
        return os.getpid() == self._process

    def check_process(self) -> None:
        """Raises `ServingError` in a process that was forked off: the threads of TensorFlow and gRPC stay behind; calls would hang."""
        if not self.is_at_home:
            raise ServingError(
                f"Received a client that was made in process {self._process}, used in process {os.getpid()}; expected one process, because "
                "neither TensorFlow nor gRPC survives a fork. Make the client in the process that uses it (gunicorn: post_fork)."
            )

    def inputs(self, x: Any) -> list[Arrays]:
        """Checks and converts a user's inputs `[n, ...]`, and slices them into requests."""
        return self.batches(prepare_inputs(x, self.contract.inputs))

    def boundaries(self, boundary: Mapping[str, Any] | np.ndarray) -> list[Arrays]:
        """Checks given boundary tensors `[n, ...]`, and slices them into requests."""
        single = self.contract.boundary.names[0]
        named = boundary if isinstance(boundary, Mapping) else {single: boundary}
        arrays = {name: np.asarray(value) for name, value in named.items()}
        self.contract.boundary.check(arrays)
        return self.batches(arrays)

    def batches(self, arrays: Mapping[str, np.ndarray]) -> list[Arrays]:
        """Slices that the server takes in one request: at most the contract's batch size, within half the message limit."""
        size = self.contract.boundary.nbytes
        step = self.contract.max_batch_size if not size else min(self.contract.max_batch_size, self._max_message_bytes // 2 // size)
        step = max(step, 1)
        count = len(next(iter(arrays.values())))
        return [{name: array[start : start + step] for name, array in arrays.items()} for start in range(0, count, step)]

    def encode(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Runs the device half on one batch."""
        self.check_process()
        boundary = self.device.run(inputs)
        self.contract.boundary.check(boundary)
        return boundary

    def score(self, boundary: Mapping[str, np.ndarray]) -> Steps[Arrays]:
        """Sends one batch. The only place where tensors leave."""
        self.check_process()
        self.contract.boundary.check(boundary)
        request = messages.PredictRequest()
        name_model(request.model_spec, self.contract)
        request.model_spec.signature_name = CHECKED_SIGNATURE
        for name in self.contract.boundary.names:
            tensors.encode(boundary[name], request.inputs[name])
        end = time.monotonic() + self.timeout
        pauses = _pauses(len(self._links))
        while True:
            link = self._links[next(self._turn) % len(self._links)]
            try:
                yield from self._confirm_pair(link, end)
                response = yield Send(link.transport, PREDICT, request, _remaining(end))
                return self._read(response, len(next(iter(boundary.values()))))
            except (ServerUnavailableError, ServerBusyError) as error:
                if isinstance(error, ServerUnavailableError):
                    link.suspect()  # another server may be there after a restart
                pause = next(pauses)
                if time.monotonic() + pause >= end:
                    raise
                yield Sleep(pause)
            except ServerNotFoundError as error:
                link.suspect()
                raise (
                    yield from explain_missing(link.transport, self.contract, error, max(end - time.monotonic(), 0.01))
                ) from error.__cause__
            except ServingError:
                link.suspect()
                raise

    def wait_for_ready(self, timeout: float) -> Steps[None]:
        """Waits until every server has loaded the contract's version, then confirms the pair with each."""
        self.check_process()
        end = time.monotonic() + timeout
        for link in self._links:
            pauses = _pauses(1)
            while not link.paired:
                left = max(end - time.monotonic(), 0.01)
                yield from wait_until_available(link.transport, self.contract.name, self.contract.version, left)
                try:
                    yield from self._confirm_pair(link, end)
                except (ServerUnavailableError, ServerBusyError):  # gone again
                    pause = next(pauses)
                    if time.monotonic() + pause >= end:
                        raise
                    yield Sleep(pause, retry=False)

    def join(self, answers: list[Arrays]) -> np.ndarray | Arrays:
        """The answers to the batches of one input as one: an array, or several by name."""
        joined = {spec.name: np.concatenate([answer[spec.name] for answer in answers]) for spec in self.contract.outputs}
        return joined if len(joined) > 1 else next(iter(joined.values()))

    def join_boundary(self, encoded: list[Arrays]) -> Arrays:
        """The boundaries of the batches of one input as one."""
        return {name: np.concatenate([batch[name] for batch in encoded]) for name in self.contract.boundary.names}

    def _confirm_pair(self, link: Link, end: float) -> Steps[None]:
        """Makes sure that the server holds this pair's server half, unless that is known."""
        if not link.paired:
            state = link.state
            yield from check_pair(link.transport, self.contract, self.label, lambda: _remaining(end))
            link.confirm(state)

    def _read(self, response: Any, count: int) -> Arrays:
        specs = {spec.name: spec for spec in self.contract.outputs}
        if set(response.outputs) != {*specs, CHECKED_OUTPUT}:
            raise ServerFailedError(f"The server answered {sorted(response.outputs)}; expected {sorted([*specs, CHECKED_OUTPUT])}.")
        check_answer(self.contract, response.outputs[CHECKED_OUTPUT], count)
        answers = {}
        for name, spec in specs.items():
            message = response.outputs[name]
            shape, dtype = tensors.shape_of(message.tensor_shape), tensors.wire_dtype(message.dtype)
            wanted = (count, *spec.shape[1:])
            fits = shape is not None and len(shape) == len(wanted) and all(w in (None, g) for w, g in zip(wanted, shape, strict=True))
            if dtype != spec.dtype or not fits:
                raise ServerFailedError(
                    f"The server answered {name!r} as {dtype}{list(shape or ())} to {count} examples; "
                    f"the contract declares {spec.dtype}{list(spec.shape)}."
                )
            answers[name] = tensors.decode(message)
        return answers


def _pauses(servers: int) -> Iterator[float]:
    """Seconds before each further try: at once while there are servers not yet tried, then doubling up to a second."""
    pause = _FIRST_PAUSE
    while True:
        yield from itertools.repeat(0.0, servers - 1)
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def _remaining(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise DeadlineExceededError("No answer within the deadline. Raise timeout, or send smaller batches.")
    return left
