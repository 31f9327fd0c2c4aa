"""`Client`: runs the device half here, sends the boundary and nothing else, and returns the server half's answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Any

import numpy as np

from keras_privpart import arguments
from keras_privpart.errors import ArgumentError

from ..wire.steps import run
from ..wire.transport import Transport
from .base_client import BaseClient
from .connecting import transports_to
from .progress import progress_bar

Answer = np.ndarray | dict[str, np.ndarray]


class Client(BaseClient[Transport]):
    """Queries a served bundle.

    It fails closed: the bundle's files are compared with the contract before the device half is loaded; each server must show
    the contract's signature and the pair's fingerprint before the first request and again after every failed one; every answer
    must carry that fingerprint, since behind a proxy another server may answer; the version is pinned; and each tensor is
    compared with the boundary's specification before it is sent. Neither inputs nor boundaries are ever logged.

    A client may be used from several threads.

    Args:
        bundle_path: the bundle's folder; `server/` may be missing from it.
        address: `host:port` of the server's gRPC port; or several, which take turns and stand in for each other; or
            `dns:///host:port`, whose addresses take turns (their pair is asked for once, and checked with every answer).
        timeout: seconds for one request, tries included. A large input is several requests.
        version: the version wanted; `None` takes the bundle's.
        label: asks for the version that the server gives this label, such as `"stable"`, instead of the number. If the label has
            moved on to another pair, the client says that the device half is out of date.
        max_message_bytes: limit of one message in either direction; batches are made to fit.
        tls: a `Tls`, or the folder that `privpart-keras certs` made; plaintext when `None`.
        token: sent as `authorization: Bearer <token>`, for a proxy that asks for one. Needs `tls`.
        transport: `"grpc"`; `"rest"`, where gRPC cannot go, with the address of the REST port; `"v2"` and `"v2-grpc"` for servers of the
            Open Inference Protocol (Triton, OpenVINO, MLServer, KServe), by REST and by gRPC; or a transport of your own, which the
            client closes.
        device_format: the form of the device half to run, one of `contract.formats`; `None` takes LiteRT if the bundle has it and
            it is installed.
        noise_key: the secret of a device half whose noise is frozen (`GaussianChannel(..., frozen=True)`): 32 bytes, or a file of them,
            which is made where it is missing. The same key, kept on the device, sends the same boundary for the same input today and
            next year; `None` draws a key for this client alone.
        metrics: where to count calls, such as a `PrometheusMetrics`.

    Raises:
        ContractError, IntegrityError: the bundle is not what its contract says.
        BundleError: the device half cannot be loaded.
        ServingError: an argument is wrong.

    Example:
        >>> with Client("saved_models/faces", "localhost:8500") as client:  # doctest: +SKIP
        ...     scores = client.predict(x)
    """

    _own, _made = Transport, staticmethod(transports_to)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections. Those of a client that was made before a fork are the parent's, and stay."""
        if not self._session.is_at_home:
            return
        for transport in self._transports:
            transport.close()

    def wait_for_ready(self, timeout: float = 60.0) -> None:
        """Waits until every server has loaded the contract's version, then confirms the pair with each.

        Args:
            timeout: seconds.

        Raises:
            ServerUnavailableError, DeadlineExceededError, ServerNotFoundError: still so when the time is up.
            PairMismatchError: the server is up with another pair.
            SecureConnectionError: the two sides do not agree on TLS, or on each other's certificates.
        """
        run(self._session.wait_for_ready(timeout), self._metrics)

    def predict(self, x: Any) -> Answer:
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
        session = self._session
        return session.join([run(session.score(session.encode(batch)), self._metrics) for batch in session.inputs(x)])

    def stream(self, inputs: Iterable[Any], concurrency: int = 4, progress: str | None = None) -> Iterator[Answer]:
        """Answers a data set: each item of `inputs` is what `predict` takes, and is answered in its turn.

        Args:
            inputs: batches of inputs, read as they are needed. It need not end.
            concurrency: requests under way at a time, and items read ahead.
            progress: label of a progress bar on stderr, counting items; none when `None`, or where stderr is not a terminal.

        Yields:
            What `predict` returns, in the items' order.

        Raises:
            As `predict`, at the item that fails; what is under way is waited for.
        """
        concurrency = arguments.whole("concurrency", concurrency, ArgumentError, advice="It counts requests under way.")
        items = iter(inputs)
        with ThreadPoolExecutor(concurrency, thread_name_prefix="privpart-stream") as pool, progress_bar(inputs, progress) as advance:
            under_way: deque[Future[Answer]] = deque(pool.submit(self.predict, item) for item in islice(items, concurrency))
            try:
                while under_way:
                    answer = under_way.popleft().result()
                    under_way.extend(pool.submit(self.predict, item) for item in islice(items, 1))
                    advance()
                    yield answer
            finally:
                for future in under_way:
                    future.cancel()

    def encode(self, x: Any) -> dict[str, np.ndarray]:
        """Runs the device half only: inputs as for `predict`, to the boundary's tensors `[n, ...]` by name. Sends nothing."""
        return self._session.join_boundary([self._session.encode(batch) for batch in self._session.inputs(x)])

    def score(self, boundary: Mapping[str, Any] | np.ndarray) -> Answer:
        """Sends boundary tensors, as `encode` returns them, and returns what `predict` would."""
        session = self._session
        return session.join([run(session.score(batch), self._metrics) for batch in session.boundaries(boundary)])
