"""Bundles that are not what their contract says: refused before the device half is loaded, naming the file."""

import json
import shutil

import pytest

from keras_privpart import errors
from keras_privpart.serving import Client


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle.path, tmp_path / "faces")


def files_of(bundle):
    return sorted(bundle.contract.files)


@pytest.mark.parametrize("damage", ["bit", "truncate", "empty", "grow", "remove", "link"])
def test_every_changed_file_is_refused_by_name(bundle, copy, damage, server):
    for name in files_of(bundle):
        path = copy / name
        intact = path.read_bytes()
        if damage == "remove":
            path.unlink()
        elif damage == "link":
            path.unlink()
            path.symlink_to(bundle.path / name)
        else:
            middle = len(intact) // 2
            flipped = intact[:middle] + bytes([intact[middle] ^ 1]) + intact[middle + 1 :]
            path.write_bytes({"bit": flipped, "truncate": intact[:-1], "empty": b"", "grow": intact + b"\0"}[damage])
        if damage == "remove" and not name.startswith("device/"):
            Client(copy, server.address).close()  # a device need not have the other folders
        else:
            with pytest.raises(errors.IntegrityError, match=name):
                Client(copy, server.address)
        path.unlink(missing_ok=True)
        path.write_bytes(intact)
    Client(copy, server.address).close()


@pytest.mark.parametrize("name", ["device/1/extra.py", "server/1/extra.py", "serving/other.config", "report/x.html"])
def test_a_file_that_is_not_listed_is_refused(copy, name):
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("")
    with pytest.raises(errors.IntegrityError, match=f"{name} is not listed"):
        Client(copy, "localhost:1")


@pytest.mark.parametrize(
    "key",
    ["name", "version", "boundary", "inputs", "outputs", "server_weights", "fingerprint", "files", "audit", "made_with", "max_batch_size"],
)
def test_a_changed_contract_is_refused(copy, key):
    path = copy / "contract.json"
    record = json.loads(path.read_text())
    changed = {
        "name": "cats", "version": 2, "server_weights": "0" * 64, "fingerprint": "0" * 64, "audit": {"leakage": 0.0},
        "made_with": {}, "max_batch_size": 1,
    }  # fmt: skip
    record[key] = changed.get(
        key,
        record[key]
        if key == "files"
        else [{**record.get(key)[0], "shape": [None, 1]}]
        if key in ("boundary", "inputs", "outputs")
        else None,
    )
    if key == "files":
        record["files"].pop("server/1/saved_model.pb")
    path.write_text(json.dumps(record))
    with pytest.raises(errors.IntegrityError, match="was changed after it was written"):
        Client(copy, "localhost:1")


def test_a_contract_of_another_bundle(bundle, other, copy):
    shutil.copy(other.path / "contract.json", copy)
    with pytest.raises(errors.IntegrityError, match="device/1/"):
        Client(copy, "localhost:1")


def test_a_device_needs_no_server_folder(copy, server, images):
    shutil.rmtree(copy / "server")
    shutil.rmtree(copy / "serving")
    with Client(copy, server.address) as client:
        assert client.predict(images[:1]).shape == (1, 5)


def test_a_bundle_without_a_device_half(copy):
    shutil.rmtree(copy / "device")
    with pytest.raises(errors.IntegrityError, match=r"device/1/.* missing"):
        Client(copy, "localhost:1")


@pytest.mark.parametrize("hidden", ["", "nowhere"])
def test_no_bundle_at_all(tmp_path, hidden):
    with pytest.raises(errors.ContractError, match=r"Found no contract\.json"):
        Client(tmp_path / hidden, "localhost:1")


def test_the_version_is_pinned(bundle, server):
    Client(bundle.path, server.address, version=1).close()
    with pytest.raises(errors.ContractError, match=r"Received version 2; the bundle .* holds version 1"):
        Client(bundle.path, server.address, version=2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"address": ""}, "expected host:port"),
        ({"address": "a:1", "timeout": 0}, "expected seconds above 0"),
        ({"address": "a:1", "timeout": float("nan")}, "seconds above 0"),
    ],
)
def test_bad_arguments(bundle, arguments, text):
    with pytest.raises(errors.ServingError, match=text):
        Client(bundle.path, **arguments)
