"""Streams: examples that are not all held, read again for every epoch; what is drawn, refused, and the same as in memory."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_privpart import datasets
from keras_privpart.datasets import Samples, Stream
from keras_privpart.datasets.streams import streamed
from keras_privpart.errors import DataError

COUNT = 50
X = np.arange(COUNT, dtype="float32")[:, None]
TARGETS = {"task": np.arange(COUNT) % 3, "Male": np.where(np.arange(COUNT) % 2, 1, -1)}


def dataset(x=X, targets=TARGETS):
    return tf.data.Dataset.from_tensor_slices((x, targets)).batch(8)


def test_all_labels_are_known_and_a_draw_of_the_inputs_is_held():
    stream = Stream.of(dataset(), limit=10, seed=3)
    assert (len(stream), len(stream.held), stream.held.drawn_from) == (COUNT, 10, COUNT)
    np.testing.assert_array_equal(stream.targets["task"], TARGETS["task"])
    np.testing.assert_array_equal(stream.held.x, Samples.of(dataset(), 10, 3).x)
    assert Stream.of(dataset(), limit=COUNT).held.drawn_from is None
    again = Samples.of(stream)
    np.testing.assert_array_equal(again.x, X)
    np.testing.assert_array_equal(again.targets["Male"], TARGETS["Male"])


def test_a_draw_of_a_draw_still_says_from_how_many():
    held = Stream.of(dataset(), limit=20).held
    assert Samples.of(held, 20).drawn_from == COUNT
    assert (len(Samples.of(held, 10)), Samples.of(held, 10).drawn_from) == (10, COUNT)


def test_every_epoch_has_every_example_in_another_order_and_can_be_begun_in_the_middle():
    stream = Stream.of(dataset(), limit=10).mapped({"Male": (-1, 1)})
    whole = list(stream.epochs(16, seed=1, first=0, end=3).as_numpy_iterator())
    assert [len(x) for x, _ in whole] == [16, 16, 16, 2] * 3
    epochs = [np.concatenate([x[:, 0] for x, _ in whole[i : i + 4]]) for i in (0, 4, 8)]
    assert all(sorted(order) == X[:, 0].tolist() for order in epochs)
    assert len({tuple(order) for order in epochs}) == 3
    for x, targets in whole:
        np.testing.assert_array_equal(targets["task"], x[:, 0] % 3)
        np.testing.assert_array_equal(targets["Male"], x[:, 0] % 2)
    later = list(stream.epochs(16, seed=1, first=1, end=3).as_numpy_iterator())
    for (x, _), (expected, _) in zip(later, whole[4:], strict=True):
        np.testing.assert_array_equal(x, expected)


def test_several_inputs_and_text_stream_as_they_are():
    x = {"age": X, "name": np.array([f"n{i}" for i in range(COUNT)])}
    stream = Stream.of(dataset(x, TARGETS["task"]), limit=10)
    (first, task), *_ = stream.epochs(16, seed=0, first=0, end=1).as_numpy_iterator()
    assert first["name"].tolist() == [f"n{int(i)}".encode() for i in first["age"][:, 0]]
    np.testing.assert_array_equal(task, first["age"][:, 0] % 3)


def test_what_is_in_memory_already_or_can_be_read_once_is_no_stream():
    for data in ((X, TARGETS), Samples(X, TARGETS), iter([(X, TARGETS)])):
        assert isinstance(streamed(data, 10), Samples)
    assert isinstance(streamed(dataset(), None), Samples)
    assert isinstance(streamed(dataset(), 10), Stream)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: dataset().repeat(), "without an end; expected one that ends"),
        (lambda: dataset(targets={"task": np.zeros((COUNT, 2, 2))}), r"'task' of a stream as \[8, 2, 2\]; expected labels"),
        (lambda: dataset(targets={"task": {"a": X, "b": X}}), "'task' of a stream as those of several outputs"),
        (lambda: dataset().take(0), "empty data set"),
    ],
)
def test_what_cannot_stream_is_named(data, message):
    with pytest.raises(DataError, match=message):
        Stream.of(data(), 10)


OWN = """
import numpy as np
import tensorflow as tf

def split(count, seed):
    x = np.random.default_rng(seed).integers(0, 255, (count, 4, 4, 1)).astype("uint8")
    parity = np.where(x[:, 0, 0, 0] % 2, "odd", "even")
    targets = {"task": (x[:, 1, 1, 0] > 100).astype("float64"), "parity": parity, "dark": x[:, 2, 2, 0] < 9}
    return tf.data.Dataset.from_tensor_slices((x, targets)).batch(7)

def both():
    return split(60, 0), split(30, 1)

def one():
    return split(60, 0)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_stream.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_stream:both"
    sys.modules.pop("own_stream", None)


def test_a_functions_batches_load_as_a_stream_of_the_same_examples(own):
    whole = datasets.load(own, private=["parity", "dark"])
    data = datasets.load(own, private=["parity", "dark"], limit=20)
    assert isinstance(whole.train, Samples)
    assert (data.classes, data.values) == (whole.classes, whole.values)
    assert data.values == {"parity": ("even", "odd")}
    all_of_it = Samples.of(data.train)
    np.testing.assert_array_equal(all_of_it.x, whole.train.x)
    for key in ("task", "parity", "dark"):
        np.testing.assert_array_equal(all_of_it.targets[key], whole.train.targets[key])
        np.testing.assert_array_equal(data.train.targets[key], whole.train.targets[key])
    assert (len(data.train), len(data.train.held), len(data.test), data.test.drawn_from) == (60, 20, 20, 30)


def test_one_stream_is_not_divided_and_a_missing_key_is_named_from_its_first_batch(own):
    with pytest.raises(DataError, match="returned one stream; expected two, to train and to test on"):
        datasets.load("own_stream:one", limit=20)
    with pytest.raises(DataError, match="no label key 'sex'; expected one of: dark, parity, task"):
        datasets.load(own, private=["sex"], limit=20)


def test_a_value_that_was_not_there_at_the_first_reading_is_named():
    readings = iter([np.array(["f", "m"] * 4), np.array(["f", "m"] * 4), np.array(["f", "x"] * 4)])

    class Changing(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return X[:8], {"task": TARGETS["task"][:8], "sex": next(readings)}

    stream = Stream.of(Changing(), 10).mapped({"sex": ("f", "m")})
    assert next(stream.read()).targets["sex"].tolist() == [0, 1] * 4
    with pytest.raises(DataError, match="'x' of 'sex'; expected one of"):
        list(stream.read())
