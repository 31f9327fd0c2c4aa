"""Checks of arguments, each in one place: what was received, what was expected, how to mend it, in the error class of the caller."""

from __future__ import annotations

import math
import numbers
from collections.abc import Collection
from typing import Any, TypeGuard


def is_whole(value: Any, least: int = 1, most: int | None = None) -> TypeGuard[int]:
    """Whether `value` is a whole number from `least` to `most`. NumPy's whole numbers are such; `True`, and `2.0`, are none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        return False
    return least <= int(value) and (most is None or int(value) <= most)


def whole(
    argument: str, value: Any, error: type[Exception], *, least: int = 1, most: int | None = None, owner: str = "", advice: str = ""
) -> int:
    """`value` as an `int`, from `least` to `most`.

    Args:
        argument: the argument's name.
        value: what was received.
        error: what to raise.
        least, most: both included; no upper limit when `None`.
        owner: the name of the object that it is for, where there may be several.
        advice: a sentence that says how to mend it.
    """
    if not is_whole(value, least, most):
        limits = f"from {least}" if most is None else f"from {least} to {most}"
        raise error(_text(argument, value, f"a whole number {limits}", owner, advice))
    return int(value)


def number(
    argument: str,
    value: Any,
    error: type[Exception],
    *,
    positive: bool = False,
    below: float = math.inf,
    owner: str = "",
    advice: str = "",
) -> float:
    """`value` as a finite `float`, at least 0, or above 0 if `positive`, and under `below`. The other arguments are those of `whole`."""
    real = not isinstance(value, bool) and isinstance(value, numbers.Real)
    if not real or not 0 <= value < below or (positive and not value):
        least = "above 0" if positive else "of at least 0"
        limits = f"a finite number {least}" if below == math.inf else f"a number {least} and under {below:g}"
        raise error(_text(argument, value, limits, owner, advice))
    return float(value)


def choice(
    argument: str, value: Any, names: Collection[str], error: type[Exception], *, owner: str = "", advice: str = "Choose one of them."
) -> str:
    """`value`, one of `names`. The other arguments are those of `whole`."""
    if not isinstance(value, str) or value not in names:
        raise error(_text(argument, value, f"one of {', '.join(names)}", owner, advice))
    return value


def _text(argument: str, value: Any, expected: str, owner: str, advice: str) -> str:
    whose = f" for {owner!r}" if owner else ""
    return f"Received {argument}={value!r}{whose}; expected {expected}. {advice}".rstrip()
