"""Erasure: nothing linear is left, the least is changed, and what is not linear is not stopped."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

import keras_privpart as kp
from keras_privpart.channels import Erasure
from keras_privpart.errors import CutError, DataError
from keras_privpart.training.closed_form.leace import leace

RNG = np.random.default_rng(0)
MALE = RNG.integers(0, 2, 6000)
X = RNG.normal(size=(6000, 8)).astype("float32")
X[:, 0] += 2 * MALE
X[:, 1] = np.where(MALE, np.sign(X[:, 1]) * 2, X[:, 1] * 0.2)  # what no linear attacker sees
TARGETS = {"task": (X[:, 2] > 0).astype(int), "Male": MALE}


def model(activation=None, grid=False, use_bias=True):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,), name="x")
    z = keras.layers.Dense(6, activation=activation, use_bias=use_bias, name="z")(inputs)
    z = keras.layers.Reshape((1, 2, 3), name="grid")(z) if grid else z
    return keras.Model(inputs, keras.layers.Dense(2, name="scores")(keras.layers.Flatten()(z)))


def rows(parts):
    return np.asarray(parts.device(X)).reshape(len(X), -1)


FITTED, LEARNT = slice(0, 3000), slice(3000, 4500)  # what is erased on, what an attacker learns from; the rest are victims


def auc(z, probe):
    guesses = probe.fit(z[LEARNT], MALE[LEARNT]).predict_proba(z[4500:])[:, 1]
    return roc_auc_score(MALE[4500:], guesses)


def erase(parts):
    return kp.erase(parts, (X[FITTED], {key: value[FITTED] for key, value in TARGETS.items()}), "Male")


@pytest.mark.parametrize(
    ("options", "at", "folded"),
    [
        ({}, "z", True),
        ({"activation": "relu"}, "z", False),
        ({"grid": True}, "grid", False),
        ({"use_bias": False}, "z", False),
    ],
    ids=["dense", "activation", "grid", "no bias"],
)
def test_a_linear_attacker_finds_nothing_and_the_server_half_fits(options, at, folded, tmp_path):
    plain = kp.partition(model(**options), at=at)
    before, weights = rows(plain), [w.copy() for w in plain.model.get_weights()]
    erased = erase(plain)
    after = rows(erased)
    assert auc(before, LogisticRegression()) > 0.85
    assert abs(auc(after, LogisticRegression()) - 0.5) < 0.1
    centred = after[FITTED] - after[FITTED].mean(axis=0)
    assert np.abs(centred.T @ (MALE[FITTED] - MALE[FITTED].mean())).max() / len(centred) < 1e-5
    assert any(isinstance(layer, Erasure) for layer in erased.device.layers) is not folded
    erased.verify(X[:16])
    assert all(np.array_equal(a, b) for a, b in zip(weights, plain.model.get_weights(), strict=True)), "the given model stays as it is"
    erased.with_channel(kp.GaussianChannel(0.1)).save(tmp_path / "parts")
    again = kp.Partition.load(tmp_path / "parts")
    again.verify(X[:16])


def test_attackers_that_are_not_linear_are_not_stopped():
    erased = erase(kp.partition(model(), at="z"))
    assert auc(rows(erased), KNeighborsClassifier(20)) > 0.75


def test_no_affine_map_that_erases_changes_less():
    z = rows(kp.partition(model(), at="z")).astype("float64")
    mean, down, up = leace(z, MALE[:, None].astype(float))
    change = np.square((z - mean) @ down @ up).sum(axis=1).mean()
    centred = z - z.mean(axis=0)
    gap = centred.T @ (MALE - MALE.mean()) / len(z)
    direction = gap / np.linalg.norm(gap)
    assert change < np.square(centred @ direction).mean(), "less than leaving out the direction of the means"
    # Every map that erases leaves out gap along some v: z - (z - mean) @ v gap^T / (v @ gap). None of many does better.
    for seed in range(200):
        v = np.linalg.solve(np.cov(z.T), gap) + 0.1 * np.random.default_rng(seed).normal(size=6)
        other = np.outer(centred @ v, gap / (v @ gap))
        assert np.square(other).sum(axis=1).mean() >= change * (1 - 1e-9)


def test_what_is_not_there_is_not_erased():
    twice, told = np.concatenate([X, X]), np.repeat([0, 1], len(X))
    plain = kp.partition(model(), at="z")
    same = kp.erase(plain, (twice, {"task": told, "Male": told}), "Male")
    assert np.array_equal(rows(same), rows(plain))


def test_several_classes_and_numbers_are_erased_too():
    kinds = RNG.integers(0, 4, len(X))
    x = X + np.eye(4, 8)[kinds].astype("float32")
    plain = kp.partition(model(), at="z")
    for values, concept in ((kinds, np.eye(4)[kinds]), (X[:, 3] + X[:, 4], (X[:, 3] + X[:, 4])[:, None])):
        erased = kp.erase(plain, (x, {"task": kinds, "kind": values}), "kind")
        z = np.asarray(erased.device(x))
        assert np.abs((z - z.mean(axis=0)).T @ (concept - concept.mean(axis=0))).max() / len(x) < 1e-5


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda p: kp.erase(p, (X, TARGETS), "Young"),
            DataError,
            "expected the attribute 'Young' among them",
        ),
        (lambda p: kp.erase(p, (X, {"Male": 0 * MALE}), "Male"), DataError, "with one value alone"),
        (lambda p: kp.erase(p, (X[:6], {"Male": [0, 1] * 3}), "Male"), DataError, "Received 6 examples for a boundary of 6 numbers"),
        (lambda p: kp.erase(p.with_channel(kp.GaussianChannel(1.0)), (X, TARGETS), "Male"), CutError, "with a channel"),
        (lambda p: leace(np.zeros((3, 2)), np.zeros((4, 1))), DataError, r"Received rows \[3, 2\] and a concept \[4, 1\]"),
    ],
)
def test_what_cannot_be_erased_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make(kp.partition(model(), at="z"))


def test_a_layer_that_is_used_twice_is_left_alone():
    keras.utils.set_random_seed(2)
    inputs = keras.Input((8,), name="x")
    shared = keras.layers.Dense(8, name="z")
    plain = kp.partition(keras.Model(inputs, keras.layers.Dense(2)(shared(shared(inputs)))), at="z#2")
    erased = kp.erase(plain, (X, TARGETS), "Male")
    assert any(isinstance(layer, Erasure) for layer in erased.device.layers)
    erased.verify(X[:8])
