"""The server half as ONNX, for servers of the Open Inference Protocol, with the pair's fingerprint in the name of an output."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart.contract import SERVE_SIGNATURE, SERVER_ONNX, V2_PAIR_PREFIX, Contract
from keras_privpart.errors import BundleError
from keras_privpart.exporting import reload
from keras_privpart.exporting.saved_model import device_function, server_function, wire_specs
from keras_privpart.partitioning.halves import Partition
from keras_privpart.quiet import hushed, without_remarks

# Read by every ONNX Runtime since 1.12 (2022).
OPSET = 17
_TOLERANCE = 1e-5
_INSTALL = "Install it: pip install 'keras_privpart[onnx]'."


def check_onnx() -> None:
    """Raises `BundleError` where the packages that write and run ONNX are not installed."""
    try:
        import onnx
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise BundleError(f"The server format 'onnx' needs onnx, onnxruntime and tf2onnx: {error}. {_INSTALL}") from error
    del onnx, onnxruntime, tf2onnx


def write_onnx(partition: Partition, contract: Contract, server: Any, x: reload.Arrays, root: Path) -> tuple[str, ...]:
    """Writes `server/<version>/model.onnx` and compares it, run by ONNX Runtime, with the SavedModel half.

    Its inputs are the boundary's tensors and its outputs the contract's, by their names, the batch first. One output more,
    `pair_fingerprint_<fingerprint>`, is `uint8[n, 32]`: the bytes of the pair's fingerprint, once an example.

    Args:
        partition: what crosses the wire, and the server half.
        contract: with the fingerprint.
        server: the SavedModel of the server half, as the bare loader returned it.
        x: inputs to compare with, by name.
        root: the bundle's folder.

    Returns:
        Notes on what could not be compared.

    Raises:
        BundleError: ONNX has no operation for something in the graph, or the two halves' answers differ by more than 1e-5 of the largest.
    """
    path = root / contract.server_folder / SERVER_ONNX
    path.write_bytes(_convert(partition, contract))
    return _compare(partition, contract, server, x, path)


def _convert(partition: Partition, contract: Contract) -> bytes:
    import onnx
    import tf2onnx

    run = server_function(partition, contract.outputs)

    def named(*boundary: Any) -> dict[str, Any]:
        fingerprint = tf.constant([list(bytes.fromhex(contract.fingerprint))], tf.uint8)
        pair = tf.tile(fingerprint, [tf.shape(boundary[0])[0], 1])
        return {**run(*boundary), V2_PAIR_PREFIX + contract.fingerprint: pair}

    signature = wire_specs(contract.boundary.tensors)
    function = tf.function(named, input_signature=signature)
    with _complaints() as complaints:
        try:
            model, _ = tf2onnx.convert.from_function(function, signature, opset=OPSET, custom_op_handlers=_HANDLERS)
            onnx.helper.set_model_props(model, {"name": contract.name, "version": str(contract.version), "pair": contract.fingerprint})
            onnx.checker.check_model(model)
            return model.SerializeToString()
        except Exception as error:  # the converter raises whatever its stages raise, and goes on after what it only complains of
            reason = next((line.strip() for text in (*complaints, str(error)) for line in text.splitlines() if line.strip()), repr(error))
            raise BundleError(_advise(reason)) from error


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """Collects what the converter complains of, and keeps quiet what it and TensorFlow tell meanwhile."""
    found: list[str] = []
    logger, collector = logging.getLogger("tf2onnx"), logging.Handler(logging.ERROR)
    collector.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]  # all there is to it
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        with warnings.catch_warnings(), hushed(), without_remarks():
            warnings.simplefilter("ignore")
            yield found
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagated


def _erfc(graph: Any, node: Any, name: str, args: Any) -> None:
    """1 - erf(x), which ONNX has: Keras' GELU computes erfc, which it has not."""
    from tf2onnx.utils import map_onnx_to_numpy_type

    shape, dtype = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0])
    one = graph.make_const(f"{name}__one", np.ones((), map_onnx_to_numpy_type(dtype))).output[0]
    erf = graph.make_node("Erf", [node.input[0]], shapes=[shape], dtypes=[dtype]).output[0]
    graph.remove_node(name)
    graph.make_node("Sub", [one, erf], name=name, outputs=[node.output[0]], shapes=[shape], dtypes=[dtype])


_HANDLERS: dict[str, tuple[Any, list[Any]]] = {"Erfc": (_erfc, [])}


def _compare(partition: Partition, contract: Contract, server: Any, x: reload.Arrays, path: Path) -> tuple[str, ...]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for each status
        raise BundleError(_advise(str(error).splitlines()[0])) from error
    names, serve = [output.name for output in session.get_outputs()], server.signatures[SERVE_SIGNATURE]
    device = device_function(partition)
    for batch in reload.BATCH_SIZES:
        boundary = reload.numpy_of(device(*(tf.constant(x[spec.name][:batch]) for spec in contract.inputs)))
        want, again = ({name: value.numpy() for name, value in serve(**_constants(boundary)).items()} for _ in range(2))
        answer = dict(zip(names, session.run(None, boundary), strict=True))
        named = answer.pop(V2_PAIR_PREFIX + contract.fingerprint, np.zeros(0))
        if [row.tobytes().hex() for row in named] != [contract.fingerprint] * batch:
            raise BundleError(f"The ONNX server half names the pair {named.tolist()}; expected {contract.fingerprint!r} once an example.")
        reload.check_specs("ONNX server", contract.outputs, answer, batch)
        if reload.same(want, again) is not None:
            return ("the server half is random in use: its ONNX form was compared in shape and dtype only",)
        reload.check_close("ONNX server", want, answer, reload.tolerance_of(partition, _TOLERANCE))
    return ()


def _constants(arrays: reload.Arrays) -> dict[str, Any]:
    return {name: tf.constant(value) for name, value in arrays.items()}


def _advise(reason: str) -> str:
    return f"The server half cannot be converted to ONNX: {reason.rstrip('.')}. Export it as saved_model, or build it of other layers."
