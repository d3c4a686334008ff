"""The trial PKI of the demo and the two gateways' configuration files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from fastsec.aio.tls import TLSConfig
from fastsec.pki.identity import OsiName
from fastsec.pki.trial import TrialAuthority

CONTROL_CENTRE = OsiName.parse("1.1.1.999.1:12")
DER = OsiName.parse("1.1.1.999.2:12")
LOOPBACK = "127.0.0.1"

_COMMON = """\
[identity]
certificate = "{name}.e2e.pem"
key = "{name}.e2e.key"

[trust]
anchors = ["root.pem"]
crls = ["root.crl.pem"]

[tls]
certificate = "{name}.tls.pem"
key = "{name}.tls.key"
anchors = ["root.pem"]

[policy]
encryption = "required"
ae = "required"
groups = [23]
rekey = "1h"
rekey_messages = {rekey_messages}

[log]
format = "json"

[gateway]
drain = "5s"

"""
_CLIENT_ROUTE = """\
[[route]]
role = "client"
listen = "127.0.0.1:{listen}"
connect = "127.0.0.1:{connect}"
peer = "{peer}"
"""
_SERVER_ROUTE = """\
[[route]]
role = "server"
listen = "127.0.0.1:{listen}"
connect = "127.0.0.1:{connect}"
peers = ["{peer}"]
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """Who listens where on 127.0.0.1.

    Attributes:
        plain_client: the control centre's gateway, for the plain client.
        broker: the intermediary.
        secured: the DER's gateway, for secured associations.
        plain_server: the MMS server.
    """

    plain_client: int
    broker: int
    secured: int
    plain_server: int


def issue(directory: Path, utc_ms: int) -> list[str]:
    """Make the trial authority and all certificates in ``directory``; returns the file names."""
    authority = TrialAuthority.create(directory, utc_ms)
    for name, identity in (("cc", CONTROL_CENTRE), ("der", DER)):
        authority.issue_e2e(name, identity)
        authority.issue_tls(name, [LOOPBACK])
    # The intermediary has a TLS certificate like any broker, and no end-to-end one.
    authority.issue_tls("broker", [LOOPBACK])
    return sorted(path.name for path in directory.iterdir())


def broker_contexts(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS contexts of the intermediary towards its clients and towards its server."""
    tls = TLSConfig(directory / "broker.tls.pem", directory / "broker.tls.key", [directory / "root.pem"])
    return tls.server_context, tls.client_context


def write_configurations(directory: Path, ports: Ports, rekey_messages: int) -> dict[str, Path]:
    """Write ``cc.toml`` and ``der.toml``; both are what an operator would write.

    Arguments:
        rekey_messages: update the keys after so many messages, so that it happens while one looks on.
    """
    routes = {
        "cc": _CLIENT_ROUTE.format(listen=ports.plain_client, connect=ports.broker, peer=DER),
        "der": _SERVER_ROUTE.format(listen=ports.secured, connect=ports.plain_server, peer=CONTROL_CENTRE),
    }
    files = {}
    for name, route in routes.items():
        files[name] = directory / f"{name}.toml"
        files[name].write_text(_COMMON.format(name=name, rekey_messages=rekey_messages) + route, encoding="utf-8")
    return files
