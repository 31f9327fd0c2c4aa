"""`InputTargets`: the inputs of a batch as what a reconstruction adversary predicts, each by its kind, in one row an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_privpart.errors import TrainingError
from keras_privpart.partitioning.input_kind import PICTURE, SIGNAL, TOKENS, InputKind
from keras_privpart.several_inputs import Inputs
from keras_privpart.training.privacy_terms import networks, replica_sums
from keras_privpart.training.privacy_terms.checked_targets import checked_pictures
from keras_privpart.training.privacy_terms.input_heads import (
    InputHead,
    PictureHead,
    Shapes,
    SignalHead,
    TableHead,
    TokenHead,
    standardised,
)
from keras_privpart.value_range import Range

_MOST_SCORES, _FEWEST_VALUES = 1 << 18, 256  # tokens times places


class InputTargets:
    """What to predict of some of a model's inputs.

    Signals and numbers are centred and of unit variance in each batch. Tokens are told apart up to 262,144 scores an example, beyond that
    by their remainder. Of several inputs each counts by the share of it that is recovered.

    Args:
        kinds: all inputs of the model, in its order.
        chosen: the name of the only one to predict; None for all.
        value_range: of pictures, and whether it is inferred.

    Raises:
        TrainingError: there is no such input, or its shape or the number of its values is not known.
    """

    def __init__(self, kinds: Sequence[InputKind], chosen: str | None, value_range: tuple[Range, bool]) -> None:
        if chosen is not None and chosen not in [kind.name for kind in kinds]:
            raise TrainingError(f"Received input={chosen!r}; expected one of {', '.join(kind.name for kind in kinds)}, or None for all.")
        self._kinds = [(i, kind, _head(kind)) for i, kind in enumerate(kinds) if chosen in (None, kind.name)]
        self._range = value_range

    @property
    def prediction_size(self) -> int:
        """Numbers that are predicted for an example."""
        return sum(_size(head.prediction_shape) for *_, head in self._kinds)

    def network(self, boundary_shapes: Shapes, size: str, name: str) -> keras.Model:
        """From the boundary to all predictions, `[batch, prediction_size]`."""
        inputs = networks.boundary_inputs(boundary_shapes)
        z = inputs if len(inputs) > 1 else inputs[0]
        parts = [head.network(boundary_shapes, size, f"input_{i}")(z) for i, _, head in self._kinds]
        return keras.Model(z, networks.flattened(parts), name=name)

    def of(self, x: Any) -> tf.Tensor:
        """The targets of a batch in the model's own input structure, or by name: `[batch, numbers]`, float32."""
        rows = [self._encoded(_picked(x, i, kind.name), kind, head) for i, kind, head in self._kinds]
        return tf.concat([tf.reshape(row, [tf.shape(row)[0], -1]) for row in rows], axis=1)

    def error(self, target: Any, prediction: Any) -> tf.Tensor:
        """The mean of the inputs' errors, `[batch]`: of one alone as it is, of several in units of a guess's."""
        return self._mean([head.error(t, p) for head, t, p in self._parts(target, prediction)], target)

    def ignorant_error(self, target: Any) -> tf.Tensor:
        """The same of a guess that sees nothing."""
        return self._mean([head.ignorant_error(t) for head, t, _ in self._parts(target, None)], target)

    def _mean(self, errors: Sequence[tf.Tensor], target: Any) -> tf.Tensor:
        if len(errors) == 1:
            return errors[0]
        guesses = [replica_sums.batch_mean(head.ignorant_error(t)) for head, t, _ in self._parts(target, None)]
        return tf.add_n([error / tf.maximum(guess, 1e-6) for error, guess in zip(errors, guesses, strict=True)]) / len(errors)

    def _parts(self, target: Any, prediction: Any) -> list[tuple[InputHead, tf.Tensor, Any]]:
        heads = [head for *_, head in self._kinds]
        targets = _split(target, [head.target_shape for head in heads])
        if prediction is None:
            return [(head, t, None) for head, t in zip(heads, targets, strict=True)]
        predictions = _split(tf.cast(prediction, tf.float32), [head.prediction_shape for head in heads])
        return list(zip(heads, targets, predictions, strict=True))

    def _encoded(self, values: Any, kind: InputKind, head: InputHead) -> tf.Tensor:
        values = tf.convert_to_tensor(values)
        if values.dtype == tf.string:
            raise TrainingError(f"Received the input {kind.name!r} as text; an adversary expects numbers. Look texts up before the model.")
        if isinstance(head, PictureHead):
            is_bytes = values.dtype in (tf.uint8, tf.uint16)
            return tf.image.convert_image_dtype(values, tf.float32) if is_bytes else checked_pictures(values, *self._range)
        rows = tf.reshape(values, [-1, *head.target_shape])
        if isinstance(head, TokenHead) or (isinstance(head, TableHead) and head.categories):
            tokens = tf.cast(rows, tf.int64)
            held = tokens >= 0 if kind.padding is None else tokens != kind.padding
            count = head.values if isinstance(head, TokenHead) else head.categories[0]
            return tf.cast(tf.where(held, tokens % count, -1), tf.float32)
        return standardised(rows)


def _head(kind: InputKind) -> InputHead:
    if None in kind.shape:
        raise TrainingError(
            f"Received the input {kind.name!r} of shape {list(kind.shape)}; an adversary expects fixed sizes. Pad sequences to one length, "
            "and say so: keras.Input((length,))."
        )
    shape = tuple(int(d or 0) for d in kind.shape)
    if kind.kind == PICTURE:
        return PictureHead(shape)
    if kind.kind == SIGNAL:
        return SignalHead(shape[0], _size(shape[1:]))
    if kind.kind == TOKENS:
        if kind.values is None:
            raise TrainingError(
                f"Received the tokens {kind.name!r} of which nobody says how many there are; expected an Embedding that reads them, "
                "for the adversary to tell them apart. Use another input_kind."
            )
        length = _size(shape)
        return TokenHead(length, min(kind.values, max(_FEWEST_VALUES, _MOST_SCORES // length)))
    return TableHead(_size(shape)) if kind.values is None else TableHead(0, (kind.values,))


def _picked(x: Any, place: int, name: str) -> Any:
    """One input of a batch."""
    if isinstance(x, Inputs):
        x = x.arrays
    return x[name] if isinstance(x, Mapping) and name in x else tf.nest.flatten(x)[place]


def _split(rows: Any, shapes: Sequence[tuple[int, ...]]) -> list[tf.Tensor]:
    parts = tf.split(rows, [_size(shape) for shape in shapes], axis=1)
    return [tf.reshape(part, [-1, *shape]) for part, shape in zip(parts, shapes, strict=True)]


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=int))
