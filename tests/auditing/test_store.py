"""An audit that was killed and is started again repeats nothing; nothing else is ever taken for it."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import Attack, DecoderAttack, Effort, ProbeAttack, from_reconstruction
from keras_privpart.auditing.audit import audit
from keras_privpart.auditing.scoring.evidence import Guesses, Pictures
from keras_privpart.auditing.store import Found, Store, description, digest_of_attack, digest_of_halves, digest_of_samples, key_of
from keras_privpart.channels import GaussianChannel
from keras_privpart.datasets import Samples

RNG = np.random.default_rng(0)


class CountingAttack(Attack):
    """Guesses parity by the brightest of what it sees; counts its fits, and is killed at the fit of a given number."""

    family = "attribute probe"

    def __init__(self, name="counting"):
        super().__init__(name, "odd")
        self.fitted = []
        self._killed_at = None

    def killed_at(self, fit):
        self._killed_at = fit
        return self

    def inapplicable(self, samples):
        return None

    def fit(self, view, known, held_out, effort, seed):
        if len(self.fitted) == self._killed_at:
            raise KeyboardInterrupt
        self.fitted.append((view.name, len(known), seed))
        self.notes = (f"seed {seed}",)

    def score(self, seen, victims):
        surety = 1 / (1 + np.exp(-np.max(seen[0].reshape(len(victims), -1), axis=1).astype("float64")))
        return Guesses(victims.targets["odd"], np.stack([1 - surety, surety], axis=1))


def carried_out(attack, parts, digits, folder, reference=None, **kwargs):
    return audit(parts, *digits, reference=reference or parts, attacks=[attack], seeds=2, cache=folder, **{"epochs": 1, **kwargs})


def test_killing_and_restarting_repeats_nothing(open_window, digits, tmp_path):
    whole = CountingAttack()
    want = carried_out(whole, open_window, digits, tmp_path / "whole")
    assert len(whole.fitted) == 3 * 2  # boundary, which is the ceiling as well, and two floors, two seeds each
    first, second, third = CountingAttack().killed_at(5), CountingAttack(), CountingAttack()
    with pytest.raises(KeyboardInterrupt):
        carried_out(first, open_window, digits, tmp_path / "cache")
    resumed = carried_out(second, open_window, digits, tmp_path / "cache")
    assert first.fitted + second.fitted == whole.fitted
    assert resumed.to_json() == want.to_json()
    again = carried_out(third, open_window, digits, tmp_path / "cache")
    assert third.fitted == []
    assert again.to_json() == want.to_json()
    assert {p.suffix for p in (tmp_path / "cache").iterdir()} == {".npz"}


def test_whatever_determines_a_result_makes_it_anew(open_window, planted, digits, tmp_path):
    def fits(parts=open_window, data=digits, name="counting", **kwargs):
        attack = CountingAttack(name)
        carried_out(attack, parts, data, tmp_path, open_window, **kwargs)
        return len(attack.fitted)

    assert fits() == 6
    assert fits() == 0
    assert fits(parts=planted) == 6  # other weights; the ceiling is the same
    noisy = open_window.with_channel(GaussianChannel(stddev=0.1))
    assert fits(parts=noisy) == 12  # another channel, which is looked through once and more often; the ceiling is the same
    assert fits(parts=noisy, looks=(1,)) == 0
    assert fits(parts=noisy, looks=(1, 2)) == 6
    train, test = digits
    assert fits(data=(train, test[:149])) == 6  # another victim
    assert fits(name="other") == 6
    assert fits(seed=1) == 6
    assert fits(budgets=(50, None)) == 6  # what has no budget is there already
    assert fits(epochs=2) == 6


def test_settings_and_nested_attacks_are_part_of_the_key():
    texts = [
        str(description(a))
        for a in (
            DecoderAttack("small", "mse"),
            DecoderAttack("small", "mse", keep=3),
            DecoderAttack("small", "l1"),
            ProbeAttack("odd"),
            ProbeAttack("even"),
            from_reconstruction("odd", "linear"),
            from_reconstruction("odd", "mlp"),
        )
    ]
    assert len(set(texts)) == len(texts)
    data = digest_of_samples(Samples(np.zeros((2, 3)), {"a": np.arange(2)}))
    attack, effort = digest_of_attack(ProbeAttack("odd")), Effort(1, 8)
    assert key_of(attack, "here", data, effort, 0) == key_of(digest_of_attack(ProbeAttack("odd")), "here", data, Effort(1, 8), 0)
    keys = {
        key_of(attack, *rest)
        for rest in (("here", data, effort, 0), ("there", data, effort, 0), ("here", data, Effort(2, 8), 0), ("here", data, effort, 1))
    }
    assert len(keys) == 4
    assert key_of(attack, None, data, effort, 0) is None


class Settled(CountingAttack):
    """Takes any setting."""

    def __init__(self, setting):
        super().__init__()
        self._setting = setting


@pytest.mark.parametrize(
    ("setting", "other"),
    [
        ([1, 2], [1, 3]),
        ({"a": 1}, {"a": 2}),
        (np.arange(3), np.arange(3) + 1),
        ({"deep": [np.zeros(2), {1, 2}]}, {"deep": [np.zeros(2), {1, 3}]}),
        (Effort(1, 8), Effort(2, 8)),
        (ProbeAttack("odd"), ProbeAttack("even")),
        (1, True),
        (1, "1"),
    ],
)
def test_every_setting_counts(setting, other):
    data, effort = "data", Effort(1, 8)
    keys = [key_of(digest_of_attack(Settled(value)), "here", data, effort, 0) for value in (setting, setting, other)]
    assert keys[0] is not None
    assert keys[0] == keys[1]
    assert keys[0] != keys[2]


def test_what_cannot_be_described_is_never_cached(open_window, digits, tmp_path):
    function = lambda x: x  # noqa: E731 - a setting that has no value to compare by
    assert digest_of_attack(Settled({"f": [function]})) is None
    assert key_of(None, "here", "data", Effort(1, 8), 0) is None
    for _ in range(2):
        attack = Settled(function)
        carried_out(attack, open_window, digits, tmp_path)
        assert len(attack.fitted) >= 4
    assert list(tmp_path.iterdir()) == []


def test_another_attack_has_the_same_settings_and_learned_nothing():
    attack = from_reconstruction("odd", "linear")
    other = attack.another()
    assert type(other) is type(attack)
    assert other is not attack
    assert description(other) == description(attack)
    assert other.made_with[0][0] is not attack.made_with[0][0], "the attack inside is another one too"


@pytest.mark.parametrize(
    "evidence",
    [
        Pictures(*RNG.uniform(size=(3, 7)), RNG.uniform(size=(2, 4, 4, 1))),
        Pictures(*RNG.uniform(size=(3, 7)), RNG.uniform(size=(2, 4, 4, 1)), RNG.uniform(size=7), np.ones(7)),
        Guesses(np.arange(5) % 2, RNG.uniform(size=(5, 2))),
    ],
    ids=["pictures", "judged pictures", "guesses"],
)
def test_evidence_comes_back(evidence, tmp_path):
    Store(tmp_path).put("key", Found(evidence, ("it went well",)))
    found = Store(tmp_path).get("key")
    assert found.notes == ("it went well",)
    assert type(found.evidence) is type(evidence)
    assert found.evidence.arrays().keys() == evidence.arrays().keys()
    for name, values in evidence.arrays().items():
        np.testing.assert_array_equal(found.evidence.arrays()[name], values)


@pytest.mark.parametrize("damage", [lambda b: b[:-30], lambda b: b"", lambda b: b"PK" + b[2:40], lambda b: b"no archive"])
def test_a_damaged_file_is_not_there(tmp_path, damage):
    Store(tmp_path).put("key", Found(Guesses(np.arange(5) % 2, np.full((5, 2), 0.5))))
    path = tmp_path / "key.npz"
    path.write_bytes(damage(path.read_bytes()))
    assert Store(tmp_path).get("key") is None


def test_nothing_is_half_written(tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        Store(tmp_path).put("key", Found(Guesses(np.arange(5) % 2, np.full((5, 2), 0.5))))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_keras_model_has_no_digest(open_window):
    from dataclasses import replace

    assert digest_of_halves(open_window) == digest_of_halves(open_window)
    assert digest_of_halves(replace(open_window, device=lambda x: x)) is None
