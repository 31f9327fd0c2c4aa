"""Distillation: what a teacher teaches, without labels, and what it cannot."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import TrainingError
from keras_privpart.training.distillation import Distillation, as_logits, feature_distance, softened_divergence

RNG = np.random.default_rng(0)


def test_the_divergence_by_hand():
    teacher, student = RNG.normal(size=(2, 5, 3)).astype("float32")
    p, q = (np.exp(x / 2) / np.exp(x / 2).sum(axis=1, keepdims=True) for x in (teacher, student))
    want = 4 * (p * np.log(p / q)).sum(axis=1)
    np.testing.assert_allclose(softened_divergence(teacher, student, 2.0), want, rtol=1e-4)
    np.testing.assert_allclose(softened_divergence(teacher, teacher, 2.0), 0, atol=1e-6)
    single = softened_divergence(teacher[:, :1], student[:, :1], 2.0)
    pair = softened_divergence(*(np.concatenate([0 * x[:, :1], x[:, :1]], 1) for x in (teacher, student)), 2.0)
    np.testing.assert_allclose(single, pair)


def test_probabilities_as_logits():
    logits = RNG.normal(size=(5, 3)).astype("float32")
    np.testing.assert_allclose(tf.nn.softmax(as_logits(tf.nn.softmax(logits), False)), tf.nn.softmax(logits), rtol=1e-4)
    np.testing.assert_allclose(as_logits(tf.sigmoid(logits[:, :1]), False), logits[:, :1], rtol=1e-3)
    assert as_logits(logits, True) is not None
    np.testing.assert_array_equal(as_logits(logits, True), logits)


def test_features_in_units_of_the_teachers_variance():
    teacher = RNG.normal(size=(500, 2, 3)).astype("float32") * 10
    np.testing.assert_allclose(np.mean(feature_distance(teacher, teacher * 0)), 1, rtol=0.1)
    np.testing.assert_array_equal(feature_distance(teacher, teacher.reshape(500, 6)), np.zeros(500))


def accuracy(model, tiny):
    return float(np.mean(model.predict(tiny.x, verbose=0).argmax(axis=1) == tiny.y))


@pytest.fixture(scope="module")
def teacher(tiny):
    """Has learnt its data by heart."""
    model = tiny.compiled(tiny.plain_model(), optimizer=keras.optimizers.Adam(3e-2))
    tiny.fit(model, 60, tf.data.Dataset.from_tensor_slices((tiny.x, tiny.y)).batch(16))
    assert accuracy(model, tiny) > 0.7
    return model


def test_pictures_without_labels_will_do(tiny, teacher):
    """The student starts elsewhere and answers like its teacher after a while; labels are never seen, attributes are."""
    before = teacher.get_weights()
    student = keras.models.clone_model(teacher)
    parts = kp.partition(student, at="narrow")
    trainer = kp.AdversarialTrainer(parts, [kp.AttributeAdversary("Male", weight=0.0, kind="linear")], teacher=teacher)
    trainer.compile(keras.optimizers.Adam(3e-2), metrics=["accuracy"])
    unlabelled = tf.data.Dataset.from_tensor_slices((tiny.x, {"Male": tiny.targets["Male"]})).batch(16)
    history = trainer.fit(unlabelled, epochs=80, validation_data=unlabelled, shuffle=False, verbose=0).history
    assert history["loss"][-1] < history["loss"][0] / 2
    assert history["val_accuracy"][-1] > 0.65, "how often it agrees with its teacher"
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True))


def test_pictures_alone_will_do(tiny, teacher):
    trainer = kp.AdversarialTrainer(kp.partition(keras.models.clone_model(teacher), at="narrow"), teacher=teacher)
    trainer.compile(keras.optimizers.Adam(1e-2))
    history = trainer.fit(tf.data.Dataset.from_tensor_slices(tiny.x).batch(16), epochs=5, shuffle=False, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_a_teacher_whose_layers_the_halves_share_stays_as_it_is(tiny, teacher):
    """The usual case: the trained model gets a bottleneck, and learns from what it was before."""
    shared = kp.partition(teacher, at="narrow", independent=True)
    narrow = kp.with_bottleneck(shared, 1)
    settings = Distillation(features=("bottleneck_expansion", "narrow"))
    trainer = kp.AdversarialTrainer(narrow, teacher=shared, distillation=settings)
    trainer.compile(keras.optimizers.Adam(1e-2))
    answers = trainer.teacher(tiny.x)
    history = trainer.fit(tf.data.Dataset.from_tensor_slices(tiny.x).batch(16), epochs=10, shuffle=False, verbose=0).history
    np.testing.assert_array_equal(trainer.teacher(tiny.x), answers)
    np.testing.assert_allclose(teacher(tiny.x), answers, rtol=1e-5)
    assert history["loss"][-1] < history["loss"][0]


def test_a_trainer_with_a_teacher_is_saved_and_goes_on(tiny, teacher, tmp_path):
    trainer = kp.AdversarialTrainer(kp.partition(keras.models.clone_model(teacher), at="narrow"), teacher=teacher)
    trainer.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tiny.fit(trainer)
    trainer.save(tmp_path / "trainer.keras")
    again = keras.models.load_model(tmp_path / "trainer.keras")
    np.testing.assert_array_equal(again.teacher(tiny.x), trainer.teacher(tiny.x))
    assert tiny.fit(again)["loss"] == pytest.approx(tiny.fit(trainer)["loss"])


def test_what_no_teacher_can_teach_is_refused(tiny, teacher):
    def trainer(model=teacher, **settings):
        return kp.AdversarialTrainer(kp.partition(tiny.model(), at="narrow"), teacher=model, distillation=Distillation(**settings))

    x = keras.Input((8, 8, 1))
    with pytest.raises(TrainingError, match=r"answers \[\(None, 2\)\]; expected the one output .*\(None, 3\)"):
        trainer(keras.Model(x, layers.Dense(2)(layers.Flatten()(x))))
    with pytest.raises(TrainingError, match=r"do not say alike .*from_logits"):
        trainer(keras.Model(x, layers.Dense(3, activation="softmax")(layers.Flatten()(x))))
    with pytest.raises(TrainingError, match=r"the feature 'nowhere' of the server half; expected the address of one of its tensors"):
        trainer(features=("nowhere", "narrow"))
    with pytest.raises(TrainingError, match=r"weight=2.0 .*at most 1"):
        Distillation(weight=2.0)
    with pytest.raises(TrainingError, match=r"addresses of two tensors"):
        Distillation(features=("one",))
    with pytest.raises(TrainingError, match=r"without a teacher"):
        kp.AdversarialTrainer(kp.partition(tiny.model(), at="narrow"), distillation=Distillation())
    labels_missing = trainer(weight=0.5)
    labels_missing.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(TrainingError, match="Received no targets"):
        labels_missing.fit(tf.data.Dataset.from_tensor_slices(tiny.x).batch(16), shuffle=False, verbose=0)
