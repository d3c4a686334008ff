"""Certificates and rules of a hop, shared by all its connections: contexts, sessions to resume, checks of peers."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Executor
from hashlib import sha256
from importlib import resources
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from fastsec.aio import tls_checks
from fastsec.aio.events import default_sink
from fastsec.aio.tls_checks import CertificateRefused, PeerFacts, RevocationCheck
from fastsec.aio.tls_hello import Hello
from fastsec.aio.tls_profile import REHANDSHAKE, TLSRules
from fastsec.aio.tls_revocation import KnownRevocation
from fastsec.errors import ConfigError
from fastsec.events import SecurityEvent, event, named
from fastsec.pki.credential import load_certificates, load_crls, read_file
from fastsec.pki.revocation import Revocations

if TYPE_CHECKING:
    from fastsec.events import EventSink

StrPath = str | PathLike[str]

SESSIONS_MAX: Final = 1024
PEERS_MAX: Final = 1024
LOOKS_PER_SECOND: Final = 1000  # at peers of open connections, when something new is known
USUAL_RULES: Final = TLSRules()


class Open(Protocol):
    """An open connection, as far as its configuration knows it."""

    def look_again(self, *, anew: bool, within: float) -> None:
        """What is believed has changed: check the peer. From any thread.

        Arguments:
            anew: with another handshake too.
            within: seconds over which all that are told do so.
        """


class TLSConfig:
    """Certificates and rules of the hop, shared by all connections of the process.

    Arguments:
        certificate: PEM file: own certificate, then its path. Not the one of the end-to-end identity.
        key: PEM file of its private key.
        anchors: PEM or DER files with the trust anchors; needed unless certificates are pinned.
        crls: PEM or DER files. A revoked peer is refused; a CRL that is missing or expired is a warning (62351-3).
        server_hostname: client: the DNS name or IP address the server's certificate must carry; None accepts any
            certificate the anchors vouch for, the end-to-end handshake proves the identity.
        password: of the private key.
        rules: see ``TLSRules``.
        sink: gets the events of the domain IEC62351-3; default: the logger ``fastsec.events``.
        revocation: what is known, e.g. ``RevocationService.known``, instead of ``crls``.
    Errors:
        ConfigError: a file is missing, unreadable or does not fit; says which.
    """

    __slots__ = (
        "__weakref__", "_anchors", "_authorities", "_born", "_client", "_files", "_layers", "_lock", "_make", "_peers",
        "_pins", "_print", "_server", "_sessions", "certificate", "revocation", "rules", "server_hostname", "sink",
        "successor",
    )  # fmt: skip

    def __init__(
        self,
        certificate: StrPath,
        key: StrPath,
        anchors: Sequence[StrPath] = (),
        crls: Sequence[StrPath] = (),
        *,
        server_hostname: str | None = None,
        password: str | bytes | None = None,
        rules: TLSRules = USUAL_RULES,
        sink: EventSink | None = None,
        revocation: Revocations | None = None,
    ) -> None:
        self.rules = rules
        self.server_hostname = server_hostname
        self.sink: EventSink = sink or default_sink
        self.successor: TLSConfig | None = None
        pinned = [pin for pin in rules.pinned if len(pin) != 32]
        self._pins = frozenset(pin if len(pin) == 32 else sha256(pin).digest() for pin in rules.pinned)
        if not anchors and len(pinned) < max(1, len(rules.pinned)):
            raise ConfigError("TLS: name at least one file with trust anchors; fingerprints alone do not replace them")
        try:
            trusted = [der for path in anchors for der in load_certificates(path)] + pinned
        except ConfigError as error:
            raise ConfigError(f"TLS trust anchors {error}") from None
        self._files = (certificate, key)
        self._make: Callable[[int], ssl.SSLContext] = lambda side: _context(
            side, certificate, key, trusted, password, rules
        )
        try:
            self._client = self._make(ssl.PROTOCOL_TLS_CLIENT)
            self._server = self._make(ssl.PROTOCOL_TLS_SERVER)
            self._print = self._fingerprint()
            own = load_certificates(certificate)
        except ConfigError as error:
            self.sink(named("TLS_NO_LOCAL_CERT", reason=str(error)))
            raise
        self._client.check_hostname = server_hostname is not None
        self.certificate = own[0]
        self._anchors = frozenset(trusted)
        self._authorities = tls_checks.authorities_of([*own[1:], *_readable(trusted)])
        self.revocation = _revocation(crls, revocation, trusted)
        self._born = time.monotonic()
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, tuple[ssl.SSLSession, float, str]] = OrderedDict()
        self._peers: OrderedDict[bytes, PeerFacts] = OrderedDict()
        self._layers: set[Open] = set()

    # --- contexts ----------------------------------------------------------------------------------------------------

    @property
    def client_context(self) -> ssl.SSLContext:
        """For the side that dials."""
        return self._client

    @property
    def server_context(self) -> ssl.SSLContext:
        """For the side that is dialled; another one after ``rules.resumption``."""
        return self._server

    @property
    def current(self) -> TLSConfig:
        """This configuration, or what has taken its place."""
        config = self
        while config.successor is not None:
            config = config.successor
        return config

    def client_object(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, session: ssl.SSLSession | None
    ) -> ssl.SSLObject:
        """A client's side of a new TLS connection."""
        return self._client.wrap_bio(incoming, outgoing, server_hostname=self.server_hostname, session=session)

    def server_object(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """A server's side of a new TLS connection. In a worker thread: it may read files.

        Sessions can be resumed only in the context that issued them, and Python sets neither their lifetime nor the
        keys of tickets. So the context is made anew: no session, and no chain of sessions resumed one from another,
        outlives ``rules.resumption``. (Each single one also ends after the two hours that OpenSSL gives it.)
        """
        with self._lock:
            if time.monotonic() - self._born >= self.rules.resumption:
                self._renew()
            return self._server.wrap_bio(incoming, outgoing, server_side=True)

    def _renew(self) -> None:
        self._born = time.monotonic()
        with contextlib.suppress(ConfigError):
            if self._fingerprint() == self._print:
                made = self._make(ssl.PROTOCOL_TLS_SERVER)
                if self._fingerprint() == self._print:
                    self._server = made
                    return
        # Other files are there than those we were started with, and nobody has said that they count yet.
        self._server.options |= ssl.OP_NO_TICKET
        self._server.num_tickets = 0

    def _fingerprint(self) -> bytes:
        return sha256(b"".join(sha256(read_file(path)).digest() for path in self._files)).digest()

    # --- sessions ----------------------------------------------------------------------------------------------------

    def session(self, address: str) -> ssl.SSLSession | None:
        """The session of the last connection to ``address`` that may still be resumed."""
        known = self._sessions.get(address)
        if known is None:
            return None
        if time.monotonic() - known[1] >= self.rules.resumption:
            del self._sessions[address]
            self.raise_events((named("TLS_SESSIONID_EXPIRED_FULL_HS", peer=address, reason="expired"),))
            return None
        return known[0]

    def session_version(self, address: str) -> str | None:
        """The version of the session for ``address``, if there is one."""
        known = self._sessions.get(address)
        return known[2] if known is not None else None

    def keep_session(
        self, address: str, session: ssl.SSLSession | None, *, resumed: bool = False, version: str = ""
    ) -> None:
        """Remember ``session`` for the next connection to ``address``; a resumed one is as old as its ancestor."""
        if session is not None:
            known = self._sessions.get(address)
            since = known[1] if known is not None and resumed else time.monotonic()
            self._sessions[address] = (session, since, version)
            self._sessions.move_to_end(address)
            if len(self._sessions) > SESSIONS_MAX:
                self._sessions.popitem(last=False)

    def forget_session(self, address: str) -> None:
        """Resume nothing with ``address``: the last attempt failed."""
        self._sessions.pop(address, None)

    def drop_sessions(self) -> None:
        """Resume none of the sessions there are, on either side."""
        self._sessions.clear()
        with self._lock:
            self._born = -self.rules.resumption

    # --- open connections --------------------------------------------------------------------------------------------

    def opened(self, layer: Open) -> None:
        """A connection of this configuration is open."""
        self._layers.add(layer)

    def closed(self, layer: Open) -> None:
        """It is not any more."""
        self._layers.discard(layer)

    def take_over(self, older: TLSConfig) -> None:
        """Judge the peers of connections that ``older`` opened by the certificates and rules of this one."""
        if older is self:
            return
        older.successor = self
        older.drop_sessions()
        layers, older._layers = older._layers, set()
        self._layers |= layers
        self._tell(layers, anew=True)

    def revocation_changed(self) -> None:
        """New CRLs or answers are there: look at all peers of open connections; resume no session. From any thread."""
        self.drop_sessions()
        self._tell(list(self._layers), anew=False)

    def _tell(self, layers: Collection[Open], *, anew: bool) -> None:
        for layer in layers:
            layer.look_again(anew=anew, within=len(layers) / LOOKS_PER_SECOND)

    def raise_events(self, events: Iterable[SecurityEvent]) -> None:
        """Hand ``events`` to the sink."""
        for each in events:
            self.sink(each)

    # --- peers, in worker threads ------------------------------------------------------------------------------------

    def check_peer(
        self,
        connection: ssl.SSLObject,
        utc: float,
        *,
        peer: str = "",
        hello: Hello | None = None,
        offered: str | None = None,
        before: PeerFacts | None = None,
        version_before: str | None = None,
        final: bool = True,
    ) -> tuple[PeerFacts, list[SecurityEvent], Executor | None]:
        """Check what OpenSSL does not look at, above all not when a session is resumed.

        Arguments:
            utc: now, seconds since 1970.
            offered: version of the session that was to be resumed.
            before, version_before: of a connection that begins anew.
            final: see ``judge``.
        Result: the peer, events that do not stop it, and where to wait before this is done once more, with ``final``.
        Errors:
            CertificateRefused: of whatever reason.
        """
        version, resumed = connection.version() or "", bool(connection.session_reused)
        cipher = (connection.cipher() or ("", "", 0))[0]
        wanted = version_before or offered or (tls_checks.offered_version(hello) if hello is not None else None)
        if wanted is not None and wanted != version:
            raise CertificateRefused(
                f"the TLS version was {wanted} before and is {version} now",
                named("TLS_VERSION_CHANGE", peer=peer, before=wanted, now=version),
            )
        facts = self._facts(connection, peer, resumed)
        events, place = self.judge(facts, utc, peer, final=final)
        if before is not None:
            _check_same(connection, before, facts, peer)
        if offered is not None and not resumed:
            events.append(named("TLS_SESSIONID_EXPIRED_FULL_HS", peer=peer, reason="the server does not resume it"))
        if hello is not None:
            events += tls_checks.hello_events(
                hello, self.rules, peer, version=version, cipher=cipher, resumed=resumed or before is not None
            )
            events += self._authorities.events(hello, peer, version)
        how = "renewed" if before is not None else "resumed" if resumed else "full"
        suite = tls_checks.suite_name(cipher)
        events.append(named("TLS_HS_SUCCESS", peer=peer, version=version, suite=suite, handshake=how))
        return facts, events, place

    def judge(
        self, facts: PeerFacts, utc: float, peer: str, *, establishing: bool = True, final: bool = True
    ) -> tuple[list[SecurityEvent], Executor | None]:
        """Warnings about a peer's certificate, and where an answer about its revocation is to be waited for.

        Arguments:
            establishing: of a handshake, not of an open connection.
            final: do not ask, judge by what is known.
        Errors:
            CertificateRefused: it is not acceptable (any more).
        """
        events = tls_checks.check_certificate(facts, self.rules, self._pins, self._anchors, utc, peer)
        place = None
        if self.revocation is not None:
            found, place = self.revocation.check(facts, utc, peer, establishing=establishing, final=final)
            events += found
        return events, place

    def failed(
        self, error: BaseException, hello: Hello | None, peer: str, *, server_side: bool
    ) -> Sequence[SecurityEvent]:
        """The events of a handshake that has failed."""
        if isinstance(error, CertificateRefused):
            return error.events
        events = tls_checks.failure_events(error, self.rules, hello, peer, server_side=server_side)
        if hello is not None:
            events += self._authorities.events(hello, peer, None)
        return events

    def _vouched(self, chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Up to whoever vouches for it: a peer may send more of its path."""
        for index, der in enumerate(chain):
            if der in self._anchors:
                return chain[: index + 1]
        return chain

    def _facts(self, connection: ssl.SSLObject, peer: str, resumed: bool) -> PeerFacts:
        der = connection.getpeercert(binary_form=True)
        if not der:
            raise CertificateRefused("the peer presented no certificate", named("TLS_NO_PEER_CERT", peer=peer))
        digest = sha256(der).digest()
        with self._lock:
            known = self._peers.get(digest)
            if known is not None:
                self._peers.move_to_end(digest)
        chain = (der,) if resumed else self._vouched(_verified_chain(connection, der))
        if known is not None and (resumed or known.chain == chain):
            return known
        tls_checks.check_sizes(chain, peer)
        try:
            facts = tls_checks.read_facts(chain)
        except ValueError:
            malformed = event("IEC62351-9", 2, 1, peer=peer, reason="malformed")
            raise CertificateRefused("the peer's certificate is malformed", malformed) from None
        with self._lock:
            self._peers[digest] = facts
            if len(self._peers) > PEERS_MAX:
                self._peers.popitem(last=False)
        return facts


def _revocation(crls: Sequence[StrPath], known: Revocations | None, anchors: Sequence[bytes]) -> RevocationCheck | None:
    if known is not None:
        if crls:
            raise ConfigError("TLS: give CRL files to the revocation service, or here without one")
        return KnownRevocation(known, anchors)
    if not crls:
        return None
    known = Revocations()
    for path in crls:
        try:
            known.give(load_crls(path))
        except ConfigError as error:
            raise ConfigError(f"TLS CRL {fspath(path)}: {error}") from None
    return KnownRevocation(known, anchors)


def _check_same(connection: ssl.SSLObject, before: PeerFacts, after: PeerFacts, peer: str) -> None:
    """Who begins anew is who was there before, and did it in full: nobody can be spliced in."""
    if connection.session_reused:
        raise CertificateRefused(
            "a session was resumed where a full handshake is due", named("TLS_NO_RENEG", peer=peer)
        )
    if before.der != after.der and (before.identity is None or before.identity != after.identity):
        raise CertificateRefused(
            "another peer took part in the new handshake",
            named("TLS_NO_TRUSTED_CERT_MATCH", peer=peer, reason="another identity than before"),
        )
    if connection.selected_alpn_protocol() != REHANDSHAKE:
        raise CertificateRefused("the new handshake was not a fastsec one", named("TLS_NO_RENEG", peer=peer))


def _verified_chain(connection: ssl.SSLObject, leaf: bytes) -> tuple[bytes, ...]:
    """The path as OpenSSL verified it; public from Python 3.13 on."""
    public = getattr(connection, "get_verified_chain", None)
    if public is not None:
        return tuple(public()) or (leaf,)
    found = cast("Any", connection)._sslobj.get_verified_chain() or ()
    return tuple(certificate.public_bytes(_DER) for certificate in found) or (leaf,)


_DER: Final = 2  # _ssl.ENCODING_DER


def _context(
    side: int,
    certificate: StrPath,
    key: StrPath,
    trusted: Sequence[bytes],
    password: str | bytes | None,
    rules: TLSRules,
) -> ssl.SSLContext:
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if "1.2" in rules.versions else ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3 if "1.3" in rules.versions else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(rules.ciphers)
    context.verify_mode = ssl.CERT_REQUIRED
    # No renegotiation inside a connection, neither RFC 5746 nor legacy: Python cannot start it, and where the peer
    # starts it its public-key work would run in the loop's thread.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # an anchor need not be self-signed
    if rules.rehandshake:
        context.set_alpn_protocols([REHANDSHAKE])
    try:
        context.load_verify_locations(cadata=b"".join(dict.fromkeys(trusted)))
    except ssl.SSLError as error:
        raise ConfigError(f"TLS trust anchors: {reason(error)}") from None
    try:
        context.load_cert_chain(certificate, key, password if password is not None else _no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigError(f"TLS certificate {fspath(certificate)} with key {fspath(key)}: {reason(error)}") from None
    if side == ssl.PROTOCOL_TLS_SERVER:
        with resources.as_file(resources.files("fastsec").joinpath("data/ffdhe3072.pem")) as path:
            context.load_dh_params(str(path))
    return context


def _readable(ders: Iterable[bytes]) -> list[bytes]:
    """Those that `cryptography` can read; OpenSSL may know more."""
    found = []
    for der in ders:
        with contextlib.suppress(ValueError):
            tls_checks.public_key_of(der)
            found.append(der)
    return found


def _no_password() -> str:
    raise ValueError("the private key is encrypted; give its password")  # OpenSSL would ask on the terminal


def reason(error: BaseException) -> str:
    """What went wrong, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
