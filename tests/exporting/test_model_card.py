"""The model card of a bundle: every version has one, in words, hashed like all files."""

import keras
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart.auditing.reporting.results import AttackResult
from keras_privpart.auditing.scoring.intervals import Leakage, Score


def _found(kind, leakage):
    def score(value):
        return {"ssim": Score(value, value, value, (value,))}

    interval = (None, None) if leakage is None else (leakage - 0.05, leakage + 0.05)
    return AttackResult(
        "decoder", kind, "ssim", score(0.6), {"decision": score(0.4)}, "decision", score(0.9), Leakage(leakage, *interval, "")
    )


@pytest.fixture(scope="module")
def parts():
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(2, 3, strides=2, name="cut")(x)
    model = keras.Model(inputs, layers.Dense(3, name="scores")(layers.Flatten()(x)), name="tiny")
    return kp.partition(model, at="cut").with_channel(kp.GaussianChannel(0.5))


def test_an_audited_bundle_tells_what_a_reader_must_know(parts, report_of, tmp_path):
    report = report_of(_found("reconstruction", 0.4), _found("Male", None), threat_model=kp.ThreatModel(private=("Male",)))
    bundle = kp.export(parts, tmp_path / "tiny", audit=report)
    assert "report/1/MODEL_CARD.md" in bundle.contract.files
    card = (bundle.path / "report/1/MODEL_CARD.md").read_text()
    for words in (
        "# Model card: tiny, version 1",
        "float32 3x3x2 from 'cut', 72 bytes an example",
        "GaussianChannel",
        "Right for 91.0 % of 400 test examples, where the undefended model is right for 93.0 %.",
        "| reconstruction | decoder | ssim 0.600 | 0.400 | 0.900 | 0.40 |",
        "| Male | decoder | ssim 0.600 | 0.400 | 0.900 | undefined |",
        "no sign of privacy",
        "the attribute 'Male'",
        bundle.contract.fingerprint,
    ):
        assert words in card
    assert kp.export(parts, tmp_path / "again" / "tiny", audit=report).contract.audit == bundle.contract.audit


def test_an_unaudited_bundle_says_so_and_each_version_has_its_own_card(parts, tmp_path):
    for version in (1, 2):
        bundle = kp.export(parts, tmp_path / "tiny")
        card = (bundle.path / f"report/{version}/MODEL_CARD.md").read_text()
        assert f"version {version}" in card
        assert "**Not audited.**" in card
        assert "No threat model was declared." in card
