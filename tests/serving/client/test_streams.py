"""Streams of batches, several servers, and what stays within its bounds."""

import itertools
import threading
import time

import grpc
import numpy as np
import pytest

from keras_privpart import errors
from keras_privpart.serving import Client, LocalServer
from keras_privpart.serving.wire.grpc_transport import channel_options


@pytest.fixture
def client(bundle, server):
    with Client(bundle.path, server.address) as made:
        yield made


def test_a_stream_answers_in_order(client, parts, images):
    want = parts.model.predict(images, verbose=0)
    batches = [images[i : i + 1 + i % 3] for i in range(9)]
    answers = list(client.stream(iter(batches), concurrency=3, progress="digits"))
    for i, got in enumerate(answers):
        np.testing.assert_allclose(got, want[i : i + 1 + i % 3], atol=1e-6)
    assert len(answers) == 9
    assert list(client.stream([])) == []


def test_a_stream_reads_no_further_ahead_than_its_concurrency(client, images):
    taken = itertools.count()
    read = []

    def endless():
        while True:
            read.append(next(taken))
            yield images[:1]

    answers = client.stream(endless(), concurrency=3)
    for done in range(1, 6):
        next(answers)
        assert len(read) <= done + 3
    answers.close()
    assert len(read) <= 9


def test_a_stream_keeps_so_many_requests_under_way(bundle, recorder, images):
    at_once, most, lock = 0, 0, threading.Lock()

    def slow(method, answer):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        return answer

    with Client(bundle.path, recorder.address) as client:
        client.wait_for_ready(10)
        recorder.rewrite = slow
        assert len(list(client.stream([images[:1]] * 8, concurrency=2))) == 8
    assert most == 2


def test_a_failing_item_ends_the_stream(client, images):
    answers = client.stream([images[:1], images[0], images[:1]], concurrency=1)
    assert next(answers).shape == (1, 5)
    with pytest.raises(errors.DataError, match="Add the batch dimension"):
        next(answers)
    with pytest.raises(errors.ArgumentError, match="Received concurrency=0; expected a whole number from 1"):
        next(client.stream([images], concurrency=0))


# Several servers.


def test_several_servers_take_turns_and_each_is_asked_for_its_pair_first(bundle, server, images, record_of):
    recorders = [record_of(server.address) for _ in range(2)]
    with Client(bundle.path, [recorder.address for recorder in recorders]) as client:
        for _ in range(6):
            client.predict(images[:1])
    for recorder in recorders:
        assert recorder.methods() == ["GetModelMetadata", "Predict", *["Predict"] * 3]
        assert len(recorder.predictions()) == 3


def test_a_server_that_is_down_is_stood_in_for_at_once(bundle, server, images):
    with Client(bundle.path, ["127.0.0.1:1", server.address]) as client:
        start = time.monotonic()
        for _ in range(10):
            assert client.predict(images[:1]).shape == (1, 5)
        assert time.monotonic() - start < 5


def test_a_stranger_among_several_is_sent_nothing(bundle, other, server, images, record_of):
    with LocalServer(other.path) as stranger:
        recorder = record_of(stranger.address)
        with Client(bundle.path, [server.address, recorder.address]) as client:
            assert client.predict(images[:1]).shape == (1, 5)
            with pytest.raises(errors.PairMismatchError, match="Nothing was sent"):
                client.predict(images[:1])
            with pytest.raises(errors.PairMismatchError):
                client.wait_for_ready(5)
    assert recorder.predictions() == []


def test_when_all_are_down(bundle, images):
    with (
        Client(bundle.path, ["127.0.0.1:1", "127.0.0.1:2"], timeout=0.4) as client,
        pytest.raises(errors.ServerUnavailableError, match="Check the address"),
    ):
        client.predict(images[:1])


def test_the_addresses_of_a_name_take_turns(bundle, server, images):
    options = dict(channel_options(f"dns:///localhost:{server.port}", 1))
    assert options["grpc.lb_policy_name"] == "round_robin"
    assert "grpc.lb_policy_name" not in dict(channel_options(server.address, 1))
    with Client(bundle.path, f"dns:///localhost:{server.port}") as client:
        assert client.predict(images[:1]).shape == (1, 5)


def test_grpc_itself_tries_nothing_again():
    """It would not ask for the pair first."""
    assert dict(channel_options("a:1", 1))["grpc.enable_retries"] == 0


@pytest.mark.parametrize("address", ["", [], ["a:1", ""], None, ["a:1", 2], " a:1"])
def test_bad_addresses(bundle, address):
    with pytest.raises(errors.ServingError, match="expected host:port, such as 'localhost:8500', or several"):
        Client(bundle.path, address)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"label": ""}, "Received label=''"),
        ({"transport": "carrier pigeon"}, r"Received transport='carrier pigeon'; expected one of \['grpc', 'rest', 'v2', 'v2-grpc'\]"),
    ],
)
def test_bad_options(bundle, options, text):
    with pytest.raises(errors.ServingError, match=text):
        Client(bundle.path, "a:1", **options)


def test_a_deadline_covers_all_tries(bundle, recorder, images):
    with Client(bundle.path, recorder.address, timeout=0.5) as client:
        client.predict(images[:1])
        recorder.failures[:] = [grpc.StatusCode.UNAVAILABLE] * 1000
        start = time.monotonic()
        with pytest.raises(errors.ServerUnavailableError):
            client.predict(images[:1])
        assert time.monotonic() - start < 1.5
        assert 1 < 1000 - len(recorder.failures) < 15, "the pauses grow"
