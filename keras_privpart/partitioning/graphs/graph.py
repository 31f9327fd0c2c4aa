"""Reads the graph that a functional Keras model keeps, and notes calls for a new one.

It touches private members of Keras (`keras>=3.12,<4`), as else only `training/step.py` and `training/distribution.py` do. All that is
decided about cuts is decided elsewhere, on the plain graph of `calls.py`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras.src.backend import get_keras_mask
from keras.src.layers.layer import Layer
from keras.src.models.functional import Functional
from keras.src.ops.node import Node

from keras_privpart.errors import ModelError
from keras_privpart.partitioning.graphs.calls import Call, Graph, Tensor
from keras_privpart.partitioning.graphs.masks import AttachMask

# Where symbols of halves note the shape of the mask that they will have at run time. A symbolic mask would serve as well, but Keras
# would note it as an argument of whatever layer is called on the symbol, and it has no history.
_MASK_NOTE = "_privpart_mask_shape"


def refusal(model: Any) -> str | None:
    """Why `model` has no graph that could be cut, or `None` if it has one."""
    if keras.backend.backend() != "tensorflow":
        return f"Received a model on the Keras backend {keras.backend.backend()!r}; expected 'tensorflow'. Set KERAS_BACKEND=tensorflow."
    if not isinstance(model, keras.Model):
        return f"Received {type(model).__module__}.{type(model).__name__}; expected a built keras.Model (functional or Sequential)."
    if isinstance(model, keras.Sequential):
        if model._functional is None:
            return (
                f"Received the Sequential model {model.name!r}, which is not built; expected a model with a known input shape. "
                "Put keras.Input(shape) first, or call model.build(shape)."
            )
        return None
    if not isinstance(model, Functional):
        return (
            f"Received the subclassed model {type(model).__name__!r}; expected a functional or Sequential model, because a subclassed "
            "model keeps no graph. Write its call on keras.Input tensors and pass keras.Model(inputs, outputs); its layers can stay."
        )
    if type(model).call is not Functional.call:
        return (
            f"Received {type(model).__name__!r}, a functional model whose class overrides `call`, so its graph is not what it computes; "
            "expected a plain functional model. Pass keras.Model(model.inputs, outputs) built with the steps of that `call`."
        )
    return None


def read(model: keras.Model) -> Graph:
    """Reads the graph of a functional or Sequential model. Changes nothing in the model.

    Nested functional and Sequential models are inlined on the same layers; for that the model is run once on symbols. Explicit
    `training=` arguments are carried on to the calls after them, as Keras does while it runs the whole model, so that halves run
    separately behave alike.

    Raises:
        ModelError: the model keeps no graph.
    """
    problem = refusal(model)
    if problem is not None:
        raise ModelError(problem)
    functional = _functional(model)
    if not any(is_plain_model(op) for op in functional.operations) and not _lost_masks(functional):
        return _read(model, functional.inputs, functional.outputs, {}, _carried_training(functional))
    noted: dict[int, tuple[Any, int, int]] = {}
    try:
        inputs, outputs, paths = _inline(model, noted)
        return _read(model, inputs, outputs, paths, {})
    finally:
        # The graph that was run to read the model is not the model's: its layers forget the calls.
        for operation, inbound, outbound in noted.values():
            del operation._inbound_nodes[inbound:], operation._outbound_nodes[outbound:]


def _read(
    model: keras.Model, inputs: Sequence[Any], outputs: Sequence[Any], paths: Mapping[int, str], training: Mapping[int, Mapping[str, Any]]
) -> Graph:
    calls: list[Call] = []
    tensors: list[Tensor] = []
    place: dict[int, int] = {}
    made: dict[int, list[tuple[int, int]]] = {}
    nodes = {id(node): node for node in (_node(t) for t in inputs)}
    for node in _walk(outputs):
        nodes.setdefault(id(node), node)
    for node in nodes.values():
        operation, call = node.operation, len(calls)
        kwargs = {**_own_kwargs(node), **training.get(id(node), {})}
        sources = tuple(dict.fromkeys(place[id(t)] for t in _read_by(node)))
        first = len(tensors)
        # Symbols of dense tensors claim to be sparse after `x * 2.0`: believed only of layers, and behind sparse tensors.
        may_be_sparse = isinstance(operation, Layer) or any(tensors[t].sparse for t in sources)
        for position, symbol in enumerate(node.outputs):
            place[id(symbol)] = len(tensors)
            shape, sparse = tuple(symbol.shape), symbol.sparse and may_be_sparse
            tensors.append(Tensor(len(tensors), call, position, shape, symbol.dtype, _mask_shape(symbol), sparse, symbol))
        path = paths.get(id(operation), operation.name)
        calls.append(Call(call, path, operation, node.arguments.args, kwargs, sources, tuple(range(first, len(tensors)))))
        if node.outputs:
            made.setdefault(id(operation), []).append((node.outputs[0]._keras_history.node_index, call))
    return Graph(
        model=model,
        calls=tuple(calls),
        tensors=tuple(tensors),
        inputs=tuple(place[id(t)] for t in inputs),
        outputs=tuple(place[id(t)] for t in outputs),
        input_names=input_names(model),
        output_names=output_names(model),
        input_structure=input_structure(model),
        output_structure=_functional(model)._outputs_struct,
        numbers={key: tuple(call for _, call in sorted(found)) for key, found in made.items()},
    )


def _functional(model: keras.Model) -> Any:
    return model._functional if isinstance(model, keras.Sequential) else model


def _node(tensor: Any) -> Any:
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def _walk(outputs: Iterable[Any]) -> Iterator[Any]:
    """Nodes that `outputs` depend on, each after those it depends on: depth first, arguments in their order, no recursion."""
    done: set[int] = set()
    for output in outputs:
        stack = [(_node(output), False)]
        while stack:
            node, ready = stack.pop()
            if id(node) in done:
                continue
            if ready:
                done.add(id(node))
                yield node
                continue
            stack.append((node, True))
            stack.extend((_node(t), False) for t in reversed(_read_by(node)))


def swapped(arguments: tuple[tuple[Any, ...], Mapping[str, Any]], known: Mapping[int, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments with `known` values (by id) in place of the symbols they stand for."""
    args, kwargs = arguments
    if len(args) == 1 and isinstance(args[0], keras.KerasTensor) and not kwargs:
        return (known.get(id(args[0]), args[0]),), {}  # by far the most frequent case, and `map_structure` is slow
    return keras.tree.map_structure(lambda x: known.get(id(x), x), (args, dict(kwargs)))


def _symbols(arguments: Any) -> list[Any]:
    return [x for x in keras.tree.flatten(arguments) if isinstance(x, keras.KerasTensor)]


def _own_kwargs(node: Any) -> dict[str, Any]:
    """Keyword arguments of a node without the masks that Keras filled in.

    Keras notes some masks as arguments and hands on others invisibly, beside their tensors. Here all of them go with their tensors;
    a mask that was passed explicitly stays an argument.
    """
    kwargs = dict(node.arguments.kwargs)
    names = [name for name, value in kwargs.items() if value is not None and (name == "mask" or name.endswith("_mask"))]
    if not names or not isinstance(node.operation, Layer):
        return kwargs
    given = inspect.signature(node.operation.call).bind_partial(*node.arguments.args, **kwargs).arguments
    for name in names:
        of = next(iter(given.values())) if name == "mask" else given.get(name.removesuffix("_mask"))
        carried = [get_keras_mask(t) for t in keras.tree.flatten(of) if isinstance(t, keras.KerasTensor)]
        if [id(m) for m in keras.tree.flatten(kwargs[name])] == [id(m) for m in carried]:
            del kwargs[name]
    return kwargs


def _read_by(node: Any) -> list[Any]:
    """The symbols that a node reads, masks that Keras filled in left out."""
    return _symbols((node.arguments.args, _own_kwargs(node))) if node.arguments.kwargs else node.input_tensors


def _mask_shape(symbol: Any) -> tuple[int | None, ...] | None:
    mask = get_keras_mask(symbol)
    return getattr(symbol, _MASK_NOTE, None) if mask is None else tuple(mask.shape)


def _lost_masks(functional: Any) -> bool:
    """Whether symbols lack the masks that they have at run time: those of a model that was cut out of another by `keras.Model`."""
    for node in _run_order(functional):
        layer = node.operation
        if not isinstance(layer, Layer) or not layer.supports_masking or node.is_input:
            continue
        own = not type(layer).__module__.startswith("keras.") and type(layer).compute_mask is not Layer.compute_mask
        makes_masks = own or isinstance(layer, (keras.layers.Embedding, keras.layers.Masking))
        if makes_masks and all(_mask_shape(symbol) is None for symbol in node.outputs):
            return True
    return False


def _run_order(functional: Any) -> list[Any]:
    """Nodes in the order in which Keras runs them."""
    by_depth = functional._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def _carried_training(functional: Any) -> dict[int, dict[str, Any]]:
    """The `training` argument that each node inherits from an explicit one on a node run before it."""
    carried: Any = None
    found: dict[int, dict[str, Any]] = {}
    for node in _run_order(functional):
        if not isinstance(node.operation, Layer) or node.is_input:
            continue
        if "training" in node.arguments.kwargs:
            carried = node.arguments.kwargs["training"]
        elif carried is not None and node.operation._call_has_training_arg:
            found[id(node)] = {"training": carried}
    return found


def is_plain_model(operation: Any) -> bool:
    """Whether an operation is a model that computes what its graph says."""
    if isinstance(operation, keras.Sequential):
        return type(operation).call is keras.Sequential.call and operation._functional is not None
    return isinstance(operation, Functional) and type(operation).call is Functional.call


def _given(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
    """The tensors that a nested model is called on, in the order of its inputs; none if an optional one is left out."""
    inputs, given = _functional(model).inputs, args[0] if args else kwargs["inputs"]
    if isinstance(given, dict) and not isinstance(input_structure(model), dict):
        given = [given[t.name] for t in inputs]
    tensors = _symbols(given)
    return tensors if len(tensors) == len(inputs) else []


def _enter(model: Any, tensors: Sequence[Any], masks: Sequence[Any] = ()) -> list[Any]:
    """What the graph of a nested `model` sees when it is called on `tensors`: Keras adapts dtype and rank on the way in."""
    adapted = []
    for i, (tensor, inner) in enumerate(zip(tensors, _functional(model).inputs, strict=True)):
        x = tensor
        if x.dtype != inner.dtype:
            x = _named(keras.ops.cast(x, inner.dtype), f"{model.name}_input_{i}_{inner.dtype}")
        if len(x.shape) == len(inner.shape) + 1:
            x = _named(keras.ops.squeeze(x, axis=-1), f"{model.name}_input_{i}_squeezed")
        elif len(x.shape) == len(inner.shape) - 1:
            x = _named(keras.ops.expand_dims(x, axis=-1), f"{model.name}_input_{i}_expanded")
        # A mask goes with its tensor through all that; one that was passed explicitly takes its place.
        mask = masks[i] if masks else get_keras_mask(tensor)
        if masks or (mask is not None and x is not tensor):
            x = AttachMask(name=f"{model.name}_input_{i}_masked")([x, mask])
        adapted.append(x)
    return adapted


def _named(symbol: Any, name: str) -> Any:
    """Names the operation that made `symbol`: automatic names count on, and would be others at the next reading."""
    symbol._keras_history.operation.name = name
    return symbol


class _Frame:
    """A model in the middle of being inlined."""

    def __init__(self, model: Any, tensors: Sequence[Any], prefix: str, training: Any, caller: Any) -> None:
        functional = _functional(model)
        self.prefix, self.training, self.caller = prefix, training, caller
        self.outputs = functional.outputs
        self.todo = iter(_run_order(functional))
        self.value = {id(t): x for t, x in zip(functional.inputs, tensors, strict=True)}


def _inline(model: keras.Model, noted: dict[int, tuple[Any, int, int]]) -> tuple[list[Any], list[Any], dict[int, str]]:
    """Runs the model symbolically on fresh inputs, layer by layer through nested models.

    Args:
        model: what to run.
        noted: filled with every operation that is called (by id) and how many calls it and its readers knew before.

    Returns:
        Inputs, outputs, and for each operation (by id) its path, `outer/inner`.
    """
    inputs = [fresh_input(t, t._keras_history.operation.name) for t in _functional(model).inputs]
    paths: dict[int, str] = {}
    frames = [_Frame(model, inputs, "", None, None)]
    carried: Any = None
    while True:
        frame = frames[-1]
        node = next(frame.todo, None)
        if node is None:
            frames.pop()
            results = [frame.value[id(t)] for t in frame.outputs]
            if not frames:
                return inputs, results, paths
            frames[-1].value.update((id(t), x) for t, x in zip(frame.caller.outputs, results, strict=True))
            continue
        if node.is_input or any(id(t) not in frame.value for t in node.input_tensors):
            continue
        operation, known = node.operation, frame.value
        args, kwargs = swapped((node.arguments.args, _own_kwargs(node)), known)
        if isinstance(operation, Layer):
            # As Keras does at run time: the argument of the nested model's call wins, then the call's own, then the last one given.
            if frame.training is not None:
                carried = frame.training
            elif "training" in kwargs:
                carried = kwargs["training"]
            if carried is not None and operation._call_has_training_arg:
                kwargs["training"] = carried
        paths.setdefault(id(operation), frame.prefix + operation.name)
        given = _given(operation, args, kwargs) if is_plain_model(operation) else []
        if given:
            tensors = _enter(operation, given, _symbols(kwargs.get("mask")))
            frames.append(_Frame(operation, tensors, f"{frame.prefix}{operation.name}/", kwargs.get("training"), node))
            continue
        noted.setdefault(id(operation), (operation, len(operation._inbound_nodes), len(operation._outbound_nodes)))
        outputs = keras.tree.flatten(operation(*args, **kwargs))
        frame.value.update((id(t), x) for t, x in zip(node.outputs, outputs, strict=True))


def fresh_input(symbol: Any, name: str) -> Any:
    """A `keras.Input` of the shape and dtype of `symbol`, and of its kind if it is an input itself."""
    operation = symbol._keras_history.operation
    kind: dict[str, bool] = {}
    if isinstance(operation, keras.layers.InputLayer):
        kind = {"sparse": symbol.sparse, "ragged": symbol.ragged, "optional": operation.optional}
    return keras.Input(batch_shape=symbol.shape, dtype=symbol.dtype, name=name, **kind)


@contextmanager
def deep_graphs(calls: int) -> Iterator[None]:
    """Lets Keras build or load a graph of that many calls: it walks the graph by recursion, one or two frames per call."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 3 * calls + 1000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def input_names(model: keras.Model) -> tuple[str, ...]:
    """Names of a model's inputs, in the order of `model.inputs`: those that its input layers bear."""
    return tuple(t._keras_history.operation.name for t in _functional(model).inputs)


def optional_inputs(model: keras.Model) -> tuple[str, ...]:
    """Names of the inputs that may be left out."""
    operations = [t._keras_history.operation for t in _functional(model).inputs]
    return tuple(o.name for o in operations if isinstance(o, keras.layers.InputLayer) and o.optional)


def input_structure(model: keras.Model) -> Any:
    """The nested structure in which a model takes its inputs."""
    return _functional(model)._inputs_struct


def output_names(model: keras.Model) -> tuple[str, ...]:
    """Names of a model's outputs, in the order of `model.outputs`; a Sequential has none of its own, its graph has."""
    return tuple(_functional(model).output_names)


def rerun(model: keras.Model, operation: Callable[[Any], Any]) -> keras.Model:
    """A model with the graph of a functional or Sequential one, of what `operation` gives for each of its operations."""
    if isinstance(model, keras.Sequential):
        head = fresh_input(_functional(model).inputs[0], input_names(model)[0])
        return keras.Sequential([head, *(operation(layer) for layer in model.layers)], name=model.name)
    functional = _functional(model)
    inputs = keras.tree.map_structure(lambda t: fresh_input(t, t._keras_history.operation.name), input_structure(model))
    value = {id(t): x for t, x in zip(functional.inputs, keras.tree.flatten(inputs), strict=True)}
    needed = {id(node) for node in _walk(functional.outputs)}
    for node in _run_order(functional):
        if id(node) in needed and not node.is_input:
            args, kwargs = swapped((node.arguments.args, _own_kwargs(node)), value)
            made = keras.tree.flatten(operation(node.operation)(*args, **kwargs))
            value.update((id(t), x) for t, x in zip(node.outputs, made, strict=True))
    outputs = keras.tree.map_structure(lambda t: value[id(t)], functional._outputs_struct)
    return keras.Model(inputs, outputs, name=model.name)


def sublayers(layer: Any) -> list[Any]:
    """A layer and all layers inside it, outer ones first."""
    return layer._flatten_layers()


def count_operations(model: keras.Model) -> int:
    """Operations of a model, those of nested models included."""
    return len(read(model).calls)


def record(operation: Any, arguments: Any, known: Mapping[int, Any], outputs: Sequence[Tensor]) -> list[Any]:
    """Notes a call of `operation` for a new model. Shapes are known, so that nothing need be traced again.

    Args:
        operation: what is called. It is built.
        arguments: positional and keyword arguments as the graph holds them.
        known: what stands for the graph's symbols (by id) in the new model.
        outputs: the tensors that the call makes.

    Returns:
        The new symbols of the outputs.
    """
    args, kwargs = swapped(arguments, known)
    made = []
    for tensor in outputs:
        made.append(keras.KerasTensor(shape=tensor.shape, dtype=tensor.dtype, sparse=tensor.sparse, ragged=tensor.symbol.ragged))
        setattr(made[-1], _MASK_NOTE, tensor.mask_shape)
    Node(operation, call_args=args, call_kwargs=kwargs, outputs=made)
    return made
