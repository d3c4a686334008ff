"""OCSP requests and answers: against ``cryptography``, and every check with what it is there for."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pki_forge as forge
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from pki_forge import DAY, NOW

import ocsp_forge as make
from fastsec import limits
from fastsec._core.cursor import tlv
from fastsec.errors import DecodeError
from fastsec.pki import builder, oids
from fastsec.pki.certificate import Certificate
from fastsec.pki.findings import Cert, Revocation
from fastsec.pki.ocsp import BasicResponse, OcspError, cert_id, make_request, take_response
from fastsec.pki.revocation import Answer
from ocsp_forge import GOOD, UNKNOWN, Responder, id_of, nonce_extension, oid, revoked, single

ROOT = forge.root()
LEAF = forge.leaf(ROOT)
ISSUER = Certificate(ROOT.certificate, ca=True)
WANTED = id_of(LEAF, ROOT)
OWN = make.own(ROOT)
DELEGATE = make.delegate(ROOT)
NONCE = bytes(range(32))
HOUR = 3_600_000


def take(der: bytes, nonce: bytes | None = NONCE, **more: Any) -> Answer:
    return take_response(der, WANTED, ISSUER, nonce, NOW, **more)[0]


def fails(der: bytes, number: int, nonce: bytes | None = NONCE, **more: Any) -> OcspError:
    with pytest.raises(OcspError) as caught:
        take(der, nonce, **more)
    assert caught.value.number == number, caught.value
    return caught.value


# --- requests --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
@pytest.mark.parametrize("kind", ["p256", "brainpool", "rsa2048"])
@pytest.mark.parametrize("nonce", [None, NONCE])
def test_requests_as_another_library_makes_and_reads_them(algorithm: str, kind: str, nonce: bytes | None) -> None:
    """Annex G subjects and brainpool keys included: the certID is of the issuer and the serial number alone."""
    root = forge.root(key=builder.generate_key(kind))
    leaf = forge.leaf(root)
    wanted = cert_id(Certificate(leaf).serial, Certificate(root.certificate, ca=True), algorithm)
    ours = make_request(wanted, nonce)
    chosen = hashes.SHA1() if algorithm == "sha1" else hashes.SHA256()
    building = ocsp.OCSPRequestBuilder().add_certificate(
        x509.load_der_x509_certificate(leaf), x509.load_der_x509_certificate(root.certificate), chosen
    )
    if nonce is not None:
        building = building.add_extension(x509.OCSPNonce(nonce), critical=False)
    assert ours == building.build().public_bytes(serialization.Encoding.DER)
    read = ocsp.load_der_ocsp_request(ours)
    assert read.serial_number == int.from_bytes(Certificate(leaf).serial, "big")


# --- answers ---------------------------------------------------------------------------------------------------------
def test_good_and_revoked() -> None:
    assert take(OWN.answer(single(WANTED), nonce=NONCE)) == Answer(None, 0, NOW - 1000, NOW + DAY)
    assert take(OWN.answer(single(WANTED, revoked(NOW - DAY)), nonce=NONCE)).reason == 0
    answer = take(OWN.answer(single(WANTED, revoked(NOW - DAY, 1)), nonce=NONCE))
    assert (answer.reason, answer.at_ms) == (1, NOW - DAY)
    assert take(DELEGATE.answer(single(WANTED), nonce=NONCE)).reason is None
    assert take(DELEGATE.having(by_key=True).answer(single(WANTED), nonce=NONCE)).reason is None
    assert take(OWN.having(by_key=True).answer(single(WANTED), nonce=NONCE)).reason is None


def test_the_signer_is_told() -> None:
    assert take_response(OWN.answer(single(WANTED)), WANTED, ISSUER, None, NOW)[1] is None
    found = take_response(DELEGATE.answer(single(WANTED)), WANTED, ISSUER, None, NOW)[1]
    assert found is not None
    assert found.der == DELEGATE.chain[0]
    assert found.no_check


@pytest.mark.parametrize("kind", ["p256", "brainpool", "rsa2048"])
def test_delegates_of_every_kind_of_key(kind: str) -> None:
    signer = make.delegate(ROOT, key=builder.generate_key(kind))
    assert take(signer.answer(single(WANTED), nonce=NONCE)).reason is None


def test_a_responder_whose_name_is_an_object_identifier() -> None:
    """Which ``cryptography`` cannot name: the reason for our own decoder."""
    signer = make.delegate(ROOT, subject=builder.osi_subject(forge.OSI))
    der = signer.answer(single(WANTED), nonce=NONCE)
    with pytest.raises(ValueError, match="UnexpectedTag"):
        _ = ocsp.load_der_ocsp_response(der).responder_name
    assert take(der).reason is None


@pytest.mark.parametrize("kind", ["p256", "brainpool", "rsa2048"])
@pytest.mark.parametrize("encoding", [ocsp.OCSPResponderEncoding.NAME, ocsp.OCSPResponderEncoding.HASH])
@pytest.mark.parametrize("status", list(ocsp.OCSPCertStatus))
def test_answers_of_another_library(kind: str, encoding: Any, status: Any) -> None:
    root = forge.root(key=builder.generate_key(kind))
    leaf = forge.leaf(root)
    certificate, issuer = map(x509.load_der_x509_certificate, (leaf, root.certificate))
    moment = datetime.datetime.fromtimestamp(NOW / 1000, datetime.UTC)
    is_revoked = status is ocsp.OCSPCertStatus.REVOKED
    theirs = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            certificate,
            issuer,
            hashes.SHA256(),
            status,
            moment,
            moment + datetime.timedelta(hours=1),
            moment if is_revoked else None,
            x509.ReasonFlags.key_compromise if is_revoked else None,
        )
        .responder_id(encoding, issuer)
        .add_extension(x509.OCSPNonce(NONCE), critical=False)
        .sign(root.key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    authority = Certificate(root.certificate, ca=True)
    wanted = cert_id(Certificate(leaf).serial, authority, "sha256")
    if status is ocsp.OCSPCertStatus.UNKNOWN:
        with pytest.raises(OcspError) as caught:
            take_response(theirs, wanted, authority, NONCE, NOW)
        assert caught.value.number == Revocation.OCSP_UNKNOWN
        return
    answer, _ = take_response(theirs, wanted, authority, NONCE, NOW, nonce_required=True)
    assert answer.reason == (1 if is_revoked else None)
    assert answer.until_ms == NOW + HOUR + limits.OUR_OCSP_SKEW * 1000


def test_our_answers_are_read_by_another_library() -> None:
    """So that what the tests forge is an answer in everybody's eyes."""
    read = ocsp.load_der_ocsp_response(DELEGATE.answer(single(WANTED, revoked(NOW - DAY, 4)), nonce=NONCE))
    assert read.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert read.revocation_reason is x509.ReasonFlags.superseded
    assert read.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == NONCE


# --- signature and delegate ------------------------------------------------------------------------------------------
def test_forged() -> None:
    other = forge.root()  # of the same name
    fails(make.own(other).answer(single(WANTED), nonce=NONCE), Revocation.OCSP_SIGNATURE)
    good = OWN.answer(single(WANTED), nonce=NONCE)
    fails(good[:-1] + bytes([good[-1] ^ 1]), Revocation.OCSP_SIGNATURE)
    delegated = DELEGATE.having(key=builder.generate_key("p256"))  # the delegate's certificate, another's signature
    fails(delegated.answer(single(WANTED), nonce=NONCE), Revocation.OCSP_SIGNATURE)
    changed = good.replace(GOOD + b"\x18\x0f2026", b"\x82\x00\x18\x0f2026")
    assert changed != good
    fails(changed, Revocation.OCSP_SIGNATURE)


def wrong(**fields: Any) -> Responder:
    return make.delegate(ROOT, **fields)


@pytest.mark.parametrize(
    "signer",
    [
        make.delegate(forge.root("another")),
        make.delegate(forge.root()),  # a namesake's
        wrong(not_after_ms=NOW - HOUR),
        wrong(not_before_ms=NOW + HOUR),
        wrong(usage=(oids.KU_KEY_AGREEMENT,)),
        wrong(issuer=builder.text_name(cn="another name of the same key")),
        make.delegate(forge.intermediate(ROOT)),  # of a sub-authority, not of the very issuer
    ],
    ids=["stranger", "namesake", "expired", "early", "usage", "other name", "sub-authority"],
)
def test_delegates_that_may_not(signer: Responder) -> None:
    assert fails(signer.answer(single(WANTED), nonce=NONCE), Revocation.OCSP_SIGNATURE).also == 0


@pytest.mark.parametrize("purposes", [None, (oids.SERVER_AUTH,), (oids.ANY_PURPOSE,)])
def test_a_delegate_without_the_purpose(purposes: tuple[str, ...] | None) -> None:
    """An ordinary certificate of the same authority, the peer's own say, must not vouch for itself."""
    found = fails(wrong(purposes=purposes).answer(single(WANTED), nonce=NONCE), Revocation.OCSP_SIGNATURE)
    assert found.also == Cert.OCSP_SIGNING


def test_a_responder_that_is_not_named() -> None:
    other = make.delegate(ROOT, subject=builder.text_name(cn="other"))
    fails(DELEGATE.answer(single(WANTED), nonce=NONCE, responder=other.id), Revocation.OCSP_SIGNATURE)
    fails(DELEGATE.having(chain=()).answer(single(WANTED), nonce=NONCE), Revocation.OCSP_SIGNATURE)
    # The one that is named and in order is found among others, but not among any number.
    crowd = tuple(make.delegate(ROOT, subject=builder.text_name(cn=f"o{n}")).chain[0] for n in range(4))
    assert take(DELEGATE.having(chain=(*crowd[:3], *DELEGATE.chain)).answer(single(WANTED), nonce=NONCE)).reason is None
    fails(
        DELEGATE.having(chain=(*crowd, *DELEGATE.chain)).answer(single(WANTED), nonce=NONCE), Revocation.OCSP_SIGNATURE
    )


def test_a_weak_signature() -> None:
    """SHA-1 is none of the algorithms; the answer counts as unreadable."""
    sha1_rsa = bytes.fromhex("300d06092a864886f70d0101050500")
    good = OWN.answer(single(WANTED), nonce=NONCE)
    assert builder.signature_algorithm(ROOT.key, "sha256") in good
    signer = OWN.having(key=forge.RSA_2048)
    der = signer.answer(single(WANTED), nonce=NONCE).replace(
        builder.signature_algorithm(forge.RSA_2048, "sha256"), sha1_rsa
    )
    assert "1.2.840.113549.1.1.5 is not supported" in str(fails(der, Revocation.NO_OCSP))


# --- what it is about ------------------------------------------------------------------------------------------------
def test_nonces() -> None:
    other = OWN.answer(single(WANTED), nonce=bytes(32))
    assert "nonce" in str(fails(other, Revocation.OCSP_SIGNATURE))
    without = OWN.answer(single(WANTED))
    assert take(without).reason is None
    assert "no nonce" in str(fails(without, Revocation.OCSP_SIGNATURE, nonce_required=True))
    assert take(other, nonce=None).reason is None  # none was sent


@pytest.mark.parametrize(
    "change",
    [
        lambda id: id._replace(serial=b"\x01"),
        lambda id: id._replace(name_hash=bytes(20)),
        lambda id: id._replace(key_hash=bytes(20)),
        lambda id: id._replace(algorithm="2.16.840.1.101.3.4.2.1"),
    ],
)
def test_about_another_certificate(change: Callable[[Any], Any]) -> None:
    fails(OWN.answer(single(change(WANTED)), nonce=NONCE), Revocation.OCSP_UNKNOWN)
    assert take(OWN.answer(single(change(WANTED), UNKNOWN), single(WANTED), nonce=NONCE)).reason is None


def test_of_several_about_one_the_worst_counts() -> None:
    assert take(OWN.answer(single(WANTED), single(WANTED, revoked()), nonce=NONCE)).reason == 0
    fails(OWN.answer(single(WANTED, UNKNOWN), single(WANTED), nonce=NONCE), Revocation.OCSP_UNKNOWN)


def test_nothing_in_it() -> None:
    fails(OWN.answer(nonce=NONCE), Revocation.OCSP_UNKNOWN)


SKEW = limits.OUR_OCSP_SKEW * 1000


@pytest.mark.parametrize(
    ("this", "following", "good"),
    [
        (NOW + SKEW, NOW + DAY, True),
        (NOW + SKEW + 1000, NOW + DAY, False),
        (NOW - DAY, NOW - SKEW, True),
        (NOW - DAY, NOW - SKEW - 1000, False),
        (NOW - 1000, NOW - 2000, False),
        (NOW - DAY - SKEW, None, True),
        (NOW - DAY - SKEW - 1000, None, False),
    ],
)
def test_times(this: int, following: int | None, good: bool) -> None:
    der = OWN.answer(single(WANTED, this=this, following=following), nonce=NONCE)
    if good:
        assert take(der).reason is None
    else:
        fails(der, Revocation.OCSP_EXPIRED)


def test_how_long_an_answer_is_kept() -> None:
    def until(following: int | None) -> int:
        return take(OWN.answer(single(WANTED, following=following), nonce=NONCE)).until_ms - NOW

    assert until(None) == limits.OUR_OCSP_REUSE * 1000
    assert until(NOW + HOUR) == HOUR + SKEW
    assert until(NOW + 100 * DAY) == DAY


@pytest.mark.parametrize("status", [1, 2, 3, 5, 6])
def test_responders_that_decline(status: int) -> None:
    assert fails(tlv(0x30, tlv(0x0A, bytes([status]))), Revocation.NO_OCSP).busy
    # A signed answer behind such a status is not one.
    assert fails(OWN.answer(single(WANTED), nonce=NONCE, status=status), Revocation.NO_OCSP).busy


# --- form ------------------------------------------------------------------------------------------------------------
def malformed(der: bytes) -> None:
    with pytest.raises(DecodeError):
        BasicResponse(der)
    assert fails(der, Revocation.NO_OCSP).busy


def data(*, first: bytes = b"", responder: bytes = OWN.id, rest: bytes = b"") -> bytes:
    return tlv(0x30, first + responder + make.time(NOW) + tlv(0x30, single(WANTED)) + rest)


def test_forms_that_are_refused() -> None:
    good = OWN.answer(single(WANTED), nonce=NONCE)
    assert BasicResponse(good).nonce == NONCE
    assert BasicResponse(OWN.wrap(data(first=tlv(0xA0, b"\x02\x01\x00")))).singles  # DER would leave it out
    malformed(b"")
    malformed(good + b"\x00")
    malformed(good[:-1])
    malformed(tlv(0x30, b"\x0a\x01\x04"))  # 4 is not used
    malformed(tlv(0x30, b"\x0a\x01\x00"))
    malformed(tlv(0x30, b"\x0a\x01\x00" + tlv(0xA0, tlv(0x30, oid("1.2.3") + tlv(0x04, b"\x30\x00")))))
    malformed(OWN.wrap(data(first=tlv(0xA0, b"\x02\x01\x01"))))
    malformed(OWN.wrap(data(responder=tlv(0xA3, b"\x30\x00"))))
    malformed(OWN.wrap(data(rest=tlv(0xA2, b"\x05\x00"))))
    critical = tlv(0x30, oid("1.2.3") + b"\x01\x01\xff" + tlv(0x04, b"\x05\x00"))
    malformed(OWN.wrap(data(rest=tlv(0xA1, tlv(0x30, critical)))))
    malformed(OWN.wrap(data(rest=tlv(0xA1, tlv(0x30, nonce_extension(NONCE) * 2)))))
    malformed(OWN.answer(single(WANTED, extra=tlv(0xA1, tlv(0x30, critical)))))
    malformed(OWN.answer(single(WANTED, revoked(NOW, 7))))
    malformed(OWN.answer(single(WANTED, b"\x83\x00")))
    malformed(OWN.answer(single(WANTED, b"\x80\x01\x00")))
    malformed(OWN.answer(*[single(WANTED)] * (limits.OUR_OCSP_SINGLES_MAX + 1)))
    malformed(OWN.answer(single(WANTED), extensions=tlv(0xA1, tlv(0x30, b"")) + bytes(limits.OUR_OCSP_RESPONSE_MAX)))


def test_every_octet_counts() -> None:
    good = OWN.answer(single(WANTED), nonce=NONCE)
    for index in range(len(good)):
        for bit in (1, 0x80):
            changed = good[:index] + bytes([good[index] ^ bit]) + good[index + 1 :]
            with pytest.raises(OcspError):
                take(changed, nonce_required=True)
