"""`protect`: one command leaves a run that `audit` and `export` go on from."""

import contextlib

import pytest

from keras_privpart.auditing.reporting.report import AuditReport
from keras_privpart.cli import run_folder, run_training
from keras_privpart.contract import Contract
from keras_privpart.errors import DataError


@pytest.fixture
def protected(run, model_file, tmp_path):
    """A run of an untrained model, and what the command printed."""
    options = ["--epochs", 1, "--seeds", 1, "--attack-epochs", 1, "--attacks", "decoder, small, mse", "--looks", 1, "--bottleneck", 4]
    done = run("protect", model_file, "--dataset", "digits", "--at", "conv", "--out", tmp_path / "run", *options)
    return tmp_path / "run", done.stdout


def test_a_run_that_export_understands_with_its_choices(run, protected, tmp_path):
    folder, shown = protected
    assert "training with and without a defence, as the model is untrained" in shown
    assert "cut: conv, because you asked for it" in shown
    assert "What it costs:" in shown
    assert "decoder, small, mse" in shown.split("What the strongest attackers still read:")[1]
    source, record = run_folder.read_training(folder)
    assert source.dataset == "digits"
    assert [choice["what"] for choice in record["choices"]] == ["start", "cut", "bottleneck", "recipe"]
    assert record["defence"]["bottleneck"] == 4
    assert AuditReport.load(folder / run_folder.REPORT).boundary_bytes == 16
    run("export", folder, "--to", tmp_path / "bundle")
    assert Contract.load(tmp_path / "bundle").audit is not None


def test_a_training_that_was_broken_off_goes_on_with_its_whole_epochs(run, model_file, tmp_path, monkeypatch):
    arguments = ["protect", model_file, "--dataset", "digits", "--at", "conv", "--out", tmp_path / "run", "--epochs", 2, "--seeds", 1]
    arguments += ["--attack-epochs", 1, "--attacks", "kernel posterior", "--looks", 1, "--bottleneck", 4]
    told = []

    @contextlib.contextmanager
    def breaking(bar):
        class Bar:
            def update(self, count):
                told.append(count)
                if len(told) == 3:
                    raise DataError("the power is gone")

            def set_postfix_str(self, text):
                pass

        yield Bar()

    with monkeypatch.context() as patch:
        patch.setattr(run_training, "progress_bar", lambda total, what: breaking(total))
        assert "the power is gone" in run(*arguments, code=1).stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == [run_folder.CHECKPOINTS]
    totals = []
    shown = run_training.progress_bar
    monkeypatch.setattr(run_training, "progress_bar", lambda total, what: (totals.append(total), shown(total, what))[1])
    run(*arguments)
    assert totals == [1], "of twice two epochs three were whole"
    _, record = run_folder.read_training(tmp_path / "run")
    assert [len(record["history"][which]["val_accuracy"]) for which in ("undefended", "defended")] == [2, 2]
    assert not (tmp_path / "run" / run_folder.CHECKPOINTS).exists()


def test_a_folder_that_is_there_is_left_alone(run, model_file, tmp_path):
    (tmp_path / "run").mkdir()
    done = run("protect", model_file, "--dataset", "digits", "--out", tmp_path / "run", code=1)
    assert "is there already; pass --overwrite" in done.stderr


def test_a_wrong_cut_is_refused_before_any_training(run, model_file, tmp_path):
    done = run("protect", model_file, "--dataset", "digits", "--at", "nowhere", "--out", tmp_path / "run", "--json", code=1)
    assert "nowhere" in done.stderr
    assert not (tmp_path / "run").exists()
    assert done.stdout == ""
