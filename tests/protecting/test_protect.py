"""`protect`: choices made and explained, overridden, and refused before any training."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart import datasets
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError, CutError, DataError, TrainingError
from keras_privpart.protecting import choosing
from keras_privpart.protecting import protect as module
from keras_privpart.training.recipe import Defence

QUICK = {"seeds": 1, "attack_epochs": 1, "looks": (1,), "bound": False, "pictures": 0}


def classifier():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv")(image)
    x = layers.Dense(64, activation="relu", name="dense")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(10, name="scores")(x))


@pytest.fixture(scope="module")
def digits():
    """Train and test, with whether the digit is odd as a private attribute."""
    data = datasets.load("digits")
    return [Samples(s.x, {**s.targets, "odd": s.targets["task"] % 2}) for s in (data.train, data.test)]


@pytest.fixture(scope="module")
def trained(digits):
    model = classifier()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(digits[0].x, digits[0].targets["task"], batch_size=32, epochs=12, verbose=0)
    return model


def test_a_trained_model_is_protected_from_its_own_weights(trained, digits):
    before = [np.array(w) for w in trained.get_weights()]
    result = kp.protect(trained, *digits, ["odd"], at="conv", epochs=24, **QUICK, attacks=["decoder, small, mse", "linear probe, odd"])
    for old, new in zip(before, trained.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_allclose(
        result.undefended.model.predict(digits[1].x[:8], verbose=0), trained.predict(digits[1].x[:8], verbose=0), atol=1e-5
    )
    assert result.partition.boundary.tensors[0].shape == (None, 16)
    assert result.partition.channel
    report = result.report
    assert report.kinds == ("reconstruction", "odd")
    assert report.reference_accuracy.value > 0.85
    assert report.defended_accuracy.value > 0.5
    assert [c.what for c in result.choices] == ["start", "cut", "bottleneck", "recipe"]
    words = str(result)
    assert "the given weights, as a trained model's, because as given it is right for" in words
    assert "cut: conv, because you asked for it (change it with at=)" in words
    assert (
        "bits, because it lets few bits cross beyond the class, whatever an attacker is after, and readers of odd train against it" in words
    )
    assert f"{100 * report.defended_accuracy.value:.1f} %" in words
    assert "decoder, small, mse" in words.split("What the strongest attackers still read:")[1]


def intended(model, train, test, private=(), **changes):
    usual = {"at": None, "bottleneck": "auto", "recipe": None, "trained": None, "training": module.Recipe(), "auditing": {}}
    return module.intended(model, train, test, private, **{**usual, **changes})


def test_an_untrained_model_is_told_by_its_accuracy(trained, digits):
    untrained, known = intended(classifier(), *digits), intended(trained, *digits)
    assert (untrained.recipe.initial, known.recipe.initial) == (None, "pretrained")
    assert "the model is untrained" in str(untrained.choices[0])
    assert intended(trained, *digits, trained=False).recipe.initial is None
    assert intended(classifier(), *digits, trained=True).recipe.initial == "pretrained"


def test_the_advisor_cuts_and_says_why(trained, digits):
    chosen = kp.cuts(trained).choose()
    plan = intended(trained, *digits)
    assert list(plan.parts.boundary.sources) == list(chosen.tensors)
    assert chosen.reason in str(plan.choices[1])


def test_every_choice_can_be_overridden(trained, digits):
    plan = intended(trained, *digits, at="conv", bottleneck=5, recipe="bits")
    assert (plan.defence.bottleneck, list(plan.defence.adversaries)) == (5, [])
    assert intended(trained, *digits, at="conv", bottleneck=None).defence.bottleneck is None
    assert intended(trained, *digits, recipe="noise-only").defence.bottleneck is None
    own = Defence(channel=kp.GaussianChannel(0.1), bottleneck=3)
    plan = intended(trained, *digits, recipe=own)
    assert (plan.defence.channel, plan.defence.bottleneck) == (own.channel, 3)
    assert "3 features, because the recipe has it so" in str(plan.choices[2])


def test_few_examples_are_seen_more_often():
    assert choosing.enough_epochs(60_000, 64) == 10
    assert choosing.enough_epochs(1_280, 64) == 100


def test_few_features_cross_and_none_that_never_varies(digits):
    image = keras.Input((8, 8, 1))
    flat = layers.Flatten()(image)
    narrow = keras.Model(image, layers.Dense(10)(layers.Dense(12, name="narrow")(flat)))
    assert choosing.features_to_cross(kp.partition(narrow, "narrow"), digits[0].x)[0] == 6
    dead = layers.Dense(40, name="dead")
    model = keras.Model(image, layers.Dense(10)(dead(flat)))
    kernel = np.array(dead.kernel)
    kernel[:, 4:] = 0
    dead.kernel.assign(kernel)
    features, choice = choosing.features_to_cross(kp.partition(model, "dead"), digits[0].x)
    assert features == 4
    assert "all that vary" in choice.why


def test_what_cannot_work_is_refused_before_any_training(trained, digits, monkeypatch):
    monkeypatch.setattr(module, "train_pair", lambda *a, **k: pytest.fail("was trained"))
    train, test = digits
    with pytest.raises(AuditError, match="expected the attribute 'Male' among them"):
        kp.protect(trained, train, test, ["Male"])
    text = [Samples(s.x, {**s.targets, "odd": np.where(s.targets["odd"], "yes", "no")}) for s in digits]
    with pytest.raises(TrainingError, match=r"the attribute 'odd' as <U3\[1347\].*expected whole numbers from 0"):
        kp.protect(trained, *text, ["odd"])
    with pytest.raises(DataError, match="Received the value 'yes' of 'odd'; expected one of"):
        kp.protect(trained, *text, {"odd": ("no", "maybe")})
    assert intended(trained, *text, {"odd": ("no", "yes")}).train.targets["odd"].tolist() == (train.targets["odd"] > 0).tolist()
    with pytest.raises(AuditError, match="train"):
        kp.protect(trained, train, train)
    with pytest.raises(AuditError, match="'magic'"):
        kp.protect(trained, train, test, attacks="magic")
    with pytest.raises(TrainingError, match="the recipe 'magic'; expected one of"):
        kp.protect(trained, train, test, recipe="magic")
    with pytest.raises(CutError, match="bottleneck=999"):
        kp.protect(trained, train, test, at="conv", bottleneck=999)
    with pytest.raises(CutError, match="nowhere"):
        kp.protect(trained, train, test, at="nowhere")
    with pytest.raises(TrainingError, match="label 9 in the training data"):
        kp.protect(keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(20), layers.Dense(9)]), train, test)
    with pytest.raises(AuditError, match="Received pictures from 0 to 16; expected 0 to 1"):
        kp.protect(trained, *(Samples(16 * s.x, s.targets) for s in digits))
    with pytest.raises(TypeError, match="magic"):
        kp.protect(trained, train, test, magic=1)


class Passing(keras.utils.PyDataset):
    """Batches of 50, which are counted."""

    def __init__(self, samples):
        super().__init__()
        self.samples, self.passed = samples, 0

    def __len__(self):
        return -(-len(self.samples) // 50)

    def __getitem__(self, index):
        part = self.samples[50 * index : 50 * (index + 1)]
        self.passed += len(part)
        return part.pair


def test_a_stream_is_trained_on_whole_and_a_draw_of_it_attacked(trained, digits):
    train, test = map(Passing, digits)
    effort = {**QUICK, "attacks": ["linear probe, odd"], "limit": 100}
    result = kp.protect(trained, train, test, {"odd": (0, 1)}, at="conv", epochs=2, **effort)
    assert train.passed == 4 * len(digits[0])  # the first reading, two epochs, and the search for the model's own examples
    said = result.report.summary()
    assert f"The attackers' examples are a draw from {len(digits[0]):,}" in said
    assert f"The victims' examples are a draw from {len(digits[1]):,}" in said
    wrong = Passing(Samples(digits[0].x, {**digits[0].targets, "odd": digits[0].targets["odd"] + 3}))
    with pytest.raises(DataError, match="Received the value 3 of 'odd'"):
        kp.protect(trained, wrong, test, {"odd": (0, 1)}, at="conv", **effort)
