"""Goals: what each asks of an adversary's answer, and what it refuses."""

import numpy as np
import pytest
import tensorflow as tf

from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms import goals


def test_reversal_slopes_by_hand():
    error, guess = tf.constant([0.1, 0.4, 0.9, float("nan"), float("inf")]), tf.constant([0.5, 0.5, 0.5, 0.5, 0.5])
    assert np.allclose(goals.Reversal().slope(error, guess), [-2, -2, 0, 0, 0])
    assert np.allclose(goals.Reversal(threshold=0.25).slope(error, guess), [-4, 0, 0, 0, 0])
    assert np.allclose(goals.Reversal(bounded=False).slope(error, guess), [-1, -1, -1, 0, 0])
    assert np.allclose(goals.Reversal().slope(tf.zeros([2]), tf.zeros([2])), [-1e6, -1e6])


def test_dissimilarity_rewards_no_inverted_image():
    x = np.random.default_rng(0).uniform(size=(3, 16, 16, 1)).astype("float32")
    goal = goals.Dissimilarity()
    assert float(goal(x, x)) == pytest.approx(1, abs=1e-5)
    assert float(goal(x, 1 - x)) > 0.5
    assert float(goal(x, np.full_like(x, 0.5))) < 0.1


def test_pulls_are_zero_at_what_they_pull_to():
    x = np.random.default_rng(0).uniform(size=(6, 4, 4, 1)).astype("float32")
    labels = np.array([0, 0, 1, 1, 2, 2])
    for goal in (goals.PullToMean("l1"), goals.PullToClassMean(3)):
        aim = goal.aim(tf.constant(x), labels)
        assert float(goal(aim, aim)) == 0
        assert float(goal(aim, x)) > 0
    swapped = goals.PullToClassMean(3).aim(tf.constant(x), labels)
    assert np.allclose(swapped, x[[1, 0, 3, 2, 5, 4]], atol=1e-6), "of two in a class, each is pulled to the other"
    one_hot = tf.one_hot(labels, 3)
    assert np.allclose(goals.PullToClassMean(3).aim(tf.constant(x), one_hot), swapped)


def test_classifiers_are_pulled_to_saying_nothing():
    target = tf.constant([0, 0, 0, 1])
    sure, prior, even = (tf.tile(tf.math.log([[p, 1 - p]]), [4, 1]) for p in (0.999, 0.75, 0.5))
    entropy, frequencies = goals.MaximumEntropy(), goals.PredictPrior(2)
    aim = frequencies.aim(target, None)
    assert np.allclose(aim, [[0.75, 0.25]] * 4)
    assert float(entropy(entropy.aim(target, None), even)) < float(entropy(aim, prior)) < float(entropy(aim, sure))
    assert abs(float(frequencies(aim, prior))) < 1e-6 < float(frequencies(aim, even)) < float(frequencies(aim, sure))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: goals.Reversal(threshold=0), "Received threshold=0; expected a finite number above 0"),
        (lambda: goals.Reversal(threshold=0.1, bounded=False), "expected one of them"),
        (lambda: goals.PullToMean("ssim"), "Received distance='ssim'; expected one of mse, l1"),
        (lambda: goals.PullToClassMean(0), "Received classes=0"),
        (lambda: goals.PredictPrior(1), "Received classes=1"),
        (lambda: goals.class_labels(tf.zeros([3, 1]), "It"), "Received task targets of float32; It expects whole numbers"),
        (lambda: goals.class_labels({"a": 1}, "It"), "Received dict as the task's target"),
    ],
)
def test_what_does_not_fit_is_refused(make, text):
    with pytest.raises(TrainingError, match=text):
        make()
