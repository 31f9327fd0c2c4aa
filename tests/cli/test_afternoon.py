"""A first afternoon: JPEGs in a folder, a table of attributes, a MobileNetV2 of one's own; by commands, and the same in Python."""

import csv
import json
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart.auditing.reporting.report import AuditReport
from keras_privpart.cli import run_folder
from keras_privpart.contract import Contract
from keras_privpart.partitioning.halves import Partition
from keras_privpart.serving import Client

ATTACKS = ("decoder, small, mse", "linear probe, smiling")
SIDE = 32


@pytest.fixture(scope="module")
def afternoon(tmp_path_factory):
    """What the user has: `faces/`, `faces.csv` and `mine.keras`."""
    home = tmp_path_factory.mktemp("afternoon")
    rng, rows = np.random.default_rng(0), []
    for i in range(100):
        path = home / "faces" / ("ann", "bob")[i % 2] / f"{i:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 60, (SIDE, SIDE, 3)) + 90 * (i % 2) + np.linspace(0, 100 * (i % 3 == 0), SIDE)[:, None, None]
        path.write_bytes(tf.io.encode_jpeg(pixels.astype("uint8"), quality=95).numpy())
        rows.append([path.name, "yes" if i % 3 == 0 else "no", rng.integers(20, 60)])
    with (home / "faces.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["picture", "smiling", "age"], *rows])
    keras.utils.set_random_seed(0)
    picture = keras.Input((SIDE, SIDE, 3), name="picture")
    whole = keras.applications.MobileNetV2((SIDE, SIDE, 3), alpha=0.35, weights=None, include_top=False)
    body = keras.Model(whole.input, whole.get_layer("block_3_project_BN").output)  # the rest is more of the same, and minutes
    features = body(layers.Rescaling(1 / 127.5, offset=-1)(picture))
    scores = layers.Dense(2, name="scores")(layers.GlobalAveragePooling2D()(features))
    keras.Model(picture, scores, name="mine").save(home / "mine.keras")
    return home


@pytest.fixture(scope="module")
def by_commands(afternoon):
    """The run and the bundle that the commands make."""
    data = ["--data", f"folder:{afternoon / 'faces'}", "--attributes", afternoon / "faces.csv", "--private", "smiling"]
    attacks = [word for attack in ATTACKS for word in ("--attacks", attack)]
    effort = ["--looks", "1", "--seeds", "1"]
    chosen = ["--trained", "--recipe", "bottleneck-only", "--bottleneck", "8", "--epochs", "1"]
    run = afternoon / "run"
    for command in (
        ["protect", afternoon / "mine.keras", *data, "--out", run, *chosen, *attacks, *effort, "--attack-epochs", "1"],
        ["audit", run, *attacks, *effort, "--epochs", "1", "--overwrite"],
        ["export", run, "--to", afternoon / "bundle", "--format", "litert", "--encoding", "int8"],
    ):
        _command(*command)
    return run, afternoon / "bundle", data


def _command(*words):
    from click.testing import CliRunner

    from keras_privpart.cli.main import main

    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, done.output
    return done


@pytest.fixture(scope="module")
def address(by_commands):
    """Of `privpart-keras serve`."""
    command = [sys.executable, "-m", "keras_privpart.cli", "serve", str(by_commands[1]), "--engine", "local", "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield json.loads(process.stdout.readline())["address"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def data(afternoon):
    """The same data in Python."""
    return kp.datasets.load(f"folder:{afternoon / 'faces'}", attributes=str(afternoon / "faces.csv"), private=["smiling"])


def test_the_commands_leave_a_run_that_was_attacked_on_the_users_own_pictures(by_commands, data):
    run, bundle, _ = by_commands
    report = AuditReport.load(run / run_folder.REPORT)
    assert report.kinds == ("reconstruction", "smiling")
    assert report.victims == len(data.test) == 20
    assert report.input_bytes == SIDE * SIDE * 3, "a byte a value, as in the files"
    contract = Contract.load(bundle)
    assert (contract.value_range, contract.formats, contract.encoding) == ((0.0, 255.0), ("litert",), "int8")
    assert contract.boundary.nbytes == 8
    assert contract.audit is not None


def test_the_device_half_sees_what_the_model_was_made_for(by_commands, data):
    """uint8 from 0 to 255 through the Rescaling: pictures in [0, 1] would all be black to it."""
    parts = Partition.load(by_commands[0] / run_folder.UNDEFENDED)
    assert data.test.x.dtype == np.uint8
    seen, black = (np.asarray(parts.device(x)) for x in (data.test.x, data.test.x / 255.0))
    assert seen.std(axis=0).max() > 5 * black.std(axis=0).max()


def test_predict_answers_what_python_answers(by_commands, address, data, tmp_path):
    run, bundle, named = by_commands
    done = _command("predict", bundle, "--server", address, *named, "--output", tmp_path / "y.npy", "--json")
    facts, answers = json.loads(done.stdout), np.load(tmp_path / "y.npy")
    assert (facts["examples"], facts["bytes_sent_each"], facts["raw_bytes_each"]) == (20, 8, SIDE * SIDE * 3)
    with Client(bundle, address) as client:
        client.wait_for_ready(30)
        np.testing.assert_allclose(client.predict(data.test.x), answers, atol=1e-6)
    whole = np.asarray(Partition.load(run / run_folder.DEFENDED).model(data.test.x, training=False))
    spread = np.ptp(whole, axis=0).max()
    assert np.abs(whole - answers).max() < 0.1 * max(spread, 1e-3), "int8 costs a step of the boundary's range"
    assert facts["accuracy"] == pytest.approx((answers.argmax(axis=1) == data.test.targets["task"]).mean())


def test_python_comes_to_the_same(by_commands, afternoon, data):
    result = kp.protect(
        keras.models.load_model(afternoon / "mine.keras", compile=False),
        data.train,
        data.test,
        private=["smiling"],
        trained=True,
        recipe="bottleneck-only",
        bottleneck=8,
        epochs=1,
        seeds=1,
        attacks=ATTACKS,
        attack_epochs=1,
        looks=(1,),
    )
    theirs = Partition.load(by_commands[0] / run_folder.DEFENDED)
    assert result.partition.boundary == theirs.boundary
    x = data.test.x
    np.testing.assert_allclose(result.partition.model(x, training=False), theirs.model(x, training=False), rtol=1e-2, atol=1e-3)
    report = AuditReport.load(by_commands[0] / run_folder.REPORT)
    assert result.report.reference_accuracy.value == report.reference_accuracy.value
    for kind in report.kinds:
        ours, others = result.report.strongest(kind), report.strongest(kind)
        assert ours.boundary[ours.headline].value == pytest.approx(others.boundary[others.headline].value, abs=0.05)
