"""`privpart-keras audit` as a gate on a run and on a bundle."""

import json
from dataclasses import replace

import keras
import pytest
from click.testing import CliRunner

from keras_privpart.auditing.reporting.report import AttackResult
from keras_privpart.auditing.scoring.intervals import Leakage, Score
from keras_privpart.cli.data_source import DataSource
from keras_privpart.cli.main import main
from keras_privpart.cli.run_audit import _name
from keras_privpart.exporting.bundle import export
from keras_privpart.partitioning.partition import partition


@pytest.fixture(scope="module")
def parts(model_file):
    return partition(keras.models.load_model(model_file), "narrow")


@pytest.fixture(scope="module")
def report(report_of):
    scores = [{"ssim": Score(value, value, value, (value,))} for value in (0.6, 0.5, 0.9)]
    leakage = Leakage(0.25, 0.2, 0.3)
    return report_of(AttackResult("decoder", "reconstruction", "ssim", scores[0], {"decision": scores[1]}, "decision", scores[2], leakage))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_file):
    """A trained run's folder."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    for arguments in (
        ("partition", model_file, "--at", "narrow", "--out", folder),
        ("train", folder, "--dataset", "digits", "--epochs", "1"),
    ):
        assert CliRunner().invoke(main, [str(a) for a in arguments]).exit_code == 0
    return folder


@pytest.fixture
def attacked(run, trained, monkeypatch):
    """Runs `audit` on a trained run, with the attacks themselves left out: their result is `found`."""

    def invoke(found, *arguments, code=0):
        monkeypatch.setattr("keras_privpart.auditing.audit.audit", lambda *_, **__: found)
        return run("audit", trained, *arguments, "--overwrite", code=code)

    return invoke


def test_a_run_is_held_against_the_limit(attacked, report):
    assert "Leakage is within the limit of 0.25" in attacked(report, "--max-leakage", "0.25").stderr
    over = attacked(report, "--max-leakage", "0.2", "--json", code=3)
    assert "Leakage 0.25 (95 % interval 0.2 to 0.3), reconstruction, by 'decoder' exceeds the limit of 0.2." in over.stderr
    assert json.loads(over.stdout)["gate"] == {
        "limit": 0.2,
        "breaches": [over.stderr.strip().splitlines()[-1]],
        "worst": "0.25 (95 % interval 0.2 to 0.3), reconstruction, by 'decoder'",
        "passed": False,
    }
    unknown = replace(report, results=(replace(report.results[0], leakage=Leakage(None, reason="no room")),))
    assert "is undefined" in attacked(unknown, "--max-leakage", "0.2", code=3).stderr
    assert "gate" not in json.loads(attacked(report, "--json").stdout)


def test_low_effort_does_not_pass_unless_it_may(attacked, report):
    weak = replace(report, effort={"updates": 10, "full_updates": 600, "doublings": 0, "low": True})
    refused = attacked(weak, "--max-leakage", "0.5", code=3)
    assert "Attackers were trained less than by default" in refused.stderr
    assert "Low effort: attackers had 10 updates" in refused.stdout
    attacked(weak, "--max-leakage", "0.5", "--allow-low-effort")


def test_a_bundle_is_read(run, parts, report, tmp_path):
    bundle = export(parts, tmp_path / "digits", audit=report).path
    assert "leakage 0.25 (0.20–0.30), by 'decoder'" in run("audit", bundle).stdout
    assert "within the limit" in run("audit", bundle, "--max-leakage", "0.3").stderr
    assert "exceeds the limit of 0.1" in run("audit", bundle, "--max-leakage", "0.1", code=3).stderr
    (page,) = bundle.rglob("report.json")
    page.write_text(page.read_text().replace("0.25", "0.05"))
    assert "report.json" in run("audit", bundle, "--max-leakage", "0.3", code=1).stderr  # a changed bundle is not the audited one


def test_a_bundle_without_an_audit_does_not_pass(run, parts, tmp_path):
    bundle = export(parts, tmp_path / "digits").path
    assert "never audited" in run("audit", bundle, "--max-leakage", "0.3", code=1).stderr


def test_the_run_s_own_data_and_options_reach_the_audit(run, trained, monkeypatch, report):
    """With them the report names the command that makes it again."""
    given = {}

    def attack(partition, train, test, **kwargs):
        given.update(kwargs, train=train)
        return report

    monkeypatch.setattr("keras_privpart.auditing.audit.audit", attack)
    options = ["--attacks", "decoder", "--attacks", "attribute probe", "--budget", "100", "--seeds", "2"]
    options += ["--group", "label", "--unseen", "label", "--no-pictures", "--no-bound", "--looks", "1", "--looks", "4", "--curve"]
    written = json.loads(run("audit", trained, *options, "--overwrite", "--json").stdout)
    assert given["trained_on"] is given["train"]
    assert given["attacks"] == ("decoder", "attribute probe")
    assert given["budgets"] == (100, None)
    assert given["group"] == "label"
    assert set(given["train"].targets) == {"task", "label"}
    assert given["private"] == []
    assert given["unseen"] == ["label"]
    assert given["bound"] is False
    assert given["looks"] == (1, 4)
    assert given["pictures"] == 0
    assert given["cache"] == trained / "audit-cache"
    words = "--attacks decoder --attacks 'attribute probe' --budget 100 --unseen label --group label --looks 1 --looks 4"
    words += " --seeds 2 --no-bound --seed 0 --curve"
    assert written["reproduce"] == f"privpart-keras audit {trained} {words}"
    assert given["frames"] is None
    run("audit", trained, "--no-cache", "--overwrite", "--frames", "4")
    assert given["frames"] == 4
    assert given["cache"] is None
    assert given["looks"] == (1, 16)
    assert given["curve"] is False
    assert given["bound"] is True
    assert given["attacks"] == "standard"


def test_keys_that_the_training_did_not_load_are_loaded():
    source = DataSource("celeb_faces", task="identity/Identity_No", private=("attributes/Male",))
    loading = source.with_others("attributes/Smiling", "attributes/Male", "identity/Identity_No", "attributes/Smiling")
    assert loading == replace(source, others=("attributes/Smiling",))
    assert loading.private_names == ["Male"]
    assert [_name(source, key) for key in ("attributes/Smiling", "identity/Identity_No")] == ["Smiling", "task"]
