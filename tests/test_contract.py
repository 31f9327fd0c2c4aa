"""The contract: what it holds, what it refuses to read, and which files it accepts."""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from keras_privpart.contract import (
    CONTRACT_FILE,
    DEVICE_FILES,
    SERVING_FILES,
    Boundary,
    Contract,
    FileRecord,
    TensorSpec,
    boundary_names,
    check_name,
    dtype_size,
)
from keras_privpart.errors import BoundaryMismatchError, ContractError, IntegrityError
from keras_privpart.integrity import seal
from keras_privpart.threat_model import ThreatModel

FILES = (
    "device/1/saved_model.pb",
    "device/1/variables/variables.index",
    "server/1/saved_model.pb",
    "report/1/index.html",
)


def spec(name="boundary", shape=(None, 4, 4, 2), dtype="float32"):
    return TensorSpec(name, shape, dtype, source="conv")


def write_bundle(root: Path) -> Contract:
    for path in FILES:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(f"content of {path}".encode())
    contract = Contract(
        name="faces",
        version=1,
        boundary=Boundary((spec(),)),
        inputs=(spec("image", (None, 8, 8, 3)),),
        outputs=(spec("scores", (None, 10)),),
        server_weights="0" * 64,
        fingerprint="",
        files={path: FileRecord.of(root / path) for path in FILES},
        channel=({"class": "GaussianChannel", "config": {"stddev": 0.5}},),
        made_with={"keras": "3.15.1"},
        audit={"leakage": 0.2},
        max_batch_size=16,
        threat_model=ThreatModel(private=("Male",)).to_json(),
        measurements=({"form": "saved_model", "bytes": 7},),
        value_range=(0.0, 255.0),
    ).with_fingerprint()
    (root / CONTRACT_FILE).write_text(contract.dumps())
    (root / "serving").mkdir(exist_ok=True)
    for path in SERVING_FILES:
        (root / path).write_text(seal(f"text of {path}", {1: contract.fingerprint}))
    return contract


@pytest.fixture
def root(tmp_path):
    write_bundle(tmp_path)
    return tmp_path


@pytest.fixture
def contract(root):
    return Contract.load(root)


def test_it_reads_back_what_it_wrote(root, contract):
    assert contract == write_bundle(root)
    assert Contract.loads(contract.dumps()) == contract
    contract.verify_files(root)


def test_loading_a_contract_loads_no_tensorflow():
    code = "import sys, keras_privpart.contract; print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]"


# The boundary.


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((1, 4, 4, 3), np.float32),
        np.zeros((1, 4, 4), np.float32),
        np.zeros((4, 4, 2), np.float32),
        np.zeros((0, 4, 4, 2), np.float32),
        np.float32(0),
        np.zeros((1, 4, 4, 2), np.float64),
        np.zeros((1, 4, 4, 2), ml_dtypes.bfloat16),
        np.full((1, 4, 4, 2), "a"),
    ],
)
def test_tensors_that_do_not_match(array):
    with pytest.raises(
        BoundaryMismatchError, match=r"Received 'boundary' as .* the contract declares float32\[None, 4, 4, 2\]. Nothing was sent"
    ):
        Boundary((spec(),)).check({"boundary": array})


def test_tensors_that_match():
    Boundary((spec(),)).check({"boundary": np.zeros((7, 4, 4, 2), np.float32)})
    Boundary((spec(dtype="bfloat16"),)).check({"boundary": np.zeros((1, 4, 4, 2), ml_dtypes.bfloat16)})
    Boundary((spec(shape=(None, None)),)).check({"boundary": np.zeros((1, 9), np.float32)})
    spec(dtype="string", shape=(None,)).check(np.array(["a"]))


def test_several_tensors_share_one_batch_size():
    boundary = Boundary((spec("boundary_0", (None, 2)), spec("boundary_1", (None, 3))))
    with pytest.raises(BoundaryMismatchError, match=r"batch sizes \[1, 2\]"):
        boundary.check({"boundary_0": np.zeros((1, 2), np.float32), "boundary_1": np.zeros((2, 3), np.float32)})
    for keys in (["boundary_0"], ["boundary_0", "boundary_1", "image"], []):
        with pytest.raises(BoundaryMismatchError, match="Received the tensors"):
            boundary.check({key: np.zeros((1, 2), np.float32) for key in keys})


def test_sizes_and_names():
    assert Boundary((spec(), spec("b", (None, 3), "float16"))).nbytes == 4 * 4 * 2 * 4 + 6
    assert Boundary((spec(), spec("b", (None, None)))).nbytes is None
    assert spec(dtype="string").nbytes is None
    assert [dtype_size(dtype) for dtype in ("bfloat16", "int8", "float64")] == [2, 1, 8]
    assert (boundary_names(1), boundary_names(2)) == (("boundary",), ("boundary_0", "boundary_1"))


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../a", "-a", ".a", "a\n", "x" * 129, "ä"])
def test_names_that_are_none(name):
    with pytest.raises(ContractError, match=r"Received the model name .* Rename"):
        check_name(name)


# The fingerprint.


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"boundary": Boundary((spec(dtype="float16"),))},
        {"boundary": Boundary((replace(spec(dtype="int8"), scale=0.5, zero_point=3),))},
        {"inputs": (spec("image", (None, 9, 9, 3)),)},
        {"outputs": (spec("scores", (None, 11)),)},
        {"server_weights": "1" * 64},
        {"encoding": "int8"},
        {"files": {"device/1/saved_model.pb": FileRecord("1" * 64, 3)}},
    ],
)
def test_the_fingerprint_covers_what_makes_a_pair(contract, change):
    assert replace(contract, **change).expected_fingerprint() != contract.fingerprint


def test_the_fingerprint_leaves_out_what_does_not(contract):
    """The server's own files hold the fingerprint, so it cannot cover them."""
    files = {**contract.files, "server/1/saved_model.pb": FileRecord("1" * 64, 3), "report/1/x": FileRecord("2" * 64, 3)}
    same = replace(contract, files=files, audit=None, made_with={}, name="other", max_batch_size=1)
    assert same.expected_fingerprint() == contract.fingerprint


# Reading.


def test_every_key_is_covered_by_the_digest(root, contract):
    record = json.loads((root / CONTRACT_FILE).read_text())
    assert set(record) == {f.name for f in fields(Contract)} | {"schema", "digest"}
    other = {
        "name": "cats", "version": 2, "server_weights": "1" * 64, "fingerprint": "1" * 64, "audit": None, "channel": [], "made_with": {},
        "files": {}, "max_batch_size": 1, "digest": "0" * 64, "threat_model": None, "optimization": "prune:0.5", "measurements": [],
        "value_range": [0.0, 1.0],
    }  # fmt: skip
    for key in set(record) - {"schema", "encoding"}:
        changed = other[key] if key in other else [{**record[key][0], "source": "elsewhere"}]
        with pytest.raises(IntegrityError, match="was changed after it was written"):
            Contract.loads(json.dumps({**record, key: changed}))


def test_a_fingerprint_that_does_not_follow(contract):
    with pytest.raises(IntegrityError, match="does not follow from its fields"):
        Contract.loads(replace(contract, fingerprint="1" * 64).dumps())


BAD = [
    ({"schema": 3}, "has schema 3; this version of keras_privpart reads schema 2. Upgrade"),
    ({"schema": 1}, "has schema 1; this version"),
    ({"schema": None}, "has schema None"),
    ({"version": 0}, "version 0; expected a whole number from 1"),
    ({"version": 2**63}, "expected a whole number from 1"),
    ({"version": "1"}, "version as str"),
    ({"version": True}, "version as bool"),
    ({"max_batch_size": 0}, "max_batch_size 0"),
    ({"name": "../up"}, "Received the model name"),
    ({"name": 3}, "name as int"),
    ({"encoding": "rot13"}, "the encoding 'rot13'; this version of keras_privpart knows"),
    ({"files": []}, "files as list"),
    ({"files": {"a": {"sha256": "0" * 64}}}, "for FileRecord"),
    ({"files": {"a": {"sha256": "xyz", "nbytes": 1}}}, "The record of a is malformed"),
    ({"files": {"a": {"sha256": "0" * 64, "nbytes": -1}}}, "The record of a is malformed"),
    ({"files": {"a": {"sha256": "0" * 64, "nbytes": 1, "mode": 7}}}, "for FileRecord"),
    ({"channel": {}}, "channel as dict"),
    ({"channel": [1]}, "channel with an entry that is not an object"),
    ({"measurements": ["fast"]}, "measurements with an entry that is not an object"),
    ({"threat_model": {"attacker": "weak"}}, "The threat model is malformed"),
    ({"threat_model": {"private": 3}}, "The threat model is malformed"),
    ({"optimization": None}, "optimization as NoneType"),
    ({"made_with": None}, "made_with as NoneType"),
    ({"audit": 3}, "audit as int"),
    ({"server_weights": None}, "server_weights as NoneType"),
    ({"boundary": []}, "boundary as list; expected a list of at least one tensor"),
    ({"boundary": [{"name": "b"}]}, "for TensorSpec"),
    ({"boundary": [{"name": "b", "shape": [2, 3], "dtype": "float32"}]}, "expected the batch first"),
    ({"boundary": [{"name": "b", "shape": [None, -3], "dtype": "float32"}]}, "expected a list of whole numbers and null"),
    ({"boundary": [{"name": "b", "shape": [None, True], "dtype": "float32"}]}, "expected a list of whole numbers and null"),
    ({"boundary": [{"name": "b", "shape": [None], "dtype": "complex64"}]}, "the dtype 'complex64'"),
    ({"boundary": [{"name": 1, "shape": [None], "dtype": "float32"}]}, "expected text"),
    ({"boundary": [{"name": "b", "shape": [None], "dtype": "float32"}] * 2}, "expected each name once"),
    ({"boundary": [{"name": "b", "shape": [None], "dtype": "int8", "scale": 0.0, "zero_point": 1}]}, "expected a float above 0"),
    ({"boundary": [{"name": "b", "shape": [None], "dtype": "int8", "scale": 0.5}]}, "expected a float above 0 and a whole number"),
    ({"boundary": [{"name": "b", "shape": [None], "dtype": "float32", "scale": 0.5, "zero_point": 1}]}, "for int8 only"),
    ({"inputs": "x"}, "inputs as str"),
    ({"surprise": 1}, "expected the keys"),
]


@pytest.mark.parametrize(("change", "text"), BAD)
def test_malformed_contracts(contract, change, text):
    with pytest.raises(ContractError, match=text):
        Contract.loads(json.dumps({**contract.to_json(), **change}))


@pytest.mark.parametrize("key", [f.name for f in fields(Contract) if f.name != "value_range"])
def test_missing_keys(contract, key):
    record = contract.to_json()
    del record[key]
    with pytest.raises(ContractError, match="expected the keys"):
        Contract.loads(json.dumps(record))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "device/../../x", "device//x", "./x", "device/x/", "a\\b", "a\0b", "", "."])
def test_paths_that_lead_out_of_the_bundle(contract, path):
    record = {**contract.to_json(), "files": {path: {"sha256": "0" * 64, "nbytes": 1}}}
    with pytest.raises(ContractError, match="expected a plain relative path"):
        Contract.loads(json.dumps(record))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "holds a list; expected an object"),
        ("null", "holds a NoneType"),
        ('{"schema": 1, "schema": 1}', r"the keys \['schema'\] twice"),
        ('{"schema": 1, "audit": {"a": 1, "a": 2}}', r"the keys \['a'\] twice"),
        ('{"schema": NaN}', "holds NaN, which is not JSON"),
        ('{"schema": 1e999}', "holds 1e999, which is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("1" * 10_000, "is not JSON"),
    ],
)
def test_text_that_is_no_contract(text, message):
    with pytest.raises(ContractError, match=message):
        Contract.loads(text)


def test_files_that_are_no_contract(tmp_path):
    with pytest.raises(ContractError, match=r"Found no contract\.json"):
        Contract.load(tmp_path)
    (tmp_path / CONTRACT_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(ContractError, match="Can't read"):
        Contract.load(tmp_path)
    with (tmp_path / CONTRACT_FILE).open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ContractError, match="is larger than"):
        Contract.load(tmp_path)


def test_the_version_asked_for(root):
    assert Contract.load(root, 1).version == 1
    for version in (2, "1", "../1"):
        with pytest.raises(ContractError, match=r"Received version .*; the bundle .* holds version 1\."):
            Contract.load(root, version)


def older_version(root, contract, **change):
    """Makes `contract` the second version, and puts an altered copy of it in the older one's place."""
    (root / "contracts").mkdir()
    (root / "contracts/1.json").write_text(replace(contract, **change).with_fingerprint().dumps())
    newest = replace(contract, version=2, files={"device/2/model.tflite": FileRecord("1" * 64, 3)}).with_fingerprint()
    (root / CONTRACT_FILE).write_text(newest.dumps())
    return newest


def test_older_versions_have_contracts_of_their_own(root, contract):
    newest = older_version(root, contract)
    (root / "contracts/01.json").write_text("not a version's name")
    assert Contract.versions(root) == (1, 2)
    assert (Contract.load(root), Contract.load(root, 1)) == (newest, contract)
    Contract.load(root, 1).verify_files(root)
    with pytest.raises(ContractError, match="holds versions 1, 2"):
        Contract.load(root, 3)


@pytest.mark.parametrize("change", [{"version": 3}, {"name": "cats"}])
def test_an_older_contract_in_the_wrong_place(root, contract, change):
    older_version(root, contract, **change)
    with pytest.raises(IntegrityError, match=r"contracts/1\.json is the contract of version .* expected version 1 of 'faces'"):
        Contract.load(root, 1)


def test_damage_to_an_older_contract_names_its_file(root, contract):
    older_version(root, contract)
    text = (root / "contracts/1.json").read_text()
    for damaged in ("", text[:-9], text.replace("faces", "races"), text.replace('"schema": 2', '"schema": 9')):
        (root / "contracts/1.json").write_text(damaged)
        with pytest.raises((ContractError, IntegrityError), match=r"contracts/1\.json"):
            Contract.load(root, 1)


def test_forms_of_the_device_half(contract):
    assert contract.formats == ("saved_model",)
    assert contract.device_file("saved_model") == "device/1/saved_model.pb"
    with pytest.raises(ContractError, match=r"Received the format 'litert'; version 1 of 'faces' has \['saved_model'\]"):
        contract.device_file("litert")
    files = {f"device/1/{file}": FileRecord("1" * 64, 3) for file in DEVICE_FILES.values()}
    assert replace(contract, files=files).formats == tuple(DEVICE_FILES)


# Files.


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("damage", ["change", "grow", "remove", "folder", "link", "link folder"])
def test_files_that_are_not_the_contracts(root, contract, tmp_path_factory, path, damage):
    file = root / path
    content = file.read_bytes()
    file.unlink()
    if damage == "change":
        file.write_bytes(b"C" + content[1:])
    elif damage == "grow":
        file.write_bytes(content + b"!")
    elif damage == "folder":
        file.mkdir()
    elif damage.startswith("link"):
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        (elsewhere / file.name).write_bytes(content)
        if damage == "link":
            file.symlink_to(elsewhere / file.name)
        else:
            for other in file.parent.iterdir():
                if other.is_file():
                    other.rename(elsewhere / other.name)
                else:
                    other.rename(elsewhere / other.name)
            file.parent.rmdir()
            file.parent.symlink_to(elsewhere)
    with pytest.raises(IntegrityError, match=path if damage != "link folder" else "symbolic link"):
        contract.verify_files(root)


def test_missing_files_pass_only_when_told(root, contract):
    for path in (*FILES[2:], *SERVING_FILES):
        (root / path).unlink()
    contract.verify_files(root, ["device"])
    contract.verify_files(root, partial=True)
    with pytest.raises(IntegrityError, match="and missing in"):
        contract.verify_files(root)


def test_other_versions_are_other_contracts_business(root, contract):
    for side in ("device", "server"):
        (root / side / "2").mkdir()
        (root / side / "2" / "saved_model.pb").write_text("")
    contract.verify_files(root)
    for path in ("device/1/stray.py", "device/stray.py", "device/²/stray.py", "serving/stray.config"):
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text("")
        with pytest.raises(IntegrityError, match=f"{path} is not listed"):
            contract.verify_files(root)
        (root / path).unlink()
    (root / "device/3").symlink_to(root / "device/1")
    with pytest.raises(IntegrityError, match="device/3 is not listed"):
        contract.verify_files(root)


def test_sealed_files(root, contract):
    path, other = "serving/batching.config", {1: "0" * 64}
    intact = (root / path).read_text()
    for text, message in [
        ("", "its seal differs"),
        (intact.replace("text of", "test of"), "its seal differs"),
        (intact.replace(contract.fingerprint, "0" * 64), "its seal differs"),
        (seal("text", other), "was written for another bundle"),
        (seal("text", {}), "was written for another bundle"),
        (seal("text", {1: contract.fingerprint, 2: "0" * 64}), "holds version 1"),
    ]:
        (root / path).write_text(text)
        with pytest.raises(IntegrityError, match=f"(?s){path}.*{message}"):
            contract.verify_files(root, ("serving",))
        contract.verify_files(root, ("device", "server", "report"))
    (root / path).unlink()
    contract.verify_files(root, partial=True)
    with pytest.raises(IntegrityError, match=f"Found no {path}"):
        contract.verify_files(root)
    elsewhere = root.parent / "elsewhere.config"
    elsewhere.write_text(intact)
    (root / path).symlink_to(elsewhere)
    with pytest.raises(IntegrityError, match="symbolic link"):
        contract.verify_files(root, partial=True)


def test_a_version_that_the_serving_files_do_not_know_yet(root, contract):
    """An export that was interrupted before its last step: older versions are whole, the new one is not served."""
    newest = older_version(root, contract)
    contract.verify_files(root)
    newest.verify_files(root, ("serving",), partial=True)
    with pytest.raises(IntegrityError, match="does not know version 2: an export was interrupted"):
        newest.verify_files(root, ("serving",))


def test_a_huge_file_is_not_read_to_its_end(root, contract):
    """Its size alone condemns it: sizes in the contract bound what is read."""
    with (root / FILES[0]).open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(IntegrityError, match=FILES[0]):
        contract.verify_files(root)
