"""A client in another process than it was made in, bundles under paths that look like patterns, and IPv6."""

import multiprocessing
import shutil

import keras
import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart.errors import ServingError
from keras_privpart.serving import Client, LocalServer


def small_partition():
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    return kp.partition(keras.Model(x, keras.layers.Dense(3)(keras.layers.Dense(5, name="d")(x))), at="d")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return kp.export(small_partition(), tmp_path_factory.mktemp("bundles") / "b")


CALLS = {
    "predict": lambda client: client.predict(np.zeros((2, 4), "float32")),
    "encode": lambda client: client.encode(np.zeros((2, 4), "float32")),
    "score": lambda client: client.score(np.zeros((2, 5), "float32")),
    "stream": lambda client: list(client.stream([np.zeros((2, 4), "float32")])),
    "wait_for_ready": lambda client: client.wait_for_ready(5),
}


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("call", CALLS)
def test_a_forked_client_fails_at_once(bundle, call):
    client = Client(bundle.path, "localhost:1", timeout=5, device_format="saved_model")
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child():
        try:
            CALLS[call](client)
            sender.send("no error")
        except Exception as error:
            sender.send(f"{type(error).__name__}: {error}")
        client.close()  # the parent's connections are none of its business

    process = context.Process(target=child)
    process.start()
    process.join(60)
    stopped = not process.is_alive()
    process.kill()
    assert stopped
    assert receiver.recv().startswith("ServingError: Received a client that was made in process")
    client.close()


@pytest.mark.parametrize("name", ["lr=[1,2]", "copy [2]", "what?", "a*b", "{x,y}"])
def test_paths_that_look_like_patterns_hold_bundles(name, bundle, tmp_path):
    x = np.ones((2, 4), "float32")
    written = kp.export(small_partition(), tmp_path / name / "b")
    shutil.copytree(bundle.path, tmp_path / f"{name} again" / "b")
    for path in (written.path, tmp_path / f"{name} again" / "b"):
        with LocalServer(path) as server, Client(path, server.address, device_format="saved_model") as client:
            assert client.predict(x).shape == (2, 3)


@pytest.mark.parametrize("host", ["[::1]", "::1"])
def test_the_local_server_listens_on_ipv6_for_both_protocols(host, bundle):
    with LocalServer(bundle.path, host=host, rest_port=0) as server:
        assert server.rest_address.startswith("[::1]:")
        for address, transport in ((server.address, "grpc"), (server.rest_address, "rest")):
            with Client(bundle.path, address, transport=transport) as client:
                assert client.predict(np.zeros((2, 4), "float32")).shape == (2, 3)


def test_an_address_that_cannot_be_had_is_named(bundle):
    with pytest.raises(ServingError, match="Can't listen on"):
        LocalServer(bundle.path, host="[2001:db8::1]", rest_port=0)
