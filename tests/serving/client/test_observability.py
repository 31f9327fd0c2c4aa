"""Metrics, traces and logs: what they tell, and what they must never tell."""

import logging
import sys

import grpc
import numpy as np
import pytest

from keras_privpart import errors
from keras_privpart.serving import Client, PrometheusMetrics
from keras_privpart.serving.wire import tracing

prometheus_client = pytest.importorskip("prometheus_client")


@pytest.fixture
def registry():
    return prometheus_client.CollectorRegistry()


def test_metrics_count_calls_bytes_retries_and_errors(bundle, recorder, images, registry):
    with Client(bundle.path, recorder.address, metrics=PrometheusMetrics(registry)) as client:
        client.predict(images)  # three batches

        def value(name, **labels):
            return registry.get_sample_value(f"privpart_client_{name}", labels)

        assert value("call_seconds_count", method="GetModelMetadata") == 1
        assert value("call_seconds_count", method="Predict") == 4  # one of them asks for the pair
        assert 0 < value("call_seconds_sum", method="Predict") < 60
        boundary = client.encode(images)["boundary"]
        sent = sum(len(raw) for method, raw in recorder.requests if method == "Predict")
        assert value("sent_bytes_total", method="Predict") == sent > boundary.nbytes
        assert value("received_bytes_total", method="Predict") > 11 * 5 * 4
        assert value("retries_total") == 0
        recorder.failures[:] = [grpc.StatusCode.UNAVAILABLE] * 2
        client.predict(images[:1])
        assert value("retries_total") == 2
        recorder.failures[:] = [grpc.StatusCode.INTERNAL]
        with pytest.raises(errors.ServerFailedError):
            client.predict(images[:1])
        assert value("errors_total", method="Predict", error="ServerFailedError") == 1
        assert value("errors_total", method="Predict", error="ServerUnavailableError") == 1
        assert value("errors_total", method="GetModelMetadata", error="ServerUnavailableError") == 1
    text = prometheus_client.generate_latest(registry).decode()
    assert "faces" not in text
    assert "boundary" not in text


def test_waiting_is_no_retry(bundle, registry):
    with (
        Client(bundle.path, "127.0.0.1:1", metrics=PrometheusMetrics(registry)) as client,
        pytest.raises(errors.ServerUnavailableError),
    ):
        client.wait_for_ready(0.3)
    assert registry.get_sample_value("privpart_client_retries_total") == 0
    assert registry.get_sample_value("privpart_client_call_seconds_count", {"method": "GetModelStatus"}) > 0


def test_metrics_need_prometheus_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(errors.ServingError, match=r"pip install 'keras_privpart\[metrics\]'"):
        PrometheusMetrics()


# Traces.


class Headers(grpc.GenericRpcHandler):
    """Keeps the headers of every call."""

    def __init__(self):
        self.seen = []

    def service(self, details):
        self.seen.append(dict(details.invocation_metadata))


@pytest.fixture
def headers():
    from concurrent import futures

    handler = Headers()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((handler,))
    handler.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield handler
    server.stop(0).wait()


def test_the_callers_trace_goes_on_to_the_server(bundle, headers, images):
    trace = pytest.importorskip("opentelemetry.sdk.trace")
    tracer = trace.TracerProvider().get_tracer("test")
    with Client(bundle.path, headers.address) as client:
        for _ in range(2):
            with tracer.start_as_current_span("query") as span, pytest.raises(errors.RequestRefusedError):
                client.predict(images[:1])
            wanted = f"{span.get_span_context().trace_id:032x}"
            assert headers.seen[-1]["traceparent"].split("-")[1] == wanted
        with pytest.raises(errors.RequestRefusedError):
            client.predict(images[:1])
        assert "traceparent" not in headers.seen[-1]


def test_without_opentelemetry_nothing_is_added(monkeypatch):
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    assert tracing.trace_headers() is None


# Logs.


def test_nothing_of_inputs_or_boundaries_is_logged(bundle, recorder, images, caplog):
    """Whatever happens: success, retry, refusal, a wrong input, a wrong boundary."""
    marked = np.full_like(images[:2], 0.123456789)
    with caplog.at_level(logging.DEBUG), Client(bundle.path, recorder.address) as client:
        client.predict(marked)
        boundary = client.encode(marked)["boundary"]
        recorder.failures[:] = [grpc.StatusCode.UNAVAILABLE]
        client.predict(marked)
        recorder.failures[:] = [grpc.StatusCode.INVALID_ARGUMENT]
        problems = []
        for call in (lambda: client.predict(marked), lambda: client.predict(marked[0]), lambda: client.score({"boundary": boundary[0]})):
            with pytest.raises(errors.PrivPartError) as caught:
                call()
            problems.append(str(caught.value))
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
    told = " ".join([*problems, *(record.getMessage() for record in caplog.records)])
    values = {f"{value:.4f}" for value in (*np.unique(marked), *np.unique(boundary)) if value}
    assert not [value for value in values if value in told]
