"""Every cut of every architecture: the halves compose to the whole, bit for bit, and the whole stays as it was."""

import json

import keras
import numpy as np
import pytest

import keras_privpart as kp

# Keras says so of any nested model, and passes the mask on all the same.
pytestmark = pytest.mark.filterwarnings("ignore:Layer 'encoder' .of type Sequential. was passed an input with a mask")


def _same(a, b):
    keras.tree.assert_same_structure(a, b)
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(keras.tree.flatten(a), keras.tree.flatten(b), strict=True))


def _names(model):
    return [symbol._keras_history.operation.name for symbol in model.outputs] if isinstance(model, keras.Sequential) else model.output_names


def test_every_cut_composes(architecture):
    model, x = architecture
    table = kp.cuts(model)
    assert len(table) > 0
    assert kp.cuts(model) == table
    for cut in table:
        parts = kp.partition(model, at=cut)
        parts.verify(x)
        assert parts.boundary == cut.boundary
        assert tuple(parts.boundary.sources[: len(cut.tensors)]) == cut.tensors
        assert parts.server.output_names == _names(model)
        for spec, symbol in zip(parts.boundary.tensors, parts.server.inputs, strict=True):
            assert (spec.name, spec.shape, spec.dtype) == (symbol.name, tuple(symbol.shape), symbol.dtype)


def test_output_structure_is_the_models_own(architecture):
    model, x = architecture
    parts = kp.partition(model)
    assert _same(model(x, training=False), parts.server(parts.device(x, training=False), training=False))
    # In graph mode TensorFlow fuses operations differently in the halves, hence not bit for bit.
    predicted = parts.server.predict(parts.device.predict(x, verbose=0), verbose=0)
    keras.tree.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), model.predict(x, verbose=0), predicted)


def test_model_is_left_alone(architecture):
    model, x = architecture
    config = json.dumps(model.get_config(), sort_keys=True, default=str)
    weights = [w.copy() for w in model.get_weights()]
    variables = [v.path for v in model.variables]
    before = model(x, training=False)
    parts = kp.partition(model)
    parts.verify(x)
    kp.partition(model, at=kp.cuts(model)[-1], independent=True).verify(x)
    assert json.dumps(model.get_config(), sort_keys=True, default=str) == config
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert [v.path for v in model.variables] == variables
    assert _same(before, model(x, training=False))


def test_saved_halves_load_and_compose(architecture, tmp_path):
    model, x = architecture
    table = kp.cuts(model)
    saved = kp.partition(model, at=table[len(table) // 2])
    saved.save(tmp_path / "parts")
    loaded = kp.Partition.load(tmp_path / "parts")
    loaded.verify(x)
    assert loaded.boundary == saved.boundary
    assert loaded.server.output_names == _names(model)
    assert _same(saved.device(x, training=False), loaded.device(x, training=False))


def test_halves_share_weights_unless_independent(architecture):
    model, x = architecture
    parts = kp.partition(model, at=kp.cuts(model)[-1])
    own = {id(v) for v in model.weights}
    assert {id(v) for v in (*parts.device.weights, *parts.server.weights)} <= own
    apart = kp.partition(model, at=kp.cuts(model)[-1], independent=True)
    apart.verify(x)
    mine = [*apart.device.weights, *apart.server.weights]
    assert not {id(v) for v in mine} & own
    assert len(parts.device.weights) == len(apart.device.weights)
    assert len(parts.device.trainable_weights) == len(apart.device.trainable_weights)
    for weight in apart.device.trainable_weights:
        weight.assign(weight + 1)
    apart.verify(x)  # whole and halves of the copy are one
    parts.verify(x)
