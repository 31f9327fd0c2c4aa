"""JSON as contracts want it: one object, each key once, finite numbers, and one canonical form to hash. Needs no TensorFlow."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from typing import Any, NoReturn

from keras_privpart.errors import ContractError


def parse(text: str, file: str) -> dict[str, Any]:
    """Reads an object.

    Args:
        text: JSON.
        file: where it comes from, for messages.

    Raises:
        ContractError: not JSON, not an object, a key twice, or a number that is not finite.
    """

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in pairs)
        twice = sorted(key for key, count in counts.items() if count > 1)
        if twice:
            raise ContractError(f"{file} has the keys {twice} twice; expected each once. Export the bundle again.")
        return dict(pairs)

    def no_constant(name: str) -> NoReturn:
        raise ContractError(f"{file} holds {name}, which is not JSON; expected finite numbers. Export the bundle again.")

    def finite(number: str) -> float:
        value = float(number)
        return value if math.isfinite(value) else no_constant(number)

    try:
        data = json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constant, parse_float=finite)
        json.dumps(data, ensure_ascii=False).encode()  # escapes can spell halves of characters, which no text can hold
    except (ValueError, RecursionError) as error:
        if isinstance(error, ContractError):
            raise
        raise ContractError(f"{file} is not JSON: {error}. Export the bundle again.") from error
    if not isinstance(data, dict):
        raise ContractError(f"{file} holds a {type(data).__name__}; expected an object. Export the bundle again.")
    return data


def digest(value: Any) -> str:
    """SHA-256 of the canonical form: sorted keys, no spaces, ASCII."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
