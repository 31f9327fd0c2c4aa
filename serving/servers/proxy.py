"""The proxy that deployed servers stand behind: Envoy, which lets the calls of a client through and no others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template

from ..wire.transport import Method

TEMPLATES = Path(__file__).parents[1] / "deploy"
ENVOY_IMAGE = "envoyproxy/envoy:v1.31.5"


def envoy(methods: Sequence[Method], server_port: int) -> str:
    """The text of `envoy.yaml`.

    Args:
        methods: what a client calls.
        server_port: the servers' gRPC port.
    """
    calls = "\n".join(f"{' ' * 24}- match: {{path: {m.path}}}\n{' ' * 26}route: {{cluster: servers, timeout: 60s}}" for m in methods)
    text = (TEMPLATES / "envoy.yaml").read_text(encoding="utf-8")
    return Template(text).substitute(calls=calls, server_port=server_port)
