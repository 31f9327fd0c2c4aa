"""Audio: a device hears a command and sends a few numbers; the sound should not come back from them. `python examples/audio.py [OUT]`

The sounds are made: a melody of two tones is the command (the task), the pitch of the voice is whoever speaks.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_privpart as kp
from keras_privpart.datasets import Samples
from keras_privpart.serving import Client, LocalServer

RATE, SAMPLES, COMMANDS = 2000, 512, 4


def commands(count: int, seed: int = 0) -> Samples:
    """A quarter of a second each: the second tone is higher or lower than the first by one of four steps; voices are low or high."""
    rng = np.random.default_rng(seed)
    command, high = rng.integers(0, COMMANDS, count), rng.integers(0, 2, count)
    first = np.where(high, 300, 180) * rng.uniform(0.95, 1.05, count)
    second = first * np.array([0.67, 0.8, 1.25, 1.5])[command]
    time = np.arange(SAMPLES) / RATE
    pitch = np.where(time < time[-1] / 2, first[:, None], second[:, None])
    sound = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch, axis=1) / RATE + rng.uniform(0, 6.28, (count, 1)))
    return Samples((sound + rng.normal(0, 0.02, sound.shape)).astype("float32"), {"task": command, "high": high})


def model() -> keras.Model:
    """Strided convolutions; what crosses is `narrow`, four channels at 32 moments."""
    sound = keras.Input((SAMPLES,), name="sound")
    x = layers.Reshape((SAMPLES, 1))(sound)
    for filters in (16, 32):
        x = layers.Conv1D(filters, 9, strides=4, padding="same", activation="relu")(x)
    x = layers.Conv1D(32, 5, padding="same", activation="relu", name="wide")(layers.Conv1D(4, 1, name="narrow")(x))
    x = layers.Dense(32, activation="relu")(layers.Flatten()(x))
    return keras.Model(sound, layers.Dense(COMMANDS, name="command")(x), name="commands")


def main(out: Path, count: int = 4000, train_epochs: int = 20, seeds: int = 3, **attackers) -> kp.AuditReport:
    data = commands(count)
    train, test = data[: 3 * count // 4], data[3 * count // 4 :]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    keras.utils.set_random_seed(0)

    undefended = kp.partition(model(), at="narrow")
    undefended.model.compile(optimizer="adam", loss=loss)
    undefended.model.fit(train.x, train.targets["task"], epochs=train_epochs, verbose=0)

    adversaries = [kp.ReconstructionAdversary(weight=1.0), kp.AttributeAdversary("high", weight=0.5)]
    trainer = kp.AdversarialTrainer(kp.partition(model(), at="narrow"), adversaries, kp.GaussianChannel(stddev=0.5))
    trainer.compile(optimizer="adam", loss=loss)
    trainer.fit(train.x, dict(train.targets), epochs=train_epochs, verbose=0)

    report = kp.audit(trainer.partition, train, test, ["high"], undefended, seeds, **attackers)
    print(report.summary())  # signal-to-noise ratio of the best reconstruction, and how far its spectrum is off
    bundle = kp.export(trainer.partition, out / "commands", audit=report, formats=["saved_model", "litert"])
    with LocalServer(bundle.path) as server, Client(bundle.path, server.address) as client:
        named = client.predict(test.x[:100]).argmax(axis=-1)
    print(f"accuracy over gRPC: {(named == test.targets['task'][:100]).mean():.3f}")
    return report


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "saved_models"))
