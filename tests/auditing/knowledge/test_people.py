"""Same people and disjoint people: who is on which side, and that the two are never mixed."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import ProbeAttack
from keras_privpart.auditing.audit import audit
from keras_privpart.auditing.knowledge.people import DISJOINT, SAME, protocols
from keras_privpart.auditing.knowledge.splits import split
from keras_privpart.auditing.selection import people_cases
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError

RNG = np.random.default_rng(0)


def faces(people, each, seed):
    """`each` examples of every person; sex follows from the person."""
    person = np.repeat(people, each)
    x = np.random.default_rng(seed).uniform(size=(len(person), 4, 4, 1)).astype("float32")
    return Samples(x, {"task": person, "Identity_No": person, "Male": person % 2})


def people(samples):
    return set(samples.targets["Identity_No"].tolist())


def test_same_people_are_known_and_disjoint_people_are_not():
    train, test = faces(np.arange(20), 10, 1), faces(np.arange(4, 24), 6, 2)
    found = protocols(split(train, test, 0.15, 0), "Identity_No", ["Male"], seed=0)
    same, disjoint = found[SAME], found[DISJOINT]
    assert people(same.victims) == set(range(4, 20))
    assert len(same.victims) == 16 * 6
    sides = [people(part) for part in (disjoint.known, disjoint.held_out, disjoint.victims)]
    assert all(not a & b for i, a in enumerate(sides) for b in sides[:i])
    assert set(range(20, 24)) < sides[2]  # strangers stay victims
    assert len(sides[2] & set(range(4, 20))) == 8
    for split_ in (same, disjoint):
        np.testing.assert_array_equal(split_.people, split_.victims.targets["Identity_No"])
    assert np.mean([p % 2 for p in sides[2] if p < 20]) == 0.5  # alike people are divided evenly


def test_data_that_part_people_already_stay_whole():
    train, test = faces(np.arange(10), 10, 1), faces(np.arange(10, 20), 5, 2)
    found = protocols(split(train, test, 0.15, 0), "Identity_No", ["Male"], seed=0)
    assert "0 examples to attack" in found[SAME]
    assert people(found[DISJOINT].known) | people(found[DISJOINT].held_out) == set(range(10))
    assert len(found[DISJOINT].victims) == len(test)


def test_the_seed_divides():
    data = split(faces(np.arange(20), 10, 1), faces(np.arange(20), 5, 2), 0.15, 0)
    sides = [people(protocols(data, "Identity_No", ["Male"], seed)[DISJOINT].victims) for seed in (0, 0, 1)]
    assert sides[0] == sides[1] != sides[2]


def test_an_attribute_that_one_side_lacks():
    train, test = faces(np.arange(0, 20, 2), 10, 1), faces(np.arange(20), 5, 2)
    found = protocols(split(train, test, 0.15, 0), "Identity_No", ["Male"], seed=0)
    assert "one value of 'Male' among the attacker's data" in found[SAME]


def test_people_must_be_named():
    data = split(faces(np.arange(5), 10, 1), faces(np.arange(5), 5, 2), 0.15, 0)
    with pytest.raises(AuditError, match=r"expected 'who' among them, to tell people apart"):
        protocols(data, "who", ["Male"], seed=0)


def test_an_unseen_attribute_changes_nothing_of_the_others():
    def with_traits(samples):
        person = samples.targets["task"]
        return Samples(samples.x, {**samples.targets, "Young": person % 3 == 0, "Hat": person == 1})

    train, test = with_traits(faces(np.arange(20), 10, 1)), with_traits(faces(np.arange(4, 24), 6, 2))
    data = split(train, test, 0.15, 0)
    alone, _ = people_cases(data, "Identity_No", ["Male"], [], (None,), 1, 32, seed=0)
    found, impossible = people_cases(data, "Identity_No", ["Male"], ["Young", "Hat"], (None,), 1, 32, seed=0)
    for before, after in zip(alone["Male"], found["Male"], strict=True):
        np.testing.assert_array_equal(before.data.people, after.data.people)
    assert [case.people for case in found["Young"]] == [SAME, DISJOINT]
    assert found["Hat"] == []
    assert set(impossible) == {"Hat of same people", "Hat of disjoint people"}


def test_an_audit_never_mixes_them(open_window, digits):
    """Whose hand wrote a digit is not known: groups are drawn, and the attribute follows the digit."""
    train, test = (Samples(s.x, {**s.targets, "hand": np.arange(len(s)) % 12}) for s in digits)
    report = audit(
        open_window, train, test, ["odd"], open_window, 1, attacks=[ProbeAttack("odd", "linear")], group="hand", epochs=2, batch_size=32
    )
    assert report.kinds == ("odd (same people)", "odd (disjoint people)")
    same, disjoint = (report.strongest(kind) for kind in report.kinds)
    assert (same.people, disjoint.people) == (SAME, DISJOINT)
    assert same.victims == 150
    assert 60 < disjoint.victims < 90
    assert disjoint.known < same.known
    assert "people whom the attacker knows" not in " ".join(report.not_tested)
