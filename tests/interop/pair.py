"""A pair of gateways as processes, with keys and configurations of their own."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastsec.demo.gateways import Gateway
from fastsec.demo.intermediary import Intermediary
from fastsec.demo.pki import broker_contexts
from fastsec.demo.process import free_port
from fastsec.pki.credential import load_certificates
from fastsec.pki.identity import OsiName
from fastsec.pki.roles import UserRoleInfo
from fastsec.pki.trial import TrialAuthority
from fastsec.pki.trial_roles import TrialAttributeAuthority

NAMES = {"cc": OsiName.parse("1.1.1.999.1:12"), "der": OsiName.parse("1.1.1.999.2:12")}
IDENTITY = """\
[identity]
certificate = "{name}.e2e.pem"
key = "{name}.e2e.key"
[trust]
anchors = ["root.pem"]
crls = ["root.crl.pem"]
[log]
format = "json"
[gateway]
drain = "5s"
[policy]
{policy}
"""
TLS = """\
[tls]
certificate = "{name}.tls.pem"
key = "{name}.tls.key"
anchors = ["root.pem"]
"""
CC_ROUTE = """\
[[route]]
role = "client"
listen = "127.0.0.1:{near}"
connect = "127.0.0.1:{far}"
peer = "{peer}"
{extra}
"""
DER_ROUTE = """\
[[route]]
role = "server"
listen = "127.0.0.1:{far}"
connect = "127.0.0.1:{near}"
peers = ["{peer}"]
{extra}
"""
CC_WAITS = """\
[[route]]
role = "client"
dial = "in"
listen = "127.0.0.1:{near}"
far_listen = "127.0.0.1:{far}"
peer = "{peer}"
{extra}
"""
DER_DIALS = """\
[[route]]
role = "server"
dial = "out"
connect = "127.0.0.1:{near}"
far_connect = "127.0.0.1:{far}"
peers = ["{peer}"]
{extra}
"""


@dataclass
class Pair:
    """Two running gateways.

    Attributes:
        port: where a plain MMS client connects.
        far: where the far gateway listens for secured associations.
        cc, der: the client's and the server's gateway.
        middle: the intermediary between them; it ends TLS on both sides.
    """

    port: int
    far: int
    cc: Gateway
    der: Gateway
    middle: Intermediary


@asynccontextmanager
async def gateways(
    directory: Path,
    server_port: int,
    *,
    tls: bool = True,
    policy: str = 'encryption = "required"',
    der_policy: str | None = None,
    cc_extra: str = "",
    der_extra: str = "",
    der_dials: bool = False,
    cc_roles: Sequence[UserRoleInfo] = (),
    cc_token: Sequence[UserRoleInfo] = (),
) -> AsyncIterator[Pair]:
    """Start both gateways towards the plain server at ``server_port``; at the end they drain.

    Arguments:
        tls: TLS on both hops, by way of the intermediary.
        policy: lines of ``[policy]``; ``der_policy`` if the server's side has others.
        cc_extra, der_extra: lines at the end of the route.
        der_dials: the server's gateway opens the TCP connection, as from behind a firewall.
        cc_roles: what the certificate of the client's gateway grants.
        cc_token: what an attribute certificate grants it.
    """
    authority = TrialAuthority.create(directory, time.time_ns() // 1_000_000)
    near, far = free_port(), free_port()
    for name, identity in NAMES.items():
        authority.issue_e2e(name, identity, roles=cc_roles if name == "cc" else ())
        authority.issue_tls(name, ["127.0.0.1"])
    tables = {"cc": "", "der": ""}
    if cc_token:
        issuer = TrialAttributeAuthority.create(authority, "roles")
        (holder, *_) = load_certificates(directory / "cc.e2e.pem")
        issuer.save(issuer.issue(holder, cc_token, revocable=False), "cc")
        tables = {"cc": '[roles]\ntoken = "cc.roles.pem"\n', "der": '[roles]\nauthorities = ["roles.aa.pem"]\n'}
    authority.issue_tls("broker", ["127.0.0.1"])
    server_tls, client_tls = broker_contexts(directory) if tls else (None, None)
    middle = Intermediary(far, server_tls=server_tls, client_tls=client_tls)
    broker = await middle.start()
    routes = {
        "cc": (CC_WAITS if der_dials else CC_ROUTE).format(
            near=near, far=far if der_dials else broker, peer=NAMES["der"], extra=cc_extra
        ),
        "der": (DER_DIALS if der_dials else DER_ROUTE).format(
            near=server_port, far=broker if der_dials else far, peer=NAMES["cc"], extra=der_extra
        ),
    }
    for name, route in routes.items():
        own = der_policy if name == "der" and der_policy is not None else policy
        text = IDENTITY.format(name=name, policy=own) + (TLS.format(name=name) if tls else "") + tables[name] + route
        (directory / f"{name}.toml").write_text(text)
    try:
        der = await Gateway.start("der", directory / "der.toml")
        async with der.process:
            cc = await Gateway.start("cc", directory / "cc.toml")
            async with cc.process:
                yield Pair(near, far, cc, der, middle)
    finally:
        await middle.stop()
