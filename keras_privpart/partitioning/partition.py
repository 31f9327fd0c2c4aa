"""`partition(model, at=...)` cuts a model in two; `check_cut(model, at)` says what is wrong with a cut before anything is built."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import Any

import keras

from keras_privpart.contract import Boundary
from keras_privpart.errors import CutError
from keras_privpart.partitioning.cutpoint import Cut, boundary_of
from keras_privpart.partitioning.graphs.addresses import Addresses
from keras_privpart.partitioning.graphs.assembly import Port, build
from keras_privpart.partitioning.graphs.calls import Graph
from keras_privpart.partitioning.graphs.copying import copy_model, fresh_model
from keras_privpart.partitioning.graphs.graph import read, refusal
from keras_privpart.partitioning.graphs.names import traceable
from keras_privpart.partitioning.graphs.problems import (
    NeedlessTensor,
    NotAnAddress,
    NothingLeft,
    Problem,
    RawInput,
    RawPath,
    UnsendableTensor,
    UnsupportedModel,
)
from keras_privpart.partitioning.graphs.separation import Separation, frontiers, private_calls, raw_paths, separate, upstream
from keras_privpart.partitioning.halves import Partition
from keras_privpart.partitioning.narrowing import narrowed
from keras_privpart.partitioning.tabulation import tabulate

At = str | Sequence[str] | Cut | None


def check_cut(model: keras.Model, at: At, *, public_inputs: Sequence[str] = ()) -> list[Problem]:
    """Everything that is wrong with a cut; an empty list if it is valid.

    Args:
        model: a functional or Sequential Keras model.
        at: as for `partition`.
        public_inputs: as for `partition`.
    """
    reason = refusal(model)
    if reason is not None:
        return [UnsupportedModel(reason)]
    graph = read(model)
    return _resolve(graph, Addresses(graph), at, public_inputs)[1]


def partition(
    model: keras.Model,
    at: At = None,
    *,
    public_inputs: Sequence[str] = (),
    independent: bool = False,
    bottleneck: int | None = None,
    bottleneck_over: str = "place",
    bottleneck_examples: Any = None,
    bottleneck_activation: str = "linear",
    expand: str = "linear",
    device_budget: float | None = None,
    network: str | None = None,
) -> Partition:
    """Cuts a model into a device half and a server half with `server(device(x)) == model(x)`, bit for bit.

    The model is not changed. The halves use its layers, so training a half trains the model, unless `independent`. With a `bottleneck`
    the halves are those of another model, `result.model`, whose two new layers have yet to be trained.

    Args:
        model: a functional or Sequential Keras model.
        at: where to cut. The address of a tensor (`"conv2_block3_out"`, `"relu#2"`, `"split:1"`), a list of addresses, a row of
            `cuts(model)`, or `None` for the advisor's choice (`CutTable.choose`). Any set of tensors that separates the inputs
            from the outputs will do; every tensor of the set must be used by the server half.
        public_inputs: names of inputs that the server half may read raw, beside the boundary. All others never leave the device.
        independent: whether the halves get layers of their own, with copies of the model's weights and state. `result.model` is then
            the whole model on those layers.
        bottleneck: features that cross, fewer than now (`with_bottleneck`). None for as many as there are.
        bottleneck_over: `"place"` for so many at each place of the boundary's grid, `"example"` for so many in all.
        bottleneck_examples: a batch of the model's inputs from whose boundary the new layers take their start (`with_bottleneck`).
        bottleneck_activation: `"linear"`, `"tanh"` or `"softmax"` of the features that cross (`with_bottleneck`).
        expand: what the server half makes of a bottleneck's features, `"linear"`, `"dense"` or `"convolutions"` (`with_bottleneck`).
        device_budget: multiply-adds that the device may spend on one example, for the advisor's choice.
        network: speed of the network, such as `"10Mbit/s"`: lets the advisor choose the cut with the shortest estimated time
            (`CutTable.fastest`) instead of the fewest bytes.

    Returns:
        The halves and their boundary. The device half takes the model's inputs as the model does; less the public ones that it does not
        need, and then as one tensor or a flat list. The server half takes `boundary`, or `boundary_0` ... `boundary_n`, then the public
        inputs it reads, under their own names.

    Raises:
        ModelError: the model keeps no graph, or a layer cannot be copied.
        CutError: the cut is unknown or does not separate; names everything that is wrong with it. Or no cut is within the budget, or
            the bottleneck does not fit the boundary.

    Example:
        >>> parts = partition(model, at="conv2_block3_out")
        >>> parts.verify(images)
    """
    graph = read(copy_model(model) if independent else model)
    addresses = Addresses(graph)
    if at is None:
        public, problems = addresses.public(public_inputs)
        _refuse(problems)
        table = tabulate(graph, addresses, public)
        at = table.choose(device_budget=device_budget) if network is None else table.fastest(network, device_budget=device_budget)
    elif network is not None or device_budget is not None:
        raise CutError("Received both at=... and device_budget or network; expected one of the two. Leave the other out.")
    tensors, problems = _resolve(graph, addresses, at, public_inputs)
    _refuse(problems)
    separation = separate(graph, tensors)
    boundary = boundary_of(graph, addresses, separation.boundary, separation.masks)
    _warn_of_lambdas(graph)
    parts = _halves(graph, boundary, separation)
    if bottleneck is None:
        return parts
    return with_bottleneck(parts, bottleneck, bottleneck_over, bottleneck_examples, expand, bottleneck_activation)


def with_bottleneck(
    parts: Partition,
    features: int,
    over: str = "place",
    examples: Any = None,
    expand: str = "linear",
    activation: str = "linear",
    labels: Any = None,
) -> Partition:
    """The partition of a changed model: at each floating-point tensor of the boundary, `Squeeze` to `features`, cut, `Expand`.

    The new model keeps the layers of `parts` and shares their weights. The new layers start as an orthonormal projection and its
    transpose, the best guess without data; train them in. For a model that is trained already give `examples`: its principal components
    lose the least, and far fewer epochs bring back the task. `verify` compares with the changed model, `result.model`, not with the old.
    Put channels on afterwards: `with_bottleneck(parts, 8).with_channel(...)`.

    Args:
        parts: a partition without a channel and without public inputs.
        features: that cross, from 1 to one fewer than now.
        over: `"place"`: a linear map of the last axis, the same at each place of the grid, costs few parameters and keeps where things are.
            `"example"`: a linear map of the whole flattened tensor, to one vector; costs `features` times its size in parameters on
            either side and can leave out where things are, which is most of a picture.
        examples: what `parts.device.predict` takes, more of them than features, a few thousand if there are. The new layers start at the
            principal components of their boundary, scaled to mean 0 and variance 1, and at the least squares way back.
        expand: what spreads the features out on the server, where work is cheap and no attacker gains by it: `"linear"`; `"dense"`, with
            a hidden layer; `"convolutions"`, for pictures, transposed ones where the features are those of the whole example. What the
            last two add to the linear map starts at 0: the new model begins where the linear one does, and has room to learn.
        activation: of the features that cross: `"linear"`; `"tanh"`, which bounds each; `"softmax"`, which makes them compete, so that
            inputs of one class cross as nearly the same and the bits beyond the class can be bounded at little cost. With `examples`
            these start as likenesses to clusters of what crosses, and the way back from them as a normalising channel gives them. An
            example of more than 4,096 numbers is scaled down before (`bottleneck_scale`): else its features collapse in training.
        labels: the class of each example, from 0, for features of the whole example that compete, as many as there are classes or more:
            they then start as likenesses to the classes, or to parts of these, by ridge regression. Clusters alone may have little to do
            with the task, and features that say nothing of it die out.

    Raises:
        CutError: `features` out of range, a channel that is there already, or a boundary without a floating-point tensor; over the
            example, a tensor of open size; convolutions of what is no picture; with `examples`, too few, or a boundary that varies
            in fewer directions than `features`; labels without all that they need.

    Example:
        >>> parts = with_bottleneck(partition(model, at="conv2"), 8)
        >>> parts.boundary.tensors[0].shape
        (None, 14, 14, 8)

    References:
        Matsubara et al., "BottleFit: Learning Compressed Representations in Deep Neural Networks for Effective and Efficient Split
        Computing", WoWMoM 2022 (a narrow boundary, widened by the server and trained by distillation).
    """
    model, names = narrowed(parts, features, over, examples, expand, activation, labels)
    return partition(model, at=names)


def fresh_partition(parts: Partition) -> Partition:
    """The same cut of the same architecture with new weights (`graphs.copying.fresh_model`), without a channel.

    Raises:
        ModelError: a layer cannot be made again from its configuration.
        CutError: the boundary does not say where the model was cut.
    """
    sources = list(parts.boundary.sources)
    if not all(sources):
        raise CutError("Received a boundary that does not say where the model was cut; expected the tensors' addresses. Partition again.")
    return partition(fresh_model(parts.model), sources, public_inputs=parts.public_inputs)


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise CutError("\n".join(str(p) for p in problems))


def _resolve(graph: Graph, addresses: Addresses, at: Any, public_inputs: Sequence[str]) -> tuple[tuple[int, ...], list[Problem]]:
    """The tensors of a cut, and what is wrong with it."""
    if isinstance(at, Cut):
        at, public_inputs = at.tensors, (*public_inputs, *at.public_inputs)
    named = [at] if isinstance(at, str) else at
    if not isinstance(named, (list, tuple)) or not named or not all(isinstance(a, str) for a in named):
        return (), [NotAnAddress(repr(at))]
    public, problems = addresses.public(public_inputs)
    spelled: set[int] = set()
    together: dict[int, tuple[int, ...]] = {}
    for address in named:
        found = addresses.resolve(address)
        if isinstance(found, Problem):
            problems.append(found)
            continue
        spelled.update(found)
        together.update(dict.fromkeys(found, found))
    if problems:
        return (), problems
    spelled -= public  # these cross under their own names anyway
    if not spelled:
        return (), [NotAnAddress(repr(at))]
    _, used = upstream(graph, graph.outputs, spelled)
    # A bare name of an operation with several outputs means those that the server half uses.
    tensors = tuple(t for t in sorted(spelled) if t in used or used.isdisjoint(together[t]))
    return tensors, [*_tensor_problems(graph, addresses, tensors, used, public), *_separation_problems(graph, addresses, tensors, public)]


def _tensor_problems(
    graph: Graph, addresses: Addresses, tensors: Sequence[int], used: Collection[int], public: Collection[int]
) -> list[Problem]:
    found: list[Problem] = []
    for index in tensors:
        tensor, address = graph.tensors[index], addresses.of(index)
        if index in graph.inputs:
            found.append(RawInput(address, _nearest(graph, addresses, (index,), public)))
        elif index not in used:
            found.append(NeedlessTensor(address))
        elif tensor.unsendable:
            found.append(UnsendableTensor(address, tensor.unsendable))
    return found


def _separation_problems(graph: Graph, addresses: Addresses, tensors: Sequence[int], public: Collection[int]) -> list[Problem]:
    paths = list(raw_paths(graph, tensors, public))
    if paths:
        nearest = _nearest(graph, addresses, tensors, public)
        return [RawPath(addresses.of(path[0]), tuple(addresses.of(t) for t in path), nearest) for path in paths]
    return [] if separate(graph, tensors).server else [NothingLeft(tuple(addresses.of(t) for t in tensors))]


def _nearest(graph: Graph, addresses: Addresses, tensors: Sequence[int], public: Collection[int]) -> tuple[str, ...]:
    """Up to three cuts that separate: the frontier right at `tensors`, and the nearest single tensors before and behind it."""
    order = private_calls(graph, public)
    place = {call: size for size, call in enumerate(order, start=1)}
    here = max((place.get(graph.tensors[t].call, 0) for t in tensors), default=0)
    at_hand = list(frontiers(graph, order, public))
    before = [f for f in at_hand if f.size <= here]
    behind = [f for f in at_hand if f.size > here]
    single_before = [f for f in before if len(f.boundary) == 1]
    single_behind = [f for f in behind if len(f.boundary) == 1]
    chosen = [*before[-1:], *single_before[-1:], *single_behind[:1]] or behind[:1]
    texts = [[addresses.of(t) for t in f.boundary] for f in chosen]
    return tuple(dict.fromkeys(repr(t[0] if len(t) == 1 else t) for t in texts))


def _halves(graph: Graph, boundary: Boundary, separation: Separation) -> Partition:
    names = dict(zip(graph.inputs, graph.input_names, strict=True))
    crossing = [*((t, False) for t in separation.boundary), *((t, True) for t in separation.masks)]
    wire = [Port(t, name, "mask" if mask else "tensor") for (t, mask), name in zip(crossing, boundary.names, strict=True)]
    device_inputs = [t for t in graph.inputs if t in separation.device_inputs or t not in separation.server_inputs]
    whole = len(device_inputs) == len(graph.inputs)
    device = build(
        graph,
        separation.device,
        [Port(t, names[t]) for t in device_inputs],
        [_output(graph, t, mask) for t, mask in crossing],
        name=traceable(f"{graph.model.name}_device"),
        input_structure=graph.input_structure if whole else None,
    )
    server = build(
        graph,
        separation.server,
        [*wire, *(Port(t, names[t]) for t in separation.server_inputs)],
        [Port(t, name) for t, name in zip(graph.outputs, graph.output_names, strict=True)],
        name=traceable(f"{graph.model.name}_server"),
        output_structure=graph.output_structure,
    )
    return Partition(
        model=graph.model,
        device=device,
        server=server,
        boundary=boundary,
        public_inputs=tuple(names[t] for t in separation.server_inputs),
    )


def _output(graph: Graph, tensor: int, mask: bool) -> Port:
    """An output of the device half, called after its operation."""
    name, position = graph.maker(tensor).operation.name, graph.tensors[tensor].position
    if graph.tensors[tensor].mask_shape is None:
        return Port(tensor, name)
    suffix = f"_{position}" if position else ""
    return Port(tensor, f"{name}_mask{suffix}", "mask") if mask else Port(tensor, f"{name}_bare{suffix}", "bare")


def _warn_of_lambdas(graph: Graph) -> None:
    found = sorted({call.path for call in graph.calls if isinstance(call.operation, keras.layers.Lambda)})
    if found:
        warnings.warn(
            f"The Lambda layers {found} are kept, but a saved half that holds one loads only with Keras' safe mode off. "
            "Replace them by registered layers or keras.ops before you save.",
            stacklevel=3,
        )
