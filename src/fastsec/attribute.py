"""Attribute certificates in ClearToken1 (RFC 5755): the form, the holder and the validity are checked.

fastsec grants no roles from them yet, so the issuer's signature decides nothing here and is left to whoever does;
one that is malformed, expired or belongs to somebody else is refused nevertheless (invalid-attribute-certificate).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from fastsec._core.cursor import Reader
from fastsec.errors import DecodeError, HandshakeError
from fastsec.pki.roles import RoleTrust, judge
from fastsec.secpdu.timestamp import time_utc_ms

if TYPE_CHECKING:
    from fastsec.pki.certificate import Certificate
    from fastsec.pki.path import VerifiedPeer

_CHECK: Final = "attribute-certificate"
_SEQUENCE: Final = 0x30
_VERSION_2: Final = 1


def take_roles(peer: VerifiedPeer, att_cert: bytes | None, roles: RoleTrust, utc_ms: int) -> VerifiedPeer:
    """The peer with the roles that its tokens grant here; the last check of a handshake PDU (62351-4 §6).

    Arguments:
        att_cert: attCert of its ClearToken1.
        roles: whose roles count.
    Errors:
        HandshakeError "attribute-certificate".
    """
    if att_cert is not None:
        check_attribute_certificate(att_cert, peer.certificate, utc_ms)
    infos = peer.certificate.user_roles
    if not infos or not roles.certificates:
        return peer
    return replace(peer, roles=judge(infos, roles, "certificate").grants)


def check_attribute_certificate(att_cert: bytes, holder: Certificate, utc_ms: int) -> None:
    """HandshakeError "attribute-certificate" unless ``att_cert`` is one, is valid now and belongs to ``holder``.

    Arguments:
        att_cert: DER of the AttributeCertificate, at most 8192 octets.
        holder: the public-key certificate that came with it.
        utc_ms: now.
    """
    try:
        issuer, serial, begins, ends = _parse(att_cert)
    except DecodeError:
        raise HandshakeError("attribute certificate malformed", check=_CHECK, step="token1.attCert") from None
    if not begins <= utc_ms <= ends:
        raise HandshakeError("attribute certificate not valid now", check=_CHECK, step="token1.attCert")
    if issuer != holder.issuer or serial != holder.serial:
        raise HandshakeError("attribute certificate of another holder", check=_CHECK, step="token1.attCert")


def _parse(att_cert: bytes) -> tuple[bytes, bytes, int, int]:
    """(issuer Name, serial content octets, begin, end in UTC ms) of the holder's certificate and the validity."""
    outer = Reader(att_cert, step="token1.attCert")
    outer.expect(_SEQUENCE)
    outer.finish()
    parts = outer.enter()
    parts.expect(_SEQUENCE)
    info = parts.enter()
    parts.expect(_SEQUENCE)  # signatureAlgorithm
    parts.expect(0x03)  # signatureValue
    parts.finish()
    if info.integer() != _VERSION_2:
        raise DecodeError("version is not v2")
    info.expect(_SEQUENCE)  # Holder
    whole = info.enter()
    whole.expect(0xA0)  # baseCertificateID: fastsec binds by issuer and serial number alone
    base = whole.enter()
    base.expect(_SEQUENCE)  # GeneralNames
    names = base.enter()
    names.expect(0xA4)  # directoryName
    directory = names.enter()
    directory.expect(_SEQUENCE)
    issuer = directory.raw()
    base.expect(0x02)
    serial = base.value()
    info.expect(0xA0)  # AttCertIssuer v2Form
    info.expect(_SEQUENCE)  # signature
    info.expect(0x02)  # serialNumber
    info.expect(_SEQUENCE)  # attrCertValidityPeriod
    period = info.enter()
    begins, ends = (time_utc_ms(period.text(0x18, 25)) for _ in range(2))
    period.finish()
    info.expect(_SEQUENCE)  # attributes
    return issuer, serial, begins, ends
