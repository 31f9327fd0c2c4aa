"""A genuine server of the Open Inference Protocol: MLServer with the ONNX half, where `mlserver` is on the PATH."""

import json
import os
import re
import shutil
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart import errors
from keras_privpart.serving import Client
from keras_privpart.serving.servers.deployment import write_deployment

ROOT = Path(__file__).parents[3]
MLSERVER = shutil.which("mlserver")
pytestmark = pytest.mark.skipif(MLSERVER is None, reason="no mlserver on the PATH")


def shown(folder, bundle):
    """The settings that docs/serving.md shows."""
    text = re.search(r"```json\n(\{.*?mlserver_runtime.*?)```", (ROOT / "docs/serving.md").read_text(), re.S).group(1)
    (folder / "model-settings.json").write_text(text.replace("saved_models/mnist", str(bundle.path)))


def deployed(folder, bundle):
    """What KServe's ConfigMap mounts for the server, by the file that `serve --write-deploy` writes."""
    yaml = pytest.importorskip("yaml")
    deploy = write_deployment(bundle.path, folder / "deploy").folder
    config, service = yaml.safe_load_all((deploy / "open-inference/kserve.yaml").read_text())
    [volume] = [volume["configMap"] for volume in service["spec"]["predictor"]["volumes"] if volume["name"] == "config"]
    for item in volume["items"]:
        (folder / item["path"]).parent.mkdir(exist_ok=True)
        (folder / item["path"]).write_text(config["data"][item["key"]].replace("/models/mnist", str(bundle.path / "server")))


@pytest.fixture(scope="module", params=[shown, deployed])
def server(request, onnx_bundle, tmp_path_factory):
    """MLServer; the addresses of its REST and gRPC ports by transport."""
    folder = tmp_path_factory.mktemp("mlserver")
    with ExitStack() as stack:  # all at once, so that they differ
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        rest, grpc, metrics = (one.getsockname()[1] for one in sockets)
    request.param(folder, onnx_bundle)
    file = folder / "settings.json"
    own = json.loads(file.read_text()) if file.exists() else {"parallel_workers": 0}
    file.write_text(json.dumps(own | {"host": "127.0.0.1", "http_port": rest, "grpc_port": grpc, "metrics_port": metrics}))
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            [MLSERVER, "start", str(folder)], stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(_package(folder / "site"))}
        )
        try:
            yield {"v2": f"127.0.0.1:{rest}", "v2-grpc": f"127.0.0.1:{grpc}"}
        finally:
            running.terminate()
            running.wait(20)


def _package(site):
    """The package as it installs, for the server's own environment."""
    package = site / "keras_privpart"
    package.mkdir(parents=True)
    for part in (*(ROOT / "keras_privpart").iterdir(), ROOT / "serving"):
        if part.name != "__pycache__":
            (package / part.name).symlink_to(part)
    return site


@pytest.mark.parametrize("transport", ["v2", "v2-grpc"])
def test_answers_are_those_of_the_whole_model(onnx_bundle, server, parts, images, transport):
    with Client(onnx_bundle.path, server[transport], transport=transport) as client:
        client.wait_for_ready(60)
        np.testing.assert_allclose(client.predict(images), parts.model.predict(images, verbose=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transport", ["v2", "v2-grpc"])
def test_another_pair_is_refused(other_parts, server, images, tmp_path, transport):
    other = kp.export(other_parts, tmp_path / "mnist")
    with Client(other.path, server[transport], transport=transport) as client:
        with pytest.raises(errors.PairMismatchError, match=r"its fingerprint is .* Nothing was sent"):
            client.wait_for_ready(60)
        with pytest.raises(errors.PairMismatchError, match=r"its fingerprint is .* Nothing was sent"):
            client.predict(images)


@pytest.mark.parametrize("transport", ["v2", "v2-grpc"])
def test_a_version_that_is_not_there(other_parts, server, images, tmp_path, transport):
    second = kp.export(other_parts, tmp_path / "mnist", version=2)
    with Client(second.path, server[transport], transport=transport) as client:
        with pytest.raises(errors.ServerNotFoundError, match="not found"):
            client.predict(images)
        with pytest.raises(errors.ServerNotFoundError, match=r"Not ready within 0.3 s"):
            client.wait_for_ready(0.3)
