"""Every command: help with an example, and what it says to bad input."""

import importlib
import re
import subprocess
import sys

import pytest

from keras_privpart.cli.main import main

COMMANDS = sorted(main.commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_it_does_and_shows_an_example(run, name):
    text = run(name, "--help").stdout
    assert "Example:" in text
    example = re.search(r"Example:\n\s+(privpart-keras .+)", text).group(1).split()
    assert example[1] == name
    known = {option for parameter in main.commands[name].params for option in [*parameter.opts, *parameter.secondary_opts]}
    assert {word for word in example if word.startswith("--")} <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_json(run, name):
    assert "--json" in run(name, "--help").stdout


def test_the_overview_loads_no_command_and_no_numpy():
    code = (
        "import sys; from keras_privpart.cli.main import main; main(['--help'], standalone_mode=False); "
        "print([m for m in sys.modules if m.startswith(('keras_privpart.cli.commands', 'numpy', 'keras_privpart.contract'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd="/").stdout.splitlines()
    assert "Commands:" in shown
    assert shown[-1] == "[]"


def test_the_overview_has_every_commands_own_line(run):
    text = " ".join(run("--help").stdout.split("Commands:")[1].split())
    assert text == " ".join(f"{name} {command.get_short_help_str(200)}" for name, command in main.commands.items())


def test_a_misspelt_command_gets_a_suggestion(run):
    assert "partition" in run("partiton", code=2).stderr


def _no_traceback(result):
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_missing_model_file(run, tmp_path):
    line = _no_traceback(run("cuts", tmp_path / "no.keras", code=1))
    assert "Found no model file" in line


def test_a_corrupt_model_file_leaves_nothing(run, tmp_path, model_file):
    broken = tmp_path / "broken.keras"
    broken.write_bytes(model_file.read_bytes()[:300])
    line = _no_traceback(run("partition", broken, "--out", tmp_path / "run", code=1))
    assert "broken.keras" in line
    assert [p.name for p in tmp_path.iterdir()] == ["broken.keras"]


def test_an_unknown_cut_gives_near_names_and_leaves_nothing(run, tmp_path, model_file):
    line = _no_traceback(run("partition", model_file, "--at", "narow", "--out", tmp_path / "run", code=1))
    assert "narow" in line
    assert "'narrow'" in line
    assert not list(tmp_path.iterdir())


SUBCLASSED = """
import keras

class Subclassed(keras.Model):
    def call(self, x):
        return x

def make():
    return Subclassed()

def text():
    return "model"
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "some_models.py").write_text(SUBCLASSED)
    monkeypatch.chdir(tmp_path)
    return "some_models"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("some_models:make", "functional"),
        ("some_models:text", "returned a str"),
        ("some_models:absent", "has no 'absent'"),
        ("no_models:make", "Can't import 'no_models'"),
    ],
)
def test_what_is_no_functional_model(run, module, source, message):
    assert message in _no_traceback(run("cuts", source, code=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["partition", "mine.h5", "--out", "run"], "Found no model file 'mine.h5'"),
        (["cuts", "no_models:make"], "Can't import 'no_models'"),
        (["cuts", "json.no_models:make"], "Can't import 'json.no_models'"),
        (["train", ".", "--dataset", "digits"], "Found no partition.json in '.'"),
        (["export", "."], "Found no partition.json in '.'"),
        (["audit", "."], "Found no train.json in '.'"),
    ],
)
def test_what_needs_no_tensorflow_is_said_before_it_is_loaded(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name in ("model_source", "data_source", "run_audit", "commands.train", "commands.export"):
        module = importlib.import_module(f"keras_privpart.cli.{name}")
        monkeypatch.setattr(module, "import_tensorflow", lambda: pytest.fail("TensorFlow was asked for"))
    assert message in _no_traceback(run(*arguments, code=1))


def test_the_model_is_given_once(run, model_file):
    run("cuts", code=2)
    run("cuts", model_file, "--model", model_file, code=2)


def test_a_partition_that_exists_is_kept(run, tmp_path, model_file):
    out = tmp_path / "run"
    run("partition", model_file, "--out", out)
    before = (out / "partition.json").stat().st_mtime_ns
    assert "overwrite" in _no_traceback(run("partition", model_file, "--out", out, code=1))
    assert (out / "partition.json").stat().st_mtime_ns == before
    run("partition", "--model", model_file, "--out", out, "--overwrite")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "mnits", "--no-download"], "Unknown data set 'mnits'"),
        (["--dataset", "mnist", "--no-download"], "Downloading is off"),
        (["--dataset", "digits", "--task", "digit"], "no label key 'digit'"),
        (["--dataset", "digits", "--train-split", "train[:3]"], "one fixed split"),
    ],
)
def test_training_on_data_that_is_not_there_leaves_the_run_as_it_was(run, tmp_path, model_file, options, message):
    out = tmp_path / "run"
    run("partition", model_file, "--out", out)
    before = sorted(p.name for p in out.iterdir())
    assert message in _no_traceback(run("train", out, "--data-dir", tmp_path, *options, code=1))
    assert sorted(p.name for p in out.iterdir()) == before


def test_a_run_that_was_not_trained_is_not_audited(run, tmp_path, model_file):
    run("partition", model_file, "--out", tmp_path / "run")
    assert "expected a run that" in _no_traceback(run("audit", tmp_path / "run", code=1))


def test_a_folder_that_is_no_bundle(run, tmp_path):
    for name in ("serve", "predict"):
        extra = ["--dataset", "digits"] if name == "predict" else []
        assert "contract.json" in _no_traceback(run(name, tmp_path, *extra, code=1))
