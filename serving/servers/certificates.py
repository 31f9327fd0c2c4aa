"""A certificate authority for development: makes the CA, one certificate for servers and one for clients.

Needs `cryptography`. Anyone who holds `ca.key` can make certificates that both sides trust: for production use your own authority.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from keras_privpart import arguments, atomic
from keras_privpart.errors import EngineError

from ..wire.tls import CA_FILE, CLIENT_FILES, SERVER_FILES

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

CA_KEY_FILE = "ca.key"
DEFAULT_HOSTS = ("localhost", "127.0.0.1", "::1")
_BACKDATED = timedelta(minutes=5)  # clocks differ


@dataclass(frozen=True)
class Certificates:
    """The folder that `make_certificates` wrote, and when its certificates end."""

    folder: Path
    hosts: tuple[str, ...]
    expires: datetime


def make_certificates(folder: str | Path, hosts: Sequence[str] = DEFAULT_HOSTS, days: int = 30) -> Certificates:
    """Writes `ca.crt`, `ca.key`, `server.crt`, `server.key`, `client.crt` and `client.key`, keys readable by their owner alone.

    Args:
        folder: a folder that is not there yet.
        hosts: names and IP addresses that clients call the server by.
        days: how long the certificates are good for, from 1.

    Raises:
        EngineError: `cryptography` is missing, the folder is there or cannot be written, or an argument is wrong.
    """
    target = Path(folder)
    days = arguments.whole("days", days, EngineError, most=825, advice="Systems accept no longer ones.")
    if not hosts or not all(host and host == host.strip() for host in hosts):
        raise EngineError(f"Received the hosts {list(hosts)!r}; expected at least one name or IP address that clients call the server by.")
    if target.exists() or target.is_symlink():
        raise EngineError(f"{target} is there already. Choose another folder: certificates in use are not overwritten.")
    expires = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=days)
    files = _issue(tuple(hosts), expires)
    try:
        with atomic.new_folder(target, mode=0o700) as fresh:
            for name, content in files.items():
                _write(fresh / name, content)
    except OSError as error:
        raise EngineError(f"Can't write {target}: {error.strerror}. Choose a folder that you may write to.") from error
    return Certificates(target, tuple(hosts), expires)


def _write(path: Path, content: bytes) -> None:
    mode = 0o600 if path.suffix == ".key" else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
        stream.write(content)


def _issue(hosts: tuple[str, ...], expires: datetime) -> dict[str, bytes]:
    """Every file's name and content."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID
    except ImportError as error:
        raise EngineError(f"Making certificates needs cryptography: {error}. Install it: pip install 'keras_privpart[certs]'.") from error
    ca_key = ec.generate_private_key(ec.SECP256R1())
    name = _name("keras_privpart development CA")
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    ca = (
        _builder(name, name, ca_key.public_key(), expires)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(ca_id, critical=False)
    )
    files = {CA_FILE: _pem(_signed(ca, ca_key)), CA_KEY_FILE: _key_pem(ca_key)}
    roles = {
        SERVER_FILES: ("keras_privpart server", ExtendedKeyUsageOID.SERVER_AUTH, [_general_name(host) for host in hosts]),
        CLIENT_FILES: ("keras_privpart client", ExtendedKeyUsageOID.CLIENT_AUTH, []),
    }
    for (certificate_file, key_file), (common_name, purpose, alternative) in roles.items():
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(common_name), name, key.public_key(), expires)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id), critical=False)
        )
        if alternative:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        files |= {certificate_file: _pem(_signed(builder, ca_key)), key_file: _key_pem(key)}
    return files


def _builder(subject: x509.Name, issuer: x509.Name, public_key: EllipticCurvePublicKey, expires: datetime) -> x509.CertificateBuilder:
    from cryptography import x509

    # A certificate that has ended already begins before it ends: tests make such.
    begins = min(datetime.now(timezone.utc), expires - timedelta(minutes=1)) - _BACKDATED
    builder = x509.CertificateBuilder(issuer, subject, public_key, x509.random_serial_number())
    return builder.not_valid_before(begins).not_valid_after(expires)


def _signed(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())


def _name(common_name: str) -> x509.Name:
    from cryptography import x509

    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(**granted: bool) -> x509.KeyUsage:
    from cryptography import x509

    of_ends = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    every = (*of_ends, "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{use: granted.get(use, False) for use in every})


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
