"""One contract for every attack, each a row; and what is particular to decoders and probes."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import DecoderAttack, Effort, ProbeAttack, standard
from keras_privpart.auditing.attacks import decoder as decoders
from keras_privpart.auditing.views import View
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError

EFFORT = Effort(epochs=4, batch_size=32)
ROWS = {
    "small mse": lambda: DecoderAttack("small", "mse", keep=4),
    "small ssim": lambda: DecoderAttack("small", "ssim", keep=4),
    "large mixed": lambda: DecoderAttack("large", "mixed", keep=4),
    "linear": lambda: ProbeAttack("odd", "linear"),
    "mlp": lambda: ProbeAttack("odd", "mlp"),
    "conv": lambda: ProbeAttack("odd", "conv"),
}

everything = View("everything", lambda x: x)
nothing = View("nothing", lambda x: np.ones((len(x), 3), "float32"))
several = View("several tensors", lambda x: [x[:, :4], {"ids": (x[:, 4:, 0, 0] * 16).astype("int32"), "scalar": x.mean(axis=(1, 2, 3))}])


@pytest.fixture(scope="module")
def sides(digits):
    train, test = digits
    return train[:400], train[400:], test[:100]


def answers(attack, view, sides, seed=0, effort=EFFORT):
    known, held_out, victims = sides
    attack.fit(view, known, held_out, effort, seed)
    evidence = attack.score(view.see(victims.x), victims)
    assert len(evidence) == len(victims)
    return evidence


def headline(*args, **kwargs):
    evidence = answers(*args, **kwargs)
    return float(evidence.scores()[evidence.headline])


def values(evidence):
    """What the attacker said of every victim, as an array."""
    return evidence.probabilities if evidence.headline == "auc" else evidence.ssim


@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_contract(make, sides):
    attack = make()
    assert attack.name
    assert attack.inapplicable(sides[2]) is None
    first = answers(attack, everything, sides)
    blind = headline(attack, nothing, sides)
    assert first.scores()[first.headline] > blind + 0.1
    # Same seed, same attacker, whatever it was fitted on before; another seed, another one.
    np.testing.assert_allclose(values(answers(attack, everything, sides)), values(first), atol=1e-5)
    assert np.abs(values(answers(attack, everything, sides, seed=1)) - values(first)).max() > 1e-4
    assert headline(attack, several, sides) > blind + 0.05


@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_victims_before_a_fit_are_refused(make, sides):
    with pytest.raises(AuditError, match="before any fit"):
        make().score([sides[2].x], sides[2])


def test_names_are_unique():
    names = [attack.name for attack in standard(["Male", "Young"])]
    assert len(names) == len(set(names)) == 8


def test_decoders_do_not_apply_to_other_inputs():
    tokens = Samples(np.zeros((5, 12), "int32"), {})
    assert "[12]" in DecoderAttack().inapplicable(tokens)
    assert "no key 'odd'" in ProbeAttack("odd").inapplicable(tokens)


def test_decoder_reads_an_input_that_crosses_as_it_is(sides):
    effort = Effort(epochs=25, batch_size=32)
    assert headline(DecoderAttack("small", "mixed"), everything, sides, effort=effort) > 0.95


def test_attackers_look_anew_in_every_epoch_where_there_is_noise(sides):
    looks = []

    def noisy(x):
        looks.append(len(x))
        return x + np.random.default_rng(len(looks)).normal(size=x.shape)

    attack = DecoderAttack("small", "mse")
    attack.fit(View("noise", noisy), *sides[:2], Effort(epochs=5, batch_size=32, patience=1.0), seed=0)
    assert looks.count(256) == 2 + 5  # two to find out, one every epoch; the other 144 examples come in batches of their own
    assert looks.count(144) == 5


@pytest.mark.parametrize("loss", ["mse", "ssim"])
def test_a_collapsed_decoder_is_trained_again(sides, monkeypatch, loss):
    monkeypatch.setattr(decoders, "COLLAPSE", 1e9)
    attack = DecoderAttack("small", loss)
    assert headline(attack, everything, sides) > 0.5
    assert len(attack.notes) == 1
    assert "a second one, trained more slowly" in attack.notes[0]
    monkeypatch.setattr(decoders, "COLLAPSE", 0.0)
    headline(attack, everything, sides)
    assert attack.notes == ()


def test_the_better_one_of_two_collapsed_decoders_stays(sides, monkeypatch):
    monkeypatch.setattr(decoders, "COLLAPSE", 1e9)
    scores = iter([0.9, 0.1])  # of the second, then of the first
    monkeypatch.setattr(decoders, "_mean_ssim", lambda truth, images: next(scores))
    attack = DecoderAttack("small", "mixed")
    headline(attack, everything, sides)
    assert "was better and counts" in attack.notes[0]
    scores = iter([0.1, 0.9])
    kept = headline(attack, everything, sides)
    assert "was no better" in attack.notes[0]
    monkeypatch.setattr(decoders, "COLLAPSE", 0.0)
    assert headline(attack, everything, sides) == pytest.approx(kept, abs=1e-5)


def test_probes_give_rare_classes_their_due(digits):
    train, test = digits
    rare = Samples(train.x, {"is_eight": train.targets["task"] == 8})
    attack = ProbeAttack("is_eight", "linear")
    attack.fit(everything, rare[:420], rare[420:], Effort(epochs=15, batch_size=32), seed=0)
    victims = Samples(test.x, {"is_eight": test.targets["task"] == 8})
    scores = attack.score([victims.x], victims).scores()
    assert scores["majority_rate"] > 0.85
    assert scores["balanced_accuracy"] > 0.75


def test_probes_take_texts_and_several_classes(digits):
    train, test = digits
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    known, victims = (Samples(s.x, {"name": names[s.targets["task"]]}) for s in (train, test))
    attack = ProbeAttack("name", "mlp")
    attack.fit(everything, known[:420], known[420:], Effort(epochs=10, batch_size=32), seed=0)
    evidence = attack.score([victims.x], victims)
    assert evidence.headline == "balanced_accuracy"
    assert evidence.scores()["balanced_accuracy"] > 0.7


def test_probe_errors(sides):
    known, held_out, victims = sides
    same = [Samples(s.x, {"odd": np.zeros(len(s), int)}) for s in (known, held_out)]
    with pytest.raises(AuditError, match=r"one value of 'odd'"):
        ProbeAttack("odd").fit(everything, *same, EFFORT, 0)
    attack = ProbeAttack("odd", "linear")
    attack.fit(everything, known, held_out, EFFORT, 0)
    with pytest.raises(AuditError, match="attacker's data lack"):
        attack.score([victims.x], Samples(victims.x, {"odd": np.full(len(victims), 7)}))


def test_unknown_loss():
    with pytest.raises(AuditError, match="loss='l7'"):
        DecoderAttack("small", "l7")
