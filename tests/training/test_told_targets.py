"""Targets whose meaning is told: attributes in any coding, and the outputs of a model by their names."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import TrainingError

RNG = np.random.default_rng(0)
X, Y, A = RNG.random((32, 8, 8, 1), dtype="float32"), RNG.integers(0, 2, 32), np.arange(32) % 2
CODED = {
    "-1/1": (np.where(A, 1, -1), (-1, 1)),
    "1..2": (A + 1, (1, 2)),
    "text": (np.where(A, "m", "f"), ("f", "m")),
    "one-hot": (np.eye(2, dtype="float32")[A], "one-hot"),
    "floats": (A.astype("float32"), (0, 1)),
}


def trainer(adversary):
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 1))
    y = layers.Dense(2, activation="softmax")(layers.Flatten()(layers.Conv2D(2, 3, name="c")(x)))
    made = kp.AdversarialTrainer(kp.partition(keras.Model(x, y), at="c"), [adversary])
    made.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    return made


@pytest.mark.parametrize("name", CODED)
def test_an_attribute_of_any_coding_trains_as_its_class_indices_do(name):
    values, meaning = CODED[name]
    losses = []
    for given, told in ((A, None), (values, meaning)):
        adversary = kp.AttributeAdversary("sex", classes=2, values=told)
        again = kp.AttributeAdversary.from_config(adversary.get_config())
        assert again.values == adversary.values
        losses.append(trainer(again).fit(X, {"task": Y, "sex": given}, verbose=0, shuffle=False).history["sex_loss"])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ["-1/1", "text", "one-hot"])
def test_a_value_that_was_not_told_is_refused(name):
    values, meaning = CODED[name]
    values = np.array(values)
    values[3] = {"-1/1": 0, "text": "x", "one-hot": 0.5}[name]
    with pytest.raises(TrainingError, match="of the attribute 'sex'"):
        trainer(kp.AttributeAdversary("sex", classes=2, values=meaning)).fit(X, {"task": Y, "sex": values}, verbose=0)


@pytest.mark.parametrize("values", [(0,), (0, 0), ("f", 1), "f", (1, 2, 3)])
def test_values_that_are_not_one_a_class_are_refused(values):
    with pytest.raises(TrainingError, match="expected 2 different ones"):
        kp.AttributeAdversary("sex", classes=2, values=values)


@pytest.mark.parametrize("as_dict", [False, True])
def test_the_outputs_names_may_stand_in_place_of_the_task(as_dict):
    def made():
        keras.utils.set_random_seed(0)
        x = keras.Input((8, 8, 1))
        flat = layers.Flatten()(layers.Conv2D(2, 3, name="c")(x))
        kind, size = layers.Dense(2, name="kind")(flat), layers.Dense(1, name="size")(flat)
        model = keras.Model(x, {"kind": kind, "size": size} if as_dict else [kind, size])
        found = kp.AdversarialTrainer(kp.partition(model, at="c"), [kp.AttributeAdversary("sex", classes=2)])
        crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        found.compile(optimizer="adam", loss={"kind": crossentropy, "size": "mse"} if as_dict else [crossentropy, "mse"])
        return found

    size = RNG.random((32, 1)).astype("float32")
    bare = made().fit(X, {"size": size, "kind": Y, "sex": A}, verbose=0, shuffle=False).history["loss"]
    named = made().fit(X, {"task": {"kind": Y, "size": size} if as_dict else [Y, size], "sex": A}, verbose=0, shuffle=False)
    assert bare == named.history["loss"]
    with pytest.raises(TrainingError, match=r"'task' among them, or those of all outputs, \['kind', 'size'\]"):
        made().fit(X, {"kind": Y, "sex": A}, verbose=0)
