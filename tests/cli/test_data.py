"""`--data` in the commands: one set of options, read as the model takes it, recorded for later commands."""

import json

import click
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_privpart.cli import run_folder
from keras_privpart.cli.data_source import DataSource, data_source
from keras_privpart.cli.main import main
from keras_privpart.errors import DataError

TAKING_DATA = ("audit", "export", "predict", "protect", "sweep", "train")


@pytest.mark.parametrize("name", [*TAKING_DATA, "cuts"])
def test_every_command_takes_the_same_options_of_data(name):
    known = {option for parameter in main.commands[name].params for option in parameter.opts}
    assert {"--task", "--private", "--attributes", "--value-range", "--image-size", "--train-split", "--data-dir"} <= known
    assert {"--probe"} <= known if name == "cuts" else {"--data", "--dataset"} <= known


def model(*front, channels=3, side=8, dtype=None):
    x = inputs = keras.Input((side, side, channels), dtype=dtype)
    for layer in front:
        x = layer(x)
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Conv2D(2, 3, strides=2, name="conv")(x))))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(80):
        path = root / ("dark", "light")[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tf.io.encode_png(rng.integers(100 * (i % 2), 100 + 100 * (i % 2), (8, 8, 3)).astype("uint8")).numpy())
    return root


@pytest.mark.parametrize(
    ("front", "options", "dtype", "largest"),
    [
        ((lambda: layers.Rescaling(1 / 255)), {}, "uint8", 199),
        ((lambda: layers.Rescaling(1 / 127.5, offset=-1)), {}, "uint8", 199),
        ((lambda: layers.Rescaling(2.0, offset=-1)), {}, "float32", 199 / 255),
        (None, {}, "float32", 199 / 255),
        (None, {"value_range": (0, 255)}, "uint8", 199),
        (None, {"value_range": (-1, 1)}, "float32", 2 * 199 / 255 - 1),
    ],
)
def test_values_reach_the_model_as_it_takes_them(pictures, front, options, dtype, largest):
    data = DataSource(f"folder:{pictures}", **options).load(model(*([front()] if front else [])))
    assert data.train.x.dtype == dtype
    np.testing.assert_allclose(max(data.train.x.max(), data.test.x.max()), largest, rtol=1e-6)


def test_a_model_of_bytes_gets_bytes_and_one_of_gray_gets_gray(pictures):
    data = DataSource(f"folder:{pictures}").load(model(layers.Rescaling(1 / 255, dtype="float32"), channels=1, dtype="uint8"))
    assert (data.train.x.dtype, data.train.x.shape[-1]) == (np.uint8, 1)


def test_pictures_of_another_size_are_refused_with_the_option_that_helps(pictures):
    with pytest.raises(DataError, match=r"the shape \[8, 8, 3\]; the model takes \[16, 16, 3\]. Resize them: --image-size 16"):
        DataSource(f"folder:{pictures}").load(model(side=16))
    assert DataSource(f"folder:{pictures}", image_size=16).load(model(side=16)).train.x.shape[1:] == (16, 16, 3)


def test_a_table_of_too_few_columns_is_told_by_their_names(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,label\n" + "1,2,0\n3,4,1\n" * 5)
    wide = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(DataError, match=r"the model takes \[3\]. The inputs are the columns a, b"):
        DataSource(str(tmp_path / "t.csv")).load(wide)


def test_a_record_holds_for_other_folders_and_older_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = DataSource("folder:pets", attributes="faces.csv", private=("Male",), value_range=(0, 255))
    assert (source.dataset, source.attributes) == (f"folder:{tmp_path}/pets", f"{tmp_path}/faces.csv")
    assert DataSource(**json.loads(json.dumps(source.record()))) == source
    assert set(DataSource("mnist").record()) <= {*DataSource("mnist").record()} - {"attributes", "value_range", "others"}
    command = ["--data", source.dataset, "--private", "Male", "--attributes", source.attributes, "--value-range", "0.0", "255.0"]
    assert source.words() == command


def test_options_of_data_without_data_are_refused():
    empty = {"dataset": None, "task": None, "private": (), "attributes": None, "image_size": None, "image": None, "value_range": None}
    assert data_source(dict(empty)) is None
    with pytest.raises(click.UsageError, match="--attributes is of data"):
        data_source({**empty, "attributes": "a.csv"})
    recorded = DataSource("digits", task="label", private=("odd",))
    assert data_source({**empty, "dataset": "other"}, recorded) == DataSource("other", "label", ("odd",))


def test_cuts_are_probed_on_own_pictures(run, pictures, tmp_path):
    model(layers.Rescaling(1 / 255)).save(tmp_path / "m.keras")
    done = run("cuts", tmp_path / "m.keras", "--probe", f"folder:{pictures}", "--json")
    leaks = {cut["tensors"][0]: cut["leakage"] for cut in json.loads(done.stdout)["cuts"]}
    assert 0 <= leaks["conv"] <= 1
    assert "Loading folder:" in done.stderr


def test_a_run_that_was_only_cut_is_calibrated_by_named_data(run, pictures, tmp_path):
    model(layers.Rescaling(1 / 255)).save(tmp_path / "m.keras")
    run("partition", tmp_path / "m.keras", "--at", "conv", "--out", tmp_path / "run")
    export = ("export", tmp_path / "run", "--to", tmp_path / "bundle", "--encoding", "int8")
    assert "without data to calibrate by" in run(*export, code=1).stderr
    done = run(*export, "--data", f"folder:{pictures}", "--json")
    rows = json.loads(done.stdout)["measurements"]
    assert rows[0]["examples"] == 16
    contract = json.loads((tmp_path / "bundle" / "contract.json").read_text())
    assert contract["value_range"] == [0.0, 255.0]
    (scale,) = {tensor["scale"] for tensor in contract["boundary"]}
    assert scale > 1e-3  # of pictures; black ones give next to nothing


def test_training_on_own_pictures_is_recorded(run, pictures, tmp_path):
    model(layers.Rescaling(1 / 255)).save(tmp_path / "m.keras")
    run("partition", tmp_path / "m.keras", "--at", "conv", "--out", tmp_path / "run")
    run("train", tmp_path / "run", "--data", f"folder:{pictures}", "--epochs", "1")
    source, record = run_folder.read_training(tmp_path / "run")
    assert source == DataSource(f"folder:{pictures}")
    assert record["history"]["defended"]["val_accuracy"]
