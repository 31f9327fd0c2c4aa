"""Run by `test_replicas.py` in a process of its own: trains on one device and on two virtual ones, prints how far the weights are apart."""

import json

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart.channels import GaussianChannel
from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms import goals

tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(24, 6, 6, 1)).astype("float32")
TARGETS = {"task": RNG.integers(0, 3, 24), "Male": RNG.integers(0, 2, 24), "age": RNG.normal(size=24).astype("float32")}


ADVERSARIES = {
    "fused": lambda: [
        kp.ReconstructionAdversary(weight=2.0),
        kp.AttributeAdversary("Male", weight=2.0, kind="linear", steps=1, optimizer=keras.optimizers.SGD(0.1)),
        kp.AttributeAdversary("Male", weight=2.0, kind="linear", goal=goals.PredictPrior(), name="prior"),
    ],
    "alternating": lambda: [
        kp.ReconstructionAdversary(weight=2.0, goal=goals.PullToClassMean(3), network=own_decoder()),
        kp.AttributeAdversary("age", weight=2.0, kind="linear", attribute_type="continuous"),
    ],
}


def own_decoder():
    z = keras.Input((2, 2, 2))
    return keras.Model(z, layers.Reshape((6, 6, 1))(layers.Dense(36, activation="sigmoid")(layers.Flatten()(z))))


def trainer(mode, policy="float32"):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    inputs = keras.Input((6, 6, 1))
    z = layers.Conv2D(2, 3, strides=2, activation="tanh", kernel_regularizer="l2", name="z")(inputs)
    model = keras.Model(inputs, layers.Dense(3, dtype="float32", kernel_regularizer="l2")(layers.Flatten()(z)))
    # Without noise: replicas draw different noise, which is right and compares with nothing.
    trainer = kp.AdversarialTrainer(kp.partition(model, at="z"), ADVERSARIES[mode](), GaussianChannel(0.0), pool=int(mode == "alternating"))
    trainer.compile(
        optimizer=keras.optimizers.SGD(0.1),
        adversary_optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        mode=mode,
    )
    return trainer


def trained(mode, **kwargs):
    it = trainer(mode, **kwargs)
    it.restart_adversaries(1)
    logs = it.fit(tf.data.Dataset.from_tensor_slices((X, TARGETS)).batch(12), epochs=2, shuffle=False, verbose=0).history
    return it.get_weights(), logs


def main():
    found = {}
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for mode in ADVERSARIES:
        one, logs_one = trained(mode)
        with strategy.scope():
            two, logs_two = trained(mode)
        found[mode] = {
            "weights": float(max(np.abs(a - b).max() for a, b in zip(one, two, strict=True))),
            "logs": float(max(np.abs(np.subtract(logs_one[k], logs_two[k])).max() for k in logs_one)),
        }
    with strategy.scope():
        weights, _ = trained("alternating", policy="mixed_float16")
        found["mixed"] = all(bool(np.isfinite(w).all()) for w in weights)
        keras.config.set_dtype_policy("float32")
        try:
            trainer("fused").compile(loss="mse", steps_per_execution=2)
        except TrainingError as error:
            found["steps_per_execution"] = str(error)
        noise = GaussianChannel(1.0, normalize=False, seed=1)
        drawn = strategy.run(lambda: noise(tf.zeros([3, 4]), training=True))
        a, b = (np.asarray(v) for v in strategy.experimental_local_results(drawn))
        found["noise"] = float(np.abs(a - b).max())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
