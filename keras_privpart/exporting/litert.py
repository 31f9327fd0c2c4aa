"""The device half in LiteRT's forms: float32, float16 weights, dynamic range, and int8 with representative data."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart.contract import DEVICE_SIGNATURE, UNSIGNED, WEB, Boundary
from keras_privpart.errors import BundleError
from keras_privpart.quiet import hushed

# Largest relative error, in the Euclidean norm, against float32. Post-training quantisation costs a percent or two; more than these
# means that the conversion went wrong, or that the samples are not like the data.
LIMITS = {"litert": 1e-3, WEB: 1e-3, "litert-float16": 1e-2, "litert-dynamic": 0.1, "litert-int8": 0.25}
_REPRESENTATIVE = 256
_UNROLLED = (
    "LiteRT has no list of tensors of an open batch, which a recurrent layer keeps over its steps: build the model with unroll=True in its "
    "recurrent layers, or export it with a fixed batch of one, the format 'web' of browsers, or as saved_model."
)

Arrays = Mapping[str, np.ndarray]


def convert(saved_model: Path, form: str, samples: Arrays | None) -> bytes:
    """Converts the SavedModel of a device half.

    In `litert-int8`, weights and activations are int8; inputs, outputs and operations without an int8 kernel (the channel's noise)
    stay as they are.

    Args:
        saved_model: its folder.
        form: a key of `LIMITS`.
        samples: inputs `[n, ...]` by name, like the data of use; needed for `litert-int8`, which looks at 256 of them.

    Raises:
        BundleError: LiteRT has no operation for something in the graph.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[DEVICE_SIGNATURE])
    if form not in ("litert", WEB):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if form == "litert-float16":
        converter.target_spec.supported_types = [tf.float16]
    if form == "litert-int8":
        converter.representative_dataset = lambda: _one_by_one(samples or {})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the converter's remarks on its own defaults
            return converter.convert()
    except Exception as error:  # the converter raises whatever its stages raise
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        advice = _UNROLLED if "TensorList" in str(error) else "Export it as saved_model."
        raise BundleError(f"The device half cannot be converted to {form}: {reason} {advice}") from error


def load(model: bytes) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """The device half as a function of inputs `[n, ...]` by name, any n; run by `ai_edge_litert`, else by `tf.lite`.

    Raises:
        BundleError: the model cannot be loaded.
    """
    try:
        interpreter = _interpreter(model)
        signature = interpreter.get_signature_runner(DEVICE_SIGNATURE)
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"The converted device half cannot be loaded: {error} Export it as saved_model.") from error

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        _ = interpreter  # must live as long as its signature is called
        return {name: np.array(value) for name, value in signature(**inputs).items()}

    return run


def load_web(model: bytes, boundary: Boundary) -> Callable[[Arrays], dict[str, np.ndarray]]:
    """As `load`, for the form of browsers, which takes one example a call and gives uint8 where int8 crosses: here it is int8 again."""
    run_one = load(model)

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        count = len(next(iter(inputs.values())))
        answers = [run_one({name: value[i : i + 1] for name, value in inputs.items()}) for i in range(count)]
        joined = {spec.name: np.concatenate([answer[spec.name] for answer in answers]) for spec in boundary.tensors}
        return {spec.name: _signed(joined[spec.name]) if spec.dtype == "int8" else joined[spec.name] for spec in boundary.tensors}

    return run


def _signed(array: np.ndarray) -> np.ndarray:
    return (array.astype(np.int16) - UNSIGNED).astype(np.int8)


def _interpreter(model: bytes) -> Any:
    try:
        interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter
        with hushed():  # it tells of its delegate, when that is first needed
            made = interpreter(model_content=model)
            made.allocate_tensors()
            return made
    except ImportError:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it moved to ai_edge_litert
            return tf.lite.Interpreter(model_content=model)


def _one_by_one(samples: Arrays) -> Iterator[dict[str, np.ndarray]]:
    count = min(_REPRESENTATIVE, *(len(value) for value in samples.values()))
    for i in range(count):
        yield {name: value[i : i + 1] for name, value in samples.items()}
