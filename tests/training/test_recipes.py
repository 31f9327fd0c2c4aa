"""Recipes by name: complete, fresh at every call, and trained as they say."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart.datasets import Samples
from keras_privpart.errors import TrainingError
from keras_privpart.training import recipes
from keras_privpart.training.recipe import Recipe, train_pair

CLASSES = {"task": 3, "Male": 2}
RNG = np.random.default_rng(0)
X = RNG.uniform(size=(48, 8, 8, 1)).astype("float32")
DATA = Samples(X, {"task": RNG.integers(0, 3, 48), "Male": (X.mean(axis=(1, 2, 3)) > 0.5).astype("int64")})


@pytest.mark.parametrize("name", recipes.NAMES)
def test_every_name_makes_a_fresh_defence_that_tells_what_it_is(name):
    first, second = (recipes.named(name, CLASSES, ["Male"]) for _ in range(2))
    assert json.dumps(first.describe()) == json.dumps(second.describe())
    assert first.channel is None or first.channel is not second.channel
    assert not set(map(id, first.adversaries)) & set(map(id, second.adversaries))
    assert (first.distillation is not None) == name.endswith("-distilled")


def test_names_differ_in_what_they_do():
    texts = [json.dumps(recipes.named(name, CLASSES, ["Male"]).describe()) for name in recipes.NAMES]
    assert len(set(texts)) == len(texts)


def test_ours_is_made_of_its_parts():
    found = recipes.reconstruction({"Male": 2}, bottleneck=8, noise=0.25, weight=0.1)
    assert [a.name for a in found.adversaries] == ["decoder_mse", "decoder_ssim", "Male"]
    assert [a.weight for a in found.adversaries] == [0.1, 0.1, 1.0]
    assert (found.bottleneck, found.channel.stddev) == (8, 0.25)
    assert recipes.bits(3, noise=0.25, target=1.0).regularizers[0].stddev == 0.25
    assert not recipes.bits(3, weight=0).regularizers
    assert recipes.bits(3, bottleneck=None).bottleneck_activation == "linear"
    assert recipes.competing_features(4).bottleneck_activation == recipes.bits(3).bottleneck_activation == "softmax"
    assert [a.name for a in recipes.bits(3, private={"Male": 2}).adversaries] == ["Male"]
    assert [a.name for a in recipes.attribute({"Male": 2, "Young": 2}).adversaries] == ["Male", "Young"]


def test_unknown_names_and_missing_attributes():
    with pytest.raises(TrainingError, match=r"the recipe 'magic'; expected one of undefended, reconstruction, .*maximum-entropy"):
        recipes.named("magic", CLASSES)
    for name in ("attribute", "maximum-entropy"):
        with pytest.raises(TrainingError, match="no private attributes; expected at least one"):
            recipes.named(name, CLASSES)


def test_a_recipe_trains_a_pair():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    z = layers.Conv2D(2, 3, padding="same", activation="relu", name="cut")(image)
    parts = kp.partition(keras.Model(image, layers.Dense(3, name="scores")(layers.Flatten()(z))), at="cut")
    pair = train_pair(parts, DATA, DATA, Recipe(epochs=1, batch_size=16), kp.recipes.named("bits", CLASSES))
    assert pair.undefended.boundary.tensors[0].shape == (None, 8, 8, 2)
    assert pair.defended.boundary.tensors[0].shape == (None, 16)
    assert "bits_beyond_class" in pair.defended_history
    assert type(pair.defended.channel[0]).__name__ == "GaussianChannel"
