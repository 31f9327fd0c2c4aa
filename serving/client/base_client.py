"""How a client is made, for `Client` and `AsyncClient` alike: the session that checks everything, and the transports that it checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from ..wire.client_metrics import Metrics, NoMetrics
from ..wire.tls import Tls
from ..wire.transport import MAX_MESSAGE_BYTES
from .connecting import addresses_of, check_label
from .session import Session

T = TypeVar("T")


class BaseClient(Generic[T]):
    """What both clients have in common; arguments and errors are those of `Client`.

    Attributes:
        _own: the class of a transport of the caller's own.
        _made: makes the transports to given addresses.
    """

    _own: ClassVar[type[Any]]
    _made: ClassVar[Callable[..., list[Any]]]

    def __init__(
        self,
        bundle_path: str | Path,
        address: str | Sequence[str],
        *,
        timeout: float = 10.0,
        version: int | None = None,
        label: str | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        tls: Tls | str | Path | None = None,
        token: str | None = None,
        transport: T | str = "grpc",
        device_format: str | None = None,
        noise_key: bytes | str | Path | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        addresses = addresses_of(address)
        check_label(transport, label)
        self._session = Session(
            bundle_path,
            timeout=timeout,
            version=version,
            label=label,
            max_message_bytes=max_message_bytes,
            device_format=device_format,
            noise_key=noise_key,
        )
        self.contract = self._session.contract
        self.address = ", ".join(addresses)
        self.timeout = timeout
        self._metrics = NoMetrics() if metrics is None else metrics
        self._transports: list[Any] = (
            [transport]
            if isinstance(transport, self._own)
            else self._made(addresses, transport, self.contract, max_message_bytes, tls, token)
        )
        self._session.connect(self._transports)
