"""OCSP (RFC 6960, nonce RFC 9654): the request, and what is to be believed of an answer. No clock, no socket.

Our own decoder: ``cryptography`` cannot name a responder whose subject is an OBJECT IDENTIFIER (62351-4 Annex G) and
gives names only re-encoded, while RFC 6960 compares them; it is the oracle of the tests. An answer counts if its
signature verifies under the key of the certificate's issuer, or under a delegate's whose certificate that very issuer
signed for this purpose.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from fastsec import limits
from fastsec._core.crypto import equal
from fastsec._core.cursor import Reader, Writer, tlv
from fastsec._core.pk import check_der, read_extension, read_time
from fastsec.errors import DecodeError, IntegrityError, PeerError
from fastsec.pki import oids
from fastsec.pki.certificate import Certificate, bit_octets, serial_number, signature_algorithm
from fastsec.pki.findings import Cert, Revocation
from fastsec.pki.revocation import REASONS, Answer

NONCE_OCTETS: Final = 32  # RFC 9654
_HASHES: Final = {"sha1": "1.3.14.3.2.26", "sha256": "2.16.840.1.101.3.4.2.1"}
_STATUS: Final = {
    1: "malformedRequest",
    2: "internalError",
    3: "tryLater",
    5: "sigRequired",
    6: "unauthorized",
}
_GOOD: Final = 0x80
_REVOKED: Final = 0xA1
_UNKNOWN: Final = 0x82


class OcspError(Exception):
    """An answer that says nothing about the certificate.

    Attributes:
        number: of the event (``Revocation``).
        busy: whether the responder itself is unable for now, so that others need not ask it either.
        also: number of a further event, of group 2 (``Cert``), or 0.
    """

    def __init__(self, number: int, reason: str, *, busy: bool = False, also: int = 0) -> None:
        super().__init__(reason)
        self.number = number
        self.busy = busy
        self.also = also


class CertId(NamedTuple):
    """Which certificate is asked about: hash algorithm (dotted), hashes of its issuer's name and key, its serial."""

    algorithm: str
    name_hash: bytes
    key_hash: bytes
    serial: bytes


def cert_id(serial: bytes, issuer: Certificate, algorithm: str) -> CertId:
    """The CertId of a serial number (content octets) under ``issuer``; ``algorithm``: ``sha1`` or ``sha256``."""
    return CertId(
        _HASHES[algorithm],
        hashlib.new(algorithm, issuer.subject, usedforsecurity=False).digest(),
        hashlib.new(algorithm, issuer.public_key.octets, usedforsecurity=False).digest(),
        serial,
    )


# --- the request ------------------------------------------------------------------------------------------------------


def make_request(wanted: CertId, nonce: bytes | None) -> bytes:
    """An OCSPRequest about one certificate, unsigned.

    Arguments:
        nonce: 1 to 128 octets; None: without.
    """
    writer = Writer()
    writer.begin(0x30)  # OCSPRequest
    writer.begin(0x30)  # TBSRequest
    writer.begin(0x30)  # requestList
    writer.begin(0x30)  # Request
    writer.begin(0x30)  # CertID
    writer.begin(0x30)
    writer.oid(wanted.algorithm)
    writer.null()
    writer.end()
    writer.octets(wanted.name_hash)
    writer.octets(wanted.key_hash)
    writer.primitive(0x02, wanted.serial)
    writer.end()
    writer.end()
    writer.end()
    if nonce is not None:
        writer.begin(0xA2)
        writer.begin(0x30)
        writer.begin(0x30)
        writer.oid(oids.OCSP_NONCE)
        writer.octets(tlv(0x04, nonce))
        writer.end()
        writer.end()
        writer.end()
    writer.end()
    writer.end()
    return writer.getvalue()


# --- the answer -------------------------------------------------------------------------------------------------------


class Single(NamedTuple):
    """What an answer says of one certificate.

    Attributes:
        id: which.
        status: ``good``, ``revoked`` or ``unknown``.
        reason, at_ms: of a revocation.
        this_update_ms, next_update_ms: when it was so, and when there will be a new answer (None: at any time).
    """

    id: CertId
    status: str
    reason: int
    at_ms: int
    this_update_ms: int
    next_update_ms: int | None


class BasicResponse:
    """A BasicOCSPResponse, parsed; nothing is verified.

    Arguments:
        der: an OCSPResponse.

    Attributes:
        status: 0 successful, else ``singles`` is empty.
        responder_name: DER Name of who signed it, or None.
        responder_key: SHA-1 of the key of who signed it, or None; exactly one of the two is there.
        singles: what it says.
        nonce: the nonce in it, or None.
        certificates: DER of those that came with it.
        signature_algorithm, signature, tbs: to be verified.

    Raises: DecodeError.
    """

    __slots__ = (
        "certificates",
        "nonce",
        "responder_key",
        "responder_name",
        "signature",
        "signature_algorithm",
        "singles",
        "status",
        "tbs",
    )

    def __init__(self, der: bytes) -> None:
        self.status = 0
        self.responder_name: bytes | None = None
        self.responder_key: bytes | None = None
        self.singles: tuple[Single, ...] = ()
        self.nonce: bytes | None = None
        self.certificates: tuple[bytes, ...] = ()
        self.signature_algorithm = ""
        self.signature = b""
        self.tbs = b""
        if len(der) > limits.OUR_OCSP_RESPONSE_MAX:
            raise DecodeError(f"OCSP response of {len(der)} octets", step="OCSPResponse")
        try:
            check_der(der)
            self._response(der)
        except DecodeError:
            raise
        except PeerError as error:  # of the tools that are shared with certificates
            raise DecodeError(str(error), step=error.step) from None

    def _response(self, der: bytes) -> None:
        outer = Reader(der, step="OCSPResponse")
        outer.expect(0x30)
        outer.finish()
        fields = outer.enter()
        self.status = _enumerated(fields)
        if self.status:
            if self.status not in _STATUS:
                raise DecodeError(f"responseStatus {self.status} does not exist", step="responseStatus")
            # Whatever follows is not to be looked at.
            return
        fields.expect(0xA0)
        wrapper = fields.enter()
        fields.finish()
        wrapper.expect(0x30)
        wrapper.finish()
        wrapped = wrapper.enter()
        kind = wrapped.oid()
        if kind != oids.OCSP_BASIC:
            raise DecodeError(f"response of type {kind}", step="responseType")
        basic = wrapped.octets()
        wrapped.finish()
        check_der(basic)
        self._basic(basic)

    def _basic(self, der: bytes) -> None:
        outer = Reader(der, step="BasicOCSPResponse")
        outer.expect(0x30)
        outer.finish()
        parts = outer.enter()
        parts.expect(0x30)
        self.tbs = parts.raw()
        tbs = parts.enter()
        parts.expect(0x30)
        self.signature_algorithm = signature_algorithm(parts.enter())
        self.signature = bit_octets(parts)
        if parts.optional(0xA0):
            wrapper = parts.enter()
            wrapper.expect(0x30)
            wrapper.finish()
            certificates = wrapper.enter()
            found = []
            while certificates.more():
                certificates.expect(0x30)
                found.append(certificates.raw())
            self.certificates = tuple(found)
        parts.finish()

        if tbs.optional(0xA0):
            version = tbs.enter()
            if version.integer() != 0:
                raise DecodeError("OCSP response is not of version 1", step="version")
            version.finish()
        if tbs.optional(0xA1):
            name = tbs.enter()
            name.expect(0x30)
            self.responder_name = name.raw()
            name.finish()
        else:
            tbs.expect(0xA2)
            key = tbs.enter()
            self.responder_key = key.octets()
            key.finish()
        _generalized(tbs)  # producedAt
        tbs.expect(0x30)
        singles = tbs.enter()
        found_singles: list[Single] = []
        while singles.more():
            if len(found_singles) == limits.OUR_OCSP_SINGLES_MAX:
                raise DecodeError("OCSP response about too many certificates", step="responses")
            singles.expect(0x30)
            found_singles.append(_single(singles.enter()))
        self.singles = tuple(found_singles)
        if tbs.optional(0xA1):
            for oid, value in _extensions(tbs.enter()):
                if oid == oids.OCSP_NONCE:
                    self.nonce = value.octets()
                    value.finish()
        tbs.finish()


def _enumerated(fields: Reader) -> int:
    fields.expect(0x0A)
    content = fields.value()
    if len(content) != 1 or content[0] & 0x80:
        raise DecodeError("ENUMERATED out of range", step="ENUMERATED")
    return content[0]


def _generalized(fields: Reader) -> int:
    if fields.peek() != 0x18:
        raise DecodeError("GeneralizedTime wanted", step="time")
    return read_time(fields)


def _extensions(wrapper: Reader) -> list[tuple[str, Reader]]:
    """The extensions of a response; no unknown critical one, none twice."""
    wrapper.expect(0x30)
    wrapper.finish()
    fields = wrapper.enter()
    found: dict[str, Reader] = {}
    while fields.more():
        oid, critical, value = read_extension(fields)
        if oid in found:
            raise DecodeError(f"extension {oid} stands twice", step="responseExtensions")
        if critical and oid != oids.OCSP_NONCE:
            raise DecodeError(f"unknown critical extension {oid}", step="responseExtensions")
        found[oid] = value
    return list(found.items())


def _single(fields: Reader) -> Single:
    fields.expect(0x30)
    certificate = fields.enter()
    certificate.expect(0x30)
    algorithm = certificate.enter()
    digest = algorithm.oid()
    if algorithm.more():
        algorithm.null()
    algorithm.finish()
    name_hash, key_hash = certificate.octets(), certificate.octets()
    certificate.expect(0x02)
    wanted = CertId(digest, name_hash, key_hash, serial_number(certificate.value()))
    certificate.finish()
    status, reason, at_ms = "good", 0, 0
    tag = fields.peek()
    if tag == _REVOKED:
        fields.expect(_REVOKED)
        revoked = fields.enter()
        at_ms = _generalized(revoked)
        if revoked.optional(0xA0):
            wrapper = revoked.enter()
            reason = _enumerated(wrapper)
            wrapper.finish()
            if reason not in REASONS:
                raise DecodeError(f"reason {reason} does not exist", step="revocationReason")
        revoked.finish()
        status = "revoked"
    elif tag in (_GOOD, _UNKNOWN):
        fields.next()
        if fields.value():
            raise DecodeError("certStatus has a value", step="certStatus")
        status = "good" if tag == _GOOD else "unknown"
    else:
        raise DecodeError("certStatus is none", step="certStatus")
    this_update_ms = _generalized(fields)
    next_update_ms = None
    if fields.optional(0xA0):
        wrapper = fields.enter()
        next_update_ms = _generalized(wrapper)
        wrapper.finish()
    if fields.optional(0xA1):
        _extensions(fields.enter())
    fields.finish()
    return Single(wanted, status, reason, at_ms, this_update_ms, next_update_ms)


# --- what of it is to be believed -------------------------------------------------------------------------------------


def take_response(
    der: bytes, wanted: CertId, issuer: Certificate, nonce: bytes | None, utc_ms: int, *, nonce_required: bool = False
) -> tuple[Answer, Certificate | None]:
    """The answer in an OCSPResponse, after all checks, and the delegate's certificate if one signed it.

    Arguments:
        wanted: what was asked.
        issuer: of the certificate, verified.
        nonce: what was sent, or None.
        utc_ms: now.
        nonce_required: refuse an answer without the nonce.
    Errors:
        OcspError.
    """
    try:
        response = BasicResponse(der)
    except DecodeError as error:
        raise OcspError(Revocation.NO_OCSP, f"the answer is malformed: {error}", busy=True) from None
    if response.status:
        raise OcspError(Revocation.NO_OCSP, f"the responder says {_STATUS[response.status]}", busy=True)
    signer = _signer(response, issuer, utc_ms)
    if nonce is not None and response.nonce is not None and not equal(response.nonce, nonce):
        raise OcspError(Revocation.OCSP_SIGNATURE, "the answer is to another question: its nonce differs")
    if nonce is not None and response.nonce is None and nonce_required:
        raise OcspError(Revocation.OCSP_SIGNATURE, "the answer has no nonce")
    found = [single for single in response.singles if single.id == wanted]
    if not found:
        raise OcspError(Revocation.OCSP_UNKNOWN, "the answer is about other certificates")
    # Of several about one certificate the worst counts.
    single = min(found, key=lambda one: ("revoked", "unknown", "good").index(one.status))
    skew = limits.OUR_OCSP_SKEW * 1000
    if single.this_update_ms > utc_ms + skew:
        raise OcspError(Revocation.OCSP_EXPIRED, "the answer is from the future")
    following = single.next_update_ms
    if following is not None and (following < single.this_update_ms or following + skew < utc_ms):
        raise OcspError(Revocation.OCSP_EXPIRED, "the answer is out of date")
    if following is None and single.this_update_ms + limits.OUR_OCSP_AGE_MAX * 1000 + skew < utc_ms:
        raise OcspError(Revocation.OCSP_EXPIRED, "the answer is older than a day")
    if single.status == "unknown":
        raise OcspError(Revocation.OCSP_UNKNOWN, "the responder does not know the certificate")
    until_ms = utc_ms + limits.OUR_OCSP_REUSE * 1000 if following is None else following + skew
    until_ms = min(until_ms, utc_ms + limits.OUR_OCSP_AGE_MAX * 1000)
    revoked = single.status == "revoked"
    answer = Answer(single.reason if revoked else None, single.at_ms, single.this_update_ms, until_ms)
    return answer, None if signer is issuer else signer


def _is_named(response: BasicResponse, signer: Certificate) -> bool:
    """Whether the responder ID is this one's: its subject, or SHA-1 of its key."""
    if response.responder_name is not None:
        return response.responder_name == signer.subject
    found = hashlib.sha1(signer.public_key.octets, usedforsecurity=False).digest()
    return response.responder_key == found


def _signer(response: BasicResponse, issuer: Certificate, utc_ms: int) -> Certificate:
    """Who signed the response: the issuer or its delegate (RFC 6960 4.2.2.2), verified."""
    if _is_named(response, issuer):
        _verify(response, issuer)
        return issuer
    why = "the answer names a responder that is neither the issuer nor in it"
    for der in response.certificates[: limits.OUR_OCSP_DELEGATES_MAX]:
        try:
            delegate = Certificate(der, ca=True)
        except PeerError as error:
            why = f"the responder's certificate: {error}"
            continue
        if not _is_named(response, delegate):
            continue
        if delegate.issuer != issuer.subject:
            why = "the responder's certificate is of another issuer"
            continue
        try:
            issuer.public_key.verify(delegate.signature_algorithm, delegate.tbs, delegate.signature)
            delegate.check_valid(utc_ms)
        except PeerError as error:
            why = f"the responder's certificate: {error}"
            continue
        if delegate.extended is None or oids.OCSP_SIGNING not in delegate.extended:
            why = "the responder's certificate is not for OCSP signing"
            raise OcspError(Revocation.OCSP_SIGNATURE, why, also=Cert.OCSP_SIGNING)
        if delegate.key_usage is not None and not delegate.has_usage(oids.KU_DIGITAL_SIGNATURE):
            why = "the responder's certificate lacks digitalSignature"
            continue
        _verify(response, delegate)
        return delegate
    raise OcspError(Revocation.OCSP_SIGNATURE, why)


def _verify(response: BasicResponse, signer: Certificate) -> None:
    try:
        signer.public_key.verify(response.signature_algorithm, response.tbs, response.signature)
    except IntegrityError:
        raise OcspError(Revocation.OCSP_SIGNATURE, "the signature of the answer does not verify") from None
