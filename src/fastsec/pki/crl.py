"""Certificate revocation lists (RFC 5280 section 5), indexed for a look-up per handshake.

Complete lists are used, and lists of one distribution point for the certificates that name it. Of lists with a
narrower scope the entries count, but they do not say that a certificate is in order. Delta and indirect lists are not
used at all. The entries are checked and indexed without the GIL (``_core/crl.pyx``).
"""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

from fastsec._core.crl import RevokedEntries, check_list
from fastsec._core.cursor import Reader
from fastsec._core.pk import read_extension, read_time
from fastsec.errors import DecodeError, HandshakeError, IntegrityError
from fastsec.pki import oids
from fastsec.pki.certificate import (
    Certificate,
    authority_key_identifier,
    bit_octets,
    point_urls,
    signature_algorithm,
)

_VERSION_2: Final = 1
_KNOWN: Final = frozenset([oids.CRL_NUMBER, oids.AUTHORITY_KEY_IDENTIFIER, oids.ISSUING_DISTRIBUTION_POINT])


class Revocable(Protocol):
    """What a CRL or a responder may tell the status of: a public-key or an attribute certificate."""

    is_attribute: ClassVar[bool]

    @property
    def is_ca(self) -> bool:
        """Whether it is an authority's."""
        ...

    @property
    def serial(self) -> bytes:
        """Content octets of the serial number."""
        ...

    @property
    def crl_urls(self) -> tuple[str, ...]:
        """Where its CRLs are."""
        ...

    @property
    def ocsp_urls(self) -> tuple[str, ...]:
        """Where its responders are."""
        ...


class RevocationList:
    """A CRL, parsed; its signature is verified by ``verify``.

    Arguments:
        der: the CRL.

    Attributes:
        issuer: DER Name.
        this_update_ms: when it was issued, ms since 1970 UTC.
        number: cRLNumber, 0 without; it orders lists of the same second.
        next_update_ms: when the next one is due; None if it does not say.
        entries: the revoked certificates; an entry with the reason removeFromCRL revokes nothing.
        authority_key_id: key identifier of the issuer's key, or None.
        for_users, for_authorities, for_attributes: whether a certificate of an end entity, of an authority, or an
            attribute certificate, that is not on the list is not revoked.
        points: the URLs of the distribution point whose certificates alone the list covers; None if it covers all.
        scope: its issuingDistributionPoint, DER; two lists of one issuer with the same scope replace each other.

    Raises: DecodeError for a CRL that is malformed, a delta or indirect, or has an unknown critical extension.
    """

    __slots__ = (
        "_der",
        "_genuine",
        "_signature",
        "_signature_algorithm",
        "_tbs",
        "authority_key_id",
        "entries",
        "for_attributes",
        "for_authorities",
        "for_users",
        "issuer",
        "next_update_ms",
        "number",
        "points",
        "scope",
        "this_update_ms",
    )

    def __init__(self, der: bytes) -> None:
        self._der = der
        self._genuine: dict[bytes, bool] = {}
        self.points: frozenset[str] | None = None
        self.scope = b""
        self.authority_key_id: bytes | None = None
        self.for_users = True
        self.for_authorities = True
        self.for_attributes = True
        self.next_update_ms: int | None = None
        self.number = 0
        try:
            check_list(der)
            self._parse(der)
        except HandshakeError as error:
            raise DecodeError(str(error), step="CertificateList") from None

    def _parse(self, der: bytes) -> None:
        outer = Reader(der, step="CertificateList")
        outer.expect(0x30)
        parts = outer.enter()
        parts.expect(0x30)
        self._tbs = (parts.first, parts.after)
        tbs = parts.enter()
        parts.expect(0x30)
        algorithm = parts.raw()
        self._signature_algorithm = signature_algorithm(parts.enter())
        self._signature = bit_octets(parts)
        parts.finish()

        if tbs.peek() == 0x02 and tbs.integer() != _VERSION_2:
            raise DecodeError("CRL is neither of version 1 nor 2", step="version")
        tbs.expect(0x30)
        if tbs.raw() != algorithm:
            raise DecodeError("CRL names two signature algorithms", step="signature")
        tbs.expect(0x30)
        self.issuer = tbs.raw()
        self.this_update_ms = read_time(tbs)
        if tbs.peek() in (0x17, 0x18):
            self.next_update_ms = read_time(tbs)
        listed = tbs.optional(0x30)
        self.entries = RevokedEntries(der, tbs.start, tbs.stop) if listed else RevokedEntries(der)
        if tbs.optional(0xA0):
            wrapper = tbs.enter()
            wrapper.expect(0x30)
            wrapper.finish()
            self._extensions(wrapper.enter())
        tbs.finish()

    def _extensions(self, extensions: Reader) -> None:
        while extensions.more():
            oid, critical, value = read_extension(extensions)
            if oid == oids.AUTHORITY_KEY_IDENTIFIER:
                self.authority_key_id = authority_key_identifier(value)
            elif oid == oids.CRL_NUMBER:
                # Up to 20 octets (RFC 5280 5.2.3), more than an integer of the wire has elsewhere.
                value.expect(0x02)
                self.number = int.from_bytes(value.value(), "big", signed=True)
            elif oid == oids.ISSUING_DISTRIBUTION_POINT:
                value.expect(0x30)
                self.scope = value.raw()
                self._scope(value.enter())
                value.finish()
            elif oid == oids.DELTA_CRL_INDICATOR:
                raise DecodeError("CRL is a delta", step="deltaCRLIndicator")
            elif critical and oid not in _KNOWN:
                raise DecodeError(f"CRL has an unknown critical extension {oid}", step="crlExtensions")

    def _scope(self, fields: Reader) -> None:
        """issuingDistributionPoint: what the list covers (RFC 5280 5.2.5)."""
        while fields.more():
            tag = fields.peek()
            if tag == 0x81 and fields.boolean(0x81):  # onlyContainsUserCerts
                self.for_authorities = self.for_attributes = False
            elif tag == 0x82 and fields.boolean(0x82):  # onlyContainsCACerts
                self.for_users = self.for_attributes = False
            elif tag == 0x84:  # indirectCRL
                raise DecodeError("CRL is indirect", step="issuingDistributionPoint")
            elif tag == 0xA0:  # distributionPoint: the certificates that name it
                fields.expect(0xA0)
                self.points = frozenset(point_urls(fields.enter()))
            elif tag == 0x85 and fields.boolean(0x85):  # onlyContainsAttributeCerts
                self.for_users = self.for_authorities = False
            elif tag == 0x83:  # onlySomeReasons
                self.for_users = self.for_authorities = self.for_attributes = False
                fields.next()
            elif tag not in (0x81, 0x82, 0x85):
                raise DecodeError(f"unknown component {tag:02X}", step="issuingDistributionPoint")

    @property
    def serials(self) -> frozenset[bytes]:
        """Content octets of the revoked serial numbers; made anew each time."""
        return self.entries.serials()

    def covers(self, certificate: Revocable) -> bool:
        """Whether a certificate of this issuer that is not on the list is not revoked."""
        of_end_entities = self.for_attributes if certificate.is_attribute else self.for_users
        if not (self.for_authorities if certificate.is_ca else of_end_entities):
            return False
        return self.points is None or not self.points.isdisjoint(certificate.crl_urls)

    @property
    def age(self) -> tuple[int, int]:
        """Orders lists of one issuer, newer ones are greater."""
        return self.this_update_ms, self.number

    @property
    def was_genuine(self) -> bool:
        """Whether its signature has been verified under some issuer's key."""
        return any(self._genuine.values())

    def same_as(self, other: RevocationList) -> bool:
        """Whether it is the same list, octet by octet."""
        return self._der == other._der

    def verify(self, issuer: Certificate) -> None:
        """Verify the signature with the issuer's key. IntegrityError (check ``signature``) if it does not verify or
        the issuer may not sign CRLs (keyUsage cRLSign)."""
        if not issuer.has_usage(oids.KU_CRL_SIGN):
            raise IntegrityError("the issuer may not sign CRLs", check="signature", step="keyUsage")
        first, after = self._tbs
        issuer.public_key.verify(self._signature_algorithm, self._der[first:after], self._signature)

    def is_genuine(self, issuer: Certificate) -> bool:
        """Whether ``verify`` succeeds: the same answer each time, so found once per key."""
        # A peer may bring intermediates of any key under the name of a CRL's issuer only below an anchor, so this does
        # not grow by a stranger's doing; authorities are few.
        key = issuer.public_key.octets
        known = self._genuine.get(key)
        if known is None:
            try:
                self.verify(issuer)
                known = True
            except IntegrityError:
                known = False
            if issuer.has_usage(oids.KU_CRL_SIGN):
                self._genuine[key] = known
        return known
