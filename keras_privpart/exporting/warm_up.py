"""Warm-up requests: what TensorFlow Serving runs of a version before it says that the version is available."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from keras_privpart.contract import BYTES_SIGNATURE, CHECKED_SIGNATURE, PAIR_INPUT, PAIR_SIGNATURE, SERVE_SIGNATURE, Boundary, Contract
from keras_privpart.exporting.reload import Arrays
from keras_privpart.exporting.saved_model import device_function, takes_bytes
from keras_privpart.exporting.tf_serving.serving_config import allowed_batch_sizes
from keras_privpart.partitioning.halves import Partition

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"


def write_warm_up(partition: Partition, contract: Contract, root: Path, server: Any, x: Arrays) -> list[str]:
    """Writes the warm-up requests after trying each one: a warm-up request that fails makes the server refuse the model.

    Args:
        partition: what crosses the wire, and the server half.
        contract: of the version.
        root: the bundle's folder.
        server: the SavedModel of the server half, as the bare loader returned it.
        x: inputs by name: the sizes of free dimensions are theirs.

    Returns:
        Notes on what is not warmed up.
    """
    boundary = device_function(partition)(*(tf.constant(x[spec.name][:1]) for spec in contract.inputs))
    shapes = {key: tuple(value.shape[1:]) for key, value in boundary.items()}
    folder = root / contract.server_folder
    sizes = allowed_batch_sizes(contract.max_batch_size)
    requests = warmup_requests(contract.name, contract.boundary, shapes, sizes)
    try:
        for request in requests:
            zeros = {key: tf.constant(tf.make_ndarray(tensor)) for key, tensor in request.inputs.items()}
            server.signatures[request.model_spec.signature_name](**zeros)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        return [f"no warm-up requests: the server half does not take a boundary of zeros ({str(error).splitlines()[0]})"]
    write_warmup(folder, requests)
    free = sorted(spec.name for spec in contract.boundary.tensors if None in spec.shape[1:])
    return [f"warm-up covers one size of the free dimensions of {', '.join(free)} only: {shapes}"] if free else []


def warmup_requests(
    name: str, boundary: Boundary, shapes: Mapping[str, Sequence[int]], batch_sizes: Sequence[int]
) -> list[predict_pb2.PredictRequest]:
    """Requests of zeros: what clients call (`serve_checked`) for every batch size, the other signatures once each.

    A signature's first request is many times slower than the next, and so is a batch size's. Never user data: the file travels with the
    model.

    Args:
        name: the model's name on the server.
        boundary: tensors of a request.
        shapes: shape of one example of each tensor, without the batch.
        batch_sizes: with three more, at most 1000, the server's limit.
    """
    called = [(CHECKED_SIGNATURE, batch) for batch in batch_sizes] + [(SERVE_SIGNATURE, batch_sizes[0])]
    requests = []
    for signature, batch in called:
        request = _request(name, signature)
        for spec in boundary.tensors:
            _zeros(request.inputs[spec.name], spec.dtype, (batch, *shapes[spec.name]))
        requests.append(request)
    if takes_bytes(boundary.tensors):
        request = _request(name, BYTES_SIGNATURE)
        for spec in boundary.tensors:
            zeros = np.array([bytes(spec.nbytes or 0)], object)
            request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(zeros, tf.string))
        requests.append(request)
    pair = _request(name, PAIR_SIGNATURE)
    _zeros(pair.inputs[PAIR_INPUT], "int32", (1,))
    return [*requests, pair]


def _request(name: str, signature: str) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    return request


def _zeros(tensor: Any, dtype: str, shape: Sequence[int]) -> None:
    """A TensorProto without values is all zeros, whatever its size."""
    tensor.dtype = tf.as_dtype(dtype).as_datatype_enum
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)


def write_warmup(folder: Path, requests: Sequence[predict_pb2.PredictRequest]) -> Path:
    """Writes the requests where TensorFlow Serving looks for them inside the SavedModel `folder`."""
    path = folder / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
    return path
