"""OCSP answers as they come and signed anew, URLs in certificates, and the HTTP that brings lists and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

import ocsp_forge as make
from engine_pair import CLIENT, UTC, authority, credential
from fastsec import limits
from fastsec._core.cursor import Reader, tlv
from fastsec._core.pk import check_der
from fastsec.aio.fetch import Fetched, FetchError, read_answer
from fastsec.errors import DecodeError, PeerError
from fastsec.pki import builder, oids
from fastsec.pki.certificate import Certificate, distribution_points, responders
from fastsec.pki.findings import Revocation
from fastsec.pki.ocsp import BasicResponse, OcspError, cert_id, take_response
from fastsec.pki.revocation import REASONS, web_address
from fuzz.kit import Bits, Target, edited, packed, tree

LEAF: Final = Certificate(credential(CLIENT).certificate)
ISSUER: Final = Certificate(authority().root, ca=True)
WANTED: Final = cert_id(LEAF.serial, ISSUER, "sha1")
NONCE: Final = bytes(range(32))
OWN: Final = make.Responder(ISSUER.subject, authority()._key)
_PURPOSE: Final = builder.extended_key_usage(oids.OCSP_SIGNING)


def _delegate() -> make.Responder:
    name = builder.text_name(cn="responder")
    issued = authority().issue("responder.ocsp", name, (_PURPOSE,), "p256", 30)
    return make.Responder(name, issued.key, (issued.certificate,))


DELEGATE: Final = _delegate()
SIGNERS: Final = (OWN, DELEGATE, DELEGATE.having(by_key=True), OWN.having(chain=DELEGATE.chain))


def ocsp_response(data: bytes) -> None:
    """An OCSPResponse as it comes."""
    try:
        found = BasicResponse(data)
    except DecodeError:
        return
    assert tree(data) == data
    assert len(found.singles) <= limits.OUR_OCSP_SINGLES_MAX
    if not found.status:
        assert (found.responder_name is None) != (found.responder_key is None)
        assert found.tbs in data
        assert found.signature in data
    for single in found.singles:
        assert single.status in ("good", "revoked", "unknown")
        assert single.reason in REASONS


def ocsp_answer(data: bytes) -> None:
    """ResponseData that the input changed, signed by the issuer or its delegate: what is accepted is about what was
    asked, current, and has no other nonce; never another exception."""
    bits = Bits(data)
    signer = SIGNERS[bits.octet() % 4]
    status = (make.GOOD, make.revoked(UTC, 1), make.UNKNOWN, make.GOOD)[bits.octet() % 4]
    at = UTC + bits.signed() * 10_000_000
    tbs = BasicResponse(signer.answer(make.single(WANTED, status, at, at + 90_000_000), nonce=NONCE)).tbs
    reader = Reader(tbs)
    reader.expect(0x30)
    der = signer.wrap(tlv(0x30, edited(bits, reader.value())))
    try:
        answer, delegate = take_response(der, WANTED, ISSUER, NONCE, UTC, nonce_required=bool(bits.octet() & 1))
    except OcspError as error:
        assert Revocation.NO_OCSP <= error.number <= Revocation.OCSP_SIGNATURE
        return
    found = BasicResponse(der)
    key = (delegate or ISSUER).public_key.octets
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    point.verify(found.signature, found.tbs, ec.ECDSA(SHA256()))
    assert found.nonce in (None, NONCE)
    singles = [single for single in found.singles if single.id == WANTED]
    assert any(single.status == "revoked" for single in singles) == (answer.reason is not None)
    assert not any(single.status == "unknown" for single in singles) or answer.reason is not None
    assert answer.this_update_ms <= UTC + limits.OUR_OCSP_SKEW * 1000
    assert UTC <= answer.until_ms <= UTC + limits.OUR_OCSP_AGE_MAX * 1000


def points(data: bytes) -> None:
    """CRLDistributionPoints and authorityInfoAccess: few URLs, of printable ASCII; which of them are http is plain."""
    for read in (distribution_points, responders):
        reader = Reader(data)
        try:
            check_der(data)
            urls = read(reader)
        except PeerError:
            continue
        assert len(urls) <= 8
        for url in urls:
            assert url.encode("ascii") in data
            assert all("!" <= c <= "~" for c in url)
            address = web_address(url)
            if address is not None:
                host, port = address
                assert url.startswith(("http:", "HTTP:", "Http:")) or url[:5].lower() == "http:"
                assert host
                assert 1 <= port <= 65535


def http_answer(data: bytes) -> None:
    """An HTTP answer with whatever framing: the body, or a word on what is wrong; never more than is allowed."""

    async def main() -> Fetched | None:
        reader = asyncio.StreamReader(limit=16 * 1024)
        reader.feed_data(data)
        reader.feed_eof()
        try:
            return await read_answer(reader, 500)
        except (FetchError, EOFError, asyncio.LimitOverrunError):
            return None

    found = _LOOP.run_until_complete(main())
    if found is not None:
        assert found.status in (200, 304)
        assert len(found.body) <= 500
        assert all(name == name.lower() for name in found.headers)


_LOOP: Final = asyncio.new_event_loop()


def _responses() -> Iterable[bytes]:
    for signer in SIGNERS:
        yield signer.answer(make.single(WANTED, make.GOOD, UTC, UTC + 1000), nonce=NONCE)
    yield OWN.answer(make.single(WANTED, make.revoked(UTC, 4), UTC, None), make.single(WANTED, make.UNKNOWN, UTC, None))
    yield tlv(0x30, b"\x0a\x01\x03")


def _answers() -> Iterable[bytes]:
    for signer in range(4):
        for status in range(3):
            yield packed(signer, status, 0, 0, 60, 3, 1, 0, 1)
            yield packed(signer, status, 0, 1, 20, 0x80, 0, 90, 5, 0, 0)


def _points() -> Iterable[bytes]:
    yield builder.crl_distribution_points("http://a.example/x.crl", "ldap://b/").value
    yield builder.authority_info_access("http://a.example:8080/ocsp?x").value
    point = tlv(0x30, tlv(0xA0, tlv(0xA0, tlv(0x86, b"http://[::1]:99/"))) + tlv(0x81, b"\x01\x02"))
    yield tlv(0x30, point + tlv(0x30, tlv(0xA2, b"")))


def _http() -> Iterable[bytes]:
    yield b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: "x"\r\n\r\nabc'
    yield b"HTTP/1.0 200\r\n\r\nuntil the end"
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n"
    yield b"HTTP/1.1 304 Not Modified\r\n\r\n"
    yield b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n"


def load() -> dict[str, Target]:
    """The targets of this module."""
    return {
        "ocsp_response": Target(ocsp_response, 1400, _responses, 0),
        "ocsp_answer": Target(ocsp_answer, 64, _answers),
        "points": Target(points, 200, _points, 0),
        "http_answer": Target(http_answer, 300, _http, 0),
    }
