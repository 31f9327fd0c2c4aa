"""Task accuracy and leakage of every defence on MNIST, cut after the second convolution block of a LeNet, in one table.

    python benchmarks/defences.py --data-dir DIR --output benchmarks/results/defences.md

Every row is trained and audited for each seed, with fresh attackers; `--quick` runs a tiny setting to see that all rows work. A row that
is done is kept in `--work` as JSON, and is not run again after an interruption.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

CLASSES = 10
COLUMNS = ("accuracy", "undefended", "attack", "floor", "ceiling", "leakage")


@dataclass(frozen=True)
class Defence:
    """One row: what stands on the boundary and what trains against it. Made afresh for each seed."""

    adversaries: list[Any] = field(default_factory=list)
    channel: Any = None
    regularizers: list[Any] = field(default_factory=list)
    bottleneck: int | None = None
    mode: str = "fused"
    pool: int = 0
    restart_every: int | None = None
    initial: str | None = None


def defences() -> dict[str, Callable[[], Defence]]:
    import keras_privpart as kp
    from keras_privpart.training import goals, regularizers

    def decoder(**kwargs: Any) -> list[Any]:
        return [kp.ReconstructionAdversary(weight=1.0, **kwargs)]

    def noise(stddev: float = 1.0, **kwargs: Any) -> Any:
        return kp.GaussianChannel(stddev, **kwargs)

    return {
        "none": Defence,
        "decoder adversary, MSE": lambda: Defence(decoder()),
        "decoder adversary, SSIM": lambda: Defence(decoder(loss="ssim")),
        "decoder adversary, |SSIM|": lambda: Defence(decoder(goal=goals.Dissimilarity())),
        "decoder adversary, to the mean": lambda: Defence(decoder(goal=goals.PullToMean())),
        "decoder adversary, to the class mean": lambda: Defence(decoder(goal=goals.PullToClassMean(CLASSES))),
        "alternating, 2 extra steps": lambda: Defence(decoder(steps=2), mode="alternating"),
        "restarts and pool of two": lambda: Defence(decoder(), pool=2, restart_every=2),
        "distance correlation": lambda: Defence(regularizers=[regularizers.DistanceCorrelation(1.0)]),
        "conditional entropy + noise": lambda: Defence(
            regularizers=[regularizers.ConditionalEntropy(CLASSES, weight=1.0)], channel=noise()
        ),
        "Fisher information + noise": lambda: Defence(regularizers=[regularizers.JacobianPenalty(1.0)], channel=noise()),
        "Gaussian noise": lambda: Defence(channel=noise()),
        "Gaussian noise, learnt scale": lambda: Defence(channel=noise(learn_scale=True)),
        "Laplace noise": lambda: Defence(channel=kp.LaplaceChannel(1.0)),
        "1 bit": lambda: Defence(channel=kp.QuantizeChannel(1)),
        "gate": lambda: Defence(channel=kp.GateChannel(0.5)),
        "dropout": lambda: Defence(channel=kp.DropoutChannel(0.5)),
        "bottleneck of 4": lambda: Defence(bottleneck=4),
        "bottleneck + noise": lambda: Defence(bottleneck=4, channel=noise()),
        "bottleneck + noise + adversary": lambda: Defence(decoder(), channel=noise(), bottleneck=4),
        "the same, from the pretrained model": lambda: Defence(decoder(), channel=noise(), bottleneck=4, initial="pretrained"),
    }


def lenet(seed: int) -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    image = keras.Input((28, 28, 1), name="image")
    x = layers.MaxPooling2D()(layers.Conv2D(16, 5, padding="same", activation="relu")(image))
    x = layers.MaxPooling2D(name="cut")(layers.Conv2D(32, 5, padding="same", activation="relu")(x))
    x = layers.Dense(120, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(CLASSES, name="scores")(x), name="lenet")


def trained(model: Any, defence: Defence, data: Any, epochs: int, seed: int) -> tuple[Any, float]:
    """The trained partition, and its accuracy on the test data."""
    import keras

    import keras_privpart as kp
    from keras_privpart.datasets import batches

    keras.utils.set_random_seed(seed)
    parts = kp.partition(model, at="cut")
    if defence.bottleneck is not None:
        parts = kp.with_bottleneck(parts, defence.bottleneck)
    trainer = kp.AdversarialTrainer(
        parts, defence.adversaries, defence.channel, regularizers=defence.regularizers, pool=defence.pool, initial=defence.initial
    )
    steps = epochs * math.ceil(len(data.train) / 128)
    trainer.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)),
        adversary_optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        mode=defence.mode,
    )
    callbacks = [] if defence.restart_every is None else [kp.RestartAdversaries(defence.restart_every, seed)]
    trainer.fit(batches(data.train, 128, seed=seed), epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)
    return trainer.partition, float(trainer.evaluate(batches(data.test, 256), return_dict=True, verbose=0)["accuracy"])


def row(name: str, seed: int, data: Any, options: argparse.Namespace) -> dict[str, float]:
    """Accuracy and leakage of one defence for one seed; the undefended model has as many epochs."""
    import keras

    import keras_privpart as kp

    reference, plain = trained(lenet(seed), Defence(), data, options.epochs, seed)
    defence = defences()[name]()
    model = keras.models.clone_model(reference.model)
    model.set_weights((reference.model if defence.initial == "pretrained" else lenet(seed)).get_weights())
    defended, accuracy = trained(model, defence, data, options.epochs, seed)
    report = kp.audit(defended, data.train, data.test, reference=reference, seeds=options.audit_seeds, epochs=1 if options.quick else None)
    found = {"accuracy": accuracy, "undefended": plain}
    return {**found, **leakage_of(report)}


def leakage_of(report: Any) -> dict[str, float]:
    """Scores of the strongest reconstruction attack; without `leakage` where it is not defined."""
    strongest = report.strongest()
    scores = {"attack": strongest.boundary, "floor": strongest.floor, "ceiling": strongest.ceiling}
    found = {name: float(score[strongest.headline].value) for name, score in scores.items()}
    return found if strongest.leakage.value is None else {**found, "leakage": float(strongest.leakage.value)}


def table(results: dict[str, list[dict[str, float]]], command: str) -> str:
    lines = ["# Defences on MNIST", "", f"Made by `{command}`. Mean and 95 % interval (Student's t) over seeds.", ""]
    lines += ["| defence | task accuracy | undefended | SSIM of the strongest attack | floor | ceiling | leakage | seeds |"]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|"]
    for name, found in results.items():
        cells = [
            interval([f[key] for f in found if key in f]) for key in ("accuracy", "undefended", "attack", "floor", "ceiling", "leakage")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {len(found)} |")
    return "\n".join(lines) + "\n"


def interval(values: list[float]) -> str:
    if not values:
        return "not defined"
    mean = statistics.mean(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(len(values), 2.5)
    return f"{mean:.3f} ± {t * statistics.stdev(values) / math.sqrt(len(values)):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="Folder of prepared tensorflow-datasets.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--audit-seeds", type=int, default=1, help="Attackers' seeds for each trained model.")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--only", action="append", help="Name of a row; may be repeated. All by default.")
    parser.add_argument("--quick", action="store_true", help="512 digits, one epoch, one seed.")
    parser.add_argument("--work", type=Path, default=Path("runs/defences"), help="Folder of finished rows.")
    parser.add_argument("--output", type=Path, help="File to write the table to.")
    options = parser.parse_args()
    from keras_privpart import datasets

    if options.quick:
        options.seeds, options.epochs, options.work = 1, 1, options.work / "quick"
    data = datasets.load("mnist", data_dir=options.data_dir, download=options.data_dir is None)
    if options.quick:
        data = datasets.Dataset(data.name, data.train[:512], data.test[:256], data.classes)
    options.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, float]]] = {}
    for name in options.only or defences():
        for seed in range(options.seeds):
            path = options.work / f"{name.replace(' ', '_').replace('|', '')}_{options.epochs}_{seed}.json"
            if not path.exists():
                found = row(name, seed, data, options)
                path.with_suffix(".part").write_text(json.dumps(found))
                path.with_suffix(".part").replace(path)
            results.setdefault(name, []).append(json.loads(path.read_text()))
            print(name, seed, results[name][-1], flush=True)
    text = table(results, f"python benchmarks/defences.py --seeds {options.seeds} --epochs {options.epochs}")
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
