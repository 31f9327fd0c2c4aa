"""`privpart-keras demo`: the whole chain on MNIST where it is at hand, else on scikit-learn's real digits."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from keras_privpart.errors import DataError, VerificationError

from ..console import emit, import_tensorflow, json_option, progress_bar, say, seed_option
from ..interruption import interruptible

if TYPE_CHECKING:
    import keras

    from keras_privpart.auditing.reporting.report import AuditReport
    from keras_privpart.datasets import Dataset
    from keras_privpart.partitioning.halves import Partition
    from keras_privpart.training.recipe import TrainedPair

EPOCHS, MNIST_EPOCHS = 40, 30  # about as many steps
MNIST_TRAIN, MNIST_TEST = "train[:2000]", "test[:300]"
FEATURES = 10
NOISE = 0.5
TOLERANCE = 1e-4
DOUBLINGS = 1
ATTACKS = ("kernel posterior", "linkage, same class", "decoder, deep, mixed", "decoder, medium, mse", "decoder, small, ssim")
MNIST_ATTACKS = ("kernel posterior", "linkage, same class", "decoder, small, ssim")  # more, or for longer, takes minutes there


@click.command(short_help="Run the whole chain on pictures of digits, in a few minutes.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/demo"), help="Run folder to write.")
@click.option("--bundle", type=click.Path(path_type=Path, file_okay=False), default=Path("saved_models/digits"), help="Bundle to write.")
@click.option("--epochs", type=click.IntRange(min=1), help=f"Of each of the two trainings.  [default: {EPOCHS}, of MNIST {MNIST_EPOCHS}]")
@click.option("--data-dir", envvar="TFDS_DATA_DIR", show_envvar=True, help="Folder of prepared data sets with mnist among them.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Fresh attackers of the strongest kinds.")
@seed_option
@json_option
@click.pass_context
@interruptible("The demo keeps nothing before its end. Run it again; --epochs and --seeds make it shorter.")
def demo(
    context: click.Context, out: Path, bundle: Path, epochs: int | None, data_dir: str | None, seeds: int, seed: int, as_json: bool
) -> None:
    """Cut a small network, train it undefended and defended, attack both with fresh attackers, export, serve, and query it.

    Uses 2,300 pictures of MNIST, 28x28 pixels, where tensorflow-datasets has prepared them in --data-dir or ~/tensorflow_datasets; else
    scikit-learn's digits, 1,797 real pictures of 8x8 pixels. Nothing is downloaded. What an earlier demo left is replaced.

    \b
    Example:
      privpart-keras demo
    """
    start = time.monotonic()
    seconds: dict[str, float] = {}
    import_tensorflow()
    from keras_privpart.partitioning.partition import partition

    data = pictures(data_dir, context.get_parameter_source("data_dir") == ParameterSource.COMMANDLINE)
    side = data.test.x.shape[1]
    taken = f"{len(data.train):,} pictures of {data.name} to train on and {len(data.test):,} to attack, {side}x{side} pixels"
    say(f"Data: {taken}.")
    epochs = epochs or (EPOCHS if side == 8 else MNIST_EPOCHS)
    parts = partition(model(side))
    parts.verify(data.test.x)
    where = ", ".join(parts.boundary.sources)
    say(f"Cut at {where}, the advisor's choice: {parts.boundary.nbytes} bytes cross; the halves equal the whole, bit for bit.")
    with _timed(seconds, "train"):
        pair = train(parts, data, epochs, seed)
    say("Trained an undefended and a defended partition, from the same weights and for the same epochs.")
    with _timed(seconds, "audit"):
        report = _audit(pair, data, seeds, seed)
    pair.defended.save(out / "defended", overwrite=True)
    pair.undefended.save(out / "undefended", overwrite=True)
    report.save(out / "report", overwrite=True)
    say("Attacked both with fresh attackers.")
    with _timed(seconds, "query"):
        query = _serve_and_query(pair.defended, report, bundle, data)
    say(f"Exported; served by the {query.engine}; {query.examples} test images queried over gRPC, every answer right.")
    rows = _rows(report, query, pair.undefended.boundary.nbytes or 0)
    facts = {
        "data": taken,
        "rows": rows,
        "report": str(out / "report" / "index.html"),
        "bundle": str(bundle),
        "engine": query.engine,
        "seeds": seeds,
        "beside": _beside(report),
        "seconds": {**seconds, "all": round(time.monotonic() - start, 1)},
    }
    emit(as_json, facts, _text(rows, facts))


def pictures(data_dir: str | None, named: bool) -> Dataset:
    """MNIST, where it is prepared; scikit-learn's digits, and why, where it is not, unless the user has named the folder."""
    from keras_privpart import datasets

    try:
        return datasets.load("mnist", data_dir=data_dir, download=False, train_split=MNIST_TRAIN, test_split=MNIST_TEST)
    except DataError as error:
        if named:
            raise
        say(f"{error} Taking scikit-learn's digits.")
    return datasets.load(datasets.DIGITS)


def model(side: int = 8) -> keras.Model:
    """A small convolutional network for gray pictures, with a narrow strided convolution near its start: a good place to cut."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((side, side, 1), name="image")
    x = layers.Conv2D(32, 3, strides=1 if side < 16 else 2, padding="same", activation="relu", name="conv_1")(x)
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="conv_2")(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="narrow")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(512, activation="relu", name="dense_1")(x)
    x = layers.Dense(256, activation="relu", name="dense_2")(x)
    return keras.Model(inputs, layers.Dense(10, name="scores")(x), name="digits")


@contextlib.contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Notes how long the body took."""
    start = time.monotonic()
    yield
    seconds[what] = round(time.monotonic() - start, 1)


def train(parts: Partition, data: Dataset, epochs: int, seed: int) -> TrainedPair:
    from keras_privpart.training import recipes
    from keras_privpart.training.recipe import Recipe, train_pair

    recipe = Recipe(epochs=epochs, learning_rate=2e-3, seed=seed)
    with progress_bar(2 * epochs, "train") as bar:

        def progress(which: str, epoch: int, logs: dict[str, float]) -> None:
            bar.set_postfix_str(f"{which}, epoch {epoch}: test accuracy {logs['val_accuracy']:.3f}")
            bar.update(1)

        defence = recipes.bits(data.classes["task"], FEATURES, NOISE)
        return train_pair(parts, data.train, data.test, recipe, defence, progress)


def _audit(pair: TrainedPair, data: Dataset, seeds: int, seed: int) -> AuditReport:
    from keras_privpart import datasets
    from keras_privpart.auditing.audit import audit

    small = data.name == datasets.DIGITS
    with progress_bar(None, "audit") as bar:

        def progress(done: int, total: int, what: str) -> None:
            bar.total = total
            bar.set_postfix_str(what)
            bar.update(done - bar.n)

        return audit(
            pair.defended,
            data.train.held,
            data.test,
            reference=pair.undefended,
            seeds=seeds,
            attacks=ATTACKS if small else MNIST_ATTACKS,
            doublings=DOUBLINGS if small else 0,
            trained_on=data.train,
            seed=seed,
            progress=progress,
        )


@dataclass(frozen=True)
class _Query:
    """What the round trip over gRPC showed."""

    engine: str
    examples: int
    bytes_sent: int
    raw_bytes: int


def _serve_and_query(parts: Partition, report: AuditReport, target: Path, data: Dataset) -> _Query:
    """Exports, serves and queries; compares every answer with the whole model's on the same boundary, noise and all."""
    import numpy as np

    from keras_privpart.exporting.bundle import export
    from keras_privpart.serving import Client, LocalServer

    bundle = export(parts, target, audit=report, overwrite=True)
    x = data.test.x
    with LocalServer(bundle.path) as server, Client(bundle.path, server.address) as client, progress_bar(len(x), "query") as bar:
        client.wait_for_ready()
        for start in range(0, len(x), 50):
            boundary = client.encode(x[start : start + 50])
            answers = client.score(boundary)
            whole = parts.server(
                [boundary[name] for name in parts.boundary.names] if len(boundary) > 1 else boundary[parts.boundary.names[0]]
            )
            worst = float(np.max(np.abs(np.asarray(whole) - answers)))
            if worst > TOLERANCE:
                raise VerificationError(f"An answer over gRPC differs from the whole model's by {worst:.3g}; expected at most {TOLERANCE}.")
            bar.update(len(answers))
    return _Query("local server, embedded", len(x), bundle.contract.boundary.nbytes or 0, bundle.contract.raw_nbytes or 0)


def _rows(report: AuditReport, query: _Query, undefended_bytes: int) -> list[dict[str, Any]]:
    """One row per partition: task accuracy, strongest attack, its floor, ceiling and leakage, and what is sent."""
    best = report.strongest()
    attack, floor, ceiling = (getattr(best, side)[best.headline].value for side in ("boundary", "floor", "ceiling"))
    scores = (report.reference_accuracy, report.defended_accuracy)
    before, after = (None if score is None else score.value for score in scores)
    undefended = {
        "bytes_sent": undefended_bytes,
        "accuracy": before,
        "attack": ceiling,
        "leakage": 1.0,
        "leakage_interval": None,
    }
    defended = {
        "bytes_sent": query.bytes_sent,
        "accuracy": after,
        "attack": attack,
        "leakage": best.leakage.value,
        "leakage_interval": [best.leakage.low, best.leakage.high],
    }
    shared = {"attacker": best.attack, "floor": floor, "ceiling": ceiling, "raw_bytes": query.raw_bytes}
    return [{"partition": "undefended", **undefended, **shared}, {"partition": "defended", **defended, **shared}]


def _beside(report: AuditReport) -> list[str]:
    """What more looks at the same picture tell, how often a picture is named, and how many bits cross."""
    lines = []
    for kind in report.kinds:
        for looks in report.looks_of(kind):
            best = report.strongest(kind, looks)
            value = best.boundary[best.headline].value
            after = f"{looks} look{'s' if looks > 1 else ''} at the same picture"
            if best.headline == "rank_1":
                lines.append(f"After {after}, the right one of up to 100 of its class is named in {value:.0%}.")
            elif looks > 1:
                leakage = "undefined" if best.leakage.value is None else f"{best.leakage.value:.2f}"
                lines.append(f"After {after} the strongest attack's picture is at {value:.3f}, leakage {leakage}.")
    if report.bits is not None:
        lines += [
            f"Bits that cross in {b.looks} look{'s' if b.looks > 1 else ''}: at least {b.at_least.value:.1f}." for b in report.bits.looks
        ]
    return lines


def _text(rows: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    larger = rows[1]["bytes_sent"] > rows[1]["raw_bytes"]
    lines = [
        "",
        f"{facts['data']}:",
        f"{'partition':<12}{'accuracy':>9}{'strongest attack':>18}{'floor':>8}{'ceiling':>9}"
        f"  {'leakage (95 %)':<22}{'bytes sent':>11}{'raw':>6}",
    ]
    for row in rows:
        leakage = "undefined" if row["leakage"] is None else f"{row['leakage']:.2f}"
        if row["leakage"] is not None and row["leakage_interval"]:
            leakage += " [{:.2f}, {:.2f}]".format(*row["leakage_interval"])
        lines.append(
            f"{row['partition']:<12}{row['accuracy']:>8.1%} {row['attack']:>17.3f} {row['floor']:>7.3f} {row['ceiling']:>8.3f}  "
            f"{leakage:<22}{row['bytes_sent']:>11}{row['raw_bytes']:>6}"
        )
    return "\n".join(
        [
            *lines,
            "",
            "raw: what a client without us would send, a byte a pixel. "
            + ("The boundary is larger than that here: pictures of 8x8 pixels are tiny." if larger else ""),
            f"Scores are the SSIM of the test images as {rows[1]['attacker']!r} rebuilds them, the strongest of the fresh attackers;",
            f"{facts['seeds']} attacker seed{'s' if facts['seeds'] > 1 else ''}, one trained model. The floor is what the decision alone, "
            "which digit comes first, gives away.",
            *facts["beside"],
            f"Report: {facts['report']}",
            f"Bundle: {facts['bundle']}",
            "{all:.0f} seconds: training {train:.0f}, audit {audit:.0f}, export and queries {query:.0f}.".format(**facts["seconds"]),
        ]
    )
