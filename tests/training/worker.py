"""Run by `test_workers.py`: one worker of two (by `TF_CONFIG`), or a single process; writes the weights it ends with.

With a third argument it waits for ever in its third epoch, once it has said so.
"""

import json
import os
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_privpart as kp

FOLDER, BACKUP = Path(sys.argv[1]), Path(sys.argv[2])


class Wait(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            (FOLDER / "third").touch()
            time.sleep(600)


def network(units, activation, shape):
    z = keras.Input((2, 2, 2))
    return keras.Model(z, layers.Reshape(shape)(layers.Dense(units, activation=activation)(layers.Flatten()(z))))


def trainer():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    z = layers.Conv2D(2, 3, strides=2, activation="tanh", name="z")(inputs)
    model = keras.Model(inputs, layers.Dense(3, kernel_regularizer="l2")(layers.Flatten()(z)))
    # Networks without normalisation, whose shared statistics are computed in another way, and differ in the sixth digit.
    adversaries = [
        kp.ReconstructionAdversary(
            weight=2.0, network=network(36, "sigmoid", (6, 6, 1)), optimizer=keras.optimizers.SGD(0.1, momentum=0.5)
        ),
        kp.AttributeAdversary("Male", weight=2.0, network=network(2, None, (2,)), steps=1),
    ]
    built = kp.AdversarialTrainer(kp.partition(model, at="z"), adversaries)
    built.compile(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
        adversary_optimizer=keras.optimizers.SGD(0.1),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return built


def main():
    # Before anything else of TensorFlow.
    strategy = tf.distribute.MultiWorkerMirroredStrategy() if "TF_CONFIG" in os.environ else None
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(32, 6, 6, 1)).astype("float32")
    targets = {"task": rng.integers(0, 3, 32), "Male": rng.integers(0, 2, 32)}
    data = tf.data.Dataset.from_tensor_slices((x, targets)).batch(16, drop_remainder=True)
    if strategy is not None:
        with strategy.scope():
            it = trainer()
        index = strategy.cluster_resolver.task_id
    else:
        it, index = trainer(), 0
    callbacks = [keras.callbacks.BackupAndRestore(BACKUP / str(index), delete_checkpoint=False)]
    if len(sys.argv) > 3:
        callbacks.append(Wait())
    logs = it.fit(data, epochs=4, validation_data=data, callbacks=callbacks, verbose=0).history
    np.savez(FOLDER / f"weights_{index}.npz", *it.get_weights())
    (FOLDER / f"logs_{index}.json").write_text(json.dumps({k: [float(np.squeeze(v)) for v in values] for k, values in logs.items()}))


if __name__ == "__main__":
    main()
