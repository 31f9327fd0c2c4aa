"""Attribute values that are no class indices are refused by name, given as arrays or as a data set; those that are go in unchanged."""

import numpy as np
import pytest
import tensorflow as tf

import keras_privpart as kp
from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms.checked_targets import checked_classes

HALF = np.arange(8) % 2
WRONG = {
    "-1 and 1": (np.where(HALF, 1, -1), "value -1 of|no class"),
    "1 and 2": (HALF + 1, "value 2 of|no class"),
    "0.5": (HALF * 0.5, r"value 0\.5 of|no class"),
    "text": (np.where(HALF, "f", "m"), "as text"),
    "one-hot": (np.eye(2, dtype="float32")[HALF], r"argmax"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("attribute_type", ["categorical", "binary"])
@pytest.mark.parametrize("given", ["arrays", "data set"])
def test_training_names_attribute_and_value(kind, attribute_type, given, tiny):
    values, message = WRONG[kind]
    parts = kp.partition(tiny.plain_model(), at="narrow")
    trainer = kp.AdversarialTrainer(parts, [kp.AttributeAdversary("sex", attribute_type=attribute_type)])
    trainer.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    x, y = tiny.x[:8], {"task": tiny.y[:8], "sex": values}
    with pytest.raises(TrainingError, match=message) as caught:
        trainer.fit(x, y, verbose=0) if given == "arrays" else trainer.fit(tf.data.Dataset.from_tensors((x, y)), shuffle=False, verbose=0)
    assert "'sex'" in str(caught.value)


@pytest.mark.parametrize("values", [[0, 2, 1], [[0], [2], [1]], [0.0, 2.0, 1.0], np.array([0, 2, 1], "uint8")])
def test_class_indices_of_any_kind_go_in(values):
    assert checked_classes("age", values, 3).numpy().ravel().tolist() == [0, 2, 1]
    traced = tf.function(lambda a: checked_classes("age", a, 3))
    assert traced(tf.constant(values)).numpy().ravel().tolist() == [0, 2, 1]


def test_booleans_are_classes():
    assert checked_classes("glasses", [True, False], 2).numpy().tolist() == [1, 0]
