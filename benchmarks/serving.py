"""Speed of serving: MobileNetV2 at 224x224, cut after block 6, against sending the image to the whole model behind the same server.

Takes tensorflow_model_server if it is on the PATH, else the local server, and says which.

python benchmarks/serving.py
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from shaped_link import ShapedLink

import keras_privpart as kp
from keras_privpart.contract import CHECKED_SIGNATURE
from keras_privpart.serving import Client, start
from keras_privpart.serving.wire import messages, tensors
from keras_privpart.serving.wire.grpc_transport import GrpcTransport
from keras_privpart.serving.wire.transport import Method, Transport

RESULTS = Path(__file__).parent / "results"
CUT = "block_6_project_BN"
SIZE = 224
BATCH, CLIENTS = 64, 8
LINK = (10e6, 0.040)  # bits per second, seconds there and back

# Imports of TensorFlow fail, as on a device that has none.
COLD_START = """
import sys, time
start = time.perf_counter()
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import numpy as np
from keras_privpart.serving import Client
with Client(sys.argv[1], sys.argv[2], timeout=60) as client:
    client.predict(np.zeros((1, 224, 224, 3), "float32"))
    print(time.perf_counter() - start)
"""


def model() -> keras.Model:
    """MobileNetV2 behind a layer that changes nothing: cut there, the whole model stands on the server."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    sent = keras.layers.Activation("linear", name="sent")(image)
    base = keras.applications.MobileNetV2(weights=None, input_tensor=sent)
    return keras.Model(image, base.output, name="mobilenet")


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median over the runs, after three that do not count."""
    times = []
    for _ in range(repeats + 3):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[3:])


def by_turns(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, run by turns, so that what else the machine does falls on all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 3):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if turn >= 3:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(taken) for name, taken in times.items()}


class Timed(Transport):
    """gRPC that adds up the seconds it takes."""

    def __init__(self, address: str) -> None:
        self._inner, self.seconds = GrpcTransport(address), 0.0

    def send(self, method: Method, request: Any, timeout: float) -> Any:
        begin = time.perf_counter()
        answer = self._inner.send(method, request, timeout)
        self.seconds += time.perf_counter() - begin
        return answer

    def close(self) -> None:
        self._inner.close()


def shares(bundle: Path, address: str, x: np.ndarray, repeats: int) -> tuple[float, float, float]:
    """Median seconds of a query's device half, of its call, and of what the client itself adds, each taken inside the same queries."""
    transport = Timed(address)
    taken = []
    with Client(bundle, address, timeout=600, transport=transport) as client:
        device = client._session.device
        compute, spent = device.run, [0.0]

        def run(inputs: Any) -> Any:
            begin = time.perf_counter()
            boundary = compute(inputs)
            spent[0] = time.perf_counter() - begin
            return boundary

        device.run = run  # type: ignore[method-assign]  # no seam but this tells its time from the rest of the same query
        for _ in range(repeats + 3):
            transport.seconds, begin = 0.0, time.perf_counter()
            client.predict(x)
            whole = time.perf_counter() - begin
            taken.append((spent[0], transport.seconds, whole - spent[0] - transport.seconds))
    device_half, call, own = (statistics.median(column) for column in zip(*taken[3:], strict=True))
    return device_half, call, own


def request_bytes(client: Client, x: np.ndarray) -> int:
    """Size of the request that a client sends for `x`."""
    request = messages.PredictRequest()
    request.model_spec.name = client.contract.name
    request.model_spec.version.value = client.contract.version
    request.model_spec.signature_name = CHECKED_SIGNATURE
    boundary = client.encode(x)
    for name in client.contract.boundary.names:
        tensors.encode(boundary[name], request.inputs[name])
    return request.ByteSize()


def throughput(bundle: Path, address: str, rounds: int) -> float:
    """Images per second of `CLIENTS` clients at once, `BATCH` images per call."""
    x = np.random.default_rng(0).random((BATCH, SIZE, SIZE, 3), dtype="float32")
    clients = [Client(bundle, address, timeout=600) for _ in range(CLIENTS)]
    for client in clients:
        client.predict(x[:1])
    barrier = threading.Barrier(CLIENTS + 1)

    def ask(client: Client) -> None:
        barrier.wait()
        for _ in range(rounds):
            client.predict(x)

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - begin
    for client in clients:
        client.close()
    return CLIENTS * rounds * BATCH / taken


def export(network: keras.Model, folder: Path) -> dict[str, Path]:
    """Bundles: the whole model on the server, and the cut with float32 and int8 on the wire."""
    whole, cut = kp.partition(network, at="sent"), kp.partition(network, at=CUT)
    sample = np.random.default_rng(0).random((8, SIZE, SIZE, 3), dtype="float32")
    formats = ("saved_model", "litert")
    kinds: dict[str, tuple[kp.Partition, str]] = {"whole": (whole, "none"), "float32": (cut, "none"), "int8": (cut, "int8")}
    for name, (parts, encoding) in kinds.items():
        kp.export(parts, folder / name, max_batch_size=BATCH, sample=sample, encoding=encoding, formats=formats)
    return {name: folder / name for name in kinds}


def measure(bundles: dict[str, Path], engine: str | None, repeats: int, rounds: int, link_repeats: int) -> tuple[str, list[str]]:
    """What server it was, and the table's rows."""
    x = np.random.default_rng(1).random((1, SIZE, SIZE, 3), dtype="float32")
    servers = {name: start(path, 0, timeout=300, prefer=engine, batching=False) for name, path in bundles.items()}
    kind = next(iter(servers.values())).describe().split(":")[0]
    first, second = first_requests(bundles["float32"], servers["float32"].address, x)
    try:
        clients = {name: Client(path, servers[name].address, timeout=600) for name, path in bundles.items()}
        ask = {name: (lambda client=client: client.predict(x)) for name, client in clients.items()}
        taken = by_turns(ask, repeats)
        rows = [f"| one image, whole model behind the server (602,112 bytes up) | {1e3 * taken['whole']:.1f} ms | |"]
        raw = SIZE * SIZE * 3
        for name in ("float32", "int8"):
            ratio = taken[name] / taken["whole"]
            rows.append(f"| one image, cut, {name} on the wire | {1e3 * taken[name]:.1f} ms | {ratio:.2f} x (goal: at most 0.65 x) |")
        for name in ("float32", "int8"):
            size = request_bytes(clients[name], x)
            rows.append(f"| request, {name} | {size:,} bytes | {size / raw:.3f} x the raw uint8 image (goal with int8: at most 0.10 x) |")
            device_half, call, own = shares(bundles[name], servers[name].address, x, repeats)
            rows.append(
                f"| client's own time, {name} | {1e3 * own:.2f} ms | beside device half {1e3 * device_half:.1f} ms, "
                f"call {1e3 * call:.1f} ms (goal: at most 0.6 ms) |"
            )
        for name in ("whole", "int8"):
            rate = throughput(bundles[name], servers[name].address, rounds)
            rows.append(f"| throughput, {CLIENTS} clients, batches of {BATCH}, {name} | {rate:.0f} images/s | |")
        cold = cold_start(bundles["int8"], servers["int8"].address)
        rows.append(f"| cold start to the first answer, without TensorFlow | {cold:.2f} s | (goal: under 0.5 s) |")
        rows.append(
            f"| first request after the server's start, cut, float32 | {1e3 * first:.1f} ms | the second took {1e3 * second:.1f} ms |"
        )
        rows += shaped(bundles, servers, x, link_repeats)
        for client in clients.values():
            client.close()
    finally:
        for server in servers.values():
            server.stop()
    return kind, rows


def first_requests(bundle: Path, address: str, x: np.ndarray) -> tuple[float, float]:
    """Seconds that the first and the second boundary take that a server is sent after its start, the device half's own time left out."""
    with Client(bundle, address, timeout=600) as client:
        client.wait_for_ready(60)
        boundary = client.encode(x)
        taken = []
        for _ in range(2):
            begin = time.perf_counter()
            client.score(boundary)
            taken.append(time.perf_counter() - begin)
    return taken[0], taken[1]


def cold_start(bundle: Path, address: str) -> float:
    """The best of three: the first one also fills the file cache."""
    command = [sys.executable, "-c", COLD_START, str(bundle), address]
    return min(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(3))


def shaped(bundles: dict[str, Path], servers: dict[str, Any], x: np.ndarray, repeats: int) -> list[str]:
    rows = []
    first = None
    for name in ("whole", "float32", "int8"):
        with ShapedLink(servers[name].address, *LINK) as link, Client(bundles[name], link.address, timeout=120) as client:
            taken = seconds(lambda client=client: client.predict(x), repeats)
        first = first or taken
        rows.append(f"| 10 Mbit/s and 40 ms, one image, {name} | {1e3 * taken:.0f} ms | {taken / first:.2f} x |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=50, help="runs of each single query; the median counts")
    parser.add_argument("--rounds", type=int, default=4, help="calls of each client for the throughput")
    parser.add_argument("--link-repeats", type=int, default=5, help="runs over the slow link")
    parser.add_argument("--engine", choices=["tensorflow_model_server", "docker", "local"], help="server; the best here when left out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundles = export(model(), Path(folder))
        kind, rows = measure(bundles, options.engine, options.repeats, options.rounds, options.link_repeats)
    lines = [
        "# Speed of serving",
        "",
        f"Made by `python benchmarks/serving.py` on {os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}, "
        f"TensorFlow {tf.__version__}. Server: {kind}, on the same machine. MobileNetV2 {SIZE}x{SIZE} with random weights, cut at {CUT}; "
        f"device half in LiteRT. Medians of {options.repeats} runs, by turns. The slow link is a token bucket in front of the server.",
        "",
        "| what | measured | against |",
        "|---|---|---|",
        *rows,
    ]
    print("\n".join(lines))
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "serving.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
