"""A model as plain data: the calls of its operations, and the tensors between them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the graph.

    Attributes:
        index: its place in `Graph.tensors`.
        call: the call that makes it, as a place in `Graph.calls`.
        position: which output of that call it is.
        shape: batch first; `None` for free dimensions.
        dtype: as Keras names it.
        mask_shape: shape of the Keras mask that travels with it at run time; `None` if there is none.
        sparse: whether it is a sparse tensor.
        symbol: the Keras tensor.
    """

    index: int
    call: int
    position: int
    shape: tuple[int | None, ...]
    dtype: str
    mask_shape: tuple[int | None, ...] | None
    sparse: bool
    symbol: Any

    @property
    def unsendable(self) -> str:
        """Why the tensor cannot stand on a boundary; empty if it can."""
        return "sparse" if self.sparse else "ragged" if self.symbol.ragged else "" if self.shape else "a scalar"


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operation. `args` and `kwargs` hold Keras tensors where the call takes tensors."""

    index: int
    path: str
    operation: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def is_layer(self) -> bool:
        return isinstance(self.operation, keras.layers.Layer)

    @property
    def reads_mask(self) -> bool:
        """Whether the operation takes the mask of an input into account: it has `mask` or `..._mask` among its arguments."""
        return self.is_layer and any(n == "mask" or n.endswith("_mask") for n in inspect.signature(self.operation.call).parameters)

    @property
    def variables(self) -> list[Any]:
        """Weights of a layer, nothing for a `keras.ops` operation."""
        return list(self.operation.weights) if self.is_layer else []

    @property
    def trainable_variables(self) -> list[Any]:
        return list(self.operation.trainable_weights) if self.is_layer else []


@dataclass(frozen=True, eq=False)
class Graph:
    """The calls of a model in topological order, nested models inlined.

    Attributes:
        model: the model as it was given.
        calls: every call that an output depends on, and every input of the model.
        tensors: every output of those calls.
        inputs: the model's inputs, flat, as places in `tensors`.
        outputs: the model's outputs, flat, as places in `tensors`.
        input_names, output_names: the names of the two.
        input_structure, output_structure: the nested structures in which the model takes and returns them.
        numbers: for each operation (by id) its calls, in the order in which they were made.
    """

    model: keras.Model
    calls: tuple[Call, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    input_structure: Any
    output_structure: Any
    numbers: Mapping[int, tuple[int, ...]]

    @property
    def input_calls(self) -> frozenset[int]:
        """The calls that stand for the model's inputs."""
        return frozenset(self.tensors[t].call for t in self.inputs)

    def maker(self, tensor: int) -> Call:
        """The call that makes a tensor."""
        return self.calls[self.tensors[tensor].call]
