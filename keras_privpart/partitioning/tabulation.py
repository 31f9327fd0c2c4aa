"""Cuts with their costs: one pass forwards for the device halves, one backwards for the server halves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import keras

from keras_privpart.contract import raw_nbytes
from keras_privpart.partitioning.costs import formulas
from keras_privpart.partitioning.cut_table import CutTable
from keras_privpart.partitioning.cutpoint import Cut, boundary_of
from keras_privpart.partitioning.graphs.addresses import Addresses
from keras_privpart.partitioning.graphs.calls import Call, Graph
from keras_privpart.partitioning.graphs.separation import frontiers, private_calls


def tabulate(graph: Graph, addresses: Addresses, public: Collection[int]) -> CutTable:
    """All frontiers of the graph as rows. Linear in calls, edges and the tensors of the rows."""
    order = private_calls(graph, public)
    found = list(frontiers(graph, order, public))
    macs = {call.index: _multiply_adds(graph, call) for call in graph.calls}
    ahead = _running(graph, macs, order, ())
    behind = _running(graph, macs, order[::-1], graph.outputs)
    names = dict(zip(graph.inputs, graph.input_names, strict=True))
    sizes = [raw_nbytes(graph.tensors[t].shape, graph.tensors[t].dtype) for t in graph.inputs if t not in public]
    raw = None if any(s is None for s in sizes) else sum(s for s in sizes if s is not None)
    rows = []
    for index, frontier in enumerate(found):
        device, server = ahead[frontier.size], behind[len(order) - frontier.size]
        rows.append(
            Cut(
                index=index,
                tensors=tuple(addresses.of(t) for t in frontier.boundary),
                boundary=boundary_of(graph, addresses, frontier.boundary, frontier.masks),
                depth=frontier.size / len(order),
                device_params=device.params,
                server_params=server.params,
                device_trainable=device.trainable,
                device_macs=device.macs,
                server_macs=server.macs,
                input_bytes=raw,
                public_inputs=tuple(names[t] for t in graph.inputs if t in public),
            )
        )
    return CutTable(tuple(rows))


def _multiply_adds(graph: Graph, call: Call) -> int | None:
    shapes = [tuple(x.shape) for x in keras.tree.flatten((call.args, dict(call.kwargs))) if isinstance(x, keras.KerasTensor)]
    return formulas.multiply_adds(call.operation, (call.args, dict(call.kwargs)), shapes, [graph.tensors[t].shape for t in call.outputs])


@dataclass(frozen=True)
class _Sum:
    """What a set of calls costs."""

    params: int
    trainable: int
    macs: int | None


def _running(graph: Graph, macs: Mapping[int, int | None], order: Sequence[int], first: Collection[int]) -> list[_Sum]:
    """Costs of the first 0, 1, 2, ... calls of `order`, with the public calls they need; each weight and each call counts once.

    Args:
        graph: the whole graph.
        macs: multiply-adds of each call.
        order: the private calls, forwards or backwards.
        first: tensors whose public calls count from the start.
    """
    private = set(order)
    done: set[int] = set()
    weights: set[int] = set()
    params, trainable, work = 0, 0, 0
    unknown = False
    sums = []
    for index in (-1, *order):
        stack = [graph.tensors[t].call for t in first] if index < 0 else [index]
        while stack:
            call = graph.calls[stack.pop()]
            if call.index in done or (call.index in private and call.index != index):
                continue
            done.add(call.index)
            stack.extend(graph.tensors[t].call for t in call.inputs)
            new = {id(v): v for v in call.variables if id(v) not in weights}
            weights.update(new)
            params += formulas.parameters(list(new.values()))
            trainable += formulas.parameters([v for v in call.trainable_variables if id(v) in new])
            unknown = unknown or macs[call.index] is None
            work += macs[call.index] or 0
        sums.append(_Sum(params, trainable, None if unknown else work))
    return sums
