"""Many clients at once while servers stop, restart and change: every answer is right, or a clear error in time.

`benchmarks/soak.py` does the same for longer.
"""

import threading
import time

import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart import errors
from keras_privpart.serving import Client, LocalServer

CLIENTS, TIMEOUT = 8, 15.0


class Load:
    """Clients that ask until they are told to stop, and note what comes back."""

    def __init__(self, bundle, address, images, want, **options):
        self.images, self.want = images, want
        self.right, self.wrong, self.late, self.problems = 0, 0, 0, []
        self._stop, self._lock = threading.Event(), threading.Lock()
        arguments = {"timeout": TIMEOUT, **options}
        self._threads = [threading.Thread(target=self._ask, args=(bundle.path, address, arguments, i)) for i in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT + 5)
        assert not any(thread.is_alive() for thread in self._threads)

    def wait_for(self, right):
        """Until so many more answers have come."""
        wanted, end = self.right + right, time.monotonic() + 60
        while self.right < wanted and time.monotonic() < end:
            time.sleep(0.005)
        assert self.right >= wanted, self.problems[:3]

    def wait_for_problem(self):
        end = time.monotonic() + 60
        while not self.problems and time.monotonic() < end:
            time.sleep(0.005)

    def _ask(self, path, address, arguments, number):
        rng = np.random.default_rng(number)
        with Client(path, address, **arguments) as client:
            while not self._stop.is_set():
                at, count = int(rng.integers(0, 8)), int(rng.integers(1, 4))
                began = time.monotonic()
                try:
                    got = client.predict(self.images[at : at + count])
                except errors.ServingError as error:
                    with self._lock:
                        self.problems.append(error)
                    time.sleep(0.02)
                else:
                    same = got.shape == (count, 5) and np.allclose(got, self.want[at : at + count], atol=1e-5)
                    with self._lock:
                        self.right, self.wrong = self.right + same, self.wrong + (not same)
                with self._lock:
                    self.late += time.monotonic() - began > TIMEOUT + 1


def test_a_server_that_restarts_twice_under_load(bundle, parts, images):
    want = parts.model.predict(images, verbose=0)
    server = LocalServer(bundle.path)
    try:
        with Load(bundle, server.address, images, want) as load:
            for _ in range(2):
                load.wait_for(120)
                server.stop(0)
                server = LocalServer(bundle.path, server.port)
            load.wait_for(120)
    finally:
        server.stop()
    assert (load.wrong, load.late) == (0, 0)
    assert load.right >= 360
    # A call that was under way when the server stopped may be cancelled by it; it is told, and no more than one per client and restart.
    assert len(load.problems) <= 2 * CLIENTS
    assert {type(problem) for problem in load.problems} <= {errors.ServerFailedError, errors.ServerUnavailableError}


@pytest.fixture
def own(parts, tmp_path):
    return kp.export(parts, tmp_path / "faces", max_batch_size=4)


def test_an_upgrade_to_another_pair_under_load_mixes_nothing(own, parts, other_parts, images):
    want = parts.model.predict(images, verbose=0)
    with LocalServer(own.path) as server:
        with Load(own, server.address, images, want, version=1) as load:
            load.wait_for(60)
            second = kp.export(other_parts, own.path, version=2, max_batch_size=4)
            server.models.refresh()
            assert sorted(server.models.versions) == [1, 2]
            load.wait_for(60)  # version 1 goes on
            assert load.problems == []
            server.models.load({2})
            load.wait_for_problem()
        assert load.wrong == 0
        assert load.problems
        for problem in load.problems:
            assert isinstance(problem, errors.ServerNotFoundError)
            assert "The server has version 2, not 1. The device half is out of date: use the bundle's newer version." in str(problem)
        with Client(second.path, server.address) as client:
            np.testing.assert_allclose(client.predict(images), other_parts.model.predict(images, verbose=0), atol=1e-5)


def test_another_pair_of_the_same_version_under_load_mixes_nothing(bundle, other, parts, images):
    """The worst case: the server comes back at the same address, with the same version number, and is another pair."""
    want = parts.model.predict(images, verbose=0)
    server = LocalServer(bundle.path)
    try:
        with Load(bundle, server.address, images, want) as load:
            load.wait_for(60)
            server.stop(0)
            server = LocalServer(other.path, server.port)
            load.wait_for_problem()
            while not any(isinstance(problem, errors.PairMismatchError) for problem in load.problems):
                time.sleep(0.01)
    finally:
        server.stop()
    assert load.wrong == 0
    mismatches = [str(problem) for problem in load.problems if isinstance(problem, errors.PairMismatchError)]
    assert mismatches
    assert all("device half is out of date" in text or "the answer was discarded" in text for text in mismatches)
