"""Memory of training, and of all that `protect` does, on a set that is larger than the memory allowed for it.

    python benchmarks/memory.py

The pictures are made while they are read, so that nothing but the program decides what is held; every step runs in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

RESULTS = Path(__file__).parent / "results"
SIDE, CLASSES, BATCH, LIMIT = 128, 4, 64, 1_000
PICTURE = SIDE * SIDE * 3  # bytes
ALLOWED = 2 << 30  # bytes beside what the program itself takes
STEPS = ("start", "train", "protect")
WORDS = {
    "start": "TensorFlow, and a partition",
    "train": "one epoch of `AdversarialTrainer.fit` with an adversary that reads an attribute",
    "protect": f"`protect(..., limit={LIMIT})`: draws, one epoch over all, the audit of the draws, and the search for them in all",
}


def pictures(count: int, seed: int) -> Any:
    """A stream of batches of pictures, bars at a place that the class decides, over noise, which is darker where the attribute is 1."""
    import numpy as np
    import tensorflow as tf

    def batches() -> Any:
        for first in range(0, count, BATCH):
            rng = np.random.default_rng((seed, first))
            task = rng.integers(CLASSES, size=min(BATCH, count - first))
            dark = rng.integers(2, size=len(task), dtype="uint8")
            x = rng.integers(200, size=(len(task), SIDE, SIDE, 3), dtype="uint8")
            for row, place, shade in zip(x, task * SIDE // CLASSES, dark, strict=True):
                row >>= shade
                row[:, place : place + SIDE // CLASSES] += 55
            yield x, {"task": task, "dark": dark}

    labels = tf.TensorSpec((None,), tf.int64)
    shapes = (tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8), {"task": labels, "dark": tf.TensorSpec((None,), tf.uint8)})
    return tf.data.Dataset.from_generator(batches, output_signature=shapes)


def model() -> Any:
    import keras
    from keras import layers

    image = keras.Input((SIDE, SIDE, 3), dtype="uint8")
    x = layers.Conv2D(8, 5, strides=8, activation="relu", name="cut")(layers.Rescaling(1 / 255)(image))
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(x))))


def step(name: str, count: int) -> int:
    """Does one thing; its peak memory in bytes."""
    import keras

    import keras_privpart as kp

    parts = kp.partition(model(), at="cut")
    train, test = pictures(count, 0), pictures(count // 10, 1)
    if name == "train":
        trainer = kp.AdversarialTrainer(parts, [kp.AttributeAdversary("dark")])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trainer.compile(optimizer="adam", adversary_optimizer="adam", loss=loss)
        trainer.fit(train, epochs=1, shuffle=False, verbose=0)
    elif name == "protect":
        effort = {"attacks": ("linear probe, dark", "linkage, same class"), "seeds": 1, "looks": (1,), "bound": False, "attack_epochs": 5}
        kp.protect(parts.model, train, test, ["dark"], at="cut", trained=True, epochs=1, limit=LIMIT, **effort)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def measured(name: str, count: int) -> tuple[int, float]:
    """Peak memory and seconds of a step in a process of its own."""
    start = time.monotonic()
    command = [sys.executable, __file__, "--step", name, "--count", str(count)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
    return int(found), time.monotonic() - start


def table(count: int, found: dict[str, tuple[int, float]]) -> str:
    total, base = count * PICTURE, found["start"][0]
    head = (
        f"# Memory\n\nMade by `python benchmarks/memory.py` ({platform.machine()}, {os.cpu_count()} CPU cores). {count:,} pictures of "
        f"{SIDE}x{SIDE}x3 bytes, {total / 2**30:.2f} GB as the stream gives them and {total / 2**28:.0f} GB as float32; "
        f"allowed: {ALLOWED / 2**30:.0f} GB beside the program itself.\n\n"
        "| what | peak memory, GB | beside the program, GB | of the set as bytes | seconds |\n|---|---|---|---|---|\n"
    )
    rows = (
        f"| {WORDS[name]} | {peak / 2**30:.2f} | {(peak - base) / 2**30:.2f} | {100 * (peak - base) / total:.0f} % | {seconds:.0f} |"
        for name, (peak, seconds) in found.items()
    )
    return head + "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=9 * ALLOWED // 8 // PICTURE, help="How many pictures.")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(step(options.step, options.count))
        return
    found = {name: measured(name, options.count) for name in STEPS}
    text = table(options.count, found)
    print(text)
    over = [name for name, (peak, _) in found.items() if peak - found["start"][0] > ALLOWED]
    if over:
        raise SystemExit(f"Over the limit: {', '.join(over)}.")
    (RESULTS / "memory.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
