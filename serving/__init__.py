"""Serving a bundle and querying it. A device needs `Client` alone: importing this package loads no TensorFlow.

Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "AsyncClient": "async_client",
    "AsyncTransport": "transport",
    "Client": "client",
    "Engine": "engine",
    "LocalServer": "local_server",
    "Metrics": "metrics",
    "PrometheusMetrics": "metrics",
    "Replicas": "replicas",
    "ServerTls": "tls",
    "Tls": "tls",
    "Transport": "transport",
    "make_certificates": "certs",
    "serve": "foreground",
    "start": "engine",
    "start_replicas": "replicas",
}

__all__ = [
    "AsyncClient",
    "AsyncTransport",
    "Client",
    "Engine",
    "LocalServer",
    "Metrics",
    "PrometheusMetrics",
    "Replicas",
    "ServerTls",
    "Tls",
    "Transport",
    "make_certificates",
    "serve",
    "start",
    "start_replicas",
]

if TYPE_CHECKING:
    from .async_client import AsyncClient
    from .certs import make_certificates
    from .client import Client
    from .engine import Engine, start
    from .foreground import serve
    from .local_server import LocalServer
    from .metrics import Metrics, PrometheusMetrics
    from .replicas import Replicas, start_replicas
    from .tls import ServerTls, Tls
    from .transport import AsyncTransport, Transport


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
