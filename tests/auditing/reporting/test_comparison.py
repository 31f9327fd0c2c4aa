"""Two reports side by side, and a report as a long table."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from keras_privpart.auditing.reporting.comparison import compare_reports
from keras_privpart.auditing.reporting.dataframe import rows
from keras_privpart.auditing.reporting.report import AttackResult, AuditReport
from keras_privpart.auditing.scoring.intervals import Leakage, Score
from keras_privpart.errors import AuditError
from keras_privpart.threat_model import ThreatModel


def score(value):
    return Score(value, value - 0.01, value + 0.01, (value,), (value,))


def report(leakage, **changes):
    low, high = (None, None) if leakage is None else (leakage - 0.02, leakage + 0.02)
    result = AttackResult(
        "decoder",
        "reconstruction",
        "ssim",
        {"ssim": score(0.6), "mse": score(0.02)},
        {"answer": {"ssim": score(0.5), "mse": score(0.04)}, "top-1": {"ssim": score(0.45), "mse": score(0.05)}},
        "answer",
        {"ssim": score(0.9), "mse": score(0.001)},
        Leakage(leakage, low, high),
        family="decoder",
    )
    return AuditReport(
        **{
            "results": (result,),
            "defended_accuracy": score(0.91),
            "reference_accuracy": score(0.93),
            "seeds": 3,
            "known": 850,
            "held_out": 150,
            "victims": 400,
            "boundary": "z",
            "boundary_bytes": 8,
            "input_bytes": 64,
            "reference": "given",
            "settings": {"epochs": 8, "batch_size": 64, "seed": 0},
            "versions": {"keras_privpart": "0.1.0"},
            "not_tested": (),
            "scored_on": "a1b2",
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("leakages", "words"), [((0.2, 0.3), "differ beyond"), ((0.2, 0.23), "within their"), ((0.2, None), "| 0.20 (0.18–0.22) | undefined")]
)
def test_leakages_side_by_side(leakages, words):
    text = str(compare_reports(*map(report, leakages), names=("noise", "bottleneck")))
    assert words in text
    assert text.startswith("|  | noise | bottleneck |  |")
    assert "| SSIM, floor | 0.500 (0.490–0.510) | 0.500 (0.490–0.510) |  |" in text
    assert "| task accuracy | 91.0 % (90.0–92.0) |" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scored_on": "c3d4"}, r"the victims \(a1b2 and c3d4\)"),
        ({"known": 100}, r"the attackers' examples \(\(850, 150\) and \(100, 150\)\)"),
        ({"settings": {"epochs": 9, "batch_size": 64, "seed": 0}}, "the settings"),
        ({"seeds": 1}, r"the attackers' seeds \(3 and 1\)"),
        ({"threat_model": ThreatModel(device_weights=False)}, "the threat model"),
        ({"versions": {"keras_privpart": "0.2.0"}}, r"the version \(0.1.0 and 0.2.0\)"),
        ({"results": ()}, "the attacks"),
    ],
)
def test_what_was_measured_differently_is_not_compared(change, words):
    with pytest.raises(AuditError, match=rf"{words}.*audit both models alike"):
        compare_reports(report(0.2), report(0.2, **change))
    compare_reports(report(0.2, **change), report(0.3, **change))


def test_two_models_may_have_other_boundaries_and_trainings():
    compare_reports(report(0.2), report(0.2, boundary="other", models=3, reference="a twin"))


def test_a_report_as_a_long_table(monkeypatch):
    one = report(0.2)
    table = rows(one)
    assert len(table) == 4 * 2
    assert table[2] == {
        "kind": "reconstruction",
        "attack": "decoder",
        "family": "decoder",
        "budget": None,
        "people": "",
        "looks": 1,
        "frames": False,
        "given": "floor: answer",
        "score": "ssim",
        "headline": True,
        "value": 0.5,
        "low": 0.49,
        "high": 0.51,
        "leakage": 0.2,
        "leakage_low": pytest.approx(0.18),
        "leakage_high": pytest.approx(0.22),
    }
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=tuple))
    assert one.to_dataframe() == tuple(table)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(AuditError, match="pip install pandas"):
        one.to_dataframe()


def test_a_budget_is_part_of_the_name():
    limited = replace(report(0.2).results[0], budget=1000)
    both = report(0.2, results=(limited, *report(0.2).results))
    assert [r.name for r in both.results] == ["decoder, 1,000 examples", "decoder"]
    assert both.contract_summary()["kinds"]["reconstruction"]["attacks"] == 1
