"""The A-security-profile of 2007 (IEC 62351-4 compatibility mode): who is at the other end when an association opens.

Both sides sign the time of day, in AARQ and AARE, and nothing else: the signature covers neither the association nor
whom it is for. What that does not give stands in docs/a-profile.md; TLS belongs below it.

``make_value`` and ``take_value`` run in worker threads on what they are given. ``AProfileMemory`` is what all
associations of one own key share: the times seen of each peer, and the own times already used.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from fastsec import limits, profile
from fastsec._core.crypto import equal, sha256
from fastsec._core.cursor import Reader
from fastsec._core.pk import PrivateKey, PublicKey
from fastsec.errors import (
    ConfigError,
    DecodeError,
    HandshakeError,
    IntegrityError,
    LimitReached,
    PeerError,
    ReplayError,
)
from fastsec.events import named
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import Signer, SoftwareSigner, load_certificates, read_file
from fastsec.replay import ReplayMemory
from fastsec.secpdu import authentication
from fastsec.secpdu.authentication import AuthenticationValue, Signed, TimeForm
from fastsec.secpdu.timestamp import time_key, time_text, time_utc_ms

if TYPE_CHECKING:
    from fastsec.events import SecurityEvent
    from fastsec.pki.path import TrustStore, VerifiedPeer

ANY_PEER: Final = "any"
_FINGERPRINT: Final = re.compile(r"[0-9a-fA-F]{64}").fullmatch
_STEP: Final = "MMS-Authentication-value"
_SECONDS: Final = 14  # digits of a time key down to the second
_SEEN: Final = "P"  # one letter for both PDUs: who has seen an AARE cannot send it back as an AARQ
_ATTRIBUTES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.5": "serialNumber",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "emailAddress",
}
_TEXT_TYPES: Final = (0x0C, 0x13, 0x16)


# --- configuration ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AProfileCredential:
    """An ordinary RSA certificate and what signs with its key. Made by ``make_a_profile_credential``.

    Attributes:
        certificate: DER, at most 8192 octets.
        signer: sha256WithRSAEncryption; may be slow.
        key: the certificate's public key.
    """

    certificate: bytes
    signer: Signer
    key: PublicKey


def make_a_profile_credential(certificate: bytes, signer: Signer) -> AProfileCredential:
    """A credential, after looking whether its parts fit; one trial signature is made. ConfigError says what does not.

    Arguments:
        certificate: DER of an end-entity certificate with an RSA key of 2048 to 4096 bits.
    """
    try:
        parsed = Certificate(certificate)
        parsed.check_signer()
    except PeerError as error:
        raise ConfigError(f"the certificate is not usable for the A-profile: {error}") from error
    if parsed.public_key.kind != "rsa" or signer.kind != "rsa":
        raise ConfigError("the A-profile signs with RSA only; this certificate or key is of another kind")
    try:
        parsed.public_key.verify(profile.SHA256_RSA, b"fastsec", signer.sign(b"fastsec"))
    except PeerError as error:
        raise ConfigError("the key does not belong to the certificate") from error
    return AProfileCredential(certificate, signer, parsed.public_key)


def load_a_profile_credential(
    certificate: str | os.PathLike[str], key: str | os.PathLike[str], password: bytes | None = None
) -> AProfileCredential:
    """Load a certificate and a software key from files.

    Arguments:
        certificate: PEM file, the end-entity certificate first (others are ignored: the A-profile sends one), or DER.
        key: PEM file of the private key.
        password: of the key, or None.
    Errors:
        ConfigError: files that cannot be read or do not fit.
    """
    signer = SoftwareSigner(PrivateKey.from_pem(read_file(key), password))
    return make_a_profile_credential(load_certificates(certificate)[0], signer)


@dataclass(frozen=True, slots=True, kw_only=True)
class AProfileConfig:
    """One local endpoint of the A-profile.

    Attributes:
        credential: own certificate and signer.
        trust: anchors and CRLs; ``binding`` has no meaning here.
        peers: whom to accept, each ``sha256:`` and the fingerprint of a certificate in hexadecimal, or ``subject:`` and
            the subject as ``subject_text`` gives it; or ``any`` alone: all that the anchors vouch for.
        intermediates: DER certificates of authorities between peers and anchors: a peer sends its own alone.
        signed: what own signatures are over: ``characters`` of the time, or its ``encoding``. Both are accepted.
        time: form of own times: ``field``, ``der`` or ``milliseconds`` (``fastsec.secpdu.authentication``). With the
            first two an own key can open one association per second, lastingly.
        carrier: alternative of the ACSE authentication-value in own requests: ``external`` or ``other``.
        sink: receives each security event; None: the adapter's default logs them.
        replay_file: name of the files that keep the times seen over a restart, or None: then times from before the
            start are refused.
        without_tls: allow associations without TLS below: not secure, for tests.
    """

    credential: AProfileCredential
    trust: TrustStore
    peers: tuple[str, ...]
    intermediates: tuple[bytes, ...] = ()
    signed: Signed = profile.A_PROFILE_SIGNED
    time: TimeForm = profile.A_PROFILE_TIME
    carrier: Literal["external", "other"] = profile.A_PROFILE_CARRIER
    sink: Callable[[SecurityEvent], None] | None = None
    replay_file: str | None = None
    without_tls: bool = False
    _allowed: Allowed = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_allowed", Allowed(self.peers))
        if self.signed not in authentication.SIGNED:
            raise ConfigError(f"signed must be one of {', '.join(authentication.SIGNED)}")
        if self.time not in authentication.TIME_FORMS:
            raise ConfigError(f"time must be one of {', '.join(authentication.TIME_FORMS)}")
        if self.carrier not in ("external", "other"):
            raise ConfigError("carrier must be external or other")

    @property
    def allowed(self) -> Allowed:
        """``peers``, ready to be asked."""
        return self._allowed


class Allowed:
    """Which certificates belong to a peer that is accepted. ConfigError for entries that say nothing."""

    __slots__ = ("_fingerprints", "_subjects", "anybody")

    def __init__(self, peers: Sequence[str]) -> None:
        if isinstance(peers, str) or not 1 <= len(peers) <= limits.OUR_A_PROFILE_ALLOWED_MAX:
            raise ConfigError("peers: a tuple of at least one entry, sha256:HEX or subject:CN=..., or any alone")
        self.anybody = tuple(peers) == (ANY_PEER,)
        fingerprints, subjects = set(), set()
        for peer in () if self.anybody else peers:
            kind, _, value = peer.partition(":")
            if kind == "sha256" and _FINGERPRINT(value.replace(":", "")):
                fingerprints.add(bytes.fromhex(value.replace(":", "")))
            elif kind == "subject" and value:
                subjects.add(value)
            else:
                raise ConfigError(
                    f"peers: {peer!r} is neither sha256: with the 64 digits of a certificate's fingerprint, nor"
                    " subject: with its subject, nor any alone"
                )
        self._fingerprints = frozenset(fingerprints)
        self._subjects = frozenset(subjects)

    def __contains__(self, certificate: Certificate) -> bool:
        return (
            self.anybody
            or certificate.sha256 in self._fingerprints
            or (bool(self._subjects) and subject_text(certificate.subject) in self._subjects)
        )


def subject_text(name: bytes) -> str:
    """A DER Name as text, one text for one name: ``O=Utility,CN=der 7``, in the certificate's order.

    Attributes without a usual short name stand as dotted OID, values that are no text as # and hexadecimal digits;
    separators within a value are escaped by a backslash.
    """
    parts = []
    rdns = Reader(name, step="subject")
    rdns.expect(0x30)
    rdns = rdns.enter()
    while rdns.more():
        rdns.expect(0x31)
        attributes = rdns.enter()
        values = []
        while attributes.more():
            attributes.expect(0x30)
            attribute = attributes.enter()
            oid = attribute.oid()
            tag = attribute.next()
            values.append(f"{_ATTRIBUTES.get(oid, oid)}={_value_text(tag, attribute.value(), attribute.raw())}")
            attribute.finish()
        parts.append("+".join(values))
    return ",".join(parts)


def _value_text(tag: int, content: bytes, whole: bytes) -> str:
    if tag in _TEXT_TYPES:
        try:
            text = content.decode("utf-8" if tag == 0x0C else "ascii")
        except UnicodeDecodeError:
            text = ""
        if text and text.isprintable() and text == text.strip():
            text = re.sub(r'([\\,+="])', r"\\\1", text)
            return "\\" + text if text[0] == "#" else text
    return "#" + whole.hex()


# --- what is shared ---------------------------------------------------------------------------------------------------


class AProfileMemory:
    """The times seen of each peer, for 10 minutes, and the own times used. A peer is who has a key, whatever
    certificate came with it.

    Arguments:
        start_ms: now; times from before it are refused, unless a file says what they were.

    Attributes:
        replay: the times seen.
    """

    __slots__ = ("_answered", "_asked", "_latest", "replay")

    def __init__(self, start_ms: int) -> None:
        self.replay = ReplayMemory(time_key(time_text(start_ms)))
        self._asked = self._latest = 0
        self._answered: OrderedDict[str, int] = OrderedDict()

    def request_time(self, utc_ms: int, form: TimeForm) -> str:
        """The time of an own AARQ, later than in every earlier one and than in every AARE so far: who is asked may be
        who was answered.

        Errors:
            LimitReached: too many within a short time; or the clock was set back.
        """
        self._asked = at = self._later(max(self._asked, self._latest), utc_ms, form)
        self.replay.stamped(at)
        return authentication.time_characters(at, form)

    def response_time(self, peer: str, utc_ms: int, form: TimeForm) -> str:
        """The time of an own AARE, later than in every earlier one to ``peer`` and than in every own AARQ so far.

        Errors as ``request_time``.
        """
        at = self._later(max(self._answered.get(peer, 0), self._asked), utc_ms, form)
        self._answered[peer] = at
        self._latest = max(self._latest, at)
        self._answered.move_to_end(peer)
        if len(self._answered) > limits.OUR_A_PROFILE_PEERS_MAX:
            self._answered.popitem(last=False)
        self.replay.stamped(at)
        return authentication.time_characters(at, form)

    def _later(self, last: int, utc_ms: int, form: TimeForm) -> int:
        step = authentication.time_step(form)
        last = max(last, self.replay.floor_ms)
        at = present = utc_ms - utc_ms % step
        if at <= last:
            at = last - last % step + step
        ahead = at - utc_ms
        if ahead <= limits.OUR_A_PROFILE_TIME_AHEAD * 1000:
            return at
        if ahead > 2 * limits.SPEC_CLOCK_SKEW * 1000:
            return present  # the clock was so far ahead that nobody can have accepted anything of then
        raise LimitReached(
            "OUR_A_PROFILE_TIME_AHEAD",
            f"own times run {ahead // 1000} s ahead of the clock: each association needs a time of its own"
            + (", one per second; time = milliseconds allows more where the peers can read it" if step > 1 else ""),
        )

    def check_new(self, octets: bytes) -> None:
        """ReplayError (check ``replay``) for a value that was accepted before as it is; costs no public-key work."""
        if self.replay.exact(sha256(octets)):
            raise ReplayError("this value came before", check="replay", step=_STEP)

    def remember(self, taken: Taken, utc_ms: int) -> None:
        """Note the time of a value that is otherwise in order.

        Errors:
            ReplayError: seen before (check ``replay``), or this peer has sent too many (``full``).
            LimitReached: the memory cannot be kept now.
        """
        before = self.replay.refuse_before
        # Times mostly have whole seconds, so the second of the start counts as after it.
        if before is not None and time_key(taken.time)[:_SECONDS] < before[:_SECONDS]:
            words = "the time is from before our start, when nobody remembered; a replay file would know"
            raise ReplayError(words, check="replay", step=f"{_STEP}.time")
        found = self.replay.remember(taken.key, _SEEN, taken.time, "", taken.digest, utc_ms)
        if found == "replay":
            raise ReplayError("this time came before", check="replay", step=f"{_STEP}.time")
        if found == "full":
            raise ReplayError("too many times of this peer within 10 min", check="full", step=f"{_STEP}.time")


def key_name(key: PublicKey) -> str:
    """What stands for a key in memories and file names: hexadecimal digits."""
    return sha256(key.octets).hex()[:32]


# --- both directions --------------------------------------------------------------------------------------------------


def make_value(config: AProfileConfig, time: str) -> bytes:
    """Sign ``time``; the own MMS-Authentication-value. Runs in a worker: the signer may take long."""
    credential = config.credential
    signature = credential.signer.sign(authentication.signed_octets(time, config.signed))
    return authentication.encode(AuthenticationValue(credential.certificate, time, signature))


class Taken(NamedTuple):
    """A value that is in order but for replay.

    Attributes:
        peer: who proved itself; without OSI names. If it has questions, ``settle`` is due once they have been asked.
        key: name of its key.
        time: its time as a TimeStamp.
        digest: SHA-256 of the value.
    """

    peer: VerifiedPeer
    key: str
    time: str
    digest: bytes


def take_value(octets: bytes, config: AProfileConfig, trust: TrustStore, utc_ms: int) -> Taken:
    """Judge a peer's MMS-Authentication-value, all but replay. Runs in a worker.

    Arguments:
        trust: that of ``config``, or a newer one.
        utc_ms: now.
    Errors:
        PeerError: with the check that failed, in this order: ``protocol-error``, ``certificate`` (its form),
        ``address`` (our own key), ``time``, ``signature``, those of ``TrustStore.validate``, ``address`` (not let in).
    """
    value = authentication.decode(octets)
    certificate = Certificate(value.certificate)
    key = certificate.public_key
    if key.kind != "rsa":
        raise HandshakeError("the key of the certificate is not RSA", check="certificate", step=_STEP)
    if equal(value.certificate, config.credential.certificate) or key == config.credential.key:
        raise HandshakeError("our own certificate or key came back", check="address", step=_STEP)
    time = authentication.time_stamp(value.time)
    ahead = time_utc_ms(time) - utc_ms
    if abs(ahead) > limits.SPEC_CLOCK_SKEW * 1000:
        # Never the number that is still allowed, and not one less because the message travelled.
        minutes = max(round(abs(ahead) / 60_000), limits.SPEC_CLOCK_SKEW // 60 + 1)
        words = f"the peer's clock is {minutes} min {'ahead' if ahead > 0 else 'behind'}"
        raise HandshakeError(words, check="time", step=f"{_STEP}.time")
    _check_signature(key, value)
    peer = trust.validate(
        value.certificate, config.intermediates, utc_ms, certificate=certificate, identity=False, may_ask=True
    )
    if certificate not in config.allowed:
        raise HandshakeError("this certificate is not among the peers", check="address", step=_STEP)
    return Taken(peer, key_name(key), time, sha256(octets))


def settle(taken: Taken, trust: TrustStore, utc_ms: int) -> Taken:
    """``taken`` after the questions about its revocation were asked; a job of its own. PeerError as ``take_value``."""
    return taken._replace(peer=trust.settle(taken.peer, utc_ms))


def _check_signature(key: PublicKey, value: AuthenticationValue) -> None:
    """Whichever of the readings of what is signed: the characters first, as in the field."""
    for signed in authentication.accepted_octets(value.time):
        try:
            key.verify(profile.SHA256_RSA, signed, value.signature)
        except IntegrityError:
            continue
        return
    raise IntegrityError("the signature does not verify", check="signature", step=f"{_STEP}.signature")


def events_of(fault: PeerError, peer: str) -> tuple[SecurityEvent, ...]:
    """The events of a value that was refused (docs/a-profile.md has the table).

    Arguments:
        peer: address of the peer; the value proves no name.
    """
    facts = {"check": fault.check, "step": fault.step, "reason": fault}
    found = [replace(other, peer=peer) for other in fault.also]
    if fault.check == "full":
        return (*found, named("REQUEST_RESOURCE_UNAVAILABLE", peer=peer, **facts))
    if isinstance(fault, DecodeError) and fault.check == "protocol-error":
        found.append(named("ACSE_PROT_ERR", peer=peer, **facts))
    return (*found, named("COMM_PEER_AUTHENTICATION_FAIL", peer=peer, **facts))
