"""Forms of the device half: LiteRT beside or instead of the SavedModel, each compared with the float32 half."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_privpart as kp
from keras_privpart.contract import DEVICE_FILES, Contract
from keras_privpart.errors import BundleError
from keras_privpart.exporting import litert
from keras_privpart.exporting.forms import FormWriter
from keras_privpart.exporting.inspection import inspect
from keras_privpart.exporting.measuring import table
from keras_privpart.serving import Client, LocalServer

FORMS = tuple(form for form in DEVICE_FILES if form != "web")  # of the web form: tests/exporting/web


@pytest.fixture(scope="module")
def wide():
    """Enough weights for their form to show in the file's size."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    h = keras.layers.Conv2D(32, 3, activation="relu")(image)
    z = keras.layers.Conv2D(32, 3, name="z")(keras.layers.BatchNormalization()(h))
    return kp.partition(keras.Model(image, keras.layers.Dense(5, name="scores")(keras.layers.Flatten()(z))), at="z")


@pytest.fixture(scope="module")
def sample():
    return np.random.default_rng(0).random((60, 8, 8, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def bundle(wide, sample, tmp_path_factory):
    labels = wide.model.predict(sample, verbose=0).argmax(1)
    target = tmp_path_factory.mktemp("saved") / "digits"
    return kp.export(wide, target, formats=FORMS, sample=sample, test=(sample, labels), max_batch_size=4)


def test_making_a_writer_runs_nothing():
    untouched = [object() for _ in range(4)]
    FormWriter(*untouched, {}, None)


def rows(bundle):
    return {row["form"]: row for row in bundle.contract.measurements}


def test_every_form_is_written_listed_and_measured(bundle):
    contract = Contract.load(bundle.path)
    assert contract.formats == FORMS
    for form in FORMS:
        assert (bundle.path / contract.device_file(form)).is_file()
    contract.verify_files(bundle.path)
    found = rows(bundle)
    assert set(found) == {"in memory, float32", *FORMS}
    for form in FORMS:
        assert found[form]["latency_ms"] > 0
        assert found[form]["accuracy"] >= 0.9, "against the model's own answers"
        if form != "saved_model":
            assert found[form]["device_bytes"] == contract.files[contract.device_file(form)].nbytes
    errors = {form: found[form]["relative_error"] for form in FORMS}
    assert errors["saved_model"] == 0
    assert errors["litert"] < 1e-5 < errors["litert-float16"] < 1e-2
    assert 1e-5 < errors["litert-dynamic"] < 0.1
    assert 1e-3 < errors["litert-int8"] < 0.05
    sizes = {form: found[form]["device_bytes"] for form in FORMS}
    assert sizes["litert-dynamic"] < 0.5 * sizes["litert"]
    assert sizes["litert-float16"] < 0.8 * sizes["litert"] < sizes["litert"] < sizes["saved_model"]


def test_the_table_shows_every_form(bundle):
    lines = table(bundle.contract.measurements).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["form", "in memory, float32", *FORMS]
    assert "measured, litert-int8" in inspect(bundle.path).describe()


@pytest.mark.parametrize("form", FORMS)
def test_the_client_runs_every_form_at_any_batch_size(bundle, wide, sample, form):
    with LocalServer(bundle.path) as server, Client(bundle.path, server.address, device_format=form) as client:
        scores = client.predict(sample[:7])
    want = wide.model.predict(sample[:7], verbose=0)
    assert np.max(np.abs(scores - want)) <= 0.05 * np.max(np.abs(want))


def test_full_int8_computes_in_int8(bundle):
    """Its weights are int8, and so are tensors between its layers."""
    interpreter = litert._interpreter((bundle.path / bundle.contract.device_file("litert-int8")).read_bytes())
    details = interpreter.get_tensor_details()
    kernels = [d for d in details if tuple(d["shape"]) in ((32, 3, 3, 32), (32, 3, 3, 1))]
    assert kernels
    assert {d["dtype"] for d in kernels} == {np.int8}
    assert [d for d in details if d["dtype"] == np.int8 and len(d["shape"]) == 4 and d["shape"][0] == 1]


def test_litert_runs_without_tensorflow(bundle, sample, wide, tmp_path):
    np.save(tmp_path / "x.npy", sample[:3])
    code = """
import sys, numpy as np
from ai_edge_litert.interpreter import Interpreter
run = Interpreter(model_path=sys.argv[1]).get_signature_runner("serving_default")
np.save(sys.argv[2] + "/z.npy", run(image=np.load(sys.argv[2] + "/x.npy"))["boundary"])
assert "tensorflow" not in sys.modules
"""
    file = bundle.path / bundle.contract.device_file("litert")
    subprocess.run([sys.executable, "-c", code, str(file), str(tmp_path)], check=True, cwd="/", capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), wide.device.predict(sample[:3], verbose=0), atol=1e-5)


@pytest.mark.parametrize("encoding", ["none", "int8", "float16"])
def test_noise_is_fresh_after_a_reload_in_every_form(wide, sample, tmp_path, encoding):
    noisy = wide.with_channel(kp.GaussianChannel(0.5))
    keras.utils.set_random_seed(0)
    bundle = kp.export(noisy, tmp_path / "b", formats=FORMS, sample=sample, encoding=encoding)
    scale = bundle.contract.boundary.tensors[0].scale or 1.0
    for form in FORMS:
        streams = []
        for _ in range(2):
            keras.utils.set_random_seed(0)
            if form == "saved_model":
                device = tf.saved_model.load(str(bundle.path / "device/1"))
                streams.append(device.signatures["serving_default"](image=tf.constant(sample))["boundary"].numpy())
            else:
                model = (bundle.path / bundle.contract.device_file(form)).read_bytes()
                streams.append(litert.load(model)({"image": sample})["boundary"])
        assert streams[0].dtype == (encoding if encoding != "none" else "float32")
        spread = np.std(streams[0].astype("float64") - streams[1].astype("float64")) * scale
        assert spread == pytest.approx(0.5 * np.sqrt(2), rel=0.05), form
        assert len(np.unique(streams[0])) > 100, "the noisy boundary keeps its levels"
        assert rows(bundle)[form]["noise"] == pytest.approx(spread / (0.5 * np.sqrt(2)), abs=0.05)
    # The error is of the half without its noise: with it, it would be above 1.
    assert all(row["relative_error"] < 0.3 for row in bundle.contract.measurements[1:])


def test_noise_that_the_conversion_weakened_is_refused(wide, sample, tmp_path, monkeypatch):
    load, exact = litert.load, wide.device.predict(sample, verbose=0)

    def weakened(model):
        run = load(model)
        return lambda inputs: {"boundary": 0.5 * run(inputs)["boundary"] + 0.5 * exact[: len(inputs["image"])]}

    monkeypatch.setattr(litert, "load", weakened)
    message = r"as litert draws noise of 0\.(49|5).* times the strength that was audited.*at least 0\.9"
    with pytest.raises(BundleError, match=message):
        kp.export(wide.with_channel(kp.GaussianChannel(0.5)), tmp_path / "b", formats=["litert"], sample=sample)
    assert not list(tmp_path.iterdir())


def test_noise_that_repeats_is_refused_in_litert_too(wide, sample, tmp_path, monkeypatch):
    """A converter that fixed a seed."""
    load = litert.load

    def seeded(model):
        run = load(model)
        return lambda inputs: frozen.setdefault((model, len(inputs["image"])), run(inputs))

    frozen = {}
    monkeypatch.setattr(litert, "load", seeded)
    with pytest.raises(BundleError, match="noise of the device half as litert repeats after a reload"):
        kp.export(wide.with_channel(kp.GaussianChannel(0.5)), tmp_path / "b", formats=["litert"], sample=sample)
    assert not list(tmp_path.iterdir())


def test_litert_alone(wide, sample, tmp_path):
    bundle = kp.export(wide, tmp_path / "b", formats=["litert-float16"])
    assert [path for path in bundle.contract.files if path.startswith("device/")] == ["device/1/model.float16.tflite"]
    assert inspect(bundle.path).problems == ()
    with LocalServer(bundle.path) as server, Client(bundle.path, server.address) as client:
        np.testing.assert_allclose(client.predict(sample[:2]), wide.model.predict(sample[:2], verbose=0), atol=0.05)


def test_the_audit_takes_a_litert_half(wide, sample, tmp_path):
    """The partition that `leakage` is given: its device half is a function, with the boundary decoded."""
    seen = []

    class Report:
        def contract_summary(self):
            return {"kinds": {}, "seeds": 1}

    def leakage(parts):
        seen.append(np.asarray(parts.device(sample[:5])))
        return Report()

    kp.export(wide, tmp_path / "b", formats=["saved_model", "litert"], sample=sample, encoding="int8", leakage=leakage)
    scale = Contract.load(tmp_path / "b").boundary.tensors[0].scale
    exact = wide.device.predict(sample[:5], verbose=0)
    assert [z.dtype for z in seen] == ["float32"] * 2
    for z in seen:
        assert np.max(np.abs(z - exact)) <= scale


def test_a_conversion_that_went_wrong_is_refused(wide, sample, tmp_path, monkeypatch):
    """As `from_concrete_functions` of a Keras 3 model does it, silently."""
    load = litert.load
    monkeypatch.setattr(litert, "load", lambda model: lambda inputs: {name: 2 * value for name, value in load(model)(inputs).items()})
    with pytest.raises(BundleError, match=r"as litert-int8 differs from the float32 one by .* of its norm; expected at most 0\.25"):
        kp.export(wide, tmp_path / "b", formats=["litert-int8"], sample=sample)
    assert not list(tmp_path.iterdir())


def test_what_litert_has_no_operation_for(tmp_path):
    x = keras.Input((3, 3))
    z = keras.layers.Activation("linear", name="z")(keras.ops.inv(x))
    out = keras.layers.Dense(2)(keras.layers.Flatten()(z))
    with pytest.raises(BundleError, match=r"cannot be converted to litert: .*Export it as saved_model"):
        kp.export(kp.partition(keras.Model(x, out), at="z"), tmp_path / "b", formats=["litert"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"formats": []}, r"Received formats=\[\]; expected a list of some of saved_model, litert"),
        ({"formats": "litert"}, "Received formats='litert'; expected a list"),
        ({"formats": ["tflite"]}, "expected a list of some of"),
        ({"formats": ["litert", "litert"]}, "each once"),
        ({"formats": ["litert-int8"]}, "the format 'litert-int8' without data to calibrate by; expected sample="),
    ],
)
def test_forms_that_cannot_be_had(parts, tmp_path, arguments, text):
    with pytest.raises(BundleError, match=text):
        kp.export(parts, tmp_path / "b", **arguments)
    assert not list(tmp_path.iterdir())


def test_without_ai_edge_litert_tensorflow_runs_it(monkeypatch, bundle, sample, wide):
    def fail(name, *args, **kwargs):
        raise ImportError(name)

    monkeypatch.setattr(litert.importlib, "import_module", fail)
    model = (bundle.path / bundle.contract.device_file("litert")).read_bytes()
    assert isinstance(litert._interpreter(model), tf.lite.Interpreter)
    run = litert.load(model)
    np.testing.assert_allclose(run({"image": sample[:3]})["boundary"], wide.device.predict(sample[:3], verbose=0), atol=1e-5)
