"""Private attributes as class indices, inputs as pictures: what else they may be is refused by name, before it trains the wrong thing."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_privpart.errors import TrainingError
from keras_privpart.value_range import HINT, Range, pictures

_HINT = "Map them, each once: np.unique(values, return_inverse=True)[1]."
# Begins the message of an assertion in a graph, where no error of our own can be raised.
_MARK = "keras_privpart targets: "


def checked_classes(attribute: str, values: Any, classes: int) -> tf.Tensor:
    """`values` as int32, once they are known to be class indices.

    Args:
        attribute: its name.
        values: `[batch]` or `[batch, 1]`, whole numbers or booleans, also as floats.
        classes: how many there are.

    Raises:
        TrainingError: text, one-hot rows, or, outside of a graph, a value that is not one of 0 ... classes - 1. In a graph it is a
            `tf.errors.InvalidArgumentError` that `translated` knows.
    """
    values = tf.convert_to_tensor(values)
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
