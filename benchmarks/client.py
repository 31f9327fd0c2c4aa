"""What the client costs beside gRPC alone: small boundaries, one process of clients, the local server in another.

The processor time that one request takes on the client's side says how many a core of a gateway can send; the server's does not count.

python benchmarks/client.py
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
import keras
import numpy as np

import keras_privpart as kp
from keras_privpart.contract import CHECKED_SIGNATURE
from keras_privpart.serving import AsyncClient, Client, start
from keras_privpart.serving.wire import messages, tensors
from keras_privpart.serving.wire.grpc_transport import GrpcTransport
from keras_privpart.serving.wire.transport import PREDICT, Method, Transport

RESULTS = Path(__file__).parent / "results"
IN_FLIGHT = 32

Ask = Callable[[], Awaitable[object]]


def model() -> keras.Model:
    """Sixteen numbers of a small picture cross."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    z = keras.layers.Dense(16, name="z")(keras.layers.Flatten()(image))
    return keras.Model(image, keras.layers.Dense(10, name="scores")(z), name="small")


async def rate(ask: Ask, seconds: float) -> tuple[float, float]:
    """Requests per second with so many under way, and microseconds of this process's processor time per request."""
    await asyncio.gather(*(ask() for _ in range(IN_FLIGHT)))
    done, end = 0, time.perf_counter() + seconds
    begin, spent = time.perf_counter(), time.process_time()

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await ask()
            done += 1

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return done / (time.perf_counter() - begin), 1e6 * (time.process_time() - spent) / done


async def asyncio_rates(bundle: Path, address: str, x: np.ndarray, seconds: float) -> dict[str, tuple[float, float]]:
    found = {}
    async with AsyncClient(bundle, address, timeout=60) as client:
        boundary = await client.encode(x)
        request = _request(client.contract, boundary)
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(
                PREDICT.path, request_serializer=PREDICT.request.SerializeToString, response_deserializer=PREDICT.response.FromString
            )
            found["gRPC alone, asyncio, a request made once"] = await rate(lambda: call(request, timeout=60), seconds)
        found["AsyncClient.score, boundary given"] = await rate(lambda: client.score(boundary), seconds)
        found["AsyncClient.predict, device half in LiteRT"] = await rate(lambda: client.predict(x), seconds)
    return found


class Remembered(Transport):
    """gRPC that asks the server once for each kind of request, and answers at once from then on."""

    def __init__(self, address: str) -> None:
        self._inner, self._answers = GrpcTransport(address), {}

    def send(self, method: Method, request: Any, timeout: float) -> Any:
        key = (type(request), request.model_spec.signature_name if isinstance(request, messages.PredictRequest) else "")
        if key not in self._answers:
            self._answers[key] = self._inner.send(method, request, timeout)
        return self._answers[key]

    def connection(self) -> int:
        return self._inner.connection()

    def close(self) -> None:
        self._inner.close()


def own_time(bundle: Path, address: str, x: np.ndarray, repeats: int) -> float:
    """Median microseconds of a `predict` whose server answers at once: all that the client does, device half included."""
    transport = Remembered(address)
    times = []
    with Client(bundle, address, timeout=60, transport=transport) as client:
        client.predict(x)
        for _ in range(repeats):
            begin = time.perf_counter()
            client.predict(x)
            times.append(time.perf_counter() - begin)
    return 1e6 * float(np.median(times))


def _request(contract: kp.Contract, boundary: dict[str, np.ndarray]) -> messages.PredictRequest:
    request = messages.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = contract.name, CHECKED_SIGNATURE
    request.model_spec.version.value = contract.version
    for name in contract.boundary.names:
        tensors.encode(boundary[name], request.inputs[name])
    return request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="Of each measurement.")
    parser.add_argument("--engine", help="tensorflow_model_server, docker or local; the first that is there by default.")
    options = parser.parse_args()
    x = np.zeros((1, 8, 8, 1), "float32")
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "small"
        kp.export(kp.partition(model(), at="z"), bundle, formats=("saved_model", "litert"))
        with start(bundle, 0, timeout=120, prefer=options.engine) as server:
            found = asyncio.run(asyncio_rates(bundle, server.address, x, options.seconds))
            own = own_time(bundle, server.address, x, 2000)
            engine = server.describe().split(":")[0]
    yardstick = next(iter(found.values()))[1]
    lines = [
        "# The client's own cost",
        "",
        f"Made by `python benchmarks/client.py` on {os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}; "
        f"server: {engine}, in a process of its own on the same cores. Sixteen float32 numbers cross; {IN_FLIGHT} requests under way. "
        f"A whole `Client.predict` whose server answers at once takes {own:.0f} microseconds.",
        "",
        "| what | requests/s, server included | client's processor time per request | requests that one core can send | times gRPC alone |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {per_second:,.0f} | {spent:.0f} us | {1e6 / spent:,.0f}/s | {spent / yardstick:.2f} |"
            for name, (per_second, spent) in found.items()
        ),
    ]
    text = "\n".join(lines) + "\n"
    (RESULTS / "client.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
