"""`Repeatable`: something that remembers what it was made with, so that another can be made and the two be told from others."""

from __future__ import annotations

from typing import Any, TypeVar

R = TypeVar("R", bound="Repeatable")


class Repeatable:
    """Base of attacks and translations: objects with settings, given to the constructor, and with what they have learned.

    Attributes:
        made_with: the constructor's arguments.
    """

    made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls: type[R], *args: Any, **kwargs: Any) -> R:
        made = super().__new__(cls)
        made.made_with = (args, kwargs)
        return made

    def another(self: R) -> R:
        """One with the same settings and nothing learned, for work beside this one's."""
        args, kwargs = self.made_with
        return type(self)(*(_another(a) for a in args), **{name: _another(a) for name, a in kwargs.items()})


def _another(argument: Any) -> Any:
    return argument.another() if isinstance(argument, Repeatable) else argument
