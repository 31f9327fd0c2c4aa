"""REST: the same answers and the same refusals as over gRPC."""

import asyncio
import http.client
import http.server
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import ClassVar

import grpc
import numpy as np
import pytest

from keras_privpart import errors
from keras_privpart.contract import Contract, TensorSpec
from keras_privpart.serving import AsyncClient, Client, LocalServer, Tls, make_certificates
from keras_privpart.serving.local.rest import HTTP_STATUS
from keras_privpart.serving.wire.http_transport import HTTP_CODES, http_code
from keras_privpart.serving.wire.rest_transport import RestTransport
from keras_privpart.serving.wire.transport import STATUS, STATUS_ERRORS


@pytest.fixture(scope="module")
def rest(serving, bundle):
    with serving(bundle, rest_port=0) as running:
        yield running


@pytest.fixture
def client(bundle, rest):
    with Client(bundle.path, rest.rest_address, transport="rest") as made:
        yield made


def call(address, verb, path, body=None):
    """What a program that knows TensorFlow Serving's REST interface sees."""
    connection = http.client.HTTPConnection(*address.split(":"), timeout=10)
    connection.request(verb, path, body)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


@pytest.mark.parametrize("count", [1, 5, 11])
def test_answers_are_those_of_grpc(client, bundle, rest, images, count):
    client.wait_for_ready(10)
    with Client(bundle.path, rest.address) as over_grpc:
        np.testing.assert_array_equal(client.predict(images[:count]), over_grpc.predict(images[:count]))


def test_special_values_travel(client, rest, bundle):
    boundary = np.zeros((2, 6, 6, 4), np.float32)
    boundary[0, 0, 0] = [np.float32(0.1), 1e-45, 3.4028235e38, -0.0]
    boundary[1, 0, 0, 0] = np.nan
    with Client(bundle.path, rest.address) as over_grpc:
        np.testing.assert_array_equal(client.score(boundary), over_grpc.score(boundary))


def test_several_tensors_and_labels(wide, wide_parts):
    rng = np.random.default_rng(0)
    x = [rng.integers(0, 7, (5, 3)), rng.random((5, 6))]
    want = wide_parts.model.predict(x, verbose=0)
    with LocalServer(wide.path, rest_port=0) as server:
        for options in ({}, {"label": "stable"}):
            with Client(wide.path, server.rest_address, transport="rest", **options) as client:
                got = client.predict(x)
                for name in want:
                    np.testing.assert_allclose(got[name], want[name], atol=1e-6)


def test_asyncio(bundle, rest, parts, images):
    async def ask():
        async with AsyncClient(bundle.path, rest.rest_address, transport="rest") as client:
            return await asyncio.gather(client.predict(images), client.predict(images))

    for got in asyncio.run(ask()):
        np.testing.assert_allclose(got, parts.model.predict(images, verbose=0), atol=1e-6)


def test_another_pair_is_refused(bundle, other, images):
    with (
        LocalServer(other.path, rest_port=0) as stranger,
        Client(bundle.path, stranger.rest_address, transport="rest") as client,
        pytest.raises(errors.PairMismatchError, match=r"its fingerprint is .* Nothing was sent"),
    ):
        client.predict(images)


def test_a_version_that_is_not_there(other_parts, rest, tmp_path, images):
    import keras_privpart as kp

    second = kp.export(other_parts, tmp_path / "faces", version=2)
    with (
        Client(second.path, rest.rest_address, transport="rest") as client,
        pytest.raises(errors.ServerNotFoundError, match="HTTP 404: Servable not found for request"),
    ):
        client.predict(images[:1])


def test_the_local_server_speaks_tensorflow_servings_json(rest, images):
    assert call(rest.rest_address, "GET", "/v1/models/faces/versions/1") == (
        200,
        {"model_version_status": [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]},
    )
    status, metadata = call(rest.rest_address, "GET", "/v1/models/faces/metadata")
    assert status == 200
    info = metadata["metadata"]["signature_def"]["signature_def"]["serve"]["inputs"]["boundary"]
    assert info["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in info["tensor_shape"]["dim"]] == ["-1", "6", "6", "4"]
    body = json.dumps({"signature_name": "pair", "inputs": {"query": [0, 0]}})
    status, answer = call(rest.rest_address, "POST", "/v1/models/faces:predict", body)
    assert (status, len(answer["outputs"])) == (200, 2)  # a single output stands without its name
    assert len(answer["outputs"][0]) == 64


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "text"),
    [
        ("GET", "/v1/models/cats", None, 404, "Could not find any versions of model cats"),
        ("GET", "/v2", None, 400, "Malformed request"),
        ("POST", "/v1/models/faces", "{}", 400, "Malformed request"),
        ("POST", "/v1/models/faces:predict", "{", 400, "JSON Parse error"),
        ("POST", "/v1/models/faces:predict", "{}", 400, "inputs"),
        ("POST", "/v1/models/faces:predict", '{"inputs": {"image": [1]}}', 400, "Missing named input: boundary in 'inputs' object."),
        (
            "POST",
            "/v1/models/faces:predict",
            '{"inputs": {"boundary": [[1], [1, 2]]}}',
            400,
            "unexpected size: 2 at level: 1",
        ),
        ("POST", "/v1/models/faces:predict", '{"signature_name": "no", "inputs": [1]}', 400, '"no" not found in signature def'),
    ],
)
def test_errors_of_the_local_server(rest, verb, path, body, status, text):
    got, answer = call(rest.rest_address, verb, path, body)
    assert got == status
    assert text in answer["error"]


# Codes.


def test_every_http_status_has_an_error():
    for status in HTTPStatus:
        if status >= 400:
            assert issubclass(STATUS_ERRORS[http_code(status)], errors.ServingError)
    assert {http_code(status) for status in (402, 499, 418)} == {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.CANCELLED}
    assert http_code(599) is grpc.StatusCode.INTERNAL
    assert http_code(302) is grpc.StatusCode.UNKNOWN
    for code, status in HTTP_STATUS.items():
        assert HTTP_CODES[status] in (code, grpc.StatusCode.RESOURCE_EXHAUSTED)
    # A retry is safe on these alone.
    assert [status for status, code in HTTP_CODES.items() if code is grpc.StatusCode.UNAVAILABLE] == [502, 503]


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers what it is told."""

    protocol_version = "HTTP/1.1"
    answers: ClassVar[list] = []

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = type(self).answers.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def scripted():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        ((404, b'{"error": "no such model"}'), errors.ServerNotFoundError, "HTTP 404: no such model"),
        ((401, b"<html>who are you</html>"), errors.PermissionRefusedError, "HTTP 401: <html>who are you"),
        ((200, b"<html>hello</html>"), errors.ServerFailedError, "is not TensorFlow Serving's"),
        ((200, b'{"metadata": {}}'), errors.ServerFailedError, "is not TensorFlow Serving's"),
        ((200, b"[1]"), errors.ServerFailedError, "is not TensorFlow Serving's"),
        ((302, b""), errors.ServerFailedError, "HTTP 302"),
        ((200, b" " * 3000), errors.ServerOverloadedError, "more than 2000 bytes"),
    ],
)
def test_answers_that_are_not_tensorflow_servings(bundle, scripted, images, answer, error, text):
    Scripted.answers[:] = [answer]
    with Client(bundle.path, scripted, transport="rest", max_message_bytes=2000) as client, pytest.raises(error, match=text):
        client.predict(images[:1])


def test_unavailable_alone_is_tried_again(bundle, scripted, images):
    Scripted.answers[:] = [(503, b"busy"), (502, b"down"), (500, b'{"error": "broken"}')]
    with Client(bundle.path, scripted, transport="rest") as client, pytest.raises(errors.ServerFailedError, match="HTTP 500: broken"):
        client.predict(images[:1])
    assert Scripted.answers == []


def test_an_idle_connection_that_the_server_closed_is_made_anew(bundle, images):
    with LocalServer(bundle.path, rest_port=0) as first:
        port = int(first.rest_address.rpartition(":")[2])
        client = Client(bundle.path, first.rest_address, transport="rest")
        want = client.predict(images[:1])
    with LocalServer(bundle.path, rest_port=port):
        np.testing.assert_array_equal(client.predict(images[:1]), want)
    client.close()
    with pytest.raises(errors.ServingError, match="Make a new client"):
        client.predict(images[:1])


def test_nobody_at_the_address(bundle, images):
    with (
        Client(bundle.path, "127.0.0.1:1", transport="rest", timeout=0.3) as client,
        pytest.raises(errors.ServerUnavailableError, match="Check the address"),
    ):
        client.predict(images[:1])


def test_a_request_above_the_limit_is_not_sent(bundle, scripted):
    transport = RestTransport(scripted, bundle.contract, max_message_bytes=10)
    Scripted.answers.clear()
    with Client(bundle.path, scripted, transport=transport) as client:
        Scripted.answers[:] = [(200, b"x" * 11)]
        with pytest.raises(errors.ServerOverloadedError, match="more than 10 bytes"):
            client.predict(np.zeros((1, 8, 8, 1)))


def test_https_through_a_proxy_that_asks_for_a_token(bundle, tmp_path, images):
    keys = make_certificates(tmp_path / "keys").folder
    seen = []

    class Proxy(Scripted):
        def do_GET(self):
            seen.append(self.headers["Authorization"])
            super().do_GET()

        do_POST = do_GET

    from keras_privpart.serving import ServerTls

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.socket = ServerTls.of(keys).context().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    address = f"127.0.0.1:{server.server_address[1]}"
    try:
        Scripted.answers[:] = [(403, b'{"error": "not you"}')]
        with (
            Client(bundle.path, address, transport="rest", tls=keys, token="secret") as client,
            pytest.raises(errors.PermissionRefusedError, match="not you"),
        ):
            client.predict(images[:1])
        assert seen == ["Bearer secret"]
        with Client(bundle.path, address, transport="rest", tls=Tls()) as client, pytest.raises(errors.SecureConnectionError):
            client.predict(images[:1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "uint16"])
def test_what_json_cannot_carry_is_refused(bundle, dtype):
    from dataclasses import replace

    from keras_privpart.contract import Boundary

    contract: Contract = replace(bundle.contract, boundary=Boundary((TensorSpec("boundary", (None, 2), dtype),)))
    with pytest.raises(errors.ServingError, match=f"'boundary' is {dtype}, which TensorFlow Serving's REST cannot carry. Use gRPC"):
        RestTransport("a:1", contract)


@pytest.mark.parametrize("address", ["a", "http://a:1", "a:b", "dns:///a:1"])
def test_bad_addresses(bundle, address):
    with pytest.raises(errors.ServingError, match="expected host:port of the REST port"):
        Client(bundle.path, address, transport="rest")


def test_closing_ends_calls_under_way_and_keeps_no_connection(bundle):
    """A server that never answers: the caller is told at once, long before its timeout, and its socket goes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        transport = RestTransport(f"127.0.0.1:{silent.getsockname()[1]}", bundle.contract)
        request = STATUS.request()
        request.model_spec.name = "faces"
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(transport.send, STATUS, request, 60.0)
            peer, _ = silent.accept()
            with peer:
                assert peer.recv(100)
                transport.close()
                with pytest.raises(errors.ServingError, match="the connection is closed"):
                    waiting.result(20)
                while peer.recv(1000):  # what was left of the request; then the end
                    pass
        with pytest.raises(errors.ServingError, match="the connection is closed"):
            transport.send(STATUS, request, 1.0)
    assert transport._idle.empty()


def test_an_answer_that_arrives_while_closing_is_given_and_its_connection_ends(bundle, rest, monkeypatch):
    transport = RestTransport(rest.rest_address, bundle.contract)
    request = STATUS.request()
    request.model_spec.name = "faces"
    ask = transport._ask

    def closing(*args):
        answer = ask(*args)
        transport.close()
        return answer

    monkeypatch.setattr(transport, "_ask", closing)
    assert transport.send(STATUS, request, 10.0).model_version_status[0].version == 1
    assert transport._idle.empty()
