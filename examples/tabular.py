"""A table of several inputs: numbers, a category, and a history; each is audited by itself. `python examples/tabular.py [OUT]`

The people are made: whether one pays back (the task) hangs on income, debts and history; where they live is private.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_privpart as kp
from keras_privpart.datasets import Samples
from keras_privpart.serving import Client, LocalServer

DISTRICTS, MONTHS = 6, 12


def people(count: int, seed: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    district = rng.integers(0, DISTRICTS, count)
    income = rng.lognormal(10.3, 0.3, count) * (1 + 0.1 * district)
    debts = rng.gamma(2.0, 4000.0, count)
    history = rng.normal(income[:, None] / 12, 400, (count, MONTHS))
    pays = history[:, -3:].mean(axis=1) * 12 - 1.5 * debts + rng.normal(0, 4000, count) > 18_000
    x = {
        "numbers": np.stack([income, debts, rng.uniform(18, 90, count)], axis=1).astype("float32"),
        "district": district[:, None].astype("int32"),
        "history": history.astype("float32"),
    }
    return Samples.of((x, {"task": pays.astype(int), "uphill": (district > 2).astype(int)}))


def model(examples: Samples) -> keras.Model:
    """The device half joins all three inputs; what crosses is `narrow`, eight numbers."""
    inputs, parts = {}, []
    for name in ("numbers", "history"):
        scaling = layers.Normalization(name=f"{name}_scaled")
        scaling.adapt(examples.x.arrays[name])
        inputs[name] = keras.Input(examples.x.arrays[name].shape[1:], name=name)
        parts.append(scaling(inputs[name]))
    inputs["district"] = keras.Input((1,), dtype="int32", name="district")
    parts.append(layers.Flatten()(layers.Embedding(DISTRICTS, 3, name="districts")(inputs["district"])))
    x = layers.Dense(32, activation="relu")(layers.Concatenate()(parts))
    x = layers.Dense(32, activation="relu", name="wide")(layers.Dense(8, name="narrow")(x))
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="pays")(x), name="credit")


def main(out: Path, count: int = 4000, train_epochs: int = 20, seeds: int = 3, **attackers) -> kp.AuditReport:
    data = people(count)
    train, test = data[: 3 * count // 4], data[3 * count // 4 :]
    keras.utils.set_random_seed(0)

    undefended = kp.partition(model(train), at="narrow")
    undefended.model.compile(optimizer="adam", loss="binary_crossentropy")
    undefended.model.fit(train.x.arrays, train.targets["task"], epochs=train_epochs, verbose=0)

    adversaries = [kp.ReconstructionAdversary(weight=1.0), kp.AttributeAdversary("uphill", weight=0.5)]
    trainer = kp.AdversarialTrainer(kp.partition(model(train), at="narrow"), adversaries, kp.GaussianChannel(stddev=0.5))
    trainer.compile(optimizer="adam", loss="binary_crossentropy")
    trainer.fit(train.x.arrays, dict(train.targets), epochs=train_epochs, verbose=0)

    report = kp.audit(trainer.partition, train, test, ["uphill"], undefended, seeds, **attackers)
    print(report.summary())  # what is recovered of each column, input by input
    bundle = kp.export(trainer.partition, out / "credit", audit=report)
    with LocalServer(bundle.path) as server, Client(bundle.path, server.address) as client:
        pays = client.predict(test.x[:100].arrays)[:, 0] > 0.5
    print(f"accuracy over gRPC: {(pays == test.targets['task'][:100]).mean():.3f}")
    return report


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "saved_models"))
