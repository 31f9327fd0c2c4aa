"""The race of attacks: who goes on, with what effort, on which victims it counts, and whose floor it is measured against."""

import numpy as np
import pytest

from keras_privpart.auditing.attacks import Attack
from keras_privpart.auditing.audit import audit
from keras_privpart.auditing.campaign import NOT_MEASURED
from keras_privpart.auditing.cases import Halves
from keras_privpart.auditing.knowledge.splits import Split
from keras_privpart.auditing.scoring.evidence import Guesses


class Knowing(Attack):
    """Guesses parity as well as `skill` says, at the boundary and the ceiling; at the floors it guesses at random."""

    family = "attribute probe"

    def __init__(self, name, skill, floor=0.0, cheap=False):
        super().__init__(name, "odd")
        self.skill, self.floor, self.cheap = skill, floor, cheap
        self._seed, self._at = 0, ""
        self.fitted = []

    def inapplicable(self, samples):
        return None

    def fit(self, view, known, held_out, effort, seed):
        self._seed, self._at, self._effort = seed, view.name, effort
        self.fitted.append((view.name, effort.epochs, seed))

    def known_share(self):
        return self.floor if "boundary" not in self._at else self.skill

    def score(self, seen, victims):
        """The higher the skill, the more of the truth is in the guesses."""
        truth = victims.targets["odd"]
        noise = np.random.default_rng([self._seed, len(truth), sum(map(ord, self.name))]).uniform(size=len(truth))
        share = self.known_share()
        surety = np.clip(abs(share) * (truth if share >= 0 else 1 - truth) + (1 - abs(share)) * noise, 0, 1)
        return Guesses(truth, np.stack([1 - surety, surety], axis=1))


class Growing(Knowing):
    """Knows more with every doubling of its epochs, up to a limit."""

    concurrent = True

    def __init__(self, name, limit):
        super().__init__(name, 0.0)
        self.limit = limit

    def known_share(self):
        return 0.0 if "boundary" not in self._at else 0.08 * min(self.limit, self._effort.epochs)


def audited(parts, digits, *attacks, **kwargs):
    return audit(parts, *digits, reference=parts, attacks=list(attacks), **{"seeds": 2, "epochs": 1, "bound": False, **kwargs})


def test_attacks_far_behind_stop_and_those_near_go_on(open_window, digits):
    strong, weak = Knowing("strong", 0.5), Knowing("weak", 0.1)
    report = audited(open_window, digits, weak, strong)
    best, other = report.strongest("odd"), report.of("odd")[0]
    assert best.attack == "strong"
    assert len(best.boundary["auc"].seeds) == 2
    assert other.floors == other.ceiling == {}
    assert other.leakage.value is None
    assert other.leakage.reason == NOT_MEASURED
    assert [(at, seed) for at, _, seed in weak.fitted] == [("the boundary", 0)]
    assert len(strong.fitted) == 3 * 2  # boundary, which is the ceiling as well, decision and answer
    assert "weak" in report.summary()
    full = audited(open_window, digits, Knowing("weak", 0.1), Knowing("strong", 0.5), race=False)
    assert all(r.ceiling and r.floors for r in full.results)


def test_the_strongest_is_chosen_on_one_half_and_reported_on_the_other(open_window, digits):
    """Forty attackers who guess: the luckiest is no leak."""
    report = audited(open_window, digits, *(Knowing(f"guess {i}", 0.0) for i in range(40)), seeds=1)
    best = report.strongest("odd")
    assert best.chosen_by > 0.55, "chosen for its luck"
    assert best.victims == 75
    assert abs(best.boundary["auc"].value - 0.5) < 0.2
    assert best.boundary["auc"].value < best.chosen_by


def test_halves_divide_people_and_leave_one_attack_all_victims(digits):
    train, test = digits
    data = Split(train[:300], train[300:], test)
    halves = Halves.of(data, 2, 0)
    assert not (halves.choosing & halves.reported).any()
    assert (halves.choosing | halves.reported).all()
    assert halves.choosing.sum() == 75
    assert Halves.of(data, 1, 0).reported.all()
    people = np.repeat(np.arange(30), 5)
    whole = Halves.of(Split(train[:300], train[300:], test, people=people), 2, 0)
    assert len({(p, bool(c)) for p, c in zip(people, whole.choosing, strict=True)}) == 30


def test_who_is_wrong_more_often_than_chance_knows(open_window, digits):
    report = audited(open_window, digits, Knowing("contrary", -0.6))
    best = report.strongest("odd")
    assert best.boundary["auc"].value > 0.9
    assert best.chosen_by > 0.9
    assert any("count the other way round" in note for note in best.notes)
    almost = audited(open_window, digits, Knowing("unlucky", -0.02)).strongest("odd")
    assert not any("other way round" in note for note in almost.notes)


def test_effort_is_doubled_while_it_gains(open_window, digits):
    best = audited(open_window, digits, Growing("growing", limit=4), doublings=4).strongest("odd")
    assert best.updates == 4 * (425 // 53), "with eight epochs it knew no more than with four"
    assert not best.at_least
    never = audited(open_window, digits, Growing("never done", limit=99), doublings=2)
    assert never.strongest("odd").at_least
    assert never.strongest("odd").updates == 4 * (425 // 53)
    assert "at AUC at least" in never.summary()
    untried = audited(open_window, digits, Growing("untried", limit=1))
    assert untried.strongest("odd").at_least, "nobody tried more"


def test_floor_and_ceiling_have_the_same_effort(open_window, digits):
    growing = Growing("growing", limit=4)
    audited(open_window, digits, growing, doublings=4, workers=1)
    assert {epochs for at, epochs, _ in growing.fitted if "boundary" not in at} == {4}


def test_a_simpler_attacker_s_higher_floor_counts(open_window, digits):
    trained, simple = Knowing("trained", 0.5, floor=0.0), Knowing("simple", 0.1, floor=0.4, cheap=True)
    best = audited(open_window, digits, trained, simple, seeds=1).strongest("odd")
    assert best.attack == "trained"
    assert best.floors_by["decision"] == "simple"
    alone = audited(open_window, digits, Knowing("trained", 0.5), seeds=1).strongest("odd")
    assert best.floors["decision"]["auc"].value > alone.floors["decision"]["auc"].value + 0.1
    assert alone.floors_by == {}


def test_leakage_above_chance_and_beyond_the_answer_stand_beside_the_headline(open_window, digits):
    report = audited(open_window, digits, Knowing("knowing", 0.5, floor=0.3), seeds=1)
    best = report.strongest("odd")
    assert best.beyond_answer.value == pytest.approx(best.leakage.value)
    assert best.above_chance.value == pytest.approx(1.0)
    facts = report.contract_summary()["kinds"]["odd"]
    assert facts["leakage_above_chance"] == pytest.approx(1.0)
    assert "above an attacker who sees nothing 1.00" in report.summary()


def test_low_effort_stands_first_and_in_the_contract(open_window, digits):
    report = audited(open_window, digits, Knowing("knowing", 0.5))
    assert report.low_effort
    assert report.contract_summary()["effort"]["low"] is True
    line = next(text for text in report.summary().splitlines() if text.startswith("odd: "))
    assert line.startswith("odd: Low effort: attackers had 8 updates where a full audit begins with")
    assert not audited(open_window, digits, Knowing("knowing", 0.5), epochs=None).low_effort


def test_the_total_of_steps_holds_from_the_first_attack_on(open_window, digits):
    steps = []
    attacks = [Knowing("weak", 0.1), Knowing("strong", 0.5), Growing("growing", limit=4), Knowing("simple", 0.2, cheap=True)]
    audited(open_window, digits, *attacks, doublings=3, curve=True, looks=(1,), workers=1, progress=lambda *step: steps.append(step))
    first = next(i for i, (_, _, what) in enumerate(steps) if what.startswith("simple"))
    totals = [total for _, total, _ in steps[first:]]
    assert totals == sorted(totals, reverse=True), "it may fall, as attacks drop out, and never rises"
    assert len(steps) - 1 <= min(totals), "the most there can be"
    assert min(totals[:-1]) < totals[0] <= 3 * len(steps)
    assert steps[-1] == (len(steps) - 1, len(steps) - 1, "done")


class Owning(Knowing):
    """Knows more the more examples it has."""

    def fit(self, view, known, held_out, effort, seed):
        super().fit(view, known, held_out, effort, seed)
        self.skill = len(known) / 1000


@pytest.mark.parametrize(("attack", "rising"), [(Owning("owning", 0.0), True), (Knowing("knowing", 0.4), False)], ids=["rising", "flat"])
def test_the_curve_tells_whether_more_examples_would_help(open_window, digits, monkeypatch, attack, rising):
    monkeypatch.setattr("keras_privpart.auditing.execution.CURVE", (100, 250, 9000))
    report = audited(open_window, digits, attack, Knowing("weak", 0.0), seeds=1, curve=True)
    best = report.strongest("odd")
    assert best.attack == attack.name
    assert [examples for examples, _ in best.curve] == [100, 250, 500], "a number that the data cannot fill is left out"
    scores = [score for _, score in best.curve]
    assert (scores[-1] > scores[0] + 0.05) is rising
    assert best.at_least is rising
    assert ("at AUC at least" in report.summary()) is rising
    assert "with 100 examples" in report.summary()
    assert type(report).from_json(report.to_json()).strongest("odd").curve == best.curve
    assert all(r.curve == () for r in report.results if r is not best)
