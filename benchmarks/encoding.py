"""What an encoding of the boundary costs in accuracy: MobileNetV2 trained on CIFAR-10, cut after block 6, every encoding in several forms.

    python benchmarks/encoding.py --data-dir DIR --output benchmarks/results/encoding.md

The network stands at 64x64 pixels and half its width, so that two cores train it in a quarter of an hour; the cut is that of
`benchmarks/serving.py`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

import keras_privpart as kp
from keras_privpart import datasets

CUT, SIDE, CLASSES, BATCH = "block_6_project_BN", 64, 10, 64
FORMS = ("saved_model", "litert", "litert-int8")
CALIBRATION = 256
GOAL = 0.5  # points of accuracy that int8 may cost


def network() -> keras.Model:
    """MobileNetV2 of half the width for CIFAR-10; pixels in [0, 1]."""
    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 3), name="image")
    scaled = keras.layers.Rescaling(2.0, offset=-1.0)(image)
    base = keras.applications.MobileNetV2(weights=None, include_top=False, pooling="avg", alpha=0.5, input_tensor=scaled)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # the network's own 0.999 needs more steps than are taken here
    return keras.Model(image, keras.layers.Dense(CLASSES, name="scores")(base.output), name="mobilenet")


def trained(data: Any, examples: int, epochs: int) -> keras.Model:
    """Trained by plain `fit`, mirrored pictures as well."""
    model, train = network(), data.train[:examples]
    steps = epochs * (examples // BATCH)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=2e-3, warmup_steps=steps // 10)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    mirror = keras.layers.RandomFlip("horizontal", seed=0)
    stream = datasets.batches(train, BATCH, seed=0).map(lambda x, y: (mirror(x, training=True), y))
    model.fit(stream, epochs=epochs, shuffle=False, verbose=2)
    return model


def rows(model: keras.Model, data: Any) -> list[dict[str, Any]]:
    """One row an encoding and form, as `export` measures them; first the halves in memory."""
    parts, found = kp.partition(model, at=CUT), []
    with tempfile.TemporaryDirectory() as folder:
        for encoding in ("none", "float16", "int8"):
            bundle = kp.export(
                parts, Path(folder, encoding), encoding=encoding, formats=FORMS, sample=data.train.x[:CALIBRATION], test=data.test
            )
            reference, *forms = bundle.contract.measurements
            found += [*([] if found else [{**reference, "encoding": ""}]), *({**row, "encoding": encoding} for row in forms)]
    return found


def table(measured: list[dict[str, Any]], command: str, options: argparse.Namespace) -> str:
    best = measured[0]["accuracy"]
    cost = max(100 * (best - row["accuracy"]) for row in measured if row["encoding"] == "int8")
    lines = [
        "# Accuracy of encoded boundaries",
        "",
        f"Made by `{command}`. MobileNetV2 (width 0.5, {SIDE}x{SIDE}), trained on {options.examples:,} pictures of CIFAR-10 for",
        f"{options.epochs} epochs, cut at {CUT}. Accuracy of the {measured[0]['examples']:,} test pictures by the exported halves;",
        f"int8 is calibrated by {CALIBRATION} training pictures. One trained model; nothing here is about privacy.",
        "",
        f"int8 on the wire costs at most {cost:.2f} points of accuracy over all forms (goal: at most {GOAL}).",
        "",
        "| device half | encoding | bytes per example | relative error | accuracy | drop, points |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in measured:
        drop = 100 * (best - row["accuracy"])
        error = "" if row["relative_error"] is None else f"{row['relative_error']:.4f}"
        lines.append(f"| {row['form']} | {row['encoding']} | {row['boundary_bytes']:,} | {error} | {row['accuracy']:.2%} | {drop:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="Folder of prepared tensorflow-datasets.")
    parser.add_argument("--examples", type=int, default=10_000, help="Training pictures.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--output", type=Path, help="File to write the table to.")
    options = parser.parse_args()
    data = datasets.load("cifar10", image_size=SIDE, data_dir=options.data_dir, download=options.data_dir is None)
    measured = rows(trained(data, options.examples, options.epochs), data)
    text = table(measured, f"python benchmarks/encoding.py --examples {options.examples} --epochs {options.epochs}", options)
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
