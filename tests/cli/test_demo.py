"""`demo`: MNIST where it is prepared, scikit-learn's digits where it is not, and which of them is said."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from keras_privpart.cli.commands import demo
from keras_privpart.errors import DataError
from keras_privpart.partitioning.partition import partition


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """A folder with few pictures in the place of MNIST's."""
    rows = [(i, {"image": np.full((28, 28, 1), i, np.uint8), "label": i % 10}) for i in range(30)]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="mnist",
        version="3.0.1",
        data_dir=tmp_path,
        disable_shuffling=True,
        split_datasets={"train": rows, "test": rows},
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(28, 28, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
        ),
    )
    monkeypatch.setattr(demo, "MNIST_TRAIN", "train[:20]")
    monkeypatch.setattr(demo, "MNIST_TEST", "test[:10]")
    return tmp_path


def test_mnist_is_taken_where_it_is_prepared(prepared, capsys):
    data = demo.pictures(str(prepared), named=True)
    assert (data.name, len(data.train), len(data.test), data.classes["task"]) == ("mnist", 20, 10, 10)
    np.testing.assert_allclose(data.train.x[19], 19 / 255, rtol=1e-6)
    assert capsys.readouterr().err == ""
    parts = partition(demo.model(28))
    parts.verify(data.test.x)
    assert parts.boundary.nbytes < 28 * 28


def test_digits_are_taken_where_it_is_not_and_the_reason_is_told(tmp_path, capsys):
    data = demo.pictures(str(tmp_path), named=False)
    assert (data.name, data.test.x.shape[1:]) == ("digits", (8, 8, 1))
    said = capsys.readouterr().err
    assert f"Data set 'mnist' is not in {tmp_path}" in said
    assert "Taking scikit-learn's digits." in said


def test_a_folder_that_was_named_and_lacks_it_is_an_error(tmp_path, run):
    done = run("demo", "--data-dir", tmp_path, "--out", tmp_path / "run", "--bundle", tmp_path / "bundle", code=1)
    assert "Data set 'mnist' is not in" in done.stderr
    assert not (tmp_path / "run").exists()
    with pytest.raises(DataError):
        demo.pictures(str(tmp_path), named=True)
