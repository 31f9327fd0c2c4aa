"""Names for the tensors of a graph, as people write them.

`conv1` is the output of the operation `conv1`; `relu#2` that of its second call; `split:1` the second of several outputs (counted
from 0); `encoder#2:0` both. A bare name stands for all outputs of the call that the server half uses. Operations of nested
models go by their own name, or by path (`resnet50/conv1`) where two operations share a name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cached_property

from keras_privpart.partitioning.graphs.calls import Graph
from keras_privpart.partitioning.graphs.problems import (
    AllInputsPublic,
    AmbiguousTensor,
    NoSuchOutput,
    Problem,
    UnknownPublicInput,
    UnknownTensor,
)

_ADDRESS = re.compile(r"(?P<name>.+?)(?:#(?P<call>\d+))?(?::(?P<output>\d+))?")

MASK_SUFFIX = ":mask"
"""Marks the source of a mask in a boundary. A mask crosses with its tensor; naming it in a cut names the tensor."""


class Addresses:
    """Addresses of the tensors of one graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._operations: dict[str, dict[int, None]] = {}
        for call in graph.calls:
            for name in {call.path, call.operation.name}:
                self._operations.setdefault(name, {})[id(call.operation)] = None

    def of(self, tensor: int) -> str:
        """The shortest address that means this tensor only."""
        call = self._graph.calls[self._graph.tensors[tensor].call]
        position = self._graph.tensors[tensor].position
        return self.of_call(call.index) + (f":{position}" if len(call.outputs) > 1 else "")

    def of_call(self, index: int) -> str:
        call = self._graph.calls[index]
        numbers = self._graph.numbers[id(call.operation)]
        name = call.operation.name if len(self._operations[call.operation.name]) == 1 else call.path
        return name + (f"#{numbers.index(index) + 1}" if len(numbers) > 1 else "")

    @cached_property
    def _exact(self) -> dict[str, int]:
        return {self.of(t.index): t.index for t in self._graph.tensors}

    def resolve(self, address: str) -> tuple[int, ...] | Problem:
        """The tensors that an address stands for: one, or all outputs of one call."""
        address = address.removesuffix(MASK_SUFFIX)
        if address in self._exact:
            return (self._exact[address],)
        match = _ADDRESS.fullmatch(address)
        name = match["name"] if match else address
        operations = self._operations.get(address if address in self._operations else name, {})
        if match is None or not operations:
            return UnknownTensor(address, self._near(name))
        calls = [index for key in operations for index in self._graph.numbers[key]]
        if address in self._operations:
            number, output = None, None
        else:
            number, output = match["call"], match["output"]
        if number is not None and len(operations) == 1:
            if not 1 <= int(number) <= len(calls):
                return NoSuchOutput(address, tuple(self.of_call(c) for c in calls))
            calls = [calls[int(number) - 1]]
        if len(calls) > 1:
            return AmbiguousTensor(address, tuple(self.of_call(c) for c in calls))
        outputs = self._graph.calls[calls[0]].outputs
        if output is None:
            return outputs
        if int(output) >= len(outputs):
            return NoSuchOutput(address, tuple(self.of(t) for t in outputs))
        return (outputs[int(output)],)

    def public(self, names: Sequence[str]) -> tuple[frozenset[int], list[Problem]]:
        """The tensors of public inputs by name, and what is wrong with the names."""
        names = [names] if isinstance(names, str) else names
        inputs = dict(zip(self._graph.input_names, self._graph.inputs, strict=True))
        problems: list[Problem] = [UnknownPublicInput(name, tuple(inputs)) for name in names if name not in inputs]
        if set(inputs) <= set(names):
            problems.append(AllInputsPublic(tuple(inputs)))
        return frozenset(inputs[name] for name in names if name in inputs), problems

    def _near(self, name: str) -> tuple[str, ...]:
        known = [self.of_call(call.index) for call in self._graph.calls]
        inside = [k for k in known if name and name.lower() in k.lower()]
        return tuple(dict.fromkeys([*difflib.get_close_matches(name, known, n=3, cutoff=0.5), *inside[:3]]))[:4]
