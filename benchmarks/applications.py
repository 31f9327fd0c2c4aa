"""Cuts every model of `keras.applications` and compares the halves with the whole, bit for bit.

For each model, built without weights for the smallest input it takes: all cuts are enumerated; at some random ones (of one tensor and
of several) both halves are saved, loaded again and composed, and the result is compared with the whole model's on random images.

    python benchmarks/applications.py                      # all of them, about an hour on two cores; goes on where it was stopped
    python benchmarks/applications.py --models MobileNetV2 ResNet50 --cuts 2
    python benchmarks/applications.py --table              # only writes the table again
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_privpart as kp

RESULTS = Path(__file__).parent / "results"
SIZES = (32, 48, 64, 71, 75, 96, 128, 160, 192, 224, 299, 331)


@dataclass(frozen=True)
class Tried:
    """One cut that was tried: where, how many tensors cross, and the largest difference of an output (0 means equal bit for bit)."""

    at: list[str]
    equal: bool
    difference: float


@dataclass(frozen=True)
class Result:
    """One model: its size, its cuts and how those that were tried came out."""

    model: str
    input_size: int
    operations: int
    parameters: int
    cuts: int
    single: int
    seconds_for_cuts: float
    tried: list[Tried]
    keras: str


def names() -> list[str]:
    """Every model of `keras.applications`."""
    found = vars(keras.applications).items()
    return sorted(name for name, value in found if name[0].isupper() and callable(value))


def build(name: str) -> tuple[keras.Model, int]:
    """The model for the smallest square input it takes, with random weights, biases and moving averages."""
    keras.utils.set_random_seed(0)
    maker = getattr(keras.applications, name)
    for size in SIZES:
        try:
            # Without the softmax, which may saturate and then hides differences.
            model = maker(weights=None, input_shape=(size, size, 3), classifier_activation=None)
            break
        except ValueError:
            continue  # too small
    else:
        raise SystemExit(f"{name} takes none of the input sizes {SIZES}")
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if len(variable.shape) == 1 and (variable.trainable or "moving" in variable.path):  # zeros or ones when fresh, which hides mistakes
            variable.assign(variable + 0.05 * rng.random(variable.shape, dtype="float32"))
    return model, size


def examine(name: str, count: int) -> Result:
    """Tries `count` random cuts of one model, at least a third of them through several tensors where there are such."""
    model, size = build(name)
    start = time.perf_counter()
    table = kp.cuts(model)
    seconds = time.perf_counter() - start
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    single, several = ([c for c in table if (len(c.tensors) == 1) == one] for one in (True, False))
    n_several = min(len(several), count - min(len(single), count - count // 2))
    chosen = [pool[i] for pool, n in ((single, count - n_several), (several, n_several)) for i in rng.permutation(len(pool))[:n]]
    x = rng.random((2, size, size, 3), dtype="float32") * 255
    whole = np.asarray(model(x, training=False))
    if not np.isfinite(whole).all() or np.ptp(whole) == 0:
        raise SystemExit(f"{name} answers with constants or infinities, which would compare as equal whatever the halves do")
    tried = [_try(model, cut, x, whole) for cut in sorted(chosen, key=lambda c: c.index)]
    return Result(name, size, len(model.operations), model.count_params(), len(table), len(single), seconds, tried, keras.__version__)


def _try(model: keras.Model, cut: kp.Cut, x: np.ndarray, whole: np.ndarray) -> Tried:
    parts = kp.partition(model, at=cut)
    with tempfile.TemporaryDirectory() as folder:
        halves = []
        for half, file in ((parts.device, "device.keras"), (parts.server, "server.keras")):
            half.save(Path(folder) / file)
            halves.append(keras.saving.load_model(Path(folder) / file, compile=False))
    device, server = halves
    sent = keras.tree.map_structure(np.asarray, device(x, training=False))
    composed = np.asarray(server(sent, training=False))
    return Tried(list(cut.tensors), composed.tobytes() == whole.tobytes(), float(np.max(np.abs(composed - whole))))


def _read(results: Path) -> dict[str, Any]:
    file = results / "applications.json"
    return json.loads(file.read_text()) if file.exists() else {}


def write_table(results: Path) -> None:
    """Markdown from the results of all models that are there."""
    rows: list[dict[str, Any]] = [row for _, row in sorted(_read(results).items())]
    equal = sum(all(t["equal"] for t in r["tried"]) for r in rows)
    lines = [
        "# Every model of keras.applications, cut and put together again",
        "",
        f"Made by `python benchmarks/applications.py` with Keras {', '.join(sorted({r['keras'] for r in rows}))}, float32, CPU. "
        f"{equal} of {len(rows)} models are equal bit for bit at all cuts that were tried: halves saved, loaded again, composed, and",
        "compared with the whole model on two random images. 1+ means a cut through several tensors.",
        "",
        "| model | input | operations | parameters | cuts | of one tensor | cuts in ms | tried | largest difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        tried = ", ".join("1" if len(t["at"]) == 1 else "1+" for t in r["tried"])
        worst = max(t["difference"] for t in r["tried"])
        verdict = "0, bit for bit" if all(t["equal"] for t in r["tried"]) else f"{worst:.2g}"
        lines.append(
            f"| {r['model']} | {r['input_size']} | {r['operations']:,} | {r['parameters']:,} | {r['cuts']:,} | {r['single']:,} "
            f"| {1e3 * r['seconds_for_cuts']:.0f} | {tried} | {verdict} |"
        )
    (results / "applications.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--models", nargs="+", default=names(), help="which models; all by default")
    parser.add_argument("--cuts", type=int, default=5, help="random cuts to try of each model")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results; models that are there already are left out")
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    for name in [] if options.table else options.models:
        done = _read(options.results)
        if name in done:
            continue
        start = time.perf_counter()
        result = examine(name, options.cuts)
        text = json.dumps({**done, name: asdict(result)}, indent=1, sort_keys=True) + "\n"
        (options.results / "applications.json").write_text(text, encoding="utf-8")
        verdict = "equal" if all(t.equal for t in result.tried) else "DIFFERENT"
        print(f"{name}: {result.cuts} cuts, {verdict}, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        keras.backend.clear_session()
        gc.collect()
    write_table(options.results)


if __name__ == "__main__":
    main()
