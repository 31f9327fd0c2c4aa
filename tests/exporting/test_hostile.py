"""Bundles that somebody has tampered with. The corpus in `tests/data/hostile` says for each file which error it must give."""

import functools
import json
import os
import pickle
import shutil
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2

import keras_privpart as kp
from keras_privpart import errors
from keras_privpart.contract import CONTRACT_FILE, SERVING_FILES, Contract, check_saved_model
from keras_privpart.exporting.inspection import inspect

CORPUS = Path(__file__).parents[1] / "data" / "hostile"
EXPECTED = json.loads((CORPUS / "expected.json").read_text())


@pytest.fixture(scope="module")
def bundle(parts, tmp_path_factory):
    """Two versions, so that every kind of file is there."""
    root = tmp_path_factory.mktemp("saved") / "digits"
    kp.export(parts, root, max_batch_size=2)
    return kp.export(parts.with_channel(kp.GaussianChannel(0.5)), root, max_batch_size=3).path


@pytest.fixture(scope="module")
def other(bundle, tmp_path_factory):
    """Another pair under the same name, with the same versions."""
    keras.utils.set_random_seed(5)
    x = keras.Input((8, 8, 1), name="image")
    z = keras.layers.Conv2D(4, 3, activation="relu", name="stem")(x)
    parts = kp.partition(keras.Model(x, keras.layers.Dense(5, name="scores")(keras.layers.Flatten()(z))), at="stem")
    root = tmp_path_factory.mktemp("other") / "digits"
    kp.export(parts, root, max_batch_size=3)
    return kp.export(parts, root, max_batch_size=2).path


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "digits")


def verify(root: Path) -> None:
    """What everybody does before a bundle is loaded."""
    for version in Contract.versions(root):
        Contract.load(root, version).verify_files(root)


# The corpus.


def test_every_file_of_the_corpus_says_what_it_must_give():
    assert {p.name for p in CORPUS.iterdir()} == {*EXPECTED, "expected.json"}
    assert sum(p.stat().st_size for p in CORPUS.iterdir()) < 200_000, "small text files"


@pytest.mark.parametrize("name", sorted(n for n in EXPECTED if n.endswith(".json")))
def test_contracts(name, tmp_path):
    shutil.copy(CORPUS / name, tmp_path / CONTRACT_FILE)
    error, text = EXPECTED[name]
    with pytest.raises(getattr(errors, error)) as caught:
        Contract.load(tmp_path)
    assert text in str(caught.value)
    assert CONTRACT_FILE in str(caught.value)
    assert [p.path for p in inspect(tmp_path).problems] == [CONTRACT_FILE]


@pytest.mark.parametrize("name", sorted(n for n in EXPECTED if n.endswith(".pbtxt")))
def test_graphs_that_do_more_than_compute(name, tmp_path):
    graph = text_format.Parse((CORPUS / name).read_text(), saved_model_pb2.SavedModel())
    (tmp_path / "saved_model.pb").write_bytes(graph.SerializeToString())
    error, text = EXPECTED[name]
    with pytest.raises(getattr(errors, error)) as caught:
        check_saved_model(tmp_path, "device/1")
    assert text in str(caught.value)
    assert "device/1/saved_model.pb" in str(caught.value)


@pytest.mark.parametrize("name", sorted(n for n in EXPECTED if n.endswith(".config")))
@pytest.mark.parametrize("place", SERVING_FILES)
def test_server_configurations(name, place, tmp_path):
    """In the place of each configuration of a bundle whose pair the corpus knows."""
    record = json.loads((CORPUS / "audit_embellished.json").read_text())
    (tmp_path / CONTRACT_FILE).write_text(Contract.loads(json.dumps({**record, "audit": None})).dumps())
    (tmp_path / "serving").mkdir()
    shutil.copy(CORPUS / name, tmp_path / place)
    error, text = EXPECTED[name]
    with pytest.raises(getattr(errors, error)) as caught:
        Contract.load(tmp_path).verify_files(tmp_path, ("serving",), partial=True)
    assert text in str(caught.value)
    assert place in str(caught.value)


# Code never runs.


class Trap:
    def __reduce__(self):
        return (os.mkdir, (os.environ["TRAP"],))


def test_nothing_in_a_bundle_is_unpickled_or_deserialised(copy, tmp_path, monkeypatch):
    """A channel's record that Keras would run as a Lambda, and a pickle, each properly listed: both stay data."""
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", None)
    monkeypatch.setattr(pickle, "loads", None)
    contract = Contract.load(copy)
    code = "import os; os.mkdir(os.environ['TRAP'])"
    lambda_layer = {"class": "Lambda", "config": {"function": {"class_name": "__lambda__", "config": {"code": code}}}}
    forged = Contract(**{**vars(contract), "channel": (lambda_layer,), "fingerprint": ""}).with_fingerprint()
    (copy / CONTRACT_FILE).write_text(forged.dumps())
    (copy / "device/2/trap.pkl").write_bytes(pickle.dumps(Trap()))
    assert Contract.load(copy).channel == (lambda_layer,)
    assert "device/2/trap.pkl" in {p.path for p in inspect(copy).problems}
    assert not (tmp_path / "sprung").exists()


def test_a_forged_graph_in_a_bundle_that_agrees_with_itself(copy, tmp_path):
    """Whoever rewrites the hashes too still gets no graph loaded that writes files."""
    target = tmp_path / "stolen.txt"

    class Thief(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], name="image")])
        def run(self, image):
            tf.io.write_file(str(target), tf.strings.as_string(tf.reduce_sum(image)))
            return {"boundary": image[:, :6, :6] * tf.ones([4])}

    thief = Thief()
    shutil.rmtree(copy / "device/2")
    tf.saved_model.save(thief, str(copy / "device/2"), signatures={"serving_default": thief.run})
    contract = Contract.load(copy)
    files = {path: record for path, record in contract.files.items() if not path.startswith("device/")}
    for file in (p for p in (copy / "device/2").rglob("*") if p.is_file()):
        files[file.relative_to(copy).as_posix()] = type(next(iter(files.values()))).of(file)
    forged = Contract(**{**vars(contract), "files": files, "fingerprint": ""}).with_fingerprint()
    (copy / CONTRACT_FILE).write_text(forged.dumps())
    Contract.load(copy).verify_files(copy, ("device",))  # the hashes agree
    with pytest.raises(errors.IntegrityError, match=r"device/2/saved_model\.pb holds the operations \['WriteFile'\]"):
        check_saved_model(copy / "device/2", "device/2")
    assert "device/2/saved_model.pb" in {p.path for p in inspect(copy).problems}
    assert not target.exists()


def test_a_layer_that_calls_python_is_not_exported(tmp_path):
    class Snoop(keras.layers.Layer):
        def call(self, x):
            return tf.ensure_shape(tf.py_function(lambda v: v, [x], tf.float32), x.shape)

    x = keras.Input((4,))
    z = keras.layers.Dense(3, name="z")(Snoop()(x))
    with pytest.raises(errors.IntegrityError, match=r"device/1/saved_model\.pb holds the operations \['EagerPyFunc'\]"):
        kp.export(kp.partition(keras.Model(x, keras.layers.Dense(2)(z)), at="z"), tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_text_that_steers_a_terminal_is_not_printed(copy):
    contract = Contract.load(copy)
    (copy / CONTRACT_FILE).write_text(Contract(**{**vars(contract), "made_with": {"keras": "\x1b[2J3.15"}}).dumps())
    text = inspect(copy).describe()
    assert "\x1b" not in text
    assert "�[2J3.15" in text


# Every file, every kind of damage.


@functools.cache
def files_of(root: Path) -> tuple[str, ...]:
    return tuple(sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()))


def same_json(a: bytes, b: bytes) -> bool:
    try:
        return json.loads(a) == json.loads(b)
    except ValueError:
        return False


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data())
def test_every_damaged_file_is_refused_by_name(bundle, other, data):
    name = data.draw(st.sampled_from(files_of(bundle)), label="file")
    damage = data.draw(st.sampled_from(["truncate", "empty", "flip", "swap", "remove"]), label="damage")
    path = bundle / name
    intact = path.read_bytes()
    if damage == "flip":
        bit = data.draw(st.integers(0, 8 * len(intact) - 1), label="bit")
        changed = bytearray(intact)
        changed[bit // 8] ^= 1 << bit % 8
    elif damage == "truncate":
        changed = intact[: data.draw(st.integers(0, len(intact) - 1), label="length")]
    else:
        changed = b"" if damage == "empty" else (other / name).read_bytes()
    assume(damage == "remove" or bytes(changed) != intact)
    assume(not (name.endswith(".json") and same_json(bytes(changed), intact)))  # another spelling of the same contract
    try:
        path.write_bytes(bytes(changed)) if damage != "remove" else path.unlink()
        with pytest.raises((errors.ContractError, errors.IntegrityError)) as caught:
            verify(bundle)
        problems = [str(problem) for problem in inspect(bundle).problems]
        # An older version's contract that is gone, or a contract of another bundle that is sound in itself, is found out by the
        # files that it was not written for; whatever else is damaged is named itself.
        by_others = name.startswith("contract") and damage in ("swap", "remove")
        assert problems if by_others else name in str(caught.value) and any(name in problem for problem in problems)
    finally:
        path.write_bytes(intact)
    verify(bundle)
