"""The parsed view of an X.509 certificate (RFC 5280, 62351-9 Table 1, 62351-4 Annex G).

Our own parser, because a subject of attribute objectIdentifier is refused by OpenSSL and not shown by
``cryptography``. It is strict: DER lengths, version 3, no unique identifiers, no extension twice, no critical
extension that this package does not act on. What it accepts it has understood.
"""

from __future__ import annotations

from typing import ClassVar, Final

from fastsec import limits
from fastsec._core.crypto import sha256
from fastsec._core.cursor import Reader
from fastsec._core.pk import PublicKey, check_der, read_extension, read_time
from fastsec.errors import DecodeError, HandshakeError
from fastsec.events import SecurityEvent, named
from fastsec.pki import oids
from fastsec.pki.findings import Cert, certificate_event
from fastsec.pki.roles import EXTENSIONS as ROLE_EXTENSIONS
from fastsec.pki.roles import UserRoleInfo, read_user_roles

_VERSION_3: Final = b"\x02"
_SERIAL_OCTETS_MAX: Final = 20
# Critical extensions that are acted on, or that cannot lead to another verdict than without them: certificatePolicies
# matters only together with policyConstraints, which is not in the list.
_KNOWN_CRITICAL: Final = frozenset(
    [
        oids.SUBJECT_KEY_IDENTIFIER,
        oids.KEY_USAGE,
        oids.SUBJECT_ALT_NAME,
        oids.BASIC_CONSTRAINTS,
        oids.CERTIFICATE_POLICIES,
        oids.AUTHORITY_KEY_IDENTIFIER,
        oids.EXTENDED_KEY_USAGE,
        oids.CRL_DISTRIBUTION_POINTS,
        oids.OCSP_NO_CHECK,
        oids.SOA_IDENTIFIER,
    ]
)
_URLS_MAX: Final = 8
_URL_OCTETS_MAX: Final = 512
# The event of a fault by where it was found; CERT_V_FORMAT for all others.
_EVENT_OF: Final = {
    "version": Cert.VERSION,
    "signature": Cert.ALGORITHM_MISMATCH,
    "signatureAlgorithm": Cert.ALGORITHM,
    "extensions": Cert.EXTENSION_VALUE,
    "basicConstraints": Cert.BASIC_CONSTRAINTS,
    "extKeyUsage": Cert.EXTENSION_VALUE,
}
_OSI_SUBJECT: Final = b"\x06\x03\x55\x04\x6a"


class Certificate:
    """A certificate, parsed and found well-formed; nothing is verified yet.

    Arguments:
        der: the certificate.
        ca: whether it stands for an authority, in a path or as anchor: then keys on wider curves are allowed and
            errors have the check ``path`` instead of ``certificate``.

    Attributes:
        der: the octets.
        public_key: the subject's key.
        serial: content octets of the serial number, minimal, not negative.
        issuer, subject: DER Names.
        subject_oid: dotted value of the objectIdentifier attribute, if this is all the subject has (Annex G), or None.
        registered_ids: dotted registeredIDs of subjectAltName.
        not_before_ms, not_after_ms: validity, ms since 1970 UTC, both inclusive.
        key_usage: mask, bit n = keyUsage bit n; None without the extension.
        is_ca: basicConstraints cA.
        path_len: pathLenConstraint or None.
        extended: purposes of extKeyUsage, critical or not; None without the extension.
        crl_urls, ocsp_urls: where its CRLDistributionPoints and authorityInfoAccess say that its status is to be had.
        no_check: whether it is an OCSP responder's whose own status need not be asked (RFC 6960 4.2.2.2.1).
        subject_key_id, authority_key_id: key identifiers or None.
        signature_algorithm: dotted; one of ``oids.SIGNATURES``.
        signature: the signature octets.
        is_source_of_authority: whether it may issue attribute certificates (sOAIdentifier).
        user_roles: what its IECUserRoles says (IEC 62351-8); None without the extension, or if it is malformed.
        role_faults: what is wrong with the extension, or that there are two; empty if nothing is.

    Two are equal if their octets are.

    Raises: HandshakeError, check ``certificate`` or ``path``.
    """

    __slots__ = (
        "_tag",
        "_tbs",
        "authority_key_id",
        "crl_urls",
        "der",
        "extended",
        "is_ca",
        "is_source_of_authority",
        "issuer",
        "key_usage",
        "no_check",
        "not_after_ms",
        "not_before_ms",
        "ocsp_urls",
        "path_len",
        "public_key",
        "purposes",
        "registered_ids",
        "role_faults",
        "serial",
        "signature",
        "signature_algorithm",
        "subject",
        "subject_key_id",
        "subject_oid",
        "user_roles",
    )

    is_attribute: ClassVar[bool] = False

    def __init__(self, der: bytes, *, ca: bool = False) -> None:
        check = "path" if ca else "certificate"
        if len(der) > (limits.OUR_CERT_PATH_MAX if ca else limits.SPEC_CERTIFICATE_MAX):
            error = _bad(f"certificate of {len(der)} octets", "certificate")
            error.check = check
            raise error
        self.der = der
        self._tag = b""
        self.extended: frozenset[str] | None = None
        self.crl_urls: tuple[str, ...] = ()
        self.ocsp_urls: tuple[str, ...] = ()
        self.no_check = False
        self.subject_oid: str | None = None
        self.registered_ids: tuple[str, ...] = ()
        self.key_usage: int | None = None
        self.is_ca = False
        self.is_source_of_authority = False
        self.path_len: int | None = None
        self.subject_key_id: bytes | None = None
        self.authority_key_id: bytes | None = None
        self.purposes: frozenset[str] | None = None
        self.user_roles: tuple[UserRoleInfo, ...] | None = None
        self.role_faults: tuple[SecurityEvent, ...] = ()
        try:
            check_der(der)
            self._parse(ca)
        except DecodeError as fault:
            raise self._told(f"certificate malformed: {fault}", check, fault) from None
        except HandshakeError as fault:
            raise self._told(str(fault), check, fault) from None

    @staticmethod
    def _told(message: str, check: str, fault: DecodeError | HandshakeError) -> HandshakeError:
        also = fault.also or (certificate_event(_EVENT_OF.get(fault.step, Cert.FORMAT), reason=message),)
        return HandshakeError(message, check=check, step=fault.step, also=also)

    def _parse(self, ca: bool) -> None:
        outer = Reader(self.der, step="certificate")
        outer.expect(0x30)
        parts = outer.enter()
        parts.expect(0x30)
        self._tbs = (parts.first, parts.after)
        tbs = parts.enter()
        parts.expect(0x30)
        algorithm = parts.raw()
        self.signature_algorithm = signature_algorithm(parts.enter())
        self.signature = bit_octets(parts)
        parts.finish()

        # version, serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo
        tbs.expect(0xA0)
        version = tbs.enter()
        version.expect(0x02)
        if version.value() != _VERSION_3:
            raise _bad("certificate is not of version 3", "version")
        version.finish()
        tbs.expect(0x02)
        self.serial = serial_number(tbs.value())
        tbs.expect(0x30)
        if tbs.raw() != algorithm:
            raise _bad("certificate names two signature algorithms", "signature")
        tbs.expect(0x30)
        self.issuer = tbs.raw()
        tbs.expect(0x30)
        validity = tbs.enter()
        self.not_before_ms = read_time(validity)
        self.not_after_ms = read_time(validity)
        validity.finish()
        tbs.expect(0x30)
        self.subject = tbs.raw()
        self.subject_oid = _osi_subject(tbs.enter())
        tbs.expect(0x30)
        self.public_key = PublicKey.from_spki(tbs.raw(), ca=ca)
        if tbs.optional(0xA3):
            wrapper = tbs.enter()
            wrapper.expect(0x30)
            wrapper.finish()
            self._extensions(wrapper.enter())
        if tbs.more():
            raise _bad("certificate has a unique identifier or an unknown component", "tbsCertificate")

    def _extensions(self, extensions: Reader) -> None:
        seen: set[str] = set()
        while extensions.more():
            oid, critical, value = read_extension(extensions)
            if oid in seen:
                raise _bad(f"extension {oid} stands twice", "extensions")
            seen.add(oid)
            if oid == oids.KEY_USAGE:
                self.key_usage = value.named_bits()
            elif oid == oids.SUBJECT_ALT_NAME:
                self.registered_ids = _registered_ids(value)
            elif oid == oids.BASIC_CONSTRAINTS:
                self._basic_constraints(value)
            elif oid == oids.SUBJECT_KEY_IDENTIFIER:
                self.subject_key_id = value.octets()
            elif oid == oids.AUTHORITY_KEY_IDENTIFIER:
                self.authority_key_id = authority_key_identifier(value)
            elif oid == oids.EXTENDED_KEY_USAGE:
                self.extended = _purposes(value)
                # Only a critical one restricts: authorities add purposes of TLS to everything.
                self.purposes = self.extended if critical else None
            elif oid == oids.CRL_DISTRIBUTION_POINTS:
                self.crl_urls = distribution_points(value)
            elif oid == oids.AUTHORITY_INFO_ACCESS:
                self.ocsp_urls = responders(value)
            elif oid == oids.OCSP_NO_CHECK:
                value.null()
                self.no_check = True
            elif oid == oids.SOA_IDENTIFIER:
                value.null()
                self.is_source_of_authority = True
            elif oid in ROLE_EXTENSIONS:
                self._user_roles(oid, critical, value)
                continue
            elif critical and oid not in _KNOWN_CRITICAL:
                raise _bad(f"unknown critical extension {oid}", "extensions", Cert.CRITICAL)
            else:
                continue
            value.finish()

    def _basic_constraints(self, value: Reader) -> None:
        value.expect(0x30)
        fields = value.enter()
        if fields.peek() == 0x01:
            self.is_ca = fields.boolean()
        if fields.more():
            self.path_len = fields.integer()
            if self.path_len < 0 or not self.is_ca:
                raise _bad("pathLenConstraint not allowed here", "basicConstraints", Cert.PATH_LENGTH)
        fields.finish()

    def _user_roles(self, oid: str, critical: bool, value: Reader) -> None:
        """IECUserRoles under one of its two OIDs; where both are there, the one of 2020 counts alone.

        A malformed one grants nothing, but the certificate stays good for who its subject is: unless it is critical,
        since then nothing of it may be used by who cannot process it (RFC 5280 4.2).
        """
        try:
            found = read_user_roles(value)
            value.finish()
        except DecodeError as error:
            if critical:
                raise
            self.role_faults += (named("CERT_V_PKCE_EXT_VALUE", extension=oid, reason=error),)
            return
        if self.user_roles is not None:
            self.role_faults += (named("MULTIPLE_AT", reason="two extensions of the certificate"),)
            if oid != oids.IEC_USER_ROLES:
                return
        self.user_roles = found

    @property
    def tbs(self) -> bytes:
        """The TBSCertificate, which the signature covers."""
        return self.der[self._tbs[0] : self._tbs[1]]

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the certificate."""
        return sha256(self.der)

    @property
    def authority_tag(self) -> bytes:
        """Stands for this authority, name and key, in tables."""
        if not self._tag:
            self._tag = sha256(self.subject + self.public_key.octets)
        return self._tag

    @property
    def self_issued(self) -> bool:
        """Whether issuer and subject are the same name."""
        return self.issuer == self.subject

    def check_leaf(self) -> None:
        """The rules for an end-to-end certificate (62351-4 Annex G): an end entity's, at most 8192 octets, key usage
        digitalSignature and keyAgreement. HandshakeError (check ``certificate``) otherwise."""
        if len(self.der) > limits.SPEC_CERTIFICATE_MAX:
            raise _bad(f"certificate of {len(self.der)} octets", "certificate")
        if self.is_ca:
            raise _bad("certificate is an authority's", "basicConstraints")
        if self.key_usage is None or self.key_usage & _LEAF_USAGE != _LEAF_USAGE:
            number = Cert.KEY_USAGE if self.has_usage(oids.KU_DIGITAL_SIGNATURE) else Cert.DIGITAL_SIGNATURE
            raise _bad("key usage lacks digitalSignature or keyAgreement", "keyUsage", number)
        if self.purposes is not None and oids.ANY_PURPOSE not in self.purposes:
            raise _bad("extended key usage is critical and for other purposes", "extKeyUsage")

    def check_signer(self) -> None:
        """The rules for an ordinary certificate that signs (A-profile): an end entity's, at most 8192 octets, key usage
        digitalSignature unless it names none. HandshakeError (check ``certificate``) otherwise."""
        if len(self.der) > limits.SPEC_CERTIFICATE_MAX:
            raise _bad(f"certificate of {len(self.der)} octets", "certificate")
        if self.is_ca:
            raise _bad("certificate is an authority's", "basicConstraints")
        if self.key_usage is not None and not self.has_usage(oids.KU_DIGITAL_SIGNATURE):
            raise _bad("key usage lacks digitalSignature", "keyUsage", Cert.DIGITAL_SIGNATURE)
        if self.purposes is not None and not self.purposes & _SIGNER_PURPOSES:
            raise _bad("extended key usage is critical and for other purposes", "extKeyUsage")

    def check_valid(self, utc_ms: int, check: str = "certificate") -> None:
        """HandshakeError (check as given) unless ``utc_ms``, ms since 1970 UTC, lies within the validity."""
        if utc_ms < self.not_before_ms:
            raise _bad("certificate not yet valid", "validity", Cert.EARLY, check)
        # The validity includes its last second (RFC 5280 4.1.2.5).
        if utc_ms >= self.not_after_ms + 1000:
            raise _bad("certificate expired", "validity", Cert.EXPIRED, check)

    def has_usage(self, bit: int) -> bool:
        """Whether keyUsage has this bit (``oids.KU_*``)."""
        return self.key_usage is not None and bool(self.key_usage >> bit & 1)

    def __eq__(self, other: object) -> bool:
        return self.der == other.der if isinstance(other, Certificate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<Certificate {self.subject_oid or name_text(self.subject)} serial {self.serial.hex()}>"


_SIGNER_PURPOSES: Final = frozenset([oids.ANY_PURPOSE, oids.CLIENT_AUTH, oids.SERVER_AUTH])
_LEAF_USAGE: Final = 1 << oids.KU_DIGITAL_SIGNATURE | 1 << oids.KU_KEY_AGREEMENT


def _bad(message: str, step: str, number: int | None = None, check: str = "certificate") -> HandshakeError:
    if number is None:
        number = _EVENT_OF.get(step, Cert.FORMAT)
    return HandshakeError(message, check=check, step=step, also=(certificate_event(number, reason=message),))


def signature_algorithm(fields: Reader) -> str:
    """The dotted signature algorithm of an AlgorithmIdentifier's fields; HandshakeError if it is none of
    ``oids.SIGNATURES``. Parameters: NULL or absent (62351-4 takes them as equal)."""
    oid = fields.oid()
    if oid not in oids.SIGNATURES:
        raise _bad(f"signature algorithm {oid} is not supported", "signatureAlgorithm")
    if fields.more():
        fields.null()
        fields.finish()
    return oid


def bit_octets(reader: Reader) -> bytes:
    """The next BIT STRING, which must be whole octets."""
    octets, unused = reader.bits()
    if unused:
        raise _bad("BIT STRING is not whole octets", "signatureValue")
    return octets


def serial_number(content: bytes) -> bytes:
    """A serial number's content octets, after the checks of RFC 5280 4.1.2.2 (zero is tolerated)."""
    if not 1 <= len(content) <= _SERIAL_OCTETS_MAX + 1 or content[0] & 0x80:
        raise _bad("serial number is negative, empty or too long", "serialNumber")
    if len(content) > 1 and content[0] == 0 and not content[1] & 0x80:
        raise _bad("serial number is not DER", "serialNumber")
    return content


def authority_key_identifier(value: Reader) -> bytes | None:
    """The keyIdentifier of an authorityKeyIdentifier, or None."""
    value.expect(0x30)
    fields = value.enter()
    identifier = fields.value() if fields.optional(0x80) else None
    while fields.more():
        fields.next()
    return identifier


def _purposes(value: Reader) -> frozenset[str]:
    value.expect(0x30)
    fields = value.enter()
    found = []
    while fields.more():
        found.append(fields.oid())
    return frozenset(found)


def _uri(names: Reader) -> str | None:
    """The next GeneralName if it is a URI of a reasonable kind, else None."""
    if names.peek() != 0x86:
        names.next()
        return None
    octets = names.octets(0x86)
    good = 0 < len(octets) <= _URL_OCTETS_MAX and all(0x21 <= octet <= 0x7E for octet in octets)
    return octets.decode("ascii") if good else None


def point_urls(point: Reader) -> tuple[str, ...]:
    """The URLs of a DistributionPointName's content (RFC 5280 4.2.1.13): those of fullName."""
    found: list[str] = []
    if point.optional(0xA0):
        names = point.enter()
        while names.more():
            url = _uri(names)
            if url is not None:
                found.append(url)
    else:
        point.expect(0xA1)  # nameRelativeToCRLIssuer: a place in a directory
    point.finish()
    return tuple(found[:_URLS_MAX])


def distribution_points(value: Reader) -> tuple[str, ...]:
    """The URLs of CRLDistributionPoints; without those of other issuers' lists or of lists for some reasons alone."""
    value.expect(0x30)
    points = value.enter()
    found: list[str] = []
    while points.more():
        points.expect(0x30)
        point = points.enter()
        urls: tuple[str, ...] = ()
        if point.optional(0xA0):
            urls = point_urls(point.enter())
        if not point.more():
            found += urls
        while point.more():  # reasons, cRLIssuer
            if point.peek() not in (0x81, 0xA2):
                raise _bad("distribution point has an unknown component", "extensions")
            point.next()
    return tuple(dict.fromkeys(found))[:_URLS_MAX]


def responders(value: Reader) -> tuple[str, ...]:
    """The URLs of authorityInfoAccess that are OCSP responders' (RFC 5280 4.2.2.1)."""
    value.expect(0x30)
    accesses = value.enter()
    found: list[str] = []
    while accesses.more():
        accesses.expect(0x30)
        access = accesses.enter()
        method = access.oid()
        url = _uri(access)
        access.finish()
        if method == oids.ACCESS_OCSP and url is not None:
            found.append(url)
    return tuple(dict.fromkeys(found))[:_URLS_MAX]


def _registered_ids(value: Reader) -> tuple[str, ...]:
    value.expect(0x30)
    names = value.enter()
    found = []
    while names.more():
        if names.peek() == 0x88:
            found.append(names.oid(0x88))
        else:
            names.next()
    return tuple(found)


def _osi_subject(rdns: Reader) -> str | None:
    """The OBJECT IDENTIFIER of a subject by Annex G: exactly one RDN with exactly that attribute; else None."""
    oid = None
    count = 0
    while rdns.more():
        rdns.expect(0x31)
        attributes = rdns.enter()
        while attributes.more():
            attributes.expect(0x30)
            attribute = attributes.enter()
            attribute.expect(0x06)
            count += 1
            if attribute.raw() == _OSI_SUBJECT and attribute.peek() == 0x06:
                oid = attribute.oid()
            else:
                attribute.next()
            attribute.finish()
    return oid if count == 1 else None


def name_text(name: bytes) -> str:
    """A DER Name for people: the values that are text or OBJECT IDENTIFIERs, parted by commas. For logs only."""
    parts = []
    try:
        rdns = Reader(name)
        rdns.expect(0x30)
        rdns = rdns.enter()
        while rdns.more():
            rdns.expect(0x31)
            attributes = rdns.enter()
            while attributes.more():
                attributes.expect(0x30)
                attribute = attributes.enter()
                attribute.expect(0x06)
                if attribute.peek() == 0x06:
                    parts.append(attribute.oid())
                else:
                    attribute.next()
                    parts.append(attribute.value().decode("utf-8", "replace"))
    except DecodeError:
        return "a name that cannot be read"
    text = ", ".join(parts)
    return "".join(c if c.isprintable() else "?" for c in text)[:96]
