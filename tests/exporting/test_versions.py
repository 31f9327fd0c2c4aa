"""Several versions in one bundle: added beside each other, labelled, inspected."""

import json
import os
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

import keras_privpart as kp
from keras_privpart.cli.main import main
from keras_privpart.contract import SERVING_FILES, Contract
from keras_privpart.errors import BundleError, BundleExistsError, ContractError, IntegrityError
from keras_privpart.exporting import installation
from keras_privpart.exporting.inspection import inspect
from keras_privpart.exporting.promotion import intact_labels, promote
from keras_privpart.serving import Client, LocalServer


def snapshot(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def exported(parts, tmp_path_factory):
    """A bundle of two versions, and what it was with one."""
    root = tmp_path_factory.mktemp("saved") / "digits"
    kp.export(parts, root, max_batch_size=6)
    before = snapshot(root)
    second = kp.export(parts.with_channel(kp.GaussianChannel(0.5)), root, max_batch_size=2, threat_model=kp.ThreatModel(private=("Male",)))
    return second, before


@pytest.fixture
def root(exported, tmp_path):
    return shutil.copytree(exported[0].path, tmp_path / "digits")


def served(root):
    text = (root / "serving/models.config").read_text()
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config[0]


def test_a_second_export_adds_a_version_and_touches_none(exported):
    second, before = exported
    root, after = second.path, snapshot(second.path)
    assert (second.version, second.name) == (2, "digits")
    assert {path: after[path] for path in before if path[:6] in ("device", "server")} == {
        path: content for path, content in before.items() if path[:6] in ("device", "server")
    }
    assert after["contracts/1.json"] == before["contract.json"]
    assert Contract.load(root) == second.contract
    for version in (1, 2):
        Contract.load(root, version).verify_files(root)
    assert [p.name for p in root.parent.iterdir()] == ["digits"]


def test_the_server_is_told_of_both(exported):
    model = served(exported[0].path)
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}
    assert "max_batch_size" in (exported[0].path / "serving/batching.config").read_text()
    assert "allowed_batch_sizes: 6\n" in (exported[0].path / "serving/batching.config").read_text(), "the largest of all versions"


@pytest.mark.parametrize("version", [1, 2])
def test_clients_of_either_version_are_answered_by_their_own_half(exported, parts, images, version):
    """Version 1 has no channel, version 2 is noisy: the answers tell them apart, and the files of both are checked by hash."""
    root = exported[0].path
    with LocalServer(root) as server, Client(root, server.address, version=version) as client:
        assert client.contract == Contract.load(root, version)
        answers = client.predict(images)
    same = np.allclose(answers, parts.model.predict(images, verbose=0), atol=1e-5)
    assert same == (version == 1)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"version": 1}, BundleExistsError, r"versions up to 2; received version 1. Leave version out to add 3, or pass overwrite=True"),
        ({"version": 2}, BundleExistsError, "received version 2"),
        ({"name": "cats"}, BundleError, "Received name='cats'; the bundle .* serves 'digits'"),
    ],
)
def test_versions_that_cannot_be_added(parts, root, arguments, error, text):
    before = snapshot(root)
    with pytest.raises(error, match=text):
        kp.export(parts, root, **arguments)
    assert snapshot(root) == before


def staged(root, version=3):
    """Folders of a version as an export writes them, beside the bundle: the newest one's under another number."""
    stage, newest = root.parent / "stage", Contract.load(root)
    for side in ("device", "server", "report"):
        shutil.copytree(root / side / str(newest.version), stage / side / str(version))
    files = {path.replace("/2/", f"/{version}/"): record for path, record in newest.files.items()}
    contract = type(newest)(**{**vars(newest), "version": version, "files": files}).with_fingerprint()
    (stage / "contract.json").write_text(contract.dumps())
    return stage, contract


def test_numbers_may_be_left_out(root):
    stage, contract = staged(root, 7)
    installation.install(stage, root, contract, overwrite=False)
    assert Contract.versions(root) == (1, 2, 7)
    assert intact_labels(root) == {"stable": 1, "canary": 7}
    assert inspect(root).problems == ()


@pytest.mark.parametrize("step", range(11))
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_addition_leaves_the_bundle_as_it_was(root, monkeypatch, step, error):
    """Each rename of the addition fails once: the copy of the older contract, the two folders, the contract, the files of serving/."""
    stage, contract = staged(root)
    before, calls, rename = snapshot(root), [], os.replace

    def failing(source, destination):
        calls.append(destination)
        if len(calls) == step + 1:
            raise error
        rename(source, destination)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(type(error)):
        installation.install(stage, root, contract, overwrite=False)
    monkeypatch.undo()
    assert snapshot(root) == before
    assert inspect(root).problems == ()


@pytest.mark.parametrize("step", range(6))
def test_an_interrupted_promotion_leaves_the_labels_as_they_were(root, monkeypatch, step):
    before, calls, rename = snapshot(root), [], os.replace

    def failing(source, destination):
        calls.append(destination)
        if len(calls) == step + 1:
            raise OSError("disk full")
        rename(source, destination)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(BundleError, match=r"disk full.*labels are as they were"):
        promote(root, 2)
    assert snapshot(root) == before


def test_leftovers_of_a_killed_export_are_named_and_kept(root):
    stage, contract = staged(root)
    (root / "server/3").mkdir()
    (root / "server/3/half.written").write_text("")
    assert [p.path for p in inspect(root).problems] == ["server/3"]
    with pytest.raises(BundleExistsError, match=r"server/3 is there already, in no contract: an export was interrupted\. Remove it"):
        installation.install(stage, root, contract, overwrite=False)
    assert Contract.versions(root) == (1, 2)
    assert not (root / "device/3").exists()


def test_a_version_taken_meanwhile(root):
    stage, contract = staged(root, 2)
    with pytest.raises(BundleExistsError, match="received version 2"):
        installation.install(stage, root, contract, overwrite=False)


# Labels.


def test_promote(root):
    before = snapshot(root)
    done = promote(root, 2)
    assert (done.before, done.labels) == ({"stable": 1, "canary": 2}, {"stable": 2, "canary": 2})
    assert dict(served(root).version_labels) == done.labels
    after = snapshot(root)
    assert {path for path in after if after[path] != before.get(path)} == {"serving/models.config"}
    assert promote(root, 1, "stable").labels == {"stable": 1, "canary": 2}
    assert snapshot(root) == before
    assert [p.name for p in root.parent.iterdir()] == ["digits"]


@pytest.mark.parametrize(
    ("arguments", "text"), [((3,), "holds versions 1, 2"), ((2, "my label"), "Received the model name 'my label'"), ((2, ""), "name ''")]
)
def test_labels_that_cannot_be(root, arguments, text):
    before = snapshot(root)
    with pytest.raises(ContractError, match=text):
        promote(root, *arguments)
    assert snapshot(root) == before


def test_a_damaged_version_is_not_promoted(root):
    (root / "server/2/saved_model.pb").write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"server/2/saved_model\.pb differs"):
        promote(root, 2)
    assert intact_labels(root)["stable"] == 1


def test_promote_repairs_the_files_of_serving(root):
    before = snapshot(root)
    for path in SERVING_FILES:
        (root / path).write_text("nonsense")
    assert promote(root, 1).before == {}
    assert promote(root, 2, "canary").labels == {"stable": 1, "canary": 2}
    assert snapshot(root) == before


def test_a_label_file_that_cannot_be_replaced(root, monkeypatch):
    def refuse(*_):
        raise OSError("read-only")

    before = snapshot(root)
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(BundleError, match="labels are as they were"):
        promote(root, 2)
    assert snapshot(root) == before
    assert [p.name for p in root.parent.iterdir()] == ["digits"]


# Inspection.


def test_inspect_shows_everything(exported):
    found = inspect(exported[0].path)
    assert found.problems == ()
    text = found.describe()
    for words in (
        "Version 1 of 'digits' (stable)",
        "Version 2 of 'digits' (canary)",
        exported[0].contract.fingerprint,
        "float32 6x6x4 from 'stem', 576 bytes an example",
        "keras_privpart>GaussianChannel",
        "none: this version was not audited",
        "threat model: none was declared",
        "To be hidden from the server side: the input, the attribute 'Male'.",
        "Intact:",
    ):
        assert words in text
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (record["intact"], record["labels"], [v["version"] for v in record["versions"]]) == (True, {"stable": 1, "canary": 2}, [1, 2])


@pytest.mark.parametrize(
    ("path", "damage", "named"),
    [
        ("server/1/saved_model.pb", "change", ["server/1/saved_model.pb"]),
        ("device/2/saved_model.pb", "remove", ["device/2/saved_model.pb"]),
        ("serving/models.config", "change", ["serving/models.config"]),
        ("serving/ssl.config", "remove", ["serving/ssl.config"]),
        ("contract.json", "change", ["contract.json"]),
        ("contracts/7.json", "add", ["contracts/7.json"]),
        ("contracts/notes.txt", "add", ["contracts/notes.txt"]),
        ("notes.txt", "add", ["notes.txt"]),
        ("device/9/saved_model.pb", "add", ["device/9"]),
        ("report/1/index.html", "add", ["report/1/index.html"]),
    ],
)
def test_inspect_names_each_bad_file(root, path, damage, named):
    file = root / path
    if damage == "remove":
        file.unlink()
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(file.read_bytes()[:-1] + b"!" if damage == "change" else b"new")
    found = inspect(root)
    assert [p.path for p in found.problems] == named
    assert named[0] in found.problems[0].text
    assert "NOT INTACT" in found.describe() or not found.contracts


def test_a_damaged_older_contract_is_named_with_what_hangs_on_it(root):
    (root / "contracts/1.json").write_text("{")
    assert {p.path for p in inspect(root).problems} == {"contracts/1.json", *SERVING_FILES}


def test_a_device_needs_no_server_half(root):
    shutil.rmtree(root / "server")
    assert inspect(root, partial=True).problems == ()
    assert {p.path.split("/")[0] for p in inspect(root).problems} == {"server"}


def test_the_commands(root):
    def run(*arguments):
        return CliRunner().invoke(main, [str(a) for a in arguments])

    assert json.loads(run("promote", root, "--version", 2, "--json").stdout)["labels"] == {"stable": 2, "canary": 2}
    shown = run("inspect", root)
    assert (shown.exit_code, "Version 2 of 'digits' (canary, stable)" in shown.stdout) == (0, True)
    (root / "device/1/saved_model.pb").write_bytes(b"")
    bad = run("inspect", root, "--json")
    assert (bad.exit_code, json.loads(bad.stdout)["problems"][0]["path"]) == (1, "device/1/saved_model.pb")
    assert run("promote", root, "--version", 5).exit_code == 1
