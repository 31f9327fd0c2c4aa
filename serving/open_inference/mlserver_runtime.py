"""`OnnxModel`: runs a bundle's `model.onnx` in MLServer, which has no runtime of its own for ONNX. TensorFlow is not needed."""

from __future__ import annotations

import asyncio

import onnxruntime
from mlserver import MLModel, types
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.utils import get_model_uri

from .v2 import DATATYPES

# What ONNX Runtime calls the dtypes.
_DTYPES = {
    **{f"tensor({name})": name for name in DATATYPES},
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
}


class OnnxModel(MLModel):
    """Tells of the model what the file says, the pair's fingerprint among it, and answers what `model.onnx` computes.

    Example of a `model-settings.json`: docs/serving.md, "Other servers".
    """

    async def load(self) -> bool:
        """Loads the file at `parameters.uri`."""
        path = await get_model_uri(self.settings, wellknown_filenames=["model.onnx"])
        self._session = onnxruntime.InferenceSession(path)
        self.inputs = [_told(tensor) for tensor in self._session.get_inputs()]
        self.outputs = [_told(tensor) for tensor in self._session.get_outputs()]
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Answers the outputs that a request asks for; all where it asks for none."""
        names = [output.name for output in payload.outputs or ()] or [output.name for output in self.outputs or ()]
        feeds = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        try:
            arrays = await asyncio.to_thread(self._session.run, names, feeds)
        except Exception as error:  # ONNX Runtime has a class of its own for each status
            raise InferenceError(f"{self.name}: {error}") from error
        outputs = [NumpyCodec.encode_output(name, array) for name, array in zip(names, arrays, strict=True)]
        return types.InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


def _told(tensor: onnxruntime.NodeArg) -> types.MetadataTensor:
    shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return types.MetadataTensor(name=tensor.name, datatype=DATATYPES[_DTYPES[tensor.type]], shape=shape)
