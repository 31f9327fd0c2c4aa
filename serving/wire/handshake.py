"""Says why a connection cannot be made: gRPC tells `UNAVAILABLE` for servers that are down, that are not trusted, and of another kind."""

from __future__ import annotations

import re
import socket
import ssl

from keras_privpart.errors import RequestRefusedError, SecureConnectionError

from .tls import Tls

_HOST_PORT = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:]+)\]|(?P<host>[^:/]+)):(?P<port>\d+)")
_LONGEST_SECONDS = 2.0
_SILENCE_SECONDS = 0.5
_ASKED = b"GET / HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n"
_WORDS = b"HTTP/1."


def connection_problem(address: str, tls: Tls | None, timeout: float) -> SecureConnectionError | RequestRefusedError | None:
    """Shakes hands with the server once, as the channel would.

    Args:
        address: the channel's target. Only `host:port` can be tried, with or without `dns:///` before it.
        tls: what the channel uses; `None` for plaintext.
        timeout: seconds, of which at most two are taken.

    Returns:
        What stands in the way; `None` if that is neither TLS nor a port that speaks HTTP/1.1, or is not known.
    """
    found = _HOST_PORT.fullmatch(address.removeprefix("dns:///"))
    if found is None:
        return None
    host, port = found["six"] or found["host"], int(found["port"])
    reason = _reason(host, port, tls, min(timeout, _LONGEST_SECONDS))
    if reason is None and tls is None and _speaks_http1(host, port, min(timeout, _LONGEST_SECONDS)):
        return RequestRefusedError(
            f"{address}: the port speaks HTTP/1.1, as TensorFlow Serving's REST port does, and gRPC was tried. "
            "Use the gRPC port, or transport='rest'."
        )
    return None if reason is None else SecureConnectionError(f"{address}: {reason}")


def _speaks_http1(host: str, port: int, timeout: float) -> bool:
    """Whether the server answers a request of HTTP/1.1 as such, which a gRPC port does not."""
    try:
        with socket.create_connection((host, port), timeout=timeout) as plain:
            plain.sendall(_ASKED)
            return plain.recv(len(_WORDS), socket.MSG_WAITALL) == _WORDS
    except OSError:
        return False


def _reason(host: str, port: int, tls: Tls | None, timeout: float) -> str | None:
    context = _trusting() if tls is None else tls.context()
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection((host, port), timeout=timeout) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
            closed = _closed(secure)
    except ssl.SSLCertVerificationError as error:
        return (
            f"the server's certificate is not trusted: {error.verify_message}. Pass the authority that signed it as tls=Tls(ca=...), "
            "and call the server by a name that its certificate holds."
        )
    except ssl.SSLError:
        return None if tls is None else "the server does not speak TLS. Start it with TLS, or leave tls out."
    except OSError:
        return None
    if tls is None:
        return "the server speaks TLS, and plaintext was tried. Pass tls=, the folder that `privpart-keras certs` made."
    if not closed:
        return None
    if tls.certificate is None:
        return "the server asks for a client certificate. Pass tls=Tls(ca, certificate, key)."
    return f"the server refuses the client certificate {tls.certificate}: expired, or of an authority that it does not trust. Renew it."


def _closed(secure: ssl.SSLSocket) -> bool:
    """Whether the server hangs up after the handshake, as it does on a client that it does not let in. A willing one speaks first."""
    secure.settimeout(_SILENCE_SECONDS)
    try:
        return secure.recv(1) == b""
    except TimeoutError:
        return False
    except (ssl.SSLError, OSError):
        return True


def _trusting() -> ssl.SSLContext:
    """Finds out whether a server speaks TLS at all; nothing is sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
