"""`privpart-keras playground` from the command line: what it refuses before it serves anything, and a page from start to Ctrl-C."""

import json
import signal
import subprocess
import sys
import urllib.request

import keras
import pytest

import keras_privpart as kp


@pytest.fixture(scope="module")
def bundle(model_file, tmp_path_factory):
    parts = kp.partition(keras.models.load_model(model_file), at="narrow")
    return kp.export(parts, tmp_path_factory.mktemp("saved") / "tiny", formats=["litert"]).path


def test_decoders_need_a_run(run, bundle):
    assert "--train-decoders needs --run" in run("playground", bundle, "--train-decoders", code=2).stderr


def test_another_runs_attacker_is_refused(run, bundle, model_file, tmp_path):
    other = kp.partition(keras.models.load_model(model_file), at="conv")
    other.save(tmp_path / "undefended")
    other.save(tmp_path / "defended")
    result = run("playground", bundle, "--run", tmp_path, code=1)
    assert "does not hold" in result.stderr
    assert "Name the run that it was exported from" in result.stderr.replace("\n", " ")


def test_a_page_without_an_attacker_until_ctrl_c(bundle):
    command = [sys.executable, "-m", "keras_privpart.cli", "playground", str(bundle), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd="/") as process:
        try:
            told = json.loads(process.stdout.readline())
            with urllib.request.urlopen(f"{told['page']}facts", timeout=20) as answer:
                facts = json.load(answer)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
    assert code == 0
    assert told["attacker"] is False
    assert facts["attacker"] is None
    assert "--run RUN --train-decoders" in facts["missing"]
    assert facts["shape"] == [8, 8, 1]
