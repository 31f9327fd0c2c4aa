"""Reloads what was written with the bare loader and compares it with the halves in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart.contract import (
    BYTES_SIGNATURE,
    CHECKED_OUTPUT,
    CHECKED_SIGNATURE,
    DEFAULT_SIGNATURE,
    DEVICE_SIGNATURE,
    PAIR_INPUT,
    PAIR_OUTPUT,
    PAIR_SIGNATURE,
    SERVE_SIGNATURE,
    STRING,
    UNSIGNED,
    Contract,
    TensorSpec,
    check_saved_model,
    glob_free,
)
from keras_privpart.errors import BundleError
from keras_privpart.exporting.saved_model import device_function, layers_of, server_function, takes_bytes
from keras_privpart.partitioning.halves import Partition
from keras_privpart.several_inputs import plain

Arrays = dict[str, np.ndarray]

BATCH_SIZES = (1, 3)
# Sizes tried for dimensions that the model leaves free: common first, then larger for deep image models, then tiny.
FREE_SIZES = (32, 96, 8, 1)


def sample_inputs(
    partition: Partition, inputs: Sequence[TensorSpec], sample: Any = None, value_range: tuple[float, float] | None = None
) -> Arrays:
    """Inputs to compare with, `[max(BATCH_SIZES), ...]` each: the user's, else drawn ones that the device half can take.

    Args:
        partition: whose device half must take them.
        inputs: the device half's inputs.
        sample: an array, a list in the inputs' order, or a dict by name, at least one example; `None` draws floats from [0, 1)
            and whole numbers from {0, 1}.
        value_range: black and white of pictures, which are drawn between them.

    Raises:
        BundleError: the device half takes none of them.
    """
    batch = max(BATCH_SIZES)
    if sample is not None:
        candidates = [{name: np.resize(value, (batch, *value.shape[1:])) for name, value in by_name(inputs, sample).items()}]
    else:
        free = any(dim is None for spec in inputs for dim in spec.shape[1:])
        candidates = [
            {spec.name: _draw(spec, batch, size, value_range) for spec in inputs} for size in (FREE_SIZES if free else FREE_SIZES[:1])
        ]
    reason: Exception | None = None
    for candidate in candidates:
        reason = _refusal(partition, [candidate[spec.name] for spec in inputs])
        if reason is None:
            return candidate
    raise BundleError(
        f"The device half takes no input drawn for its specification: {reason}. Pass sample=, at least one example, to export."
    ) from reason


def load_half(folder: Path) -> Any:
    """A SavedModel as the bare loader returns it. Keep it alive as long as its signatures are called."""
    with glob_free(folder) as plain:
        return tf.saved_model.load(str(plain))


def check_reload(partition: Partition, contract: Contract, device_half: Path, server_half: Path, server: Any, x: Arrays) -> tuple[str, ...]:
    """Compares the SavedModels of both halves with the halves in memory, at two batch sizes.

    `server` is what the bare loader returned for `server_half`.

    Halves that are random in use (a noise channel) are compared in shape and dtype, and their noise must differ from load to
    load: who can repeat the noise can subtract it.

    Returns:
        Notes on what could not be compared.

    Raises:
        BundleError: says what differs.
        IntegrityError: a half would do more than compute, which no client would load.
    """
    notes: list[str] = []
    check_saved_model(device_half, contract.device_folder)
    check_saved_model(server_half, contract.server_folder)
    device = load_half(device_half)
    for signature in (SERVE_SIGNATURE, DEFAULT_SIGNATURE, CHECKED_SIGNATURE, PAIR_SIGNATURE):
        if signature not in server.signatures:
            raise BundleError(f"The server half has the signatures {sorted(server.signatures)}; expected {signature!r} too.")
    tolerance = tolerance_of(partition)
    plain_device, plain_server = tf.function(device_function(partition)), tf.function(server_function(partition, contract.outputs))
    for batch in BATCH_SIZES:
        inputs = {name: value[:batch] for name, value in x.items()}
        want = numpy_of(plain_device(*(tf.constant(inputs[spec.name]) for spec in contract.inputs)))
        repeat = numpy_of(plain_device(*(tf.constant(inputs[spec.name]) for spec in contract.inputs)))
        got = _call(device.signatures[DEVICE_SIGNATURE], inputs)
        noisy = same(want, repeat) is not None
        check_specs("device", contract.boundary.tensors, got, batch)
        if noisy:
            again = load_half(device_half)
            if same(got, _call(again.signatures[DEVICE_SIGNATURE], inputs)) is None:
                raise BundleError(
                    "The device half's noise repeats after a reload, so anyone with the file can subtract it. "
                    "Draw it with tf.raw_ops.RandomStandardNormal, without a seed, as GaussianChannel does."
                )
            notes.append("the device half is random in use: its exported half was compared in shape and dtype only")
        else:
            check_close("device", want, got, tolerance, steps=contract.encoding == "int8")

        boundary = [tf.constant(want[name]) for name in contract.boundary.names]
        scores, again_scores = numpy_of(plain_server(*boundary)), numpy_of(plain_server(*boundary))
        if not all(np.isfinite(value).all() for value in (*want.values(), *scores.values()) if value.dtype.kind == "f"):
            notes.append("values that are not finite appear on the inputs compared: pass sample= for a comparison that says more")
        answers = _call(server.signatures[SERVE_SIGNATURE], want)
        check_specs("server", contract.outputs, answers, batch)
        if same(scores, again_scores) is None:
            check_close("server", scores, answers, tolerance)
        else:
            notes.append("the server half is random in use: its exported half was compared in shape and dtype only")
        named = _call(server.signatures[PAIR_SIGNATURE], {PAIR_INPUT: np.zeros(batch, np.int32)})[PAIR_OUTPUT]
        with_answer = [_call(server.signatures[CHECKED_SIGNATURE], want)]
        if takes_bytes(contract.boundary.tensors):
            with_answer.append(_call(server.signatures[BYTES_SIGNATURE], as_bytes(want)))
            if same(scores, again_scores) is None:
                check_close("server", scores, with_answer[-1], tolerance)
        for got_names in (named, *(answer[CHECKED_OUTPUT] for answer in with_answer)):
            if got_names.tolist() != [contract.fingerprint.encode()] * batch:
                raise BundleError(f"The server half answers the fingerprint {got_names.tolist()}; expected {contract.fingerprint!r}.")
    return tuple(dict.fromkeys(notes))


def _refusal(partition: Partition, values: Sequence[np.ndarray]) -> Exception | None:
    """Why the device half does not take these inputs; `None` if it does."""
    try:
        device_function(partition)(*map(tf.constant, values))
    except Exception as error:  # whatever the user's layers raise on a size that they cannot take
        return error
    return None


def by_name(inputs: Sequence[TensorSpec], sample: Any) -> Arrays:
    sample = plain(sample)
    if not isinstance(sample, Mapping):
        values = sample if isinstance(sample, (list, tuple)) and len(inputs) > 1 else [sample]
        sample = dict(zip((spec.name for spec in inputs), values, strict=False))
    named = {}
    for spec in inputs:
        value = np.asarray(sample.get(spec.name, sample.get(spec.source)))
        if value.ndim != len(spec.shape) or not len(value):
            raise BundleError(
                f"Received the sample {list(value.shape)} for {spec.name!r}; expected {list(spec.shape)}, at least one example."
            )
        named[spec.name] = value.astype(object if spec.dtype == STRING else tf.as_dtype(spec.dtype).as_numpy_dtype)
    return named


def _draw(spec: TensorSpec, batch: int, free: int, value_range: tuple[float, float] | None) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (batch, *(free if dim is None else dim for dim in spec.shape[1:]))
    if spec.dtype == STRING:
        return np.full(shape, "a", object)
    dtype = tf.as_dtype(spec.dtype)
    if value_range is not None and len(shape) == 4:
        return rng.uniform(*value_range, shape).astype(dtype.as_numpy_dtype)
    values = rng.random(shape) if dtype.is_floating else rng.integers(0, 2, shape)
    return values.astype(dtype.as_numpy_dtype)


def _call(function: Callable[..., Mapping[str, Any]], arrays: Mapping[str, np.ndarray]) -> Arrays:
    return numpy_of(function(**{name: tf.constant(value) for name, value in arrays.items()}))


def as_bytes(boundary: Arrays) -> Arrays:
    """A boundary `[n, ...]` as `serve_bytes` takes it: n strings a tensor."""
    unsigned = {name: (a.astype(np.int16) + UNSIGNED).astype(np.uint8) if a.dtype == np.int8 else a for name, a in boundary.items()}
    return {name: np.array([row.tobytes() for row in array], object) for name, array in unsigned.items()}


def numpy_of(tensors: Mapping[str, Any]) -> Arrays:
    return {name: np.asarray(tensor.numpy()) for name, tensor in tensors.items()}


def check_specs(side: str, specs: Sequence[TensorSpec], arrays: Arrays, batch: int) -> None:
    if set(arrays) != {spec.name for spec in specs}:
        raise BundleError(f"The {side} half answers {sorted(arrays)}; expected {sorted(spec.name for spec in specs)}.")
    for spec in specs:
        array = arrays[spec.name]
        if not spec.fits(array) or array.shape[0] != batch:
            raise BundleError(
                f"The {side} half answers {spec.name!r} as {array.dtype.name}{list(array.shape)} for a batch of {batch}; expected "
                f"{spec.dtype}{list(spec.shape)}, the batch first. Servers batch along the first dimension: give the tensor one."
            )


def same(first: Arrays, second: Arrays) -> str | None:
    """Name of a tensor that differs in any bit; `None` when all are the same."""
    return next((name for name in first if first[name].tobytes() != second[name].tobytes()), None)


def tolerance_of(partition: Partition, exact: float = 1e-4) -> float:
    """Relative tolerance, `exact` unless a half computes in half floats: loaders may fuse operations in another order."""
    computed = {layer.compute_dtype for half in (partition.device, partition.server) for layer in layers_of(half)}
    computed |= {spec.dtype for spec in partition.boundary.tensors}
    return 5e-2 if computed & {"float16", "bfloat16"} else exact


def check_close(side: str, want: Arrays, got: Arrays, tolerance: float, *, steps: bool = False) -> None:
    """Raises `BundleError` where tensors differ by more.

    With `steps`, int8 tensors may differ by one step: the last bits decide how a value in the middle is rounded.
    """
    for name, expected in want.items():
        if steps and expected.dtype == np.int8:
            close = bool(np.max(np.abs(expected.astype(int) - got[name].astype(int)), initial=0) <= 1)
        elif expected.dtype.kind in "biuO":
            close = np.array_equal(expected, got[name])
        else:
            wide, answered = expected.astype(np.float64), got[name].astype(np.float64)
            scale = float(np.max(np.abs(wide), initial=0.0, where=np.isfinite(wide)))
            close = np.allclose(answered, wide, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
        if not close:
            raise BundleError(f"The {side} half written to disk answers another {name!r} than the one in memory. Nothing was exported.")
