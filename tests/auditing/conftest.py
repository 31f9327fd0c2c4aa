"""Real digits, and partitions of known leakage: their device halves are made by hand, so that nothing needs training."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_privpart.datasets import Samples
from keras_privpart.partitioning.partition import partition


@pytest.fixture(scope="session")
def digits():
    """Training and test digits `[n, 8, 8, 1]`, with the digit as the task and its parity as the private attribute."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x, y = (data.images[order, ..., None] / 16).astype("float32"), data.target[order]
    whole = Samples(x, {"task": y, "odd": y % 2})
    return whole[:500], whole[500:650]


def cut_behind(boundary_layer):
    """A model that classifies digits from what `boundary_layer` lets through, cut right behind it."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    z = boundary_layer(image)
    scores = keras.layers.Dense(2, name="scores")(keras.layers.Flatten()(z))
    return partition(keras.Model(image, scores), boundary_layer.name)


@pytest.fixture(scope="session")
def open_window():
    """z is the input."""
    return cut_behind(keras.layers.Rescaling(1.0, name="z"))


@pytest.fixture(scope="session")
def brick_wall():
    """z is the same for every input."""
    return cut_behind(keras.layers.Rescaling(0.0, offset=0.7, name="z"))


@pytest.fixture(scope="session")
def planted():
    """z is eight channels of nothing and one that carries the image, small and shifted."""
    layer = keras.layers.Conv2D(9, 1, name="z")
    parts = cut_behind(layer)
    kernel, bias = np.zeros((1, 1, 1, 9), "float32"), np.linspace(-3, 3, 9).astype("float32")
    kernel[..., 4] = 0.01
    layer.set_weights([kernel, bias])
    return parts
