"""Task accuracy from the server half's answer, and the undefended twin."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_privpart.auditing.knowledge.splits import split
from keras_privpart.auditing.task import correct, undefended_twin
from keras_privpart.channels import GaussianChannel
from keras_privpart.contract import Boundary, TensorSpec
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.partition import partition

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


@pytest.fixture(scope="module")
def defended():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="cut")(image)
    scores = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
    model = keras.Model(image, scores)
    model.set_weights([w * 0 for w in model.get_weights()])
    return partition(model, "cut").with_channel(GaussianChannel(stddev=5.0))


def test_twin_is_trained_without_the_defence(defended, digits, monkeypatch):
    monkeypatch.setattr("keras_privpart.auditing.task.EPOCHS", 40)
    before = [w.copy() for w in defended.model.get_weights()]
    parts = split(*digits, 0.15, 0)
    twin, how = undefended_twin(defended, parts.known, parts.held_out, seed=0)
    assert "epochs" in how
    assert twin.channel == ()
    assert twin.boundary.sources == defended.boundary.sources
    answers = np.asarray(twin.server(twin.device(parts.victims.x)))
    assert correct([answers], parts.victims).mean() > 0.8  # an untrained one has 0.1
    for a, b in zip(before, defended.model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_twin_needs_classes_one_output_and_addresses(defended, digits):
    train = digits[0]
    with pytest.raises(AuditError, match=r'no whole-number labels "task".*reference='):
        undefended_twin(defended, Samples(train.x, {}), train, 0)
    two = keras.Model(defended.model.input, [defended.model.output, defended.model.output * 2])
    with pytest.raises(AuditError, match=r"outputs \[\[None, 10\], \[None, 10\]\].*reference="):
        undefended_twin(replace(defended, model=two), train, train, 0)
    nameless = Boundary((TensorSpec("boundary", (None, 3, 3, 4), "float32"),))
    with pytest.raises(AuditError, match=r"where the model was cut.*reference="):
        undefended_twin(replace(defended, boundary=nameless), train, train, 0)


def test_a_model_that_cannot_be_copied(defended, digits):
    class Subclassed(keras.Model):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return self.inner(x)

        @property
        def outputs(self):
            return self.inner.outputs

    with pytest.raises(AuditError, match=r"cannot be copied.*reference="):
        undefended_twin(replace(defended, model=Subclassed(defended.model)), digits[0], digits[0], 0)
