"""The gate: what passes, what does not, and what is not known."""

import pytest

from keras_privpart.auditing.reporting.leakage_gate import check
from keras_privpart.errors import AuditError


def summary(**leakages):
    """As a report sums itself up: one kind of attack for each keyword, with its leakage."""
    return {
        "kinds": {
            kind: {
                "attack": f"probe of {kind}",
                "leakage": leakage,
                "leakage_interval": [None, None] if leakage is None else [leakage - 0.1, leakage + 0.1],
            }
            for kind, leakage in leakages.items()
        }
    }


@pytest.mark.parametrize(("leakage", "passed"), [(0.0, True), (0.2, True), (0.200001, False), (1.5, False)])
def test_the_estimate_decides(leakage, passed):
    gate = check(summary(reconstruction=leakage), 0.2)
    assert gate.passed is passed
    assert gate.to_json()["passed"] is passed


def test_a_breach_names_attack_leakage_interval_and_limit():
    gate = check(summary(reconstruction=0.1, Male=0.34, Young=0.5), 0.2)
    assert gate.breaches == (
        "Leakage 0.34 (95 % interval 0.24 to 0.44), Male, by 'probe of Male' exceeds the limit of 0.2.",
        "Leakage 0.5 (95 % interval 0.4 to 0.6), Young, by 'probe of Young' exceeds the limit of 0.2.",
    )
    assert gate.worst == "0.5 (95 % interval 0.4 to 0.6), Young, by 'probe of Young'"


def test_what_is_not_known_does_not_pass():
    gate = check(summary(reconstruction=0.1, Male=None), 0.2)
    assert len(gate.breaches) == 1
    assert "Leakage of Male by 'probe of Male' is undefined" in gate.breaches[0]
    assert "No attack was carried out" in check(summary(), 9).breaches[0]


@pytest.mark.parametrize("broken", [{}, {"kinds": []}, {"kinds": {"Male": {}}}, {"kinds": {"Male": {"attack": 1, "leakage": "x"}}}])
def test_a_damaged_summary_is_refused(broken):
    with pytest.raises(AuditError, match=r"summary is malformed.*Audit again"):
        check(broken, 0.2)


@pytest.mark.parametrize("limit", [-0.1, float("nan")])
def test_a_limit_is_a_leakage(limit):
    with pytest.raises(AuditError, match="expected a leakage from 0"):
        check(summary(reconstruction=0.1), limit)
