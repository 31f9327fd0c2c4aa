"""An open set, audited: enrolled people, helpers and strangers, who knows whose pictures, and what the task is worth."""

import keras
import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart.auditing.attacks import NeighboursAttack
from keras_privpart.auditing.knowledge import open_set
from keras_privpart.auditing.knowledge.open_set import WITH, WITHOUT, OpenSet, WhoOrUnknown, threshold
from keras_privpart.auditing.knowledge.splits import split
from keras_privpart.auditing.reporting.report import AuditReport
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError

ENROLLED, HELPERS, UNSEEN = np.arange(20), np.arange(20, 40), np.arange(40, 80)
GROUPS = OpenSet(ENROLLED, HELPERS, false_alarms=0.1)
NUMBERS = 12
CENTRES = np.random.default_rng(5).normal(size=(80, NUMBERS)).astype("float32")


def pictures(people, each, seed):
    """`[n, 12]` numbers: who it is, with something of the day; the sign of the first is the sex."""
    rng = np.random.default_rng(seed)
    who = np.repeat(people, each)
    sex = who % 2
    x = CENTRES[who] + 0.35 * rng.normal(size=(len(who), NUMBERS)).astype("float32")
    x[:, 0] = (2 * sex - 1) * rng.uniform(4, 6, size=len(who))
    return Samples(x.astype("float32"), {"task": np.where(who < 20, who, -1), "who": who, "Male": sex})


@pytest.fixture(scope="module")
def data():
    return pictures(np.arange(80), 8, 1), pictures(np.arange(80), 5, 2)


def cut(*through):
    """Answers by the likeness to the enrolled people's centres, from what crosses; numbers whose factor is 0 do not."""
    factors = np.ones(NUMBERS, "float32")
    factors[list(through)] = 0
    numbers = keras.Input((NUMBERS,), name="numbers")
    z = keras.layers.Dense(NUMBERS, use_bias=False, name="z")
    scores = keras.layers.Dense(20, use_bias=False, name="scores")
    model = keras.Model(numbers, scores(keras.layers.UnitNormalization()(z(numbers))))
    z.set_weights([np.diag(factors)])
    rows = CENTRES[:20] * (np.arange(NUMBERS) > 0)
    scores.set_weights([(rows / np.linalg.norm(rows, axis=1, keepdims=True)).T])
    return kp.partition(model, "z")


@pytest.fixture(scope="module")
def audited(data):
    def of(parts, **kwargs):
        usual = {"reference": cut(), "group": "who", "groups": GROUPS, "seeds": 1, "bound": False, "attacks": [NeighboursAttack("Male")]}
        return kp.audit(parts, *data, ["Male"], **{**usual, **kwargs})

    return of


@pytest.fixture(scope="module")
def report(audited):
    return audited(cut(0), answer="who or unknown")


def test_no_attacker_has_a_picture_of_its_victims(data):
    found = open_set.protocols(split(*data, 0.15, 0), "who", GROUPS, ["Male"], seed=0)
    assert list(found) == [f"{group} people, {which}" for group in open_set.GROUPS for which in (WITH, WITHOUT)]
    for name, people in zip(open_set.GROUPS, (ENROLLED, HELPERS, UNSEEN), strict=True):
        everyone, alone = (found[f"{name} people, {which}"] for which in (WITH, WITHOUT))
        victims = set(everyone.victims.targets["who"])
        assert len(victims) == len(people) // 2
        assert victims < set(people)
        sides = [set(s.targets["who"]) for s in (everyone.known, everyone.held_out, alone.known, alone.held_out)]
        assert not any(side & victims for side in sides)
        assert sides[0] | sides[1] == set(range(80)) - victims
        assert sides[2] | sides[3] == set(people) - victims
        assert np.array_equal(everyone.people, everyone.victims.targets["who"])


def test_data_that_part_people_already_stay_whole(data):
    train, test = pictures(np.arange(70), 8, 1), pictures(np.arange(70, 80), 5, 2)
    found = open_set.protocols(split(train, test, 0.15, 0), "who", GROUPS, ["Male"], seed=0)
    assert set(found[f"unseen people, {WITH}"].victims.targets["who"]) == set(range(70, 80))
    assert "0 examples to attack" in found[f"enrolled people, {WITH}"]


def test_every_group_is_attacked_with_and_without_the_others(report):
    kinds = [f"Male ({group} people, {which})" for group in open_set.GROUPS for which in (WITH, WITHOUT)]
    assert set(report.kinds) == set(kinds)
    for kind in kinds:
        best = report.strongest(kind)
        assert set(best.floors) == {"decision", "top-1", "answer"}
        assert best.ceiling["auc"].value > 0.95
        assert best.boundary["auc"].value < 0.85, "the number that says it does not cross"
    assert "from who comes first alone" in report.summary()


def test_the_decision_is_who_or_unknown(report, audited):
    assert report.decision.startswith("who comes first, or unknown")
    plain = audited(cut(0))
    assert set(plain.strongest(plain.kinds[0]).floors) == {"decision", "who or unknown", "answer"}
    scores = np.array([[0.2, 0.9, 0.1], [0.3, 0.2, 0.1]])
    np.testing.assert_array_equal(WhoOrUnknown(0.5)([scores]), [[0, 1, 0, 0], [0, 0, 0, 1]])


def test_identity_stands_beside_leakage(report, audited):
    found = report.identification
    assert found.people == {"enrolled": 20, "helpers": 20, "unseen": 40}
    assert found.strangers == 200
    assert found.identity["defended"].value == pytest.approx(report.defended_accuracy.value)
    assert found.identity["defended"].value > 0.9
    assert 0.3 < found.detected["defended"].value <= found.identity["defended"].value
    blurred = audited(cut(*range(8))).identification
    assert blurred.identity["defended"].value < found.identity["defended"].value - 0.1
    assert blurred.detected["defended"].value < found.detected["defended"].value - 0.1
    assert blurred.identity["reference"] == found.identity["reference"]
    assert "detection and identification at 10 % false alarms" in report.summary()
    facts = report.contract_summary()["identification"]
    assert facts["detected_and_identified"]["defended"] == pytest.approx(found.detected["defended"].value, abs=1e-6)


def test_it_goes_through_json_and_old_reports_load(report):
    data = report.to_json()
    assert AuditReport.from_json(data).identification == report.identification
    assert AuditReport.from_json({k: v for k, v in data.items() if k != "identification"}).identification is None


def test_the_threshold_lets_as_many_strangers_pass_as_is_said():
    scores = np.random.default_rng(0).uniform(size=(1000, 3))
    limit = threshold(scores, 0.05)
    assert np.mean(scores.max(axis=1) > limit) == pytest.approx(0.05, abs=0.001)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"group": None}, "without group=; expected the target"),
        ({"reference": None}, "without reference="),
        ({"groups": {"enrolled": [1]}}, "expected an OpenSet"),
        ({"groups": None, "answer": "who or unknown"}, "and groups= for 'who or unknown'"),
        ({"groups": OpenSet(ENROLLED), "answer": "who or unknown"}, "no pictures of helpers"),
    ],
)
def test_what_an_open_set_needs(audited, kwargs, message):
    with pytest.raises(AuditError, match=message):
        audited(cut(0), **kwargs)


def test_people_are_in_one_group():
    with pytest.raises(AuditError, match=r"Received 2 enrolled people, of whom \[2\] are helpers too"):
        OpenSet([1, 2], [2, 3])
    with pytest.raises(AuditError, match="Received 0 enrolled people; expected"):
        OpenSet([])
    with pytest.raises(AuditError, match="false_alarms=0"):
        OpenSet([1], false_alarms=0)
