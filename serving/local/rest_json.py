"""The JSON of TensorFlow Serving's REST interface, both ways: `inputs` by name (columns), or `instances`, one entry an example (rows)."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from .servable import Refusal

_FLOATS = (tf.float32, tf.float64)
_WHOLE = (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint32, tf.uint64)


def parse(body: bytes) -> dict[str, Any]:
    """A request's JSON object."""
    try:
        sent = json.loads(body)
    except ValueError as error:
        raise _invalid(f"JSON Parse error: {error}") from error
    if not isinstance(sent, dict):
        raise _invalid("JSON Value: Is not object")
    if not isinstance(sent.get("signature_name", ""), str):
        raise _invalid("JSON Value: 'signature_name' key must be a string value")
    return sent


def read_inputs(sent: Mapping[str, Any], infos: Mapping[str, Any]) -> dict[str, tensor_pb2.TensorProto]:
    """The tensors of a request, by name.

    Args:
        sent: what `parse` returned.
        infos: the signature's `TensorInfo` by name.

    Raises:
        Refusal: they do not fit the signature.
    """
    if "instances" in sent:
        if "inputs" in sent:
            raise _invalid("JSON Value: Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
        return _rows(sent["instances"], infos)
    if "inputs" not in sent:
        raise _invalid("Missing 'inputs' or 'instances' key")
    inputs = sent["inputs"]
    if not _named(inputs):
        if len(infos) > 1:
            raise _invalid("inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map")
        inputs = {next(iter(infos)): inputs}
    for name in infos:
        if name not in inputs:
            raise _invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _proto(*_dense(inputs[name], info), info) for name, info in infos.items()}  # other names are ignored


def write_outputs(outputs: Mapping[str, tensor_pb2.TensorProto], *, by_row: bool) -> str:
    """An answer's JSON text: `predictions`, one entry an example, or `outputs`. A single output stands without its name."""
    values = {name: _values(tensor) for name, tensor in outputs.items()}
    if not by_row:
        return json.dumps({"outputs": values if len(values) > 1 else next(iter(values.values()))})
    sizes = {name: len(value) if isinstance(value, list) else 0 for name, value in values.items()}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        raise _invalid(f"Tensors have inconsistent or invalid batch sizes: {sizes}")
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return json.dumps({"predictions": rows if len(values) > 1 else [next(iter(row.values())) for row in rows]})


def _rows(instances: Any, infos: Mapping[str, Any]) -> dict[str, tensor_pb2.TensorProto]:
    if not isinstance(instances, list):
        raise _invalid("JSON Value: Excepting 'instances' to be an list/array")  # its own spelling
    if not instances:
        raise _invalid("JSON Value: No values in 'instances' array")
    objects = _named(instances[0])
    if not objects and len(infos) > 1:
        raise _invalid("instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map")
    columns: dict[str, list[tuple[list[int], list[Any]]]] = {name: [] for name in infos}
    for index, instance in enumerate(instances):
        if _named(instance) != objects:
            raise _invalid(f"Expecting {'object but got list' if objects else 'value/list but got object'} at item {index} of input list")
        named = instance if objects else {next(iter(infos)): instance}
        try:
            for name, value in named.items():
                if name not in infos:
                    raise _invalid(f"JSON object: does not have named input: {name}")
                column = columns[name]
                column.append(_dense(value, infos[name]))
                if column[0][0] != column[-1][0]:
                    raise _invalid(f"Expecting shape {column[0][0]} but got: {column[-1][0]}")
        except Refusal as refusal:
            raise _invalid(f"Failed to process element: {index} of 'instances' list. Error: {refusal}") from refusal
        if set(named) != set(infos):
            raise _invalid(f"Failed to process element: {index} of 'instances' list. JSON object must only have keys: {','.join(infos)}")
    return {
        name: _proto([len(column), *column[0][0]], [value for _, values in column for value in values], infos[name])
        for name, column in columns.items()
    }


def _named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_bytes(value)


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _dense(value: Any, info: Any) -> tuple[list[int], list[Any]]:
    """Shape and values of a nested list that is as deep and as long everywhere as it is at its first elements."""
    dtype = tf.as_dtype(info.dtype)
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    values: list[Any] = []

    def fill(item: Any, level: int) -> None:
        if not isinstance(item, list):
            if level != len(shape):
                raise _invalid(f"JSON Value: {item} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {len(shape)}")
            values.append(_scalar(item, dtype))
            return
        if level >= len(shape):
            raise _invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(item) != shape[level]:
            raise _invalid(f"Encountered list at unexpected size: {len(item)} at level: {level} expected size: {shape[level]}")
        for part in item:
            fill(part, level + 1)

    fill(value, 0)
    return shape, values


def _scalar(value: Any, dtype: tf.DType) -> Any:
    """One value as the dtype wants it: whole numbers where the dtype is, no booleans for numbers, bytes as `{"b64": ...}`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if dtype in _FLOATS and number:
        if isinstance(value, int) and int(dtype.as_numpy_dtype(value)) != value:
            name = "float" if dtype == tf.float32 else "double"
            raise _invalid(f"Cannot convert JSON value: {value} to {name} without loss of precision.")
        return value
    if (dtype in _WHOLE and number and isinstance(value, int)) or (dtype == tf.bool and isinstance(value, bool)):
        return value
    if dtype == tf.string and isinstance(value, str):
        return value.encode()
    if dtype == tf.string and _is_bytes(value):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error as error:
            raise _invalid("Unable to base64 decode") from error
    name = types_pb2.DataType.Name(dtype.as_datatype_enum).removeprefix("DT_").lower()
    if dtype not in (*_FLOATS, *_WHOLE, tf.bool, tf.string):
        raise Refusal(grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value: {value} to type: {name}")
    raise _invalid(f"JSON Value: {json.dumps(value)} Type: {type(value).__name__} is not of expected type: {name}")


def _proto(shape: list[int], values: list[Any], info: Any) -> tensor_pb2.TensorProto:
    dtype = tf.as_dtype(info.dtype)
    try:
        array = np.array(values, dtype=dtype.as_numpy_dtype).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise _invalid(f"JSON Value is out of range: {error}") from error
    return tf.make_tensor_proto(array, dtype=dtype)


def _values(tensor: Any) -> Any:
    array = tf.make_ndarray(tensor)
    if array.dtype == np.float32:
        # The shortest decimal that reads back as the same float32.
        return np.vectorize(lambda x: float(str(x)), otypes=[object])(array).tolist() if array.size else array.tolist()
    if array.dtype.kind in "OS":
        return np.vectorize(lambda x: x.decode(), otypes=[object])(array).tolist()
    return array.tolist()


def _invalid(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message)
