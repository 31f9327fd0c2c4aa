"""Transports to the addresses that a client is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_privpart.contract import Contract
from keras_privpart.errors import ServingError

from ..wire.grpc_transport import AsyncGrpcTransport, GrpcTransport
from ..wire.tls import Tls
from ..wire.transport import AsyncTransport, Transport

KINDS = ("grpc", "rest")


def addresses_of(address: str | Sequence[str]) -> tuple[str, ...]:
    """The addresses, at least one.

    Raises:
        ServingError: there is none, or one is no text.
    """
    addresses = (address,) if isinstance(address, str) else tuple(address) if isinstance(address, (list, tuple)) else ()
    if not addresses or not all(isinstance(one, str) and one and one == one.strip() for one in addresses):
        raise ServingError(f"Received the address {address!r}; expected host:port, such as 'localhost:8500', or several.")
    return addresses


def transports_to(
    addresses: Sequence[str], kind: Any, contract: Contract, max_message_bytes: int, tls: Tls | str | Path | None, token: str | None
) -> list[Transport]:
    """A transport an address.

    Raises:
        ServingError: an unknown kind, a token without TLS, or TLS files that cannot be used.
    """
    secure = None if tls is None else Tls.of(tls)
    if _checked(kind) == "grpc":
        return [GrpcTransport(address, max_message_bytes, tls=secure, token=token) for address in addresses]
    from ..wire.rest_transport import RestTransport

    return [RestTransport(address, contract, max_message_bytes, tls=secure, token=token) for address in addresses]


def async_transports_to(
    addresses: Sequence[str], kind: Any, contract: Contract, max_message_bytes: int, tls: Tls | str | Path | None, token: str | None
) -> list[AsyncTransport]:
    """`transports_to`, for asyncio."""
    secure = None if tls is None else Tls.of(tls)
    if _checked(kind) == "grpc":
        return [AsyncGrpcTransport(address, max_message_bytes, tls=secure, token=token) for address in addresses]
    from ..wire.rest_transport import AsyncRestTransport, RestTransport

    return [AsyncRestTransport(RestTransport(address, contract, max_message_bytes, tls=secure, token=token)) for address in addresses]


def _checked(kind: Any) -> str:
    if kind not in KINDS:
        raise ServingError(f"Received transport={kind!r}; expected one of {list(KINDS)}, or a transport object.")
    return kind
