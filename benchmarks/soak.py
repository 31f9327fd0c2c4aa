"""Load and soak: many clients for so many requests and minutes, with restarts of the server in between; answers and memory are watched.

Ends with status 1 if an answer was wrong or late, or if memory grew after the warm-up.

python benchmarks/soak.py --minutes 10
python benchmarks/soak.py --requests 10000 --restarts 2 --engine tensorflow_model_server
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np

import keras_privpart as kp
from keras_privpart.contract import Contract
from keras_privpart.errors import ServingError
from keras_privpart.serving import Client, Engine, start

GROWTH = 0.10  # of the memory after the warm-up: what allocators may add without a leak
WARM_UP = 0.25  # of the time, before memory counts


@dataclass
class Tally:
    """What came back."""

    right: int = 0
    wrong: int = 0
    late: int = 0
    slowest: float = 0.0
    problems: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def asked(self) -> int:
        return self.right + self.wrong + sum(self.problems.values())


def small_bundle(folder: Path) -> Path:
    """A small convolutional network, cut after its first layer, in SavedModel and LiteRT."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 1), name="image")
    h = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="stem")(image)
    h = keras.layers.Conv2D(16, 3, activation="relu")(h)
    network = keras.Model(image, keras.layers.Dense(10, activation="softmax", name="scores")(keras.layers.Flatten()(h)))
    return kp.export(kp.partition(network, at="stem"), folder / "soak", max_batch_size=8, formats=("saved_model", "litert")).path


def resident(pid: int) -> float:
    """MiB of memory of a process and of those that it started; 0 where it has gone."""
    pages = sum(_pages(process) for process in (pid, *_children(pid)))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0


def _children(pid: int) -> list[int]:
    try:
        own = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [*own, *(grand for child in own for grand in _children(child))]


def ask(
    path: Path, address: str, x: np.ndarray, want: np.ndarray, tally: Tally, until: threading.Event, lock: threading.Lock, number: int
) -> None:
    """One client, until it is told to stop."""
    rng, timeout = np.random.default_rng(number), 30.0
    with Client(path, address, timeout=timeout) as client:
        while not until.is_set():
            at, count = int(rng.integers(0, len(x) - 16)), int(rng.integers(1, 16))
            begin = time.monotonic()
            error, same = "", False
            try:
                same = np.allclose(client.predict(x[at : at + count]), want[at : at + count], atol=1e-4)
            except ServingError as problem:
                error = type(problem).__name__
            taken = time.monotonic() - begin
            with lock:
                tally.slowest = max(tally.slowest, taken)
                tally.late += taken > timeout + 1
                if error:
                    tally.problems[error] += 1
                elif same:
                    tally.right += 1
                else:
                    tally.wrong += 1


def soak(path: Path, options: argparse.Namespace) -> tuple[Tally, dict[str, tuple[float, float]]]:
    """Runs the load; returns what came back, and memory after the warm-up and at the end by process."""
    x = np.random.default_rng(0).random((128, *example_shape(path)), dtype=np.float32)
    tally, until, lock = Tally(), threading.Event(), threading.Lock()
    server = start(path, 0, timeout=300, prefer=options.engine)
    port = int(server.address.rpartition(":")[2])
    print(server.describe(), flush=True)
    with Client(path, server.address, timeout=60) as client:
        want = np.concatenate([client.predict(x[i : i + 1]) for i in range(len(x))])
    arguments = (path, server.address, x, want, tally, until, lock)
    threads = [threading.Thread(target=ask, args=(*arguments, number)) for number in range(options.clients)]
    begin, restarts, memory = time.monotonic(), 0, {}
    for thread in threads:
        thread.start()
    try:
        shown = begin
        while (done := share(options, tally, begin)) < 1:
            time.sleep(0.1)
            if done > WARM_UP and not memory:
                memory = {"clients": resident_alone(os.getpid(), server), "server": resident(server._process.pid)}
            if restarts < options.restarts and done > (restarts + 1) / (options.restarts + 1):
                restarts += 1
                server.stop()
                server = start(path, port, timeout=300, prefer=options.engine)
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                print(f"{shown - begin:5.0f} s  {tally}  server {resident(server._process.pid):.0f} MiB", flush=True)
        end = {"clients": resident_alone(os.getpid(), server), "server": resident(server._process.pid)}
    finally:
        until.set()
        for thread in threads:
            thread.join()
        server.stop()
    return tally, {name: (memory.get(name, end[name]), end[name]) for name in end}


def example_shape(path: Path) -> tuple[int, ...]:
    """Shape of one example of a bundle with a single float input."""
    [spec] = Contract.load(path).inputs
    return tuple(size or 8 for size in spec.shape[1:])


def resident_alone(pid: int, server: Engine) -> float:
    """Memory of this process without the server that it started."""
    return resident(pid) - resident(server._process.pid)


def share(options: argparse.Namespace, tally: Tally, begin: float) -> float:
    """How much of the work is done, 0 to 1: requests if they are counted, else time."""
    if options.requests:
        return tally.asked / options.requests
    return (time.monotonic() - begin) / (60 * options.minutes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("bundle", nargs="?", type=Path, help="a bundle with one float input; a small one is made when left out")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, unless --requests is given")
    parser.add_argument("--requests", type=int, default=0, help="end after so many requests")
    parser.add_argument("--restarts", type=int, default=0, help="stop and start the server so many times in between")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--engine", choices=["tensorflow_model_server", "docker", "local"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.bundle or small_bundle(Path(folder))
        tally, memory = soak(path, options)
    print(f"requests {tally.asked}: {tally.right} right, {tally.wrong} wrong, {tally.late} late, slowest {tally.slowest:.2f} s")
    print(f"errors: {dict(tally.problems) or 'none'}")
    # A restarted server's memory begins anew: it says nothing about growth.
    watched = {name: sizes for name, sizes in memory.items() if name == "clients" or not options.restarts}
    for name, (first, last) in watched.items():
        print(f"memory of {name}: {first:.0f} MiB after the warm-up, {last:.0f} MiB at the end")
    grown = [name for name, (first, last) in watched.items() if last > first * (1 + GROWTH)]
    bad = tally.wrong or tally.late or grown
    print(f"FAILED: {tally.wrong} wrong, {tally.late} late, memory grew: {grown}" if bad else "passed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
