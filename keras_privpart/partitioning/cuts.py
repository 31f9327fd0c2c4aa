"""`cuts(model)`: every enumerated cut of a model with its costs, on request with measured times and a quick probe of its leakage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import keras

from keras_privpart.errors import CutError
from keras_privpart.partitioning.cut_table import CutTable
from keras_privpart.partitioning.cutpoint import Cut
from keras_privpart.partitioning.graphs.addresses import Addresses
from keras_privpart.partitioning.graphs.graph import read
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.latency import example, measure_halves
from keras_privpart.partitioning.partition import partition
from keras_privpart.partitioning.tabulation import tabulate

# What a quick attack makes of the boundary of a cut: 0 nothing beyond the floor, 1 all that there is to see.
Probe = Callable[[Cut, Partition], float]


def cuts(
    model: keras.Model,
    *,
    public_inputs: Sequence[str] = (),
    measure: bool = False,
    probe: Probe | None = None,
    x: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> CutTable:
    """Enumerates the cuts of a model, in topological order, each with its boundary, bytes, parameters and multiply-adds.

    Which cuts: every single tensor that separates the private inputs from the outputs; and of the sets of several tensors those
    that are the frontier of one fixed topological order, that is, all that is still needed after its first n operations. The order
    is depth first from the outputs, with the operations that read a raw input, and what these need, ahead of all others. The work is
    linear in operations and edges, plus the tensors of the table itself. Sets that are the frontier of some other order are not
    listed; `partition(model, at=[...])` takes them all the same.

    Args:
        model: a functional or Sequential Keras model.
        public_inputs: names of inputs that the server half may read raw.
        measure: whether to time both halves on this machine. Only the rows that can win are timed: the Pareto front of bytes
            and device work. `CutTable.pareto` returns the same rows.
        probe: a quick attack on those rows, called with the cut and the halves; returns their leakage.
        x: one example in the model's own input structure, to measure with; zeros if it is not given.
        progress: called with the number of rows done and to do, when there is anything to wait for.

    Raises:
        ModelError: the model keeps no graph.
        CutError: a public input is none of the model's; or times are asked for, an input has a free shape and `x` is missing.

    Example:
        >>> table = cuts(model)
        >>> print(table.filter(max_bytes=10_000).to_markdown())
    """
    graph = read(model)
    addresses = Addresses(graph)
    public, problems = addresses.public(public_inputs)
    if problems:
        raise CutError("\n".join(str(p) for p in problems))
    table = tabulate(graph, addresses, public)
    if not measure and probe is None:
        return table
    front = table.pareto()
    found: dict[int, Cut] = {}
    for done, cut in enumerate(front, start=1):
        parts = partition(model, at=cut)
        row = cut
        if measure:
            device, server = measure_halves(parts, example(model) if x is None else x)
            row = replace(row, device_seconds=device, server_seconds=server)
        if probe is not None:
            row = replace(row, leakage=float(probe(cut, parts)))
        found[cut.index] = row
        if progress is not None:
            progress(done, len(front))
    return CutTable(tuple(found.get(c.index, c) for c in table))
