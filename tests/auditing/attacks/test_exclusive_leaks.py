"""Leaks that only one kind of attack can see: found by that one, and missed by the one that should miss it."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import (
    Effort,
    KernelPosteriorAttack,
    LinkageAttack,
    NeighboursAttack,
    ProbeAttack,
    PropertiesAttack,
)
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.datasets import Samples

EFFORT = Effort(epochs=12, batch_size=32)


def scores(attack, view, sides):
    train, test = sides
    count = len(train) * 4 // 5
    attack.fit(view, train[:count], train[count:], EFFORT, seed=0)
    return attack.score(view.see(test.x), test).scores()


@pytest.fixture(scope="module")
def exclusive():
    """The attribute is whether two numbers have the same sign: no straight line tells."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, size=(1600, 2)).astype("float32")
    samples = Samples(x, {"hidden": (x[:, 0] * x[:, 1] > 0).astype(int)})
    return samples[:1200], samples[1200:]


@pytest.mark.parametrize("attack", [ProbeAttack("hidden", "mlp"), NeighboursAttack("hidden")], ids=lambda attack: attack.name)
def test_a_leak_that_only_non_linear_attackers_see(exclusive, attack):
    view = View("two numbers", lambda x: x)
    assert scores(ProbeAttack("hidden", "linear"), view, exclusive)["auc"] < 0.62
    assert scores(attack, view, exclusive)["auc"] > 0.9


def test_a_hash_that_only_re_identification_sees(digits):
    def hashed(x):
        return np.stack([np.random.default_rng(list(np.asarray(row, "float32").tobytes())).normal(size=4) for row in x])

    view, wall = View("a hash", hashed), View("a wall", lambda x: np.ones((len(x), 4)))
    assert scores(LinkageAttack(), view, digits)["rank_1"] == 1
    floor = scores(KernelPosteriorAttack(), wall, digits)["ssim"]
    assert scores(KernelPosteriorAttack(), view, digits)["ssim"] < floor + 0.03
    assert scores(PropertiesAttack(), view, digits)["explained_variance"] < 0.05
    assert scores(NeighboursAttack("odd"), view, digits)["auc"] < 0.62
