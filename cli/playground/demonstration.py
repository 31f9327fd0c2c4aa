"""One picture through a bundle: what the device computes, what leaves it, what an attacker makes of that, and what the server answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_privpart.contract import Contract
from keras_privpart.errors import DataError

if TYPE_CHECKING:
    from keras_privpart.serving import Client

Range = tuple[float, float]
_SHOWN = 64  # channels of a boundary, at most
NO_AUDIT = "This bundle was not audited: nothing is known of what an attacker reads."


@dataclass(frozen=True)
class Attacker:
    """What the page shows of an attacker: two decoders, and the undefended device half that one of them reads."""

    device: Any
    defended: Any
    undefended: Any
    about: Mapping[str, Any]


class Demonstration:
    """Shows what happens to a picture. May be used from several threads.

    Args:
        client: connected to a server of the bundle.
        server: the server, in words.
        value_range: what black and white are to the model.
        attacker: decoders, if there are any.
        missing: how to get them, if there are none.

    Raises:
        DataError: the model does not take one picture.
    """

    def __init__(self, client: Client, server: str, value_range: Range, attacker: Attacker | None, missing: str) -> None:
        self._client, self._server, self._range = client, server, value_range
        self._attacker, self._missing = attacker, missing
        self._lock = threading.Lock()
        [spec, *others] = client.contract.inputs
        if others or len(spec.shape) != 4 or None in spec.shape[1:] or spec.shape[3] not in (1, 3):
            shapes = ", ".join(f"{one.name} {list(one.shape)}" for one in client.contract.inputs)
            raise DataError(f"Received a bundle whose model takes {shapes}; the page shows models of one picture [height, width, 1 or 3].")
        self.shape: tuple[int, ...] = tuple(size or 0 for size in spec.shape[1:])
        self._dtype = spec.dtype

    def facts(self) -> dict[str, Any]:
        """What the page says before there is any picture."""
        contract = self._client.contract
        return {
            "name": contract.name,
            "version": contract.version,
            "pair": contract.fingerprint[:12],
            "server": self._server,
            "shape": list(self.shape),
            "picture_bytes": int(np.prod(self.shape)),
            "boundary_bytes": contract.boundary.nbytes,
            "boundary": ", ".join(f"{spec.dtype} {' × '.join(map(str, spec.shape[1:]))}" for spec in contract.boundary.tensors),
            "encoding": contract.encoding,
            "channel": [layer["class"].rsplit(">", 1)[-1] for layer in contract.channel],
            "verdict": verdict(contract),
            "attacker": None if self._attacker is None else dict(self._attacker.about),
            "missing": self._missing,
        }

    def show(self, picture: Any) -> dict[str, Any]:
        """What happens to one picture.

        Args:
            picture: values in [0, 1], row after row, channels last.

        Raises:
            DataError: the values are not such a picture.
            ServingError: the server does not answer.
        """
        pixels = self._checked(picture)
        low, high = self._range
        x = (low + pixels * (high - low)).astype(self._dtype)[None]
        with self._lock:
            began = time.perf_counter()
            boundary = self._client.encode(x)
            encoded = time.perf_counter()
            answer = self._client.score(boundary)
            answered = time.perf_counter()
            seen = [decoded(spec, boundary[spec.name]) for spec in self._client.contract.boundary.tensors]
            attacked = None if self._attacker is None else self._attack(seen, x)
        answers = answer if isinstance(answer, dict) else {self._client.contract.outputs[0].name: answer}
        named = zip(self._client.contract.boundary.tensors, seen, strict=True)
        return {
            "device_ms": round(1000 * (encoded - began), 2),
            "server_ms": round(1000 * (answered - encoded), 2),
            "boundary": [{"name": spec.name, "shape": list(spec.shape[1:]), "maps": maps(array[0])} for spec, array in named],
            "attacker": attacked,
            "answers": [scores(name, value[0]) for name, value in answers.items()],
        }

    def _checked(self, picture: Any) -> np.ndarray:
        try:
            pixels = np.asarray(picture, "float32").reshape(self.shape)
        except (TypeError, ValueError) as error:
            raise DataError(f"Received no picture of {list(self.shape)}: {error}. Send its values row after row.") from error
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise DataError("Received a picture with values outside [0, 1]; expected 0 for black and 1 for white.")
        return pixels

    def _attack(self, seen: list[np.ndarray], x: np.ndarray) -> dict[str, list[float]]:
        attacker = self._attacker
        assert attacker is not None
        undefended = attacker.device(x, training=False)
        tensors = list(undefended) if isinstance(undefended, (list, tuple)) else [undefended]
        made = {"defended": _decode(attacker.defended, seen), "undefended": _decode(attacker.undefended, tensors)}
        return {side: _rounded(picture) for side, picture in made.items()}


def verdict(contract: Contract) -> list[str]:
    """What the bundle's audit says, each a sentence."""
    if contract.audit is None:
        return [NO_AUDIT]
    lines = []
    for kind, found in contract.audit.get("kinds", {}).items():
        told = [("one look", found), *((f"{looks} looks", more) for looks, more in found.get("looks", {}).items())]
        leaks = [
            f"{'at least ' if one.get('at_least') else ''}{one['leakage']:.2f} after {looks}"
            for looks, one in told
            if one.get("leakage") is not None
        ]
        if leaks:
            lines.append(f"Leakage of {kind}: {', '.join(leaks)} (0: nothing beyond the answer, 1: as undefended), by {found['attack']}.")
    accuracy = contract.audit.get("task_accuracy", {})
    if accuracy.get("defended") is not None and accuracy.get("reference") is not None:
        lines.append(f"The task's accuracy is {accuracy['defended']:.3f}; without defence {accuracy['reference']:.3f}.")
    return lines or [NO_AUDIT]


def decoded(spec: Any, array: np.ndarray) -> np.ndarray:
    """A boundary's tensor in the model's own numbers, float32."""
    values = array.astype("float32")
    return values if spec.scale is None else np.float32(spec.scale) * (values - np.float32(spec.zero_point))


def maps(array: np.ndarray) -> list[list[list[float]]]:
    """One tensor of one example as heat maps of rows and columns, a channel each; a vector as one map that is nearly square."""
    if array.ndim < 3:
        flat = array.ravel()
        side = int(np.ceil(np.sqrt(flat.size)))
        padded = np.full(side * -(-flat.size // side), flat.min(), "float32")
        padded[: flat.size] = flat
        array = padded.reshape(-1, side, 1)
    channels = np.moveaxis(array.reshape(array.shape[0], array.shape[1], -1), -1, 0)[:_SHOWN]
    return [[_rounded(row) for row in channel] for channel in channels]


def scores(name: str, values: np.ndarray) -> dict[str, Any]:
    """An output as shares of one: as it is where it is that already, else by softmax."""
    flat = np.asarray(values, "float64").ravel()
    is_shares = bool(flat.size and flat.min() >= 0 and abs(flat.sum() - 1) < 1e-3)
    if not is_shares:
        raised = np.exp(flat - flat.max())
        flat = raised / raised.sum()
    return {"name": name, "shares": [round(float(value), 4) for value in flat], "softmax": not is_shares}


def _decode(network: Any, tensors: list[Any]) -> np.ndarray:
    return np.asarray(network(tensors if len(tensors) > 1 else tensors[0], training=False))[0]


def _rounded(array: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in np.asarray(array).ravel()]
