"""Frozen noise and near duplicates, audited: what the same input shows again, and what the next frame adds."""

import keras
import pytest

from keras_privpart.auditing.attacks import DecoderAttack, LinkageAttack
from keras_privpart.auditing.audit import audit
from keras_privpart.auditing.plan import NEAR_DUPLICATES, planned
from keras_privpart.auditing.reporting import leakage_gate
from keras_privpart.auditing.reporting.dataframe import rows
from keras_privpart.auditing.reporting.report import AuditReport
from keras_privpart.auditing.settings import AuditSettings
from keras_privpart.channels import GaussianChannel
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.partition import partition

NAMED = "re-identification in the class"


@pytest.fixture(scope="module")
def audited(open_window, digits):
    def of(**kwargs):
        usual = {"seeds": 1, "bound": False, "attacks": [LinkageAttack()], "looks": (1, 4)}
        noisy = open_window.with_channel(GaussianChannel(2.0, normalize=False, frozen=kwargs.pop("frozen", False)))
        return audit(noisy, *digits, reference=open_window, **{**usual, **kwargs})

    return of


@pytest.fixture(scope="module")
def frozen(audited):
    return audited(frozen=True)


def rank_1(report, **which):
    return report.strongest(NAMED, **which).boundary["rank_1"].value


def test_attackers_of_frozen_noise_do_no_better_than_of_fresh_noise(audited, frozen):
    fresh = audited()
    assert 0.02 < rank_1(fresh) < 0.4
    assert rank_1(frozen) == pytest.approx(rank_1(fresh), abs=0.1)
    assert rank_1(fresh, looks=4) > rank_1(fresh) + 0.1
    assert frozen.looks_of(NAMED) == (1,)
    assert fresh.frames_of(NAMED) == 0
    assert f"{NEAR_DUPLICATES}: frames=16 attacks them" in fresh.not_tested


def test_near_duplicates_average_frozen_noise_out(frozen):
    assert frozen.frames_of(NAMED) == 16
    assert rank_1(frozen, frames=True) > rank_1(frozen) + 0.1
    best = frozen.strongest(NAMED, frames=True)
    assert best.name == "linkage, same class, 16 frames"
    assert best.leakage.value > 0.15
    words = frozen.summary()
    assert "Two looks at the same input agree: more of them show no more. After 16 near duplicates" in words
    assert "and that is the number to go by." in words
    facts = frozen.contract_summary()
    assert facts["kinds"][NAMED]["frames"]["16"]["leakage"] == pytest.approx(best.leakage.value, abs=1e-6)
    breaches = leakage_gate.check(facts, 0.15, allow_low_effort=True).breaches
    assert any("16 frames" in breach for breach in breaches)
    assert AuditReport.from_json(frozen.to_json()).strongest(NAMED, frames=True) == best
    assert {row["frames"] for row in rows(frozen)} == {False, True}


def test_decoders_learn_from_near_duplicates(open_window, digits):
    noisy = open_window.with_channel(GaussianChannel(1.0, normalize=False))
    report = audit(
        noisy, *digits, reference=open_window, seeds=1, epochs=6, bound=False, attacks=[DecoderAttack("small", "mse")], looks=(1,), frames=4
    )
    once, often = report.strongest(), report.strongest(frames=True)
    assert often.boundary["ssim"].value > once.boundary["ssim"].value + 0.02
    with pytest.raises(AuditError, match="looks=16; this audit has"):
        report.strongest(looks=16, frames=True)


def test_frames_are_of_pictures(digits):
    numbers = [Samples(s.x.reshape(len(s), -1), s.targets) for s in digits]
    vector = keras.Input((64,), name="vector")
    z = keras.layers.Rescaling(1.0, name="z")(vector)
    parts = partition(keras.Model(vector, keras.layers.Dense(2)(z)), "z")
    noisy = parts.with_channel(GaussianChannel(1.0, normalize=False, frozen=True))
    usual = {"reference": parts, "seeds": 1, "bound": False, "attacks": [LinkageAttack()]}
    report = audit(noisy, *numbers, **usual)
    assert report.frames_of(NAMED) == 0
    assert f"{NEAR_DUPLICATES}: near duplicates are of pictures" in report.not_tested
    with pytest.raises(AuditError, match=r"Received frames=4 and no pictures: the inputs have the shape \[64\]"):
        audit(noisy, *numbers, frames=4, **usual)


@pytest.mark.parametrize("frames", [1, -1, 2.5, True])
def test_frames_are_checked(open_window, digits, frames):
    with pytest.raises(AuditError, match=f"frames={frames!r}"):
        audit(open_window, *digits, reference=open_window, frames=frames)


@pytest.mark.parametrize(("frozen", "asked", "found"), [(True, None, 16), (False, None, 0), (False, 5, 5), (True, 0, 0)])
def test_near_duplicates_are_attacked_where_they_count(open_window, digits, frozen, asked, found):
    noisy = open_window.with_channel(GaussianChannel(1.0, normalize=False, frozen=frozen))
    plan = planned(AuditSettings(noisy, *digits, reference=open_window, frames=asked))
    assert [case.looks for case in plan.plain if case.frames] == [found] * bool(found)
    assert (NEAR_DUPLICATES in plan.left_out) is not bool(found)
