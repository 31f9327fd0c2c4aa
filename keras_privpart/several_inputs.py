"""`Inputs`: the several inputs of a model as one array of examples, of which rows are drawn as of any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np


class Inputs:
    """Arrays by input name, the examples first; indexing draws the same examples of all.

    Attributes:
        arrays: by name, each `[n, ...]`.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays = dict(arrays)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: Any) -> Inputs:
        return Inputs({name: array[index] for name, array in self.arrays.items()})

    @property
    def nbytes(self) -> int:
        """Of all arrays together."""
        return sum(array.nbytes for array in self.arrays.values())

    def renamed(self, names: Sequence[str]) -> Inputs:
        """In this order, under these names: as they are called, or, where they came without names, one after the other."""
        if set(self.arrays) == set(names):
            return Inputs({name: self.arrays[name] for name in names})
        return Inputs(dict(zip(names, self.arrays.values(), strict=True)))

    @property
    def unnamed(self) -> bool:
        """Whether they came as a tuple, and go by their places."""
        return list(self.arrays) == [str(i) for i in range(len(self.arrays))]


def arrays_of(x: Any) -> dict[str, np.ndarray]:
    """Inputs by name; a single array without any goes by the empty one."""
    return dict(x.arrays) if isinstance(x, Inputs) else {"": x}


def plain(x: Any) -> Any:
    """Inputs without this class: a dict by input name, or the single array."""
    return dict(x.arrays) if isinstance(x, Inputs) else x


def each(x: Any, change: Any) -> Any:
    """The same inputs with every array changed by a function."""
    return Inputs({name: change(array) for name, array in x.arrays.items()}) if isinstance(x, Inputs) else change(x)


def joined(parts: Sequence[Any]) -> Any:
    """The examples of all parts, one after the other, of arrays or of `Inputs` with the same names."""
    if isinstance(parts[0], Inputs):
        return Inputs({name: np.concatenate([part.arrays[name] for part in parts]) for name in parts[0].arrays})
    return np.concatenate(cast(Sequence[np.ndarray], parts))


def shapes_of(x: Any) -> Any:
    """Shape of one example: a list, or a dict of them by input name."""
    shapes = {name: list(array.shape[1:]) for name, array in arrays_of(x).items()}
    return shapes if isinstance(x, Inputs) else shapes[""]
