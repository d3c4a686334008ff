"""Routes whose far side speaks the A-security-profile of 2007 (``security = "a-profile"``): settings and material.

Such a far side is an MMS client or server by another vendor, or another gateway. It has a certificate and a trust of
its own, ``[a_profile]`` or ``[route.a_profile]``: ordinary certificates, no OSI identities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from fastsec import limits, profile
from fastsec.aprofile import (
    ANY_PEER,
    Allowed,
    AProfileConfig,
    AProfileCredential,
    key_name,
    load_a_profile_credential,
    subject_text,
)
from fastsec.envs.osi import OsiAddress as StackAddress
from fastsec.envs.osi import OsiParams
from fastsec.errors import ConfigError
from fastsec.gateway import near, sides, tables
from fastsec.gateway.model import OsiAddress
from fastsec.gateway.positions import Path as Where
from fastsec.gateway.tables import Table, Wrong
from fastsec.pki.credential import load_certificates
from fastsec.pki.path import TrustStore
from fastsec.pki.pkcs11 import SCHEME
from fastsec.secpdu import authentication

if TYPE_CHECKING:
    from fastsec.events import EventSink
    from fastsec.gateway.model import Route
    from fastsec.pki.path import VerifiedPeer
    from fastsec.pki.revocation import Revocations

TITLE: Final = "[route.a_profile]"
WORDS: Final = "A-profile of 2007, authenticates the association only"


@dataclass(frozen=True, slots=True, kw_only=True)
class AProfileSettings:
    """``[a_profile]`` or a route's own.

    Attributes:
        certificate, key, password: own RSA certificate.
        anchors, crls, intermediates: whom to believe; authorities between a peer and an anchor.
        peers: who is accepted, as ``AProfileConfig.peers``.
        signed, time, carrier: see ``AProfileConfig``.
        without_tls: there is none below; on loopback only.
        local, remote: OSI addresses of the far side's association.
        where: for messages.
    """

    certificate: Path
    key: Path
    password: bytes | None = field(default=None, repr=False)
    anchors: tuple[Path, ...]
    crls: tuple[Path, ...]
    intermediates: tuple[Path, ...]
    peers: tuple[str, ...]
    signed: str
    time: str
    carrier: str
    without_tls: bool
    local: OsiAddress
    remote: OsiAddress
    where: Where


# --- reading the file -------------------------------------------------------------------------------------------------


def is_native(entry: Mapping[str, Any]) -> bool:
    """Whether the values of a ``[[route]]`` are those of a native route."""
    return bool(entry.get("security", "native") != "a-profile")


def any_native(file: Mapping[str, Any]) -> bool:
    """Whether a file has a native route, or none that can be read."""
    routes = file.get("route")
    entries = routes if isinstance(routes, list) else []
    return not entries or any(not isinstance(entry, Mapping) or is_native(entry) for entry in entries)


def read(
    table: Table,
    general: Table | None,
    file: Callable[[Any], Path],
    password: Callable[[Table], bytes | None],
    *,
    tls: bool,
    loopback: bool,
) -> AProfileSettings | None:
    """The settings of a route, after its ``security`` was read; None for a native one, or after a complaint.

    Arguments:
        table: of the route.
        general: ``[a_profile]``.
        file, password: read a file name, and ``password`` or ``password_file`` of a table.
        tls: whether the route has TLS.
        loopback: whether its far address is on loopback.
    """
    security = table.get("security", tables.choice("native", "a-profile"), "native")
    own = table.table("a_profile", TITLE)
    if security == "native":
        if own is not None:
            table.error("a_profile", 'a_profile belongs to security = "a-profile"')
        return None
    for key, remedy in (
        ("peer", f"name the peer's certificate in {TITLE} peers"),
        ("peers", f"name the peers' certificates in {TITLE} peers"),
        ("policy", "the A-profile encrypts nothing and updates no keys"),
    ):
        if key in table:
            table.error(key, f'{key} has no meaning with security = "a-profile": {remedy}')
    if own is None and general is None:
        table.error("", f'a route with security = "a-profile" lacks {TITLE}: certificate, key, anchors and peers')
        return None
    found = _read(own, general, file, password)
    if found is not None and not tls:
        if not found.without_tls:
            table.error(
                "security",
                'security = "a-profile" without TLS below is not secure: data travels unprotected; write a [tls] table',
            )
        elif not loopback:
            table.error("a_profile", "a_profile: without_tls is for tests on loopback; write a [tls] table")
    elif found is not None and found.without_tls:
        table.error("a_profile", "a_profile: without_tls has no meaning beside [tls]; remove one of them")
    return found


def check_general(
    general: Table | None, file: Callable[[Any], Path], password: Callable[[Table], bytes | None]
) -> None:
    """Complain about ``[a_profile]`` by itself, whether or not a route uses it."""
    if general is not None:
        _read(general, None, file, password)


def _read(
    own: Table | None, general: Table | None, file: Callable[[Any], Path], password: Callable[[Table], bytes | None]
) -> AProfileSettings | None:
    if own is None:
        own, general = general, None
    if own is None:
        return None
    table = Table(own.values, own.where, own.problems, own.title, general)
    certificate = table.get("certificate", file, None, required='"gateway.mms.pem"')
    key = table.get("key", _key_in(file), None, required='"gateway.mms.key"')
    secret = password(table)
    anchors = table.each("anchors", file, required='["root.pem"]')
    if "anchors" in table and not table.values["anchors"]:
        table.error("anchors", "anchors: name at least one file, or nobody can be trusted")
    crls = table.each("crls", file)
    intermediates = table.each("intermediates", file)
    peers = _peers(table)
    signed = table.get("signed", tables.choice(*authentication.SIGNED), profile.A_PROFILE_SIGNED)
    time = table.get("time", tables.choice(*authentication.TIME_FORMS), profile.A_PROFILE_TIME)
    carrier = table.get("carrier", tables.choice("external", "other"), profile.A_PROFILE_CARRIER)
    without_tls = table.get("without_tls", tables.boolean, False)
    local, remote = sides.read(table, "route.a_profile")
    table.done()
    if certificate is None or key is None:
        return None
    return AProfileSettings(
        certificate=certificate, key=key, password=secret, anchors=anchors, crls=crls, intermediates=intermediates,
        peers=peers, signed=signed, time=time, carrier=carrier, without_tls=without_tls,
        local=local, remote=remote, where=table.where,
    )  # fmt: skip


def _key_in(file: Callable[[Any], Path]) -> Callable[[Any], Path]:
    def read(value: Any) -> Path:
        if isinstance(value, str) and value.startswith(SCHEME):
            raise Wrong("a key of the A-profile has to be a file here; in Python a signer may be a token")
        return file(value)

    return read


def _peers(table: Table) -> tuple[str, ...]:
    if table.values.get("peers") == ANY_PEER:
        table.get("peers", tables.string, ANY_PEER)
        return (ANY_PEER,)
    most = limits.OUR_A_PROFILE_ALLOWED_MAX
    found = table.each("peers", _peer, required='["subject:O=Utility,CN=der7"]', maximum=most)
    if "peers" in table and not table.values["peers"]:
        table.error("peers", 'peers: name at least one certificate, or write peers = "any" for everyone trusted')
    return found


def _peer(value: Any) -> str:
    text = tables.string(value)
    try:
        Allowed((text,))
    except ConfigError:
        text = ANY_PEER
    if text == ANY_PEER:
        raise Wrong('write "subject:O=Utility,CN=der7", or "sha256:" and the fingerprint of a certificate')
    return text


# --- opening the files ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opener:
    """What ``fastsec.gateway.material`` lends; each notes what is wrong at its line.

    Attributes:
        attempt: the result of a function, or None after a complaint.
        load_all: the contents of files.
        watch: warns before certificates run out.
        known: what is known about revocation.
        guard: doubts a private key that other users may read.
        state: the name of a file in the state directory, or None.
    """

    attempt: Callable[..., Any]
    load_all: Callable[..., list[bytes]]
    watch: Callable[..., None]
    guard: Callable[[Path, Where], None]
    known: Revocations
    state: Callable[[str], str | None]


def load(own: AProfileSettings, opener: Opener, sink: EventSink) -> AProfileConfig | None:
    """Open the files of a route; None after complaints."""
    credential = _credential(own, opener)
    anchors = opener.load_all(own.anchors, (*own.where, "anchors"), load_certificates, "an A-profile anchor", crl=False)
    path = opener.load_all(
        own.intermediates, (*own.where, "intermediates"), load_certificates, "an A-profile authority", crl=False
    )
    if credential is None or not anchors:
        return None
    trust = opener.attempt(lambda: TrustStore(anchors, revocation=opener.known), own.where)
    if trust is None:
        return None
    replay = opener.state(f"a-profile-{key_name(credential.key)}")
    found: AProfileConfig | None = opener.attempt(
        lambda: AProfileConfig(
            credential=credential,
            trust=trust,
            peers=own.peers,
            intermediates=tuple(path),
            signed=cast(Any, own.signed),
            time=cast(Any, own.time),
            carrier=cast(Any, own.carrier),
            sink=sink,
            replay_file=replay,
            without_tls=own.without_tls,
        ),
        own.where,
    )
    return found


def _credential(own: AProfileSettings, opener: Opener) -> AProfileCredential | None:
    certificate, key = (*own.where, "certificate"), (*own.where, "key")
    found: AProfileCredential | None = opener.attempt(
        lambda: load_a_profile_credential(own.certificate, own.key, own.password),
        certificate,
        ((own.certificate, certificate), (own.key, key)),
    )
    opener.guard(own.key, key)
    if found is not None:
        opener.watch("the A-profile certificate", own.certificate, [found.certificate])
    return found


def who(route: Route) -> str:
    """The peers of a route in words."""
    if route.a_profile is None:
        return str(route.peer) if route.role == "client" else ", ".join(map(str, route.peers)) or "everyone trusted"
    peers = route.a_profile.peers
    return "everyone trusted" if peers == (ANY_PEER,) else ", ".join(peers)


# --- at work ----------------------------------------------------------------------------------------------------------


def parameters(route: Route) -> OsiParams:
    """The OSI parameters of the far side: as the plain side's, but that only what is configured is checked."""
    own = route.a_profile
    if own is None:
        raise ConfigError("not a route of the A-profile")
    listening = route.role == "server"
    any_called = StackAddress(tsel=None, ssel=None, psel=None)
    local = own.local
    selectors = local.tsel is not None or local.ssel is not None or local.psel is not None
    return OsiParams(
        security=False,
        local=near.address(local, any_called if listening else StackAddress()),
        remote=near.address(own.remote, StackAddress()),
        check_selectors=listening and selectors,
        check_called=listening and local.ap_title is not None,
    )


def name_of(peer: VerifiedPeer) -> str:
    """A peer without an OSI identity, for the log."""
    return subject_text(peer.certificate.subject)
