"""Whether an address is of this machine, in any of the spellings that gRPC takes."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote

_SCHEME = re.compile(r"(?:(?P<ip>ipv[46])|dns|passthrough|http|https):(?://[^/]*/|//)?", re.IGNORECASE)
_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::[^:]*)?")


def is_loopback(address: str) -> bool:
    """Whether every host of an address is this machine: `localhost:8500`, `dns:///LOCALHOST:8500`, `ipv4:127.0.0.1:8500,127.0.0.2:8500`,
    `ipv6:[::1]:8500`, `unix:/run/server.sock`."""
    address = address.strip()
    if address.lower().startswith(("unix:", "unix-abstract:")):
        return True
    scheme = _SCHEME.match(address)
    rest = unquote(address[scheme.end() :] if scheme else address)
    targets = rest.split(",") if scheme and scheme["ip"] else [rest]
    return all(_is_local(target) for target in targets)


def _is_local(target: str) -> bool:
    found = _PORT.fullmatch(target)
    host = (found["host"] if found else target).strip("[]").lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.split("%", 1)[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or address.is_unspecified
