"""Whole audits of partitions whose leakage is known."""

import inspect
import re
from dataclasses import fields

import keras
import numpy as np
import pytest

import keras_privpart
from keras_privpart.auditing import selection
from keras_privpart.auditing.attacks import Attack, DecoderAttack, ProbeAttack, standard
from keras_privpart.auditing.audit import audit
from keras_privpart.auditing.knowledge.views import Views
from keras_privpart.auditing.scoring import metrics
from keras_privpart.auditing.scoring.evidence import Guesses
from keras_privpart.auditing.settings import AuditSettings
from keras_privpart.channels import GaussianChannel
from keras_privpart.datasets import Samples, batches
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.partition import partition
from keras_privpart.threat_model import ThreatModel


@pytest.fixture(scope="module")
def attack():
    """One decoder for all audits of this file: it compiles once for each shape."""
    return DecoderAttack("small", "mixed", keep=3)


@pytest.fixture(scope="module")
def audited(open_window, digits, attack, tmp_path_factory):
    """Audits partitions against the open window, whose own attackers are trained once."""
    usual = {"seeds": 1, "epochs": 10, "batch_size": 64, "bound": False, "cache": tmp_path_factory.mktemp("cache")}

    def of(defended, *attacks, **kwargs):
        return audit(defended, *digits, reference=open_window, attacks=list(attacks) or [attack], **{**usual, **kwargs})

    return of


@pytest.fixture(scope="module")
def opened(open_window, audited):
    """The audit of a boundary that is the input."""
    return audited(open_window, seeds=2)


@pytest.fixture(scope="module")
def walled(brick_wall, audited):
    """The audit of a boundary that is the same for every input."""
    return audited(brick_wall)


def test_an_input_that_crosses_leaks_all(opened):
    result = opened.strongest()
    assert result.boundary["ssim"].value > 0.95
    assert len(result.boundary["ssim"].seeds) == 2
    assert result.floor["ssim"].value < 0.75
    assert result.leakage.value == pytest.approx(1.0, abs=0.02)
    assert result.leakage.low <= 1.0 <= result.leakage.high + 0.01
    assert opened.defended_accuracy == opened.reference_accuracy


def test_a_planted_leak_is_found(planted, audited):
    result = audited(planted).strongest()
    assert result.leakage.value > 0.9
    assert result.boundary["ssim"].value > 0.9


def test_a_constant_boundary_leaks_nothing(walled):
    """Two attackers who learn from nothing may differ by luck, but not beyond what they have: no room for luck in this comparison."""
    result = walled.strongest()
    blind = np.mean(metrics.ssim(walled.pictures.original, np.repeat(walled.pictures.defended[:1], 3, axis=0)))
    assert np.mean(metrics.ssim(walled.pictures.original, walled.pictures.defended)) == pytest.approx(blind, abs=0.01)
    assert result.boundary["ssim"].value < result.ceiling["ssim"].value - 0.3
    assert result.leakage.value < 0.25
    assert result.leakage.low <= 0.1
    assert any(note.startswith("boundary: its reconstructions hardly differed") for note in result.notes)
    assert walled.pictures.original.shape == (3, 8, 8, 1)
    assert walled.pictures.defended.std(axis=0).max() < walled.pictures.undefended.std(axis=0).max() / 5


def test_reconstructions_are_judged_by_a_classifier_of_real_pictures(opened, walled):
    assert opened.strongest().boundary["identified"].value > 0.7
    assert walled.strongest().boundary["identified"].value < 0.3  # one picture for all: one class
    assert any("of the victims' real pictures it tells" in note for note in opened.notes)
    assert any("MS-SSIM does not apply to pictures of 8 x 8" in note for note in opened.notes)
    assert "ms_ssim" not in opened.strongest().boundary


@pytest.fixture(scope="module")
def noisy(open_window, audited):
    """The audit of a boundary that is the input and noise, by attackers with few examples and with all."""
    return audited(open_window.with_channel(GaussianChannel(stddev=0.5)), budgets=(20, None), bound=True)


def test_noise_lies_between_and_more_data_are_never_worse(noisy):
    few, all_, often = noisy.results
    assert (few.looks, all_.looks, often.looks) == (1, 1, 16)
    assert often.boundary["ssim"].value > all_.boundary["ssim"].value + 0.1  # noise averages out
    assert often.leakage.value > all_.leakage.value + 0.1
    assert "After 16 looks at the same input it is SSIM" in noisy.summary()
    assert noisy.contract_summary()["kinds"]["reconstruction"]["looks"]["16"]["boundary"] == pytest.approx(often.boundary["ssim"].value)
    assert 0.1 < all_.leakage.low < all_.leakage.high < 0.95
    assert (few.known, all_.known) == (20, 500)
    assert all_.boundary["ssim"].value >= few.boundary["ssim"].low
    assert all_.boundary["ssim"].value > few.boundary["ssim"].value + 0.02  # and here, better


def test_a_bound_stands_beside_the_attacks_where_there_is_noise(noisy, opened):
    found = noisy.bound
    assert found.noise
    assert 0 < found.dfil <= found.spectrum < found.prior
    assert (found.fitted_on, found.dimensions) == (500, 64)
    assert found.words() in noisy.summary()
    assert "a bound on the error" not in " ".join(noisy.not_tested)
    assert opened.bound is None
    assert "a bound on the error of any reconstruction: left out on request" in opened.not_tested


def test_attributes(open_window, brick_wall, audited):
    probe = ProbeAttack("odd", "mlp")
    opened, walled = (audited(p, probe, private="odd") for p in (open_window, brick_wall))
    assert opened.kinds == walled.kinds == ("odd",)
    assert opened.strongest("odd").headline == "auc"
    assert opened.strongest("odd").leakage.value == pytest.approx(1.0, abs=0.01)
    assert walled.strongest("odd").boundary["auc"].value == pytest.approx(0.5, abs=0.1)
    assert walled.strongest("odd").leakage.value == pytest.approx(0.0, abs=0.2)
    assert opened.pictures is None


def test_tokens_and_several_tensors():
    rng = np.random.default_rng(0)
    ids = keras.Input((6,), dtype="int32", name="ids")
    a = keras.layers.Embedding(20, 4, name="a")(ids)
    b = keras.layers.Embedding(20, 2, name="b")(ids)
    scores = keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Concatenate()([a, b])))
    parts = partition(keras.Model(ids, scores), ["a", "b"])
    x = rng.integers(0, 20, size=(400, 6)).astype("int32")
    data = Samples(x, {"task": x[:, 0] % 3, "first": x[:, 0] % 2})
    attacks = [DecoderAttack(), ProbeAttack("first", "linear")]
    report = audit(parts, data[:300], data[300:], ["first"], reference=parts, seeds=1, epochs=3, attacks=attacks)
    assert report.kinds == ("first",)
    assert sum("decoders recover pictures" in text for text in report.not_tested) == 1
    assert report.pictures is None


def test_attributes_that_no_defence_was_trained_for(open_window, digits):
    train, test = (Samples(s.x, {**s.targets, "round": np.isin(s.targets["task"], (0, 6, 8, 9))}) for s in digits)
    names = ["linear probe, odd", "linear probe, round (not defended)"]
    report = audit(open_window, train, test, "odd", open_window, 1, attacks=names, unseen="round", epochs=3)
    assert report.kinds == ("odd", "round")
    assert report.unseen == ("round",)
    assert report.strongest("round").boundary["auc"].value > 0.8
    assert report.threat_model.private == ("odd",)
    assert "reads round (an attribute that no defence was trained for) at AUC" in report.summary()
    assert "reads odd at AUC" in report.summary()
    assert "attributes other than odd, round" in report.not_tested
    assert not any("unseen attribute: the threat model calls for it" in text for text in report.not_tested)
    assert "unseen='round'" in report.reproduce


def test_report_says_what_a_reader_must_know(open_window, audited):
    steps = []
    report = audited(open_window, bound=True, progress=lambda *step: steps.append(step))
    assert [s[0] for s in steps] == list(range(len(steps)))
    assert all(done <= total for done, total, _ in steps)
    assert steps[-1] == (len(steps) - 1, len(steps) - 1, "done")
    assert (report.known, report.held_out, report.victims, report.seeds) == (425, 75, 150, 1)
    assert any("small (150 examples)" in note for note in report.notes)
    assert "private attributes: none was named" in report.not_tested
    assert report.input_bytes == 8 * 8
    assert report.settings["epochs"] == 10
    assert any(text.startswith("a bound on the error of any reconstruction: no noise stands") for text in report.not_tested)
    assert report.versions["keras_privpart"] == keras_privpart.__version__


@pytest.fixture(scope="module")
def classifier():
    """Ten classes of digits, cut behind a strided convolution; never trained."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    cut = keras.layers.Conv2D(2, 3, strides=2, name="cut")(image)
    return partition(keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(cut))), "cut")


def test_an_audit_trains_its_own_twin(digits, classifier, attack, monkeypatch):
    monkeypatch.setattr("keras_privpart.training.task.EPOCHS", 3)
    pictures = [Samples((s.x * 255).astype("uint8"), s.targets) for s in digits]
    report = audit(classifier, *pictures, seeds=1, epochs=1, attacks=[attack, ProbeAttack("odd", "linear")])
    assert report.kinds == ("reconstruction", "odd")
    assert "undefended twin trained by the audit" in report.reference
    assert report.input_bytes == 64
    assert report.summary()


class Peek(Attack):
    """Says how bright the brightest of what it sees is, and that parity follows from it; learns nothing, so that an audit takes no time."""

    family = "attribute probe"

    def __init__(self, name="peek", seats=None, needs=()):
        super().__init__(name, "odd")
        self.needs = frozenset(needs)
        self.learned_from = []
        self._seats = seats

    def inapplicable(self, samples):
        return None

    def inapplicable_to(self, view):
        return None if self._seats is None or view.name in self._seats else f"{view.name} is closed"

    def fit(self, view, known, held_out, effort, seed):
        self.learned_from.append((len(known), len(held_out), effort))

    def score(self, seen, victims):
        surety = 1 / (1 + np.exp(-np.mean(seen[0].reshape(len(victims), -1), axis=1).astype("float64")))
        return Guesses(victims.targets["odd"], np.stack([1 - surety, surety], axis=1))


def peeked(digits, parts, *attacks, **kwargs):
    return audit(parts, *digits, reference=parts, attacks=list(attacks), **{"seeds": 1, "epochs": 1, **kwargs})


def test_the_decision_is_the_floor_and_the_answer_stands_beside_it(digits, classifier):
    report = peeked(digits, classifier, Peek())
    result = report.strongest("odd")
    assert set(result.floors) == {"answer", "decision"}
    assert result.floor == result.floors["decision"]
    assert result.floors["answer"]["auc"].value >= result.floors["decision"]["auc"].value, "who sees the answer sees the decision"
    assert report.decision == "which class comes first (top-1)"


def test_the_operator_says_what_the_decision_is(digits, classifier):
    scores = peeked(digits, classifier, Peek(), answer="scores")
    result = scores.strongest("odd")
    assert result.floors["decision"] == result.floors["answer"]
    assert scores.decision == "all that the server half answers"
    parity = peeked(digits, classifier, Peek(), answer=lambda outputs: 9.0 * (outputs[0].argmax(axis=1) % 2)[:, None])
    assert parity.reproduce.endswith("answer=answer)")
    truth = digits[1].targets["odd"]
    guessed = classifier.model.predict(digits[1].x, verbose=0).argmax(axis=1) % 2
    assert parity.strongest("odd").floors["decision"]["auc"].value == pytest.approx(metrics.auc(truth == 1, guessed), abs=1e-6)


def test_a_binary_head_decides_by_its_side(digits):
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    cut = keras.layers.Flatten(name="cut")(image)
    for activation, middle in ((None, 0.0), ("sigmoid", 0.5)):
        parts = partition(keras.Model(image, keras.layers.Dense(1, activation=activation)(cut)), "cut")
        x = digits[1].x
        seen = Views(parts).decision.see(x)[0]
        np.testing.assert_array_equal(seen, (np.asarray(parts.model(x)) > middle).astype("float32"))
        assert 0 < seen.mean() < 1


def test_attackers_are_limited_to_their_budget(digits, classifier):
    peek = Peek()
    report = peeked(digits, classifier, peek, budgets=(100, None, 40), epochs=None)
    assert [r.budget for r in report.results] == [40, 100, None]
    assert [r.known for r in report.results] == [40, 100, 500]
    assert [r.name for r in report.results] == ["peek, 40 examples", "peek, 100 examples", "peek"]
    learned = sorted({(known, held, effort.epochs, effort.batch_size) for known, held, effort in peek.learned_from})
    assert [(known, held) for known, held, *_ in learned] == [(34, 6), (85, 15), (425, 75)]
    updates = [epochs * (known // size) for known, _, epochs, size in learned]
    assert min(updates) >= 400, "a small budget is less data, not less training"
    only = peeked(digits, classifier, Peek(), budgets=(5000, None))
    assert [r.budget for r in only.results] == [None]
    assert any("budget of 5,000 has no results of its own" in note for note in only.notes)


def test_several_trainings_of_a_model(digits, classifier, open_window):
    keras.utils.set_random_seed(5)
    twin = partition(keras.models.clone_model(classifier.model), "cut")
    report = audit([classifier, twin], *digits, reference=[twin, classifier], attacks=[Peek()], seeds=2, epochs=1)
    score = report.strongest("odd").boundary["auc"]
    apart = [peeked(digits, p, Peek()).strongest("odd").boundary["auc"].value for p in (classifier, twin)]
    assert report.models == 2
    assert score.models == pytest.approx(apart)
    assert score.value == pytest.approx(np.mean(apart))
    assert len(score.seeds) == 4
    assert len(report.defended_accuracy.models) == 2
    assert "one trained model was attacked" not in " ".join(report.not_tested)
    with pytest.raises(AuditError, match="1 references for 2 models"):
        audit([classifier, twin], *digits, reference=[twin], attacks=[Peek()])
    with pytest.raises(AuditError, match="expected one architecture"):
        audit([classifier, open_window], *digits, reference=twin, attacks=[Peek()])


def test_what_the_model_was_trained_on_is_checked(digits, classifier):
    train, test = digits
    unknown = peeked(digits, classifier, Peek())
    assert any("was not checked" in note for note in unknown.notes)
    assert unknown.threat_model.data == "alike"
    known = peeked(digits, classifier, Peek(), trained_on=(train.x[:400], train.targets["task"][:400]))
    assert any(note.startswith("400 of the attackers' 500 examples were used") for note in known.notes)
    assert known.threat_model.data == "training"
    with pytest.raises(AuditError, match="3 of 150 victims that the model was trained on"):
        peeked(digits, classifier, Peek(), trained_on=test[:3])


def test_a_stream_is_drawn_from_once_and_the_report_says_so(digits, classifier):
    train, test = digits
    streams = [batches(samples, 32) for samples in (train, test)]
    report = peeked(streams, classifier, Peek(), limit=120, trained_on=batches(train[:400], 16))
    assert (report.known + report.held_out, report.victims) == (120, 120)
    assert any(note.startswith("The attackers' examples are a draw from 500;") for note in report.notes)
    assert any(note.startswith("The victims' examples are a draw from 150;") for note in report.notes)
    assert any(re.match(r"\d+ of the attackers' 120 examples were used", note) for note in report.notes)
    assert "limit=120" in report.reproduce
    assert peeked(digits, classifier, Peek(), limit=120).scored_on == report.scored_on
    with pytest.raises(AuditError, match="Received limit=0"):
        peeked(digits, classifier, Peek(), limit=0)


def test_the_threat_model_decides(digits, classifier):
    model = ThreatModel(private=("odd",), input_private=False, device_weights=False)
    report = peeked(digits, classifier, Peek(), Peek("white box", needs=["white box"]), threat_model=model)
    assert [r.attack for r in report.results] == ["peek"]
    assert report.threat_model == model
    text = " ".join(report.not_tested)
    assert "white box: the threat model leaves it out: the attacker does not know the device half's weights" in text
    assert "de-censoring: the threat model calls for it" in text
    with pytest.raises(AuditError, match="expected the same attributes"):
        peeked(digits, classifier, Peek(), threat_model=model, private=["task"])


def test_a_threat_model_chooses_the_attacks(digits):
    model = ThreatModel(private=("odd",), data="training", device_weights=False)
    wanted, left_out = selection.members(None, model, model.private, ("task",), 8, digits[1])
    assert {a.family for a in wanted} == set(model.attacks()) - {"membership"}
    assert {a.kind for a in wanted if a.family == "unseen attribute"} == {"task"}
    assert [a.name for a in wanted][:2] == [a.name for a in standard()][:2]
    assert "do not say which examples the model was trained on" in next(r for name, r in left_out.items() if "member" in name)
    assert {a.name for a in selection.members(None, None, ("odd",), (), 8, digits[1])[0]} == {a.name for a in standard(["odd"])}


def test_attacks_that_cannot_reach_the_boundary_are_not_tested(digits, classifier):
    closed = Peek("closed", seats=["the server half's answer"])
    no_top1 = Peek("no top-1", seats=["the boundary", "the undefended boundary", "the server half's answer"])
    report = peeked(digits, classifier, closed, no_top1)
    assert [r.attack for r in report.results] == ["no top-1"]
    assert set(report.results[0].floors) == {"answer"}
    assert "closed: the boundary is closed" in report.not_tested


def test_a_failing_attack_ends_the_others(open_window, digits):
    class Failing(Peek):
        concurrent = True

        def fit(self, *args):
            raise ZeroDivisionError

    class Slow(Peek):
        concurrent = True

    slow = Slow("slow")
    with pytest.raises(ZeroDivisionError):
        peeked(digits, open_window, Failing("failing"), slow, seeds=500, workers=2)
    assert len(slow.learned_from) < 3 * 500


def test_the_printed_call_makes_the_report_again(digits, classifier):
    """Every argument that matters is in it: run as printed, it gives the same numbers."""
    train, test = digits
    names = {"keras_privpart": keras_privpart, "partition": classifier, "train": train, "test": test, "reference": classifier}
    given = {
        "attacks": ("linear probe, odd", "linear probe, task (not defended)"),
        "threat_model": ThreatModel(private=("odd",), data="training"),
        "unseen": ("task",),
        "batch_size": 32,
        "budgets": (100, None),
        "epochs": 2,
        "seeds": 1,
        "seed": 3,
        "pictures": 0,
        "bound": False,
        "trained_on": train[:50],
    }
    report = audit(classifier, train, test, reference=classifier, **given)
    again = eval(report.reproduce, {**names, "trained_on": given["trained_on"]})  # the report's own words
    assert again.to_json() == report.to_json()
    for name in given:
        assert f"{name}=" in report.reproduce


def test_no_argument_of_an_audit_can_be_forgotten():
    assert list(inspect.signature(audit).parameters) == [field.name for field in fields(AuditSettings)]
    defaults = {name: p.default for name, p in inspect.signature(audit).parameters.items() if p.default is not p.empty}
    assert defaults == {f.name: f.default for f in fields(AuditSettings) if f.name in defaults}
    peek = Peek()
    assert AuditSettings(1, 2, 3, attacks=[peek]).call() == "keras_privpart.audit(partition, train, test, attacks=attacks)"


def odd(data, values):
    return Samples(data.x, {**data.targets, "odd": values})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a.update(private=["Male"]), "expected the attribute 'Male' among them"),
        (lambda a: a.update(train=odd(a["train"], np.zeros(500, int)), private=["odd"]), "one value of 'odd' in train"),
        (lambda a: a.update(test=odd(a["test"], np.linspace(0, 1, 150)), private=["odd"]), r"'odd' of test as float64\[150\]"),
        (lambda a: a.update(test=a["train"][:100]), "100 of 100 test examples"),
        (lambda a: a.update(train=Samples(a["train"].x * 2 - 1, a["train"].targets)), "pictures from -1 to 1; expected 0 to 1"),
        (
            lambda a: a.update(private=["odd"], unseen=["odd"]),
            r"the attributes \['odd'\] twice; expected each once: as private, or as unseen",
        ),
        (lambda a: a.update(unseen=["Young"]), "expected the attribute 'Young' among them"),
        (lambda a: a.update(seeds=0), "seeds=0"),
        (lambda a: a.update(epochs=1.5), "epochs=1.5"),
        (lambda a: a.update(attacks=[]), r"the attacks \[\]"),
        (lambda a: a.update(budgets=(5,)), r"budgets=\(5,\); expected numbers of examples from 10"),
        (lambda a: a.update(workers=0), "workers=0"),
        (lambda a: a.update(attacks=[DecoderAttack(), DecoderAttack()]), "twice"),
    ],
)
def test_what_cannot_be_audited(open_window, digits, change, text):
    arguments = {"train": digits[0], "test": digits[1], "reference": open_window, "seeds": 1, "epochs": 1}
    change(arguments)
    with pytest.raises(AuditError, match=text):
        audit(open_window, **arguments)
