"""What can be wrong with a cut, one type per kind of mistake. `str(problem)` is the sentence a user reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final


@dataclass(frozen=True)
class Problem(ABC):
    """One reason why a cut is refused."""

    @abstractmethod
    def __str__(self) -> str: ...


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in names)


@final
@dataclass(frozen=True)
class UnsupportedModel(Problem):
    """The model keeps no graph."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@final
@dataclass(frozen=True)
class NotAnAddress(Problem):
    """`at` is neither text, nor a list of texts, nor a `Cut`."""

    received: str

    def __str__(self) -> str:
        return f"Received at={self.received}; expected the address of a tensor, a list of addresses, or a row of cuts(model)."


@final
@dataclass(frozen=True)
class UnknownTensor(Problem):
    """No operation of the model has this name."""

    name: str
    near: tuple[str, ...]

    def __str__(self) -> str:
        hint = f" Near names: {_listed(self.near)}." if self.near else " List the names with cuts(model)."
        return f"Received {self.name!r}; expected the name of an operation of the model.{hint}"


@final
@dataclass(frozen=True)
class AmbiguousTensor(Problem):
    """The name stands for several calls, or for operations of several nested models."""

    name: str
    choices: tuple[str, ...]

    def __str__(self) -> str:
        return f"Received {self.name!r}, which stands for {len(self.choices)} calls; expected one. Say which: {_listed(self.choices)}."


@final
@dataclass(frozen=True)
class NoSuchOutput(Problem):
    """`#n` or `:i` counts further than the model does."""

    name: str
    choices: tuple[str, ...]

    def __str__(self) -> str:
        return f"Received {self.name!r}; the model has no such call or output. Expected one of {_listed(self.choices)}."


@final
@dataclass(frozen=True)
class UnknownPublicInput(Problem):
    """`public_inputs` names something that is not an input."""

    name: str
    inputs: tuple[str, ...]

    def __str__(self) -> str:
        return f"Received the public input {self.name!r}; expected one of the model's inputs {_listed(self.inputs)}."


@final
@dataclass(frozen=True)
class AllInputsPublic(Problem):
    """Nothing is left to protect."""

    inputs: tuple[str, ...]

    def __str__(self) -> str:
        return f"Received all inputs {_listed(self.inputs)} as public; expected one that stays on the device. Leave it out."


@final
@dataclass(frozen=True)
class RawInput(Problem):
    """An input of the model is itself in the cut."""

    name: str
    nearest: tuple[str, ...]

    def __str__(self) -> str:
        hint = f"Cut later, at {' or '.join(self.nearest)}" if self.nearest else "Cut later"
        return f"Received the input {self.name!r} as a cut; it would cross raw. {hint}, or declare public_inputs=[{self.name!r}]."


@final
@dataclass(frozen=True)
class RawPath(Problem):
    """The cut does not separate: a raw input still reaches the server half."""

    input: str
    path: tuple[str, ...]
    nearest: tuple[str, ...]

    def __str__(self) -> str:
        path = self.path if len(self.path) <= 12 else (*self.path[:5], f"... {len(self.path) - 10} more ...", *self.path[-5:])
        hint = f" Nearest cuts that separate: {' or '.join(self.nearest)}." if self.nearest else " This model has no cut that separates."
        return f"The raw input {self.input!r} would still reach the server, by {' -> '.join(path)}.{hint}"


@final
@dataclass(frozen=True)
class NeedlessTensor(Problem):
    """A tensor of the cut that the server half never uses: sending it would only leak."""

    name: str

    def __str__(self) -> str:
        return f"Received {self.name!r} in the cut; the server half would not use it, given the others. Leave it out."


@final
@dataclass(frozen=True)
class NothingLeft(Problem):
    """The cut stands at the model's outputs: the server half would do nothing."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"Received the cut {_listed(self.names)}, at the model's outputs; expected work for the server. Cut earlier."


@final
@dataclass(frozen=True)
class UnsendableTensor(Problem):
    """A tensor that cannot stand on the wire."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"Received {self.name!r}, which is {self.reason}; expected a dense tensor with a leading batch dimension. Cut elsewhere."
