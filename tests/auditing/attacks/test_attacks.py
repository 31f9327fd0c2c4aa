"""One contract for every attack, each a row; and what is particular to decoders and probes."""

import keras
import numpy as np
import pytest

from keras_privpart.auditing.attacks import (
    AutoencoderAttack,
    CompletionAttack,
    DecoderAttack,
    DeepPriorAttack,
    Effort,
    KernelPosteriorAttack,
    LearnedPriorAttack,
    LinkageAttack,
    MembershipAttack,
    NeighboursAttack,
    ProbeAttack,
    PropertiesAttack,
    ReconstructedLinkageAttack,
    ShadowAttack,
    TreesAttack,
    UnsplitAttack,
    WhiteBoxAttack,
    decensoring,
    from_reconstruction,
    full,
)
from keras_privpart.auditing.attacks.base.attack import NEEDS
from keras_privpart.auditing.attacks.reconstruction import decoder as decoders
from keras_privpart.auditing.attacks.reconstruction.descent import Descent
from keras_privpart.auditing.knowledge.views import View, answer_view, boundary_view
from keras_privpart.auditing.scoring.chance import chance
from keras_privpart.channels import GaussianChannel
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.partition import partition
from keras_privpart.threat_model import ATTACKS

EFFORT = Effort(epochs=4, batch_size=32, iterations=30)
SMALL = DecoderAttack("small", "mse", keep=4)  # one for all that use a decoder: it compiles once for each shape
ROWS = {
    "kernel posterior": lambda: KernelPosteriorAttack(keep=4),
    "kernel posterior, mse": lambda: KernelPosteriorAttack("mse", keep=4),
    "linkage, same class": LinkageAttack,
    "linkage, all": lambda: LinkageAttack(same_class=False),
    "linkage, by reconstruction": lambda: ReconstructedLinkageAttack(KernelPosteriorAttack()),
    "linkage, by a decoder": lambda: ReconstructedLinkageAttack(SMALL),
    "computed properties": PropertiesAttack,
    "neighbours": lambda: NeighboursAttack("odd"),
    "decoder, small mse": lambda: SMALL,
    "decoder, small l1": lambda: DecoderAttack("small", "l1", keep=4),
    "linear": lambda: ProbeAttack("odd", "linear"),
    "mlp": lambda: ProbeAttack("odd", "mlp"),
    "conv, unseen": lambda: ProbeAttack("odd", "conv", unseen=True),
    "trees": lambda: TreesAttack("odd"),
    "learned prior": lambda: LearnedPriorAttack(pairs=200, keep=4),
    "model completion": CompletionAttack,
    "label": lambda: ProbeAttack("task", "linear"),
    "membership": MembershipAttack,
    "from the reconstruction": lambda: from_reconstruction("odd", "linear", decoder=DecoderAttack("small", "mse", keep=4)),
    "de-censoring": lambda: decensoring("odd", "linear"),
    "white box, noise": lambda: WhiteBoxAttack(most=40, keep=4),
    "white box, decoder": lambda: WhiteBoxAttack(SMALL, most=20, keep=4),
    "deep image prior": lambda: DeepPriorAttack(most=20, keep=4),
    "autoencoder prior": lambda: AutoencoderAttack(most=20, keep=4),
    "UnSplit": lambda: UnsplitAttack(most=20, keep=4),
    "shadow": lambda: ShadowAttack(SMALL),
}

everything = View("everything", lambda x: x)
several = View("several tensors", lambda x: [x[:, :4], {"ids": (x[:, 4:, 0, 0] * 16).astype("int32"), "scalar": x.mean(axis=(1, 2, 3))}])


class Watched(View):
    """Remembers every input that somebody looks at."""

    def __init__(self, parts):
        plain = boundary_view(parts)
        super().__init__("a watched view", self.look, plain.inside)
        self.plain = plain
        self.looked_at = []

    def look(self, x):
        self.looked_at.append(x)
        return self.plain.see(x)


@pytest.fixture(scope="module")
def two_tensors():
    """A partition whose boundary is the upper half of the picture, and the lower one as a vector."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    upper = keras.layers.Cropping2D(((0, 4), (0, 0)), name="upper")(image)
    lower = keras.layers.Flatten(name="lower")(keras.layers.Cropping2D(((4, 0), (0, 0)))(image))
    scores = keras.layers.Dense(10)(keras.layers.Concatenate()([keras.layers.Flatten()(upper), lower]))
    return partition(keras.Model(image, scores), ["upper", "lower"])


@pytest.fixture(scope="module")
def logits():
    """A partition whose boundary is its answer."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    z = keras.layers.Dense(3, name="logits")(keras.layers.Flatten()(image))
    return partition(keras.Model(image, keras.layers.Activation("linear", name="scores")(z)), "logits")


@pytest.fixture(scope="module")
def views(open_window, brick_wall):
    """What tells everything, nothing, and everything with noise."""
    noisy = open_window.with_channel(GaussianChannel(0.05, normalize=False))
    return boundary_view(open_window), boundary_view(brick_wall), Watched(noisy)


@pytest.fixture(scope="module")
def sides(digits):
    """The parity stands in for membership: the contract is about the mechanism."""
    train, test = (Samples(s.x, {**s.targets, "task": s.targets["task"] % 2, "member": s.targets["odd"]}) for s in digits)
    return train[:256], train[256:320], test[:60]


def answers(attack, view, sides, seed=0, effort=EFFORT):
    known, held_out, victims = sides
    attack.fit(view, known, held_out, effort, seed)
    evidence = attack.score(view.see(victims.x), victims)
    assert len(evidence) == min(len(victims), getattr(attack, "most", len(victims)))
    return evidence


def headline(*args, **kwargs):
    evidence = answers(*args, **kwargs)
    return float(evidence.scores()[evidence.headline])


def by_chance(evidence, sides):
    """The headline of who sees nothing."""
    known, _, victims = sides
    blind = chance(evidence, known, victims)
    return 0.0 if blind is None else float(blind.scores()[blind.headline])


def values(evidence):
    """What the attacker said of every victim, as an array."""
    return {
        "auc": lambda: evidence.probabilities,
        "ssim": lambda: evidence.ssim,
        "rank_1": lambda: evidence.reciprocal,
        "explained_variance": lambda: evidence.answers,
    }[evidence.headline]()


@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_contract(make, sides, views, monkeypatch):
    monkeypatch.setattr("keras_privpart.training.task.EPOCHS", 2)
    full_view, blind_view, noisy_view = views
    attack = make()
    assert attack.name
    assert attack.family in ATTACKS
    assert attack.needs <= set(NEEDS)
    assert attack.inapplicable(sides[2]) is None
    assert all(attack.inapplicable_to(view) is None for view in views)
    first = answers(attack, full_view, sides)
    nothing = answers(attack, blind_view, sides)
    blind = float(nothing.scores()[nothing.headline])
    assert first.scores()[first.headline] > blind + 0.1
    assert blind <= by_chance(nothing, sides) + 0.03, "nothing leaks where the same crosses of all"
    # Same seed, same attacker, whatever it was fitted on before; another seed, another one.
    np.testing.assert_allclose(values(answers(attack, full_view, sides)), values(first), atol=1e-4)
    named_all = first.headline == "rank_1" and first.first.all()  # whoever names all victims cannot do otherwise
    if not getattr(attack, "cheap", False) and not named_all:  # what trains nothing draws nothing
        assert np.abs(values(answers(attack, full_view, sides, seed=1)) - values(first)).max() > 1e-5

    # A fit looks at the attacker's own examples only, and no oftener than the effort allows: some attacks train two networks, each twice.
    steps = []
    plain_run = Descent.run
    monkeypatch.setattr(Descent, "run", lambda self, rates: [steps.append(len(rates)), plain_run(self, rates)])
    noisy_view.looked_at.clear()
    attack.fit(noisy_view, *sides[:2], Effort(epochs=2, batch_size=32, iterations=7), seed=0)
    looked_at = np.concatenate([np.zeros((0, 8, 8, 1)), *noisy_view.looked_at])
    victims = {x.tobytes() for x in sides[2].x}
    assert not any(x.astype("float32").tobytes() in victims for x in looked_at)
    most = 24 if getattr(attack, "cheap", False) else 4 * (2 + 2)  # who does not train may look oftener
    assert len(looked_at) <= most * (len(sides[0]) + len(sides[1]))
    assert all(count <= 7 for count in steps)


@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_logits_leak_nothing_beyond_the_answer(make, sides, logits, monkeypatch):
    """What crosses is the answer: attackers are given the same, and learn the same."""
    monkeypatch.setattr("keras_privpart.training.task.EPOCHS", 2)
    attack, effort = make(), Effort(epochs=2, batch_size=32, iterations=5)
    crossing, answered = (answers(attack, view, sides, effort=effort) for view in (boundary_view(logits), answer_view(logits)))
    if attack.family == "membership":  # it adds the answer to what crosses, and so sees the same twice
        assert abs(crossing.scores()["auc"] - answered.scores()["auc"]) < 0.25
    else:
        np.testing.assert_allclose(values(crossing), values(answered), atol=1e-3)


def test_every_family_of_the_catalogue_is_a_row():
    assert {attack.family for attack in full(["odd", "round"], unseen=["round"])} == {make().family for make in ROWS.values()}


@pytest.mark.parametrize("make", [make for make in ROWS.values() if make() is not SMALL])
def test_victims_before_a_fit_are_refused(make, sides):
    with pytest.raises(AuditError, match="before any fit"):
        make().score([sides[2].x], sides[2])


def test_a_search_matches_several_tensors(two_tensors, sides):
    assert headline(WhiteBoxAttack(most=32), boundary_view(two_tensors), sides) > 0.8


def test_decoders_and_probes_take_tensors_of_all_kinds(sides):
    for attack, blind in ((SMALL, 0.55), (ProbeAttack("odd", "linear"), 0.6)):
        assert headline(attack, several, sides) > blind


def test_decoders_do_not_apply_to_other_inputs():
    tokens = Samples(np.zeros((5, 12), "int32"), {})
    for attack in (DecoderAttack(), WhiteBoxAttack(), AutoencoderAttack()):
        assert "[12]" in attack.inapplicable(tokens)
    assert "no key 'odd'" in ProbeAttack("odd").inapplicable(tokens)
    assert "no key 'odd'" in decensoring("odd").inapplicable(tokens)
    assert "attacks.membership" in MembershipAttack().inapplicable(tokens)
    assert "no whole-number labels" in ShadowAttack(ProbeAttack("odd")).inapplicable(Samples(tokens.x, {"odd": np.zeros(5, int)}))


def test_attacks_that_look_inside_do_not_apply_to_a_view_without():
    for attack in (
        WhiteBoxAttack(),
        DeepPriorAttack(),
        UnsplitAttack(),
        ShadowAttack(DecoderAttack()),
        decensoring("odd"),
        MembershipAttack(),
    ):
        assert attack.inapplicable_to(everything).startswith("everything is not given as")
    assert DecoderAttack().inapplicable_to(everything) is None


def test_decoder_reads_an_input_that_crosses_as_it_is(sides):
    effort = Effort(epochs=25, batch_size=32)
    assert headline(DecoderAttack("small", "mixed"), everything, sides, effort=effort) > 0.95


def test_attackers_look_anew_in_every_epoch_where_there_is_noise(sides):
    looks = []

    def noisy(x):
        looks.append(len(x))
        return x + np.random.default_rng(len(looks)).normal(size=x.shape)

    SMALL.fit(View("noise", noisy), *sides[:2], Effort(epochs=5, batch_size=32, patience=1.0), seed=0)
    assert looks.count(256) == 2 + 5  # two to find out, one every epoch
    assert looks.count(64) == 1


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
