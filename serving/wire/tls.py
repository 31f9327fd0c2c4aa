"""Keys and certificates from files, for clients and for servers."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from keras_privpart.errors import ServingError

CA_FILE = "ca.crt"
SERVER_FILES = ("server.crt", "server.key")
CLIENT_FILES = ("client.crt", "client.key")

_BEGIN = b"-----BEGIN "


@dataclass(frozen=True)
class Tls:
    """What a client needs for an encrypted connection.

    Attributes:
        ca: PEM file of the authorities whose servers are trusted; `None` for those that gRPC brings.
        certificate: PEM file of the client's certificate, for servers that ask for one.
        key: PEM file of its private key.

    Raises:
        ServingError: a file is missing or is no PEM, or only one of certificate and key is given.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ServingError("Received a client certificate or a key alone; expected both, or neither.")
        for path in (self.ca, self.certificate, self.key):
            if path is not None:
                read_pem(path)
        self.context()  # a key that does not belong to the certificate is found here, not in the first request

    @classmethod
    def of(cls, value: Tls | str | Path) -> Tls:
        """`value` itself; or the client's files of a folder as `privpart-keras certs` makes it, `client.crt` and `client.key` if there."""
        if isinstance(value, Tls):
            return value
        folder = Path(value)
        certificate, key = (folder / name for name in CLIENT_FILES)
        own = certificate.exists() or key.exists()
        return cls(folder / CA_FILE, certificate if own else None, key if own else None)

    def credentials(self) -> grpc.ChannelCredentials:
        """The same, for a gRPC channel."""
        ca, certificate, key = (None if path is None else read_pem(path) for path in (self.ca, self.certificate, self.key))
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def context(self) -> ssl.SSLContext:
        """The same, for Python's own sockets."""
        try:
            context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
            if self.certificate is not None:
                context.load_cert_chain(str(self.certificate), str(self.key))
        except (ssl.SSLError, OSError) as error:
            named = ", ".join(str(path) for path in (self.ca, self.certificate, self.key) if path is not None)
            raise ServingError(
                f"Can't use {named}: {error}. Expected PEM files: the authority's certificate, and a certificate with its own key."
            ) from error
        return context


@dataclass(frozen=True)
class ServerTls:
    """What a server needs: its certificate and key, and, for mTLS, the authority whose clients it lets in.

    Attributes:
        certificate, key: PEM files.
        ca: PEM file; with it every client must show a certificate of this authority. `None` lets every client in.
    """

    certificate: Path
    key: Path
    ca: Path | None = None

    def __post_init__(self) -> None:
        for path in (self.certificate, self.key, self.ca):
            if path is not None:
                read_pem(path)
        self.context()

    @classmethod
    def of(cls, value: ServerTls | str | Path) -> ServerTls:
        """`value` itself; or the server's files of a folder as `privpart-keras certs` makes it, with mTLS."""
        if isinstance(value, ServerTls):
            return value
        folder = Path(value)
        return cls(folder / SERVER_FILES[0], folder / SERVER_FILES[1], folder / CA_FILE)

    def credentials(self) -> grpc.ServerCredentials:
        """The same, for a gRPC server."""
        pair = (read_pem(self.key), read_pem(self.certificate))
        ca = None if self.ca is None else read_pem(self.ca)
        return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)

    def context(self) -> ssl.SSLContext:
        """The same, for Python's own sockets."""
        try:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=None if self.ca is None else str(self.ca))
            context.verify_mode = ssl.CERT_NONE if self.ca is None else ssl.CERT_REQUIRED
            context.load_cert_chain(str(self.certificate), str(self.key))
        except (ssl.SSLError, OSError) as error:
            raise ServingError(
                f"Can't use {self.certificate} and {self.key}: {error}. Expected a PEM certificate and its own key."
            ) from error
        return context

    def config(self) -> str:
        """TensorFlow Serving's `--ssl_config_file`: an SSLConfig in text form, which takes PEM text, not paths."""
        lines = [f"{field}: {_quoted(path)}" for field, path in (("server_key", self.key), ("server_cert", self.certificate))]
        if self.ca is not None:
            lines.append(f"custom_ca: {_quoted(self.ca)}")
        return "\n".join([*lines, f"client_verify: {str(self.ca is not None).lower()}", ""])


def read_pem(path: Path) -> bytes:
    """A PEM file's content.

    Raises:
        ServingError: it cannot be read or is no PEM.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ServingError(
            f"Can't read {path}: {error.strerror}. Make certificates with `privpart-keras certs DIR`, or bring yours."
        ) from error
    if _BEGIN not in content:
        raise ServingError(f"{path} is no PEM file; expected text with '-----BEGIN'. Convert it with openssl x509 -inform der.")
    return content


def _quoted(path: Path) -> str:
    return '"' + read_pem(path).decode("ascii", "replace").strip().replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '\\n"'
