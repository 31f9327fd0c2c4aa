"""Serving a bundle and querying it. A device needs `Client` alone: importing this package loads no TensorFlow.

Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Client": "client",
    "Engine": "engine",
    "LocalServer": "local_server",
    "Transport": "transport",
    "serve": "engine",
    "start": "engine",
}

__all__ = ["Client", "Engine", "LocalServer", "Transport", "serve", "start"]

if TYPE_CHECKING:
    from .client import Client
    from .engine import Engine, serve, start
    from .local_server import LocalServer
    from .transport import Transport


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
