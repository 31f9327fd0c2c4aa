"""Model completion: much from few labels, and from no more of them than it is said to have."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import CompletionAttack, Effort
from keras_privpart.auditing.attacks.inference.completion import _evenly, _surest
from keras_privpart.auditing.knowledge.views import View
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError

everything = View("everything", lambda x: x)


def answered(known, held_out, victims, view=everything, **kwargs):
    attack = CompletionAttack(**kwargs)
    attack.fit(view, known, held_out, Effort(1, 32), seed=0)
    return attack.score(view.see(victims.x), victims)


def test_forty_labels_go_far_and_noise_stops_them(digits):
    train, test = digits
    known, held_out = train[:420], train[420:]
    few = answered(known, held_out, test).scores()["balanced_accuracy"]
    assert few > 0.7
    assert answered(known, held_out, test, labels=10).scores()["balanced_accuracy"] < few
    rng = np.random.default_rng(0)
    noisy = View("noise", lambda x: x + 20 * rng.normal(size=x.shape))
    assert answered(known, held_out, test, noisy).scores()["balanced_accuracy"] < 0.3


def test_other_labels_are_not_used(digits):
    train, test = digits
    known, held_out = train[:420], train[420:]
    chosen = _evenly(known.targets["task"], 40)
    assert sorted(np.bincount(known.targets["task"][chosen])) == [4] * 10
    hidden = known.targets["task"].copy()
    hidden[chosen.max() + 1 :] = 0
    other = Samples(known.x, {"task": hidden})
    np.testing.assert_array_equal(answered(other, held_out, test).probabilities, answered(known, held_out, test).probabilities)


def test_the_surer_half_of_every_guessed_class_teaches():
    guesses = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55], [0.8, 0.2], [0.55, 0.45]])
    assert sorted(_surest(guesses)) == [0, 2, 4]
    assert len(_surest(np.zeros((0, 2)))) == 0


def test_where_it_does_not_apply(digits):
    attack = CompletionAttack(labels=5)
    assert attack.inapplicable(digits[0]) == "the task has 10 classes, of which 5 labels cannot tell"
    assert "no whole-number labels" in attack.inapplicable(Samples(np.zeros((4, 2)), {}))
    assert (attack.kind, attack.name) == ("task from 5 labels", "model completion, 5 labels")
    with pytest.raises(AuditError, match="labels=1"):
        CompletionAttack(labels=1)
