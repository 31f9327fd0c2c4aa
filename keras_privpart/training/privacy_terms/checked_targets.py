"""Private attributes as class indices, inputs as pictures: what else they may be is refused by name, before it trains the wrong thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart.errors import TrainingError
from keras_privpart.value_range import HINT, Range, pictures

ONE_HOT = "one-hot"
_HINT = "Say what stands for the classes, values=(-1, 1), or map them, each once: np.unique(values, return_inverse=True)[1]."
# Begins the message of an assertion in a graph, where no error of our own can be raised.
_MARK = "keras_privpart targets: "


# What stands for the classes of an attribute, in their order; `"one-hot"` for rows; None for 0, 1, ...
Values = Sequence[Any] | str | None


def checked_values(attribute: str, values: Values, classes: int, attribute_type: str) -> Values:
    """What stands for the classes, once it is known to be as many different values, all text or all numbers."""
    if values is None or (values == ONE_HOT and attribute_type != "continuous"):
        return values
    several = [] if isinstance(values, str) or attribute_type == "continuous" else list(values)
    texts = sum(isinstance(value, str) for value in several)
    if len(several) != classes or len(set(several)) != classes or texts not in (0, classes):
        raise TrainingError(
            f"Received values={values!r} for the {attribute_type} attribute {attribute!r}; expected {classes} different ones, all numbers "
            f"or all text, in the order of the classes, or {ONE_HOT!r}."
        )
    return tuple(several)


def _indices(attribute: str, given: tf.Tensor, values: Values, classes: int) -> tf.Tensor:
    """Class indices of values that stand for them; -1 for others."""
    if values == ONE_HOT:
        if given.dtype == tf.string or given.shape.rank != 2 or given.shape[1] != classes:
            raise TrainingError(f"Received the attribute {attribute!r} of the shape {given.shape.as_list()}; expected rows of {classes}.")
        rows = tf.cast(given, tf.float32)
        proper = tf.reduce_all((rows == 0) | (rows == 1), axis=1) & (tf.reduce_sum(rows, axis=1) == 1)
        return tf.where(proper, tf.argmax(rows, axis=1, output_type=tf.int32), -1)
    known = tf.constant(values)
    if (given.dtype == tf.string) != (known.dtype == tf.string):
        raise TrainingError(f"Received the attribute {attribute!r} as {given.dtype.name}; expected one of {list(values or ())}.")
    flat = tf.reshape(given if given.dtype == tf.string else tf.cast(given, tf.float64), [-1, 1])
    found = flat == (known if known.dtype == tf.string else tf.cast(known, tf.float64))
    return tf.where(tf.reduce_any(found, axis=1), tf.argmax(found, axis=1, output_type=tf.int32), -1)


def checked_classes(attribute: str, values: Any, classes: int, meaning: Values = None) -> tf.Tensor:
    """`values` as int32, once they are known to be class indices.

    Args:
        attribute: its name.
        values: `[batch]` or `[batch, 1]`, whole numbers or booleans, also as floats.
        classes: how many there are.
        meaning: what stands for them, see `checked_values`.

    Raises:
        TrainingError: text, one-hot rows, or, outside of a graph, a value that is not one of 0 ... classes - 1. In a graph it is a
            `tf.errors.InvalidArgumentError` that `translated` knows.
    """
    values = tf.convert_to_tensor(values)
    if meaning is not None:
        raw, values = values, _indices(attribute, values, meaning, classes)
        if tf.executing_eagerly() and bool(tf.reduce_any(values < 0)):
            odd = raw[values < 0].numpy()[0]
            raise TrainingError(f"Received the value {odd!r} of the attribute {attribute!r}; expected {_meant(meaning)}, as values= says.")
    expected = f"expected whole numbers from 0 to {classes - 1}, one an example"
    if values.dtype == tf.string:
        shown = f", such as {values.numpy().ravel()[0]!r}" if tf.executing_eagerly() and len(values) else ""
        raise TrainingError(f"Received the attribute {attribute!r} as text{shown}; {expected}. {_HINT}")
    if values.shape.rank is not None and (values.shape.rank > 2 or (values.shape.rank == 2 and values.shape[1] not in (1, None))):
        raise TrainingError(
            f"Received the attribute {attribute!r} of the shape {values.shape.as_list()}; {expected}. Use np.argmax(a, -1)."
        )
    indices = tf.cast(values, tf.int32)
    wrong = (indices < 0) | (indices >= classes)
    if values.dtype.is_floating:
        wrong |= tf.cast(indices, values.dtype) != values
    if tf.executing_eagerly():
        if bool(tf.reduce_any(wrong)):
            raise TrainingError(f"Received the value {np.ravel(values[wrong])[0]} of the attribute {attribute!r}; {expected}. {_HINT}")
        return indices
    message = f"{_MARK}Received a value of the attribute {attribute!r} that is no class; {expected}. {_HINT} Found:"
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(wrong), [message, tf.boolean_mask(values, wrong)], summarize=3)]):
        return tf.identity(indices)


def _meant(meaning: Values) -> str:
    return "rows with a single 1" if meaning == ONE_HOT else f"one of {list(meaning or ())}"


def checked_pictures(images: Any, value_range: Range, is_inferred: bool) -> tf.Tensor:
    """`images` `[batch, h, w, c]` in `value_range` as pictures in [0, 1], float32.

    Raises:
        TrainingError: outside of a graph, values beyond the range, or scaled already. In a graph an error that `translated` knows.
    """
    images = tf.convert_to_tensor(images)
    if tf.executing_eagerly():
        return tf.convert_to_tensor(pictures(images.numpy(), value_range, is_inferred, TrainingError))
    values = tf.cast(images, tf.float32)
    low, high = tf.reduce_min(values), tf.reduce_max(values)
    has_fractions = tf.reduce_any(values != tf.round(values))
    least, largest = value_range
    slack = 1e-3 * (largest - least)
    inside = (low >= least - slack) & (high <= largest + slack)
    if largest - least > 100:
        inside &= ~(has_fractions & (high <= 1.001) & (low >= -1.001))
    said = "as the model's front says" if is_inferred else "as value_range says"
    message = f"{_MARK}Received pictures outside of {least:g} to {largest:g}, {said}, or scaled already. {HINT} Found:"
    with tf.control_dependencies([tf.debugging.Assert(inside, [message, low, high])]):
        return tf.clip_by_value((values - least) / (largest - least), 0.0, 1.0)


def translated(error: tf.errors.InvalidArgumentError) -> TrainingError | None:
    """The `TrainingError` that an assertion of `checked_classes` stands for; `None` for all other errors."""
    text = str(error.message)
    if _MARK not in text:
        return None
    return TrainingError(text[text.index(_MARK) + len(_MARK) :].splitlines()[0].replace("\\'", "'"))
