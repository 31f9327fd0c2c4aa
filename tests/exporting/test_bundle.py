"""The bundle as a folder: layout, contract, atomic writing."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

import keras_privpart as kp
from keras_privpart.contract import SERVING_FILES, Contract
from keras_privpart.errors import BundleError, BundleExistsError, ContractError
from keras_privpart.exporting import writing


class Audit:
    """Stands in for an audit report: the methods that an export calls."""

    def __init__(self, threat_model=None):
        self.threat_model = threat_model

    def contract_summary(self):
        return {"leakage": 0.1, "interval": [0.05, 0.2]}

    def to_json(self):
        return {} if self.threat_model is None else {"threat_model": self.threat_model.to_json()}

    def save(self, directory, *, pictures):
        assert not pictures, "a bundle travels to devices, the test set does not"
        Path(directory).mkdir()
        (Path(directory) / "report.json").write_text("{}")


@pytest.fixture(scope="module")
def bundle(parts, tmp_path_factory):
    return kp.export(parts, tmp_path_factory.mktemp("saved") / "digits", version=3, audit=Audit(), max_batch_size=6)


def layout(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def test_layout_and_contract(bundle):
    assert layout(bundle.path) == sorted(["contract.json", *SERVING_FILES, *bundle.contract.files])
    assert {path.split("/")[0] for path in bundle.contract.files} == {"device", "server", "report"}
    assert {"device/3/saved_model.pb", "server/3/saved_model.pb", "report/3/report.json"} <= set(bundle.contract.files)
    loaded = Contract.load(bundle.path)
    assert loaded == bundle.contract
    loaded.verify_files(bundle.path)
    assert (loaded.name, loaded.version, loaded.max_batch_size) == ("digits", 3, 6)
    assert [(t.name, t.shape, t.dtype) for t in loaded.inputs] == [("image", (None, 8, 8, 1), "float32")]
    assert [(t.name, t.shape, t.dtype) for t in loaded.outputs] == [("scores", (None, 5), "float32")]
    assert loaded.audit == {"leakage": 0.1, "interval": [0.05, 0.2]}
    assert loaded.made_with["keras"] == keras.__version__
    assert list(bundle.path.parent.iterdir()) == [bundle.path]
    assert bundle.notes == ()


def test_warm_up_is_zeros_of_what_clients_call_for_every_allowed_batch_size(bundle):
    path = bundle.path / "server/3/assets.extra/tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(r) for r in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()]
    requests = [log.predict_log.request for log in logs]
    assert {r.model_spec.name for r in requests} == {"digits"}
    assert [r.model_spec.signature_name for r in requests] == ["serve_checked"] * 4 + ["serve", "serve_bytes", "pair"]
    assert not tf.io.parse_tensor(requests.pop().inputs["query"].SerializeToString(), tf.int32).numpy().any()
    assert requests.pop().inputs["boundary"].string_val == [bytes(6 * 6 * 4 * 4)]
    # The C++ reader, which the server uses too.
    tensors = [tf.io.parse_tensor(r.inputs["boundary"].SerializeToString(), tf.float32).numpy() for r in requests]
    assert [t.shape for t in tensors] == [(n, 6, 6, 4) for n in (1, 2, 4, 6, 1)]
    assert not any(t.any() for t in tensors)


def test_another_process_gets_the_models_own_answers(bundle, parts, images, tmp_path):
    """With the bare loader, at two batch sizes."""
    np.save(tmp_path / "x.npy", images)
    script = """
import sys, numpy as np, tensorflow as tf
root, x = sys.argv[1], np.load(sys.argv[2] + "/x.npy")
device, server = tf.saved_model.load(root + "/device/3"), tf.saved_model.load(root + "/server/3")
answers = []
for batch in (x, x[:2]):
    boundary = device.signatures["serving_default"](image=tf.constant(batch))
    assert list(boundary) == ["boundary"], list(boundary)
    for name in ("serve", "serving_default"):
        answers.append(server.signatures[name](**boundary)["scores"].numpy())
named = server.signatures["pair"](query=tf.zeros([2], tf.int32))["fingerprint"].numpy()
checked = server.signatures["serve_checked"](**boundary)
assert sorted(checked) == ["pair_fingerprint", "scores"], checked
np.testing.assert_array_equal(checked["scores"], answers[-1])
named = np.concatenate([named, checked["pair_fingerprint"].numpy()])
np.savez(sys.argv[2] + "/out.npz", *answers, named=named.astype("S"))
"""
    subprocess.run([sys.executable, "-c", script, str(bundle.path), str(tmp_path)], check=True, cwd=tmp_path, capture_output=True)
    with np.load(tmp_path / "out.npz") as out:
        for key, want in zip(("arr_0", "arr_1", "arr_2", "arr_3"), (images, images, images[:2], images[:2]), strict=True):
            np.testing.assert_allclose(out[key], parts.model.predict(want, verbose=0), atol=1e-6)
        assert out["named"].tolist() == [bundle.contract.fingerprint.encode()] * 4


def test_overwriting_replaces_the_bundle_with_all_its_versions(parts, tmp_path):
    target = tmp_path / "faces"
    kp.export(parts, target, version=2)
    assert kp.export(parts, target, overwrite=True).version == 1
    assert sorted(p.name for p in (target / "server").iterdir()) == ["1"]
    assert [p.name for p in tmp_path.iterdir()] == ["faces"]
    assert Contract.versions(target) == (1,)


def test_a_folder_that_is_no_bundle_is_never_overwritten(parts, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("the only copy")
    with pytest.raises(BundleExistsError, match="is not a bundle"):
        kp.export(parts, home, overwrite=True)
    with pytest.raises(BundleExistsError, match="is not a bundle"):
        kp.export(parts, home)
    assert (home / "thesis.txt").read_text() == "the only copy"
    (tmp_path / "link").symlink_to(home)
    with pytest.raises(BundleError, match="symbolic link"):
        kp.export(parts, tmp_path / "link", overwrite=True)


@pytest.mark.parametrize(
    ("step", "error", "old"),
    [
        ("saved_model.write_server", KeyboardInterrupt, True),
        ("reload.check_reload", KeyboardInterrupt, False),
        ("install", KeyboardInterrupt, True),
        ("saved_model.write_server", OSError("disk full"), False),
        ("install", OSError("disk full"), True),
        ("saved_model.write_server", RuntimeError("bug"), True),
    ],
)
def test_nothing_half_written_stays(parts, tmp_path, monkeypatch, step, error, old):
    target = tmp_path / "faces"
    if old:
        target.mkdir()
        (target / "contract.json").write_text("old")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(f"{writing.__name__}.{step}", fail)
    with pytest.raises(BundleError if isinstance(error, OSError) else type(error) if isinstance(error, Exception) else error):
        kp.export(parts, target, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == (["faces"] if old else [])
    if old:
        assert layout(target) == ["contract.json"]


def test_a_failed_swap_puts_the_old_bundle_back(parts, tmp_path, monkeypatch):
    target = tmp_path / "faces"
    target.mkdir()
    (target / "contract.json").write_text("old")
    rename, calls = os.replace, []

    def second_fails(source, destination):
        calls.append(source)
        if len(calls) == 2:
            raise OSError("no")
        rename(source, destination)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(BundleError, match="Nothing was exported"):
        kp.export(parts, target, overwrite=True)
    assert (target / "contract.json").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["faces"]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"version": 0}, BundleError, "Received version=0; expected a whole number from 1"),
        ({"version": True}, BundleError, "Received version=True"),
        ({"max_batch_size": 2.5}, BundleError, "Received max_batch_size=2.5"),
        ({"name": "my model"}, ContractError, "Received the model name 'my model'"),
    ],
)
def test_bad_arguments(parts, tmp_path, arguments, error, text):
    with pytest.raises(error, match=text):
        kp.export(parts, tmp_path / "b", **arguments)
    assert not list(tmp_path.iterdir())


def test_parent_that_cannot_be_made(parts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="Choose a folder that you may write to"):
        kp.export(parts, tmp_path / "file" / "bundle")


def test_name_on_the_server_may_differ_from_the_folder(parts, tmp_path):
    bundle = kp.export(parts, tmp_path / "candidate 7", name="faces")
    assert (bundle.name, Contract.load(bundle.path).name) == ("faces", "faces")


def test_contract_is_plain_json_with_the_channel(parts, tmp_path):
    bundle = kp.export(parts.with_channel(kp.GaussianChannel(stddev=0.25, name="haze")), tmp_path / "b")
    record = json.loads((bundle.path / "contract.json").read_text())
    assert record["channel"][0]["class"] == "keras_privpart>GaussianChannel"
    assert record["channel"][0]["config"]["stddev"] == 0.25


def test_public_inputs_are_refused(two_by_two, tmp_path):
    with pytest.raises(BundleError, match=r"reads the inputs \['ids'\] raw"):
        kp.export(replace(two_by_two, public_inputs=("ids",)), tmp_path / "b")


def test_the_threat_model_is_the_audits_or_the_one_given(parts, tmp_path):
    model, other = kp.ThreatModel(private=("Male",)), kp.ThreatModel()
    assert kp.export(parts, tmp_path / "a", threat_model=model).contract.threat_model == model.to_json()
    bundle = kp.export(parts, tmp_path / "b", audit=Audit(model))
    assert kp.ThreatModel.from_json(Contract.load(bundle.path).threat_model) == model
    with pytest.raises(BundleError, match="differs from the audit's"):
        kp.export(parts, tmp_path / "c", audit=Audit(model), threat_model=other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_report_without_its_page_goes_into_the_bundle_all_the_same(parts, tmp_path, report_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.warns(UserWarning, match=r"the page index\.html was left out: .*pip install") as warned:
        bundle = kp.export(parts, tmp_path / "b", audit=report_of())
    assert {"report/1/MODEL_CARD.md", "report/1/report.json"} == {path for path in bundle.contract.files if path.startswith("report/")}
    assert "/" not in str(warned[0].message).partition(":")[0], "it names no temporary folder"
    bundle.contract.verify_files(bundle.path)
