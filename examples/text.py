"""Text: a small Transformer reads messages, token by token; what crosses should not give them back. `python examples/text.py [OUT]`

The messages are made: 12 words of a topic, which is the task, and of a dialect, which is nobody's business.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_privpart as kp
from keras_privpart.datasets import Samples
from keras_privpart.serving import Client, LocalServer

WORDS, LENGTH, TOPICS = 120, 12, 3


def messages(count: int, seed: int = 0) -> Samples:
    """Words 1-60 belong to a topic each, 61-119 half to either dialect; a message has six of each, in any order."""
    rng = np.random.default_rng(seed)
    topic, dialect = rng.integers(0, TOPICS, count), rng.integers(0, 2, count)
    about = 1 + TOPICS * rng.integers(0, 20, (count, LENGTH // 2)) + topic[:, None]
    spoken = 61 + 2 * rng.integers(0, 29, (count, LENGTH // 2)) + dialect[:, None]
    return Samples(rng.permuted(np.concatenate([about, spoken], axis=1), axis=1).astype("int32"), {"task": topic, "dialect": dialect})


def model(width: int = 16) -> keras.Model:
    """Two Transformer blocks. The device runs the first; what crosses is `narrow`, four numbers a word."""
    tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
    place = layers.Embedding(LENGTH, width, name="places")(keras.ops.arange(LENGTH))
    x = layers.Embedding(WORDS, width, name="words")(tokens) + place[None]
    x = block(x, width, "first")
    x = layers.Dense(width, name="wide")(layers.Dense(4, name="narrow")(x))
    x = layers.GlobalAveragePooling1D()(block(x, width, "second"))
    return keras.Model(tokens, layers.Dense(TOPICS, name="topic")(x), name="messages")


def block(x, width: int, name: str):
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, width // 2, name=name)(x, x))
    return layers.LayerNormalization()(x + layers.Dense(width)(layers.Dense(2 * width, activation="relu")(x)))


def main(out: Path, count: int = 4000, train_epochs: int = 20, seeds: int = 3, **attackers) -> kp.AuditReport:
    data = messages(count)
    train, test = data[: 3 * count // 4], data[3 * count // 4 :]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    keras.utils.set_random_seed(0)

    undefended = kp.partition(model(), at="narrow")
    undefended.model.compile(optimizer="adam", loss=loss)
    undefended.model.fit(train.x, train.targets["task"], epochs=train_epochs, verbose=0)

    adversaries = [kp.ReconstructionAdversary(weight=1.0), kp.AttributeAdversary("dialect", weight=1.0)]
    trainer = kp.AdversarialTrainer(kp.partition(model(), at="narrow"), adversaries, kp.GaussianChannel(stddev=0.5))
    trainer.compile(optimizer="adam", loss=loss)
    trainer.fit(train.x, dict(train.targets), epochs=train_epochs, verbose=0)

    report = kp.audit(trainer.partition, train, test, ["dialect"], undefended, seeds, **attackers)
    print(report.summary())  # how many tokens are named at their place, beside who guesses the commonest
    bundle = kp.export(trainer.partition, out / "messages", audit=report)
    with LocalServer(bundle.path) as server, Client(bundle.path, server.address) as client:
        topics = client.predict(test.x[:100]).argmax(axis=-1)
    print(f"accuracy over gRPC: {(topics == test.targets['task'][:100]).mean():.3f}")
    return report


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "saved_models"))
