"""The model of the gateway's configuration file: plain data, checked in ``fastsec.gateway.settings``.

Two things are separate on each route: ``role`` says which side of the end-to-end association this gateway is
(``client`` sends the handshake request because the plain MMS client stands on its side), ``dial`` says whether this
gateway opens the TCP connection to the far gateway or waits for it. So a gateway at a plant behind a firewall can dial
out and still be the server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastsec import profile
from fastsec.access.policy import AccessPolicy
from fastsec.aio.tls_profile import TLSRules
from fastsec.config import Policy
from fastsec.errors import ConfigError
from fastsec.gateway.pkcs11 import TokenSettings
from fastsec.gateway.positions import Path as Where
from fastsec.gateway.positions import Positions
from fastsec.gateway.tables import Address, Network, Problem
from fastsec.pki.identity import OsiName
from fastsec.pki.pkcs11 import Pkcs11Uri
from fastsec.pki.revocation import RevocationPolicy

if TYPE_CHECKING:
    from fastsec.gateway.aprofile import AProfileSettings
    from fastsec.gateway.events import EventSettings
    from fastsec.gateway.metrics import MetricsSettings
    from fastsec.gateway.roles import RoleSettings

Role = Literal["client", "server"]
Dial = Literal["out", "in"]
Binding = Literal["subject", "registered-id", "either"]


class SettingsError(ConfigError):
    """A configuration file with problems.

    Attributes:
        path: the file.
        problems: what is wrong, in the order of lines.
    """

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__("\n".join(f"{path}: {problem}" for problem in self.problems))
        self.line = self.problems[0].line if self.problems else None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentitySettings:
    """``[identity]``: the end-to-end certificate and key.

    Attributes:
        certificate: PEM: own certificate, then its path upwards; None: it is in the token beside the key.
        key: PEM private key, or which key of which token.
        password: of the key, or None.
        token: what goes with a key in a token; None: the key is a file.
        name: the AP-title and AE-qualifier this gateway has, if the certificate does not say so alone.
        where: for messages.
    """

    certificate: Path | None
    key: Path | Pkcs11Uri
    password: bytes | None = field(default=None, repr=False)
    token: TokenSettings | None = None
    name: OsiName | None = None
    where: Where = ("identity",)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSettings:
    """``[trust]``: whose certificates are believed."""

    anchors: tuple[Path, ...]
    crls: tuple[Path, ...] = ()
    binding: Binding = "either"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """``[tls]`` or a route's own: security of the hop, with certificates of its own.

    Attributes:
        pinned: certificate files, and fingerprints.
    """

    certificate: Path
    key: Path
    anchors: tuple[Path, ...]
    crls: tuple[Path, ...] = ()
    server_name: str | None = None
    password: bytes | None = field(default=None, repr=False)
    rules: TLSRules = field(default_factory=TLSRules)
    pinned: tuple[Path | bytes, ...] = ()
    where: Where = ("tls",)


@dataclass(frozen=True, slots=True, kw_only=True)
class OsiAddress:
    """One side's OSI address towards the plain peer; None leaves the usual value or, in checks, accepts any."""

    tsel: bytes | None = None
    ssel: bytes | None = None
    psel: bytes | None = None
    ap_title: str | None = None
    ae_qualifier: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NearSettings:
    """``[route.near]``: how the plain MMS peer is spoken to."""

    local: OsiAddress = field(default_factory=OsiAddress)
    remote: OsiAddress = field(default_factory=OsiAddress)
    password: bytes | None = field(default=None, repr=False)
    application_context: str = profile.OID_MMS_AC


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """``[[route]]``: from a plain MMS peer on this side to a far gateway, or the other way round.

    Attributes:
        name: in logs.
        role: ``client`` or ``server`` of the end-to-end association.
        dial: ``out``: this gateway opens the TCP connection to the far one; ``in``: it waits for it.
        near: TCP address of the plain side: listened at as client, dialled as server.
        far: TCP address of the secured side: dialled with ``dial = "out"``, listened at with ``"in"``.
        peer: client: the identity that is called.
        peers: server: the identities that are let in; empty: all that the anchors vouch for.
        allow: client: source addresses that may use the plain listener.
        far_allow: source addresses that may open TCP connections to the secured listener; empty: all.
        osi: how the plain peer is spoken to.
        tls: of the secured side, or None.
        policy: of the secured side.
        a_profile: with what the secured side speaks the A-profile of 2007 instead of native mode, or None.
        max_associations: open or opening at a time.
        accept_rate: new connections per second from one address; a burst of as many is let through.
        spare: connections kept open and waiting where the responder of the association dials.
        connect_timeout: seconds for the plain server, or the far gateway, to answer.
        access: server: what the peers' roles allow them, or None: everything.
        where: for messages.
    """

    name: str
    role: Role
    dial: Dial
    near: Address
    far: Address
    peer: OsiName | None
    peers: tuple[OsiName, ...]
    allow: tuple[Network, ...]
    far_allow: tuple[Network, ...]
    osi: NearSettings
    tls: TlsSettings | None
    policy: Policy
    a_profile: AProfileSettings | None
    max_associations: int
    accept_rate: float
    spare: int
    connect_timeout: float
    access: AccessPolicy | None
    where: Where

    @property
    def reversed(self) -> bool:
        """True if the side that dials TCP is not the side that opens the association."""
        return (self.role == "client") == (self.dial == "in")

    @property
    def listens(self) -> tuple[Address, ...]:
        """Addresses this route listens at."""
        near = (self.near,) if self.role == "client" else ()
        return (*near, self.far) if self.dial == "in" else near


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A whole configuration file.

    Attributes:
        path: the file.
        identity, trust: None only where every route is one of the A-profile.
        log_format: ``text`` or ``json``.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        drain: seconds that SIGTERM gives open associations.
        state: directory that keeps the replay memory over a restart, or None.
        metrics: where they are served, or None.
        events: how security events are recorded; None: in the log alone.
        revocation: where to ask whether certificates are revoked, and what if nobody answers.
        roles: whose roles are believed, and the own role token.
        warnings: doubtful things.
        positions: lines, for later messages.
    """

    path: Path
    identity: IdentitySettings | None
    trust: TrustSettings | None
    routes: tuple[Route, ...]
    log_format: str
    log_level: str
    drain: float
    state: Path | None
    metrics: MetricsSettings | None
    events: EventSettings | None
    revocation: RevocationPolicy
    roles: RoleSettings
    warnings: tuple[Problem, ...]
    positions: Positions
