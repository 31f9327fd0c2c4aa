"""Writes the two halves as SavedModels with the contract's names on the wire."""

from __future__ import annotations

import hashlib
import keyword
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.contract import (
    BYTES_SIGNATURE,
    CHECKED_OUTPUT,
    CHECKED_SIGNATURE,
    DEVICE_SIGNATURE,
    PAIR_INPUT,
    PAIR_OUTPUT,
    PAIR_SIGNATURE,
    SERVE_SIGNATURE,
    UNSIGNED,
    TensorSpec,
    glob_free,
)
from keras_privpart.errors import BundleError
from keras_privpart.partitioning.graphs.graph import input_names
from keras_privpart.partitioning.halves import Partition
from keras_privpart.quiet import without_remarks

# TensorFlow renames or refuses other argument names, `self` among them.
_ARGUMENT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = {"self"}
# What `tf.io.decode_raw` makes of bytes.
_RAW_DTYPES = frozenset(("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "float16", "float32", "float64"))


def input_specs(partition: Partition) -> tuple[TensorSpec, ...]:
    """The device half's inputs, in order.

    `source` is the model's own name of an input. `name` is the same, or `input_<i>` where TensorFlow cannot take it as an
    argument's name.
    """
    specs: list[TensorSpec] = []
    for index, (own, tensor) in enumerate(zip(input_names(partition.device), partition.device.inputs, strict=True)):
        usable = _ARGUMENT.fullmatch(own) and not keyword.iskeyword(own) and own not in _RESERVED
        name = _unique(own if usable else f"input_{index}", [s.name for s in specs])
        specs.append(TensorSpec(name, (None, *tensor.shape[1:]), tensor.dtype, source=own))
    return tuple(specs)


def output_specs(partition: Partition) -> tuple[TensorSpec, ...]:
    """The server half's outputs, in order, under the whole model's own names: its dict keys, else its output layers' names."""
    model = partition.model
    if isinstance(model, keras.Sequential):
        own = [model.layers[-1].name]
    else:
        paths = [path for path, _ in keras.tree.flatten_with_path(model.output)]
        own = ["_".join(map(str, path)) if path and isinstance(path[-1], str) else model.output_names[i] for i, path in enumerate(paths)]
    specs: list[TensorSpec] = []
    for name, tensor in zip(own, keras.tree.flatten(partition.server.outputs), strict=True):
        specs.append(TensorSpec(_unique(name, [s.name for s in specs]), (None, *tensor.shape[1:]), tensor.dtype, source=name))
    return tuple(specs)


def weights_digest(model: keras.Model) -> str:
    """SHA-256 over shape, dtype and bytes of all variables of a model, in order."""
    digest = hashlib.sha256()
    for variable in model.variables:
        value = np.ascontiguousarray(tf.convert_to_tensor(variable.value).numpy())
        digest.update(f"{variable.dtype}{list(value.shape)};".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def shared_layers(partition: Partition) -> tuple[str, ...]:
    """Names of the layers with weights that stand on both sides of the cut: their weights are the server's as well."""
    on_server = {id(v) for v in partition.server.variables}
    return tuple(layer.name for layer in partition.device.layers if any(id(v) in on_server for v in layer.variables))


def device_function(partition: Partition) -> Callable[..., dict[str, Any]]:
    """The device half as a function of its inputs in order, returning the boundary by name."""

    def run(*inputs: Any) -> dict[str, Any]:
        boundary = partition.device(keras.tree.pack_sequence_as(partition.device.input, list(inputs)), training=False)
        return dict(zip(partition.boundary.names, keras.tree.flatten(boundary), strict=True))

    return run


def server_function(partition: Partition, outputs: Sequence[TensorSpec]) -> Callable[..., dict[str, Any]]:
    """The server half as a function of the boundary's tensors in order, returning the outputs by name."""

    def run(*boundary: Any) -> dict[str, Any]:
        answers = partition.server(boundary[0] if len(boundary) == 1 else list(boundary), training=False)
        return dict(zip((spec.name for spec in outputs), keras.tree.flatten(answers), strict=True))

    return run


def write_device(partition: Partition, inputs: Sequence[TensorSpec], folder: Path) -> None:
    """Writes the device half: one signature, the model's inputs -> the boundary."""
    archive = keras.export.ExportArchive()
    _track_tables(archive, partition.device)
    archive.add_endpoint(DEVICE_SIGNATURE, device_function(partition), wire_specs(inputs))
    _write(archive, folder)


def write_web_device(partition: Partition, inputs: Sequence[TensorSpec], folder: Path) -> None:
    """Writes the device half as browsers run it: one example a call, and uint8 where int8 crosses."""
    run = device_function(partition)

    def one(*values: Any) -> dict[str, Any]:
        return {name: _shifted(tensor, UNSIGNED, tf.uint8) if tensor.dtype == "int8" else tensor for name, tensor in run(*values).items()}

    archive = keras.export.ExportArchive()
    _track_tables(archive, partition.device)
    archive.add_endpoint(DEVICE_SIGNATURE, one, wire_specs([replace(spec, shape=(1, *spec.shape[1:])) for spec in inputs]))
    _write(archive, folder)


def takes_bytes(boundary: Sequence[TensorSpec]) -> bool:
    """Whether a boundary can cross as bytes: every size but the batch is known, and TensorFlow reads the dtypes from bytes."""
    return all(spec.nbytes is not None and spec.dtype in _RAW_DTYPES for spec in boundary)


def write_server(partition: Partition, outputs: Sequence[TensorSpec], fingerprint: str, folder: Path) -> None:
    """Writes the server half with its signatures, the batch first everywhere.

    `serve` (alias `serving_default`): boundary -> outputs. `pair`: a query -> the fingerprint. `serve_checked`: boundary -> outputs
    and the fingerprint. `serve_bytes`, where `takes_bytes`: the same for a boundary of bytes, little-endian, one string an example;
    int8 tensors as uint8, 128 higher.

    Raises:
        BundleError: a variable of the device half alone would be written, or an output's name is taken.
    """
    if CHECKED_OUTPUT in {spec.name for spec in outputs}:
        raise BundleError(f"The model has an output {CHECKED_OUTPUT!r}, which bundles use themselves. Give the output another name.")
    run = server_function(partition, outputs)

    def checked(*boundary: Any) -> dict[str, Any]:
        return {**run(*boundary), CHECKED_OUTPUT: tf.fill(tf.shape(boundary[0])[:1], fingerprint)}

    def pair(query: Any) -> dict[str, Any]:
        return {PAIR_OUTPUT: tf.fill(tf.shape(query), fingerprint)}

    archive = keras.export.ExportArchive()
    _track_tables(archive, partition.server)
    wire = wire_specs(partition.boundary.tensors)
    serve = archive.add_endpoint(SERVE_SIGNATURE, run, wire)
    archive.add_endpoint(CHECKED_SIGNATURE, checked, wire)
    if takes_bytes(specs := partition.boundary.tensors):
        from_bytes = [tf.TensorSpec([None], tf.string, name=spec.name) for spec in specs]
        archive.add_endpoint(BYTES_SIGNATURE, lambda *sent: checked(*map(_from_bytes, specs, sent)), from_bytes)
    archive.add_endpoint(PAIR_SIGNATURE, pair, [tf.TensorSpec([None], tf.int32, name=PAIR_INPUT)])
    own = {id(v.value) for v in partition.server.variables}
    device_only = {id(v.value): v.path for v in partition.device.variables if id(v.value) not in own}
    strays = sorted({device_only[id(v)] for v in serve.get_concrete_function().variables if id(v) in device_only})
    if strays:
        raise BundleError(f"The server half uses the device half's weights {strays}; expected none. Partition the model again.")
    _write(archive, folder)


def _from_bytes(spec: TensorSpec, sent: Any) -> Any:
    """A tensor `[n, ...]` from n strings. Strings of a wrong length cannot be given its shape, which fails the request."""
    dtype = tf.uint8 if spec.dtype == "int8" else tf.as_dtype(spec.dtype)
    values = tf.reshape(tf.io.decode_raw(sent, dtype), tf.concat([tf.shape(sent), tf.constant(spec.shape[1:], tf.int32)], 0))
    values = tf.ensure_shape(values, spec.shape)
    return _shifted(values, -UNSIGNED, tf.int8) if spec.dtype == "int8" else values


def _shifted(tensor: Any, by: int, dtype: tf.DType) -> Any:
    return tf.cast(tf.cast(tensor, tf.int32) + by, dtype)


def _write(archive: keras.export.ExportArchive, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with glob_free(folder) as plain, without_remarks():
        archive.write_out(str(plain), verbose=False)


def _track_tables(archive: keras.export.ExportArchive, half: keras.Model) -> None:
    """Lookup tables are not found through endpoints as variables are. Variables that are tracked as well are written twice."""
    for layer in layers_of(half):
        if not layer.variables and layer.built:
            archive.track(layer)


def layers_of(half: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a half, those of models inside it too."""
    for layer in half.layers:
        if isinstance(layer, keras.Model):
            yield from layers_of(layer)
        else:
            yield layer


def wire_specs(specs: Sequence[TensorSpec]) -> list[tf.TensorSpec]:
    """Tensors of the contract as TensorFlow describes them."""
    return [tf.TensorSpec(spec.shape, tf.as_dtype(spec.dtype), name=spec.name) for spec in specs]


def _unique(name: str, taken: Sequence[str]) -> str:
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
