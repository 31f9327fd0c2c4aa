"""Attackers never learn from their victims."""

import numpy as np
import pytest

from keras_privpart.auditing.knowledge.splits import split
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError

RNG = np.random.default_rng(0)


def samples(n, shape=(4, 4, 1)):
    x = RNG.uniform(size=(n, *shape)).astype("float32")
    return Samples(x, {"task": np.arange(n)})


def rows(part):
    return {row.tobytes() for row in part.x}


def test_everyone_has_other_examples():
    train, test = samples(100), samples(30)
    parts = split(train, test, 0.15, seed=0)
    assert (len(parts.known), len(parts.held_out), len(parts.victims), parts.dropped) == (85, 15, 30, 0)
    assert rows(parts.known) | rows(parts.held_out) == rows(train)
    assert not rows(parts.known) & rows(parts.held_out)
    for part in (parts.known, parts.held_out):  # targets stay with their examples
        np.testing.assert_array_equal(train.x[part.targets["task"]], part.x)


def test_the_seed_decides():
    train, test = samples(50), samples(20)
    first, again, other = (split(train, test, 0.2, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.known.x, again.known.x)
    assert (first.known.x != other.known.x).any()


def test_overlap_is_refused_with_its_count():
    train, test = samples(100), samples(40)
    test.x[:3] = train.x[5]
    with pytest.raises(AuditError, match=r"3 of 40 test examples that are in the training data"):
        split(train, test, 0.15, 0)


def test_bytes_and_floats_of_one_picture_are_the_same():
    pictures = RNG.integers(0, 256, size=(40, 4, 4, 1)).astype("uint8")
    floats = pictures.astype("float32") / 255
    with pytest.raises(AuditError, match="40 of 40"):
        split(Samples(pictures, {}), Samples(floats, {}), 0.15, 0)


def test_natural_duplicates_leave_the_attackers_data():
    train, test = samples(60), samples(100)
    train.x[[7, 9]] = test.x[0]
    parts = split(train, test, 0.15, 0)
    assert parts.dropped == 2
    assert not (rows(parts.known) | rows(parts.held_out)) & rows(test)
    assert len(parts.victims) == 100


@pytest.mark.parametrize(("n", "m", "text"), [(9, 20, "9 training examples"), (20, 9, "9 test examples")])
def test_too_few_examples(n, m, text):
    with pytest.raises(AuditError, match=text):
        split(samples(n), samples(m), 0.15, 0)


def test_shapes_must_agree():
    with pytest.raises(AuditError, match=r"shape \[4, 4, 1\] and test inputs of shape \[5, 5, 1\]"):
        split(samples(20), samples(20, (5, 5, 1)), 0.15, 0)
