"""`Cut`: one way to divide a model, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from keras_privpart.contract import Boundary, TensorSpec, boundary_names, dtype_size
from keras_privpart.partitioning.graphs.addresses import MASK_SUFFIX, Addresses
from keras_privpart.partitioning.graphs.calls import Graph


@dataclass(frozen=True)
class Cut:
    """One cut of a model. All sizes are for one example; `None` where they depend on a free dimension.

    Attributes:
        index: row of the table it comes from, counted from the inputs.
        tensors: addresses of the tensors that cross, for `partition(model, at=...)`.
        boundary: the same as they stand on the wire, declared masks included.
        depth: share of the model's operations that stand on the device, 0 to 1.
        device_params, server_params: numbers held by either half; weights used on both sides count on both.
        device_trainable: how many of the device's numbers are trainable weights. With none, the device half is a fixed, public
            transformation of its input that no training can make private.
        device_macs, server_macs: multiply-adds of either half.
        input_bytes: bytes of the raw inputs that stay on the device, pictures a byte a value: what a client without a device half would
            send.
        public_inputs: inputs that the server half may read raw.
        device_seconds, server_seconds: measured time of either half for one example, if asked for.
        leakage: what a quick probe made of the boundary, if asked for.
        reason: why the advisor chose this cut; empty for all others.
    """

    index: int
    tensors: tuple[str, ...]
    boundary: Boundary
    depth: float
    device_params: int
    server_params: int
    device_trainable: int
    device_macs: int | None
    server_macs: int | None
    input_bytes: int | None
    public_inputs: tuple[str, ...] = ()
    device_seconds: float | None = None
    server_seconds: float | None = None
    leakage: float | None = None
    reason: str = ""

    @property
    def nbytes(self) -> int | None:
        """Bytes that cross for one example, as the model computes them."""
        return self.boundary.nbytes

    def bytes_as(self, dtype: str) -> int | None:
        """Bytes that cross for one example with floating-point tensors sent as `dtype`; other tensors go as they are."""
        sizes = [None if t.nbytes is None else t.nbytes // dtype_size(t.dtype) * _sent_size(t, dtype) for t in self.boundary.tensors]
        return None if any(s is None for s in sizes) else sum(s for s in sizes if s is not None)

    @property
    def device_share(self) -> float:
        """Parameters on the device as a share of those on both sides."""
        both = self.device_params + self.server_params
        return self.device_params / both if both else 0.0

    @property
    def seconds(self) -> float | None:
        """Measured time of both halves for one example; `None` if it was not measured."""
        return None if self.device_seconds is None or self.server_seconds is None else self.device_seconds + self.server_seconds

    @property
    def address(self) -> str:
        """The cut as one line of text."""
        return " + ".join(self.tensors)

    def to_json(self) -> dict[str, Any]:
        record = {**asdict(self), "boundary": self.boundary.to_json(), "tensors": list(self.tensors)}
        record["public_inputs"] = list(self.public_inputs)
        sizes = {f"bytes_{dtype}": self.bytes_as(dtype) for dtype in ("float32", "float16", "int8")}
        return {**record, "bytes": self.nbytes, **sizes, "device_share": self.device_share}


def _sent_size(tensor: TensorSpec, dtype: str) -> int:
    return dtype_size(dtype if tensor.is_floating else tensor.dtype)


def boundary_of(graph: Graph, addresses: Addresses, tensors: Sequence[int], masks: Sequence[int]) -> Boundary:
    """What crosses: `tensors` in their order, then the masks that go with them."""
    names = boundary_names(len(tensors) + len(masks))
    specs = []
    for name, index, kind in zip(names, (*tensors, *masks), ["tensor"] * len(tensors) + ["mask"] * len(masks), strict=True):
        tensor = graph.tensors[index]
        source = addresses.of(index)
        if kind == "mask":
            specs.append(TensorSpec(name, (None, *(tensor.mask_shape or ())[1:]), "bool", source + MASK_SUFFIX, "mask"))
        else:
            specs.append(TensorSpec(name, (None, *tensor.shape[1:]), tensor.dtype, source))
    return Boundary(tuple(specs))
