"""The task: which answers are right, which loss fits an output, and how plain training goes."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_privpart.datasets import Samples
from keras_privpart.errors import TrainingError
from keras_privpart.training.task import (
    SmoothedCrossentropy,
    correct,
    count_classes,
    learn_task,
    task_accuracy,
    task_loss,
    unlabelled,
    unscored,
)

X = np.random.default_rng(0).uniform(size=(40, 4)).astype("float32")
LABELS = Samples(np.zeros((3, 2)), {"task": np.array([0, 1, 1])})


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], [1, 1, 0]),
        ([[-3.0], [2.0], [-0.1]], [1, 1, 0]),
        ([[0.4], [0.6], [0.3]], [1, 1, 0]),
    ],
    ids=["classes", "logit", "probability"],
)
def test_correct_answers(answer, right):
    assert correct([np.array(answer)], LABELS).tolist() == right


@pytest.mark.parametrize(
    ("answer", "targets"),
    [
        ([np.zeros((3, 2))] * 2, LABELS.targets),
        ([np.zeros((3, 4, 4, 2))], LABELS.targets),
        ([np.zeros((3, 2))], {}),
        ([np.zeros((3, 2))], {"task": np.array([0.5, 1.5, 2.5])}),
    ],
    ids=["two outputs", "a map", "no labels", "regression"],
)
def test_tasks_without_accuracy(answer, targets):
    assert correct(answer, Samples(np.zeros((3, 2)), targets)) is None


def model(*head):
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    y = x
    for layer in head:
        y = layer(y)
    return keras.Model(x, y)


HEADS = {
    "logits": ([layers.Dense(3)], False),
    "softmax": ([layers.Dense(3, activation="softmax")], True),
    "a softmax layer": ([layers.Dense(3), layers.Softmax()], True),
    "an activation layer": ([layers.Dense(3), layers.Activation("softmax")], True),
    "a softmax of keras.ops": ([layers.Dense(3), keras.ops.softmax], True),
    "a softmax under a name": ([layers.Dense(3, activation="softmax"), layers.Identity(name="scores")], True),
    "a nested softmax": ([keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])], True),
    "half precision": ([layers.Dense(3, activation="softmax", dtype="mixed_float16")], True),
    "logits behind an operation": ([layers.Dense(3), lambda y: y * 2.0], False),
    "logit": ([layers.Dense(1)], False),
    "logits within [0, 1]": ([layers.Dense(1, kernel_initializer="zeros", bias_initializer=keras.initializers.Constant(0.4))], False),
    "sigmoid": ([layers.Dense(1, activation="sigmoid")], True),
    "a sigmoid of keras.ops": ([layers.Dense(1), keras.ops.sigmoid], True),
}


@pytest.mark.parametrize(("head", "probabilities"), HEADS.values(), ids=HEADS)
def test_loss_and_accuracy_follow_the_output(head, probabilities):
    net = model(*head)
    answers, labels = net.predict(X, verbose=0), np.arange(40) % 2
    loss, accuracy = task_loss(net, X), task_accuracy(net, X)
    names = ("binary_crossentropy", "sparse_categorical_crossentropy")
    want = getattr(keras.losses, names[answers.shape[1] > 1])(labels.reshape(-1, 1), answers, from_logits=not probabilities)
    np.testing.assert_allclose(loss(labels, answers), np.mean(want), rtol=1e-3)
    accuracy.update_state(labels, answers)
    chosen = answers.argmax(1) if answers.shape[1] > 1 else answers[:, 0] > (0.5 if probabilities else 0.0)
    assert accuracy.name == "accuracy"
    assert float(accuracy.result()) == pytest.approx(np.mean(chosen == labels))


def test_a_single_unit_tells_two_classes():
    assert count_classes(model(layers.Dense(1))) == 2
    assert count_classes(model(layers.Dense(3))) == 3


def test_outputs_whose_loss_nobody_can_guess():
    x = keras.Input((4,))
    for outputs in ([layers.Dense(2)(x), layers.Dense(3)(x)], layers.Reshape((2, 2))(x)):
        net = keras.Model(x, outputs)
        assert "can be trained" in unscored(net)
    with pytest.raises(TrainingError, match=r"2 outputs; expected one.*Train it with AdversarialTrainer"):
        task_loss(keras.Model(x, [layers.Dense(2)(x), layers.Dense(3)(x)]), X)


def test_labels_that_are_no_classes():
    assert unlabelled(Samples(X, {"task": np.arange(40)})) is None
    assert "no whole-number labels" in unlabelled(Samples(X, {"task": X[:, 0]}))
    assert "no whole-number labels" in unlabelled(Samples(X, {}))


def test_learning_keeps_the_best_weights():
    net = model(layers.Dense(2))
    data = Samples(X, {"task": (X[:, 0] > 0.5).astype(int)})
    before = float(task_loss(net, X)(data.targets["task"], net(X)))
    assert 1 <= learn_task(net, task_loss(net, X), data, data, most=5) <= 5
    assert float(task_loss(net, X)(data.targets["task"], net(X))) < before


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_labels_are_smoothed_as_keras_smooths_rows(activation):
    net = model(layers.Dense(3, activation=activation))
    answers, labels = net(X), np.arange(40) % 3
    loss = task_loss(net, X, label_smoothing=0.2)
    want = keras.losses.CategoricalCrossentropy(from_logits=activation is None, label_smoothing=0.2)(np.eye(3)[labels], answers)
    assert float(loss(labels, answers)) == pytest.approx(float(want), rel=1e-5)
    assert float(loss(labels[:, None], answers)) == pytest.approx(float(want), rel=1e-5)
    assert type(loss).from_config(loss.get_config()).get_config() == loss.get_config()
    off = SmoothedCrossentropy(0.0, activation is None)(labels, answers)
    assert float(off) == pytest.approx(float(task_loss(net, X)(labels, answers)), rel=1e-5)


def test_a_single_units_labels_are_smoothed_too():
    net = model(layers.Dense(1))
    want = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2)(np.ones((40, 1)), net(X))
    assert float(task_loss(net, X, 0.2)(np.ones(40), net(X))) == pytest.approx(float(want), rel=1e-5)
