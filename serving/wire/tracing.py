"""Hands the caller's trace on to the server, in programs that trace with OpenTelemetry."""

from __future__ import annotations

import sys


def trace_headers() -> tuple[tuple[str, str], ...] | None:
    """Headers of the current trace (`traceparent` and the like); `None` outside of one, or where OpenTelemetry is not in use.

    A program that traces has imported OpenTelemetry; nothing is imported here for one that does not.
    """
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    propagate.inject(headers)
    return tuple((key.lower(), value) for key, value in headers.items()) or None
