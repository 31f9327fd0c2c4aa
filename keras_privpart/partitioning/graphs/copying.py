"""Copies of models on layers of their own: the one way in which this package copies one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_privpart.errors import ModelError
from keras_privpart.partitioning.graphs.graph import count_operations, deep_graphs, is_plain_model, refusal, rerun, sublayers

# What two counterparts have in common.
Key = Callable[[Any], Any]


def copy_model(model: keras.Model) -> keras.Model:
    """A model that computes what `model` does, on layers of its own: weights, moving averages, what layers were adapted to, random seeds.

    A layer that is called several times stays one layer. `keras.ops` operations and Lambda layers hold no state and are shared.
    `keras.models.clone_model` and `set_weights` would lose all state outside `weights`.

    Raises:
        ModelError: the model keeps no graph, or a layer cannot be made again from its configuration.
    """
    return Copies().model(model)


def fresh_model(model: keras.Model) -> keras.Model:
    """The same architecture with new weights, as `keras.utils.set_random_seed` draws them.

    Layers with an `adapt` method, such as `Normalization`, keep what they were adapted to: that is no weight, and no training finds it.

    Raises:
        ModelError: as `copy_model`.
    """
    return Copies(fresh=True).model(model)


class Copies:
    """Copies of several models that share layers: their copies share them alike.

    Args:
        fresh: whether weights are drawn anew, see `fresh_model`.
    """

    def __init__(self, fresh: bool = False) -> None:
        self._fresh = fresh
        self._made: dict[int, tuple[Any, Any]] = {}  # original and copy, by the id of the original

    def model(self, model: keras.Model) -> keras.Model:
        """A copy of a functional or Sequential model.

        Raises:
            ModelError: as `copy_model`.
        """
        problem = refusal(model)
        if problem is not None:
            raise ModelError(problem)
        known = set(self._made)
        with deep_graphs(count_operations(model)):
            twin = self._copy(model, "")
        for key, (old, new) in self._made.items():
            if key not in known and not is_plain_model(old):
                self._copy_state(old, new)
        # Outer ones first: a model hands its flag on to its layers, which may have one of their own.
        for old, new in sorted(self._made.values(), key=lambda pair: not is_plain_model(pair[0])):
            for a, b in [(old, new)] if is_plain_model(old) else zip(sublayers(old), sublayers(new), strict=True):
                b.trainable = a.trainable
        return twin

    def of(self, layer: Any) -> Any:
        """The copy of a layer that stands in a model copied before."""
        return self._made[id(layer)][1]

    def _copy(self, operation: Any, path: str) -> Any:
        if not isinstance(operation, keras.layers.Layer) or isinstance(operation, (keras.layers.InputLayer, keras.layers.Lambda)):
            return operation
        if id(operation) not in self._made:
            if is_plain_model(operation):
                self._made[id(operation)] = (operation, None)  # before the layers in it
                prefix = f"{path}{operation.name}/" if path else "/"
                twin = rerun(operation, lambda inner: self._copy(inner, prefix))
            else:
                twin = _remade(operation, f"{path}{operation.name}".lstrip("/"))
            self._made[id(operation)] = (operation, twin)
        return self._made[id(operation)][1]

    def _copy_state(self, layer: Any, twin: Any) -> None:
        try:
            if not self._fresh:
                _copy_variables(layer, twin)
            for old, new in zip(sublayers(layer), sublayers(twin), strict=True):
                adapted = _is_adapted(old)
                if self._fresh and not adapted:
                    continue
                if self._fresh:
                    _copy_variables(old, new)
                _copy_derived(old, new)
        except Exception as error:  # whatever the layer's own methods raise
            raise _uncopied(layer, layer.name, error) from error


def _remade(layer: Any, path: str) -> Any:
    try:
        return type(layer).from_config(layer.get_config())
    except Exception as error:  # whatever the layer's own get_config and constructor raise
        raise _uncopied(layer, path, error) from error


def _uncopied(layer: Any, path: str, error: Exception) -> ModelError:
    reason = str(error).strip().split("\n", 1)[0]
    return ModelError(
        f"Can't copy the layer {path!r} ({type(layer).__name__}): {type(error).__name__}: {reason}. Give it a get_config that "
        "returns its arguments."
    )


def _copy_variables(layer: Any, twin: Any) -> None:
    if len(layer.variables) != len(twin.variables):
        raise ValueError(f"the copy has {len(twin.variables)} variables instead of {len(layer.variables)}")
    inside = _paired(sublayers(layer), sublayers(twin), lambda x: (type(x), x.name), lambda x: (type(x),), "layer")
    done: set[int] = set()
    for old, new in reversed(inside):  # inner layers first: what is left of an outer one's variables is its own
        theirs, its = ([v for v in x.variables if id(v) not in done] for x in (old, new))
        for source, target in _paired(theirs, its, lambda v: (v.name, tuple(v.shape)), lambda v: (tuple(v.shape), v.dtype), "variable"):
            target.assign(source)
        done.update(id(v) for v in (*theirs, *its))


def _paired(old: Sequence[Any], new: Sequence[Any], name: Key, kind: Key, what: str) -> list[tuple[Any, Any]]:
    """Pairs in the order of `old`: by name, in whatever order they were made; those whose name has no counterpart by kind, in order.

    Raises:
        ValueError: something is left over.
    """
    left, pairs = list(new), dict[int, Any]()
    for key in (name, kind):
        for i, item in enumerate(old):
            twin = next((x for x in left if key(x) == key(item)), None) if i not in pairs else None
            if twin is not None:
                pairs[i] = twin
                left = [x for x in left if x is not twin]
    missing = [item.name for i, item in enumerate(old) if i not in pairs]
    if missing or left:
        raise ValueError(f"the copy has no counterpart of the {what}s {missing}, and {[x.name for x in left]} besides")
    return [(item, pairs[i]) for i, item in enumerate(old)]


def _copy_derived(layer: Any, twin: Any) -> None:
    """State outside the variables: what a layer derives from them when it is loaded, as `Normalization` does, and vocabularies."""
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    # Keras' own way goes by the order of the variables, which may differ; the variables are equal by now.
    if type(layer).load_own_variables is not keras.layers.Layer.load_own_variables:
        twin.load_own_variables(store)
    if isinstance(layer, (keras.layers.StringLookup, keras.layers.IntegerLookup)) and layer.vocabulary_size() > _special_tokens(layer):
        words = layer.get_vocabulary(include_special_tokens=True)
        twin.set_vocabulary(words, *([store["idf_weights"]] if layer.output_mode == "tf_idf" else []))


def _special_tokens(lookup: Any) -> int:
    """How many entries a vocabulary has before it knows a word."""
    return lookup.num_oov_indices + (lookup.mask_token is not None and lookup.output_mode == "int")


def _is_adapted(layer: Any) -> bool:
    """Whether a layer learns from data before any training: by Keras' convention, in a method `adapt`."""
    return callable(getattr(type(layer), "adapt", None))
