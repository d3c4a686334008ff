"""Checks of a TLS peer that OpenSSL leaves to us, and the events of the domain IEC62351-3 (62351-14).

All of it runs in worker threads and is pure: certificates, facts and clocks come in, events and refusals go out.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from fastsec import limits
from fastsec.aio.tls_hello import Hello
from fastsec.aio.tls_profile import BY_OPENSSL, UNFIT, VERSIONS, TLSRules
from fastsec.errors import FastsecError
from fastsec.events import SecurityEvent, event, named

_WEAK_HASHES: Final = ("md2", "md4", "md5", "sha1")
_SHA1_OR_MD5: Final = frozenset((1, 2))  # HashAlgorithm of RFC 5246


class CertificateRefused(FastsecError):
    """The certificate a TLS peer presented is not acceptable, or not any more.

    Attributes:
        events: what to raise.
    """

    def __init__(self, message: str, *events: SecurityEvent) -> None:
        super().__init__(message)
        self.events = events


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """A peer's certificate, read once and shared by all its connections.

    Attributes:
        der: the certificate.
        chain: it and its authorities up to the anchor, as OpenSSL verified them; it alone if that is not known.
        identity: subject and subjectAltName, by which a renewed certificate is known to be of the same peer; None if
            it has neither.
        not_after: seconds since 1970.
        keys: (kind, bits) of each certificate of the chain.
        hashes: hash of each signature below the anchor.
        usage: keyUsage and extendedKeyUsage are there.
        issuer: DER name.
        serial: number of the certificate.
        public: SubjectPublicKeyInfo; empty if the key is of an unknown kind.
    """

    der: bytes
    chain: tuple[bytes, ...]
    identity: tuple[bytes, bytes] | None
    not_after: float
    keys: tuple[tuple[str, int], ...]
    hashes: tuple[str, ...]
    usage: bool
    issuer: bytes
    serial: int
    public: bytes

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate."""
        return sha256(self.der).digest()


class RevocationCheck(Protocol):
    """Says whether a certificate is revoked."""

    def check(
        self, facts: PeerFacts, utc: float, peer: str, *, establishing: bool, final: bool
    ) -> tuple[tuple[SecurityEvent, ...], Executor | None]:
        """Warnings, and where to wait for an answer before they count; then ``check`` once more, with ``final``.

        CertificateRefused if it is revoked, or if nobody knows and that is not enough.
        """
        ...


def read_facts(chain: tuple[bytes, ...]) -> PeerFacts:
    """The facts of ``chain``, leaf first. ValueError if a certificate is malformed."""
    certificates = [x509.load_der_x509_certificate(der) for der in chain]
    leaf = certificates[0]
    try:
        extensions = leaf.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value.public_bytes()
    except x509.ExtensionNotFound:
        names = b""
    except x509.DuplicateExtension as error:
        raise ValueError("an extension twice") from error
    present = {extension.oid for extension in extensions}
    subject = leaf.subject.public_bytes()
    return PeerFacts(
        chain[0],
        chain,
        (subject, names) if len(leaf.subject) or names else None,
        leaf.not_valid_after_utc.timestamp(),
        tuple(_key(certificate) for certificate in certificates),
        tuple(_hash(certificate) for certificate in (certificates[:-1] or certificates)),
        ExtensionOID.KEY_USAGE in present and ExtensionOID.EXTENDED_KEY_USAGE in present,
        leaf.issuer.public_bytes(),
        leaf.serial_number,
        _public(leaf),
    )


def _key(certificate: x509.Certificate) -> tuple[str, int]:
    try:
        key = certificate.public_key()
    except Exception:  # of a kind `cryptography` does not know; OpenSSL has judged it
        return "other", 0
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA", key.key_size
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "EC", key.curve.key_size
    return "other", 0


def _hash(certificate: x509.Certificate) -> str:
    try:
        algorithm = certificate.signature_hash_algorithm
    except Exception:  # likewise
        return ""
    return algorithm.name if algorithm is not None else ""


def _public(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # likewise
        return b""


def public_key_of(der: bytes) -> bytes:
    """SubjectPublicKeyInfo, to compare keys. ValueError if the certificate is malformed."""
    return _public(x509.load_der_x509_certificate(der))


# --- the certificate -------------------------------------------------------------------------------------------------
def check_certificate(
    facts: PeerFacts, rules: TLSRules, pins: frozenset[bytes], anchors: frozenset[bytes], utc: float, peer: str
) -> list[SecurityEvent]:
    """Warnings about a certificate; CertificateRefused if it breaks the rules (62351-3, certificates and keys).

    Arguments:
        pins: fingerprints of the certificates that are accepted, if ``rules.trust`` says so.
        anchors: DER of the present anchors.
    """
    if rules.trust == "pinned" and facts.fingerprint not in pins:
        raise CertificateRefused(
            "the peer's certificate is not one of those that are pinned",
            named("TLS_NO_TRUSTED_CERT_MATCH", peer=peer, sha256=facts.fingerprint.hex()),
        )
    if len(facts.chain) > 1 and anchors.isdisjoint(facts.chain):
        raise CertificateRefused(
            "the authority of the peer's certificate is not trusted any more", named("TLS_NO_CA_MATCH", peer=peer)
        )
    if facts.not_after < utc:
        raise CertificateRefused("the peer's certificate has expired", named("TLS_CERT_EXP", peer=peer))
    if rules.strict_usage and not facts.usage:
        raise CertificateRefused(
            "the peer's certificate lacks keyUsage or extendedKeyUsage",
            event("IEC62351-9", 2, 19, peer=peer, reason="keyUsage or extendedKeyUsage is missing"),
        )
    return [*_check_keys(facts, rules, peer), *_check_hashes(facts, peer)]


def _check_keys(facts: PeerFacts, rules: TLSRules, peer: str) -> list[SecurityEvent]:
    warnings = []
    for kind, bits in facts.keys:
        if kind == "EC" and bits < rules.ec_bits_min:
            name, least = "TLS_SHORT_KEY", rules.ec_bits_min
        elif kind == "RSA" and bits < rules.rsa_bits_min:
            name, least = "TLS_SHORT_KEY" if bits < 1024 else "TLS_SHORT_RSA_KEY", rules.rsa_bits_min
        else:
            if kind == "RSA" and bits < limits.SPEC_RSA_BITS_MIN:
                warnings.append(named("TLS_MIN_KEY", peer=peer, bits=bits))
            continue
        raise CertificateRefused(
            f"a key of the peer's certificates has {bits} bits, {least} are needed",
            named(name, peer=peer, bits=bits, kind=kind),
        )
    return warnings


def _check_hashes(facts: PeerFacts, peer: str) -> list[SecurityEvent]:
    for name in facts.hashes:
        if name in _WEAK_HASHES:  # OpenSSL's security level has refused it, except in a pinned certificate
            return [named("TLS_DEP_HASH", peer=peer, hash=name)]
    return []


def check_sizes(chain: Iterable[bytes], peer: str) -> None:
    """CertificateRefused if a certificate has more octets than 62351-4 allows."""
    for der in chain:
        if len(der) > limits.SPEC_CERTIFICATE_MAX:
            raise CertificateRefused(
                f"a certificate of the peer has more than {limits.SPEC_CERTIFICATE_MAX} octets",
                named("TLS_CERT_SIZE_MISMATCH", peer=peer, octets=len(der)),
            )


# --- what OpenSSL refused --------------------------------------------------------------------------------------------
_NO_AUTHORITY: Final = (2, 18, 19, 20, 21, 22, 24, 25, 27, 32, 79)
_BAD_SIGNATURE: Final = (4, 6, 7)
_ALGORITHM: Final = (76, 77, 78)
_TOO_SMALL: Final = (66, 67)
_OTHER_NAME: Final = (62, 64)


def certificate_failure(code: int, why: str, rules: TLSRules, peer: str, *, server_side: bool) -> SecurityEvent:
    """The event for an X509_V_ERR code. There is no event of this domain for some; those are of IEC62351-9."""
    if code in _NO_AUTHORITY:
        name = "TLS_NO_TRUSTED_CERT_MATCH" if rules.trust == "pinned" else "TLS_NO_CA_MATCH"
    elif code in _BAD_SIGNATURE:
        name = "TLS_SIG_V_FAILED"
    elif code in _ALGORITHM:
        name = "TLS_SIG_ALG_MISMATCH"
    elif code in _TOO_SMALL:
        # At OpenSSL's level 1, where 1024 is let through, what is too small has less.
        name = "TLS_SHORT_KEY" if rules.rsa_bits_min < limits.SPEC_RSA_BITS_MIN else "TLS_SHORT_RSA_KEY"
    elif code == 10:
        name = "TLS_CERT_EXP"
    elif code == 68:
        name = "TLS_DEP_HASH"
    elif code == 23:
        name = "TLS_CERT_REVOKED"
    elif code == 9:
        return event("IEC62351-9", 2, 7, peer=peer, reason=why)
    elif code == 34:
        return event("IEC62351-9", 2, 12, peer=peer, reason=why)
    elif code == 26:
        return event("IEC62351-9", 2, 24 if server_side else 23, peer=peer, reason=why)
    elif code in _OTHER_NAME:
        return event("IEC62351-9", 2, 16, peer=peer, reason=why)
    else:
        return event("IEC62351-9", 2, 11, peer=peer, reason=why)
    return named(name, peer=peer, reason=why)


_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "TLS_NO_PEER_CERT",
    "NO_SHARED_CIPHER": "TLS_DISALLOWED_CIPHER",
    "NO_CIPHERS_AVAILABLE": "TLS_DISALLOWED_CIPHER",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "TLS_DISALLOWED_CIPHER",
    "WRONG_CIPHER_RETURNED": "TLS_DISALLOWED_CIPHER",
    "UNKNOWN_CIPHER_RETURNED": "TLS_DISALLOWED_CIPHER",
    "UNSUPPORTED_PROTOCOL": "TLS_DEPRECATED_VERSION",
    "TLSV1_ALERT_PROTOCOL_VERSION": "TLS_DEPRECATED_VERSION",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "TLS_NO_LOCAL_CERT",
    "UNSAFE_LEGACY_RENEGOTIATION_DISABLED": "TLS_NO_RENEG_SIG",
    "BAD_SIGNATURE": "TLS_SIG_V_FAILED",
    "WRONG_SIGNATURE_TYPE": "TLS_SIG_ALG_MISMATCH",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "TLS_SIG_ALG_MISMATCH",
    "NO_SHARED_SIGNATURE_ALGORITHMS": "TLS_SIG_ALG_MISMATCH",
    "EE_KEY_TOO_SMALL": "TLS_SHORT_RSA_KEY",
    "DH_KEY_TOO_SMALL": "TLS_SHORT_KEY",
    "EXCESSIVE_MESSAGE_SIZE": "TLS_CERT_SIZE_MISMATCH",
}
_BY_HELLO: Final = ("TLS_DEPRECATED_VERSION", "TLS_DISALLOWED_CIPHER")


def failure_events(
    error: BaseException, rules: TLSRules, hello: Hello | None, peer: str, *, server_side: bool
) -> list[SecurityEvent]:
    """The events of a handshake that OpenSSL gave up."""
    if isinstance(error, ssl.SSLCertVerificationError):
        found = [certificate_failure(error.verify_code, error.verify_message, rules, peer, server_side=server_side)]
    else:
        name = _REASONS.get(getattr(error, "reason", None) or "")
        if server_side and hello is not None and name in _BY_HELLO:
            name = None  # the ClientHello says it better
        found = [named(name, peer=peer, reason=str(error.reason))] if name and isinstance(error, ssl.SSLError) else []
    if hello is not None:
        found = [*hello_events(hello, rules, peer), *found]
        if not any(each.mnemonic in _BY_HELLO for each in found) and getattr(error, "reason", "") == "NO_SHARED_CIPHER":
            found.append(named("TLS_DISALLOWED_CIPHER", peer=peer, suites=_hexadecimal(hello.suites)))
    return found


def record_events(error: BaseException, peer: str) -> list[SecurityEvent]:
    """The event of an open connection that OpenSSL gave up: a record was altered, or is none."""
    return [event("IEC62351-14", 4, 5, peer=peer, reason=getattr(error, "reason", None) or "TLS record")]


# --- what a ClientHello says -----------------------------------------------------------------------------------------
def hello_events(
    hello: Hello, rules: TLSRules, peer: str, *, version: str | None = None, cipher: str = "", resumed: bool = False
) -> list[SecurityEvent]:
    """The events of a ClientHello, with what came of it; ``version`` None: the handshake failed."""
    found: list[SecurityEvent] = []
    if hello.highest < 0x0301:
        return [named("TLS_DISALLOWED_VERSION", peer=peer, version=_version(hello.highest))]
    if hello.highest < 0x0303:
        return [named("TLS_DEPRECATED_VERSION", peer=peer, version=_version(hello.highest))]
    unfit = [UNFIT[code] for code in hello.suites if code in UNFIT]
    if unfit:
        found.append(named("TLS_DISALLOWED_CIPHER", peer=peer, suite=" ".join(unfit)))
    if hello.early_data:
        found.append(named("TLS_EARLY_DATA", peer=peer))
    if hello.psk and 1 not in hello.psk_modes:
        found.append(named("TLS_NO_EPSK_MODE", peer=peer))
    if version == "TLSv1.2" or (version is None and hello.highest == 0x0303):
        found += _hello_events_12(hello, peer, cipher)
    if (
        version is not None
        and not resumed
        and (hello.psk or hello.ticket or (hello.highest < 0x0304 and hello.session))
    ):
        found.append(named("TLS_SESSIONID_EXPIRED_FULL_HS", peer=peer, reason="expired, or not known here"))
    return found


def _hello_events_12(hello: Hello, peer: str, cipher: str) -> list[SecurityEvent]:
    found = []
    if not hello.secure_renegotiation:
        found.append(named("TLS_NO_RENEG_SIG", peer=peer))
    if hello.signatures is None:
        found.append(named("TLS_NO_SIG_ALGO_EXT", peer=peer))
    elif all(number >> 8 in _SHA1_OR_MD5 for number in hello.signatures):
        found.append(named("TLS_DEP_SIG_ALGO", peer=peer))
    if hello.ticket is None:
        found.append(named("TLS_NO_RENEG_TICKET", peer=peer, reason="no session_ticket extension"))
    suite = BY_OPENSSL.get(cipher)
    if suite is not None and "_CBC_" in suite.name and not hello.encrypt_then_mac:
        found.append(named("TLS_NO_ENCRYPT_THEN_MAC", peer=peer, suite=suite.name))
    return found


def offered_version(hello: Hello) -> str | None:
    """The version of the session that a ClientHello wants to resume, as far as it tells."""
    if hello.psk:
        return "TLSv1.3"
    return "TLSv1.2" if hello.ticket else None


@dataclass(frozen=True, slots=True)
class Authorities:
    """Those of our own certificate, as a client may name them.

    Attributes:
        names: DER.
        keys: SHA-1 of the key bits (RFC 6066).
        certificates: SHA-1.
    """

    names: frozenset[bytes]
    keys: frozenset[bytes]
    certificates: frozenset[bytes]

    def events(self, hello: Hello, peer: str, version: str | None) -> list[SecurityEvent]:
        """An alarm if the client trusts none of them (RFC 6066 trusted_ca_keys, TLS 1.3 certificate_authorities)."""
        if version != "TLSv1.3" and hello.trusted:
            known = (frozenset((b"",)), self.keys, self.names, self.certificates)
            if not any(kind < len(known) and value in known[kind] for kind, value in hello.trusted):
                return [named("TLS_NO_TR_CA_MATCH_S", peer=peer, offered=len(hello.trusted))]
        if version == "TLSv1.3" and hello.authorities and self.names.isdisjoint(hello.authorities):
            return [named("TLS_NO_TR_CA_MATCH_SC", peer=peer, offered=len(hello.authorities))]
        return []


def authorities_of(ders: Iterable[bytes]) -> Authorities:
    """What a client may call the authorities of the certificates ``ders``: ours, its path, our anchors."""
    from cryptography.hazmat.primitives.hashes import SHA1

    names: set[bytes] = set()
    keys: set[bytes] = set()
    certificates: set[bytes] = set()
    for der in ders:
        certificate = x509.load_der_x509_certificate(der)
        names.update((certificate.issuer.public_bytes(), certificate.subject.public_bytes()))
        certificates.add(certificate.fingerprint(SHA1()))
        try:
            keys.add(x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest)
        except ValueError:
            continue
    return Authorities(frozenset(names), frozenset(keys), frozenset(certificates))


def _version(number: int) -> str:
    return VERSIONS.get(number, f"0x{number:04x}")


def _hexadecimal(suites: tuple[int, ...]) -> str:
    return " ".join(f"{code:04x}" for code in suites[:24])


def suite_name(cipher: str) -> str:
    """The IANA name, if it is one of the profile's."""
    suite = BY_OPENSSL.get(cipher)
    return suite.name if suite is not None else cipher
