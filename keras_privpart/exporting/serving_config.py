"""What a server reads beside the SavedModel: warm-up requests and `models.config`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from keras_privpart.contract import SERVE_SIGNATURE, Boundary, Contract

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MODELS_CONFIG = "serving/models.config"


def allowed_batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """Powers of two up to `max_batch_size`, which is always the last: `(1, 2, 4, 8, 10)` for 10."""
    sizes = [1 << power for power in range(max_batch_size.bit_length()) if 1 << power < max_batch_size]
    return (*sizes, max_batch_size)


def warmup_requests(
    name: str, boundary: Boundary, shapes: Mapping[str, Sequence[int]], batch_sizes: Sequence[int]
) -> list[predict_pb2.PredictRequest]:
    """One request of zeros a batch size. Never user data: the file travels with the model.

    Args:
        name: the model's name on the server.
        boundary: tensors of a request.
        shapes: shape of one example of each tensor, without the batch.
        batch_sizes: at most 1000, the server's limit.
    """
    requests = []
    for batch in batch_sizes:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = SERVE_SIGNATURE
        for spec in boundary.tensors:
            tensor = request.inputs[spec.name]
            tensor.dtype = tf.as_dtype(spec.dtype).as_datatype_enum
            for dim in (batch, *shapes[spec.name]):
                tensor.tensor_shape.dim.add(size=dim)
            # A TensorProto without values is all zeros, whatever its size.
        requests.append(request)
    return requests


def write_warmup(folder: Path, requests: Sequence[predict_pb2.PredictRequest]) -> Path:
    """Writes the requests where TensorFlow Serving looks for them inside the SavedModel `folder`."""
    path = folder / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())
    return path


def models_config(contract: Contract) -> str:
    """`models.config` for `tensorflow_model_server --model_config_file`, as text."""
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add()
    model.name = contract.name
    model.base_path = f"/models/{contract.name}"
    model.model_platform = "tensorflow"
    model.model_version_policy.specific.versions.append(contract.version)
    return (
        f"# For tensorflow_model_server --model_config_file=models.config.\n"
        f"# base_path is the bundle's server/ folder, mounted at /models/{contract.name}. Mount nothing else of the bundle.\n"
        f"# Keep request logging (logging_config) off: it would record what devices send.\n"
        f"{text_format.MessageToString(config)}"
    )
