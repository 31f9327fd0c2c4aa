"""What the inputs of models hold, by how the models read them."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_privpart.errors import AuditError
from keras_privpart.partitioning.input_kind import PICTURE, SIGNAL, TABLE, TOKENS, given_to, kinds_of
from keras_privpart.several_inputs import Inputs


class TokenAndPlace(layers.Layer):
    """An embedding inside a layer of somebody's own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.token = layers.Embedding(50, 4)

    def call(self, x):
        return self.token(x)


def model_of(shape, first, dtype=None):
    x = keras.Input(shape, dtype=dtype, name="x")
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(first(x))))


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (lambda: model_of((8, 8, 3), layers.Conv2D(2, 3)), PICTURE),
        (lambda: model_of((8, 8, 3), layers.Rescaling(1 / 255), "uint8"), PICTURE),
        (lambda: model_of((64, 1), layers.Conv1D(2, 3)), SIGNAL),
        (lambda: model_of((64,), lambda x: layers.Conv1D(2, 3)(layers.Reshape((64, 1))(x))), SIGNAL),
        (lambda: model_of((512,), lambda x: layers.STFTSpectrogram(frame_length=64, frame_step=32)(keras.ops.expand_dims(x, -1))), SIGNAL),
        (lambda: model_of((64,), layers.Dense(3)), TABLE),
        (lambda: model_of((1,), layers.Embedding(7, 2), "int32"), TABLE),
        (lambda: model_of((5,), layers.Dense(3), "int32"), TABLE),
        (lambda: model_of((5,), layers.Embedding(7, 2, mask_zero=False), "int32"), TOKENS),
        (lambda: model_of((5,), layers.Embedding(7, 2)), TOKENS),
        (lambda: model_of((5,), TokenAndPlace(), "int32"), TOKENS),
    ],
)
def test_kinds_are_inferred(model, kind):
    (found,) = kinds_of(model(), None, AuditError)
    assert (found.name, found.kind) == ("x", kind)


def test_what_the_caller_says_counts():
    model = model_of((64,), layers.Dense(3))
    assert kinds_of(model, {"x": SIGNAL}, AuditError)[0].kind == kinds_of(model, SIGNAL, AuditError)[0].kind == SIGNAL
    with pytest.raises(AuditError, match=r"\{'y': 'signal'\}; expected one of picture, signal, table, tokens, or such by input name \(x\)"):
        kinds_of(model, {"y": SIGNAL}, AuditError)


def test_masked_zeros_are_padding():
    masked = model_of((5,), lambda x: layers.GRU(2)(layers.Embedding(7, 2, mask_zero=True)(x)), "int32")
    assert (kinds_of(masked, None, AuditError)[0].values, kinds_of(masked, None, AuditError)[0].padding) == (7, 0)


def test_inputs_take_the_structure_of_the_model():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    model = keras.Model({"b": b, "a": a}, layers.Concatenate()([a, b]))
    x = Inputs({"a": np.zeros((4, 2)), "b": np.ones((4, 3))})
    assert np.asarray(model(given_to(model, x))).tolist() == [[0, 0, 1, 1, 1]] * 4
    assert len(x[1:3]) == 2
    assert x.nbytes == 4 * 5 * 8
