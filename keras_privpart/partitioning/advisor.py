"""`cuts(model)`: every enumerated cut of a model with its costs, and the advisor's choice among them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import keras

from keras_privpart.errors import CutError
from keras_privpart.partitioning import cost
from keras_privpart.partitioning.addresses import Addresses
from keras_privpart.partitioning.calls import Call, Graph
from keras_privpart.partitioning.cutpoint import Cut, boundary_of
from keras_privpart.partitioning.graph import read
from keras_privpart.partitioning.separation import frontiers, private_calls

DEVICE_SHARE = 0.1


@dataclass(frozen=True)
class CutTable(Sequence[Cut]):
    """Cuts of one model, in topological order unless sorted otherwise. Filters and sorts return new tables."""

    rows: tuple[Cut, ...]

    @overload
    def __getitem__(self, index: int) -> Cut: ...
    @overload
    def __getitem__(self, index: slice) -> CutTable: ...
    def __getitem__(self, index: int | slice) -> Cut | CutTable:
        return CutTable(self.rows[index]) if isinstance(index, slice) else self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def choose(self, max_device_share: float = DEVICE_SHARE) -> Cut:
        """The advisor's choice: the cut with the fewest bytes to send whose device half holds at most a tenth of the parameters.

        The rule, in full:

        1. Cuts whose device half has no trainable weight (only rescaling, reshaping and the like) are set aside: such a half
           is a fixed transformation that protects nothing. They come back only when there are no others.
        2. Of the rest, those count whose device half holds at most `max_device_share` of the parameters. When there is none,
           those with the smallest share count.
        3. The fewest boundary bytes for one example win, in the dtype that the model computes; a boundary of unknown size comes
           after all known ones. Among equals the one nearest to the inputs wins.

        Returns:
            The cut, with `reason` filled in.
        """
        if not self.rows:
            raise CutError("Received an empty table; expected at least one cut. This model has no point where it can be divided.")
        trained = [c for c in self.rows if c.device_trainable] or list(self.rows)
        small = [c for c in trained if c.device_share <= max_device_share]
        smallest = min(c.device_share for c in trained)
        pool = small or [c for c in trained if c.device_share == smallest]
        best = min(pool, key=lambda c: (c.nbytes is None, c.nbytes or 0, c.index))
        if small:
            reason = f"fewest bytes of the {len(small)} cuts with at most {max_device_share:.0%} of the parameters on the device"
        else:
            reason = f"no cut leaves at most {max_device_share:.0%} of the parameters on the device; this one leaves the fewest"
        return replace(best, reason=reason)

    def to_markdown(self) -> str:
        """The table in Markdown, one row a cut; sizes are for one example."""
        titles = ["cut", "crosses at", "shape", "float32", "float16", "int8", "raw input", "device params", "device MACs", "server MACs"]
        lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
        for c in self.rows:
            shapes = ", ".join("x".join("?" if d is None else str(d) for d in t.shape[1:]) or "1" for t in c.boundary.tensors)
            sizes = [
                c.bytes_as("float32"),
                c.bytes_as("float16"),
                c.bytes_as("int8"),
                c.input_bytes,
                c.device_params,
                c.device_macs,
                c.server_macs,
            ]
            cells = [str(c.index), c.address, shapes, *("?" if n is None else f"{n:,}" for n in sizes)]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        return json.dumps([c.to_json() for c in self.rows], indent=2, allow_nan=False) + "\n"


def cuts(model: Any, *, public_inputs: Sequence[str] = ()) -> CutTable:
    """Enumerates the cuts of a model, in topological order, with boundary, bytes, parameters and multiply-adds."""
    graph = read(model)
    addresses = Addresses(graph)
    public, problems = addresses.public(public_inputs)
    if problems:
        raise CutError("\n".join(str(p) for p in problems))
    return tabulate(graph, addresses, public)


def tabulate(graph: Graph, addresses: Addresses, public: Collection[int]) -> CutTable:
    """All frontiers of the graph as rows. Linear in calls, edges and the tensors of the rows."""
    order = private_calls(graph, public)
    found = list(frontiers(graph, order, public))
    ahead = _running(graph, order, ())
    behind = _running(graph, order[::-1], graph.outputs)
    names = dict(zip(graph.inputs, graph.input_names, strict=True))
    sizes = [cost.nbytes(graph.tensors[t].shape, graph.tensors[t].dtype) for t in graph.inputs if t not in public]
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
    return cost.multiply_adds(call.operation, (call.args, dict(call.kwargs)), shapes, [graph.tensors[t].shape for t in call.outputs])


@dataclass(frozen=True)
class _Sum:
    """What a set of calls costs."""

    params: int
    trainable: int
    macs: int | None


def _running(graph: Graph, order: Sequence[int], first: Collection[int]) -> list[_Sum]:
    """Costs of the first 0, 1, 2, ... calls of `order` with the public calls they need; each weight and call counts once."""
    private = set(order)
    done: set[int] = set()
    weights: set[int] = set()
    total = _Sum(0, 0, 0)
    sums = []
    for index in [None, *order]:
        stack = [graph.tensors[t].call for t in first] if index is None else [index]
        while stack:
            call = graph.calls[stack.pop()]
            if call.index in done or (index != call.index and call.index in private):
                continue
            done.add(call.index)
            stack.extend(graph.tensors[t].call for t in call.inputs)
            new = {id(v): v for v in call.variables if id(v) not in weights}
            weights.update(new)
            trainable = [v for v in call.trainable_variables if id(v) in new]
            macs = _multiply_adds(graph, call)
            total = _Sum(
                total.params + cost.parameters(list(new.values())),
                total.trainable + cost.parameters(trainable),
                None if macs is None or total.macs is None else total.macs + macs,
            )
        sums.append(total)
    return sums
