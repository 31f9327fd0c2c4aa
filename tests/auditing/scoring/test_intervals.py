"""Leakage between floor and ceiling, and bootstrap intervals."""

import numpy as np
import pytest

from keras_privpart.auditing.scoring import intervals
from keras_privpart.auditing.scoring.evidence import Guesses, Pictures
from keras_privpart.auditing.scoring.intervals import compare as compare_sides
from keras_privpart.auditing.scoring.intervals import leakage_of, score_of

RNG = np.random.default_rng(0)


def pictures(ssim):
    return Pictures(np.asarray(ssim), np.full(len(ssim), 0.1), np.full(len(ssim), 10.0), np.zeros((0, 2, 2, 1)))


def compare(boundary, floor, ceiling, **kwargs):
    """Of one model."""
    return compare_sides([boundary], {"answer": [floor]}, [ceiling], **kwargs)


def around(mean, n=400, spread=0.05):
    return pictures(mean + RNG.normal(scale=spread, size=n))


@pytest.mark.parametrize(("attack", "want"), [(0.5, 0.0), (0.7, 0.5), (0.9, 1.0), (0.3, 0.0), (1.4, 1.5)])
def test_leakage_is_the_place_between_floor_and_ceiling(attack, want):
    result = compare([around(attack)], [around(0.5)], [around(0.9)])
    assert result.leakage.value == pytest.approx(want, abs=0.03)
    assert result.leakage.low <= result.leakage.value <= result.leakage.high
    assert result.leakage.low >= 0
    assert result.leakage.high <= 1.5
    assert result.headline == "ssim"
    assert result.boundary["ssim"].value == pytest.approx(attack, abs=0.02)


def test_leakage_is_undefined_without_room_between_floor_and_ceiling():
    leakage = compare([around(0.5)], [around(0.5)], [around(0.501)]).leakage
    assert leakage.value is None
    assert leakage.low is None
    assert "no room" in leakage.reason


def test_leakage_is_paired():
    hard = RNG.normal(scale=0.3, size=300)  # victims differ far more than attack, floor and ceiling do
    sides = [pictures(mean + hard) for mean in (0.6, 0.5, 0.7)]
    leakage = compare([sides[0]], [sides[1]], [sides[2]]).leakage
    assert leakage.value == pytest.approx(0.5)
    assert leakage.high - leakage.low < 1e-9


def test_seeds_are_averaged():
    result = compare([pictures([0.6] * 9), pictures([0.8] * 9)], [pictures([0.5] * 9)] * 2, [pictures([0.9] * 9)] * 2)
    assert result.boundary["ssim"].value == pytest.approx(0.7)
    assert result.boundary["ssim"].seeds == pytest.approx((0.6, 0.8))
    assert result.leakage.value == pytest.approx(0.5)


def test_intervals_cover_the_truth_95_times_in_100():
    hits = 0
    for i in range(200):
        score = score_of([RNG.normal(loc=0.5, size=80)], seed=i)
        hits += score.low <= 0.5 <= score.high
    assert 0.89 <= hits / 200 <= 0.99


def test_chunks_of_resamples_change_nothing(monkeypatch):
    values = [RNG.uniform(size=50)]
    whole = score_of(values, seed=3)
    monkeypatch.setattr(intervals, "_CHUNK", 130)  # two rows at a time
    parts = score_of(values, seed=3)
    assert (parts.value, parts.low, parts.high) == pytest.approx((whole.value, whole.low, whole.high), rel=1e-12)


def test_headline_of_guesses_follows_the_number_of_classes():
    truth = np.arange(60) % 2
    two = Guesses(truth, np.eye(2)[truth])
    assert two.headline == "auc"
    assert two.scores()["auc"] == 1.0
    three = Guesses(np.arange(60) % 3, np.full((60, 3), 1 / 3))
    assert three.headline == "balanced_accuracy"
    assert "auc" not in three.scores()
    blind = Guesses(truth, np.full((60, 2), 0.5))
    assert compare([two], [blind], [two]).leakage.value == pytest.approx(1.0)


def test_resamples_without_room_are_left_out():
    ones = np.ones(1000)
    mostly = np.where(np.arange(1000) < 10, 0.0, 0.5)
    leakage = leakage_of(0.7, 0.5, 0.9, 0.7 * ones, 0.5 * ones, 0.5 * ones + mostly)
    assert leakage.low == pytest.approx(0.4)


def test_the_stronger_floor_counts():
    weak, strong = [[around(0.4)]], [[around(0.5)]]
    result = compare_sides([[around(0.7)]], {"answer": weak, "top-1": strong}, [[around(0.9)]])
    assert result.floor == "top-1"
    assert set(result.floors) == {"answer", "top-1"}
    assert result.leakage.value == pytest.approx(0.5, abs=0.03)


def test_models_are_averaged_after_their_seeds_and_widen_the_interval():
    """Two models whose attackers get 0.5 and 0.7: the mean is 0.6, and Student's t with one degree of freedom spans 12.7 * 0.1."""
    models = [[pictures([0.4] * 50), pictures([0.6] * 50)], [pictures([0.7] * 50), pictures([0.7] * 50)]]
    floor, ceiling = [[pictures([0.2] * 50)]] * 2, [[pictures([1.0] * 50)]] * 2
    result = compare_sides(models, {"answer": floor}, ceiling)
    score = result.boundary["ssim"]
    assert score.value == pytest.approx(0.6)
    assert score.models == pytest.approx((0.5, 0.7))
    assert score.seeds == pytest.approx((0.4, 0.6, 0.7, 0.7))
    assert (score.high - score.low) / 2 == pytest.approx(12.706 * 0.1, rel=1e-3)
    assert result.leakage.value == pytest.approx(0.5)
    assert (result.leakage.low, result.leakage.high) == (0.0, 1.5)
    same = score_of([np.full(20, 0.5)] * 4, models=2)
    assert (same.low, same.high) == pytest.approx((0.5, 0.5))


def test_people_are_drawn_whole():
    """Ten people with twenty equal pictures each: the interval is that of ten examples, not of two hundred."""
    people = np.repeat(np.arange(10), 20)
    values = RNG.normal(scale=0.1, size=10)
    alike = [pictures(0.7 + values[people])]
    by_picture = compare(alike, [pictures([0.5] * 200)], [pictures([0.9] * 200)]).boundary["ssim"]
    by_person = compare(alike, [pictures([0.5] * 200)], [pictures([0.9] * 200)], people=people).boundary["ssim"]
    assert by_person.value == by_picture.value
    assert (by_person.high - by_person.low) / (by_picture.high - by_picture.low) == pytest.approx(np.sqrt(20), rel=0.25)
