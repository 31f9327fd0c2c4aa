"""Penalties on the rate: values and gradients in closed form, what they do to a training, and what is refused."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_privpart as kp
from keras_privpart.channels import GaussianChannel
from keras_privpart.contract import Boundary, TensorSpec
from keras_privpart.errors import TrainingError
from keras_privpart.training.privacy_terms.rate import BitsBeyondClass, ClassMeanPull
from keras_privpart.training.privacy_terms.regularizer import Crossing

STDDEV = 0.5
RNG = np.random.default_rng(0)
MIXING = RNG.normal(size=(4, 4)) * np.array([1.0, 0.5, 0.2, 0.0])
CENTRES = 5 * RNG.normal(size=(3, 4))


def boundary(width):
    return Boundary((TensorSpec("boundary", (None, width), "float32"),))


def batch(size, seed, noise=STDDEV):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size)
    rows = CENTRES[labels] + rng.normal(size=(size, 4)) @ MIXING.T + noise * rng.normal(size=(size, 4))
    return tf.constant(rows, "float32"), tf.constant(labels)


def penalty(term, state, rows, labels, training=True):
    return term.penalty(Crossing(None, [rows], labels, {}, 0, training=training, state=state))


def closed_form():
    return np.linalg.slogdet(np.eye(4) + MIXING @ MIXING.T / STDDEV**2)[1] / (2 * math.log(2))


@pytest.mark.parametrize(("with_noise", "noise"), [(True, STDDEV), (False, 0.0)])
def test_the_running_value_comes_to_the_closed_form(with_noise, noise):
    term = BitsBeyondClass(3, stddev=STDDEV, with_noise=with_noise, momentum=0.995)
    state = term.state(boundary(4))
    first = float(penalty(term, state, *batch(32, 0, noise)))
    for seed in range(1, 600):
        last = float(penalty(term, state, *batch(64, seed, noise)))
    assert last == pytest.approx(closed_form(), rel=0.02)
    assert math.isfinite(first)
    before = [w.numpy() for w in state.weights]
    assert float(penalty(term, state, *batch(64, 0, noise), training=False)) == last
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, state.weights, strict=True)), "validation teaches it nothing"


def test_its_gradient_is_that_of_the_determinant():
    term = BitsBeyondClass(3, stddev=STDDEV, momentum=0.0)
    rows, labels = batch(400, 1)
    state = term.state(boundary(4))
    with tf.GradientTape() as tape:
        tape.watch(rows)
        value = penalty(term, state, rows, labels)
    got = tape.gradient(value, rows).numpy()
    exact = tf.cast(rows, tf.float64)
    one_hot = tf.one_hot(labels, 3, dtype=tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(exact)
        means = tf.matmul(one_hot, exact, transpose_a=True) / tf.reduce_sum(one_hot, axis=0)[:, None]
        apart = exact - tf.gather(means, labels)
        covariance = tf.matmul(apart, apart, transpose_a=True) / 400 / STDDEV**2
        bits = tf.linalg.slogdet(covariance)[1] / (2 * math.log(2))
    assert float(value) == pytest.approx(float(bits), abs=1e-3)
    np.testing.assert_allclose(got, tape.gradient(bits, exact), atol=1e-3 * np.abs(got).max())


def test_below_the_target_there_is_neither_value_nor_slope():
    rows, labels = batch(200, 2)
    for target, slope in ((1.0, True), (50.0, False)):
        term = BitsBeyondClass(3, stddev=STDDEV, target=target, momentum=0.0)
        with tf.GradientTape() as tape:
            tape.watch(rows)
            value = penalty(term, term.state(boundary(4)), rows, labels)
        assert (float(value) > 0) is slope
        assert bool(np.abs(tape.gradient(value, rows)).max() > 0) is slope


def test_the_pull_is_never_below_the_determinant_and_equal_where_little_crosses():
    for scale, equal in ((1.0, False), (0.01, True)):
        rows, labels = batch(4000, 3, 0.0)
        values = []
        for kind in (BitsBeyondClass, ClassMeanPull):
            term = kind(3, stddev=STDDEV, with_noise=False, momentum=0.0)
            values.append(float(penalty(term, term.state(boundary(4)), scale * rows, labels)))
        assert values[0] <= values[1]
        assert (values[1] < 1.05 * values[0]) is equal


def test_a_wide_boundary_is_bounded_by_its_variances():
    width = 600
    rows = tf.constant(np.random.default_rng(4).normal(size=(5000, width)), "float32")
    term = BitsBeyondClass(1, stddev=1.0, with_noise=False, momentum=0.0)
    state = term.state(boundary(width))
    assert max(w.numpy().size for w in state.weights) == width
    assert float(penalty(term, state, rows, tf.zeros([5000], tf.int32))) == pytest.approx(width / 2, rel=0.02)


def test_a_boundary_without_noise_breaks_nothing():
    term = BitsBeyondClass(1, stddev=1.0)
    state, rows = term.state(boundary(3)), tf.zeros([16, 3])
    for _ in range(2000):
        value = penalty(term, state, rows, tf.zeros([16], tf.int32))
    assert float(value) == 0.0


@pytest.mark.parametrize("kind", [BitsBeyondClass, ClassMeanPull])
def test_training_brings_what_crosses_down_to_the_target_and_keeps_the_task(kind):
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, 300)
    x = (4 * np.eye(3, 8)[y] + rng.normal(size=(300, 8))).astype("float32")
    found = []
    for weight in (0.0, 1.0):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8,))
        z = keras.layers.Dense(4, name="z")(keras.layers.Dense(16, activation="relu")(inputs))
        parts = kp.partition(keras.Model(inputs, keras.layers.Dense(3)(z)), at="z")
        term = kind(3, stddev=0.3, target=0.5, weight=weight)
        trainer = kp.AdversarialTrainer(parts, channel=GaussianChannel(0.3), regularizers=[term])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trainer.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss, metrics=["accuracy"])
        history = trainer.fit(x, y, batch_size=60, epochs=40, verbose=0).history
        found.append((history[term.name][-1], history["accuracy"][-1]))
    (free, _), (bound, accuracy) = found
    assert bound < 0.8 * free
    assert accuracy > 0.9


def test_what_is_running_is_saved_with_the_trainer(tiny, tmp_path):
    trainer = tiny.trainer(regularizers=[BitsBeyondClass(3, stddev=0.1)], compile={"run_eagerly": True})
    trainer.train_on_batch(tiny.x, tiny.y)
    trainer.save_weights(tmp_path / "t.weights.h5")
    again = tiny.trainer(regularizers=[BitsBeyondClass(3, stddev=0.1)], compile={"run_eagerly": True})
    again.load_weights(tmp_path / "t.weights.h5")
    pairs = zip(trainer.regularizer_states[0].weights, again.regularizer_states[0].weights, strict=True)
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)
    assert float(again.regularizer_states[0].counts.numpy().sum()) > 0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: BitsBeyondClass(0), "Received classes=0 for 'bits_beyond_class'"),
        (lambda: BitsBeyondClass(3, stddev=0), "Received stddev=0"),
        (lambda: BitsBeyondClass(3, target=-1), "Received target=-1"),
        (lambda: ClassMeanPull(3, momentum=1.0), "Received momentum=1.0 for 'class_mean_pull'; expected a number of at least 0 and under"),
        (lambda: penalty(BitsBeyondClass(3), None, *batch(4, 0)), "Received a batch without a state for 'bits_beyond_class'"),
        (
            lambda: BitsBeyondClass(3).state(Boundary((TensorSpec("boundary", (None, None, 4), "float32"),))),
            "Received a boundary of open size",
        ),
    ],
)
def test_bad_arguments_are_refused(make, text):
    with pytest.raises(TrainingError, match=text):
        make()
