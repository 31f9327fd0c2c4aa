"""`train` that is killed goes on with `train RUN` after its last whole epoch, and ends where an uninterrupted one does."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

OPTIONS = ["--dataset", "digits", "--epochs", "3", "--noise", "0.3", "--batch-size", "256", "--restart-every", "2", "--seed", "1"]
# Dies by SIGKILL in the middle of the defended training's second epoch, once its first is on disk.
SUICIDE = """
import os, signal, sys, keras
from pathlib import Path
from keras_privpart.cli.main import main

class Killer(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2 and list(Path(sys.argv[2], "checkpoints", "defended").glob("after-1.*")):
            os.kill(os.getpid(), signal.SIGKILL)

usual = keras.callbacks.CallbackList.__init__
def watched(self, callbacks=None, *more, **named):
    usual(self, [*(callbacks or []), Killer()], *more, **named)
keras.callbacks.CallbackList.__init__ = watched
main()
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory, model_file):
    """Two runs from one partition: `whole` was trained in one go, `killed` not."""
    from click.testing import CliRunner

    from keras_privpart.cli.main import main

    folder = tmp_path_factory.mktemp("killed")
    for name in ("whole", "killed"):
        assert CliRunner().invoke(main, ["partition", str(model_file), "--at", "narrow", "--out", str(folder / name)]).exit_code == 0
    assert CliRunner().invoke(main, ["train", str(folder / "whole"), *OPTIONS]).exit_code == 0
    done = subprocess.run([sys.executable, "-c", SUICIDE, "train", str(folder / "killed"), *OPTIONS], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    return folder


def test_what_is_given_beside_the_run_must_be_as_it_was(killed, run):
    error = run("train", killed / "killed", "--epochs", "4", code=2).stderr
    assert "has --epochs 3, not 4" in error
    assert "Give RUN alone" in error


def test_it_goes_on_and_ends_as_if_it_had_not_been_killed(killed, run):
    checkpoints = killed / "killed" / "checkpoints"
    assert len(json.loads((checkpoints / "undefended" / "state.json").read_text())["logs"]) == 3
    assert len(json.loads((checkpoints / "defended" / "state.json").read_text())["logs"]) == 1
    assert not (killed / "killed" / "train.json").exists()
    result = run("train", killed / "killed")
    assert "Going on with the training" in result.stderr
    assert not checkpoints.exists()
    whole, again = (json.loads((killed / name / "train.json").read_text()) for name in ("whole", "killed"))
    assert whole.pop("data") == again.pop("data")
    for which, logs in whole.pop("history").items():
        assert set(logs) == set(again["history"][which])
        for key, values in logs.items():
            if which == "defended" and key.startswith("val_"):
                continue  # the channel's noise in use is never seeded
            assert np.allclose(values, again["history"][which][key], atol=1e-4), (which, key)
    again.pop("history")
    assert whole == again
    for which in ("undefended", "defended"):
        a, b = (_weights(killed / name / which) for name in ("whole", "killed"))
        assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(a, b, strict=True))


def _weights(folder):
    from keras_privpart import Partition

    return Partition.load(folder).model.get_weights()


def test_a_run_without_a_training_asks_for_data(model_file, run, tmp_path):
    run("partition", model_file, "--at", "narrow", "--out", tmp_path / "run")
    assert "Missing option '--data'" in run("train", tmp_path / "run", code=2).stderr


def test_checkpoints_of_another_training_are_refused(model_file, run, tmp_path):
    run("partition", model_file, "--at", "narrow", "--out", tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    (folder / "undefended").mkdir(parents=True)
    (folder / "undefended" / "state.json").write_text('{"logs": [{"loss": 1.0}]}')
    options = {
        "dataset": "digits",
        "epochs": 2,
        "batch_size": 512,
        "learning_rate": 1e-3,
        "seed": 0,
        "pretrained": False,
        "overwrite": False,
    }
    (folder / "started.json").write_text(json.dumps({"schema": 1, "options": options}))
    assert "Remove the folder to train from the start" in run("train", tmp_path / "run", code=1).stderr
    (folder / "started.json").write_text("{")
    assert "Pass --overwrite to train from the start" in run("train", tmp_path / "run", code=1).stderr
