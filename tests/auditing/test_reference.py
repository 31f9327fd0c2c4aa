"""The undefended twin that an audit trains, and its place in the cache."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_privpart.auditing.knowledge.splits import split
from keras_privpart.auditing.reference import undefended, undefended_twin
from keras_privpart.auditing.store import digest_of_halves
from keras_privpart.channels import GaussianChannel
from keras_privpart.contract import Boundary, TensorSpec
from keras_privpart.datasets import Samples
from keras_privpart.errors import AuditError
from keras_privpart.partitioning.partition import partition
from keras_privpart.training.task import correct


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
    monkeypatch.setattr("keras_privpart.training.task.EPOCHS", 40)
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


def test_a_twin_is_trained_once(open_window, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_privpart.training.task.EPOCHS", 1)
    train, test = (Samples(s.x, {"task": s.targets["odd"]}) for s in digits)
    data = split(train, test, 0.15, 0)
    twin, origin = undefended(open_window, data, 0, tmp_path)
    monkeypatch.setattr("keras_privpart.auditing.reference.undefended_twin", lambda *_: pytest.fail("trained again"))
    again, same = undefended(open_window, data, 0, tmp_path)
    assert same == origin
    assert digest_of_halves(again) == digest_of_halves(twin)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        undefended(open_window, data, 1, tmp_path)
    monkeypatch.setattr("keras_privpart.__version__", "another")
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        undefended(open_window, data, 0, tmp_path)


def test_a_twin_keeps_what_its_layers_were_adapted_to_also_in_the_cache(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_privpart.training.task.EPOCHS", 1)
    data = split(*digits, 0.15, 0)

    def parts(pictures):
        keras.backend.clear_session()  # the same automatic names each time
        keras.utils.set_random_seed(0)
        normal = keras.layers.Normalization(axis=None, name="normal")
        normal.adapt(pictures)
        image = keras.Input((8, 8, 1))
        z = keras.layers.Conv2D(2, 3, name="cut")(normal(image))
        return partition(keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(z))), "cut")

    x = digits[0].x
    for _ in range(2):  # trained, then read from the cache
        twin, _ = undefended(parts(x), data, 0, tmp_path)
        normal = twin.model.get_layer("normal")
        np.testing.assert_allclose(normal(x), parts(x).model.get_layer("normal")(x))
    undefended(parts(x + 1.0), data, 0, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2, "other statistics, another twin"
