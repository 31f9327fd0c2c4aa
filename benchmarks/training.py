"""Speed and memory of adversarial training against plain multi-headed training written by hand.

    python benchmarks/training.py --output benchmarks/results/training.md

All variants run in one process on the same batch, in turns of a few steps, so that whatever else the machine does hits all alike; the ratio
is that of the medians. Peak memory is that of a process of its own for each variant.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

BATCH, SIDE, CLASSES = 128, 32, 10
LOOP = 4  # the loops make that many times the steps of a turn: an epoch has its own costs

# Row: what is measured, what it is measured against, the most that the ratio may be, where there is a limit.
COMPARISONS = (
    ("fused step, one adversary", "two-headed step by hand", 1.05),
    ("fused step, three adversaries", "four-headed step by hand", 1.15),
    ("fit, one adversary", "bare loop over the same step", 1.05),
    ("recipe bits", "recipe bottleneck-and-noise", 2.0),
    ("recipe reconstruction", "recipe bottleneck-and-noise", None),
)
# For orientation, against the plain step of the whole model: no limits.
DEARER = ("plain step by hand", "fused step, one adversary", "goal of its own (PullToMean)", "alternating", "extra steps=2", "pool of two")


def model() -> Any:
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D()(layers.BatchNormalization()(x))
    x = layers.Conv2D(48, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(name="boundary")(layers.BatchNormalization()(x))
    x = layers.Conv2D(96, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    return keras.Model(image, layers.Dense(CLASSES)(layers.Dense(128, activation="relu")(x)))


def adversaries(count: int, **kwargs: Any) -> list[Any]:
    import keras_privpart as kp

    all_three = [
        kp.ReconstructionAdversary(weight=1.0, **kwargs),
        kp.AttributeAdversary("a", weight=1.0, kind="mlp"),
        kp.AttributeAdversary("b", weight=1.0, kind="conv"),
    ]
    return all_three[:count]


def batch() -> tuple[Any, dict[str, Any]]:
    import numpy as np

    rng = np.random.default_rng(0)
    targets = {"task": rng.integers(0, CLASSES, BATCH), "a": rng.integers(0, 2, BATCH), "b": rng.integers(0, 2, BATCH)}
    return rng.uniform(size=(BATCH, SIDE, SIDE, 3)).astype("float32"), targets


def trainer(count: int, mode: str = "fused", pool: int = 0, **kwargs: Any) -> Any:
    import keras_privpart as kp

    return compiled(kp.AdversarialTrainer(kp.partition(model(), at="boundary"), adversaries(count, **kwargs), pool=pool), mode)


def trainer_of(recipe: str) -> Any:
    """The trainer of a recipe by name, with its own bottleneck."""
    import keras_privpart as kp

    defence = kp.recipes.named(recipe, {"task": CLASSES})
    narrow = {"bottleneck_activation": defence.bottleneck_activation, "expand": defence.expand}
    parts = kp.partition(model(), at="boundary", bottleneck=defence.bottleneck, bottleneck_over="example", **narrow)
    trained = kp.AdversarialTrainer(parts, defence.adversaries, defence.channel, regularizers=defence.regularizers)
    return compiled(trained, defence.mode)


def compiled(built: Any, mode: str) -> Any:
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    built.compile(optimizer="adam", adversary_optimizer="adam", loss=loss, metrics=["accuracy"], mode=mode, jit_compile=False)
    return built


def fused(count: int, **kwargs: Any) -> Callable[[], Any]:
    return stepping(trainer(count, **kwargs))


def stepping(it: Any) -> Callable[[], Any]:
    """One step of a trainer at each call."""
    import tensorflow as tf

    x, targets = batch()
    step = tf.function(lambda x, y: it.train_step((x, y)))
    x, targets = tf.constant(x), {key: tf.constant(value) for key, value in targets.items()}
    return lambda: step(x, targets)


def by_hand(count: int) -> Callable[[], Any]:
    """The same nets as heads of one model, their losses added up, one optimizer: what one would write without this library."""
    import keras
    import tensorflow as tf

    import keras_privpart as kp

    parts, heads = kp.partition(model(), at="boundary"), adversaries(count)
    shape = tuple(parts.boundary.tensors[0].shape[1:])
    networks = [head.build([shape], (SIDE, SIDE, 3)) for head in heads]
    variables = [v for m in (parts.device, parts.server, *networks) for v in m.trainable_variables]
    optimizer = keras.optimizers.Adam()
    optimizer.build(variables)
    task_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    accuracy, means = keras.metrics.SparseCategoricalAccuracy(), [keras.metrics.Mean() for _ in range(1 + len(heads))]

    @tf.function
    def step(x: Any, y: dict[str, Any]) -> Any:
        with tf.GradientTape() as tape:
            z = parts.device(x, training=True)
            scores = parts.server(z, training=True)
            losses = [task_loss(y["task"], scores)]
            for head, network in zip(heads, networks, strict=True):
                losses.append(tf.reduce_mean(head.error(head.target(x, y), network(z, training=True))))
            total = tf.add_n(losses)
        optimizer.apply_gradients(zip(tape.gradient(total, variables), variables, strict=True))
        for mean, loss in zip(means, losses, strict=True):
            mean.update_state(loss)
        accuracy.update_state(y["task"], scores)
        return [accuracy.result(), *(mean.result() for mean in means)]

    x, targets = batch()
    x, targets = tf.constant(x), {key: tf.constant(value) for key, value in targets.items()}
    return lambda: step(x, targets)


def dataset(steps: int) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(batch()).cache().repeat(steps).prefetch(2)


def fit_or_loop(steps: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """`fit` of the trainer, and a loop over its step without Keras around it; one call makes `steps` steps."""
    import tensorflow as tf

    one, other, data = trainer(1), trainer(1), dataset(steps)
    step = tf.function(lambda x, y: other.train_step((x, y)))

    def loop() -> None:
        other.reset_metrics()
        for x, y in data:
            logs = step(x, y)
        print({key: float(value) for key, value in logs.items()}, file=open(os.devnull, "w"))  # noqa: SIM115 - fit reads its logs as well

    return lambda: one.fit(data, verbose=0, shuffle=False), loop


def variants(steps: int) -> dict[str, Callable[[], Callable[[], Any]]]:
    """How to set up each variant; what comes back makes one step (or, for the loops, `steps` steps)."""
    from keras_privpart.training.privacy_terms.goals import PullToMean

    return {
        "plain step by hand": lambda: by_hand(0),
        "two-headed step by hand": lambda: by_hand(1),
        "fused step, one adversary": lambda: fused(1),
        "four-headed step by hand": lambda: by_hand(3),
        "fused step, three adversaries": lambda: fused(3),
        "fit, one adversary": lambda: fit_or_loop(steps)[0],
        "bare loop over the same step": lambda: fit_or_loop(steps)[1],
        "goal of its own (PullToMean)": lambda: fused(1, goal=PullToMean()),
        "alternating": lambda: fused(1, mode="alternating"),
        "extra steps=2": lambda: fused(1, steps=2),
        "pool of two": lambda: fused(1, pool=2),
        "recipe bits": lambda: stepping(trainer_of("bits")),
        "recipe bottleneck-and-noise": lambda: stepping(trainer_of("bottleneck-and-noise")),
        "recipe reconstruction": lambda: stepping(trainer_of("reconstruction")),
    }


@dataclass(frozen=True)
class Times:
    """Milliseconds per step of one variant, a value per turn: on the clock, and of processor time over all threads."""

    clock: list[float]
    processor: list[float]


def measure(rounds: int, steps: int) -> dict[str, Times]:
    run = {name: make() for name, make in variants(LOOP * steps).items()}
    times = {name: Times([], []) for name in run}
    for turn in range(rounds + 1):
        for name, go in run.items():
            loops = name.startswith(("fit", "bare"))
            clock, processor = time.perf_counter(), time.process_time()
            for _ in range(1 if loops else steps):
                go()
            made = LOOP * steps if loops else steps
            if turn:  # the first traces
                times[name].clock.append((time.perf_counter() - clock) / made * 1000)
                times[name].processor.append((time.process_time() - processor) / made * 1000)
    return times


def ratio(mine: list[float], other: list[float]) -> float:
    """Median over the turns: a turn's two values were measured one after the other."""
    return statistics.median(a / b for a, b in zip(mine, other, strict=True))


def peak_memory(name: str, steps: int) -> int:
    """Peak resident memory in bytes of a process that runs one variant."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import training; training.report_memory({name!r}, {steps})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def report_memory(name: str, steps: int) -> None:
    go = variants(steps)[name]()
    for _ in range(steps):
        go()
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def table(times: dict[str, Times], memory: dict[str, int], command: str) -> str:
    import keras
    import tensorflow as tf

    lines = [
        "# Speed of adversarial training",
        "",
        f"Made by `{command}`. TensorFlow {tf.__version__}, Keras {keras.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} CPU cores, batch {BATCH} of {SIDE}x{SIDE}x3, float32, no XLA.",
        "Adversaries: a small decoder, an MLP head, a convolutional head; both sides run the same networks. A ratio is the median over "
        f"{len(times[DEARER[0]].clock)} turns, on the clock and of processor time.",
        "",
        "| measured | ms per step | against | ms per step | ratio | processor ratio | at most | memory ratio |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for name, other, most in COMPARISONS:
        mine, theirs = times[name], times[other]
        share = f"{memory[name] / memory[other]:.2f}" if name in memory and other in memory else "not measured"
        clocks = f"{name} | {statistics.median(mine.clock):.1f} | {other} | {statistics.median(theirs.clock):.1f}"
        ratios = f"{ratio(mine.clock, theirs.clock):.3f} | {ratio(mine.processor, theirs.processor):.3f}"
        lines.append(f"| {clocks} | {ratios} | {'' if most is None else f'{most:.2f}'} | {share} |")
    lines += ["", "What the other modes cost, against the plain step of the whole model:", ""]
    lines += ["| mode | ms per step | ratio | processor ratio |", "|---|---:|---:|---:|"]
    base = times[DEARER[0]]
    for name in DEARER:
        mine = times[name]
        ratios = f"{ratio(mine.clock, base.clock):.2f} | {ratio(mine.processor, base.processor):.2f}"
        lines.append(f"| {name} | {statistics.median(mine.clock):.1f} | {ratios} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="Turns of each variant.")
    parser.add_argument("--steps", type=int, default=8, help="Steps a turn.")
    parser.add_argument("--no-memory", action="store_true", help="Leave out peak memory.")
    parser.add_argument("--output", type=Path, help="File to write the table to.")
    options = parser.parse_args()
    times = measure(options.rounds, options.steps)
    names = [] if options.no_memory else [n for name, other, _ in COMPARISONS[:2] for n in (name, other)]
    memory = {name: peak_memory(name, 10) for name in names}
    command = f"python benchmarks/training.py --rounds {options.rounds} --steps {options.steps}"
    text = table(times, memory, command + " --no-memory" * options.no_memory)
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
