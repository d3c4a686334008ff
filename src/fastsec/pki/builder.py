"""Builds and signs certificates and CRLs on the level of their DER (RFC 5280).

``cryptography``'s builder cannot write a subject whose value is an OBJECT IDENTIFIER (62351-4 Annex G), so the
to-be-signed parts are put together here; only keys and signatures come from there. For the trial authority and tests.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fastsec._core.cursor import Reader, Writer, tlv
from fastsec.errors import ConfigError
from fastsec.pki import oids
from fastsec.pki.certificate import Certificate
from fastsec.pki.identity import OsiName
from fastsec.pki.roles import UserRoleInfo, write_user_roles

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension: OID, DER of its value, and whether who does not know it must refuse the certificate."""

    oid: str
    value: bytes
    critical: bool = False


def generate_key(kind: str) -> PrivateKey:
    """A new key of kind ``p256``, ``brainpool``, ``rsa2048`` or ``rsa3072``; ConfigError for another."""
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "brainpool":
        return ec.generate_private_key(ec.BrainpoolP256R1())
    if kind in ("rsa2048", "rsa3072"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    raise ConfigError(f"key type {kind!r}: choose p256, brainpool, rsa2048 or rsa3072")


def spki(key: PublicKey) -> bytes:
    """The SubjectPublicKeyInfo of a key, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_identifier(public: bytes) -> bytes:
    """The key identifier of a SubjectPublicKeyInfo: SHA-256 of the key's BIT STRING, 20 octets (RFC 7093 method 1)."""
    reader = Reader(public)
    reader.expect(0x30)
    inner = reader.enter()
    inner.expect(0x30)
    octets, _ = inner.bits()
    return hashlib.sha256(octets).digest()[:20]


# --- names ----------------------------------------------------------------------------------------------------------
def osi_subject(name: OsiName) -> bytes:
    """The Name of Annex G: one RDN of attribute objectIdentifier with a value of type OBJECT IDENTIFIER."""
    writer = Writer()
    writer.begin(0x30)
    writer.begin(0x31)
    writer.begin(0x30)
    writer.oid(oids.OBJECT_IDENTIFIER)
    writer.oid(name.oid)
    writer.end()
    writer.end()
    writer.end()
    return writer.getvalue()


def text_name(**attributes: str) -> bytes:
    """A Name of single-valued RDNs with UTF8String values: ``o`` organization, ``ou`` unit, ``cn`` common name."""
    writer = Writer()
    writer.begin(0x30)
    for key, value in attributes.items():
        writer.begin(0x31)
        writer.begin(0x30)
        writer.oid(oids.NAME_ATTRIBUTES[key])
        writer.utf8(value)
        writer.end()
        writer.end()
    writer.end()
    return writer.getvalue()


# --- extensions -----------------------------------------------------------------------------------------------------
def basic_constraints(ca: bool, path_len: int | None = None) -> Extension:
    """basicConstraints, critical."""
    writer = Writer()
    writer.begin(0x30)
    if ca:
        writer.boolean(True)
    if path_len is not None:
        writer.integer(path_len)
    writer.end()
    return Extension(oids.BASIC_CONSTRAINTS, writer.getvalue(), critical=True)


def key_usage(*bits: int) -> Extension:
    """keyUsage with these bit numbers (``oids.KU_*``), critical."""
    writer = Writer()
    writer.named_bits(sum(1 << bit for bit in bits))
    return Extension(oids.KEY_USAGE, writer.getvalue(), critical=True)


def extended_key_usage(*purposes: str) -> Extension:
    """extendedKeyUsage with these purpose OIDs."""
    writer = Writer()
    writer.begin(0x30)
    for purpose in purposes:
        writer.oid(purpose)
    writer.end()
    return Extension(oids.EXTENDED_KEY_USAGE, writer.getvalue())


def subject_key_identifier(identifier: bytes) -> Extension:
    """subjectKeyIdentifier."""
    return Extension(oids.SUBJECT_KEY_IDENTIFIER, tlv(0x04, identifier))


def authority_key_identifier(identifier: bytes) -> Extension:
    """authorityKeyIdentifier with the keyIdentifier alone."""
    return Extension(oids.AUTHORITY_KEY_IDENTIFIER, tlv(0x30, tlv(0x80, identifier)))


def alternative_names(*, osi: OsiName | None = None, hosts: Sequence[str] = ()) -> Extension:
    """subjectAltName: registeredID for an OSI name, dNSName or iPAddress for each host."""
    writer = Writer()
    writer.begin(0x30)
    if osi is not None:
        writer.oid(osi.oid, 0x88)
    for host in hosts:
        try:
            writer.primitive(0x87, ipaddress.ip_address(host).packed)
        except ValueError:
            if not host or not host.isascii() or any(c.isspace() for c in host):
                raise ConfigError(f"{host!r} is not a host name or IP address") from None
            writer.primitive(0x82, host.encode("ascii"))
    writer.end()
    return Extension(oids.SUBJECT_ALT_NAME, writer.getvalue())


def user_roles(infos: Sequence[UserRoleInfo], *, oid: str = oids.IEC_USER_ROLES, critical: bool = False) -> Extension:
    """IECUserRoles (IEC 62351-8), under the OID of 2020 unless another is given."""
    return Extension(oid, write_user_roles(infos), critical)


def soa_identifier() -> Extension:
    """sOAIdentifier: the subject may issue attribute certificates (62351-9)."""
    return Extension(oids.SOA_IDENTIFIER, b"\x05\x00")


def no_revocation_available() -> Extension:
    """noRevAvail of an attribute certificate: nothing will tell of a revocation."""
    return Extension(oids.NO_REVOCATION_AVAILABLE, b"\x05\x00")


def crl_distribution_points(*urls: str) -> Extension:
    """CRLDistributionPoints: one point for each URL."""
    points = (tlv(0x30, tlv(0xA0, tlv(0xA0, tlv(0x86, url.encode("ascii"))))) for url in urls)
    return Extension(oids.CRL_DISTRIBUTION_POINTS, tlv(0x30, b"".join(points)))


def authority_info_access(*responders: str) -> Extension:
    """authorityInfoAccess with the URLs of OCSP responders."""
    writer = Writer()
    writer.begin(0x30)
    for url in responders:
        writer.begin(0x30)
        writer.oid(oids.ACCESS_OCSP)
        writer.primitive(0x86, url.encode("ascii"))
        writer.end()
    writer.end()
    return Extension(oids.AUTHORITY_INFO_ACCESS, writer.getvalue())


def crl_number(number: int) -> Extension:
    """cRLNumber of a CRL."""
    writer = Writer()
    writer.integer(number)
    return Extension(oids.CRL_NUMBER, writer.getvalue())


# --- signed objects -------------------------------------------------------------------------------------------------
def time(utc_ms: int) -> bytes:
    """A Time: UTCTime through 2049, GeneralizedTime from 2050 on (RFC 5280, 62351-9); whole seconds."""
    moment = datetime.datetime.fromtimestamp(utc_ms // 1000, datetime.UTC)
    if 1950 <= moment.year < 2050:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    return generalized(utc_ms)


def generalized(utc_ms: int) -> bytes:
    """A GeneralizedTime, whole seconds, as attribute certificates have it in every year."""
    moment = datetime.datetime.fromtimestamp(utc_ms // 1000, datetime.UTC)
    return tlv(0x18, f"{moment.year:04}{moment:%m%d%H%M%S}Z".encode())


def integer(value: int) -> bytes:
    """An INTEGER of any size."""
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def certificate(
    *,
    serial: int,
    issuer: bytes,
    subject: bytes,
    public: bytes,
    not_before_ms: int,
    not_after_ms: int,
    extensions: Sequence[Extension],
    key: PrivateKey,
    digest: str = "sha256",
) -> bytes:
    """A signed version 3 certificate, DER.

    Arguments:
        serial: the serial number.
        issuer, subject: DER Names.
        public: DER SubjectPublicKeyInfo of the subject.
        not_before_ms, not_after_ms: validity, ms since 1970 UTC.
        extensions: in the order they are written.
        key: the issuer's private key; ``digest`` the hash it signs with: sha256, sha384, sha512.
    """
    algorithm = signature_algorithm(key, digest)
    tbs = [
        tlv(0xA0, integer(2)),
        integer(serial),
        algorithm,
        issuer,
        tlv(0x30, time(not_before_ms) + time(not_after_ms)),
        subject,
        public,
    ]
    if extensions:
        tbs.append(tlv(0xA3, _extensions(extensions)))
    return signed(b"".join(tbs), key, digest)


def revocation_list(
    *,
    issuer: bytes,
    this_update_ms: int,
    next_update_ms: int | None,
    revoked: Sequence[tuple[int, ...]],
    extensions: Sequence[Extension],
    key: PrivateKey,
    digest: str = "sha256",
) -> bytes:
    """A signed version 2 CRL, DER; ``revoked`` holds (serial, time of revocation in ms since 1970 UTC), and perhaps the
    CRLReason as a third."""
    tbs = [integer(1), signature_algorithm(key, digest), issuer, time(this_update_ms)]
    if next_update_ms is not None:
        tbs.append(time(next_update_ms))
    if revoked:
        tbs.append(tlv(0x30, b"".join(_revoked_entry(*entry) for entry in revoked)))
    if extensions:
        tbs.append(tlv(0xA0, _extensions(extensions)))
    return signed(b"".join(tbs), key, digest)


def attribute_certificate(
    *,
    serial: int,
    holder: bytes,
    issuer: bytes,
    not_before_ms: int,
    not_after_ms: int,
    attributes: Sequence[tuple[str, bytes]],
    extensions: Sequence[Extension],
    key: PrivateKey,
    digest: str = "sha256",
) -> bytes:
    """A signed attribute certificate of version 2 (RFC 5755), DER.

    Arguments:
        holder: the content of Holder, see ``holder_of`` and ``holder_named``.
        issuer: DER Name of the attribute authority.
        attributes: (type, DER of the one value).
        key: of the attribute authority.
    """
    algorithm = signature_algorithm(key, digest)
    listed = []
    for oid, value in attributes:
        writer = Writer()
        writer.oid(oid)
        listed.append(tlv(0x30, writer.getvalue() + tlv(0x31, value)))
    info = [
        integer(1),
        tlv(0x30, holder),
        tlv(0xA0, tlv(0x30, tlv(0xA4, issuer))),
        algorithm,
        integer(serial),
        tlv(0x30, generalized(not_before_ms) + generalized(not_after_ms)),
        tlv(0x30, b"".join(listed)),
    ]
    if extensions:
        info.append(_extensions(extensions))
    return signed(b"".join(info), key, digest)


def holder_of(certificate: Certificate) -> bytes:
    """A Holder by baseCertificateID: issuer and serial number of the public-key certificate."""
    return tlv(0xA0, tlv(0x30, tlv(0xA4, certificate.issuer)) + tlv(0x02, certificate.serial))


def registered_id(name: OsiName) -> bytes:
    """The GeneralName registeredID of an OSI name."""
    writer = Writer()
    writer.oid(name.oid, 0x88)
    return writer.getvalue()


def holder_named(*names: bytes) -> bytes:
    """A Holder by entityName: GeneralNames, DER."""
    return tlv(0xA1, b"".join(names))


def _revoked_entry(serial: int, at_ms: int, reason: int | None = None) -> bytes:
    entry = integer(serial) + time(at_ms)
    if reason is not None:
        entry += _extensions((Extension(oids.CRL_REASON, tlv(0x0A, bytes([reason]))),))
    return tlv(0x30, entry)


def signature_algorithm(key: PrivateKey, digest: str) -> bytes:
    """The AlgorithmIdentifier of a signature by this key; RSA with NULL, ECDSA without parameters."""
    writer = Writer()
    writer.begin(0x30)
    if isinstance(key, rsa.RSAPrivateKey):
        writer.oid(oids.RSA_WITH[digest])
        writer.null()
    else:
        writer.oid(oids.ECDSA_WITH[digest])
    writer.end()
    return writer.getvalue()


def signed(tbs_content: bytes, key: PrivateKey, digest: str) -> bytes:
    """SIGNED { tbs } of RFC 5280: the to-be-signed SEQUENCE, the algorithm, the signature."""
    tbs = tlv(0x30, tbs_content)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(tbs, padding.PKCS1v15(), _HASHES[digest])
    else:
        signature = key.sign(tbs, ec.ECDSA(_HASHES[digest]))
    return tlv(0x30, tbs + signature_algorithm(key, digest) + tlv(0x03, b"\x00" + signature))


def _extensions(extensions: Sequence[Extension]) -> bytes:
    writer = Writer()
    writer.begin(0x30)
    for extension in extensions:
        writer.begin(0x30)
        writer.oid(extension.oid)
        if extension.critical:
            writer.boolean(True)
        writer.octets(extension.value)
        writer.end()
    writer.end()
    return writer.getvalue()
