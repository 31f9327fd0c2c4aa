"""One version of a SavedModel, run with TensorFlow Serving's checks, status codes and messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from keras_privpart.contract import DEFAULT_SIGNATURE, dtype_name, glob_free

from ..wire.tensors import WIRE_TYPES

_WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
_INIT_SIGNATURE = "__saved_model_init_op"
_STATUS = {code.value[0]: code for code in grpc.StatusCode}


class Refusal(Exception):
    """A status that the server answers instead of a result."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


class Servable:
    """A loaded SavedModel.

    Args:
        folder: `<base path>/<version>`.

    Raises:
        OSError, ValueError, tf.errors.OpError: it cannot be loaded.
        Refusal: a warm-up request fails.
    """

    def __init__(self, folder: Path) -> None:
        self.version = int(folder.name)
        # The loaded object must stay alive as long as its signatures are called.
        with glob_free(folder) as plain:
            self._model = tf.saved_model.load(str(plain))
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        self.signature_defs: dict[str, meta_graph_pb2.SignatureDef] = dict(saved.meta_graphs[0].signature_def)
        self._warm_up(folder / _WARMUP_FILE)

    def predict(
        self, signature_name: str, inputs: Mapping[str, tensor_pb2.TensorProto], output_filter: Iterable[str] = ()
    ) -> dict[str, tensor_pb2.TensorProto]:
        """Runs one signature.

        Shapes are compared with the signature. TensorFlow Serving leaves that to the graph, which answers the same code.

        Args:
            signature_name: empty for `serving_default`.
            inputs: one TensorProto an input.
            output_filter: names of the outputs wanted; all when empty.

        Raises:
            Refusal: the request does not fit, or the graph failed.
        """
        name = signature_name or DEFAULT_SIGNATURE
        if name not in self.signature_defs or name == _INIT_SIGNATURE:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        signature = self.signature_defs[name]
        arrays = _parse(signature, inputs)
        wanted = _wanted(signature, list(output_filter))
        try:
            outputs = self._model.signatures[name](**{key: tf.constant(value) for key, value in arrays.items()})
        except tf.errors.OpError as error:
            raise Refusal(_STATUS.get(error.error_code, grpc.StatusCode.UNKNOWN), str(error.message)) from error
        return {key: as_field_values(outputs[key].numpy()) for key in wanted}

    def _warm_up(self, path: Path) -> None:
        if not path.is_file():
            return
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            self.predict(request.model_spec.signature_name, request.inputs, request.output_filter)


def as_field_values(array: np.ndarray) -> tensor_pb2.TensorProto:
    """A TensorProto with one value per element, `float_val` and its like, which is how TensorFlow Serving answers."""
    name = dtype_name(array)
    wire = WIRE_TYPES[name]
    message = tensor_pb2.TensorProto(dtype=wire.number)
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    values = array.view(np.uint16) if wire.field == "half_val" else array
    getattr(message, wire.field).extend(values.ravel().tolist())
    return message


def _invalid(message: str) -> Refusal:
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, message)


def _parse(signature: Any, inputs: Mapping[str, tensor_pb2.TensorProto]) -> dict[str, np.ndarray]:
    sent, known = sorted(inputs), sorted(signature.inputs)
    if len(sent) != len(known):
        extra, missing = sorted(set(sent) - set(known)), sorted(set(known) - set(sent))
        raise _invalid(
            f"input size does not match signature: {len(sent)}!={len(known)} len({{{','.join(sent)}}}) != len({{{','.join(known)}}}). "
            f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
        )
    arrays = {}
    for alias in sent:
        if alias not in signature.inputs:
            raise _invalid(f"input tensor alias not found in signature: {alias}. Inputs expected to be in the set {{{','.join(known)}}}.")
        try:
            arrays[alias] = tf.make_ndarray(inputs[alias])
        except (ValueError, TypeError, KeyError) as error:
            raise _invalid(f"tensor parsing error: {alias}") from error
    for index, alias in enumerate(known):
        _check_tensor(index, alias, inputs[alias].dtype, arrays[alias], signature.inputs[alias])
    return arrays


def _check_tensor(index: int, alias: str, dtype: int, array: np.ndarray, info: Any) -> None:
    if dtype != info.dtype:
        raise _invalid(f"Expects arg[{index}] to be {_cpp_name(info.dtype)} but {_cpp_name(dtype)} is provided")
    declared = [dim.size for dim in info.tensor_shape.dim]
    if len(declared) != array.ndim or any(want not in (-1, got) for want, got in zip(declared, array.shape, strict=True)):
        raise _invalid(f"input {alias} has the shape {list(array.shape)}; the signature declares {declared}")


def _cpp_name(number: int) -> str:
    """TensorFlow's C++ code calls float32 `float` and float64 `double`, and so do its messages."""
    name = str(tf.as_dtype(number).name)
    return {"float32": "float", "float64": "double", "float16": "half"}.get(name, name)


def _wanted(signature: Any, output_filter: list[str]) -> list[str]:
    for alias in output_filter:
        if alias not in signature.outputs:
            raise _invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{','.join(sorted(signature.outputs))}}}."
            )
        if output_filter.count(alias) > 1:
            raise _invalid(f"duplicate output tensor alias: {alias}")
    return output_filter or sorted(signature.outputs)
