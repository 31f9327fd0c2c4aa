"""`--data` in the commands: one set of options, read as the model takes it, recorded for later commands."""

import json
import sys

import click
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from keras_privpart.auditing.reporting.report import AuditReport
from keras_privpart.cli import run_folder
from keras_privpart.cli.data_source import DataSource, data_source
from keras_privpart.cli.main import main
from keras_privpart.errors import DataError
from keras_privpart.serving import LocalServer

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


PEOPLE = """
import numpy as np

def examples(count=100):
    rng = np.random.default_rng(0)
    age, town = rng.normal(size=(count, 2)).astype("float32"), rng.integers(0, 5, (count, 1)).astype("int32")
    return {"age": age, "town": town}, {"y": (age[:, 0] > 0).astype(int), "far": (town[:, 0] > 2).astype(int)}

def by_name():
    x, targets = examples()
    return x, {"task": targets["y"], "far": targets["far"]}

def in_order():
    x, targets = examples()
    return (x["age"], x["town"]), {"task": targets["y"], "far": targets["far"]}

def another():
    x, targets = examples()
    return {"age": x["age"], "city": x["town"]}, {"task": targets["y"]}
"""


@pytest.fixture
def people(tmp_path, monkeypatch):
    """A model of the inputs `age` and `town`, and data for it: a `.npz` file, and functions."""
    (tmp_path / "own_people.py").write_text(PEOPLE)
    monkeypatch.syspath_prepend(tmp_path)
    import own_people

    x, targets = own_people.examples()
    np.savez(tmp_path / "people.npz", **x, **targets)
    np.savez(tmp_path / "no_town.npz", age=x["age"], **targets)
    np.savez(tmp_path / "one.npz", x=x["age"], **targets)
    inputs = {"age": keras.Input((2,), name="age"), "town": keras.Input((1,), dtype="int32", name="town")}
    both = layers.Concatenate()([inputs["age"], layers.Flatten()(layers.Embedding(5, 2)(inputs["town"]))])
    keras.Model(inputs, layers.Dense(2)(layers.Dense(4, name="cut")(both)), name="people").save(tmp_path / "m.keras")
    yield tmp_path
    sys.modules.pop("own_people")


@pytest.mark.parametrize(("data", "by_protect", "sent"), [("people.npz", False, 4), ("own_people:by_name", True, 2)])
def test_a_model_of_several_inputs_goes_all_the_way(run, people, data, by_protect, sent):
    named = ["--data", people / data if data.endswith("npz") else data, "--private", "far"]
    effort = ["--seeds", "1", "--looks", "1", "--attacks", "kernel posterior"]
    if by_protect:
        chosen = ["--at", "cut", "--trained", "--recipe", "bottleneck-only", "--bottleneck", "2", "--epochs", "1"]
        run("protect", people / "m.keras", *named, "--out", people / "run", *chosen, *effort, "--attack-epochs", "1")
    else:
        run("partition", people / "m.keras", "--at", "cut", "--out", people / "run")
        run("train", people / "run", *named, "--epochs", "1", "--reconstruction", "0.1")
        run("audit", people / "run", *effort, "--epochs", "1")
    report = AuditReport.load(people / "run" / run_folder.REPORT)
    assert {"reconstruction of age", "reconstruction of town"} <= set(report.kinds)
    exported = run("export", people / "run", "--to", people / "bundle", "--encoding", "int8", "--format", "litert", "--json")
    assert json.loads(exported.stdout)["measurements"][-1]["examples"] == 20
    with LocalServer(people / "bundle") as server:
        facts = json.loads(run("predict", people / "bundle", "--server", server.address, *named, "--json").stdout)
        assert (facts["examples"], facts["bytes_sent_each"], facts["raw_bytes_each"]) == (20, sent, 3 * 4)
        alone = json.loads(run("predict", people / "bundle", "--server", server.address, "--input", people / "people.npz", "--json").stdout)
        assert (alone["examples"], alone["raw_bytes_each"]) == (100, 3 * 4)
        assert "accuracy" not in alone
        wrong = run("predict", people / "bundle", "--server", server.address, "--input", people / "no_town.npz", code=1)
        assert "expected 'age' and 'town' in a .npz file" in wrong.stderr


def test_cuts_of_a_model_of_several_inputs_are_probed_by_each_kind(run, people):
    import own_people

    x, targets = own_people.examples(1000)
    np.savez(people / "many.npz", **x, **targets)
    found = json.loads(run("cuts", people / "m.keras", "--probe", people / "many.npz", "--json").stdout)["cuts"]
    leaks = {"+".join(cut["tensors"]): cut["leakage"] for cut in found if cut["leakage"] is not None}
    assert leaks
    assert all(0 <= leak <= 1 for leak in leaks.values())
    assert max(leaks.values()) > 0.4  # the numbers themselves, and a vector for each town


@pytest.mark.parametrize("data", ["people.npz", "own_people:by_name", "own_people:in_order"])
def test_each_of_several_inputs_reaches_the_model_by_its_name(people, data):
    loaded = keras.models.load_model(people / "m.keras", compile=False)
    found = DataSource(str(people / data) if data.endswith("npz") else data).load(loaded)
    for part, count in ((found.train, 80), (found.test, 20)):
        assert {name: array.shape for name, array in part.x.arrays.items()} == {"age": (count, 2), "town": (count, 1)}
        np.testing.assert_array_equal(part.targets["task"], part.x.arrays["age"][:, 0] > 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("no_town.npz", r"holds the arrays \['age', 'far', 'y'\].*an array for each of its inputs: age, town"),
        ("one.npz", "Received the inputs one array; the model takes age, town. Give a .npz file with an array of each name"),
        ("own_people:another", "Received the inputs age, city; the model takes age, town"),
    ],
)
def test_inputs_that_are_not_the_models_are_named(people, data, message):
    loaded = keras.models.load_model(people / "m.keras", compile=False)
    with pytest.raises(DataError, match=message):
        DataSource(str(people / data) if data.endswith("npz") else data).load(loaded)


STREAMS = """
import numpy as np
import tensorflow as tf

def split(count, seed):
    task = np.random.default_rng(seed).integers(0, 2, count)
    x = np.random.default_rng(seed + 9).integers(0, 55, (count, 8, 8, 3))
    x += 200 * (np.arange(8) // 4 == task[:, None])[:, None, :, None]
    targets = {"task": np.array(["left", "right"])[task], "even": np.arange(count) % 2}
    return tf.data.Dataset.from_tensor_slices((x.astype("uint8"), targets)).batch(32)

def both():
    return split(400, 0), split(100, 1)
"""


@pytest.mark.parametrize("by_protect", [False, True])
def test_a_stream_goes_all_the_way_with_a_draw_of_it_held(run, tmp_path, monkeypatch, by_protect):
    (tmp_path / "own_streams.py").write_text(STREAMS)
    monkeypatch.syspath_prepend(tmp_path)
    model(layers.Rescaling(1 / 255)).save(tmp_path / "m.keras")
    named = ["--data", "own_streams:both", "--private", "even", "--limit", "40"]
    effort = ["--seeds", "1", "--looks", "1", "--attacks", "linear probe, even"]
    learning = ["--epochs", "4", "--learning-rate", "0.02"]
    if by_protect:
        chosen = ["--at", "conv", "--bottleneck", "2", "--attack-epochs", "1", "--untrained"]
        said = run("protect", tmp_path / "m.keras", *named, "--out", tmp_path / "run", *chosen, *learning, *effort)
    else:
        run("partition", tmp_path / "m.keras", "--at", "conv", "--out", tmp_path / "run")
        said = run("train", tmp_path / "run", *named, *learning, "--reconstruction", "0.1")
    assert "Classes of task: 0 is left, 1 is right." in said.stderr
    assert "Holding 40 of 400 examples; training streams all of them." in said.stderr
    source, record = run_folder.read_training(tmp_path / "run")
    assert source.limit == 40
    assert record["history"]["undefended"]["val_accuracy"][-1] > 0.9
    sys.modules.pop("own_streams")
    if by_protect:
        told = AuditReport.load(tmp_path / "run" / run_folder.REPORT).summary()
        assert "The attackers' examples are a draw from 400" in told
        assert "The victims' examples are a draw from 100" in told
