"""The server half as ONNX: the same answers as its SavedModel, and the pair in the name and the values of an output."""

import sys

import keras
import numpy as np
import pytest

import keras_privpart as kp
from keras_privpart.contract import Contract
from keras_privpart.errors import BundleError, IntegrityError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("tf2onnx")


def convolutional():
    keras.utils.set_random_seed(0)
    x = keras.Input((12, 12, 3), name="image")
    h = keras.layers.Conv2D(4, 3, activation="relu", name="stem")(x)
    h = keras.layers.BatchNormalization()(keras.layers.DepthwiseConv2D(3, padding="same")(h))
    h = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, strides=2, activation="gelu")(h))
    return keras.Model(x, keras.layers.Dense(5, activation="softmax", name="scores")(h))


def of_tokens():
    """Two boundary tensors, one of a free length; two outputs; attention and a recurrent layer."""
    keras.utils.set_random_seed(1)
    ids, extra = keras.Input((None,), dtype="int32", name="ids"), keras.Input((4,), name="extra")
    h = keras.layers.Embedding(11, 8, name="words")(ids)
    left = keras.layers.Dense(3, name="left")(extra)
    h = keras.layers.MultiHeadAttention(2, 4)(h, h)
    both = keras.layers.Concatenate()([keras.layers.GRU(6)(keras.layers.LayerNormalization()(h)), left])
    return keras.Model([ids, extra], {"label": keras.layers.Dense(3)(both), "age": keras.layers.Dense(1)(both)})


def answers(bundle, boundary):
    session = onnxruntime.InferenceSession(str(bundle.path / bundle.contract.server_folder / "model.onnx"))
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, boundary), strict=True))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    return kp.export(kp.partition(convolutional(), at="stem"), folder / "faces", server_format="onnx")


@pytest.mark.parametrize("batch", [1, 5])
def test_answers_are_those_of_the_whole_model(exported, batch):
    parts = kp.partition(convolutional(), at="stem")
    x = np.random.default_rng(2).random((batch, 12, 12, 3), np.float32)
    got = answers(exported, {"boundary": parts.device.predict(x, verbose=0)})
    np.testing.assert_allclose(got["scores"], parts.model.predict(x, verbose=0), rtol=1e-5, atol=1e-5)
    named = got[f"pair_fingerprint_{exported.contract.fingerprint}"]
    assert [row.tobytes().hex() for row in named] == [exported.contract.fingerprint] * batch


@pytest.mark.parametrize("encoding", ["none", "int8", "float16"])
def test_several_tensors_free_lengths_and_encodings(tmp_path, encoding):
    rng = np.random.default_rng(3)
    sample = {"ids": rng.integers(0, 11, (40, 7)).astype(np.int32), "extra": rng.random((40, 4), np.float32)}
    parts = kp.partition(of_tokens(), at=["words", "left"])
    bundle = kp.export(parts, tmp_path / "texts", encoding=encoding, sample=sample, server_format="onnx")
    described = onnx.load(bundle.path / "server/1/model.onnx")
    assert [tensor.name for tensor in described.graph.input] == list(bundle.contract.boundary.names)
    assert {entry.key: entry.value for entry in described.metadata_props}["pair"] == bundle.contract.fingerprint


def test_the_file_is_the_contracts(exported):
    contract = Contract.load(exported.path)
    assert contract.server_formats == ("saved_model", "onnx")
    file = exported.path / "server/1/model.onnx"
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    try:
        with pytest.raises(IntegrityError, match=r"server/1/model\.onnx"):
            contract.verify_files(exported.path)
    finally:
        file.write_bytes(raw)
    contract.verify_files(exported.path)


def test_no_onnx_unless_asked_for(tmp_path):
    bundle = kp.export(kp.partition(convolutional(), at="stem"), tmp_path / "faces")
    assert bundle.contract.server_formats == ("saved_model",)
    assert not (bundle.path / "server/1/model.onnx").exists()


class Bessel(keras.layers.Layer):
    """Has no counterpart in ONNX."""

    def call(self, x):
        import tensorflow as tf

        return tf.math.bessel_i1(x)


def test_what_onnx_lacks_is_named_and_nothing_is_left(tmp_path):
    x = keras.Input((6,))
    parts = kp.partition(keras.Model(x, keras.layers.Dense(2)(Bessel()(keras.layers.Dense(4, name="stem")(x)))), at="stem")
    with pytest.raises(BundleError, match=r"cannot be converted to ONNX: .*BesselI1\] is not supported"):
        kp.export(parts, tmp_path / "faces", server_format="onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_half_that_answers_otherwise_is_refused(tmp_path, monkeypatch):
    from keras_privpart.exporting import server_onnx

    right = server_onnx.server_function

    def wrong(partition, outputs):
        run = right(partition, outputs)
        return lambda *boundary: {name: value * 1.0001 for name, value in run(*boundary).items()}

    monkeypatch.setattr(server_onnx, "server_function", wrong)
    with pytest.raises(BundleError, match="ONNX server half"):
        kp.export(kp.partition(convolutional(), at="stem"), tmp_path / "faces", server_format="onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(BundleError, match=r"pip install 'keras_privpart\[onnx\]'"):
        kp.export(kp.partition(convolutional(), at="stem"), tmp_path / "faces", server_format="onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_server_format(tmp_path):
    with pytest.raises(BundleError, match="server_format"):
        kp.export(kp.partition(convolutional(), at="stem"), tmp_path / "faces", server_format="torch")
