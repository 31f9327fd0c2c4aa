"""What a client counts: calls, latencies, bytes, retries and errors. Never what was sent."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from keras_privpart.errors import ServingError

# Seconds. A boundary travels in milliseconds on a local network, in seconds on a phone's.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass
class Call:
    """One call under way; `answer` is set when there is one."""

    answer: Any = None


class Metrics(ABC):
    """What clients tell of their calls. One object may serve many clients and threads."""

    @contextmanager
    def call(self, method: str, request: Any) -> Iterator[Call]:
        """Measures a call; an error inside is recorded by its class and passed on."""
        call, start, error = Call(), time.perf_counter(), ""
        try:
            yield call
        except BaseException as problem:
            error = type(problem).__name__
            raise
        finally:
            received = 0 if call.answer is None else call.answer.ByteSize()
            self.record(method, time.perf_counter() - start, request.ByteSize(), received, error)

    @abstractmethod
    def record(self, method: str, seconds: float, sent: int, received: int, error: str) -> None:
        """One call: its duration, bytes either way, and the error's class, `""` for none."""

    @abstractmethod
    def retry(self) -> None:
        """A request is about to be tried again."""


class NoMetrics(Metrics):
    """Counts nothing."""

    @contextmanager
    def call(self, method: str, request: Any) -> Iterator[Call]:
        yield Call()

    def record(self, method: str, seconds: float, sent: int, received: int, error: str) -> None:
        pass

    def retry(self) -> None:
        pass


class PrometheusMetrics(Metrics):
    """Metrics for Prometheus, named `privpart_client_*`, with the label `method` (and `error`).

    Args:
        registry: a `prometheus_client.CollectorRegistry`; the process' own when `None`. Make one object per registry.

    Raises:
        ServingError: `prometheus_client` is not installed.

    Example:
        >>> client = Client("saved_models/faces", "localhost:8500", metrics=PrometheusMetrics())  # doctest: +SKIP
        >>> prometheus_client.start_http_server(9100)  # doctest: +SKIP
    """

    def __init__(self, registry: Any = None) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError as error:
            raise ServingError(f"Metrics need prometheus_client: {error}. Install it: pip install 'keras_privpart[metrics]'.") from error
        registry = prometheus.REGISTRY if registry is None else registry
        own = {"namespace": "privpart_client", "registry": registry}
        self._seconds = prometheus.Histogram("call_seconds", "Duration of calls to the server.", ["method"], buckets=_BUCKETS, **own)
        self._sent = prometheus.Counter("sent_bytes", "Bytes of requests, before gRPC's framing.", ["method"], **own)
        self._received = prometheus.Counter("received_bytes", "Bytes of answers, before gRPC's framing.", ["method"], **own)
        self._errors = prometheus.Counter("errors", "Calls that failed, by the class of the error.", ["method", "error"], **own)
        self._retries = prometheus.Counter("retries", "Requests that were tried again.", **own)

    def record(self, method: str, seconds: float, sent: int, received: int, error: str) -> None:
        self._seconds.labels(method).observe(seconds)
        self._sent.labels(method).inc(sent)
        self._received.labels(method).inc(received)
        if error:
            self._errors.labels(method, error).inc()

    def retry(self) -> None:
        self._retries.inc()
