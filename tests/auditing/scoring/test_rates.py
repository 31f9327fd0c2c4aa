"""Formulas of bits, against closed forms and brute force."""

import math

import numpy as np
import pytest
from scipy.special import ndtr

from keras_privpart.auditing.scoring import rates

RNG = np.random.default_rng(0)
MIXING = RNG.normal(size=(6, 6)) * np.array([3.0, 2.0, 1.0, 0.7, 0.5, 0.2])
TRUE = np.linalg.slogdet(np.eye(6) + MIXING @ MIXING.T)[1] / (2 * math.log(2))


def rows(count, seed=1):
    return np.random.default_rng(seed).normal(size=(count, 6)) @ MIXING.T


def test_capacity_of_equal_noise_is_shannons_formula_and_of_unequal_noise_pours_water():
    assert rates.capacity(3.0, np.full(8, 2.0)) == pytest.approx(8 / 2 * math.log2(1 + 3 / 4))
    # All of a power of 0.5 per number goes to the quiet one: its noise is 0.01, the other's 100.
    assert rates.capacity(0.5, np.array([0.1, 10.0])) == pytest.approx(math.log2(1 + 1 / 0.01) / 2)
    stddev = np.array([0.5, 1.0, 2.0])
    shares = RNG.dirichlet(np.ones(3), 4000) * 3 * 2.0
    assert rates.capacity(2.0, stddev) >= (np.log2(1 + shares / stddev**2).sum(axis=1) / 2).max()


def test_bound_by_covariance_is_the_closed_form_to_a_percent():
    found = rates.covariance_bound(rows(4000))
    assert found.value == pytest.approx(TRUE, rel=0.01)
    assert found.low < TRUE < found.high
    four = rates.covariance_bound(rows(4000), looks=4)
    assert four.value == pytest.approx(np.linalg.slogdet(np.eye(6) + 4 * MIXING @ MIXING.T)[1] / (2 * math.log(2)), rel=0.01)


def test_few_examples_do_not_make_the_bound_too_low():
    repeats = [rows(28, seed) for seed in range(150)]
    plain = np.mean([rates.gaussian_rate(rates.centred(r)) for r in repeats])
    corrected = np.mean([rates.covariance_bound(r).value for r in repeats])
    assert plain < TRUE - 0.1
    assert abs(corrected - TRUE) < (TRUE - plain) / 2


def test_beyond_the_class_the_distance_between_classes_does_not_count():
    labels = RNG.integers(0, 5, 4000)
    apart = rows(4000) + 50 * np.random.default_rng(2).normal(size=(5, 6))[labels]
    assert rates.covariance_bound(apart, labels).value == pytest.approx(TRUE, rel=0.01)
    assert rates.covariance_bound(apart).value > TRUE + 5


def test_with_too_few_examples_for_a_covariance_numbers_are_taken_one_by_one():
    wide = np.random.default_rng(3).normal(size=(40, 30))
    assert not rates.enough(wide)
    assert rates.covariance_bound(wide).value == pytest.approx(30 * math.log2(2) / 2, rel=0.05)
    assert rates.separate_rate(rates.centred(rows(2000))) > rates.gaussian_rate(rates.centred(rows(2000)))


def test_lower_estimate_comes_near_the_truth_and_never_above_it_or_its_cap():
    kernel = np.diag([1.2, 0.8, 0.3])
    truth = np.linalg.slogdet(np.eye(3) + kernel @ kernel)[1] / (2 * math.log(2))
    clean = RNG.normal(size=(8000, 3)) @ kernel
    seen = clean[:1500] + RNG.normal(size=(1500, 3))
    bits, most = rates.contrastive_bound(seen, clean, np.arange(1500))
    assert bits.mean() == pytest.approx(truth, abs=0.07)
    assert most == pytest.approx(math.log2(8000))
    loud, most = rates.contrastive_bound(1000 * clean[:50] + RNG.normal(size=(50, 3)), 1000 * clean[:64], np.arange(50))
    assert loud.mean() == pytest.approx(most) == 6.0
    silent, _ = rates.contrastive_bound(RNG.normal(size=(50, 3)), 0 * clean[:64], np.arange(50))
    assert silent.mean() == pytest.approx(0.0)


def test_lower_estimate_within_classes_looks_at_the_class_only():
    groups = np.arange(40) % 2
    clean = np.stack([100.0 * groups, np.zeros(40)], axis=1)
    bits, most = rates.contrastive_bound(clean[:10], clean, np.arange(10), groups)
    assert np.allclose(bits, 0)
    assert most == pytest.approx(math.log2(20))
    everyone, _ = rates.contrastive_bound(clean[:10], clean, np.arange(10))
    assert np.allclose(everyone, 1.0)


def test_what_collides_cannot_be_told_apart():
    sent = np.array([[0.0], [0.0], [1.0], [2.0]])
    bits, most = rates.collision_bound(sent, np.arange(4))
    assert bits.tolist() == [1.0, 1.0, 2.0, 2.0]
    assert most == 2.0
    assert rates.collision_bound(sent, np.arange(4), np.array([0, 0, 1, 1]))[0].tolist() == [0.0, 0.0, 1.0, 1.0]


def test_nobody_names_more_than_fano_allows():
    """The best of all attackers, who knows the code: candidates' codes at random, noise in the channel."""
    rng = np.random.default_rng(5)
    for power in (0.05, 0.2, 1.0):
        codes = math.sqrt(power) * rng.normal(size=(200, 64, 8))
        seen = codes[:, 0] + rng.normal(size=(200, 8))
        right = (np.square(codes - seen[:, None]).sum(axis=2).argmin(axis=1) == 0).mean()
        assert right <= rates.fano(rates.capacity(power, np.ones(8)), 64)
    assert rates.fano(2.0, 100) == pytest.approx(3 / math.log2(100))
    assert rates.fano(100.0, 100) == 1.0


@pytest.mark.parametrize(("sensitivity", "delta"), [(0.1, 1e-5), (1.0, 1e-6), (5.0, 1e-6), (2 * math.sqrt(32), 1e-6)])
def test_local_privacy_is_where_the_gaussian_mechanisms_delta_is_met(sensitivity, delta):
    epsilon = rates.local_privacy(sensitivity, delta)
    a, b = ndtr(sensitivity / 2 - epsilon / sensitivity), ndtr(-sensitivity / 2 - epsilon / sensitivity)
    assert a - math.exp(epsilon) * b == pytest.approx(delta, rel=1e-4)
    assert rates.local_privacy(2 * sensitivity, delta) > epsilon


def test_local_privacy_by_known_values():
    assert rates.local_privacy(0.0, 1e-6) == 0.0
    assert rates.local_privacy(1e-9, 1e-6) == 0.0
    assert 110 < rates.local_privacy(2 * math.sqrt(32), 1e-6) < 120, "32 numbers at a power as large as the noise: no privacy to speak of"
