"""Training a pair: same start, same epochs, the partition left alone, labels checked."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_privpart as kp
from keras_privpart.datasets import Samples
from keras_privpart.errors import TrainingError
from keras_privpart.training.distillation import Distillation
from keras_privpart.training.privacy_terms.regularizers import DistanceCorrelation
from keras_privpart.training.recipe import Defence, Recipe, train_pair

RNG = np.random.default_rng(0)
DATA = Samples(RNG.uniform(size=(40, 8, 8, 1)).astype("float32"), {"task": RNG.integers(0, 3, 40)})


def parts(activation=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="image")
    z = layers.Conv2D(2, 3, strides=2, name="cut")(inputs)
    return kp.partition(keras.Model(inputs, layers.Dense(3, activation=activation, name="y")(layers.Flatten()(z))), at="cut")


def test_both_start_alike_and_the_given_partition_stays_as_it_is():
    given = parts()
    before = given.model.get_weights()
    seen = []
    adversary = kp.ReconstructionAdversary(weight=0.0)
    pair = train_pair(given, DATA, DATA, Recipe(epochs=2), Defence([adversary]), progress=lambda *step: seen.append(step[:2]))
    assert all(np.array_equal(a, b) for a, b in zip(before, given.model.get_weights(), strict=True))
    for a, b in zip(pair.undefended.model.get_weights(), pair.defended.model.get_weights(), strict=True):
        assert np.array_equal(a, b), "an adversary of weight 0 is no defence"
    assert not np.array_equal(before[0], pair.undefended.model.get_weights()[0])
    assert seen == [("undefended", 1), ("undefended", 2), ("defended", 1), ("defended", 2)]
    assert len(pair.defended_history["val_reconstruction_recovered"]) == 2


def test_a_defence_makes_a_difference():
    pair = train_pair(parts(), DATA, DATA, Recipe(epochs=1), Defence([kp.ReconstructionAdversary()], kp.GaussianChannel(0.5)))
    assert pair.undefended.channel == ()
    assert len(pair.defended.channel) == 1
    assert not np.array_equal(pair.undefended.model.get_weights()[0], pair.defended.model.get_weights()[0])


def test_labels_beyond_the_models_classes_are_refused():
    wrong = Samples(DATA.x, {"task": np.arange(40) % 4})
    with pytest.raises(TrainingError, match=r"Received the label 3 in the test data; expected 0 to 2.*'y' has 3 classes"):
        train_pair(parts(), DATA, wrong, Recipe(epochs=1))


def test_a_model_with_two_outputs_is_left_to_python():
    inputs = keras.Input((4,))
    z = layers.Dense(2, name="cut")(inputs)
    two = kp.partition(keras.Model(inputs, [layers.Dense(2)(z), layers.Dense(3)(z)]), at="cut")
    with pytest.raises(TrainingError, match=r"2 outputs; expected one.*in Python"):
        train_pair(two, DATA, DATA, Recipe(epochs=1))


def test_what_is_saved_scores_what_training_logged(tmp_path):
    """Behind an adapted layer, whose copy with equal weights computes something else unless all of its state is copied."""
    keras.utils.set_random_seed(0)
    x = DATA.x * 200 + 50
    normal = layers.Normalization(axis=None)
    normal.adapt(x)
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Dense(16, activation="relu", name="hidden")(layers.Flatten()(normal(inputs)))
    given = kp.partition(keras.Model(inputs, layers.Dense(3)(hidden)), at="hidden")
    data = Samples(x, DATA.targets)
    pair = train_pair(given, data, data, Recipe(epochs=3, learning_rate=1e-2))
    for trained, logs in ((pair.undefended, pair.undefended_history), (pair.defended, pair.defended_history)):
        trained.save(tmp_path / "run", overwrite=True)
        loaded = kp.Partition.load(tmp_path / "run")
        scores = loaded.server.predict(loaded.device.predict(x, verbose=0), verbose=0)
        assert logs["val_accuracy"][-1] == pytest.approx(np.mean(scores.argmax(axis=1) == data.targets["task"]))


def test_halves_that_were_loaded_apart_train_as_one(tmp_path):
    parts().save(tmp_path / "run")
    pair = train_pair(kp.Partition.load(tmp_path / "run"), DATA, DATA, Recipe(epochs=1))
    pair.undefended.verify(DATA.x)


def test_a_single_unit_is_trained_on_labels_of_two_classes():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    z = layers.Dense(8, activation="relu", name="cut")(layers.Flatten()(inputs))
    data = Samples(DATA.x, {"task": (DATA.x.mean(axis=(1, 2, 3)) > 0.5).astype(int)})
    pair = train_pair(kp.partition(keras.Model(inputs, layers.Dense(1)(z)), at="cut"), data, data, Recipe(epochs=40, learning_rate=1e-2))
    assert pair.undefended_history["val_accuracy"][-1] > 0.8


def test_a_pretrained_model_is_its_own_reference_and_keeps_its_server_half():
    given = parts()
    pair = train_pair(given, DATA, DATA, Recipe(epochs=1, initial="pretrained"), Defence([kp.ReconstructionAdversary()]))
    for mine, reference in zip(pair.undefended.model.get_weights(), given.model.get_weights(), strict=True):
        assert np.array_equal(mine, reference)
    assert len(pair.undefended_history["val_accuracy"]) == 1
    for mine, reference in zip(pair.defended.server.get_weights(), given.server.get_weights(), strict=True):
        assert np.array_equal(mine, reference)
    assert not np.array_equal(pair.defended.device.get_weights()[0], given.device.get_weights()[0])


def test_a_defence_describes_itself_in_json():
    defence = Defence([kp.ReconstructionAdversary(weight=0.5)], kp.QuantizeChannel(3), [DistanceCorrelation(2.0)], "alternating", 1, 2)
    found = json.loads(json.dumps(defence.describe()))
    assert [a["class"] for a in found["adversaries"]] == ["ReconstructionAdversary"]
    assert found["channel"]["class"] == "QuantizeChannel"
    assert found["regularizers"][0]["weight"] == 2.0
    assert (found["mode"], found["pool"], found["restart_every"]) == ("alternating", 1, 2)


def test_mode_pool_and_restarts_reach_the_trainer():
    plain = train_pair(parts(), DATA, DATA, Recipe(epochs=2), Defence([kp.ReconstructionAdversary()]))
    other = Defence([kp.ReconstructionAdversary()], mode="alternating", pool=1, restart_every=1)
    changed = train_pair(parts(), DATA, DATA, Recipe(epochs=2), other)
    assert np.array_equal(plain.undefended.model.get_weights()[0], changed.undefended.model.get_weights()[0])
    assert not np.array_equal(plain.defended.model.get_weights()[0], changed.defended.model.get_weights()[0])


def test_the_defended_one_may_learn_from_the_undefended_one():
    distilled = Defence(bottleneck=2, expand="dense", distillation=Distillation(features=("bottleneck_shape", "cut")))
    pair = train_pair(parts(), DATA, DATA, Recipe(epochs=1), distilled)
    assert pair.undefended.boundary.tensors[0].shape == (None, 3, 3, 2)
    assert pair.defended.boundary.tensors[0].shape == (None, 2)
    features = pair.defended.device.predict(DATA.x, verbose=0)
    assert np.allclose(features.std(0), 1, atol=0.5), "it begins at the principal components, of variance 1"
    wide = train_pair(parts(), DATA, DATA, Recipe(epochs=1, learning_rate=1e-9), Defence(distillation=Distillation()))
    for mine, teachers in zip(wide.defended.model.get_weights(), wide.undefended.model.get_weights(), strict=True):
        assert np.allclose(mine, teachers, atol=1e-6), "it starts from its weights"
    assert wide.defended_history["loss"][0] == pytest.approx(0, abs=1e-5), "and agrees with it"


def test_smoothing_and_averages_reach_the_trainer():
    plain = train_pair(parts(), DATA, DATA, Recipe(epochs=1, batch_size=8)).undefended.model.get_weights()[0]
    for changed in (Recipe(epochs=1, batch_size=8, label_smoothing=0.2), Recipe(epochs=1, batch_size=8, average=0.9)):
        assert not np.array_equal(train_pair(parts(), DATA, DATA, changed).undefended.model.get_weights()[0], plain)
