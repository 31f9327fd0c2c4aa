"""Transports to the addresses that a client is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_privpart.contract import Contract
from keras_privpart.errors import ServingError

from ..wire.grpc_transport import AsyncGrpcTransport, GrpcTransport
from ..wire.tls import Tls
from ..wire.transport import AsyncTransport, Transport

if TYPE_CHECKING:
    from ..wire.http_transport import HttpTransport

KINDS = ("grpc", "rest", "v2", "v2-grpc")


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
    options: Any = {"max_message_bytes": max_message_bytes, "tls": None if tls is None else Tls.of(tls), "token": token}
    if _checked(kind) == "grpc":
        return [GrpcTransport(address, **options) for address in addresses]
    if kind == "v2-grpc":
        from ..open_inference.v2_grpc import V2GrpcTransport

        return [V2GrpcTransport(address, contract, **options) for address in addresses]
    return list(_http_transports(addresses, kind, contract, options))


def async_transports_to(
    addresses: Sequence[str], kind: Any, contract: Contract, max_message_bytes: int, tls: Tls | str | Path | None, token: str | None
) -> list[AsyncTransport]:
    """`transports_to`, for asyncio."""
    options: Any = {"max_message_bytes": max_message_bytes, "tls": None if tls is None else Tls.of(tls), "token": token}
    if _checked(kind) == "grpc":
        return [AsyncGrpcTransport(address, **options) for address in addresses]
    if kind == "v2-grpc":
        from ..open_inference.v2_grpc import AsyncV2GrpcTransport

        return [AsyncV2GrpcTransport(address, contract, **options) for address in addresses]
    from ..wire.http_transport import AsyncHttpTransport

    return [AsyncHttpTransport(transport) for transport in _http_transports(addresses, kind, contract, options)]


def check_label(kind: Any, label: str | None) -> None:
    """Raises `ServingError` for a label where servers know none."""
    if label is not None and kind in ("v2", "v2-grpc"):
        raise ServingError(
            f"Received label={label!r} with transport={kind!r}; the Open Inference Protocol has versions only. Leave it out."
        )


def _http_transports(addresses: Sequence[str], kind: str, contract: Contract, options: Any) -> Iterator[HttpTransport]:
    if kind == "rest":
        from ..wire.rest_transport import RestTransport

        return (RestTransport(address, contract, **options) for address in addresses)
    from ..open_inference.v2_rest import V2RestTransport

    return (V2RestTransport(address, contract, **options) for address in addresses)


def _checked(kind: Any) -> str:
    if kind not in KINDS:
        raise ServingError(f"Received transport={kind!r}; expected one of {list(KINDS)}, or a transport object.")
    return kind
