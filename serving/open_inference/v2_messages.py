"""The messages of the Open Inference Protocol's gRPC interface that a client needs, with the protocol's names, numbers and types.

Built here, as those of TensorFlow Serving are: packages that ship them generated bring a server with them, or a protobuf of their own
choice. Parameters are left out, since nothing here sends or reads any. Source: `grpc_predict_v2.proto`, package `inference`.
"""

from __future__ import annotations

from ..wire.messages import build_messages
from ..wire.transport import Method

SCHEMA: dict[str, dict[str, tuple[int, str]]] = {
    "inference.ModelReadyRequest": {"name": (1, "string"), "version": (2, "string")},
    "inference.ModelReadyResponse": {"ready": (1, "bool")},
    "inference.ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "inference.ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "repeated string"),
        "platform": (3, "string"),
        "inputs": (4, "repeated .inference.ModelMetadataResponse.TensorMetadata"),
        "outputs": (5, "repeated .inference.ModelMetadataResponse.TensorMetadata"),
    },
    "inference.ModelMetadataResponse.TensorMetadata": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "repeated int64")},
    "inference.InferTensorContents": {
        "bool_contents": (1, "repeated bool"),
        "int_contents": (2, "repeated int32"),
        "int64_contents": (3, "repeated int64"),
        "uint_contents": (4, "repeated uint32"),
        "uint64_contents": (5, "repeated uint64"),
        "fp32_contents": (6, "repeated float"),
        "fp64_contents": (7, "repeated double"),
        "bytes_contents": (8, "repeated bytes"),
    },
    "inference.ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "inputs": (5, "repeated .inference.ModelInferRequest.InferInputTensor"),
        "outputs": (6, "repeated .inference.ModelInferRequest.InferRequestedOutputTensor"),
        "raw_input_contents": (7, "repeated bytes"),
    },
    "inference.ModelInferRequest.InferInputTensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "repeated int64"),
        "contents": (5, ".inference.InferTensorContents"),
    },
    "inference.ModelInferRequest.InferRequestedOutputTensor": {"name": (1, "string")},
    "inference.ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "outputs": (5, "repeated .inference.ModelInferResponse.InferOutputTensor"),
        "raw_output_contents": (6, "repeated bytes"),
    },
    "inference.ModelInferResponse.InferOutputTensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "repeated int64"),
        "contents": (5, ".inference.InferTensorContents"),
    },
}

_message = build_messages(SCHEMA, ("inference",))

ModelReadyRequest = _message("inference.ModelReadyRequest")
ModelMetadataRequest = _message("inference.ModelMetadataRequest")
ModelInferRequest = _message("inference.ModelInferRequest")
ModelInferResponse = _message("inference.ModelInferResponse")

_SERVICE = "/inference.GRPCInferenceService"
READY = Method(f"{_SERVICE}/ModelReady", ModelReadyRequest, _message("inference.ModelReadyResponse"))
MODEL = Method(f"{_SERVICE}/ModelMetadata", ModelMetadataRequest, _message("inference.ModelMetadataResponse"))
INFER = Method(f"{_SERVICE}/ModelInfer", ModelInferRequest, ModelInferResponse)
V2_METHODS = (READY, MODEL, INFER)
