"""Every kind of model goes all the way: cut, train against reconstruction and against an attribute, audit with utility, export, serve."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart.datasets import Samples
from keras_privpart.serving import Client, LocalServer

COUNT = 96
RNG = np.random.default_rng(0)
CLASSES = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def pictures(side=16, channels=1):
    return RNG.random((COUNT, side, side, channels), "float32")


def mobile_net():
    x = keras.Input((32, 32, 3), dtype="uint8", name="photo")
    scaled = layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32")(x)
    base = keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None)
    z = layers.Conv2D(4, 1, name="cut")(base(scaled))
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(z))), (255 * pictures(32, 3)).astype("uint8"), None, CLASSES


def float_cnn():
    x = keras.Input((16, 16, 1), name="picture")
    z = layers.Conv2D(3, 3, strides=2, name="cut")(x)
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(z))), pictures(), None, CLASSES


def words():
    return RNG.integers(1, 20, (COUNT, 6)).astype("int32")


def gru(unroll):
    def made():
        x = keras.Input((6,), dtype="int32", name="words")
        z = layers.GRU(8, unroll=unroll, return_sequences=True, name="cut")(layers.Embedding(20, 8)(x))
        return keras.Model(x, layers.Dense(2)(layers.Flatten()(z))), words(), None, CLASSES

    return made


def transformer():
    x = keras.Input((6,), dtype="int32", name="words")
    h = layers.Embedding(20, 8)(x)
    z = layers.Dense(4, name="cut")(layers.LayerNormalization()(h + layers.MultiHeadAttention(2, 4)(h, h)))
    return keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(z))), words(), None, CLASSES


def tabular():
    inputs = {"age": keras.Input((1,), name="age"), "numbers": keras.Input((4,), name="numbers")}
    inputs["town"] = keras.Input((1,), dtype="int32", name="town")
    town = layers.Flatten()(layers.Embedding(5, 3)(inputs["town"]))
    z = layers.Dense(6, name="cut")(layers.Concatenate()([inputs["age"], inputs["numbers"], town]))
    numbers = {"age": RNG.normal(size=(COUNT, 1)), "numbers": RNG.normal(size=(COUNT, 4))}
    x = {name: value.astype("float32") for name, value in numbers.items()}
    return keras.Model(inputs, layers.Dense(2)(z)), {**x, "town": RNG.integers(0, 5, (COUNT, 1)).astype("int32")}, None, CLASSES


def audio():
    x = keras.Input((256, 1), name="sound")
    z = layers.Conv1D(4, 8, strides=4, padding="same", name="cut")(x)
    sound = np.sin(np.arange(256) * RNG.uniform(0.1, 0.5, (COUNT, 1)))[..., None].astype("float32")
    return keras.Model(x, layers.Dense(2)(layers.GlobalAveragePooling1D()(z))), sound, None, CLASSES


def u_net():
    x = keras.Input((16, 16, 1), name="scan")
    skip = layers.Conv2D(2, 3, padding="same", activation="relu", name="skip")(x)
    deep = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="deep")(skip)
    wide = layers.Concatenate()([layers.UpSampling2D()(deep), skip])
    scans = pictures()
    return keras.Model(x, layers.Conv2D(2, 1)(wide)), scans, (scans[..., 0] > 0.5).astype("int32"), CLASSES


def regression():
    x = keras.Input((7,), name="measures")
    z = layers.Dense(3, activation="tanh", name="cut")(x)
    numbers = RNG.normal(size=(COUNT, 7)).astype("float32")
    return keras.Model(x, layers.Dense(1)(z)), numbers, numbers.sum(axis=1, keepdims=True), "mse"


def multi_label():
    x = keras.Input((16, 16, 1), name="picture")
    z = layers.Conv2D(3, 3, strides=2, name="cut")(x)
    model = keras.Model(x, layers.Dense(3, activation="sigmoid")(layers.Flatten()(z)))
    return model, pictures(), RNG.integers(0, 2, (COUNT, 3)).astype("float32"), "binary_crossentropy"


def multi_output():
    x = keras.Input((16, 16, 1), name="picture")
    z = layers.Flatten()(layers.Conv2D(3, 3, strides=2, name="cut")(x))
    outputs = {"kind": layers.Dense(3, name="kind")(z), "size": layers.Dense(1, name="size")(z)}
    labels = {"kind": np.arange(COUNT) % 3, "size": RNG.normal(size=(COUNT, 1)).astype("float32")}
    return keras.Model(x, outputs), pictures(), labels, {"kind": CLASSES, "size": "mse"}


ROWS = {
    "uint8 MobileNetV2 with Rescaling": (mobile_net, "cut", "accuracy", "ssim"),
    "float CNN": (float_cnn, "cut", "accuracy", "ssim"),
    "GRU text": (gru(unroll=True), "cut", "accuracy", "top_1"),
    "Transformer text": (transformer, "cut", "accuracy", "top_1"),
    "tabular with 3 inputs": (tabular, "cut", "accuracy", "recovered"),
    "audio 1-D": (audio, "cut", "accuracy", "snr"),
    "U-Net": (u_net, ["deep", "skip"], "mean IoU", "ssim"),
    "regression": (regression, "cut", "mean absolute error", "recovered"),
    "multi-label": (multi_label, "cut", "AUC, mean of labels", "ssim"),
    "multi-output": (multi_output, "cut", "accuracy of kind", "ssim"),
}


@pytest.mark.parametrize(("make", "at", "utility", "headline"), ROWS.values(), ids=ROWS)
def test_all_the_way(make, at, utility, headline, tmp_path):
    keras.utils.set_random_seed(0)
    model, x, task, loss = make()
    private = np.arange(COUNT) % 2
    task = private if task is None else task
    parts = kp.partition(model, at=at)  # cut
    parts.verify({name: value[:4] for name, value in x.items()} if isinstance(x, dict) else x[:4])

    adversaries = [kp.ReconstructionAdversary(0.1), kp.AttributeAdversary("odd", weight=0.1, kind="linear")]
    trainer = kp.AdversarialTrainer(parts, adversaries, kp.GaussianChannel(0.1))
    trainer.compile("adam", loss=loss)
    logs = trainer.fit(x, {"task": task, "odd": private}, batch_size=32, epochs=1, verbose=0).history
    assert all(np.isfinite(logs[f"{name}_recovered"]).all() for name in ("reconstruction", "odd"))

    data = Samples.of((x, {"task": task, "odd": private}))
    attacks = ["kernel posterior", "linear probe, odd"]
    options = {"reference": parts, "seeds": 1, "epochs": 1, "looks": (1,), "bound": False, "attacks": attacks, "pictures": 0}
    report = kp.audit(trainer.partition, data[:64], data[64:], ["odd"], **options)
    kinds = [kind for kind in report.kinds if kind.startswith("reconstruction")]
    assert len(kinds) == (3 if isinstance(x, dict) else 1)
    assert {report.strongest(kind).headline for kind in kinds} == {headline}
    assert "odd" in report.kinds
    assert (report.defended_accuracy is not None) == (utility == "accuracy")
    assert utility == "accuracy" or utility in report.utilities

    # Without the noise, which no two looks have in common, the trained halves answer as the model does.
    bundle = kp.export(parts, tmp_path / "bundle", formats=["saved_model", "litert"], max_batch_size=4)
    few = {name: value[:3] for name, value in x.items()} if isinstance(x, dict) else x[:3]
    want = [np.asarray(output) for output in keras.tree.flatten(model(few, training=False))]
    with LocalServer(bundle.path) as server:
        for form in ("saved_model", "litert"):
            with Client(bundle.path, server.address, device_format=form) as client:
                answers = client.predict(few)
                found = [answers[name] for name in model.output_names] if isinstance(answers, dict) else [answers]
                for answer, expected in zip(found, want, strict=True):
                    np.testing.assert_allclose(answer, expected, atol=1e-3, rtol=1e-2)
