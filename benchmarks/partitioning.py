"""Speed of the engine: enumerating all cuts with their costs, cutting, and running the composed halves.

python benchmarks/partitioning.py
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_privpart as kp

RESULTS = Path(__file__).parent / "results"
MODELS = {"ResNet152": 224, "EfficientNetB7": 600, "NASNetLarge": 331}


def best(run: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of some runs: the figure that other work on the machine disturbs least."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def composed(model: keras.Model, parts: kp.Partition, x: Any, repeats: int) -> tuple[float, float]:
    """Seconds of the whole model and of the composed halves, each one graph, by turns."""
    whole = tf.function(lambda t: model(t, training=False))
    halves = tf.function(lambda t: parts.server(parts.device(t, training=False), training=False))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 2):
        for run, kept in zip((whole, halves), times, strict=True):
            kept.append(best(lambda run=run: run(x).numpy(), 1))
    return min(times[0][2:]), min(times[1][2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=10, help="runs of each; the fastest counts")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the table")
    options = parser.parse_args()
    lines = [
        "# Speed of cutting",
        "",
        f"Made by `python benchmarks/partitioning.py` on {os.cpu_count()} CPU cores ({platform.machine()}), Python "
        f"{platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}. The fastest of {options.repeats} runs. "
        "Composed: `server(device(x))` against `model(x)`, each as one graph, one example, cut where the advisor says.",
        "",
        "| model | input | operations | cuts | all cuts with costs | advisor's cut | partition | whole | composed | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, size in MODELS.items():
        model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
        table = kp.cuts(model)
        for_cuts = best(lambda model=model: kp.cuts(model), options.repeats)
        at = table.choose()
        for_partition = best(lambda model=model, at=at: kp.partition(model, at=at), options.repeats)
        parts = kp.partition(model, at=at)
        x = tf.constant(np.random.default_rng(0).random((1, size, size, 3), dtype="float32"))
        whole, halves = composed(model, parts, x, options.repeats)
        lines.append(
            f"| {name} | {size} | {len(model.operations):,} | {len(table):,} | {1e3 * for_cuts:.0f} ms | {at.address} "
            f"| {1e3 * for_partition:.0f} ms | {1e3 * whole:.0f} ms | {1e3 * halves:.0f} ms | {halves / whole:.2f} |"
        )
        print(lines[-1], flush=True)
        keras.backend.clear_session()
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "partitioning.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
