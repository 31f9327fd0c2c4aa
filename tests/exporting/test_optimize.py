"""Optimised device halves: pruned, clustered, quantisation-aware; fine-tuned towards their own boundary in another process."""

import os
import sys

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_digits

import keras_privpart as kp
from keras_privpart.errors import BundleError
from keras_privpart.exporting import bundle, optimize
from keras_privpart.exporting.inspection import inspect
from keras_privpart.exporting.optimize import Optimization, optimize_half
from keras_privpart.exporting.optimizing import tfmot_process
from keras_privpart.exporting.optimizing.layer_bridge import describe
from keras_privpart.partitioning.graphs.graph import read

STEPS = 20


@pytest.fixture(scope="module")
def x():
    images, _ = load_digits(return_X_y=True)
    return (images[:200] / 16).astype("float32").reshape(-1, 8, 8, 1)


@pytest.fixture(scope="module")
def parts():
    """A branch, a normalisation that folds and one that does not, dropout, and noise on the boundary."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    h = layers.BatchNormalization(name="folds")(layers.Conv2D(8, 3, padding="same", use_bias=False, name="first")(image))
    h = left = layers.Dropout(0.5)(layers.ReLU()(h))
    h = layers.BatchNormalization(name="alone")(layers.Conv2D(8, 3, padding="same", activation="relu", name="second")(h))
    z = layers.Conv2D(4, 3, strides=2, name="z")(layers.Add()([h, left]))
    whole = keras.Model(image, layers.Dense(10, name="scores")(layers.Flatten()(z)))
    for layer in whole.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_mean.assign(np.linspace(-0.2, 0.2, 8))
            layer.moving_variance.assign(np.linspace(0.5, 2, 8))
    return kp.partition(whole, at="z").with_channel(kp.GaussianChannel(0.3, normalize=False))


@pytest.fixture(scope="module")
def halves(parts, x):
    """The optimised partition by method, made when first asked for."""
    made = {}

    def of(spelled):
        if spelled not in made:
            seen = []
            how = Optimization.parse(spelled, STEPS)
            made[spelled] = optimize_half(parts, how, x, progress=lambda step, loss: seen.append((step, loss))), seen
        return made[spelled]

    return of


def kernels(partition):
    return [layer.kernel.numpy() for layer in partition.device.layers if isinstance(layer, layers.Conv2D)]


def zeros_are_half(kernel):
    return np.mean(kernel == 0) >= 0.5


def values_are_few(kernel):
    return len(np.unique(kernel)) <= 4


def weights_are_numbers(kernel):
    return np.isfinite(kernel).all()


@pytest.mark.parametrize(
    ("spelled", "holds", "error"),
    [("prune:0.5", zeros_are_half, 0.8), ("cluster:4", values_are_few, 0.8), ("qat", weights_are_numbers, 0.1)],
)
def test_every_method(parts, x, halves, spelled, holds, error):
    before = [weight.copy() for weight in parts.model.get_weights()]
    result, told = halves(spelled)
    assert all(holds(kernel) for kernel in kernels(result))
    assert any((a != b).any() for a, b in zip(kernels(result), kernels(parts), strict=True))
    plain = [np.asarray(optimize._plain(half)(x)) for half in (parts, result)]
    assert 0 < np.linalg.norm(plain[1] - plain[0]) / np.linalg.norm(plain[0]) < error
    assert [step for step, _ in told] == list(range(1, STEPS + 1))
    assert all(np.isfinite(loss) for _, loss in told)
    # What is given stays as it is, the server half too, and the channel is on the new half.
    assert result.server is parts.server
    for old, new in zip(before, parts.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [layer.name for layer in result.channel] == [layer.name for layer in parts.channel]
    noise = np.asarray(result.device(x)) - plain[1]
    assert np.std(noise) == pytest.approx(0.3, rel=0.05)
    statistics = [layer.moving_mean.numpy() for layer in result.device.layers if isinstance(layer, layers.BatchNormalization)]
    np.testing.assert_allclose(statistics, [np.linspace(-0.2, 0.2, 8)] * 2, rtol=1e-6)


def test_this_process_stays_on_its_own_keras(halves):
    halves("prune:0.5")
    assert not {"tf_keras", "tensorflow_model_optimization"} & set(sys.modules)
    assert "TF_USE_LEGACY_KERAS" not in os.environ


class Report:
    """As much of an audit as an export takes."""

    def __init__(self, leakage):
        self.leakage = leakage

    def contract_summary(self):
        return {"kinds": {"reconstruction": {"leakage": self.leakage, "leakage_interval": [0, 1]}}, "seeds": 1}

    def to_json(self):
        return {}

    def save(self, folder, pictures):
        folder.mkdir()
        (folder / "report.json").write_text(str(self.leakage))


@pytest.fixture
def exported(parts, x, halves, tmp_path, monkeypatch):
    """Exports the half that was pruned already."""
    monkeypatch.setattr(bundle, "optimize_half", lambda *_, **__: halves("prune:0.5")[0])

    def export(**options):
        labels = np.zeros(len(x), "int32")
        return kp.export(parts, tmp_path / "b", sample=x, test=(x, labels), optimize="prune:0.5", optimize_steps=STEPS, **options)

    return export


def test_the_audit_of_the_original_is_not_the_optimised_halfs(exported):
    made = exported(audit=Report(0.125))
    contract = made.contract
    assert contract.optimization == "prune:0.5, 20 steps"
    assert contract.audit is None
    assert [path.name for path in (made.path / "report/1").iterdir()] == ["MODEL_CARD.md"]
    assert "the device half was not audited after prune:0.5, 20 steps: pass leakage= (--leakage)" in made.notes
    reference, row = contract.measurements
    assert (reference["leakage"]["reconstruction"]["leakage"], row["leakage"]) == (0.125, None)
    shown = inspect(made.path)
    assert shown.problems == ()
    assert "optimised: prune:0.5, 20 steps" in shown.describe()
    assert "none: this version was not audited" in shown.describe()


def test_every_form_holds_the_optimised_weights_and_a_new_audit(exported, parts, halves, x):
    attacked = []

    def leakage(half):
        attacked.append(half)
        return Report(0.5 + len(attacked) / 10)

    made = exported(audit=Report(0.125), leakage=leakage, formats=["saved_model", "litert"])
    assert made.contract.audit == Report(0.6).contract_summary()
    assert (made.path / "report/1/report.json").read_text() == "0.6"
    assert attacked[0].device is halves("prune:0.5")[0].device
    reference, saved, lite = made.contract.measurements
    leaks = [row["leakage"]["reconstruction"]["leakage"] for row in made.contract.measurements]
    assert leaks == [0.125, 0.6, 0.7]
    want, got = (np.asarray(optimize._plain(half)(x)) for half in (parts, halves("prune:0.5")[0]))
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    for row in (saved, lite):
        assert row["relative_error"] == pytest.approx(error, rel=0.01), "against the half as it was"
        assert row["noise"] == pytest.approx(1, abs=0.05)
        assert 0 < row["compressed_bytes"] < row["device_bytes"]
    assert reference["relative_error"] == 0


@pytest.mark.parametrize(
    "spelled", ["prune", "prune:1", "prune:0", "prune:half", "cluster:1", "cluster:300", "cluster:1.5", "qat:8", "svd", ""]
)
def test_what_is_no_optimisation(parts, x, tmp_path, spelled):
    with pytest.raises(BundleError, match=rf"Received optimize='{spelled}.*'; expected 'prune:0.5' .* or 'qat'"):
        kp.export(parts, tmp_path / "b", sample=x, optimize=spelled)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"optimize_steps": 3}, "Received optimize_steps=3; expected a whole number from 10"),
        ({"sample": None}, "Received optimize='qat' without data to fine-tune on; expected sample="),
    ],
)
def test_what_an_optimisation_needs(parts, x, tmp_path, options, text):
    with pytest.raises(BundleError, match=text):
        kp.export(parts, tmp_path / "b", **{"sample": x, "optimize": "qat", **options})
    assert not list(tmp_path.iterdir())


def test_without_the_extra(parts, x, monkeypatch):
    monkeypatch.setattr(tfmot_process.importlib.util, "find_spec", lambda name: None)
    text = r"needs tensorflow_model_optimization and tf_keras, not installed here\. Run: pip install 'keras_privpart\[optimize\]'"
    with pytest.raises(BundleError, match=text):
        optimize_half(parts, Optimization("qat"), x)


def test_a_crash_of_the_other_process_is_told(parts, x, monkeypatch):
    monkeypatch.setattr(tfmot_process, "_WORKER", "keras_privpart.exporting.none_such")
    with pytest.raises(
        BundleError, match=r"(?s)failed on the device half \(exit code 1\).*No module named keras_privpart.*Nothing was exported"
    ):
        optimize_half(parts, Optimization("qat"), x)


class Own(layers.Dense):
    pass


def own(v):
    return v


def described(z, method="prune", inputs=None):
    return describe(read(keras.Model(inputs, z)), method)


@pytest.mark.parametrize(
    ("layer", "method", "text"),
    [
        (Own(3, name="mine"), "prune", r"layer 'mine' is a .*\.Own, which prune does not take; it takes Conv1D, Conv2D, .*server's side"),
        (layers.Dense(3, activation=own, name="d"), "cluster", "'d' \\(Dense\\) has the activation 'own', which cluster does not"),
        (layers.Dense(3, activation="gelu", name="d"), "qat", "has the activation 'gelu', which qat does not take; it takes linear, relu"),
        (layers.Dense(3, dtype="mixed_float16", name="d"), "prune", "'d' \\(Dense\\) computes in float16; prune takes float32 only"),
        (layers.LayerNormalization(name="n"), "qat", "'n' is a .*LayerNormalization, which qat does not take"),
    ],
)
def test_layers_that_are_not_taken(layer, method, text):
    inputs = keras.Input((4,))
    with pytest.raises(BundleError, match=text):
        described(layer(inputs), method, inputs)


def test_a_layer_that_is_called_twice():
    inputs, twice = keras.Input((4,)), layers.Dense(4, name="twice")
    z = twice(twice(inputs))
    record = described(z, "prune", inputs).record
    assert ([call["layer"] for call in record["calls"]], len(record["layers"])) == ([0, 0], 1)
    with pytest.raises(BundleError, match="'twice' is called several times, which qat does not take"):
        described(z, "qat", inputs)


def test_a_tensor_that_is_taken_twice():
    inputs = keras.Input((4,))
    [call] = described(layers.Add()([inputs, inputs]), "prune", inputs).record["calls"]
    assert len(call["inputs"]) == 2
