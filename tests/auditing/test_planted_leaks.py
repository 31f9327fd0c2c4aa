"""Leaks that are known because they were put there: each is found, and missed by the attack that should miss it."""

import keras
import numpy as np
import pytest

from keras_privpart.auditing.attacks import ProbeAttack
from keras_privpart.auditing.audit import audit
from keras_privpart.channels import GaussianChannel
from keras_privpart.datasets import Samples
from keras_privpart.partitioning.partition import partition

USUAL = {"seeds": 1, "epochs": 60, "bound": False}


@pytest.fixture(scope="module")
def secrets():
    """Inputs `[n, 4]`: the task is the sign of the last number; a secret is the sign of the first, another the XOR of two signs."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.2, 1.0, size=(1000, 4)) * rng.choice([-1.0, 1.0], size=(1000, 4))
    x = x.astype("float32")
    targets = {"task": (x[:, 3] > 0).astype("int64"), "sign": x[:, 0] > 0, "xor": (x[:, 1] > 0) ^ (x[:, 2] > 0)}
    whole = Samples(x, targets)
    return whole[:600], whole[600:]


def cut(through):
    """A model that answers by the last number alone, cut where `through` of the numbers cross."""
    numbers = keras.Input((4,), name="numbers")
    z = keras.layers.Dense(4, use_bias=False, name="z")(numbers)
    scores = keras.layers.Dense(2, use_bias=False, name="scores")(z)
    model = keras.Model(numbers, scores)
    model.get_layer("z").set_weights([np.diag(np.asarray(through, "float32"))])
    model.get_layer("scores").set_weights([np.array([[0, 0], [0, 0], [0, 0], [-1, 1]], "float32")])
    return partition(model, "z")


@pytest.fixture(scope="module")
def undefended():
    return cut([1, 1, 1, 1])


def attacked(parts, secrets, undefended, key, *probes, **kwargs):
    attacks = [ProbeAttack(key, probe) for probe in probes]
    return audit(parts, *secrets, private=[key], reference=undefended, attacks=attacks, **{**USUAL, **kwargs})


def test_a_leak_that_no_linear_probe_sees_is_found(secrets, undefended):
    report = attacked(undefended, secrets, undefended, "xor", "linear", "mlp")
    linear, mlp = report.of("xor")
    assert report.strongest("xor") is mlp
    assert mlp.boundary["auc"].value > 0.95
    assert mlp.leakage.value > 0.9
    assert linear.boundary["auc"].value < 0.65


def test_a_leak_that_shows_over_sixteen_looks_is_found(secrets, undefended):
    noisy = cut([1, 0, 0, 1]).with_channel(GaussianChannel(stddev=3.0, normalize=False))
    report = attacked(noisy, secrets, undefended, "sign", "linear", epochs=120)
    once, often = (report.strongest("sign", looks) for looks in (1, 16))
    assert once.boundary["auc"].value < 0.72
    assert often.boundary["auc"].value > 0.75
    assert often.boundary["auc"].value > once.boundary["auc"].value + 0.1
    assert often.leakage.value > once.leakage.value + 0.2
    assert "After 16 looks at the same input it is AUC" in report.summary()


def test_without_noise_more_looks_are_not_repeated(secrets, undefended):
    report = attacked(undefended, secrets, undefended, "sign", "linear", epochs=3)
    assert report.repeats
    assert [r.looks for r in report.results] == [1]
    assert "Two looks at the same input agree: more of them show no more." in report.summary()


def test_nothing_leaks_where_nothing_crosses(secrets, undefended):
    report = attacked(cut([0, 0, 0, 0]), secrets, undefended, "sign", "linear", "mlp")
    best = report.strongest("sign")
    assert best.boundary["auc"].value == 0.5
    assert best.above_chance.value == 0.0
    assert best.leakage.value == 0.0


def test_logits_leak_nothing_beyond_the_answer(secrets, undefended):
    """What crosses is the answer itself: attackers are given the same and learn the same, so that no luck comes in."""
    numbers = keras.Input((4,), name="numbers")
    logits = keras.layers.Dense(2, name="logits")(numbers)
    model = keras.Model(numbers, keras.layers.Activation("linear", name="scores")(logits))
    model.get_layer("logits").set_weights([np.array([[1, 0], [2, 0], [0, 0], [0, 10]], "float32"), np.zeros(2, "float32")])
    report = attacked(partition(model, "logits"), secrets, undefended, "sign", "linear", "mlp")
    best = report.strongest("sign")
    assert best.beyond_answer.value == 0.0
    assert best.beyond_answer.low == 0.0
    assert best.leakage.value > 0.15, "the logits say more than the decision: what a model pushes into its answer is no excuse"
