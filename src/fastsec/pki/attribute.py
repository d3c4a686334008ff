"""The parsed view of an attribute certificate (RFC 5755, 62351-9 Table 2), the token of roles beside a certificate.

As strict as the parser of certificates: DER, version 2, issuer in v2Form with one directoryName, no unique identifier,
no extension twice. Extensions are read apart, after the signature was verified.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar, Final, NamedTuple

from fastsec import limits
from fastsec._core.cursor import Reader
from fastsec._core.pk import check_der, read_extension, read_time
from fastsec.errors import ConfigError, DecodeError, HandshakeError
from fastsec.events import SecurityEvent, event
from fastsec.pki import oids
from fastsec.pki.certificate import (
    Certificate,
    authority_key_identifier,
    bit_octets,
    distribution_points,
    responders,
    serial_number,
)
from fastsec.pki.roles import EXTENSIONS as ROLE_TYPES
from fastsec.pki.roles import UserRoleInfo, read_user_roles

CHECK: Final = "attribute-certificate"
STEP: Final = "token1.attCert"
_VERSION_2: Final = 1
_DIRECTORY_NAME: Final = 0xA4
_REGISTERED_ID: Final = 0x88
# Extensions that are acted on, or that say nothing about whether the roles hold.
_KNOWN_CRITICAL: Final = frozenset([oids.AUTHORITY_KEY_IDENTIFIER, oids.NO_REVOCATION_AVAILABLE])
_REVOCATION_SOURCES: Final = frozenset(
    [oids.CRL_DISTRIBUTION_POINTS, oids.AUTHORITY_INFO_ACCESS, oids.NO_REVOCATION_AVAILABLE]
)


def fault(number: int, message: str, *also: SecurityEvent) -> HandshakeError:
    """The refusal of an attribute certificate.

    Arguments:
        number: of the event in group 3 of the domain IEC62351-9.
        message: what is wrong.
        also: further events.
    """
    events = (event("IEC62351-9", 3, number, reason=message), *also)
    return HandshakeError(message, check=CHECK, step=STEP, also=events)


class AttributeCertificate:
    """An attribute certificate, parsed and found well-formed; nothing is verified yet.

    Attributes:
        der: the octets.
        serial: content octets of the serial number.
        issuer: DER Name.
        not_before_ms, not_after_ms: validity, ms since 1970 UTC; the last second is part of it.
        holder_issuer, holder_serial: baseCertificateID: DER Name and content octets; None without.
        holder_names: entityName: (tag, TLV) of each GeneralName; () without.
        holder_digest: whether the holder is (also) named by a digest.
        user_roles: what its IECUserRoles attributes say; () if it has none.
        tokens: how many IECUserRoles values there are.
        signature_algorithm: dotted.
        inner_algorithm, outer_algorithm: the two AlgorithmIdentifiers, DER.
        authority_key_id: key identifier of the issuer's key, or None.
        crl_urls, ocsp_urls: where revocation is learned.
        no_revocation: the issuer says that nothing tells of a revocation (noRevAvail).

    Raises: HandshakeError "attribute-certificate".
    """

    __slots__ = (
        "_extensions",
        "_read",
        "_tbs",
        "authority_key_id",
        "crl_urls",
        "der",
        "holder_digest",
        "holder_issuer",
        "holder_names",
        "holder_serial",
        "inner_algorithm",
        "issuer",
        "no_revocation",
        "not_after_ms",
        "not_before_ms",
        "ocsp_urls",
        "outer_algorithm",
        "serial",
        "signature",
        "signature_algorithm",
        "tokens",
        "user_roles",
    )

    is_attribute: ClassVar[bool] = True
    is_ca: ClassVar[bool] = False

    def __init__(self, der: bytes) -> None:
        self.der = der
        self.holder_issuer: bytes | None = None
        self.holder_serial: bytes | None = None
        self.holder_names: tuple[tuple[int, bytes], ...] = ()
        self.holder_digest = False
        self.user_roles: tuple[UserRoleInfo, ...] = ()
        self.tokens = 0
        self.authority_key_id: bytes | None = None
        self.crl_urls: tuple[str, ...] = ()
        self.ocsp_urls: tuple[str, ...] = ()
        self.no_revocation = False
        self._extensions = b""
        self._read = False
        if len(der) > limits.OUR_ATT_CERT_MAX:
            raise fault(1, f"attribute certificate of {len(der)} octets")
        try:
            check_der(der)
            self._parse()
        except DecodeError as error:
            raise fault(1, f"attribute certificate malformed: {error}") from None
        except HandshakeError as error:
            # Of the helpers for certificates; those of our own have their events.
            raise error if error.check == CHECK else fault(1, f"attribute certificate malformed: {error}") from None

    @property
    def tbs(self) -> bytes:
        """The AttributeCertificateInfo, which the signature covers."""
        return self.der[self._tbs[0] : self._tbs[1]]

    def __eq__(self, other: object) -> bool:
        return self.der == other.der if isinstance(other, AttributeCertificate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.der)

    def _parse(self) -> None:
        outer = Reader(self.der, step="AttributeCertificate")
        outer.expect(0x30)
        parts = outer.enter()
        parts.expect(0x30)
        self._tbs = (parts.first, parts.after)
        info = parts.enter()
        parts.expect(0x30)
        self.outer_algorithm = parts.raw()
        self.signature_algorithm = parts.enter().oid()
        self.signature = bit_octets(parts)
        parts.finish()

        # version, holder, issuer, signature, serialNumber, attrCertValidityPeriod, attributes
        if info.integer() != _VERSION_2:
            raise fault(3, "attribute certificate is not of version 2")
        info.expect(0x30)
        self._holder(info.enter(step="holder"))
        info.expect(0xA0)
        self.issuer = _only_name(info.enter(step="issuer"))
        info.expect(0x30)
        self.inner_algorithm = info.raw()
        info.expect(0x02)
        self.serial = serial_number(info.value())
        info.expect(0x30)
        self.not_before_ms, self.not_after_ms = _period(info.enter(step="attrCertValidityPeriod"))
        info.expect(0x30)
        self._attributes(info.enter(step="attributes"))
        if info.optional(0x30):
            self._extensions = info.value()
        if info.more():
            raise DecodeError("a unique identifier or an unknown component", step="acinfo")

    def _holder(self, holder: Reader) -> None:
        if holder.optional(0xA0):
            base = holder.enter()
            self.holder_issuer = _only_name(base, more=True)
            base.expect(0x02)
            self.holder_serial = serial_number(base.value())
            base.finish()
        if holder.optional(0xA1):
            names = holder.enter()
            found = []
            while names.more():
                names.next()
                found.append((names.tag, names.raw()))
            self.holder_names = tuple(found)
        if holder.optional(0xA2):
            self.holder_digest = True
        holder.finish()

    def _attributes(self, attributes: Reader) -> None:
        types: set[str] = set()
        while attributes.more():
            attributes.expect(0x30)
            attribute = attributes.enter()
            oid = attribute.oid()
            if oid in types:
                raise DecodeError(f"attribute {oid} stands twice", step="attributes")
            types.add(oid)
            attribute.expect(0x31)
            values = attribute.enter()
            attribute.finish()
            while oid in ROLE_TYPES and values.more():
                self.user_roles += read_user_roles(values)
                self.tokens += 1
                if len(self.user_roles) > limits.OUR_ROLE_INFOS:
                    raise DecodeError("too many roles", step="attributes")

    def read_extensions(self) -> None:
        """Read the extensions into their attributes; to be called when the signature has verified.

        HandshakeError "attribute-certificate" for one that is unknown and critical, stands twice or is malformed, and
        where more than one says how revocation is learned (62351-9).
        """
        if self._read:
            return
        seen: set[str] = set()
        reader = Reader(self._extensions, step="extensions")
        try:
            while reader.more():
                oid, critical, value = read_extension(reader)
                if oid in seen:
                    raise fault(10, f"extension {oid} stands twice")
                seen.add(oid)
                if critical and oid not in _KNOWN_CRITICAL:
                    raise fault(12, f"unknown critical extension {oid}")
                if oid == oids.AUTHORITY_KEY_IDENTIFIER:
                    self.authority_key_id = authority_key_identifier(value)
                elif oid == oids.CRL_DISTRIBUTION_POINTS:
                    self.crl_urls = distribution_points(value)
                elif oid == oids.AUTHORITY_INFO_ACCESS:
                    self.ocsp_urls = responders(value)
                elif oid == oids.NO_REVOCATION_AVAILABLE:
                    value.null()
                    self.no_revocation = True
                else:
                    continue
                value.finish()
        except DecodeError as error:
            raise fault(11, f"extension malformed: {error}") from None
        except HandshakeError as error:
            raise error if error.check == CHECK else fault(11, f"extension malformed: {error}") from None
        if len(seen & _REVOCATION_SOURCES) > 1:
            raise fault(10, "more than one extension says how revocation is learned")
        self._read = True

    def belongs_to(self, certificate: Certificate) -> int:
        """0 if the holder is the owner of this certificate, else the number of the event (62351-9 group 3)."""
        base = self.holder_issuer is not None
        if base and (self.holder_issuer != certificate.issuer or self.holder_serial != certificate.serial):
            return 4
        if self.holder_digest or not (base or self.holder_names):
            return 5  # a digest is not looked at, so it may say somebody else
        return 0 if all(_is_name_of(certificate, *name) for name in self.holder_names) else 5


def _only_name(names: Reader, *, more: bool = False) -> bytes:
    """DER of the Name of GeneralNames that holds one directoryName and nothing else (RFC 5755 4.2.3)."""
    names.expect(0x30)
    if not more:
        names.finish()
    general = names.enter()
    general.expect(_DIRECTORY_NAME)
    general.finish()
    directory = general.enter()
    directory.expect(0x30)
    directory.finish()
    return directory.raw()


def _period(period: Reader) -> tuple[int, int]:
    times = []
    for _ in range(2):
        if period.peek() != 0x18:
            raise DecodeError("not GeneralizedTime", step="attrCertValidityPeriod")
        times.append(read_time(period))
    period.finish()
    return times[0], times[1]


def _is_name_of(certificate: Certificate, tag: int, name: bytes) -> bool:
    """Whether a GeneralName is the subject of the certificate, or a registeredID of it (62351-4 Annex G)."""
    reader = Reader(name)
    if tag == _REGISTERED_ID:
        try:
            return reader.oid(_REGISTERED_ID) in certificate.registered_ids
        except DecodeError:
            return False
    if tag != _DIRECTORY_NAME:
        return False
    reader.expect(tag)
    return reader.value() == certificate.subject and len(certificate.subject) > 2


class VerifiedToken(NamedTuple):
    """An attribute certificate that passed all checks.

    Attributes:
        certificate: the attribute certificate.
        chain: its issuer first; then the authorities above, or the anchor that says it has issued a configured one.
        issued: whether the issuer is believed because of the path above it, not because it is configured.
    """

    certificate: AttributeCertificate
    chain: tuple[Certificate, ...]
    issued: bool

    @property
    def until_ms(self) -> int:
        """First moment at which it, or the certificate of its issuer, has expired; ms since 1970 UTC."""
        ends = (self.certificate.not_after_ms, *(issuer.not_after_ms for issuer in self.chain))
        return min(ends) + 1000


@lru_cache(maxsize=256)
def attribute_authority(der: bytes) -> Certificate:
    """A configured attribute authority, parsed; ConfigError for a certificate that cannot be one (RFC 5755 4.5)."""
    try:
        certificate = Certificate(der)
    except HandshakeError as error:
        raise ConfigError(f"an attribute authority's certificate is not usable: {error}") from error
    if certificate.is_ca:
        raise ConfigError("an attribute authority must not be an authority for certificates too")
    if certificate.key_usage is not None and not certificate.has_usage(oids.KU_DIGITAL_SIGNATURE):
        raise ConfigError("key usage of an attribute authority lacks digitalSignature")
    return certificate
