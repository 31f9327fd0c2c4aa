"""Task accuracy and leakage of every defence on MNIST, cut after the second convolution block of a LeNet, in one table.

    python benchmarks/defences.py --data-dir DIR --output benchmarks/results/defences.md

Every defence is trained for every seed, from the same weights and for as long as the undefended model of that seed, and audited by fresh
attackers on data that no model was trained on. First all are trained, then all audited; what is done is kept in `--work` and not done again
after an interruption. `--quick` runs a tiny setting to see that all rows work.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from keras_privpart.training.recipe import Defence

CLASSES, BATCH = 10, 128
UNDEFENDED = "none"
COLUMNS = ("accuracy", "undefended", "attack", "floor", "ceiling", "leakage")


@dataclass(frozen=True)
class Row(Defence):
    """One row: a defence, made afresh for each seed, and what it changes in the model or starts from."""

    bottleneck: int | None = None
    initial: str | None = None


def defences() -> dict[str, Callable[[], Row]]:
    import keras_privpart as kp
    from keras_privpart.training.privacy_terms import goals, regularizers

    def decoder(**kwargs: Any) -> list[Any]:
        return [kp.ReconstructionAdversary(weight=1.0, **kwargs)]

    def noise(stddev: float = 1.0, **kwargs: Any) -> Any:
        return kp.GaussianChannel(stddev, **kwargs)

    return {
        UNDEFENDED: Row,
        "decoder adversary, MSE": lambda: Row(decoder()),
        "decoder adversary, SSIM": lambda: Row(decoder(loss="ssim")),
        "decoder adversary, absolute SSIM": lambda: Row(decoder(goal=goals.Dissimilarity())),
        "decoder adversary, to the mean": lambda: Row(decoder(goal=goals.PullToMean())),
        "decoder adversary, to the class mean": lambda: Row(decoder(goal=goals.PullToClassMean(CLASSES))),
        "alternating, 2 extra steps": lambda: Row(decoder(steps=2), mode="alternating"),
        "restarts and pool of two": lambda: Row(decoder(), pool=2, restart_every=2),
        "distance correlation": lambda: Row(regularizers=[regularizers.DistanceCorrelation(1.0)]),
        "conditional entropy + noise": lambda: Row(regularizers=[regularizers.ConditionalEntropy(CLASSES, weight=1.0)], channel=noise()),
        "Fisher information + noise": lambda: Row(regularizers=[regularizers.JacobianPenalty(1.0)], channel=noise()),
        "Gaussian noise": lambda: Row(channel=noise()),
        "Gaussian noise, learnt scale": lambda: Row(channel=noise(learn_scale=True)),
        "Laplace noise": lambda: Row(channel=kp.LaplaceChannel(1.0)),
        "1 bit": lambda: Row(channel=kp.QuantizeChannel(1)),
        "gate": lambda: Row(channel=kp.GateChannel(0.5)),
        "dropout": lambda: Row(channel=kp.DropoutChannel(0.5)),
        "bottleneck of 4": lambda: Row(bottleneck=4),
        "bottleneck + noise": lambda: Row(bottleneck=4, channel=noise()),
        "bottleneck + noise + adversary": lambda: Row(decoder(), channel=noise(), bottleneck=4),
        "the same, from the pretrained model": lambda: Row(decoder(), channel=noise(), bottleneck=4, initial="pretrained"),
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


def trained(model: Any, defence: Row, train: Any, epochs: int, seed: int) -> Any:
    """The trained partition of `model`."""
    import keras

    import keras_privpart as kp
    from keras_privpart.datasets import batches

    keras.utils.set_random_seed(seed)
    parts = kp.partition(model, at="cut", bottleneck=defence.bottleneck)
    trainer = kp.AdversarialTrainer(
        parts, defence.adversaries, defence.channel, regularizers=defence.regularizers, pool=defence.pool, initial=defence.initial
    )
    steps = epochs * math.ceil(len(train) / BATCH)
    trainer.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)),
        adversary_optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        mode=defence.mode,
    )
    callbacks = [] if defence.restart_every is None else [kp.RestartAdversaries(defence.restart_every, seed)]
    trainer.fit(batches(train, BATCH, seed=seed), epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)
    return trainer.partition


class Benchmark:
    """All rows, each trained once and audited once, kept in the folder `options.work`."""

    def __init__(self, data: Any, options: argparse.Namespace) -> None:
        self._options = options
        self._train = data.train[: options.examples]
        self._attacker = data.train[options.examples : options.examples + options.attacker]
        self._test, self._victims = data.test, data.test[: options.victims]
        self._attackers = attackers()  # compiled once for all rows

    def partition(self, name: str, seed: int) -> Any:
        """The trained partition of a row, from its folder where it is there."""
        import keras

        import keras_privpart as kp

        folder = self._place(name, seed)
        if not folder.exists():
            defence, model = defences()[name](), lenet(seed)
            if defence.initial == "pretrained":
                model = self.partition(UNDEFENDED, seed).model  # read from its folder: nobody else's
            trained(model, defence, self._train, self._options.epochs, seed).save(folder)
            keras.backend.clear_session()
        return kp.Partition.load(folder)

    def result(self, name: str, seed: int) -> dict[str, float]:
        """Task accuracy and leakage of a row, from its file where it is there."""
        import keras_privpart as kp

        path = self._place(name, seed).with_suffix(".json")
        if not path.exists():
            parts, reference = self.partition(name, seed), self.partition(UNDEFENDED, seed)
            found = {"accuracy": self._accuracy(parts), "undefended": self._accuracy(reference)}
            audit = {"seeds": self._options.audit_seeds, "epochs": self._options.attack_epochs, "cache": self._options.work / "attacks"}
            report = kp.audit(parts, self._attacker, self._victims, reference=reference, attacks=self._attackers, **audit)
            path.with_suffix(".part").write_text(json.dumps(found | leakage_of(report)))
            path.with_suffix(".part").replace(path)
        return dict(json.loads(path.read_text()))

    def _place(self, name: str, seed: int) -> Path:
        return Path(self._options.work, f"{name.replace(' ', '_').replace(',', '')}_{seed}")

    def _accuracy(self, parts: Any) -> float:
        scores = parts.server.predict(parts.device.predict(self._test.x, batch_size=256, verbose=0), batch_size=256, verbose=0)
        return float((scores.argmax(axis=-1) == self._test.targets["task"]).mean())


def attackers() -> list[Any]:
    """A small and a medium decoder, with different losses: what a benchmark of so many rows can afford."""
    from keras_privpart.auditing.attacks import DecoderAttack

    return [DecoderAttack("small", "mse"), DecoderAttack("medium", "mixed")]


def leakage_of(report: Any) -> dict[str, float]:
    """Scores of the strongest reconstruction attack; without `leakage` where it is not defined."""
    strongest = report.strongest()
    scores = {"attack": strongest.boundary, "floor": strongest.floor, "ceiling": strongest.ceiling}
    found = {name: float(score[strongest.headline].value) for name, score in scores.items()}
    return found if strongest.leakage.value is None else {**found, "leakage": float(strongest.leakage.value)}


def table(results: dict[str, list[dict[str, float]]], command: str, options: argparse.Namespace) -> str:
    names = ", ".join(f"{attack.size} with loss {attack.loss}" for attack in attackers())
    lines = [
        "# Defences on MNIST",
        "",
        f"Made by `{command}`.",
        "",
        f"LeNet, cut after its second convolution block (7x7x32). Models are trained on {options.examples:,} digits for {options.epochs}",
        f"epochs, attackers on {options.attacker:,} others. Accuracy is of the 10,000 test digits, attacks of {options.victims:,} of them.",
        f"The strongest of the decoders ({names}) counts, {options.audit_seeds} attacker seed(s) a model. Mean and 95 % interval",
        "(Student's t) over models trained with different seeds. Every defence stands here at one setting, which nobody tuned: the table",
        "compares mechanisms and is no ranking of papers. A decoder of another kind may read more.",
        "",
        "| defence | task accuracy | undefended | SSIM of the strongest attack | floor | ceiling | leakage | seeds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, found in results.items():
        cells = [interval([f[key] for f in found if key in f]) for key in COLUMNS]
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
    parser.add_argument("--seeds", type=int, default=3, help="Models of each defence.")
    parser.add_argument("--audit-seeds", type=int, default=1, help="Attackers' seeds for each model.")
    parser.add_argument("--epochs", type=int, default=8, help="Of every model.")
    parser.add_argument("--attack-epochs", type=int, help="Of every attacker; the audit's own choice by default.")
    parser.add_argument("--examples", type=int, default=8000, help="That models are trained on.")
    parser.add_argument("--attacker", type=int, default=4000, help="Examples that the attackers have, others than the models'.")
    parser.add_argument("--victims", type=int, default=1000, help="Test examples that are attacked.")
    parser.add_argument("--only", action="append", help="Name of a row; may be repeated. All by default.")
    parser.add_argument("--quick", action="store_true", help="512 digits, one epoch, one seed.")
    parser.add_argument("--work", type=Path, default=Path("runs/defences"), help="Folder of what is done.")
    parser.add_argument("--output", type=Path, help="File to write the table to.")
    options = parser.parse_args()
    from keras_privpart import datasets

    settings = f"--seeds {options.seeds} --audit-seeds {options.audit_seeds} --epochs {options.epochs} --examples {options.examples}"
    settings += f" --attacker {options.attacker} --victims {options.victims}"
    if options.quick:
        options.seeds, options.epochs, options.attack_epochs, options.work = 1, 1, 1, options.work / "quick"
        options.examples, options.attacker, options.victims, settings = 512, 256, 128, "--quick"
    options.work.mkdir(parents=True, exist_ok=True)
    benchmark = Benchmark(datasets.load("mnist", data_dir=options.data_dir, download=options.data_dir is None), options)
    names = options.only or list(defences())
    for seed in range(options.seeds):
        for name in names:
            benchmark.partition(name, seed)
            print("trained", name, seed, flush=True)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in range(options.seeds):
        for name in names:
            results[name].append(benchmark.result(name, seed))
            print(name, seed, results[name][-1], flush=True)
    text = table(results, f"python benchmarks/defences.py {settings}", options)
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
