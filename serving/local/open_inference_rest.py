"""The Open Inference Protocol's REST interface for the local server: a double for tests, with the names that an ONNX server half has.

It runs the SavedModel half; real servers of the protocol run `model.onnx`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from keras_privpart.contract import CHECKED_OUTPUT, CHECKED_SIGNATURE, PAIR_INPUT, PAIR_OUTPUT, PAIR_SIGNATURE, V2_PAIR_PREFIX

from ..open_inference.v2 import DATATYPES
from ..wire.tensors import wire_dtype
from .servable import Refusal

_PATH = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>\d+))?(?P<what>/ready|/infer)?")


def answer(services: Any, verb: str, path: str, body: bytes) -> str:
    """What the server answers: JSON, or nothing where the status says it all.

    Args:
        services: what the local server can be asked.

    Raises:
        Refusal: the request does not fit.
    """
    found = _PATH.fullmatch(path)
    if found is None or (verb == "POST") != (found["what"] == "/infer"):
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: {verb} {path}")
    spec = {"name": found["name"]} | ({} if found["version"] is None else {"version": {"value": int(found["version"])}})
    if found["what"] == "/ready":
        return _ready(services, spec)
    return json.dumps(_describe(services, spec) if verb == "GET" else _infer(services, spec, body))


def _ready(services: Any, spec: dict[str, Any]) -> str:
    states = services.status(get_model_status_pb2.GetModelStatusRequest(model_spec=spec)).model_version_status
    if all(status.state != ModelVersionStatus.AVAILABLE for status in states):
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Model is not ready")
    return ""


def _describe(services: Any, spec: dict[str, Any]) -> dict[str, Any]:
    versions = services.status(get_model_status_pb2.GetModelStatusRequest(model_spec={"name": spec["name"]})).model_version_status
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    raw = services.metadata(request).metadata["signature_def"].value
    signature = get_model_metadata_pb2.SignatureDefMap.FromString(raw).signature_def[CHECKED_SIGNATURE]
    outputs = [
        _told(*((_pair_name(services, spec), "UINT8", [-1, 32]) if name == CHECKED_OUTPUT else (name, *_facts(info))))
        for name, info in signature.outputs.items()
    ]
    return {
        "name": spec["name"],
        "versions": [str(status.version) for status in versions if status.state == ModelVersionStatus.AVAILABLE],
        "platform": "tensorflow_savedmodel",
        "inputs": [_told(name, *_facts(info)) for name, info in signature.inputs.items()],
        "outputs": outputs,
    }


def _infer(services: Any, spec: dict[str, Any], body: bytes) -> dict[str, Any]:
    try:
        sent = json.loads(body)
        wanted = [output["name"] for output in sent.get("outputs", ())]
        tensors = {tensor["name"]: _proto(tensor) for tensor in sent["inputs"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"the request is not the Open Inference Protocol's ({error!r})") from error
    pair = _pair_name(services, spec)
    own = {name: CHECKED_OUTPUT if name == pair else name for name in wanted}
    if CHECKED_OUTPUT in wanted:  # only by its full name
        raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"unexpected output '{CHECKED_OUTPUT}'")
    request = predict_pb2.PredictRequest(
        model_spec={**spec, "signature_name": CHECKED_SIGNATURE}, inputs=tensors, output_filter=list(own.values())
    )
    response = services.predict(request)
    outputs = [_output(pair if name == CHECKED_OUTPUT else name, tensor) for name, tensor in response.outputs.items()]
    return {"model_name": spec["name"], "model_version": str(response.model_spec.version.value), "outputs": outputs}


def _pair_name(services: Any, spec: dict[str, Any]) -> str:
    request = predict_pb2.PredictRequest(model_spec={**spec, "signature_name": PAIR_SIGNATURE})
    request.inputs[PAIR_INPUT].CopyFrom(tf.make_tensor_proto(np.zeros(1, np.int32)))
    return V2_PAIR_PREFIX + tf.make_ndarray(services.predict(request).outputs[PAIR_OUTPUT])[0].decode()


def _facts(info: Any) -> tuple[str, list[int]]:
    return DATATYPES.get(wire_dtype(info.dtype), "BYTES"), [dim.size for dim in info.tensor_shape.dim]


def _told(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _proto(tensor: Mapping[str, Any]) -> tensor_pb2.TensorProto:
    dtypes = {datatype: dtype for dtype, datatype in DATATYPES.items()}
    return tf.make_tensor_proto(np.array(tensor["data"], dtypes[tensor["datatype"]]).reshape(tensor["shape"]))


def _output(name: str, tensor: tensor_pb2.TensorProto) -> dict[str, Any]:
    array = tf.make_ndarray(tensor)
    if name.startswith(V2_PAIR_PREFIX):
        array = np.array([list(bytes.fromhex(named.decode())) for named in array], np.uint8)
    return {**_told(name, DATATYPES[array.dtype.name], list(array.shape)), "data": array.ravel().tolist()}
