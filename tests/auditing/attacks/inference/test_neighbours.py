"""Nearest neighbours: each metric finds what the others miss, and votes are fair to rare classes."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import Effort, NeighboursAttack
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.datasets import Samples

EFFORT = Effort(epochs=2, batch_size=32)
as_it_is = View("as it is", lambda x: x)


def drawn(make, count=900, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.integers(2, size=count)
    return Samples(make(rng, hidden).astype("float32"), {"hidden": hidden})


def rings(rng, hidden):
    """The class is the distance from the middle."""
    angle = rng.uniform(0, 2 * np.pi, len(hidden))
    return (1 + hidden + 0.1 * rng.normal(size=len(hidden)))[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def directions(rng, hidden):
    """The class is the sign of an angle, at lengths of all magnitudes."""
    angle = np.where(hidden, 1, -1)[:, None] * rng.uniform(0.2, 1.2, (len(hidden), 1)) + np.pi * rng.integers(2, size=(len(hidden), 1))
    return np.exp(2 * rng.normal(size=(len(hidden), 1))) * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def quiet(rng, hidden):
    """The class is a quiet number beside loud ones."""
    return np.concatenate([0.05 * (hidden + 0.1 * rng.normal(size=len(hidden)))[:, None], 10 * rng.normal(size=(len(hidden), 2))], axis=1)


def fitted(samples):
    attack = NeighboursAttack("hidden")
    attack.fit(as_it_is, samples[:500], samples[500:700], EFFORT, seed=0)
    return attack


@pytest.mark.parametrize(("make", "metric"), [(rings, None), (directions, None), (quiet, "mahalanobis")])
def test_each_metric_finds_its_leak(make, metric):
    samples = drawn(make)
    attack = fitted(samples)
    assert attack.score([samples.x[700:]], samples[700:]).scores()["auc"] > 0.9
    if metric:
        assert attack._chosen[0] == metric


def test_rare_classes_get_their_due():
    rng = np.random.default_rng(0)
    hidden = (rng.uniform(size=900) < 0.1).astype(int)
    samples = Samples((hidden + 0.8 * rng.normal(size=900))[:, None].astype("float32"), {"hidden": hidden})
    scores = fitted(samples).score([samples.x[700:]], samples[700:]).scores()
    assert scores["auc"] > 0.7
    assert scores["balanced_accuracy"] > 0.6


def test_few_examples_limit_the_neighbours_that_are_asked():
    samples = drawn(rings, 60)
    attack = NeighboursAttack("hidden")
    attack.fit(as_it_is, samples[:20], samples[20:40], EFFORT, seed=0)
    assert attack.score([samples.x[40:]], samples[40:]).probabilities.shape == (20, 2)


def test_a_constant_is_chance():
    samples = drawn(rings)
    attack = NeighboursAttack("hidden")
    wall = View("a wall", lambda x: np.ones((len(x), 3)))
    attack.fit(wall, samples[:500], samples[500:700], EFFORT, seed=0)
    assert attack.score(wall.see(samples.x[700:]), samples[700:]).scores()["auc"] == 0.5
