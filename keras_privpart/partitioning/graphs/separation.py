"""Which sets of tensors separate a graph. Plain graph algorithms, iterative, linear in calls and edges."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from keras_privpart.partitioning.graphs.calls import Graph


@dataclass(frozen=True)
class Separation:
    """A graph cut in two.

    Attributes:
        boundary: the tensors that cross, in topological order.
        masks: those of them whose Keras mask the server half needs.
        device, server: the calls of either side, in topological order, without the model's inputs.
        device_inputs, server_inputs: inputs of the model (as tensors) that either side reads.
    """

    boundary: tuple[int, ...]
    masks: tuple[int, ...]
    device: tuple[int, ...]
    server: tuple[int, ...]
    device_inputs: tuple[int, ...]
    server_inputs: tuple[int, ...]


def upstream(graph: Graph, tensors: Collection[int], stop: Collection[int] = ()) -> tuple[set[int], set[int]]:
    """Walks back from `tensors`, not beyond those in `stop`.

    Returns:
        The calls that were reached, and the tensors in `stop` that were met.
    """
    halt, met, calls = set(stop), set(), set()
    stack = list(tensors)
    seen = set(stack)
    while stack:
        tensor = stack.pop()
        if tensor in halt:
            met.add(tensor)
            continue
        call = graph.maker(tensor)
        calls.add(call.index)
        for source in call.inputs:
            if source not in seen:
                seen.add(source)
                stack.append(source)
    return calls, met


def separate(graph: Graph, boundary: Collection[int]) -> Separation:
    """Both sides of a cut that is known to separate."""
    crossing = tuple(sorted(boundary))
    server, _ = upstream(graph, graph.outputs, crossing)
    device, _ = upstream(graph, crossing)
    readers = _mask_readers(graph, sorted(server), crossing)
    return Separation(
        boundary=crossing,
        device=tuple(sorted(device - graph.input_calls)),
        server=tuple(sorted(server - graph.input_calls)),
        masks=tuple(t for t in crossing if t in readers),
        device_inputs=tuple(t for t in graph.inputs if graph.tensors[t].call in device),
        server_inputs=tuple(t for t in graph.inputs if graph.tensors[t].call in server),
    )


def raw_paths(graph: Graph, boundary: Collection[int], public: Collection[int]) -> Iterator[tuple[int, ...]]:
    """For each private input that reaches an output around `boundary`, one shortest path, from the input to the output."""
    halt, toward = set(boundary), dict.fromkeys(graph.outputs, -1)
    queue = [t for t in dict.fromkeys(graph.outputs) if t not in halt]
    for tensor in queue:  # grows while it is read: breadth first
        for source in graph.maker(tensor).inputs:
            if source not in toward and source not in halt:
                toward[source] = tensor
                queue.append(source)
    reached = set(queue)
    for tensor in graph.inputs:
        if tensor in reached and tensor not in public:
            path = [tensor]
            while toward[path[-1]] >= 0:
                path.append(toward[path[-1]])
            yield tuple(path)


def private_calls(graph: Graph, public: Collection[int]) -> list[int]:
    """Calls that depend on a private input, in a topological order, the inputs themselves left out.

    First come the calls that read a private input and what these depend on: every cut leaves all of them to the device. So no
    prefix of the order is spoilt by one raw input that is read late.
    """
    raw = {t for t in graph.inputs if t not in public}
    tainted = set(raw)
    found, readers = [], []
    for call in graph.calls:
        if any(t in tainted for t in call.inputs):
            found.append(call.index)
            tainted.update(call.outputs)
        if any(t in raw for t in call.inputs):
            readers.append(call.index)
    first, _ = upstream(graph, [t for index in readers for t in graph.calls[index].outputs])
    return [index for index in found if index in first] + [index for index in found if index not in first]


@dataclass(frozen=True)
class Frontier:
    """The tensors that cross after the first `size` private calls, and those of them whose mask the server half needs."""

    size: int
    boundary: tuple[int, ...]
    masks: tuple[int, ...]


def frontiers(graph: Graph, order: Sequence[int], public: Collection[int]) -> Iterator[Frontier]:
    """The frontier after each prefix of `order` that leaves no private input and at least one call to the server.

    Frontiers with a tensor that cannot be sent (sparse, ragged, a scalar) are left out.

    Every single tensor that separates is among them: each call either leads to it or follows from it, so that in any topological
    order a prefix ends right behind it. Of the sets of several tensors, those are found that are a frontier of this order.

    Args:
        order: the private calls, in topological order.
        public: inputs of the model that the server half may read.
    """
    waiting = [0] * len(graph.tensors)
    for index in order:
        for tensor in graph.calls[index].inputs:
            waiting[tensor] += 1
    for tensor in graph.outputs:
        waiting[tensor] += 1
    raw = {t for t in graph.inputs if t not in public and waiting[t]}
    read_until = _mask_readers(graph, order)
    crossing: dict[int, None] = {}
    # A call that depends on public inputs only is computed on whichever side needs it, and never crosses.
    for size, index in enumerate(order[:-1], start=1):
        call = graph.calls[index]
        for tensor in call.inputs:
            waiting[tensor] -= 1
            if not waiting[tensor]:
                crossing.pop(tensor, None)
                raw.discard(tensor)
        crossing.update(dict.fromkeys(t for t in call.outputs if waiting[t]))
        if not raw and not any(graph.tensors[t].unsendable for t in crossing):
            boundary = tuple(sorted(crossing))
            yield Frontier(size, boundary, tuple(t for t in boundary if read_until.get(t, -1) >= size))


def _mask_readers(graph: Graph, calls: Sequence[int], boundary: Collection[int] = ()) -> dict[int, int]:
    """For each tensor whose mask matters, the place in `calls` of the last call that reads it or passes it on to where it matters.

    The mask of an output of the model matters too: Keras weighs losses with it.
    """
    masked = {t.index for t in graph.tensors if t.mask_shape is not None}
    if not masked:
        return {}
    last = {t: len(calls) for t in graph.outputs if t in masked}
    for place in reversed(range(len(calls))):
        call = graph.calls[calls[place]]
        read = masked.intersection(call.inputs)
        if read and (call.reads_mask or any(t in last and t not in boundary for t in call.outputs)):
            last.update((t, max(place, last.get(t, -1))) for t in read)
    return last
