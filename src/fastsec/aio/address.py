"""Where to dial or to listen: ``osi://host:port``."""

from __future__ import annotations

from fastsec import limits
from fastsec.errors import ConfigError

SCHEME = "osi://"


def parse_address(text: str, *, tls: bool) -> tuple[str, int]:
    """Host and port of ``osi://host:port``; the scheme may be left out, IPv6 addresses stand in brackets.

    Without a port: 3782 with TLS, 102 without (62351-4). Port 0 lets a listener choose.

    Errors:
        ConfigError: the text is not of this form.
    """
    rest = text.removeprefix(SCHEME)
    if rest.startswith("["):
        host, bracket, tail = rest[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise _not_an_address(text)
        port = tail[1:]
    else:
        host, _, port = rest.partition(":")
        if ":" in port:
            raise _not_an_address(text)
    if not host or "/" in host or ("://" in rest):
        raise _not_an_address(text)
    if not port:
        return host, limits.SPEC_PORT_TLS if tls else limits.SPEC_PORT_PLAIN
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise _not_an_address(text)
    return host, int(port)


def _not_an_address(text: str) -> ConfigError:
    return ConfigError(f"{text!r} is not an address; write osi://HOST:PORT, IPv6 as osi://[ADDRESS]:PORT")
