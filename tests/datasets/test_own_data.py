"""Data of one's own: folders of pictures, arrays, tables, functions; the same reading for all of them, and errors that name the fault."""

import csv
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_privpart import datasets
from keras_privpart.datasets import arrays
from keras_privpart.errors import DataError

RNG = np.random.default_rng(0)


def write(path, side=6, value=None, channels=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (side, side, channels)) if value is None else np.full((side, side, channels), value)
    encode = tf.io.encode_jpeg if path.suffix == ".jpg" else tf.io.encode_png
    path.write_bytes(encode(pixels.astype("uint8")).numpy())


def table(path, header, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return str(path)


@pytest.fixture
def pictures(tmp_path):
    """Ten of either class; the class and the number stand in the pixels."""
    for i in range(20):
        write(tmp_path / "pets" / ("cat", "dog")[i % 2] / f"{i:02}.png", value=100 * (i % 2) + i)
    return tmp_path / "pets"


def test_a_folder_is_read_as_keras_reads_it(pictures):
    data = datasets.load(f"folder:{pictures}")
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.train.x.dtype == np.uint8
    assert data.classes == {"task": 2}
    for part in (data.train, data.test):
        np.testing.assert_array_equal(part.x[:, 0, 0, 0] >= 100, part.targets["task"] == 1)
        assert np.bincount(part.targets["task"]).tolist() == [len(part) // 2] * 2
    ours = np.sort(np.concatenate([data.train.x, data.test.x])[:, 0, 0, 0])
    theirs = keras.utils.image_dataset_from_directory(pictures, image_size=(6, 6), verbose=False, batch_size=20)
    x, y = next(iter(theirs.as_numpy_iterator()))
    np.testing.assert_array_equal(ours, np.sort(x[:, 0, 0, 0]))
    np.testing.assert_array_equal(x[:, 0, 0, 0] >= 100, y == 1)
    again = datasets.load(f"folder:{pictures}")
    np.testing.assert_array_equal(again.train.x, data.train.x)


def test_sub_folders_are_splits(tmp_path):
    for split, count in (("train", 6), ("test", 2), ("valid", 4)):
        for i in range(count):
            write(tmp_path / split / ("a", "b")[i % 2] / f"{i}.jpg", value=10 * i)
    data = datasets.load(f"folder:{tmp_path}")
    assert (len(data.train), len(data.test)) == (6, 2)
    assert set(data.train.targets["task"][:3]) == {0, 1}  # not all of one class first
    assert data.test.targets["task"].tolist() == [0, 1]
    assert len(datasets.load(f"folder:{tmp_path}", test_split="valid").test) == 4
    with pytest.raises(DataError, match="expected 'train' and 'held'"):
        datasets.load(f"folder:{tmp_path}", test_split="held")


@pytest.mark.parametrize(("value_range", "dtype", "white"), [((0, 255), "uint8", 255), ((0, 1), "float32", 1), ((-1, 1), "float32", 1)])
def test_pictures_come_in_the_range_that_is_asked_for(tmp_path, value_range, dtype, white):
    for i, value in enumerate((0, 255) * 5):
        write(tmp_path / ("black", "white")[value > 0] / f"{i}.png", value=value)
    data = datasets.load(f"folder:{tmp_path}", value_range=tuple(map(float, value_range)), channels=1)
    assert data.train.x.dtype == dtype
    assert data.train.x.shape[-1] == 1
    np.testing.assert_allclose(np.unique(data.train.x), [value_range[0], white])
    digits = datasets.load("digits", value_range=tuple(map(float, value_range)))
    assert (digits.train.x.dtype, digits.train.x.min(), digits.train.x.max()) == (dtype, value_range[0], white)


@pytest.mark.parametrize("spelling", ["file name", "path", "Windows path"])
def test_attributes_stand_in_a_table(pictures, tmp_path, spelling):
    rows = []
    for path in sorted(pictures.rglob("*.png"))[::-1]:
        i = int(path.stem)
        name = {"file name": path.name, "path": f"{path.parent.name}/{path.name}", "Windows path": f"{path.parent.name}\\{path.name}"}
        rows.append([i, name[spelling], "m" if i % 3 else "f", 1 if i % 5 else -1, 1 + i % 2])
    file = table(tmp_path / "faces.csv", ["id", "which", "sex", "Young", "kind"], rows)
    data = datasets.load(f"folder:{pictures}", attributes=file, private=["sex", "Young"])
    assert data.classes == {"task": 2, "sex": 2, "Young": 2}
    assert data.values == {"sex": ("f", "m"), "Young": (-1, 1)}
    for part in (data.train, data.test):
        number = part.x[:, 0, 0, 0] % 100
        np.testing.assert_array_equal(part.targets["sex"], number % 3 != 0)
        np.testing.assert_array_equal(part.targets["Young"], number % 5 != 0)
    by_table = datasets.load(f"folder:{pictures}", attributes=file, task="sex")
    np.testing.assert_array_equal(by_table.train.targets["task"], by_table.train.x[:, 0, 0, 0] % 100 % 3 != 0)


def test_a_flat_folder_needs_its_label_in_the_table(tmp_path):
    for i in range(10):
        write(tmp_path / "flat" / f"{i}.jpg", value=i)
    file = table(tmp_path / "a.csv", ["file", "smile"], [[f"{i}.jpg", i % 2] for i in range(10)])
    data = datasets.load(f"folder:{tmp_path / 'flat'}", attributes=file, task="smile")
    np.testing.assert_array_equal(data.test.targets["task"], data.test.x[:, 0, 0, 0] % 2)
    with pytest.raises(DataError, match="no label key 'label'; expected one of: smile"):
        datasets.load(f"folder:{tmp_path / 'flat'}", attributes=file)


def test_a_name_that_two_pictures_have_names_neither(tmp_path):
    for i in range(8):
        write(tmp_path / "p" / ("a", "b")[i % 2] / f"{i // 2}.png", value=i)
    short = table(tmp_path / "short.csv", ["file", "old"], [[f"{i}.png", i % 2] for i in range(4)])
    with pytest.raises(DataError, match=r"does not name 'a/\d.png', one of 8 such pictures"):
        datasets.load(f"folder:{tmp_path / 'p'}", attributes=short, private=["old"])
    long = table(tmp_path / "long.csv", ["file", "old"], [[f"{'ab'[i % 2]}/{i // 2}.png", i // 4] for i in range(8)])
    data = datasets.load(f"folder:{tmp_path / 'p'}", attributes=long, private=["old"])
    np.testing.assert_array_equal(data.train.targets["old"], data.train.x[:, 0, 0, 0] // 4)
    twice = table(tmp_path / "twice.csv", ["file", "old"], [[f"{'ab'[i % 2]}/{i // 2}.png", i // 4] for i in (*range(8), 3)])
    with pytest.raises(DataError, match=r"names 'b/1.png' twice"):
        datasets.load(f"folder:{tmp_path / 'p'}", attributes=twice, private=["old"])


def _damage(pictures):
    (pictures / "cat" / "00.png").write_bytes(b"no picture")


def _enlarge(pictures):
    write(pictures / "dog" / "01.png", side=8)


def _empty(pictures):
    for path in pictures.rglob("*.png"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (_damage, {}, r"Can't read the picture '.*00.png'"),
        (_enlarge, {}, r"2 sizes, such as 6x6x3, 8x8x3; expected one. Resize them: .*--image-size 64"),
        (_empty, {}, "holds no pictures"),
        (None, {"train_split": "train[:3]"}, "train_split='train\\[:3\\]' for a folder without such sub-folders"),
        (None, {"image": "photo"}, "Received image='photo' for a folder of pictures"),
        (None, {"attributes": "none.csv"}, "Found no table 'none.csv'"),
        (None, {"private": ["Male"]}, "no label key 'Male'"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(pictures, spoil, options, message):
    if spoil:
        spoil(pictures)
    with pytest.raises(DataError, match=message):
        datasets.load(f"folder:{pictures}", **options)
    with pytest.raises(DataError, match="Found no folder"):
        datasets.load(f"folder:{pictures / 'nowhere'}")


def test_pictures_of_several_sizes_are_resized(pictures):
    _enlarge(pictures)
    assert datasets.load(f"folder:{pictures}", image_size=4).train.x.shape == (16, 4, 4, 3)


X, Y = RNG.normal(size=(40, 3)), np.arange(40) % 3


def test_arrays_of_one_set_are_divided_alike(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=Y, sex=np.where(Y == 1, 2, 1))
    data = datasets.load(str(tmp_path / "a.npz"), private=["sex"])
    assert (len(data.train), len(data.test), data.train.x.dtype) == (32, 8, np.float32)
    assert data.values == {"sex": (1, 2)}
    for part in (data.train, data.test):
        np.testing.assert_array_equal(part.targets["sex"], part.targets["task"] == 1)
        assert np.ptp(np.bincount(part.targets["task"])) <= 1


def test_arrays_of_two_sets_stay_as_they_are(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X, y_train=Y[:, None], x_test=X[:5], y_test=Y[:5, None])
    data = datasets.load(str(tmp_path / "a.npz"))
    np.testing.assert_allclose(data.test.x, X[:5], rtol=1e-6)
    np.testing.assert_array_equal(data.train.targets["task"], Y)


def test_a_class_that_the_training_split_lacks_shifts_no_other(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X[:4], y_train=[0, 1, 3, 3], x_test=X[:2], y_test=[2, 3])
    data = datasets.load(str(tmp_path / "a.npz"))
    assert data.train.targets["task"].tolist() == [0, 1, 3, 3]
    assert data.test.targets["task"].tolist() == [2, 3]
    assert data.classes == {"task": 4}


@pytest.mark.parametrize(
    ("values", "classes", "indices"),
    [
        (np.array([True, False] * 20), 2, [1, 0]),
        (np.array([1.0, 0.0] * 20), 2, [1, 0]),
        (np.array([-1, 1] * 20), 2, [0, 1]),
        (np.array([2, 1] * 20), 2, [1, 0]),
        (np.array(["m", "f"] * 20), 2, [1, 0]),
        (np.array([b"m", b"f"] * 20), 2, [1, 0]),
        (np.eye(3)[[2, 0] * 20], 3, [2, 0]),
        (np.array([7201, 9] * 20), 2, [1, 0]),
    ],
)
def test_attributes_of_every_coding_become_class_indices(tmp_path, values, classes, indices):
    np.savez(tmp_path / "a.npz", x_train=X, y_train=Y, a_train=values, x_test=X[:2], y_test=Y[:2], a_test=values[:2])
    data = datasets.load(str(tmp_path / "a.npz"), private=["a"])
    assert data.test.targets["a"].tolist() == indices
    assert data.classes["a"] == classes


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"z": X}, {}, r"holds the arrays \['z'\]; expected 'x_train' and 'x_test', or 'x'"),
        ({"x": X, "y": Y[:5]}, {}, r"40 inputs and 'y' \[5\]"),
        ({"x": X}, {}, "no label key 'y'; expected one of: none"),
        ({"x": X, "y": Y}, {"private": ["sex"]}, "no label key 'sex'; expected one of: y"),
        ({"x": X, "y": X[:, 0]}, {}, "'y' holds float32; expected booleans or whole numbers"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, {}, "inputs of the shapes 2, 3"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y[:3]}, {}, "40 inputs and 3 values of 'y'"),
        ({"x": np.array([None, 1])}, {}, "without objects"),
        ({"x": X, "y": Y}, {"image_size": 8}, "Received image_size=8 for a .npz file"),
    ],
)
def test_what_is_wrong_with_arrays_is_named(tmp_path, arrays, options, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        datasets.load(str(tmp_path / "a.npz"), **options)


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(DataError, match=r"Can't read .*a.npz"):
        datasets.load(str(tmp_path / "a.npz"))
    with pytest.raises(DataError, match="Found no file"):
        datasets.load(str(tmp_path / "b.npz"))


ROWS = [[i, i / 2, "yes" if i % 2 else "no", i % 3 % 2, i % 4] for i in range(30)]
HEADER = ["age", "income", "smoker", "label", "region"]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_gives_rows_without_what_is_to_be_hidden(tmp_path, ending):
    path = table(tmp_path / "t.csv", HEADER, ROWS)
    if ending == "parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        path = str(tmp_path / "t.parquet")
        parquet.write_table(pyarrow.table({name: [row[i] for row in ROWS] for i, name in enumerate(HEADER)}), path)
    data = datasets.load(path, private=["smoker"], others=["region"])
    assert data.features == ("age", "income", "region")
    assert data.values == {"smoker": ("no", "yes")}
    for part in (data.train, data.test):
        age = part.x[:, 0]
        np.testing.assert_array_equal(part.x, np.stack([age, age / 2, age % 4], axis=1))
        np.testing.assert_array_equal(part.targets["smoker"], age % 2)
        np.testing.assert_array_equal(part.targets["task"], age % 3 % 2)
        np.testing.assert_array_equal(part.targets["region"], age % 4)


@pytest.mark.parametrize(
    ("header", "rows", "options", "message"),
    [
        (HEADER, ROWS, {}, "Column 'smoker' of .* holds <U3, such as .*no.*--private"),
        (HEADER, ROWS, {"task": "risk"}, "no column 'risk'; expected one of: age, income, smoker, label, region"),
        (["age", "y"], [[1, 0]] * 5, {}, "no column 'label'.*Name the task's column"),
        (["label"], [[1]] * 5, {}, "none of them left as an input"),
        (["a", "a"], [[1, 2]], {}, "expected each name once"),
        (["a", "label"], [[1, 2], [3]], {}, "Row 3 of the table .* has 1 values; expected 2"),
        (["a", "label"], [["nan", 0], [2, 1], [3, 1]], {}, "'a' of .* holds nan in row 2"),
        (["a", "label"], [], {}, "has no rows"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, header, rows, options, message):
    with pytest.raises(DataError, match=message):
        datasets.load(table(tmp_path / "t.csv", header, rows), **options)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"pip install 'keras_privpart\[parquet\]'"):
        datasets.load(str(tmp_path / "t.parquet"))


FUNCTIONS = """
import numpy as np
import tensorflow as tf
from keras_privpart import datasets

x, y = np.arange(40.0)[:, None], np.arange(40) % 2
batched = tf.data.Dataset.from_tensor_slices((x, {"task": y, "Male": 1 - y})).batch(7)

def samples(): return datasets.Samples(x, {"task": y, "Male": 1 - y})
def arrays(): return x, {"task": y, "Male": 1 - y}
def keras_like(): return (x[:30], {"task": y[:30], "Male": 1 - y[:30]}), (x[30:], {"task": y[30:], "Male": 1 - y[30:]})
def streams(): return batched.take(4), batched.skip(4)
def named(): return {"train": samples()[:30], "test": samples()[30:]}
def dataset(): return datasets.Dataset("mine", samples()[:30], samples()[30:], {"task": 2})
def generator(): return ((x[i : i + 8], {"task": y[i : i + 8], "Male": 1 - y[i : i + 8]}) for i in range(0, 40, 8))
def nothing(): return None
def text(): return "x"
def mapping(): return {"x": x}
def odd(): return [1, 2, 3]
constant = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_functions"
    sys.modules.pop("own_functions", None)


@pytest.mark.parametrize("name", ["samples", "arrays", "keras_like", "streams", "named", "dataset", "generator"])
def test_a_function_may_return_examples_in_any_form(own, name):
    data = datasets.load(f"{own}:{name}", private=["Male"])
    assert data.classes == {"task": 2, "Male": 2}
    seen = np.concatenate([data.train.x, data.test.x]).ravel()
    np.testing.assert_array_equal(np.sort(seen), np.arange(40))
    for part in (data.train, data.test):
        np.testing.assert_array_equal(part.targets["task"], part.x[:, 0] % 2)
        np.testing.assert_array_equal(part.targets["Male"], 1 - part.x[:, 0] % 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "returned None; expected examples"),
        ("text", "returned 'x'; expected examples"),
        ("mapping", r"returned a mapping of \['x'\]"),
        ("odd", "own_functions:odd: "),
        ("constant", "is a int; expected a function"),
        ("missing", "has no 'missing'"),
    ],
)
def test_what_is_wrong_with_a_function_is_named(own, name, message):
    with pytest.raises(DataError, match=message):
        datasets.load(f"{own}:{name}")
    with pytest.raises(DataError, match="Can't import 'nowhere'"):
        datasets.load("nowhere:function")


CODED = {
    "-1/1": (np.array([1, -1, 1]), (-1, 1)),
    "text": (np.array(["m", "f", "m"]), ("f", "m")),
    "bytes": (np.array([b"m", b"f", b"m"]), ("f", "m")),
}
CODED |= {
    "one-hot": (np.eye(2)[[1, 0, 1]], "one-hot"),
    "column": (np.array([[2], [1], [2]]), (1, 2)),
    "order": (np.array([0, 1, 0]), (1, 0)),
}


@pytest.mark.parametrize("name", CODED)
def test_values_are_mapped_when_told(name):
    values, meaning = CODED[name]
    samples = datasets.Samples.of((np.zeros((3, 2)), {"task": np.arange(3), "sex": values})).mapped({"sex": meaning})
    assert samples.targets["sex"].tolist() == [1, 0, 1]
    assert samples.targets["task"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("meaning", "message"),
    [
        ({"sex": (0, 2)}, "the value 1 of 'sex'; expected one of \\[0, 2\\]"),
        ({"sex": "one-hot"}, "expected one-hot rows"),
        ({"sex": (1, 1)}, "two or more different ones"),
        ({"age": (0, 1)}, "values of 'age' and the targets"),
    ],
)
def test_a_wrong_meaning_is_named(meaning, message):
    samples = datasets.Samples(np.zeros((3, 2)), {"sex": np.array([0, 1, 0])})
    with pytest.raises(DataError, match=message):
        samples.mapped(meaning)


def test_inputs_alone_come_from_one_array_or_one_of_each_name(tmp_path):
    x, town, y = RNG.normal(size=(5, 2)).astype("float32"), np.arange(5)[:, None], np.arange(5)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, y=y)
    np.savez(tmp_path / "both.npz", town=town, age=x, y=y)
    for name, names in (("x.npy", ["age"]), ("x.npz", ["age"]), ("both.npz", ["age"])):
        np.testing.assert_array_equal(arrays.inputs(tmp_path / name, names), x)
    found = arrays.inputs(tmp_path / "both.npz", ["age", "town"])
    assert list(found.arrays) == ["age", "town"]
    np.testing.assert_array_equal(found.arrays["age"], x)
    np.testing.assert_array_equal(found.arrays["town"], town)


@pytest.mark.parametrize(
    ("held", "names", "message"),
    [
        ({"x": np.zeros((3, 2))}, ["age", "town"], r"holds the arrays \['x'\]; expected 'age' and 'town' in a .npz file"),
        ({"age": np.zeros((3, 2))}, ["age", "town"], "expected 'age' and 'town'"),
        ({"y": np.zeros(3)}, ["age"], "expected 'x' or 'age'"),
        ({"x": np.zeros((0, 2))}, ["age"], "holds no examples"),
        ({"x": np.zeros(())}, ["age"], "holds no examples"),
        ({"age": np.zeros((3, 2)), "town": np.zeros((2, 1))}, ["age", "town"], "inputs of {'age': 3, 'town': 2} examples"),
    ],
)
def test_what_a_file_of_inputs_lacks_is_named(tmp_path, held, names, message):
    np.savez(tmp_path / "x.npz", **held)
    with pytest.raises(DataError, match=message):
        arrays.inputs(tmp_path / "x.npz", names)
