"""`privpart-keras certs`: certificates for development."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import emit, json_option


@click.command(short_help="Make a development CA, and certificates for the server and its clients.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--host", "hosts", multiple=True, help="Name or IP address of the server; may be repeated.  [default: this machine]")
@click.option("--days", type=click.IntRange(1, 825), default=30, help="How long they are good for.")
@json_option
def certs(folder: Path, hosts: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make a certificate authority and its certificates in FOLDER, for mutual TLS in development.

    A server needs ca.crt, server.crt and server.key; a client needs ca.crt, client.crt and client.key. Whoever has ca.key can make more:
    keep it, or delete it.

    \b
    Example:
      privpart-keras certs keys --host localhost --days 30
    """
    from keras_privpart.serving.servers.certificates import DEFAULT_HOSTS, make_certificates

    made = make_certificates(folder, hosts or DEFAULT_HOSTS, days)
    expires = made.expires.isoformat()
    text = (
        f"Wrote {folder}: a development CA, a server certificate for {', '.join(made.hosts)}, a client certificate; good until {expires}.\n"
        f"  serve    privpart-keras serve BUNDLE --tls {folder}\n"
        f"  predict  privpart-keras predict BUNDLE --tls {folder}"
    )
    emit(as_json, {"folder": str(folder), "hosts": list(made.hosts), "expires": expires}, text)
