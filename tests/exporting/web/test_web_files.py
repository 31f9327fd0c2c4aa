"""What `--format web` writes, and what it refuses."""

import json
import re
import shutil
import subprocess

import keras
import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart.contract import Contract
from keras_privpart.errors import BundleError, ContractError, IntegrityError
from keras_privpart.exporting import litert
from keras_privpart.exporting.web.web_files import MODULE
from keras_privpart.serving import Client


def test_the_manifest_says_what_the_contract_says(exported):
    bundle = exported("int8")
    folder, contract = bundle.path / "device/1/web", bundle.contract
    manifest = json.loads((folder / "manifest.json").read_text())
    spec = contract.boundary.tensors[0]
    [boundary] = manifest.pop("boundary")
    assert boundary == {"name": "boundary", "shape": [6, 6, 4], "dtype": "uint8", "scale": spec.scale, "zero_point": spec.zero_point + 128}
    half = contract.files["device/1/web/model.tflite"]
    assert manifest == {
        "schema": 1,
        "name": "faces",
        "version": 1,
        "fingerprint": contract.fingerprint,
        "encoding": "int8",
        "max_batch_size": 4,
        "model": {"file": "model.tflite", "sha256": half.sha256, "bytes": half.nbytes},
        "inputs": [{"name": "image", "shape": [8, 8, 1], "dtype": "float32"}],
        "outputs": [{"name": "scores", "shape": [5], "dtype": "float32"}],
    }


def test_all_files_are_in_the_contract_and_only_the_manifest_is_not_of_the_pair(exported):
    contract = exported("plain").contract
    web = {path for path in contract.files if "/web/" in path}
    assert web == {f"device/1/web/{name}" for name in ("manifest.json", "model.tflite", "privpart.js", "privpart.d.ts")}
    assert contract.formats == ("litert", "web")

    def fingerprint_without(name):
        files = {path: record for path, record in contract.files.items() if path != f"device/1/web/{name}"}
        return Contract(**{**vars(contract), "files": files}).expected_fingerprint()

    assert fingerprint_without("manifest.json") == contract.fingerprint
    assert fingerprint_without("privpart.js") != contract.fingerprint


@pytest.mark.parametrize("name", ["manifest.json", "privpart.js", "model.tflite"])
def test_a_changed_file_is_found(name, exported, tmp_path):
    shutil.copytree(exported("plain").path, tmp_path / "b")
    file = tmp_path / "b/device/1/web" / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match=rf"web/{name} differs from the contract"):
        Client(tmp_path / "b", "localhost:1")


def test_the_half_takes_one_example_a_call_and_gives_what_litert_js_knows(exported, images):
    bundle = exported("int8")
    run = litert.load((bundle.path / "device/1/web/model.tflite").read_bytes())
    answer = run({"image": images[:1]})["boundary"]
    assert (answer.dtype, answer.shape) == (np.uint8, (1, 6, 6, 4))
    with Client(bundle.path, "localhost:1") as client:
        want = client.encode(images[:1])["boundary"]
    assert np.max(np.abs(answer.astype(int) - 128 - want)) <= 1
    [taken] = litert._interpreter((bundle.path / "device/1/web/model.tflite").read_bytes()).get_input_details()
    assert taken["shape_signature"].tolist() == [1, 8, 8, 1], "no free batch, which LiteRT.js refuses"


def test_the_python_client_runs_another_form(exported):
    with pytest.raises(ContractError, match=r"Received the format 'web', which browsers run; .* has \['litert', 'web'\]"):
        Client(exported("plain").path, "localhost:1", device_format="web")


def test_a_bundle_for_browsers_alone(parts, tmp_path):
    bundle = kp.export(parts, tmp_path / "b", formats=["web"])
    assert bundle.contract.formats == ("web",)
    assert not (bundle.path / "device/1/saved_model.pb").exists()
    with pytest.raises(ContractError, match="which browsers run"):
        Client(bundle.path, "localhost:1")


def free_model():
    x = keras.Input((None, None, 1), name="image")
    return keras.Model(x, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, name="z")(x)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"encoding": "float16"}, r"boundary tensor 'boundary' of dtype float16; LiteRT.js knows float32, int32, uint8, int8"),
        ({"web_runtime": "nowhere"}, r"Found no @litertjs/core in nowhere; expected 'npm', a node_modules folder"),
        ({"web_runtime": "npm", "formats": ["litert"]}, r"Received web_runtime='npm' without the format 'web'"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_is_written(options, text, parts, tmp_path):
    with pytest.raises(BundleError, match=text):
        kp.export(parts, tmp_path / "b", **{"formats": ["web"], **options})
    assert list(tmp_path.iterdir()) == []


def test_free_sizes_are_refused(tmp_path):
    with pytest.raises(BundleError, match=r"input 'image' of shape \[None, None, None, 1\]; expected every size but the batch to be fixed"):
        kp.export(kp.partition(free_model(), at="z"), tmp_path / "b", formats=["web"])
    assert list(tmp_path.iterdir()) == []


# The module.


def test_the_module_is_small_and_asks_nobody_else():
    script = (MODULE / "privpart.js").read_text()
    assert len(script.encode()) < 20_000
    assert "import " not in re.sub(r"await import\(|import\.meta", "", script.split("*/", 1)[1])
    assert set(re.findall(r"https?://[\w.:]+", script)) <= {"http://localhost:8501"}  # in a message


@pytest.fixture(scope="session")
def typescript(request, tmp_path_factory):
    """The compiler of the version that package.json names, fetched once for all runs into pytest's cache."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("found no node and npm to compile the module with; on Debian: apt-get install --yes nodejs npm")
    version = json.loads((MODULE / "package.json").read_text())["devDependencies"]["typescript"]
    folder = request.config.cache.mkdir(f"typescript-{version}")
    compiler = folder / "node_modules/typescript/bin/tsc"
    if not compiler.is_file():
        command = ["npm", "install", "--silent", "--no-save", "--prefix", str(folder), f"typescript@{version}"]
        done = subprocess.run(command, cwd=tmp_path_factory.mktemp("npm"), capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"npm could not fetch typescript {version}: {done.stderr[-200:]}")
    return compiler


def test_the_module_is_what_the_compiler_makes_of_its_source(typescript, tmp_path):
    for name in ("privpart.ts", "tsconfig.json", "package.json"):
        shutil.copy(MODULE / name, tmp_path)
    steps = json.loads((MODULE / "package.json").read_text())["scripts"]["build"].split(" && ")
    assert len(steps) == 2
    for step in steps:
        assert step.split()[0] == "tsc"
        subprocess.run([shutil.which("node"), typescript, *step.split()[1:]], cwd=tmp_path, check=True)
    for name in ("privpart.js", "privpart.d.ts"):
        assert (tmp_path / name).read_text() == (MODULE / name).read_text(), f"{name}: npm run build in {MODULE}"
