"""The whole chain in Python, on scikit-learn's digits; a few minutes. `python examples/quickstart.py [OUT]`"""

import sys
from pathlib import Path

import keras

import keras_privpart as kp
from keras_privpart import datasets
from keras_privpart.cli.commands.demo import model  # any functional or Sequential Keras model will do
from keras_privpart.serving import Client, LocalServer


def main(out: Path, epochs: int = 40, seeds: int = 3) -> None:
    data = datasets.load("digits")
    train, test = datasets.batches(data.train, 64, seed=0), datasets.batches(data.test, 256)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    undefended = kp.partition(model())  # the advisor's choice, or at="narrow"
    undefended.model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    undefended.model.fit(train, epochs=epochs, shuffle=False, verbose=2)

    trainer = kp.AdversarialTrainer(
        kp.partition(model()), adversaries=[kp.ReconstructionAdversary(weight=0.5)], channel=kp.GaussianChannel(stddev=0.5)
    )
    trainer.compile(optimizer="adam", adversary_optimizer="adam", loss=loss, metrics=["accuracy"])
    trainer.fit(train, epochs=epochs, validation_data=test, shuffle=False, verbose=2)

    report = kp.audit(trainer.partition, data.train, data.test, reference=undefended, seeds=seeds)
    print(report.summary())

    bundle = kp.export(trainer.partition, out / "digits", audit=report)
    with LocalServer(bundle.path) as server, Client(bundle.path, server.address) as client:
        scores = client.predict(data.test.x)  # the device half runs here; only the boundary is sent
    print(f"accuracy over gRPC: {(scores.argmax(axis=-1) == data.test.targets['task']).mean():.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "saved_models"))
