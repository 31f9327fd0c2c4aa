"""What pruning, clustering and quantisation-aware training do to the device half of a small LeNet on MNIST, form by form.

    python benchmarks/optimizing.py --data-dir DIR

Needs the extra `optimize`. With `--leakage` every form is attacked by fresh attackers too, which takes hours.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

RESULTS = Path(__file__).parent / "results" / "optimizing.md"
METHODS = (None, "prune:0.5", "cluster:16", "qat")
FORMS = ("saved_model", "litert", "litert-int8")
CUT = "pool_2"
COLUMNS = ("accuracy", "device_bytes", "compressed_bytes", "latency_ms", "relative_error")


def trained(train: Any, epochs: int) -> Any:
    """A LeNet whose convolutions stand on the device."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    image = keras.Input((28, 28, 1), name="image")
    x = layers.BatchNormalization()(layers.Conv2D(16, 5, use_bias=False, name="conv_1")(image))
    x = layers.MaxPooling2D(name="pool_1")(layers.ReLU()(x))
    x = layers.BatchNormalization()(layers.Conv2D(32, 5, use_bias=False, name="conv_2")(x))
    x = layers.MaxPooling2D(name=CUT)(layers.ReLU()(x))
    x = layers.Dense(84, activation="relu")(layers.Flatten()(x))
    model = keras.Model(image, layers.Dense(10, name="scores")(x), name="lenet")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(train.x, train.targets["task"], batch_size=128, epochs=epochs, verbose=0)
    return model


def attacks(data: Any, undefended: Any, seeds: int) -> Any:
    import keras_privpart as kp

    return lambda parts: kp.audit(parts, data.train, data.test, reference=undefended, seeds=seeds)


def rows(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a method and form, each as the bundle's contract has it."""
    import keras_privpart as kp
    from keras_privpart import datasets

    data = datasets.load("mnist", data_dir=options.data_dir, download=options.data_dir is None)
    parts = kp.partition(trained(data.train, options.epochs), at=CUT)
    leakage = attacks(data, parts, options.seeds) if options.leakage else None
    found = []
    for method in METHODS:
        with tempfile.TemporaryDirectory() as folder:
            bundle = kp.export(
                parts,
                Path(folder) / "lenet",
                formats=FORMS,
                sample=data.train.x[: options.samples],
                test=data.test,
                leakage=leakage,
                optimize=method,
                optimize_steps=options.steps,
            )
        measured = bundle.contract.measurements if method is None else bundle.contract.measurements[1:]
        found += [{"optimize": method or "none", **row} for row in measured]
        print(f"{method or 'none'}: {', '.join(str(row['relative_error']) for row in measured)}", flush=True)
    return found


def table(found: list[dict[str, Any]], options: argparse.Namespace, command: str) -> str:
    import keras
    import tensorflow as tf

    shown = (*COLUMNS, "leakage") if options.leakage else COLUMNS
    lines = [
        "# What optimising the device half costs and saves",
        "",
        f"Made by `{command}`. TensorFlow {tf.__version__}, Keras {keras.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPU cores. MNIST; a LeNet with two convolutions (5x5, 16 and 32) and their normalisations on the device; one "
        f"trained model, {found[0]['examples']:,} test pictures. Fine-tuned for {options.steps} steps on {options.samples:,} training "
        "pictures.",
        "",
        "Relative error is that of the boundary against the float32 half before it was optimised. Compressed bytes are those in a zip "
        "archive: pruning and clustering show there only. Latency is of one picture, the median of 30, while the machine did other work "
        "too: compare orders of magnitude. Differences in accuracy below 0.2 points are within what one test set can tell.",
        "",
        f"| optimize | form | {' | '.join(name.replace('_', ' ') for name in shown)} |",
        f"|---|---|{'---:|' * len(shown)}",
    ]
    lines += [f"| {row['optimize']} | {row['form']} | {' | '.join(_cell(name, row[name]) for name in shown)} |" for row in found]
    return "\n".join(lines) + "\n"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "leakage":
        return "; ".join(f"{kind} {facts['leakage']} {facts['leakage_interval']}" for kind, facts in value.items() if kind != "seeds")
    return f"{value:.2%}" if name == "accuracy" else f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="Where tensorflow-datasets keeps MNIST.")
    parser.add_argument("--epochs", type=int, default=2, help="Epochs of the LeNet's training.")
    parser.add_argument("--steps", type=int, default=1000, help="Fine-tuning steps.")
    parser.add_argument("--samples", type=int, default=8192, help="Training pictures to fine-tune on and calibrate by.")
    parser.add_argument("--leakage", action="store_true", help="Attack every form with fresh attackers.")
    parser.add_argument("--seeds", type=int, default=3, help="Attackers of each kind, for --leakage.")
    parser.add_argument("--output", type=Path, default=RESULTS, help="File to write the table to.")
    options = parser.parse_args()
    command = (
        f"python benchmarks/optimizing.py --data-dir DIR --epochs {options.epochs} --steps {options.steps} --samples {options.samples}"
    )
    text = table(rows(options), options, command + f" --leakage --seeds {options.seeds}" * options.leakage)
    print(text)
    options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
