"""Limits of the decoder and the encoder, what a caller may not ask for, carriers, and garbage by the megabyte."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import secpdu_values as values
from secpdu_requests import GCM16, NAMES, NULL, PARTS, PP, SIGN, decode, put, refused, request
from secpdu_values import MMS_PDU, control, handshake, token1, token3

from fastsec import limits
from fastsec._core.cursor import tlv
from fastsec.errors import DecodeError, LocalError
from fastsec.secpdu import der, fields
from fastsec.secpdu.model import (
    AeaOffer,
    AlgorithmId,
    Carrier,
    DhPublic,
    NonAeaOffer,
    SecPduKind,
)

# --- limits ---------------------------------------------------------------------------------------------------------

_OID_3 = b"\x06\x02\x2a\x03"


def _many(count: int) -> tuple[AlgorithmId, ...]:
    return tuple(AlgorithmId(f"1.3.{n}") for n in range(count))


LIMITS: list[tuple[str, Callable[[int], bytes], int]] = [
    ("pkCert", lambda n: put("pkCert", tlv(0x04, b"c" * n)), limits.SPEC_CERTIFICATE_MAX),
    ("attCert", lambda n: put("attCert", tlv(0x04, b"c" * n)), limits.OUR_ATT_CERT_MAX),
    ("certPath", lambda n: put("certPath", tlv(0x30, tlv(0x04, b"c") * n)), limits.OUR_CERT_PATH_COUNT),
    ("certPath", lambda n: put("certPath", tlv(0x30, tlv(0x04, b"c" * n))), limits.SPEC_CERTIFICATE_MAX),
    (
        "certPath",
        lambda n: put("certPath", tlv(0x30, tlv(0x04, b"c" * 8000) * 2 + tlv(0x04, b"c" * (n - 16_012)))),
        limits.OUR_CERT_PATH_MAX,
    ),
    (
        "dhKey",
        lambda n: put("dhKey", tlv(0x30, b"".join(tlv(0x30, bytes([2, 1, g, 4, 1, 0])) for g in range(n)))),
        limits.OUR_DH_SET_MAX,
    ),
    (
        "dhKey",
        lambda n: put("dhKey", tlv(0x30, tlv(0x30, b"\x02\x01\x0e" + tlv(4, bytes(n))))),
        limits.OUR_DH_PUBLIC_MAX,
    ),
    (
        "encr-mode",
        lambda n: put("encr-mode", tlv(0x30, b"".join(a.der for a in _many(n)))),
        limits.OUR_LIST_MAX,
    ),
    (
        "encr-mode",
        lambda n: put("encr-mode", tlv(0xA0, tlv(0xA0, b"".join(a.der for a in _many(n))) + tlv(0xA1, GCM16.der))),
        limits.OUR_LIST_MAX,
    ),
    (
        "encr-mode",
        lambda n: put("encr-mode", tlv(0xA0, tlv(0xA1, b"".join(a.der for a in _many(n))))),
        limits.OUR_LIST_MAX,
    ),
    (
        "hmac",
        lambda n: put("hmac", tlv(0x30, _OID_3 + tlv(0x04, bytes(n - 8)))),
        limits.OUR_ALGORITHM_ID_MAX,
    ),
    (
        "sign",
        lambda n: request(b"".join(PARTS), sign=tlv(0x30, values.ECDSA.der + tlv(0x04, b"s" * n))),
        limits.OUR_SIGNATURE_MAX,
    ),
    (
        "",
        lambda n: request(b"".join(PARTS), after=der.wrap_appl_data("x" * n, b""), pp=tlv(0x0C, b"x" * n)),
        limits.OUR_PP_MAX,
    ),
]


@pytest.mark.parametrize(("name", "make", "limit"), LIMITS)
def test_limits(name: str, make: Callable[[int], bytes], limit: int) -> None:
    decode(make(limit))
    with pytest.raises(DecodeError) as caught:
        der.decode(Carrier.ASSOCIATE_REQ, make(limit + 1))
    assert name in caught.value.step


def test_what_is_over_a_limit_is_not_emitted() -> None:
    kinds = [
        token1(pk_cert=b"c" * (limits.SPEC_CERTIFICATE_MAX + 1)),
        token1(cert_path=(b"c",) * (limits.OUR_CERT_PATH_COUNT + 1)),
        token1(att_cert=b"c" * (limits.OUR_ATT_CERT_MAX + 1)),
        token1(dh_key=tuple(DhPublic(n, b"") for n in range(limits.OUR_DH_SET_MAX + 1))),
        token1(dh_key=()),
        token1(dh_key=(DhPublic(14, bytes(limits.OUR_DH_PUBLIC_MAX + 1)),)),
        token1(dh_key=(DhPublic(65_536, b""),)),
        token1(cert_path=(b"c" * 5500,) * 3),
        token1(cert_path=(b"c" * (limits.SPEC_CERTIFICATE_MAX + 1),)),
        token1(encr_mode=AeaOffer(_many(limits.OUR_LIST_MAX + 1))),
        token1(encr_mode=AeaOffer(())),
        token1(encr_mode=NonAeaOffer(None, ())),
        token1(time="20261120T114419Z"),
    ]
    for token in kinds:
        with pytest.raises(LocalError):
            der.encode_handshake_tbs(token, MMS_PDU)
    tbs = der.encode_handshake_tbs(token1(), MMS_PDU)
    for pp, sign in (("x" * (limits.OUR_PP_MAX + 1), b"s"), (None, b"s"), ("x", b"s" * (limits.OUR_SIGNATURE_MAX + 1))):
        with pytest.raises(LocalError):
            der.assemble(SecPduKind.HANDSHAKE_REQ, pp, tbs, values.ECDSA, sign)


# --- the caller's mistakes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "appl_data", [b"", b"\xa0", b"\xa0\x02x", b"\xa0\x01xy", NULL, tlv(0x30, b""), b"\xa0\x80\0\0"]
)
def test_appl_data_must_be_one_tlv_of_its_classes(appl_data: bytes) -> None:
    with pytest.raises(LocalError):
        der.encode_handshake_tbs(token1(), appl_data)
    with pytest.raises(LocalError):
        der.encode_control_tbs(SecPduKind.APPL_ABORT, token3(), appl_data=appl_data)


def test_what_a_kind_does_not_carry() -> None:
    with pytest.raises(LocalError):
        der.encode_control_tbs(SecPduKind.RELEASE_REQ, token3(), diag=1)
    with pytest.raises(LocalError):
        der.encode_control_tbs(SecPduKind.DT_SEC_ABORT, token3(), appl_data=MMS_PDU)
    with pytest.raises(LocalError):
        der.encode_control_tbs(SecPduKind.DT_SEC_ABORT, token3(), diag=-1)
    with pytest.raises(LocalError):
        der.encode_control_tbs(SecPduKind.HANDSHAKE_REQ, token3())
    with pytest.raises(LocalError):
        der.assemble(SecPduKind.CLEAR_TRANSFER, None, b"", values.RSA, b"")
    with pytest.raises(LocalError):
        der.assemble(SecPduKind.RELEASE_REQ, "pp", b"", values.RSA, b"")
    with pytest.raises(LocalError):
        der.decode(Carrier.DATA, b"")


# --- carriers and kinds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", values.SIGNED_ROWS, ids=lambda row: row.kind.value)
@pytest.mark.parametrize("carrier", [carrier for carrier in Carrier if carrier is not Carrier.DATA])
def test_a_secpdu_in_the_wrong_carrier(row: fields.SecPdu, carrier: Carrier) -> None:
    """It is refused or taken for the kind that this carrier and tag stand for; only the engine's state forbids that."""
    octets = values.sample(row)
    stands_for = {(one.carrier, one.tag): one for one in values.SIGNED_ROWS}.get((carrier, row.tag))
    if stands_for is None or stands_for.token is not row.token:
        refused(octets, carrier=carrier)
    else:
        assert der.decode(carrier, octets).kind is stands_for.kind


def test_osi_diagnostics_are_told_apart() -> None:
    for octets in (b"\xa3\x02\x80\x00", b"\x83\x01\x05"):
        assert der.is_osi_diagnostics(octets)
        refused(octets, carrier=Carrier.ABORT)
    assert not der.is_osi_diagnostics(control(SecPduKind.APPL_ABORT, token3()))
    assert not der.is_osi_diagnostics(b"")


@pytest.mark.parametrize("octets", [b"", b"\x30", b"\x31\x00", b"\xa3\x00", b"\x30\x02\x30\x00"])
def test_kind_of_what_is_no_secpdu(octets: bytes) -> None:
    for carrier in (Carrier.DATA, Carrier.ASSOCIATE_RSP):
        with pytest.raises(DecodeError):
            der.kind_of(carrier, octets)


@pytest.mark.parametrize(
    ("second", "kind"),
    [
        (tlv(0x04, b"x"), SecPduKind.ENCR_TRANSFER),
        (tlv(0xA0, b"x"), SecPduKind.CLEAR_TRANSFER),
        (tlv(0x8B, b""), SecPduKind.CLEAR_TRANSFER),
        (tlv(0xC0, b"x"), SecPduKind.CLEAR_TRANSFER),
        (NULL, SecPduKind.CLEAR_TRANSFER),
        (tlv(0x30, b""), None),
        (tlv(0x02, b"\x01"), None),
        (tlv(0xC1, b""), None),
    ],
)
@pytest.mark.parametrize("indefinite", [False, True])
def test_kind_of_transfers(second: bytes, kind: SecPduKind | None, indefinite: bool) -> None:
    content = tlv(0x30, b"\x0c\x011") + second
    tbp = b"\x30\x80" + content + b"\0\0" if indefinite else tlv(0x30, content)
    octets = tlv(0x30, tbp)
    if kind is None:
        with pytest.raises(DecodeError):
            der.kind_of(Carrier.DATA, octets)
    else:
        assert der.kind_of(Carrier.DATA, octets) is kind


# --- the client's number for a reject -------------------------------------------------------------------------------


def test_the_number_of_a_request_that_does_not_decode() -> None:
    broken = [b"\x18\x01x" if own == "time" else part for own, part in zip(NAMES, PARTS, strict=True)]
    octets = request(b"".join(broken))
    refused(octets)
    assert der.decode_client_number(octets) == "17"
    assert der.decode_client_number(handshake(token1(asso_id="0"))) == "0"
    for asso_id in ("17:5", "0:0"):
        assert der.decode_client_number(handshake(token1(asso_id=asso_id))) is None
    for octets in (b"", b"\x30", b"\x30\x00", request(b""), b"garbage", handshake(token1())[:40]):
        assert der.decode_client_number(octets) is None
    for text in (b"017", b"1000", b"x", b"", b"\xb2"):
        broken[NAMES.index("assoID")] = tlv(0x0C, text)
        assert der.decode_client_number(request(b"".join(broken))) is None


# --- size -----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "unit", [b"\x04\x00", b"\x30\x80", b"\x30\x82\xff\xff", b"\xa0\x00", b"\x0c\x00", b"\x1f\x81\x01\x00"]
)
def test_garbage_by_the_megabyte(unit: bytes) -> None:
    """Takes seconds only if the work per octet is constant."""
    garbage = unit * (2_000_000 // len(unit))
    for octets in (
        garbage,
        tlv(0x30, garbage),
        tlv(0x30, PP + garbage),
        tlv(0x30, PP + tlv(0x30, garbage) + SIGN),
        tlv(0x30, PP + b"\x30\x80" + garbage + b"\0\0" + SIGN),
        tlv(0x30, PP + tlv(0x30, tlv(0x30, garbage)) + SIGN),
        put("dhKey", tlv(0x30, garbage)),
        put("encr-mode", tlv(0x30, garbage)),
        put("certPath", tlv(0x30, garbage)),
        request(b"".join(PARTS), NULL + garbage, sign=b""),
    ):
        refused(octets)
        assert der.decode_client_number(octets) in (None, "17")
        with pytest.raises(DecodeError):
            der.kind_of(Carrier.DATA, octets)
