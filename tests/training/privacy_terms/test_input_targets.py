"""A reconstruction adversary reads back every kind of input, each a row; halves that mind it send less."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import TrainingError

COUNT = 256


def tokens(rng):
    words = keras.Input((5,), dtype="int32", name="words")
    z = layers.Dense(6, name="cut")(layers.Embedding(9, 6, mask_zero=False, name="embedding")(words))
    return words, layers.Flatten()(z), {"words": rng.integers(0, 9, (COUNT, 5))}


def signal(rng):
    wave = keras.Input((32, 3), name="wave")
    z = layers.Conv1D(3, 1, name="cut")(wave)
    return wave, layers.Flatten()(z), {"wave": rng.normal(0, 0.2, (COUNT, 1, 3)) * np.ones((1, 32, 1))}


def table(rng):
    columns = keras.Input((4,), name="columns")
    z = layers.Dense(4, name="cut")(columns)
    return columns, z, {"columns": rng.normal(100, 30, (COUNT, 4))}


def mixed(rng):
    town, columns = keras.Input((1,), dtype="int32", name="town"), keras.Input((3,), name="columns")
    photo = keras.Input((4, 4, 1), name="photo")
    parts = [layers.Flatten()(layers.Embedding(5, 4)(town)), columns, layers.Flatten()(photo)]
    z = layers.Dense(16, name="cut")(layers.Concatenate()(parts))
    x = {"town": rng.integers(0, 5, (COUNT, 1)), "columns": rng.normal(size=(COUNT, 3)), "photo": rng.random((COUNT, 4, 4, 1))}
    inputs = {"town": town, "columns": columns, "photo": photo}
    return inputs, z, {name: value.astype("float32") if value.dtype == "float64" else value for name, value in x.items()}


ROWS = {"tokens": tokens, "signal": signal, "table": table, "three inputs": mixed}


def trained(make, adversary, halves, **options):
    """The share that is read back, epoch by epoch: first only the adversary learns, then only the halves do, for so many epochs each."""
    keras.utils.set_random_seed(0)
    inputs, z, x = make(np.random.default_rng(0))
    parts = kp.partition(keras.Model(inputs, layers.Dense(2)(z)), at="cut")
    trainer = kp.AdversarialTrainer(parts, [kp.ReconstructionAdversary(20.0, **options)])
    data = tf.data.Dataset.from_tensor_slices((x if len(x) > 1 else next(iter(x.values())), np.arange(COUNT) % 2)).batch(32)
    found = []
    for epochs, rates in ((adversary, (0.0, 1e-2)), (halves, (1e-2, 0.0))):
        if epochs:
            trainer.compile(*map(keras.optimizers.Adam, rates), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            found.append(trainer.fit(data, epochs=epochs, shuffle=False, verbose=0).history["reconstruction_recovered"])
    return found


@pytest.mark.parametrize("make", ROWS.values(), ids=ROWS)
def test_what_the_boundary_tells_is_read_back_and_the_halves_hide_it(make):
    read, hidden = trained(make, 12, 6)
    assert read[-1] > read[0] + 0.1
    assert read[-1] > 0.3
    assert hidden[-1] < read[-1] - 0.2


def test_one_of_several_inputs_can_be_named():
    ((*_, last),) = trained(mixed, 10, 0, input="town")
    assert last > 0.2
    with pytest.raises(TrainingError, match="input='age'; expected one of columns, photo, town"):
        trained(mixed, 1, 0, input="age")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": kp.goals.Dissimilarity()}, "goal=Dissimilarity for 'reconstruction', which reads back words; expected Reversal"),
        ({"input_kind": "sound"}, "input_kind='sound'; expected one of picture"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(TrainingError, match=message):
        trained(tokens, 1, 0, **options)


def test_sequences_of_any_length_are_refused():
    words = keras.Input((None,), dtype="int32", name="words")
    z = layers.GlobalAveragePooling1D(name="cut")(layers.Embedding(9, 6)(words))
    with pytest.raises(TrainingError, match=r"'words' of shape \[None\]; an adversary expects fixed sizes"):
        kp.AdversarialTrainer(kp.partition(keras.Model(words, layers.Dense(2)(z)), at="cut"), [kp.ReconstructionAdversary()])


def test_config_names_input_and_kind():
    adversary = kp.ReconstructionAdversary(input="words", input_kind={"words": "table"})
    again = kp.ReconstructionAdversary.from_config(adversary.get_config())
    assert (again.input, again.input_kind) == ("words", {"words": "table"})
