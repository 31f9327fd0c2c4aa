"""`Remembered`: something dear that several fits in a row share, such as a model that the attacker trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """The last thing made, given again as long as its ingredients stay the same: numbers and settings by value, all else by identity."""

    def __init__(self) -> None:
        self._last: tuple[tuple[Any, ...], T] | None = None

    def get(self, ingredients: tuple[Any, ...], make: Callable[[], T]) -> T:
        """What `make` gives for these ingredients."""
        if self._last is None or not all(_same(a, b) for a, b in zip(self._last[0], ingredients, strict=True)):
            self._last = ingredients, make()
        return self._last[1]


def _same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, int) and a == b) or (type(a) is type(b) and _is_setting(a) and a == b)


def _is_setting(value: Any) -> bool:
    """Whether it is a frozen dataclass of plain values, which compares by them."""
    return is_dataclass(value) and all(isinstance(v, (int, float, str)) for v in vars(value).values())
