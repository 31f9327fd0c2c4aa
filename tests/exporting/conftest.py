"""Small partitions to export."""

import keras
import numpy as np
import pytest

import keras_privpart as kp


def image_model(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    x = keras.Input((8, 8, 1), name="image")
    h = keras.layers.Conv2D(4, 3, activation="relu", name="stem")(x)
    h = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(3, 3, name="deep")(h))
    return keras.Model(x, keras.layers.Dense(5, activation="softmax", name="scores")(keras.layers.Flatten()(h)))


def two_by_two_model() -> keras.Model:
    """Two inputs, one of whole numbers; two boundary tensors; two named outputs."""
    keras.utils.set_random_seed(1)
    ids, image = keras.Input((3,), dtype="int32", name="ids"), keras.Input((6,), name="image-1")
    left = keras.layers.Embedding(7, 4, name="left")(ids)
    right = keras.layers.Dense(5, name="right")(image)
    both = keras.layers.Concatenate()([keras.layers.Flatten()(left), right])
    return keras.Model([ids, image], {"species": keras.layers.Dense(3)(both), "age": keras.layers.Dense(1)(both)})


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((5, 8, 8, 1), dtype=np.float32)


@pytest.fixture(scope="session")
def parts() -> kp.Partition:
    return kp.partition(image_model(), at="stem")


@pytest.fixture
def own_parts() -> kp.Partition:
    """For tests that change weights."""
    return kp.partition(image_model(), at="stem")


@pytest.fixture(scope="session")
def two_by_two() -> kp.Partition:
    return kp.partition(two_by_two_model(), at=["left", "right"])
