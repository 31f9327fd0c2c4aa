"""A tiny model with dropout, batch normalisation and weight decay, a tiny data set, and quick ways to train one on the other."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp


class Tiny:
    """Three classes of 48 images 8x8, a private attribute of two classes and one that is a number."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.x = rng.uniform(size=(48, 8, 8, 1)).astype("float32")
        self.y = rng.integers(0, 3, 48)
        brightness = self.x.mean(axis=(1, 2, 3))
        self.targets = {
            "task": self.y,
            "Male": (brightness > 0.5).astype("int32"),
            "age": ((brightness - brightness.mean()) / brightness.std()).astype("float32"),
        }

    def model(self, seed=0):
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((8, 8, 1), name="image")
        x = layers.Conv2D(4, 3, padding="same", use_bias=False, kernel_regularizer="l2", name="conv")(inputs)
        x = layers.BatchNormalization(name="norm")(x)
        x = layers.ReLU(name="relu")(x)
        x = layers.Dropout(0.2, seed=1, name="dropout")(x)
        x = layers.Conv2D(2, 3, strides=2, activation="relu", name="narrow")(x)
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dropout(0.3, seed=2, name="dropout_2")(x)
        return keras.Model(inputs, layers.Dense(3, kernel_regularizer="l2", name="scores")(x), name="tiny")

    def plain_model(self):
        """Without dropout, whose draws differ between eager, compiled and half-precision execution."""
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 1), name="image")
        x = layers.Conv2D(2, 3, strides=2, activation="tanh", name="narrow")(inputs)
        return keras.Model(inputs, layers.Dense(3, dtype="float32", name="scores")(layers.Flatten()(x)))

    def data(self, batch_size=16, targets=None):
        return tf.data.Dataset.from_tensor_slices((self.x, self.targets if targets is None else targets)).batch(batch_size)

    def compiled(self, model, **kwargs):
        kwargs = {"optimizer": keras.optimizers.Adam(1e-2), "metrics": ["accuracy"], **kwargs}
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), **kwargs)
        return model

    def trainer(self, adversaries=(), channel=None, *, compile=None, model=None, **kwargs):
        trainer = kp.AdversarialTrainer(kp.partition(model or self.model(), at="narrow"), adversaries, channel, **kwargs)
        return self.compiled(trainer, **(compile or {}))

    def fit(self, model, epochs=1, data=None, **kwargs):
        return model.fit(self.data() if data is None else data, epochs=epochs, shuffle=False, verbose=0, **kwargs).history


@pytest.fixture(scope="session")
def tiny():
    return Tiny()


@pytest.fixture(scope="session")
def same():
    """Whether two lists of weights are equal, bit for bit."""
    return lambda a, b: all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
