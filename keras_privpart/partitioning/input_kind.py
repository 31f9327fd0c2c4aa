"""`InputKind`: what each input of a model holds: a picture, a signal, a table or tokens. Attackers and scores follow from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_privpart.errors import PrivPartError
from keras_privpart.partitioning.graphs.calls import Graph
from keras_privpart.partitioning.graphs.graph import input_names, input_structure, read, sublayers
from keras_privpart.several_inputs import Inputs

PICTURE, SIGNAL, TABLE, TOKENS = KINDS = ("picture", "signal", "table", "tokens")
Given = str | Mapping[str, str] | None
_SHORTEST_SIGNAL = 8  # samples: a row of fewer numbers is one of a table
# What reads samples one after the other: a row of numbers that comes to such a layer is a signal.
_ALONG_TIME = (
    keras.layers.Conv1D,
    keras.layers.SeparableConv1D,
    keras.layers.DepthwiseConv1D,
    keras.layers.AveragePooling1D,
    keras.layers.MaxPooling1D,
    keras.layers.RNN,
    keras.layers.LSTM,
    keras.layers.GRU,
    keras.layers.Bidirectional,
    keras.layers.MelSpectrogram,
    keras.layers.STFTSpectrogram,
)
# What moves values, or scales them, and leaves open what they are.
_NEUTRAL = (
    keras.layers.InputLayer,
    keras.layers.Identity,
    keras.layers.Reshape,
    keras.layers.Rescaling,
    keras.layers.Normalization,
    keras.layers.BatchNormalization,
    keras.layers.GaussianNoise,
    keras.layers.Dropout,
)
_NEUTRAL_OPS = ("ExpandDims", "Squeeze", "Reshape", "Cast")
_SPECTRA = ("STFT", "RFFT", "FFT")


@dataclass(frozen=True)
class InputKind:
    """What one input of a model holds.

    Attributes:
        name: of the input.
        kind: one of `KINDS`. Pictures are `[height, width, channels]`; signals `[time, channels]` or `[time]`; tokens whole numbers
            `[length]`; tables all else: numbers and categories, each a column.
        shape: of one example, without the batch, as the model declares it.
        values: how many values a token or a category may have, where the model says so.
        padding: the token that fills up, and stands for nothing; None where the model masks none.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]
    values: int | None = None
    padding: int | None = None


def kinds_of(model: keras.Model, given: Given, error: type[PrivPartError]) -> tuple[InputKind, ...]:
    """What the inputs of a model hold, in the model's order.

    Args:
        model: a functional or Sequential model, or a device half.
        given: what the caller says: one of `KINDS` for all inputs, or by input name; the others are inferred. What an `Embedding` reads
            are tokens, or one category; what has three axes is a picture; what has two, or is read along time, a signal; all else a table.
        error: raised for names and kinds that are none.
    """
    graph, names = read(model), input_names(model)
    said = dict.fromkeys(names, given) if isinstance(given, str) else dict(given or {})
    if set(said) - set(names) or set(said.values()) - set(KINDS):
        raise error(f"Received input_kind={given!r}; expected one of {', '.join(KINDS)}, or such by input name ({', '.join(names)}).")
    return tuple(_kind(graph, tensor, name, said.get(name)) for name, tensor in zip(names, graph.inputs, strict=True))


def given_to(model: keras.Model, x: Any) -> Any:
    """Inputs in the structure that a model takes: an array as it is, `Inputs` by its input names."""
    if not isinstance(x, Inputs):
        return x
    named = x.renamed(input_names(model)).arrays
    return keras.tree.pack_sequence_as(input_structure(model), list(named.values()))


def _kind(graph: Graph, tensor: int, name: str, said: str | None) -> InputKind:
    source = graph.tensors[tensor]
    shape, readers = tuple(source.shape[1:]), list(_readers(graph, tensor))
    embedding = next((layer for r in readers for layer in _layers(r) if isinstance(layer, keras.layers.Embedding)), None)
    single = all(d == 1 for d in shape)
    values = None if embedding is None else int(embedding.input_dim)
    kind = said or _inferred(source.dtype, shape, readers, embedding is not None)
    masked = embedding is not None and embedding.mask_zero and not single
    return InputKind(name, kind, shape, values if kind == TOKENS or (kind == TABLE and single) else None, 0 if masked else None)


def _inferred(dtype: str, shape: Sequence[int | None], readers: Sequence[Any], embedded: bool) -> str:
    if embedded:
        return TABLE if all(d == 1 for d in shape) else TOKENS
    if len(shape) == 3:
        return PICTURE
    if dtype == "string" or "int" in dtype or dtype == "bool":
        return TABLE
    if len(shape) == 2 and shape[0] != 1:
        return SIGNAL
    timed = any(isinstance(r, _ALONG_TIME) or type(r).__name__ in _SPECTRA for r in readers)
    return SIGNAL if len(shape) == 1 and timed and (shape[0] or _SHORTEST_SIGNAL) >= _SHORTEST_SIGNAL else TABLE


def _readers(graph: Graph, tensor: int) -> Iterator[Any]:
    """The operations that read an input, behind those that only move or scale its values."""
    for call in graph.calls:
        if tensor in call.inputs:
            if isinstance(call.operation, _NEUTRAL) or type(call.operation).__name__ in _NEUTRAL_OPS:
                for output in call.outputs:
                    yield from _readers(graph, output)
            else:
                yield call.operation


def _layers(operation: Any) -> list[Any]:
    return sublayers(operation) if isinstance(operation, keras.layers.Layer) else []


def column_names(name: str, count: int) -> list[str]:
    """Of the columns of a table, by which its scores go."""
    return [name] if count == 1 else [f"{name}[{i}]" for i in range(count)]


def flat_rows(x: np.ndarray) -> np.ndarray:
    """Examples as rows `[n, columns]`."""
    return x.reshape(len(x), -1)
