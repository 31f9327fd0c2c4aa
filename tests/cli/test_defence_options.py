"""The defence that the options of `train` make, and what they refuse."""

import click
import pytest

from keras_privpart.cli.defence_options import ATTRIBUTE_GOALS, CHANNELS, GOALS, RECIPES, REGULARIZERS, DefenceSource, Term
from keras_privpart.training import recipes

CLASSES = {"task": 10, "Male": 2}


def described(**options):
    return DefenceSource(**options).defence(CLASSES, ["Male"]).describe()


def test_by_default_a_decoder_a_head_for_each_attribute_and_noise():
    found = described()
    assert [a["class"] for a in found["adversaries"]] == ["ReconstructionAdversary", "AttributeAdversary"]
    assert (found["channel"]["class"], found["channel"]["stddev"]) == ("GaussianChannel", 0.5)
    assert found["regularizers"] == []


def test_weights_of_0_and_no_noise_leave_nothing():
    found = described(reconstruction=0.0, attribute=0.0, noise=0.0)
    assert (found["adversaries"], found["channel"]) == ([], None)


CHANNEL_ROWS = {
    "gaussian:0.5": "GaussianChannel",
    "laplace:0.5": "LaplaceChannel",
    "quantize:2": "QuantizeChannel",
    "gate:0.5": "GateChannel",
    "dropout:0.5": "DropoutChannel",
}
REGULARIZER_ROWS = {
    "distance-correlation:0.25": "DistanceCorrelation",
    "conditional-entropy:0.25": "ConditionalEntropy",
    "jacobian:0.25": "JacobianPenalty",
    "hsic:0.25": "AttributeDependence",
}


def test_every_name_has_a_row():
    assert tuple(term.split(":")[0] for term in CHANNEL_ROWS) == CHANNELS
    assert tuple(term.split(":")[0] for term in REGULARIZER_ROWS) == REGULARIZERS


@pytest.mark.parametrize("term", CHANNEL_ROWS)
def test_channels(term):
    assert described(channel=term)["channel"]["class"] == CHANNEL_ROWS[term]


@pytest.mark.parametrize("term", REGULARIZER_ROWS)
def test_regularizers(term):
    [found] = described(regularizer=(term,))["regularizers"]
    assert (found["class"], found["weight"]) == (REGULARIZER_ROWS[term], 0.25)


@pytest.mark.parametrize("goal", GOALS)
def test_goals_of_the_reconstruction(goal):
    assert (described(goal=goal)["adversaries"][0]["goal"] is None) == (goal == "reverse")


@pytest.mark.parametrize("goal", ATTRIBUTE_GOALS)
def test_goals_of_an_attribute(goal):
    assert (described(attribute_goal=goal)["adversaries"][1]["goal"] is None) == (goal == "reverse")


def test_mode_steps_pool_and_restarts():
    found = described(mode="alternating", steps=2, pool=1, restart_every=3)
    assert (found["mode"], found["pool"], found["restart_every"]) == ("alternating", 1, 3)
    assert [a["steps"] for a in found["adversaries"]] == [2, 2]


@pytest.mark.parametrize("text", ["gaussian", "gaussian:", "gaussian:x", "gaussian:-1", "pink:0.5", "none"])
def test_terms_that_make_no_sense_name_those_that_do(text):
    with pytest.raises(click.BadParameter, match="gaussian:NUMBER"):
        Term(CHANNELS).convert(text, None, None)


def test_what_does_not_go_together():
    with pytest.raises(click.UsageError, match="not both"):
        DefenceSource(channel="none", noise=0.5)
    with pytest.raises(click.UsageError, match="--private"):
        DefenceSource(regularizer=("hsic:1",)).defence(CLASSES, [])
    with pytest.raises(click.UsageError, match="whole number"):
        described(channel="quantize:1.5")


def test_recipes_go_by_their_names_and_alone():
    assert RECIPES == recipes.NAMES
    assert described(recipe="nopeek") == recipes.nopeek().describe()
    assert described(recipe="maximum-entropy") == recipes.maximum_entropy({"Male": 2}).describe()
    with pytest.raises(click.UsageError, match="Give --recipe nopeek or the parts of a defence, such as --channel, not both"):
        DefenceSource(recipe="nopeek", channel="gate:0.5")
