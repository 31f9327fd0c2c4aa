"""Named sets of attacks, what threat models deny, the planted leak, and what is particular to single families."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_privpart.auditing.attacks import (
    MEMBER,
    DecoderAttack,
    Effort,
    MembershipAttack,
    ProbeAttack,
    ShadowAttack,
    UnsplitAttack,
    WhiteBoxAttack,
    chosen,
    denied,
    full,
    membership,
    standard,
)
from keras_privpart.auditing.attacks.base.shared_model import Remembered
from keras_privpart.auditing.attacks.catalogue import LOSSES, SIZES
from keras_privpart.auditing.attacks.inference.decensoring import _whitened
from keras_privpart.auditing.knowledge.views import boundary_view
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.partition import partition
from keras_privpart.threat_model import ATTACKS, ThreatModel
from keras_privpart.training.task import learn_task, task_loss


@pytest.mark.parametrize(("size", "loss"), list(zip(SIZES, [*LOSSES, "mixed", "mixed"], strict=True)))
def test_every_decoder_finds_a_planted_leak(planted, digits, size, loss):
    known, victims = digits
    attack = DecoderAttack(size, loss)
    view = boundary_view(planted)
    attack.fit(view, known[:420], known[420:], Effort(epochs=15, batch_size=32), seed=0)
    scores = attack.score(view.see(victims.x), victims).scores()
    assert scores["ssim"] > 0.85
    blank = np.mean(np.square(victims.x - known.x.mean(axis=0)))
    assert scores["mse"] < blank / 4


def test_a_shadow_reads_behind_a_device_half_that_it_never_saw(digits):
    """A narrow convolution, trained; its shadow has other weights, so that what it gives is read worse than the original, but read."""
    known, victims = (Samples(s.x, {"task": s.targets["task"], "odd": s.targets["odd"]}) for s in digits)
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 1))
    z = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="z")(image)
    model = keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(z)))
    learn_task(model, task_loss(model, known.x), known[:420], known[420:], most=8)
    view = boundary_view(partition(model, "z"))
    before = model.get_weights()
    attack = ShadowAttack(ProbeAttack("task", "linear"))
    attack.fit(view, known[:420], known[420:], Effort(epochs=8, batch_size=32), seed=0)
    assert attack.score(view.see(victims.x), victims).scores()["balanced_accuracy"] > 0.2  # twice what guessing gives
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_are_unique_and_families_known():
    for make, count in ((standard, 14), (full, 51)):
        attacks = make(["Male", "Young"], unseen=["Young"])
        names = [attack.name for attack in attacks]
        assert len(names) == len(set(names)) == count
        assert {attack.family for attack in attacks} <= set(ATTACKS)
    assert next(a.name for a in attacks if "conv probe, Young" in a.name) == "conv probe, Young (not defended)"
    assert {a.family for a in attacks if a.kind == "Young"} == {"unseen attribute", "de-censoring", "shadow model"}


def test_attacks_are_chosen_by_set_family_name_or_object():
    assert [a.name for a in chosen(None, ["Male"])] == [a.name for a in standard(["Male"])]
    assert len(chosen("full")) == len(full())
    assert {a.family for a in chosen(["generative prior"])} == {"generative prior"}
    assert [a.name for a in chosen(["STANDARD", "unsplit"], ["Male"])] == [*(a.name for a in standard(["Male"])), "UnSplit"]
    assert [a.name for a in chosen(["Membership"])] == [a.name for a in chosen(["membership"])] != []
    mine = DecoderAttack("large", "mse", keep=2)
    found = chosen([mine, "standard", "UnSplit"])
    assert found[0] is mine
    assert [a.name for a in found].count(mine.name) == 1
    assert isinstance(found[-1], UnsplitAttack)
    assert chosen([]) == []
    with pytest.raises(AuditError, match=r"the attack 'decodr'; expected a set \(standard, full\), a family \(kernel posterior, re"):
        chosen("decodr")
    with pytest.raises(AuditError, match="twice"):
        chosen([mine, mine])


def test_a_threat_model_denies_what_its_attacker_lacks():
    strong = ThreatModel(private=("Male",), data="training", identities=True)
    assert not any(denied(attack, strong) for attack in full(["Male"]))
    no_weights = ThreatModel(device_weights=False)
    assert denied(WhiteBoxAttack(), no_weights) == "the threat model leaves it out: the attacker does not know the device half's weights"
    assert denied(DecoderAttack(), no_weights) is None
    blind = ThreatModel(device_weights=False, queries=False)
    assert "cannot run the device half" in denied(DecoderAttack(), blind)
    assert denied(ShadowAttack(DecoderAttack()), blind) is None
    poor = ThreatModel(data="none")
    assert denied(WhiteBoxAttack(), poor) is None
    assert "no data of its own" in denied(WhiteBoxAttack(DecoderAttack()), poor)
    assert denied(UnsplitAttack(), ThreatModel(data="none", device_weights=False, queries=False)) is None
    assert "training data" in denied(MembershipAttack(), ThreatModel())


def test_membership_samples_are_balanced_and_disjoint(digits):
    members, others = digits
    attacker, victims = membership(members, others, seed=1)
    assert len(attacker) == len(victims) == 150
    rows = [{x.tobytes() for x in s.x} for s in (attacker, victims, members)]
    assert not rows[0] & rows[1]
    for samples in (attacker, victims):
        assert samples.targets[MEMBER].mean() == 0.5
        assert set(samples.targets) == {"task", "odd", MEMBER}
        assert all((x.tobytes() in rows[2]) == bool(m) for x, m in zip(samples.x, samples.targets[MEMBER], strict=True))
    with pytest.raises(AuditError, match="Received 1 members and 150 others"):
        membership(members[:1], others)


def test_names_may_be_typed_in_any_case_and_spacing():
    for typed in ("Decoder, Small, MSE", "decoder,small,mse", " DECODER ,  small , mse "):
        assert [attack.name for attack in chosen(typed)] == ["decoder, small, mse"]
    assert [attack.name for attack in chosen(["unsplit", "Linear probe, male"], ["Male"])] == ["UnSplit", "linear probe, Male"]


def test_the_docs_spell_every_name_as_it_is_typed():
    rows = (Path(__file__).parents[3] / "docs/attacks.md").read_text().split("Names, as `--attacks`")[1].split("```")[0]
    typed = {name for row in rows.splitlines() if row.startswith("| `") for name in re.findall(r"`(.+?)`", row)}
    everything = full(["KEY"])
    families = {attack.family for attack in [*everything, *full(["KEY"], unseen=["KEY"])]}
    for name in typed - families - {"KEY", "unseen", "KEY (not defended)"}:
        assert len(chosen(name, ["KEY"])) >= 1, name
    assert {name.casefold() for name in typed} >= {attack.name.casefold() for attack in everything} | families


def test_most_is_checked():
    with pytest.raises(AuditError, match="most=0"):
        WhiteBoxAttack(most=0)


def test_directions_in_which_an_uncensored_boundary_hardly_varies_are_no_target():
    """Amplified to unit variance they are rounding, and the attacker's held-out examples lie anywhere along them."""
    rng = np.random.default_rng(0)
    features, check = (
        np.concatenate([rng.normal(size=(n, 3)), rng.normal(size=(n, 20)) * tiny], 1) for n, tiny in ((90, 1e-6), (30, 1e-3))
    )
    target, truth = _whitened(features, check, seed=0)
    assert target.shape == (90, 3)
    np.testing.assert_allclose(target.std(axis=0), 1.0, atol=0.02)
    assert np.abs(truth).max() < 5


def test_what_is_dear_is_made_once():
    made, kept = [], Remembered()
    x, effort = np.zeros(3), Effort(1, 2)
    for ingredients in ((x, effort, 0), (x, Effort(1, 2), 0), (x, effort, 1), (np.zeros(3), effort, 1)):
        kept.get(ingredients, lambda: made.append(1))
    assert len(made) == 3
