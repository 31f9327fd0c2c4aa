"""Regularisers in the trainer: the Jacobian by hand, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_privpart as kp
from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms import regularizers


def linear(kernel):
    inputs = keras.Input((3,))
    z = layers.Dense(2, use_bias=False, name="device")(inputs)
    model = keras.Model(inputs, layers.Dense(1, use_bias=False)(z))
    model.get_layer("device").set_weights([kernel])
    return model


def test_the_jacobian_penalty_is_the_squared_norm_of_a_linear_map():
    kernel = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], "float32")
    penalty = regularizers.JacobianPenalty(1.0, projections=4000, stddev=0.5)
    x = tf.zeros([1, 3])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        z = tf.matmul(x, kernel)
    crossing = regularizers.Crossing(x, [z], None, {}, 0, lambda tensors, along: tape.gradient(tensors, x, output_gradients=along))
    penalty.projections = 400
    want = (kernel**2).sum() / 0.5**2 / 3
    assert float(penalty.penalty(crossing)) == pytest.approx(want, rel=0.15)
    limited = regularizers.JacobianPenalty(1.0, projections=1, limit=1e6)
    assert float(limited.penalty(crossing)) == 0


def test_its_gradient_shrinks_the_map():
    kernel = np.ones((3, 2), "float32")
    model = linear(kernel)
    trainer = kp.AdversarialTrainer(kp.partition(model, at="device"), regularizers=[regularizers.JacobianPenalty(1.0)])
    trainer.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
    x = np.zeros((8, 3), "float32")  # the task has no gradient at all here
    first = trainer.train_on_batch(x, np.zeros((8, 1), "float32"), return_dict=True)["fisher_information"]
    for _ in range(20):
        last = trainer.train_on_batch(x, np.zeros((8, 1), "float32"), return_dict=True)["fisher_information"]
    assert np.linalg.norm(model.get_layer("device").get_weights()[0]) < 0.8 * np.linalg.norm(kernel)
    assert last < first


def test_regularizers_are_logged_in_training_and_validation(tiny):
    trainer = tiny.trainer(
        regularizers=[regularizers.JacobianPenalty(0.1), regularizers.ConditionalEntropy(3)], compile={"run_eagerly": True}
    )
    logs = tiny.fit(trainer, validation_data=tiny.data())
    for name in ("fisher_information", "conditional_entropy"):
        assert logs[name][0] > 0
        assert logs[f"val_{name}"][0] > 0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: regularizers.ConditionalEntropy(0), "Received classes=0"),
        (lambda: regularizers.ConditionalEntropy(2, stddev=0), "Received stddev=0"),
        (lambda: regularizers.JacobianPenalty(projections=0), "Received projections=0"),
        (lambda: regularizers.DistanceCorrelation(-1), "Received weight=-1"),
    ],
)
def test_bad_arguments_are_refused(make, text):
    with pytest.raises(TrainingError, match=text):
        make()


def test_what_does_not_fit_the_data_is_refused(tiny):
    with pytest.raises(TrainingError, match="the regulariser 'Young_dependence' expects the key 'Young'"):
        tiny.fit(tiny.trainer(regularizers=[regularizers.AttributeDependence("Young")], compile={"run_eagerly": True}))
    trainer = tiny.trainer(regularizers=[regularizers.JacobianPenalty()], compile={"run_eagerly": True})
    with pytest.raises(TrainingError, match="Received whole numbers as inputs"):
        trainer.train_on_batch((255 * tiny.x).astype("uint8"), tiny.y)
