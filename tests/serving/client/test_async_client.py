"""`AsyncClient`: the same answers, checks and retries as `Client`, over the same code."""

import asyncio
import inspect
import threading
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from keras_privpart import errors
from keras_privpart.serving import AsyncClient, Client
from keras_privpart.serving.client import async_client


def run(bundle, address, use, **options):
    """Runs `use(client)` in an event loop of its own."""

    async def main():
        async with AsyncClient(bundle.path, address, **options) as client:
            return await use(client)

    return asyncio.run(main())


def test_it_takes_what_the_client_takes():
    blocking, asynchronous = (inspect.signature(kind).parameters for kind in (Client, AsyncClient))
    assert list(blocking) == list(asynchronous)
    for name in ("predict", "stream", "encode", "score", "wait_for_ready", "close"):
        assert list(inspect.signature(getattr(Client, name)).parameters) == list(inspect.signature(getattr(AsyncClient, name)).parameters)


def test_answers_are_the_whole_models(bundle, server, parts, images):
    want = parts.model.predict(images, verbose=0)

    async def use(client):
        await client.wait_for_ready(10)
        np.testing.assert_allclose(await client.predict(images), want, atol=1e-6)
        boundary = await client.encode(images)
        np.testing.assert_allclose(await client.score(boundary), want, atol=1e-6)
        many = await asyncio.gather(*(client.predict(images[i : i + 2]) for i in range(9)))
        for i, got in enumerate(many):
            np.testing.assert_allclose(got, want[i : i + 2], atol=1e-6)
        streamed = [answer async for answer in client.stream((images[i : i + 1] for i in range(11)), concurrency=3)]
        np.testing.assert_allclose(np.concatenate(streamed), want, atol=1e-6)

    run(bundle, server.address, use)


class Half:
    """Stands for a device half; takes as long as it is told, by a clock of its own, and notes whether it ran in the loop."""

    def __init__(self):
        self.now, self.takes, self.in_loop = 0.0, 0.0, []
        self.began, self.may_end = threading.Event(), threading.Event()
        self._home = threading.get_ident()

    def __call__(self, batch):
        self.in_loop.append(threading.get_ident() == self._home)
        if len(batch["image"]) > 1:
            self.began.set()
            assert self.may_end.wait(20)
        self.now += self.takes
        return batch


@pytest.fixture
def half(monkeypatch):
    made = Half()
    monkeypatch.setattr(async_client, "time", SimpleNamespace(perf_counter=lambda: made.now))
    return made


def test_a_half_that_was_quick_runs_in_the_loop(half, images):
    async def use():
        beside = async_client._HalfBeside(half)
        for half.takes in (1.0, 1e-5, 1e-5, 1.0, 1e-5):
            await beside.run({"image": images[:1]})

    asyncio.run(use())
    assert half.in_loop == [False, False, True, True, False]


def test_the_loop_does_not_wait_for_a_half_that_a_thread_holds(half, images):
    async def use():
        beside = async_client._HalfBeside(half)
        await beside.run({"image": images[:1]})
        held = asyncio.create_task(beside.run({"image": images[:2]}))
        await asyncio.to_thread(half.began.wait, 20)
        await beside.run({"image": images[:1]})
        half.may_end.set()
        await held
        await beside.run({"image": images[:1]})

    asyncio.run(use())
    assert half.in_loop == [False, False, False, True]


def test_another_pair_is_refused_before_a_tensor_leaves(bundle, other, images, record_of):
    from keras_privpart.serving import LocalServer

    with LocalServer(other.path) as stranger:
        recorder = record_of(stranger.address)
        with pytest.raises(errors.PairMismatchError, match="Nothing was sent"):
            run(bundle, recorder.address, lambda client: client.predict(images))
    assert recorder.predictions() == []


def test_unavailable_alone_is_tried_again(bundle, recorder, images):
    async def use(client):
        want = await client.predict(images[:1])
        recorder.requests.clear()
        recorder.failures[:] = [grpc.StatusCode.UNAVAILABLE] * 2
        np.testing.assert_array_equal(await client.predict(images[:1]), want)
        assert recorder.methods() == ["Predict", "GetModelMetadata", "GetModelMetadata", "Predict", "Predict"]
        recorder.failures[:] = [grpc.StatusCode.INTERNAL]
        with pytest.raises(errors.ServerFailedError, match="INTERNAL: as told"):
            await client.predict(images[:1])

    run(bundle, recorder.address, use)


def test_nobody_at_the_address(bundle, images):
    with pytest.raises(errors.ServerUnavailableError, match="Check the address"):
        run(bundle, "127.0.0.1:1", lambda client: client.predict(images[:1]), timeout=0.3)


def test_a_closed_client_says_so(bundle, server, images):
    async def use(client):
        await client.predict(images[:1])
        await client.close()
        with pytest.raises(errors.ServingError, match="Make a new client"):
            await client.predict(images[:1])

    run(bundle, server.address, use)


def test_a_failing_item_ends_the_stream(bundle, server, images):
    async def use(client):
        answers = client.stream([images[:1], images[:2], images[0], images[:1]], concurrency=2)
        assert [len(await anext(answers)), len(await anext(answers))] == [1, 2]
        with pytest.raises(errors.DataError, match="Add the batch dimension"):
            await anext(answers)
        with pytest.raises(errors.ArgumentError, match="Received concurrency=0; expected a whole number from 1"):
            await anext(client.stream([images], concurrency=0))

    run(bundle, server.address, use)
