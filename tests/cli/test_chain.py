"""The whole chain by single commands, on real digits, with a server in a process of its own."""

import json
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from keras_privpart.contract import Contract


@pytest.fixture(scope="module")
def chain(tmp_path_factory, model_file):
    """A run folder and a bundle, made by the commands."""
    folder = tmp_path_factory.mktemp("chain")
    for arguments in (
        ["partition", model_file, "--at", "narrow", "--out", folder / "run"],
        ["train", folder / "run", "--dataset", "digits", "--epochs", "3", "--noise", "0.3", "--seed", "1"],
        ["audit", folder / "run", "--seeds", "1", "--epochs", "1", "--attacks", "decoder, small, mse"],
        ["export", folder / "run", "--to", folder / "digits", "--format", "saved_model", "--format", "litert"],
    ):
        command = [sys.executable, "-m", "keras_privpart.cli", *map(str, arguments), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        assert done.returncode == 0, done.stderr
        (folder / f"{arguments[0]}.json").write_text(done.stdout)
        (folder / f"{arguments[0]}.err").write_text(done.stderr)
    return folder


@pytest.fixture(scope="module")
def server(chain):
    """Address of `privpart-keras serve`, stopped by SIGTERM."""
    command = [sys.executable, "-m", "keras_privpart.cli", "serve", str(chain / "digits"), "--engine", "local", "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        facts = json.loads(process.stdout.readline())
        assert facts["engine"] == "local"
        yield facts["address"]
    finally:
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "not TensorFlow Serving" in stderr
    assert "Stopped." in stderr


def read(chain, command):
    return json.loads((chain / f"{command}.json").read_text())


def test_every_command_prints_one_json_object(chain):
    assert read(chain, "partition")["boundary"][0]["source"] == "narrow"
    trained = read(chain, "train")
    assert trained["defended"]["val_reconstruction_recovered"] > 0
    assert "reconstruction_loss" not in trained["undefended"]
    assert read(chain, "export")["audited"] is True


def test_the_run_folder_carries_what_the_next_command_needs(chain):
    assert {p.name for p in (chain / "run").iterdir()} >= {"device.keras", "server.keras", "train.json", "undefended", "defended", "report"}
    assert not list(chain.rglob(".*")), "nothing temporary is left"


def test_the_bundle_carries_contract_audit_and_channel(chain):
    contract = Contract.load(chain / "digits")
    contract.verify_files(chain / "digits")
    assert contract.audit is not None
    assert contract.channel
    report = (chain / "digits" / "report" / "1" / "index.html").read_text()
    assert not re.search(r'(src|href)="http', report), "the report needs no network"


def test_an_encoded_version_with_litert_beside_the_first(chain, run, tmp_path):
    shutil.copytree(chain / "digits", tmp_path / "digits")
    options = ["--encoding", "int8", "--format", "saved_model", "--format", "litert-int8", "--json"]
    made = json.loads(run("export", chain / "run", "--to", tmp_path / "digits", *options).stdout)
    assert made["version"] == 2
    reference, *forms = made["measurements"]
    assert [row["form"] for row in forms] == ["saved_model", "litert-int8"]
    assert all(row["accuracy"] is not None and row["leakage"] is None for row in forms)
    assert {4 * row["boundary_bytes"] for row in forms} == {reference["boundary_bytes"]}
    shown = run("inspect", tmp_path / "digits").stdout
    assert "Version 1 of 'digits' (stable)" in shown
    assert "Version 2 of 'digits' (canary)" in shown
    assert "leakage not measured" in shown
    assert json.loads(run("promote", tmp_path / "digits", "--version", 2, "--json").stdout)["labels"] == {"stable": 2, "canary": 2}


def test_an_optimised_half_is_exported_without_the_audit_of_another(chain, run, tmp_path):
    made = json.loads(
        run("export", chain / "run", "--to", tmp_path / "b", "--optimize", "prune:0.5", "--optimize-steps", 10, "--json").stdout
    )
    assert (made["optimization"], made["audited"]) == ("prune:0.5, 10 steps", False)
    reference, row = made["measurements"]
    assert reference["leakage"] is not None
    assert (row["leakage"], row["accuracy"] > 0) == (None, True)
    assert "expected 'prune:0.5'" in run("export", chain / "run", "--to", tmp_path / "c", "--optimize", "prune", code=1).stderr


def test_predict_queries_the_server(chain, server, run, tmp_path):
    result = run("predict", chain / "digits", "--server", server, "--dataset", "digits", "--json")
    answer = json.loads(result.stdout)
    assert answer["examples"] == 450
    assert answer["bytes_sent_each"] == Contract.load(chain / "digits").boundary.nbytes
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8, 1), "float32"))
    run("predict", chain / "digits", "--server", server, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert np.load(tmp_path / "y.npy").shape == (3, 10)


def test_predict_says_what_is_wrong(chain, server, run, tmp_path):
    np.save(tmp_path / "wrong.npy", np.zeros((3, 9, 9, 1), "float32"))
    assert "expected" in run("predict", chain / "digits", "--server", server, "--input", tmp_path / "wrong.npy", code=1).stderr
    run("predict", chain / "digits", "--server", server, code=2)


def test_predict_without_a_server(chain, run, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8, 1), "float32"))
    result = run("predict", chain / "digits", "--server", "127.0.0.1:1", "--input", tmp_path / "x.npy", "--timeout", "1", code=1)
    assert "127.0.0.1:1" in result.stderr
    former = run("predict", chain / "digits", "--server", "127.0.0.1:1", "--input", tmp_path / "x.npy", "--timeout", "1", "--rest", code=1)
    assert "--rest is deprecated: write --transport rest." in former.stderr


def test_a_port_in_use(chain, server, run):
    port = server.rsplit(":", 1)[1]
    assert "port" in run("serve", chain / "digits", "--engine", "local", "--port", port, code=1).stderr


def test_what_is_there_is_kept_unless_overwritten(chain, run):
    for arguments in (
        ["train", chain / "run", "--dataset", "digits"],
        ["audit", chain / "run"],
        ["export", chain / "run", "--to", chain / "digits", "--version", "1"],
    ):
        assert "overwrite" in run(*arguments, code=1).stderr


NOISE = re.compile(r"(?i)retrac|mlir|cuda|cuinit|onednn|xnnpack|cpu_feature|rebuild tensorflow|^[IWEF]\d{4} |warning|absl|traceback|dump")


@pytest.mark.parametrize("command", ["partition", "train", "audit", "export", "cuts", "inspect", "predict"])
def test_commands_say_nothing_but_their_own(chain, command, model_file, server, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8, 1), "float32"))
    more = {
        "cuts": [model_file],
        "inspect": [chain / "digits"],
        "predict": [chain / "digits", "--server", server, "--input", tmp_path / "x.npy"],
    }
    if command in more:
        done = subprocess.run(
            [sys.executable, "-m", "keras_privpart.cli", command, *map(str, more[command])], capture_output=True, text=True
        )
        said = done.stderr
        assert done.returncode == 0, said
    else:
        said = (chain / f"{command}.err").read_text()
    assert [line for line in said.splitlines() if NOISE.search(line)] == []
