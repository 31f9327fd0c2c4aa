"""What a threat model says, in words and in JSON, and what follows from it."""

import json
import subprocess
import sys

import pytest

from keras_privpart.errors import PrivPartError, TrainingError
from keras_privpart.threat_model import ATTACKS, DATA, ThreatModel


def test_it_comes_back_from_json():
    model = ThreatModel(private=("Male", "Young"), data="training", queries=False)
    assert ThreatModel.from_json(json.loads(json.dumps(model.to_json()))) == model


def test_it_prints_itself_in_words():
    text = str(ThreatModel(private=("Male",), device_weights=False))
    assert "never the raw input" in text
    assert "the input, the attribute 'Male'" in text
    assert "It does not know the weights of the device half." in text
    assert "It has never seen the victims." in text
    assert "There is no proof" in text
    assert "white box" in str(ThreatModel())


def test_attacks_follow_from_what_the_attacker_knows():
    assert ThreatModel().attacks() == (
        "kernel posterior",
        "decoder",
        "computed properties",
        "white-box inversion",
        "generative prior",
        "re-identification",
    )
    assert ThreatModel(device_weights=False).attacks() == ("kernel posterior", "decoder", "computed properties")
    blind = ThreatModel(private=("Male",), device_weights=False, queries=False)
    assert blind.attacks() == ("shadow model",), "who can run nothing must build a shadow of the device half first"
    assert "membership" in ThreatModel(data="training").attacks()
    assert "identification" in ThreatModel(identities=True).attacks()
    assert ThreatModel(private=("Male",), input_private=False).attacks() == ("attribute probe", "unseen attribute", "de-censoring")


def test_every_attack_is_known_and_can_follow():
    models = [
        ThreatModel(private=("a",), data=data, device_weights=white, queries=queries, identities=True)
        for data in DATA
        for white in (False, True)
        for queries in (False, True)
    ]
    only_by_name = {"learned prior", "model completion"}
    assert {attack for model in models for attack in model.attacks()} == set(ATTACKS) - only_by_name
    assert all(model.attacks() for model in models)


def test_default_adversaries_follow_from_what_is_private():
    from keras_privpart.training.privacy_terms.defaults import default_adversaries

    model = ThreatModel(private=("Male", "age"))
    found = default_adversaries(model, {"Male": 2, "age": 0}, weight=0.5)
    assert tuple(a.name for a in found) == model.adversaries() == ("reconstruction", "Male", "age")
    assert [a.weight for a in found] == [0.5] * 3
    assert found[2].attribute_type == "continuous"
    with pytest.raises(TrainingError, match=r"expected those of \['age'\] as well"):
        default_adversaries(model, {"Male": 2})


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ThreatModel(private="Male"), "Received private='Male'; expected a tuple of names"),
        (lambda: ThreatModel(data="some"), "Received data='some'; expected one of none, other, alike, training"),
        (lambda: ThreatModel(queries="yes"), "Received queries='yes'; expected True or False"),
        (lambda: ThreatModel(input_private=False), "without anything private"),
        (lambda: ThreatModel.from_json({"attacker": "server"}), r"Received \['attacker'\] as a threat model"),
        (lambda: ThreatModel.from_json([]), "Received list as a threat model"),
    ],
)
def test_what_does_not_fit_is_refused(make, text):
    with pytest.raises(PrivPartError, match=text):
        make()


def test_it_needs_no_tensorflow():
    code = "import keras_privpart.threat_model, sys; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
