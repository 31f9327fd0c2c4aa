"""Messages of TensorFlow Serving's configuration files that tensorflow-serving-api does not ship, built by hand.

Names, numbers and types are those of `session_bundle_config.proto` (BatchingParameters), `monitoring_config.proto` and
`ssl_config.proto`. They live in a descriptor pool of their own, so that the originals could be loaded beside them.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow.serving"
_WRAPPED_INT = ".google.protobuf.Int64Value"
_WRAPPED_TEXT = ".google.protobuf.StringValue"
_TYPES = {
    "string": _Field.TYPE_STRING,
    "bool": _Field.TYPE_BOOL,
    "int64": _Field.TYPE_INT64,
}

# Message -> field -> (number, type). Types starting with a dot are messages.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "BatchingParameters": {
        "max_batch_size": (1, _WRAPPED_INT),
        "batch_timeout_micros": (2, _WRAPPED_INT),
        "max_enqueued_batches": (3, _WRAPPED_INT),
        "num_batch_threads": (4, _WRAPPED_INT),
        "thread_pool_name": (5, _WRAPPED_TEXT),
        "allowed_batch_sizes": (6, "repeated int64"),
        "pad_variable_length_inputs": (7, "bool"),
    },
    "PrometheusConfig": {"enable": (1, "bool"), "path": (2, "string")},
    "MonitoringConfig": {"prometheus_config": (1, f".{_PACKAGE}.PrometheusConfig")},
    "SSLConfig": {
        "server_key": (1, "string"),
        "server_cert": (2, "string"),
        "custom_ca": (3, "string"),
        "client_verify": (4, "bool"),
    },
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="keras_privpart/server_config.proto", package=_PACKAGE, syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    for name, schema in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in schema.items():
            plain = kind.removeprefix("repeated ")
            field = message.field.add(name=field_name, number=number, label=_Field.LABEL_OPTIONAL)
            if plain != kind:
                field.label = _Field.LABEL_REPEATED
            if plain.startswith("."):
                field.type, field.type_name = _Field.TYPE_MESSAGE, plain
            else:
                field.type = _TYPES[plain]
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES}


_CLASSES = _classes()
BatchingParameters = _CLASSES["BatchingParameters"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
SSLConfig = _CLASSES["SSLConfig"]
