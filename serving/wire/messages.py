"""The messages of TensorFlow Serving's gRPC interface that a client needs, built without TensorFlow.

Importing `tensorflow_serving.apis` loads TensorFlow, which takes seconds and hundreds of megabytes. These messages have the same
names, field numbers and types, so they are the same on the wire; a test compares every field with the originals. They live in a
descriptor pool of their own, so that both can be loaded in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

Field = descriptor_pb2.FieldDescriptorProto

# Message -> field -> (number, type). Types starting with a dot are messages; enums are int32, which is the same on the wire.
SCHEMA: dict[str, dict[str, tuple[int, str]]] = {
    "tensorflow.TensorShapeProto.Dim": {"size": (1, "int64"), "name": (2, "string")},
    "tensorflow.TensorShapeProto": {"dim": (2, "repeated .tensorflow.TensorShapeProto.Dim"), "unknown_rank": (3, "bool")},
    "tensorflow.TensorProto": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, ".tensorflow.TensorShapeProto"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "repeated float"),
        "double_val": (6, "repeated double"),
        "int_val": (7, "repeated int32"),
        "string_val": (8, "repeated bytes"),
        "int64_val": (10, "repeated int64"),
        "bool_val": (11, "repeated bool"),
        "half_val": (13, "repeated int32"),
        "uint32_val": (16, "repeated uint32"),
        "uint64_val": (17, "repeated uint64"),
    },
    "tensorflow.TensorInfo": {"name": (1, "string"), "dtype": (2, "int32"), "tensor_shape": (3, ".tensorflow.TensorShapeProto")},
    "tensorflow.SignatureDef": {
        "inputs": (1, "map .tensorflow.TensorInfo"),
        "outputs": (2, "map .tensorflow.TensorInfo"),
        "method_name": (3, "string"),
    },
    "tensorflow.serving.ModelSpec": {
        "name": (1, "string"),
        "version": (2, ".google.protobuf.Int64Value"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    "tensorflow.serving.PredictRequest": {
        "model_spec": (1, ".tensorflow.serving.ModelSpec"),
        "inputs": (2, "map .tensorflow.TensorProto"),
        "output_filter": (3, "repeated string"),
    },
    "tensorflow.serving.PredictResponse": {
        "outputs": (1, "map .tensorflow.TensorProto"),
        "model_spec": (2, ".tensorflow.serving.ModelSpec"),
    },
    "tensorflow.serving.SignatureDefMap": {"signature_def": (1, "map .tensorflow.SignatureDef")},
    "tensorflow.serving.GetModelMetadataRequest": {
        "model_spec": (1, ".tensorflow.serving.ModelSpec"),
        "metadata_field": (2, "repeated string"),
    },
    "tensorflow.serving.GetModelMetadataResponse": {
        "model_spec": (1, ".tensorflow.serving.ModelSpec"),
        "metadata": (2, "map .google.protobuf.Any"),
    },
    "tensorflow.serving.GetModelStatusRequest": {"model_spec": (1, ".tensorflow.serving.ModelSpec")},
    "tensorflow.serving.StatusProto": {"error_code": (1, "int32"), "error_message": (2, "string")},
    "tensorflow.serving.ModelVersionStatus": {
        "version": (1, "int64"),
        "state": (2, "int32"),
        "status": (3, ".tensorflow.serving.StatusProto"),
    },
    "tensorflow.serving.GetModelStatusResponse": {"model_version_status": (1, "repeated .tensorflow.serving.ModelVersionStatus")},
}


def _fill(message: descriptor_pb2.DescriptorProto, full_name: str, schema: Mapping[str, tuple[int, str]]) -> None:
    for name, (number, declared) in schema.items():
        label, _, kind = declared.rpartition(" ")
        field = message.field.add(name=name, number=number, label=Field.LABEL_REPEATED if label else Field.LABEL_OPTIONAL)
        if label == "map":
            entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL, type=Field.TYPE_STRING)
            entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL, type=Field.TYPE_MESSAGE, type_name=kind)
            kind = f".{full_name}.{entry.name}"
        if kind.startswith("."):
            field.type, field.type_name = Field.TYPE_MESSAGE, kind
        else:
            field.type = Field.Type.Value(f"TYPE_{kind.upper()}")


def build_messages(schema: Mapping[str, Mapping[str, tuple[int, str]]], packages: Sequence[str]) -> Callable[[str], Any]:
    """Makes message classes in a descriptor pool of their own.

    Args:
        schema: message -> field -> (number, type), as `SCHEMA`.
        packages: the packages of the messages, each after those that it uses.

    Returns:
        The class of a message, by its full name.
    """
    pool = descriptor_pool.DescriptorPool()
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for package in packages:
        files[package] = descriptor_pb2.FileDescriptorProto(
            name=f"keras_privpart/{package}.proto",
            package=package,
            syntax="proto3",
            dependency=[any_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name, *(file.name for file in files.values())],
        )
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for full_name, fields in sorted(schema.items()):  # sorted, so that a message comes before those nested in it
        parent, _, name = full_name.rpartition(".")
        made[full_name] = made[parent].nested_type.add(name=name) if parent in made else files[parent].message_type.add(name=name)
        _fill(made[full_name], full_name, fields)
    for known in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    for file in files.values():
        pool.AddSerializedFile(file.SerializeToString())
    return lambda full_name: message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))


_message = build_messages(SCHEMA, ("tensorflow", "tensorflow.serving"))

TensorProto = _message("tensorflow.TensorProto")
SignatureDefMap = _message("tensorflow.serving.SignatureDefMap")
PredictRequest = _message("tensorflow.serving.PredictRequest")
PredictResponse = _message("tensorflow.serving.PredictResponse")
GetModelMetadataRequest = _message("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = _message("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = _message("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = _message("tensorflow.serving.GetModelStatusResponse")
