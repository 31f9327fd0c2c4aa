"""Two thousand layers: no recursion limit, and time that grows with the model only."""

import sys
import time
from contextlib import contextmanager

import keras
import numpy as np
import pytest
from keras import layers

import keras_privpart as kp

DEPTH = 2000


@pytest.fixture(scope="module")
def deep():
    """Blocks of a hundred layers each, so that Keras itself can build it within the usual limit."""
    blocks = []
    for block in range(DEPTH // 100):
        x = y = keras.Input((3,))
        for i in range(100):
            y = layers.Activation("tanh", name=f"b{block}_{i}")(y) if i % 50 else layers.Dense(3, name=f"b{block}_{i}")(y)
        blocks.append(keras.Model(x, y, name=f"block{block}"))
    return keras.Sequential([keras.Input((3,)), *blocks], name="deep")


def test_two_thousand_layers(deep):
    limit = sys.getrecursionlimit()
    x = np.ones((1, 3), "float32")
    start = time.process_time()
    table = kp.cuts(deep)
    assert len(table) == DEPTH - 1
    assert time.process_time() - start < 20
    parts = kp.partition(deep, at="b9_99")
    assert len(parts.device.layers) == 1001
    parts.verify(x)
    kp.partition(deep, at=table[3]).verify(x)
    (problem,) = kp.check_cut(deep, "b0_0_")
    assert "b0_0" in problem.near
    assert sys.getrecursionlimit() == limit


@contextmanager
def recursion_limit(limit):
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _chain(depth):
    """A flat chain of activations, with a way around most of it."""
    with recursion_limit(20_000):  # for Keras, to build the model
        x = y = side = keras.Input((2,), name="x")
        for i in range(depth):
            y = layers.Activation("relu", name=f"a{i}")(y)
            if i == 10:
                side = y
        return keras.Model(x, layers.Add(name="end")([y, side]))


def test_one_flat_graph_of_two_thousand_layers():
    model = _chain(DEPTH)
    table = kp.cuts(model)
    assert table[0].tensors == ("a0",)
    assert table[15].tensors == ("a10", "a15")
    (problem,) = kp.check_cut(model, "a1000")
    assert problem.path == ("x", *(f"a{i}" for i in range(11)), "end")
    kp.partition(model, at=["a10", "a1000"]).verify(np.ones((1, 2), "float32"))


def test_halves_deeper_than_the_recursion_limit_are_saved_and_loaded(tmp_path):
    model = _chain(450)
    with recursion_limit(400):
        parts = kp.partition(model, at="a10")
        parts.save(tmp_path / "parts")
        loaded = kp.Partition.load(tmp_path / "parts")
    loaded.verify(np.ones((1, 2), "float32"))
