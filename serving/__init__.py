"""Serving a bundle and querying it. A device needs `Client` alone: importing this package loads no TensorFlow.

Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "AsyncClient": "client.async_client",
    "AsyncTransport": "wire.transport",
    "Client": "client.client",
    "Engine": "servers.engine",
    "LocalServer": "local.server",
    "Metrics": "wire.client_metrics",
    "PrometheusMetrics": "wire.client_metrics",
    "Replicas": "servers.replicas",
    "ServerTls": "wire.tls",
    "Tls": "wire.tls",
    "Transport": "wire.transport",
    "make_certificates": "servers.certificates",
    "serve": "servers.serve",
    "start": "servers.engine",
    "start_replicas": "servers.replicas",
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
    from .client.async_client import AsyncClient
    from .client.client import Client
    from .local.server import LocalServer
    from .servers.certificates import make_certificates
    from .servers.engine import Engine, start
    from .servers.replicas import Replicas, start_replicas
    from .servers.serve import serve
    from .wire.client_metrics import Metrics, PrometheusMetrics
    from .wire.tls import ServerTls, Tls
    from .wire.transport import AsyncTransport, Transport


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
