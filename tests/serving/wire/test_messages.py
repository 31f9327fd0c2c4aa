"""The hand-built messages against TensorFlow Serving's own."""

import pytest
from google.protobuf import message_factory
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2
from tensorflow_serving.apis import status_pb2 as serving_status_pb2

from keras_privpart.serving.wire import messages

REAL = {
    "tensorflow.TensorShapeProto": tensor_shape_pb2.TensorShapeProto,
    "tensorflow.TensorShapeProto.Dim": tensor_shape_pb2.TensorShapeProto.Dim,
    "tensorflow.TensorProto": tensor_pb2.TensorProto,
    "tensorflow.TensorInfo": meta_graph_pb2.TensorInfo,
    "tensorflow.SignatureDef": meta_graph_pb2.SignatureDef,
    "tensorflow.serving.ModelSpec": model_pb2.ModelSpec,
    "tensorflow.serving.PredictRequest": predict_pb2.PredictRequest,
    "tensorflow.serving.PredictResponse": predict_pb2.PredictResponse,
    "tensorflow.serving.SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
    "tensorflow.serving.GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "tensorflow.serving.GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "tensorflow.serving.GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "tensorflow.serving.GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
    "tensorflow.serving.ModelVersionStatus": get_model_status_pb2.ModelVersionStatus,
    "tensorflow.serving.StatusProto": serving_status_pb2.StatusProto,
}


def kind(field):
    """What a field looks like on the wire. Enums travel as int32."""
    same = {field.TYPE_ENUM: field.TYPE_INT32}
    type_name = field.message_type.full_name if field.message_type else None
    return field.number, field.is_repeated, field.is_packed, same.get(field.type, field.type), type_name


@pytest.mark.parametrize("name", messages.SCHEMA)
def test_every_field_is_the_same_on_the_wire(name):
    mine, real = messages._message(name).DESCRIPTOR, REAL[name].DESCRIPTOR
    assert mine.full_name == real.full_name
    assert {f.name: kind(f) for f in mine.fields} == {f.name: kind(real.fields_by_name[f.name]) for f in mine.fields}
    for field in mine.fields:
        if field.message_type and field.message_type.GetOptions().map_entry:
            assert [kind(f) for f in field.message_type.fields] == [kind(f) for f in real.fields_by_name[field.name].message_type.fields]


def test_a_request_crosses_over_and_back():
    request = messages.PredictRequest(output_filter=["a"])
    request.model_spec.name, request.model_spec.signature_name = "faces", "serve"
    request.model_spec.version.value = 2**40
    request.inputs["boundary"].dtype = 1
    request.inputs["boundary"].float_val.extend([1.5, -2.0])
    request.inputs["boundary"].tensor_shape.dim.add(size=2)
    real = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    assert real.model_spec.version.value == 2**40
    assert list(real.inputs["boundary"].float_val) == [1.5, -2.0]
    assert messages.PredictRequest.FromString(real.SerializeToString()) == request


def test_both_pools_live_in_one_process():
    assert messages.PredictRequest is not predict_pb2.PredictRequest
    assert message_factory.GetMessageClass(predict_pb2.PredictRequest.DESCRIPTOR) is predict_pb2.PredictRequest
