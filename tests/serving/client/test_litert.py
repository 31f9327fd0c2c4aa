"""A device without TensorFlow: the client runs with LiteRT, grpcio, protobuf and numpy alone."""

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart import errors
from keras_privpart.serving import Client, LocalServer
from keras_privpart.serving.client.device import LiteRTRunner, SavedModelRunner, needs_tensorflow

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def light(parts, saved):
    """A bundle whose device half is there in both formats."""
    return kp.export(parts, saved / "light", max_batch_size=4, formats=("saved_model", "litert"))


@pytest.fixture(scope="module")
def light_server(light):
    with LocalServer(light.path) as running:
        yield running


def test_litert_answers_as_the_saved_model_does(light, light_server, parts, images):
    want = parts.model.predict(images, verbose=0)
    for device_format, runner in ((None, LiteRTRunner), ("litert", LiteRTRunner), ("saved_model", SavedModelRunner)):
        with Client(light.path, light_server.address, device_format=device_format) as client:
            assert type(client._session.device) is runner
            np.testing.assert_allclose(client.predict(images), want, atol=1e-5)
            np.testing.assert_allclose(client.predict(images[:1]), want[:1], atol=1e-5)


def test_threads_share_a_litert_device_half(light, light_server, parts, images):
    want = parts.model.predict(images, verbose=0)
    barrier = threading.Barrier(4)
    with Client(light.path, light_server.address) as client, ThreadPoolExecutor(4) as pool:

        def ask(index):
            barrier.wait(10)
            return [client.predict(images[i : i + 1 + index]) for i in range(5)]

        for index, answers in enumerate(pool.map(ask, range(4))):
            for i, got in enumerate(answers):
                np.testing.assert_allclose(got, want[i : i + 1 + index], atol=1e-5)


def test_without_litert_the_saved_model_runs(light, bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ai_edge_litert" else real(name))
    assert needs_tensorflow(light.contract)
    with Client(light.path, "localhost:1") as client:
        assert type(client._session.device) is SavedModelRunner
    with pytest.raises(errors.BundleError, match=r"needs LiteRT: .*pip install 'keras_privpart\[litert\]'"):
        Client(light.path, "localhost:1", device_format="litert")


def test_which_formats_need_tensorflow(light, bundle):
    assert not needs_tensorflow(light.contract)
    assert needs_tensorflow(light.contract, "saved_model")
    assert needs_tensorflow(bundle.contract)


@pytest.mark.parametrize("wrong", ["onnx", "litert"])
def test_a_format_that_the_bundle_lacks(bundle, wrong):
    with pytest.raises(errors.ContractError, match=rf"Received the format '{wrong}'; version 1 of 'faces' has \['saved_model'\]"):
        Client(bundle.path, "localhost:1", device_format=wrong)


# What is left out of a device: an import of it fails, as if it were not installed.
BLOCK = """
import sys, time
start = time.perf_counter()
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""
ASK = """
import numpy as np
from keras_privpart.serving import {client}
x = np.load(sys.argv[3])
{body}
print("seconds", time.perf_counter() - start, file=sys.stderr)
np.save(sys.argv[4], y)
loaded = {{name.split(".")[0] for name in sys.modules}}
print(sorted(loaded & {{"tensorflow", "keras", "tensorflow_serving", "jax", "torch", "click", "sklearn", "ml_dtypes"}}))
"""
SYNC = """
with Client(sys.argv[1], sys.argv[2]) as client:
    client.wait_for_ready(10)
    y = client.predict(x)
    assert len(list(client.stream([x, x], progress="no bar"))) == 2
"""
ASYNC = """
import asyncio
async def ask():
    async with AsyncClient(sys.argv[1], sys.argv[2]) as client:
        return await client.predict(x)
y = asyncio.run(ask())
"""
ABSENT = [
    "tensorflow",
    "keras",
    "tensorflow_serving",
    "tensorflow_datasets",
    "tqdm",
    "click",
    "sklearn",
    "prometheus_client",
    "cryptography",
]


def ask_alone(python, code, bundle, server, images, folder, **environment):
    np.save(folder / "x.npy", images)
    command = [str(python), "-c", code, str(bundle.path), server.address, str(folder / "x.npy"), str(folder / "y.npy")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    return np.load(folder / "y.npy")


@pytest.mark.parametrize(("client", "body"), [("Client", SYNC), ("AsyncClient", ASYNC)])
def test_the_client_runs_where_tensorflow_is_not_installed(light, light_server, parts, images, tmp_path, client, body):
    code = BLOCK.format(absent=ABSENT) + ASK.format(client=client, body=body)
    got = ask_alone(sys.executable, code, light, light_server, images, tmp_path)
    np.testing.assert_allclose(got, parts.model.predict(images, verbose=0), atol=1e-5)


def test_a_saved_model_without_tensorflow_says_what_to_install(bundle, tmp_path):
    code = BLOCK.format(absent=["tensorflow"]) + (
        "from keras_privpart.serving import Client\nfrom keras_privpart.errors import BundleError\n"
        "try:\n    Client(sys.argv[1], 'localhost:1')\nexcept BundleError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(bundle.path)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "is a SavedModel and needs TensorFlow" in done.stdout


@pytest.mark.skipif("PRIVPART_PIP_TESTS" not in os.environ, reason="installs packages; set PRIVPART_PIP_TESTS to run it")
def test_the_client_runs_in_an_environment_of_four_packages(light, light_server, parts, images, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "ai-edge-litert", "grpcio", "protobuf", "numpy"], check=True)
    copy = shutil.copytree(ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "*.egg-info", "build", "tests", "saved_models"))
    subprocess.run([*install, "--no-deps", str(copy)], check=True)
    code = "import sys, time\nstart = time.perf_counter()\n" + ASK.format(client="Client", body=SYNC)
    got = ask_alone(python, code, light, light_server, images, tmp_path)
    np.testing.assert_allclose(got, parts.model.predict(images, verbose=0), atol=1e-5)
