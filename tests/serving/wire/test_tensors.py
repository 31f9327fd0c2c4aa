"""Arrays to TensorProto and back, against TensorFlow's own conversion."""

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from keras_privpart.contract import DTYPES
from keras_privpart.errors import ServerFailedError
from keras_privpart.serving.local.servable import as_field_values
from keras_privpart.serving.wire import messages, tensors

NUMERIC = sorted(set(tensors.WIRE_TYPES) - {"string"})


def example(dtype):
    values = np.array([[0, 1, 2], [3, 100, 1]])
    if dtype == "bool":
        return values > 1
    if dtype == "string":
        return np.array([[b"", b"a", "\u00e4".encode()]], object)
    array = values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    return array / array.dtype.type(3) if dtype.endswith(("float16", "float32", "float64")) else array


def test_every_dtype_of_a_contract_travels():
    assert set(tensors.WIRE_TYPES) == DTYPES
    assert {name: wire.number for name, wire in tensors.WIRE_TYPES.items()} == {n: tf.as_dtype(n).as_datatype_enum for n in DTYPES}


@pytest.mark.parametrize("dtype", tensors.WIRE_TYPES)
def test_tensorflow_reads_what_is_sent(dtype):
    array, message = example(dtype), messages.TensorProto()
    tensors.encode(array, message)
    read = tf.io.parse_tensor(message.SerializeToString(), dtype).numpy()
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("dtype", tensors.WIRE_TYPES)
@pytest.mark.parametrize(
    "write", [tf.make_tensor_proto, as_field_values, lambda a: tensor_pb2.TensorProto.FromString(tf.io.serialize_tensor(a).numpy())]
)
def test_what_tensorflow_writes_is_read(dtype, write):
    array = example(dtype)
    read = tensors.decode(messages.TensorProto.FromString(write(array).SerializeToString()))
    assert read.dtype == (np.float32 if dtype == "bfloat16" else array.dtype)
    np.testing.assert_array_equal(read, array.astype(read.dtype))
    if dtype != "string":
        read += read  # the caller's own memory


def test_other_byte_orders_and_layouts_are_sent_right():
    plain = np.arange(12, dtype="<f4").reshape(3, 4)
    for array in (plain.astype(">f4"), plain[::-1, ::2], np.asfortranarray(plain)):
        message = messages.TensorProto()
        tensors.encode(array, message)
        np.testing.assert_array_equal(tf.io.parse_tensor(message.SerializeToString(), tf.float32), array)


def test_a_dtype_that_cannot_travel():
    with pytest.raises(ValueError, match="Received an array of complex128; expected one of"):
        tensors.encode(np.zeros(2, complex), messages.TensorProto())


def test_shortened_tensors_are_filled_up_as_tensorflow_does():
    def decode(*values, shape=(2, 3)):
        message = messages.TensorProto(dtype=1, float_val=values)
        for size in shape:
            message.tensor_shape.dim.add(size=size)
        real = tensor_pb2.TensorProto.FromString(message.SerializeToString())
        read = tensors.decode(message)
        np.testing.assert_array_equal(read, tf.io.parse_tensor(real.SerializeToString(), tf.float32))
        return read.tolist()

    assert decode(1.0, 2.0) == [[1, 2, 2], [2, 2, 2]]
    assert decode() == [[0, 0, 0], [0, 0, 0]]
    assert decode(7.0, shape=()) == 7.0
    assert decode(shape=(0, 3)) == []


@pytest.mark.parametrize(
    ("fields", "shape", "text"),
    [
        ({"dtype": 1, "tensor_content": b"12345"}, (1,), "5 bytes for float32.* expected 4"),
        ({"dtype": 1, "float_val": [1.0, 2.0]}, (1,), "2 values for float32.* expected 1"),
        ({"dtype": 1, "float_val": [1.0]}, (1 << 20, 1 << 20), "1 values for"),
        ({"dtype": 1}, (-1,), "expected every dimension"),
        ({"dtype": 8}, (1,), r"dtype unknown \(8\)"),
        ({"dtype": 0}, (1,), "dtype unknown"),
        ({"dtype": 7, "tensor_content": b"abcdefgh"}, (1,), "8 bytes for string"),
        ({"dtype": 7}, (3,), "0 values for string"),
    ],
)
def test_messages_that_contradict_themselves(fields, shape, text):
    message = messages.TensorProto(**fields)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    with pytest.raises(ServerFailedError, match=text):
        tensors.decode(message)


def test_unknown_rank():
    with pytest.raises(ServerFailedError, match="expected every dimension"):
        tensors.decode(messages.TensorProto(dtype=1, tensor_shape={"unknown_rank": True}))
