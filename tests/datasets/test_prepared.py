"""Loading: scikit-learn's digits for real, tensorflow-datasets through a small prepared set made by its own builder."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_privpart import datasets
from keras_privpart.errors import DataError

IDENTITIES = [7201, 7233, 9000]


class TinyFaces(tfds.core.GeneratorBasedBuilder):
    """CelebA's nested keys on random images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(6, 6, 3)),
            "identity": {"Identity_No": tf.int64},
            "attributes": {"Male": tf.bool, "Young": tf.bool},
            "label": tfds.features.ClassLabel(num_classes=3),
            "score": tf.float32,
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._rows(12),
            "test": self._rows(6),
            "stranger": self._rows(2, identities=[1]),
            "unlabelled": self._rows(2, label=-1),
            "white": self._rows(2, darkest=255),
        }

    def _generate_examples(self):  # the splits name their generators
        raise AssertionError

    def _rows(self, count, identities=IDENTITIES, label=None, darkest=0):
        rng = np.random.default_rng(count)
        for i in range(count):
            who = identities[i % len(identities)]
            yield (
                i,
                {
                    "image": rng.integers(darkest, 256, (6, 6, 3), dtype=np.uint8),
                    "identity": {"Identity_No": who},
                    "attributes": {"Male": who % 2 == 1, "Young": False},
                    "label": i % 3 if label is None else label,
                    "score": 0.5,
                },
            )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    TinyFaces(data_dir=path).download_and_prepare()
    return str(path)


def load(folder, **options):
    return datasets.load("tiny_faces", data_dir=folder, download=False, **options)


def test_digits_are_real_split_without_overlap_and_in_range():
    digits = datasets.load("digits")
    assert (len(digits.train), len(digits.test)) == (1347, 450)
    assert digits.train.x.shape[1:] == (8, 8, 1)
    assert digits.train.x.dtype == np.float32
    assert (digits.train.x.min(), digits.train.x.max()) == (0, 1)
    assert digits.classes == {"task": 10}
    assert set(digits.test.targets["task"]) == set(range(10))


def test_nested_keys_become_targets_and_identities_become_class_indices(folder):
    data = load(folder, task="identity/Identity_No", private=["attributes/Male"])
    assert data.classes == {"task": 3, "Male": 2}
    assert set(data.train.targets["task"]) == {0, 1, 2}
    # Identity 7233 and 7201 are odd here, 9000 is even; indices follow the order of the numbers.
    assert np.array_equal(data.train.targets["Male"], (data.train.targets["task"] < 2).astype(int))
    assert data.train.x.shape == (12, 6, 6, 3)
    assert data.train.x.dtype == np.float32
    assert 0.9 < data.train.x.max() <= 1


def test_images_are_resized_on_request(folder):
    assert load(folder, image_size=4).test.x.shape == (6, 4, 4, 3)
    assert load(folder, image_size=4, test_split="white").test.x.max() == 1  # where resizing alone gives 1.0000002


def test_slices_of_splits(folder):
    assert len(load(folder, train_split="train[:50%]").train) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "attributes/male"}, r"no label key 'attributes/male'; expected one of: attributes/Male"),
        ({"private": ["attributes/Beard"]}, r"no label key 'attributes/Beard'"),
        ({"private": ["attributes/Male", "Male"]}, "last parts differ"),
        ({"task": "score"}, "holds float32; expected booleans or whole numbers"),
        ({"test_split": "valid"}, "Unknown split"),
        ({"train_split": "train[:0]"}, "Can't read"),
        ({"task": "identity/Identity_No", "test_split": "stranger"}, "1 values of 'identity/Identity_No' that the training split lacks"),
        ({"test_split": "unlabelled"}, "holds -1; expected 0 to 2"),
    ],
)
def test_what_is_missing_or_wrong_is_named(folder, options, message):
    with pytest.raises(DataError, match=message):
        load(folder, **options)


def test_a_missing_data_set_is_named(folder):
    with pytest.raises(DataError, match=r"'mnist' is not in .*Downloading is off.*--data-dir"):
        datasets.load("mnist", data_dir=folder, download=False)
    with pytest.raises(DataError, match="Unknown data set 'mnits'"):
        datasets.load("mnits", data_dir=folder, download=False)


def test_digits_take_no_split():
    with pytest.raises(DataError, match="one fixed split"):
        datasets.load("digits", train_split="train[:10]")


def test_samples_of_pairs_and_of_datasets_are_the_same():
    x, y, a = np.arange(10.0)[:, None], np.arange(10) % 3, np.arange(10) % 2
    pair = datasets.Samples.of((x, {"task": y, "a": a}))
    stream = datasets.Samples.of(datasets.batches(pair, 4))
    assert np.array_equal(pair.x, stream.x)
    assert all(np.array_equal(pair.targets[key], stream.targets[key]) for key in ("task", "a"))
    assert np.array_equal(datasets.Samples.of(datasets.batches(datasets.Samples.of((x, y)), 4)).targets["task"], y)
    assert len(pair[2:5]) == 3


def test_a_draw_of_what_passes_by_is_fair_seeded_and_in_order():
    def passing(count):
        for first in range(0, count, 10):
            yield np.arange(first, first + 10.0)[:, None], {"task": np.arange(first, first + 10), "a": np.zeros(10)}

    first, again = (datasets.Samples.of(passing(1_000), limit=100, seed=3) for _ in range(2))
    assert len(first) == 100
    assert first.drawn_from == 1_000
    assert np.array_equal(first.x, again.x)
    assert np.array_equal(first.x[:, 0], first.targets["task"])
    assert np.array_equal(first.x, np.sort(first.x, axis=0))
    often = sum(np.bincount(datasets.Samples.of(passing(60), limit=20, seed=s).targets["task"], minlength=60) for s in range(300))
    assert abs(often / 300 - 1 / 3).max() < 0.14  # five standard deviations
    assert datasets.Samples.of(passing(50), limit=100).drawn_from is None
    assert len(datasets.Samples.of(first, limit=7)) == 7
    with pytest.raises(DataError, match="Received limit=0"):
        datasets.Samples.of(passing(50), limit=0)


def test_parts_are_read_one_at_a_time():
    read = []

    def passing():
        for i in range(3):
            read.append(i)
            yield np.full((2, 1), i), np.arange(2)

    parts = datasets.Samples.parts(passing())
    assert next(parts).x.tolist() == [[0], [0]]
    assert read == [0]


def test_batches_follow_the_seed():
    pair = datasets.Samples.of((np.arange(50.0)[:, None], np.zeros(50)))
    first, again, other = (datasets.Samples.of(datasets.batches(pair, 8, seed=s)).x.ravel() for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert sorted(first) == list(range(50))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "Received list; expected a tf.data.Dataset"),
        ((np.zeros((0, 2)), np.zeros(0)), "empty data set"),
        ((np.zeros((3, 2)), np.zeros(2)), "3 inputs and 2 values of 'task'"),
        (tf.data.Dataset.from_tensor_slices((np.zeros((3, 2)), np.zeros(3))).batch(2).take(0), "empty data set"),
    ],
)
def test_samples_refuse_what_is_no_data(data, message):
    with pytest.raises(DataError, match=message):
        datasets.Samples.of(data)


def prepared(path, name, pictures, rows, supervised=None):
    """A prepared set of the given pictures (key: shape) and a label."""
    features = {key: tfds.features.Image(shape=shape) for key, shape in pictures.items()}
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        data_dir=path,
        disable_shuffling=True,
        split_datasets={"train": rows, "test": rows},
        features=tfds.features.FeaturesDict({**features, "label": tfds.features.ClassLabel(num_classes=2)}),
    )
    info = path / name / "1.0.0" / "dataset_info.json"
    if supervised:
        items = {"items": [{"featureKey": key} for key in supervised]}
        info.write_text(json.dumps({**json.loads(info.read_text()), "supervisedKeys": {"tuple": items}}))


@pytest.mark.parametrize(
    ("keys", "supervised", "options", "taken"),
    [
        (("annotation", "image"), None, {}, "image"),
        (("depth", "photo"), ("photo", "label"), {}, "photo"),
        (("depth", "photo"), None, {"image": "photo"}, "photo"),
        (("depth", "photo"), None, {}, None),
        (("depth", "photo"), None, {"image": "label"}, None),
    ],
)
def test_of_several_pictures_one_is_the_input(tmp_path, keys, supervised, options, taken):
    shapes = {key: (4, 4, 3) if key == keys[1] else (4, 4, 1) for key in keys}
    rows = [(i, {**{key: np.full(shape, 9, np.uint8) for key, shape in shapes.items()}, "label": i % 2}) for i in range(4)]
    prepared(tmp_path, "several", shapes, rows, supervised)
    if taken is None:
        with pytest.raises(DataError, match=r"has the pictures \['depth', 'photo'\]"):
            datasets.load("several", data_dir=str(tmp_path), download=False, **options)
    else:
        assert datasets.load("several", data_dir=str(tmp_path), download=False, **options).train.x.shape == (4, 4, 4, 3)


@pytest.mark.parametrize("count", [4, 600], ids=["in one block", "in two blocks"])
def test_pictures_of_several_sizes_are_resized_or_refused(tmp_path, count):
    sides = [6] * (count - 1) + [8] if count > 512 else [6, 8] * (count // 2)
    rows = [(i, {"image": np.full((side, side, 1), 9, np.uint8), "label": i % 2}) for i, side in enumerate(sides)]
    prepared(tmp_path, "sizes", {"image": (None, None, 1)}, rows)
    with pytest.raises(DataError, match=r"2 sizes, such as 6x6x1, 8x8x1; .*--image-size"):
        datasets.load("sizes", data_dir=str(tmp_path), download=False)
    assert datasets.load("sizes", data_dir=str(tmp_path), download=False, image_size=5).train.x.shape == (count, 5, 5, 1)


def test_with_a_limit_pictures_stream_as_they_are_in_memory(tmp_path):
    rows = [(i, {"image": np.full((8, 8, 1), i, np.uint8), "label": i % 2}) for i in range(40)]
    prepared(tmp_path, "streamed", {"image": (8, 8, 1)}, rows)
    where = {"data_dir": str(tmp_path), "download": False, "value_range": (0, 255), "image_size": 4}
    whole, data = datasets.load("streamed", **where), datasets.load("streamed", **where, limit=10)
    assert (len(data.train), len(data.train.held), data.train.held.drawn_from) == (len(whole.train), 10, len(whole.train))
    again = datasets.Samples.of(data.train)
    assert again.x.dtype == np.uint8
    np.testing.assert_array_equal(again.x, whole.train.x)
    np.testing.assert_array_equal(again.targets["task"], whole.train.targets["task"])


@pytest.mark.parametrize("kind", ["flipped", "cut off", "empty"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_damaged_records_are_named(tmp_path, kind, split):
    rows = [(i, {"image": np.full((8, 8, 1), i, np.uint8), "label": i % 2}) for i in range(12)]
    prepared(tmp_path, "damaged", {"image": (8, 8, 1)}, rows)
    (path,) = tmp_path.glob(f"damaged/1.0.0/*{split}*tfrecord*")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes({"flipped": raw, "cut off": raw[: len(raw) // 2], "empty": b""}[kind])
    with pytest.raises(DataError, match="'damaged'"):
        datasets.load("damaged", data_dir=str(tmp_path), download=False)


class Batches(keras.utils.PyDataset):
    """Three batches of two."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.full((2, 4), index, "float32"), {"task": np.array([index, 9]), "Male": np.array([0, 1])}


def test_batches_come_from_a_py_dataset_a_generator_or_a_dict_of_one_input():
    plain = Batches()
    for data in (plain, (plain[i] for i in range(3)), (({"image": x}, y, np.ones(2)) for x, y in (plain[i] for i in range(3)))):
        samples = datasets.Samples.of(data)
        assert samples.x[:, 0].tolist() == [0, 0, 1, 1, 2, 2]
        assert samples.targets["task"].tolist() == [0, 9, 1, 9, 2, 9]
        assert samples.targets["Male"].tolist() == [0, 1] * 3


X, Y = np.zeros((4, 2), "float32"), np.zeros(4, int)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (({"a": X, "b": X[:3]}, Y), "different numbers of examples: 4 of 'a', 3 of 'b'"),
        (({}, Y), "no input as inputs|no input; expected"),
        (iter([({"a": X, "b": X}, Y), (X, Y)]), r"different inputs, \['a', 'b'\] in the first"),
        ((X, {"task": Y, "Male": Y[:3]}), "4 inputs and 3 values of 'Male'"),
        ((X, {"task": 3}), "values of 'task' of different shapes"),
        ((5, Y), "Received int as inputs"),
        (iter([(X, Y), (np.zeros((4, 3)), Y)]), r"inputs of different shapes: \[2\], \[3\]"),
        (iter([(X, {"task": Y}), (X, {"task": Y, "Male": Y})]), "different targets"),
        (iter([X]), "batches of ndarray; expected pairs"),
        (iter([]), "empty data set"),
        ({"x": X, "y": Y}, "Received dict; expected"),
    ],
)
def test_what_is_no_set_of_examples_is_named(data, message):
    with pytest.raises(DataError, match=message):
        datasets.Samples.of(data)


@pytest.mark.parametrize("x", [{"a": X, "b": X + 1}, (X, X + 1)])
def test_several_inputs_are_examples_of_one_set(x):
    samples = datasets.Samples.of((x, {"task": Y, "Male": Y + 1}))
    assert len(samples) == 4
    assert [array.shape for array in samples[1:3].x.arrays.values()] == [(2, 2), (2, 2)]
    (batch, _), *_ = datasets.batches(samples, 3).as_numpy_iterator()
    assert [array.tolist() for array in batch.values()] == [X[:3].tolist(), (X[:3] + 1).tolist()]
    assert len(datasets.Samples.of(datasets.batches(samples, 3))) == 4


def test_epochs_in_one_stream_can_begin_in_the_middle():
    samples = datasets.Samples.of((np.arange(10, dtype="float32"), {"task": np.arange(10), "Male": np.arange(10) % 2}))
    whole = list(datasets.epochs_of(samples, 4, seed=1, first=0, end=3).as_numpy_iterator())
    later = list(datasets.epochs_of(samples, 4, seed=1, first=1, end=3).as_numpy_iterator())
    assert [len(x) for x, _ in whole] == [4, 4, 2] * 3
    assert all(np.array_equal(a, b) and np.array_equal(s["Male"], t["Male"]) for (a, s), (b, t) in zip(whole[3:], later, strict=True))
    epochs = [np.concatenate([x for x, _ in whole[i : i + 3]]) for i in (0, 3, 6)]
    assert all(sorted(order) == list(range(10)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 3
    assert all(np.array_equal(x, targets["task"]) and np.array_equal(x % 2, targets["Male"]) for x, targets in whole)
