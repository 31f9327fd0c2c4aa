"""Whole audits of partitions whose leakage is known."""

import keras
import numpy as np
import pytest

import keras_privpart
from keras_privpart.auditing.attacks import DecoderAttack, ProbeAttack
from keras_privpart.auditing.protocol import audit
from keras_privpart.channels import GaussianChannel
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.cut import partition


@pytest.fixture(scope="module")
def attack():
    """One decoder for all audits of this file: it compiles once for each shape."""
    return DecoderAttack("small", "mixed", keep=3)


def audited(defended, undefended, digits, attack, **kwargs):
    return audit(defended, *digits, reference=undefended, attacks=[attack], **{"seeds": 1, "epochs": 20, "batch_size": 32, **kwargs})


def test_an_input_that_crosses_is_found(open_window, digits, attack):
    report = audited(open_window, open_window, digits, attack, seeds=2)
    result = report.strongest()
    assert result.boundary["ssim"].value > 0.95
    assert len(result.boundary["ssim"].seeds) == 2
    assert result.floor["ssim"].value < 0.75
    assert result.leakage.value == pytest.approx(1.0, abs=0.02)
    assert report.defended_accuracy == report.reference_accuracy


def test_a_planted_leak_is_found(planted, open_window, digits, attack):
    result = audited(planted, open_window, digits, attack).strongest()
    assert result.leakage.value > 0.9
    assert result.boundary["ssim"].value > 0.9


def test_a_constant_boundary_leaks_nothing(brick_wall, open_window, digits, attack):
    report = audited(brick_wall, open_window, digits, attack)
    result = report.strongest()
    assert result.boundary["ssim"].value == pytest.approx(result.floor["ssim"].value, abs=0.02)
    assert result.leakage.value < 0.05
    assert result.leakage.low == 0.0
    assert any(note.startswith("boundary: its reconstructions hardly differed") for note in result.notes)
    assert report.pictures.original.shape == (3, 8, 8, 1)
    assert report.pictures.defended.std(axis=0).max() < report.pictures.undefended.std(axis=0).max() / 5


def test_noise_lies_between(open_window, digits, attack):
    noisy = open_window.with_channel(GaussianChannel(stddev=0.5))
    leakage = audited(noisy, open_window, digits, attack).strongest().leakage
    assert 0.1 < leakage.low < leakage.high < 0.95


def test_attributes(open_window, brick_wall, digits):
    probe = ProbeAttack("odd", "mlp")
    opened, walled = (
        audit(p, *digits, private="odd", reference=open_window, attacks=[probe], seeds=1, epochs=12, batch_size=32)
        for p in (open_window, brick_wall)
    )
    assert opened.kinds == walled.kinds == ("odd",)
    assert opened.strongest("odd").headline == "auc"
    assert opened.strongest("odd").leakage.value == pytest.approx(1.0, abs=0.01)
    assert walled.strongest("odd").boundary["auc"].value == pytest.approx(0.5, abs=0.1)
    assert walled.strongest("odd").leakage.value == pytest.approx(0.0, abs=0.2)
    assert opened.pictures is None


def test_tokens_and_several_tensors():
    rng = np.random.default_rng(0)
    ids = keras.Input((6,), dtype="int32", name="ids")
    a = keras.layers.Embedding(20, 4, name="a")(ids)
    b = keras.layers.Embedding(20, 2, name="b")(ids)
    scores = keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Concatenate()([a, b])))
    parts = partition(keras.Model(ids, scores), ["a", "b"])
    x = rng.integers(0, 20, size=(400, 6)).astype("int32")
    data = Samples(x, {"task": x[:, 0] % 3, "first": x[:, 0] % 2})
    report = audit(parts, data[:300], data[300:], ["first"], reference=parts, seeds=1, epochs=3)
    assert report.kinds == ("first",)
    assert len(report.of("first")) == 2
    assert sum("decoders recover pictures" in text for text in report.not_tested) == 4
    assert report.pictures is None


def test_report_says_what_a_reader_must_know(open_window, digits, attack):
    steps = []
    report = audited(open_window, open_window, digits, attack, epochs=2, progress=lambda *step: steps.append(step))
    assert [s[0] for s in steps] == [0, 1, 2, 3, 4]
    assert {s[1] for s in steps} == {4}
    assert steps[-1][2] == "done"
    assert (report.known, report.held_out, report.victims, report.seeds) == (425, 75, 150, 1)
    assert any("small (150 examples)" in note for note in report.notes)
    assert "private attributes: none was named" in report.not_tested
    assert report.input_bytes == 8 * 8 * 4
    assert report.settings["epochs"] == 2
    assert report.versions["keras_privpart"] == keras_privpart.__version__


def test_standard_audit_trains_its_own_twin(digits, monkeypatch):
    monkeypatch.setattr("keras_privpart.auditing.task.EPOCHS", 3)
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    cut = keras.layers.Conv2D(2, 3, strides=2, name="cut")(image)
    parts = partition(keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(cut))), "cut")
    train, test = digits
    pictures = Samples((train.x * 255).astype("uint8"), train.targets), Samples((test.x * 255).astype("uint8"), test.targets)
    report = audit(parts, *pictures, ["odd"], seeds=1, epochs=1)
    assert report.kinds == ("reconstruction", "odd")
    assert [len(report.of(kind)) for kind in report.kinds] == [4, 2]
    assert "undefended twin trained by the audit" in report.reference
    assert report.input_bytes == 64
    assert report.summary()


def odd(data, values):
    return Samples(data.x, {**data.targets, "odd": values})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a.update(private=["Male"]), r"expected the private key 'Male'"),
        (lambda a: a.update(train=odd(a["train"], np.zeros(500, int)), private=["odd"]), "one value of 'odd' in train"),
        (lambda a: a.update(test=odd(a["test"], np.linspace(0, 1, 150)), private=["odd"]), r"'odd' of test as float64\[150\]"),
        (lambda a: a.update(test=a["train"][:100]), "100 of 100 test examples"),
        (lambda a: a.update(train=Samples(a["train"].x * 2 - 1, a["train"].targets)), r"images from -1 to 1; expected floats in \[0, 1\]"),
        (lambda a: a.update(seeds=0), "seeds=0"),
        (lambda a: a.update(epochs=1.5), "epochs=1.5"),
        (lambda a: a.update(attacks=[]), r"the attacks \[\]"),
        (lambda a: a.update(attacks=[DecoderAttack(), DecoderAttack()]), "twice"),
    ],
)
def test_what_cannot_be_audited(open_window, digits, change, text):
    arguments = {"train": digits[0], "test": digits[1], "reference": open_window, "seeds": 1, "epochs": 1}
    change(arguments)
    with pytest.raises(AuditError, match=text):
        audit(open_window, **arguments)


def test_models_of_several_inputs_are_refused(digits):
    a, b = keras.Input((8, 8, 1), name="a"), keras.Input((8, 8, 1), name="b")
    x = keras.layers.Add(name="cut")([a, b])
    parts = partition(keras.Model([a, b], keras.layers.Dense(2)(keras.layers.Flatten()(x))), "cut")
    with pytest.raises(AuditError, match=r"inputs \['a', 'b'\]; expected one"):
        audit(parts, *digits, reference=parts)
