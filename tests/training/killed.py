"""Run by `test_killed.py`: trains with a backup per epoch; with an argument, tells when the third epoch is half done and waits there."""

import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_privpart as kp

FOLDER = Path(sys.argv[1])


class Wait(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 1:
            (FOLDER / "half").touch()
            time.sleep(600)


def main():
    rng = np.random.default_rng(0)
    x, targets = rng.uniform(size=(32, 6)).astype("float32"), {"task": rng.integers(0, 3, 32), "Male": rng.integers(0, 2, 32)}
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    z = layers.BatchNormalization()(layers.Dense(4, name="z")(inputs))
    z = layers.Dropout(0.3, name="dropped")(z)
    model = keras.Model(inputs, layers.Dense(3)(z))
    adversary = kp.AttributeAdversary("Male", kind="mlp", steps=1)
    trainer = kp.AdversarialTrainer(kp.partition(model, at="dropped"), [adversary], kp.GaussianChannel(0.3))
    trainer.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callbacks = [keras.callbacks.BackupAndRestore(FOLDER / "backup", delete_checkpoint=False)]
    if len(sys.argv) > 2:
        callbacks.append(Wait())
    trainer.fit(tf.data.Dataset.from_tensor_slices((x, targets)).batch(8), epochs=4, callbacks=callbacks, verbose=0)
    np.savez(FOLDER / "weights.npz", *trainer.get_weights())


if __name__ == "__main__":
    main()
