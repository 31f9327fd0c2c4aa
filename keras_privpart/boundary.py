"""`Boundary`: the tensors that cross from the device to the server, and the check that each must pass before it is sent.

Needs no TensorFlow. `keras_privpart.contract` offers the same names; import them from there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from keras_privpart.errors import BoundaryMismatchError, ContractError
from keras_privpart.readable import Readable, size_words

STRING = "string"
_COLOURS = (1, 3, 4)
DTYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "bfloat16", "float32", "float64", STRING)
)


def boundary_names(count: int) -> tuple[str, ...]:
    """Wire names of `count` boundary tensors: `boundary`, or `boundary_0` ... `boundary_{n-1}`."""
    return ("boundary",) if count == 1 else tuple(f"boundary_{i}" for i in range(count))


def dtype_size(dtype: str) -> int:
    """Bytes of one element, also for `bfloat16` and the kinds of `float8`, which NumPy does not know."""
    return 2 if dtype == "bfloat16" else 1 if dtype.startswith("float8") else np.dtype(dtype).itemsize


def raw_nbytes(shape: Sequence[int | None], dtype: str) -> int | None:
    """Bytes of one example of an input as a client without a device half would send it.

    Pictures, `[batch, height, width, 1, 3 or 4]`, count a byte a value, as cameras and files have them, also where a model takes floats.
    `None` when a dimension besides the batch is free, and for text.
    """
    picture = len(shape) == 4 and shape[3] in _COLOURS and "float" in dtype
    return TensorSpec("", tuple(shape), "uint8" if picture else dtype).nbytes


def larger_than_raw(sent: int | None, raw: int | None) -> str:
    """A remark where more crosses than a client without a device half would send; empty where not, or where a size is not known."""
    if not sent or not raw or sent <= raw:
        return ""
    return f"more than the {raw:,} bytes of the raw input: narrow it (bottleneck), encode it (int8), or cut elsewhere"


def dtype_name(array: Any) -> str:
    """The contract's name for the dtype of an array: NumPy's own, and `string` for text, bytes and objects."""
    return _name_of(array.dtype)


@functools.lru_cache(maxsize=256)  # NumPy makes a dtype's name anew each time, which is a sixth of a small request's time
def _name_of(dtype: Any) -> str:
    kind = getattr(dtype, "kind", "")
    return STRING if kind in "OSU" and kind else str(getattr(dtype, "name", dtype))


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor. `shape` has the batch first, as `None`; `source` is its address in the whole model's graph.

    An int8 tensor of an encoded boundary stands for `scale * (value - zero_point)`; both are `None` everywhere else.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    source: str = ""
    kind: str = "tensor"
    scale: float | None = None
    zero_point: int | None = None

    @property
    def is_floating(self) -> bool:
        """Whether it holds floating-point numbers, of any width: what a channel or an encoding may change."""
        return "float" in self.dtype

    @property
    def nbytes(self) -> int | None:
        """Bytes of one example; `None` when a dimension besides the batch is free, and for text."""
        if self.dtype == STRING:
            return None
        size = dtype_size(self.dtype)
        for dim in self.shape[1:]:
            if dim is None:
                return None
            size *= dim
        return size

    @property
    def raw_nbytes(self) -> int | None:
        """Bytes of one example as a client without a device half would send it: see `raw_nbytes`."""
        return raw_nbytes(self.shape, self.dtype)

    def fits(self, array: Any) -> bool:
        """Whether `array` has this dtype and shape, any batch size of at least 1."""
        shape = tuple(array.shape)
        same_rank = bool(shape) and len(shape) == len(self.shape)
        return (
            same_rank
            and shape[0] >= 1
            and dtype_name(array) == self.dtype
            and all(want in (None, got) for want, got in zip(self.shape, shape, strict=True))
        )

    def check(self, array: Any) -> None:
        """Raises `BoundaryMismatchError` unless `array` fits."""
        if not self.fits(array):
            raise BoundaryMismatchError(
                f"Received {self.name!r} as {dtype_name(array)}{list(array.shape)}; the contract declares {self.dtype}{list(self.shape)}. "
                "Nothing was sent. Use the device half that was exported with this contract."
            )

    @classmethod
    def from_json(cls, data: Any) -> TensorSpec:
        record = checked_record(cls, data, ("name", "shape", "dtype"))
        shape = record["shape"]
        if not isinstance(shape, list) or not all(d is None or (type(d) is int and d >= 0) for d in shape):
            raise ContractError(f"Received the shape {shape!r}; expected a list of whole numbers and null. Export the bundle again.")
        if not shape or shape[0] is not None:
            raise ContractError(f"Received the shape {shape!r}; expected the batch first, as null. Export the bundle again.")
        if not all(isinstance(record.get(key, ""), str) for key in ("name", "dtype", "source", "kind")):
            raise ContractError(f"Received the tensor {data!r}; expected text for name, dtype, source and kind. Export the bundle again.")
        if record["dtype"] not in DTYPES:
            raise ContractError(f"Received the dtype {record['dtype']!r}; expected one of {sorted(DTYPES)}. Export the bundle again.")
        scale, zero_point = record.get("scale"), record.get("zero_point")
        plain = scale is None and zero_point is None
        if not plain and not (record["dtype"] == "int8" and type(scale) is float and scale > 0 and type(zero_point) is int):
            raise ContractError(
                f"Received the scale {scale!r} and the zero point {zero_point!r} for {record['dtype']}; expected a float above 0 and "
                "a whole number, for int8 only. Export the bundle again."
            )
        return cls(**{**record, "shape": tuple(shape)})


@dataclass(frozen=True, repr=False)
class Boundary(Readable):
    """The tensors of the chosen cut, in order: all that ever leaves the device."""

    tensors: tuple[TensorSpec, ...]

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tensors)

    @property
    def sources(self) -> tuple[str, ...]:
        """Addresses of the tensors in the whole model's graph."""
        return tuple(t.source for t in self.tensors)

    @functools.cached_property
    def nbytes(self) -> int | None:
        """Bytes of one example over all tensors; `None` when a dimension besides the batch is free."""
        sizes = [t.nbytes for t in self.tensors]
        return None if any(s is None for s in sizes) else sum(s for s in sizes if s is not None)

    def check(self, arrays: Mapping[str, Any]) -> None:
        """Raises `BoundaryMismatchError` unless `arrays` are exactly these tensors with one common batch size."""
        if set(arrays) != set(self.names):
            raise BoundaryMismatchError(
                f"Received the tensors {sorted(arrays)}; the contract declares {sorted(self.names)}. Nothing was sent."
            )
        for spec in self.tensors:
            spec.check(arrays[spec.name])
        batches = {arrays[name].shape[0] for name in self.names}
        if len(batches) > 1:
            raise BoundaryMismatchError(f"Received tensors of batch sizes {sorted(batches)}; expected one batch size. Nothing was sent.")

    def words(self) -> str:
        """What crosses, and its size, on one line."""
        tensors = [f"{t.dtype} {_sides(t.shape)}{f' from {t.source!r}' if t.source else ''}" for t in self.tensors]
        return f"{' and '.join(tensors)}, {size_words(self.nbytes)}"

    def to_json(self) -> list[dict[str, Any]]:
        return [asdict(t) for t in self.tensors]

    @classmethod
    def from_json(cls, data: Any) -> Boundary:
        return cls(specs_from_json(data, "boundary"))


def _sides(shape: tuple[int | None, ...]) -> str:
    """`7x7x4`, the batch left out, `?` for a free side."""
    return "x".join("?" if side is None else str(side) for side in shape[1:]) or "1"


def specs_from_json(data: Any, what: str) -> tuple[TensorSpec, ...]:
    """Reads a list of at least one tensor, each name once; raises `ContractError`."""
    if not isinstance(data, list) or not data:
        raise ContractError(f"Received {what} as {type(data).__name__}; expected a list of at least one tensor. Export the bundle again.")
    specs = tuple(TensorSpec.from_json(item) for item in data)
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise ContractError(f"Received {what} with the names {names}; expected each name once. Export the bundle again.")
    return specs


def checked_record(cls: type, data: Any, needed: tuple[str, ...]) -> dict[str, Any]:
    """Returns `data` if it is an object with the fields of the dataclass `cls`, all `needed`, none unknown; else `ContractError`."""
    known = {f.name for f in fields(cls)}
    if not isinstance(data, dict) or not set(needed) <= set(data) <= known:
        got = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ContractError(f"Received {got} for {cls.__name__}; expected the keys {sorted(known)}. Export the bundle again.")
    return data
