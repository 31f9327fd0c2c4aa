"""`AsyncClient`: `Client` for asyncio, with the same checks and the same retries."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import cached_property
from itertools import islice
from types import TracebackType
from typing import Any

import numpy as np

from keras_privpart import arguments
from keras_privpart.errors import ArgumentError

from ..wire.steps import run_async
from ..wire.transport import AsyncTransport
from .base_client import BaseClient
from .client import Answer
from .connecting import async_transports_to
from .progress import progress_bar

# Seconds. The way to a thread and back costs about half of that, and gRPC holds the loop for longer at each request.
_QUICK = 0.0002

Arrays = Mapping[str, np.ndarray]


class AsyncClient(BaseClient[AsyncTransport]):
    """Queries a served bundle from asyncio. Make it and use it in one event loop.

    The device half runs in a thread beside the loop; in the loop itself where it takes less than 0.2 ms, since handing a batch over and
    back would cost as much.

    Arguments and errors are those of `Client`; a transport of your own is an `AsyncTransport`.

    Example:
        >>> async with AsyncClient("saved_models/faces", "localhost:8500") as client:  # doctest: +SKIP
        ...     scores = await client.predict(x)
    """

    _own, _made = AsyncTransport, staticmethod(async_transports_to)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """As `Client.close`."""
        if not self._session.is_at_home:
            return
        for transport in self._transports:
            await transport.close()

    async def wait_for_ready(self, timeout: float = 60.0) -> None:
        """As `Client.wait_for_ready`."""
        await run_async(self._session.wait_for_ready(timeout), self._metrics)

    async def predict(self, x: Any) -> Answer:
        """As `Client.predict`."""
        return self._session.join([await self._answer(batch) for batch in self._session.inputs(x)])

    async def _answer(self, batch: Arrays) -> dict[str, np.ndarray]:
        return await run_async(self._session.score(await self._half.run(batch)), self._metrics)

    @cached_property
    def _half(self) -> _HalfBeside:
        return _HalfBeside(self._session.encode)

    async def stream(self, inputs: Iterable[Any], concurrency: int = 4, progress: str | None = None) -> AsyncIterator[Answer]:
        """As `Client.stream`."""
        concurrency = arguments.whole("concurrency", concurrency, ArgumentError, advice="It counts requests under way.")
        items = iter(inputs)
        with progress_bar(inputs, progress) as advance:
            under_way: deque[asyncio.Task[Answer]] = deque(asyncio.create_task(self.predict(item)) for item in islice(items, concurrency))
            try:
                while under_way:
                    answer = await under_way[0]
                    under_way.popleft()
                    under_way.extend(asyncio.create_task(self.predict(item)) for item in islice(items, 1))
                    advance()
                    yield answer
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)

    async def encode(self, x: Any) -> dict[str, np.ndarray]:
        """As `Client.encode`."""
        batches = self._session.inputs(x)
        return self._session.join_boundary([await self._half.run(batch) for batch in batches])

    async def score(self, boundary: Mapping[str, Any] | np.ndarray) -> Answer:
        """As `Client.score`."""
        session = self._session
        return session.join([await run_async(session.score(batch), self._metrics) for batch in session.boundaries(boundary)])


class _HalfBeside:
    """Runs the device half in threads, or in the loop where a batch of that size was quick the last time.

    Args:
        encode: runs it on one batch.
    """

    def __init__(self, encode: Callable[[Arrays], dict[str, np.ndarray]]) -> None:
        self._encode = encode
        self._seconds: dict[int, float] = {}  # that the last batch took, by its examples
        self._in_threads: set[object] = set()

    async def run(self, batch: Arrays) -> dict[str, np.ndarray]:
        is_quick = self._seconds.get(_count(batch), math.inf) < _QUICK
        # A thread may hold the half for long, with another batch: the loop does not wait for it.
        return self._timed(batch) if is_quick and not self._in_threads else await asyncio.to_thread(self._run_in_thread, batch)

    def _run_in_thread(self, batch: Arrays) -> dict[str, np.ndarray]:
        one = object()
        self._in_threads.add(one)
        try:
            return self._timed(batch)
        finally:
            self._in_threads.discard(one)

    def _timed(self, batch: Arrays) -> dict[str, np.ndarray]:
        begin = time.perf_counter()
        boundary = self._encode(batch)
        self._seconds[_count(batch)] = time.perf_counter() - begin
        return boundary


def _count(batch: Arrays) -> int:
    return len(next(iter(batch.values())))
