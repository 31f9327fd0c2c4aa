"""Status codes, retries, deadlines, limits and lost connections."""

import threading
import time

import grpc
import numpy as np
import pytest

from keras_privpart import errors
from keras_privpart.serving import Client
from keras_privpart.serving.wire import messages
from keras_privpart.serving.wire.grpc_transport import GrpcTransport
from keras_privpart.serving.wire.transport import STATUS, STATUS_ERRORS, translate

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


def test_every_status_code_has_an_error_of_its_own_kind():
    assert set(STATUS_ERRORS) == set(CODES)
    assert all(issubclass(error, errors.ServingError) and error is not errors.ServingError for error in STATUS_ERRORS.values())
    # A retry is safe on this code alone.
    assert [code for code, error in STATUS_ERRORS.items() if error is errors.ServerUnavailableError] == [grpc.StatusCode.UNAVAILABLE]


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_status_codes_reach_the_caller(code, bundle, recorder, images):
    with Client(bundle.path, recorder.address, timeout=1.0) as client:
        client.predict(images[:1])
        recorder.failures[:] = [code] * (1000 if code is grpc.StatusCode.UNAVAILABLE else 1)
        with pytest.raises(STATUS_ERRORS[code], match=f"{code.name}: as told") as caught:
            client.predict(images[:1])
        assert type(caught.value) is STATUS_ERRORS[code]
        assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_unavailable_alone_is_tried_again(bundle, recorder, images):
    with Client(bundle.path, recorder.address) as client:
        want = client.predict(images[:1])
        recorder.requests.clear()
        recorder.failures[:] = [grpc.StatusCode.UNAVAILABLE] * 2
        np.testing.assert_array_equal(client.predict(images[:1]), want)
        # The pair is asked again before the tensor is sent again, since another server may answer now.
        assert recorder.methods() == ["Predict", "GetModelMetadata", "GetModelMetadata", "Predict", "Predict"]
        recorder.requests.clear()
        recorder.failures[:] = [grpc.StatusCode.INTERNAL]
        with pytest.raises(errors.ServerFailedError):
            client.predict(images[:1])
        assert recorder.methods() == ["Predict"]


def test_a_server_that_never_answers_meets_the_deadline(bundle, recorder, images):
    with Client(bundle.path, recorder.address, timeout=0.6) as client:
        client.predict(images[:1])
        hold = threading.Event()
        recorder.rewrite = lambda method, answer: (hold.wait(5), answer)[1]
        start = time.monotonic()
        with pytest.raises(errors.DeadlineExceededError, match="Raise timeout"):
            client.predict(images[:1])
        assert 0.5 < time.monotonic() - start < 3
        hold.set()


def test_nobody_at_the_address(bundle, images):
    with Client(bundle.path, "127.0.0.1:1", timeout=0.5) as client:
        start = time.monotonic()
        with pytest.raises(errors.ServerUnavailableError, match="Check the address"):
            client.predict(images[:1])
        assert time.monotonic() - start < 3
        with pytest.raises(errors.ServerUnavailableError, match=r"Not ready within 0.3 s"):
            client.wait_for_ready(0.3)


def test_a_message_above_the_limit_is_an_error_not_a_hang(bundle, server, images):
    with (
        Client(bundle.path, server.address, max_message_bytes=300) as client,
        pytest.raises(errors.ServerOverloadedError, match="smaller batches"),
    ):
        client.predict(images[:1])


def test_a_closed_transport_says_so(server):
    transport = GrpcTransport(server.address)
    transport.close()
    with pytest.raises(errors.ServingError, match="Make a new client"):
        transport.send(STATUS, messages.GetModelStatusRequest(), 1.0)


@pytest.mark.parametrize(
    ("address", "direct"), [("localhost:1", True), ("127.0.0.1:1", True), ("[::1]:1", True), ("unix:/x", True), ("example.org:1", False)]
)
def test_connections_to_this_machine_go_through_no_proxy(address, direct, monkeypatch):
    seen = []
    channel = grpc.insecure_channel
    monkeypatch.setattr(grpc, "insecure_channel", lambda target, options: seen.extend(options) or channel(target, options))
    GrpcTransport(address).close()
    assert (("grpc.enable_http_proxy", 0) in seen) is direct
    assert {"grpc.max_send_message_length", "grpc.max_receive_message_length"} <= {key for key, _ in seen}


def test_messages_name_the_address_and_end_once():
    error = translate(grpc.StatusCode.NOT_FOUND, "no such model.", "here:1")
    assert str(error) == "here:1: NOT_FOUND: no such model. Start the server on this bundle's server/ folder."
