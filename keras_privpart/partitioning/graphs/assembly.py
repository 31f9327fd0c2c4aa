"""Keras models out of parts of a graph, on the same layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras

from keras_privpart.partitioning.graphs.calls import Call, Graph, Tensor
from keras_privpart.partitioning.graphs.graph import deep_graphs, fresh_input, read, record, swapped
from keras_privpart.partitioning.graphs.masks import AttachMask, DropMask, ReadMask


@dataclass(frozen=True)
class Port:
    """An input or output of a model to build.

    Attributes:
        tensor: a tensor of the graph.
        name: of the input or output.
        kind: "tensor"; "mask" for the mask of that tensor; or "bare" for an output that shall go without its mask.
    """

    tensor: int
    name: str
    kind: Literal["tensor", "mask", "bare"] = "tensor"

    @property
    def is_mask(self) -> bool:
        return self.kind == "mask"


def build(
    graph: Graph,
    calls: Sequence[int],
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    name: str,
    input_structure: Any = None,
    output_structure: Any = None,
) -> keras.Model:
    """Makes a Keras model of a part of the graph, on the same layers.

    Args:
        graph: the whole graph.
        calls: the calls to keep, in topological order, without those that stand for inputs.
        inputs: what is fed, in order.
        outputs: what is returned, in order. An output is called as its port says, which costs an identity layer unless the
            operation that makes it has that name already.
        name: of the new model.
        input_structure, output_structure: nested structures to pack inputs and outputs into; flat if `None`.
    """
    heads = [_head(graph.tensors[port.tensor], port) for port in inputs]
    value = _fed(inputs, heads)
    kept = set(calls)
    makers = [graph.maker(port.tensor) for port in outputs]
    added = _need_layers(outputs, makers, kept, value.keys())
    reserved = {port.name for port in inputs} | {f"{port.name}_attached" for port in inputs if port.is_mask}
    reserved |= {port.name for port, new in zip(outputs, added, strict=True) if new}
    owner = {port.name: id(maker.operation) for port, maker, new in zip(outputs, makers, added, strict=True) if not new}
    for index in calls:
        call = graph.calls[index]
        tensors = [graph.tensors[t] for t in call.outputs]
        if call.operation.name in reserved or owner.setdefault(call.operation.name, id(call.operation)) != id(call.operation):
            alias = _free_name(call.path.replace("/", "_"), reserved | owner.keys())
            reserved.add(alias)
            fed = [value[t] for t in call.inputs]
            made = record(_alias(graph, call, alias), ((_pack(None, fed),), {}), {}, tensors)
        else:
            known = {id(graph.tensors[t].symbol): value[t] for t in call.inputs}
            made = record(call.operation, (call.args, call.kwargs), known, tensors)
        for tensor, symbol in zip(call.outputs, made, strict=True):
            # A tensor that is fed stays what was fed, even when another output of its call is computed here.
            value.setdefault(tensor, symbol)
    results = [value[port.tensor] if port.kind == "tensor" else _without_or_as_mask(graph, port, value) for port in outputs]
    _name_outputs(outputs, added, results)
    with deep_graphs(len(calls)):
        return keras.Model(_pack(input_structure, heads), _pack(output_structure, results), name=name)


def bypass(model: keras.Model, operations: Collection[Any]) -> keras.Model:
    """`model` without the given operations, each of which hands on its inputs unchanged.

    Raises:
        ValueError: an operation is not there, or changes the number, shape or dtype of its tensors, so that it cannot be left out.
    """
    graph = read(model)
    skipped = {id(operation) for operation in operations}
    missing = skipped - {id(call.operation) for call in graph.calls}
    if missing:
        raise ValueError(f"{', '.join(op.name for op in operations if id(op) in missing)} is no layer of {model.name!r}.")
    same: dict[int, int] = {}
    for call in graph.calls:
        if id(call.operation) in skipped:
            before, after = ([(t.shape, t.dtype) for t in (graph.tensors[i] for i in ids)] for ids in (call.inputs, call.outputs))
            if before != after:
                raise ValueError(f"{call.operation.name!r} turns {before} into {after}.")
            same.update((made, same.get(fed, fed)) for fed, made in zip(call.inputs, call.outputs, strict=True))
    swap = {id(graph.tensors[made].symbol): graph.tensors[fed].symbol for made, fed in same.items()}
    calls = []
    for call in graph.calls:
        args, kwargs = swapped((call.args, call.kwargs), swap)
        calls.append(replace(call, args=args, kwargs=kwargs, inputs=tuple(same.get(t, t) for t in call.inputs)))
    left_out = graph.input_calls | {c.index for c in calls if id(c.operation) in skipped}
    return build(
        replace(graph, calls=tuple(calls)),
        [c.index for c in calls if c.index not in left_out],
        [Port(t, name) for t, name in zip(graph.inputs, graph.input_names, strict=True)],
        [Port(same.get(t, t), name) for t, name in zip(graph.outputs, graph.output_names, strict=True)],
        name=f"{model.name}_plain",
        input_structure=graph.input_structure,
        output_structure=graph.output_structure,
    )


def _head(tensor: Tensor, port: Port) -> Any:
    if port.is_mask:
        return keras.Input(batch_shape=tensor.mask_shape, dtype="bool", name=port.name)
    return fresh_input(tensor.symbol, port.name)


def _fed(inputs: Sequence[Port], heads: Sequence[Any]) -> dict[int, Any]:
    """What stands for each tensor that is fed: its input, with the mask that is fed for it."""
    value = {port.tensor: head for port, head in zip(inputs, heads, strict=True) if not port.is_mask}
    for port, head in zip(inputs, heads, strict=True):
        if port.is_mask:
            value[port.tensor] = AttachMask(name=f"{port.name}_attached")([value[port.tensor], head])
    return value


def _alias(graph: Graph, call: Call, name: str) -> keras.Model:
    """A model called `name` around one call: two operations of one model must not share a name."""
    inputs = [fresh_input(graph.tensors[t].symbol, f"{name}_{i}") for i, t in enumerate(call.inputs)]
    known = {id(graph.tensors[t].symbol): x for t, x in zip(call.inputs, inputs, strict=True)}
    made = record(call.operation, (call.args, call.kwargs), known, [graph.tensors[t] for t in call.outputs])
    return keras.Model(_pack(None, inputs), _pack(None, made), name=name)


def _without_or_as_mask(graph: Graph, port: Port, value: Mapping[int, Any]) -> Any:
    """A tensor without its mask, or its mask."""
    layer = ReadMask(name=port.name) if port.is_mask else DropMask(name=port.name)
    layer.built = True
    tensor = replace(graph.tensors[port.tensor], mask_shape=None)
    if port.is_mask:
        tensor = replace(tensor, shape=graph.tensors[port.tensor].mask_shape or (), dtype="bool")
    return record(layer, ((value[port.tensor],), {}), {}, [tensor])[0]


def _need_layers(outputs: Sequence[Port], makers: Sequence[Call], kept: Collection[int], fed: Collection[int]) -> list[bool]:
    """Which outputs need a layer of their own at the end: for a mask, or because no operation that makes them bears their name."""
    alone = [
        port.kind != "tensor" or port.tensor in fed or maker.index not in kept or maker.operation.name != port.name
        for port, maker in zip(outputs, makers, strict=True)
    ]
    names = {port.name for port, new in zip(outputs, alone, strict=True) if new}
    return [port.name in names for port in outputs]  # outputs of one name share one layer


def _name_outputs(outputs: Sequence[Port], added: Sequence[bool], results: list[Any]) -> None:
    """Puts identities behind outputs whose name is not that of their operation."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, (port, new) in enumerate(zip(outputs, added, strict=True)):
        if new and port.kind == "tensor":
            groups.setdefault((port.name, results[i].dtype), []).append(i)
    for (name, dtype), group in groups.items():
        # One layer for all outputs of one name: the outputs of a nested model all bear its name. Its own dtype, for it must not cast.
        identity = keras.layers.Identity(name=name, dtype=dtype if keras.backend.is_float_dtype(dtype) else None)
        named = identity([results[i] for i in group]) if len(group) > 1 else [identity(results[group[0]])]
        for i, result in zip(group, named, strict=True):
            results[i] = result


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _pack(structure: Any, flat: list[Any]) -> Any:
    if structure is None:
        return flat[0] if len(flat) == 1 else flat
    return keras.tree.pack_sequence_as(structure, flat)
