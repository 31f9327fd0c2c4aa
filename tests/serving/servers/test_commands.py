"""`certs`, `serve` and `predict` from the command line."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import keras_privpart as kp
from keras_privpart.cli.main import main
from keras_privpart.serving import Client, LocalServer, start


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs") / "keys"
    made = json.loads(run("certs", folder, "--host", "localhost", "--host", "127.0.0.1", "--days", 3, "--json").stdout)
    assert made["folder"] == str(folder)
    assert made["hosts"] == ["localhost", "127.0.0.1"]
    return folder


@pytest.fixture
def question(tmp_path, images):
    np.save(tmp_path / "x.npy", images)
    return tmp_path / "x.npy"


def test_certs_says_what_it_made_and_overwrites_nothing(keys, tmp_path):
    text = run("certs", tmp_path / "more").stdout
    assert "a server certificate for localhost, 127.0.0.1, ::1" in text
    assert f"privpart-keras serve BUNDLE --tls {tmp_path / 'more'}" in text
    assert "is there already" in run("certs", keys, code=1).stderr


def test_predict_over_mutual_tls(bundle, keys, parts, images, question, tmp_path):
    with LocalServer(bundle.path, tls=keys) as server:
        arguments = ("predict", bundle.path, "--server", f"localhost:{server.port}", "--input", question)
        run(*arguments, "--tls", keys, "--output", tmp_path / "y.npy")
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), parts.model.predict(images, verbose=0), atol=1e-6)
        assert "the server speaks TLS, and plaintext was tried" in run(*arguments, code=1).stderr
        (tmp_path / "token").write_text("secret\n")
        run(*arguments, "--tls", keys, "--token-file", tmp_path / "token")
        assert "a token without tls" in run(*arguments, "--token-file", tmp_path / "token", code=1).stderr


def test_predict_by_rest_label_version_and_turns(bundle, question, parts, images):
    want = parts.model.predict(images, verbose=0)
    with LocalServer(bundle.path, rest_port=0) as server:
        for options in (
            ("--server", server.rest_address, "--transport", "rest"),
            ("--server", server.rest_address, "--transport", "v2"),
            ("--server", server.address, "--server", server.address, "--concurrency", 2),
            ("--server", server.address, "--version", 1),
            ("--server", server.address, "--label", "stable"),
        ):
            answer = json.loads(run("predict", bundle.path, "--input", question, *options, "--json").stdout)
            np.testing.assert_allclose(answer["outputs"]["scores"], want, atol=1e-5)
    assert "holds version 1" in run("predict", bundle.path, "--input", question, "--version", 9, code=1).stderr


def test_predict_loads_no_tensorflow_where_the_device_half_needs_none(parts, question, tmp_path):
    light = kp.export(parts, tmp_path / "light", formats=("saved_model", "litert"))
    code = (
        "import sys; from keras_privpart.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    print({'tensorflow', 'keras'} & set(sys.modules), file=sys.stderr)"
    )
    with LocalServer(light.path) as server:
        command = [sys.executable, "-c", code, "predict", str(light.path), "--server", server.address, "--input", str(question)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "set()"
    assert "11 examples answered" in done.stdout


def test_serve_writes_deployment_files(bundle, tmp_path):
    folder = tmp_path / "deploy"
    told = json.loads(run("serve", bundle.path, "--write-deploy", folder, "--replicas", 3, "--image", "my/serving:1", "--json").stdout)
    assert sorted(told["files"]) == sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    compose = (folder / "compose.yaml").read_text()
    assert "replicas: 3" in compose
    assert "image: my/serving:1" in compose
    for given, written in ((["--replicas", 1], 1), ([], 2)):
        other = tmp_path / f"deploy-{written}"
        run("serve", bundle.path, "--write-deploy", other, *given)
        assert f"replicas: {written}\n" in (other / "compose.yaml").read_text()
    assert "is there already" in run("serve", bundle.path, "--write-deploy", folder, code=1).stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--engine", "local", "--batching"), "the local server answers each request by itself"),
        (("--engine", "local", "--tls", ".", "--rest-port", 0), "REST port is never encrypted"),
    ],
)
def test_serve_says_what_it_cannot_do(bundle, options, text):
    assert text in run("serve", bundle.path, "--port", 0, *options, code=1).stderr


def test_the_documented_commands_exist():
    """Every command line in the documents of serving has real commands and options."""
    docs = Path(__file__).parents[3] / "docs"
    lines = [line for name in ("serving.md", "security.md") for line in (docs / name).read_text().splitlines()]
    shown = [line.split() for line in lines if line.startswith("privpart-keras ")]
    assert len(shown) >= 6
    for _, name, *words in shown:
        known = {option for parameter in main.commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, name


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on the PATH")
def test_the_documented_curl_lines_run(parts, images, tmp_path):
    """As they stand in docs/serving.md, but for the port."""
    bundle = kp.export(parts, tmp_path / "mnist", max_batch_size=4)
    lines = [line for line in (Path(__file__).parents[3] / "docs/serving.md").read_text().splitlines() if line.startswith("curl ")]
    with start(bundle.path, 0, 0) as server, Client(bundle.path, server.address) as client:
        rows = client.encode(images[:3])["boundary"].tolist()
        (tmp_path / "request.json").write_text(json.dumps({"signature_name": "serve", "instances": rows}))
        answers = []
        for line in lines:
            command = shlex.split(line.replace("localhost:8501", server.rest_address))
            done = subprocess.run([*command, "--silent", "--show-error"], capture_output=True, text=True, check=False, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            answers.append(json.loads(done.stdout))
        status, pair, scores = answers
        assert status["model_version_status"][0]["state"] == "AVAILABLE"
        assert pair == {"outputs": [bundle.contract.fingerprint]}
        np.testing.assert_allclose(scores["predictions"], client.predict(images[:3]), atol=1e-6)
