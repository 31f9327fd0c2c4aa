"""Leaks that only one kind of attack can see: found by that one, and missed by the one that should miss it."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import (
    DecoderAttack,
    Effort,
    KernelPosteriorAttack,
    LearnedPriorAttack,
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


def hashed(x, numbers):
    """Numbers that are another's for every picture, and say nothing of what is in it."""
    return np.stack([np.random.default_rng(list(np.asarray(row, "float32").tobytes())).normal(size=numbers) for row in x])


def test_a_hash_that_only_re_identification_sees(digits):
    view, wall = View("a hash", lambda x: hashed(x, 4)), View("a wall", lambda x: np.ones((len(x), 4)))
    assert scores(LinkageAttack(), view, digits)["rank_1"] == 1
    floor = scores(KernelPosteriorAttack(), wall, digits)["ssim"]
    assert scores(KernelPosteriorAttack(), view, digits)["ssim"] < floor + 0.03
    assert scores(PropertiesAttack(), view, digits)["explained_variance"] < 0.05
    assert scores(NeighboursAttack("odd"), view, digits)["auc"] < 0.62


def test_a_thumbnail_that_only_decoders_see(digits):
    """A quarter of the pixels beside much that says nothing: who compares boundaries as they are compares noise."""

    def thumbnail(x):
        return [20 * hashed(x, 64), x[:, ::2, ::2]]

    view, wall = View("a thumbnail", thumbnail), View("a wall", lambda x: np.ones((len(x), 4)))
    floor = scores(KernelPosteriorAttack(), wall, digits)["ssim"]
    assert scores(KernelPosteriorAttack(), view, digits)["ssim"] < floor + 0.03
    assert scores(LearnedPriorAttack(), view, digits)["ssim"] > floor + 0.1
    assert scores(DecoderAttack("small", "mixed"), view, digits)["ssim"] > floor + 0.2


def test_a_leak_that_shows_with_many_people_only():
    """Whoever knows few people learns who they are; what strangers have in common with them takes many to see."""
    rng = np.random.default_rng(0)
    faces = rng.normal(size=(500, 30)).astype("float32")
    hidden = (faces @ rng.normal(size=30) > 0).astype(int)

    def pictures(people, each):
        who = np.repeat(people, each)
        return Samples(faces[who] + 0.1 * rng.normal(size=(len(who), 30)).astype("float32"), {"hidden": hidden[who]})

    view, strangers = View("numbers", lambda x: x), pictures(np.arange(400, 500), 4)
    pools = {count: pictures(rng.permutation(400)[:count], 1600 // count) for count in (16, 400)}
    found = {count: scores(ProbeAttack("hidden", "linear"), view, (pool, strangers))["auc"] for count, pool in pools.items()}
    assert found[16] < 0.75
    assert found[400] > 0.93
