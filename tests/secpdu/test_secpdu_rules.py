"""Each syntax rule of the specification's encoding section, with the case that breaks it."""

from __future__ import annotations

import pytest
import secpdu_values as values
from secpdu_requests import GCM16, NAMES, NULL, PARTS, PP, SIGN, components, decode, refused, request
from secpdu_values import MMS_PDU, handshake, token1, token3

from fastsec import profile
from fastsec._core.cursor import tlv
from fastsec.errors import DecodeError, LocalError
from fastsec.secpdu import der, fields
from fastsec.secpdu.model import (
    AeaOffer,
    AlgorithmId,
    Carrier,
    Control,
    DhPublic,
    NonAeaOffer,
    SecPduKind,
    algorithm_id,
)


def test_the_parts_make_the_whole() -> None:
    assert len(PARTS) == len(NAMES)
    assert decode(request(b"".join(PARTS))).token1 == token1()


# --- components -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", fields.CLEAR_TOKEN_1, ids=lambda field: field.name)
def test_a_missing_component(field: fields.Field) -> None:
    left = [part for name, part in zip(NAMES, PARTS, strict=True) if name != field.name]
    octets = request(b"".join(left))
    if field.optional:
        assert getattr(decode(octets).token1, field.attribute) in (None, ())
    else:
        refused(octets, "HandshakeReq.tbs.token1.")


@pytest.mark.parametrize("name", NAMES)
def test_a_component_twice(name: str) -> None:
    twice = [part for own, part in zip(NAMES, PARTS, strict=True) for _ in range(1 + (own == name))]
    octets = request(b"".join(twice))
    # What follows the last component, here one that is in its place, is an extension nobody reads.
    if name == "attCert":
        assert decode(octets).token1 == token1()
    elif name == "confParams":
        assert decode(octets).token1 == token1(att_cert=None)
    else:
        refused(octets, "HandshakeReq.tbs.token1.")


@pytest.mark.parametrize("first", range(len(PARTS) - 1))
def test_components_in_the_wrong_order(first: int) -> None:
    swapped = [*PARTS[:first], PARTS[first + 1], PARTS[first], *PARTS[first + 2 :]]
    if NAMES[first] == "confParams":  # attCert is then absent, and what comes instead of it an extension
        refused(request(b"".join(swapped)), "HandshakeReq.tbs.token1.confParams")
    else:
        refused(request(b"".join(swapped)), "HandshakeReq.tbs.token1.")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "attCert"])
@pytest.mark.parametrize("tag", [0x01, 0x06, 0x31, 0x84, 0xA5, 0x1F])
def test_a_component_with_a_wrong_tag(name: str, tag: int) -> None:
    changed = [bytes([tag]) + part[1:] if own == name else part for own, part in zip(NAMES, PARTS, strict=True)]
    refused(request(b"".join(changed)), "HandshakeReq.tbs.token1.")


def test_steps_name_the_component() -> None:
    changed = [tlv(0x18, b"20261320114419Z") if name == "time" else p for name, p in zip(NAMES, PARTS, strict=True)]
    refused(request(b"".join(changed)), "HandshakeReq.tbs.token1.time")


# --- extension places -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extension", [tlv(0x04, b"x"), tlv(0x85, b"x"), tlv(0x30, tlv(0x02, b"\x01")), tlv(0x5F21, b"")]
)
def test_unknown_components_are_covered_and_ignored(extension: bytes) -> None:
    plain = decode(request(b"".join(PARTS)))
    in_token = decode(request(b"".join(PARTS) + extension))
    assert in_token.token1 == plain.token1
    assert extension in in_token.tbs
    after_data = decode(request(b"".join(PARTS), MMS_PDU + extension))
    assert after_data.appl_data == MMS_PDU
    assert after_data.tbs.endswith(MMS_PDU + extension)


def test_no_extension_place_elsewhere() -> None:
    extra = tlv(0x04, b"x")
    content = b"".join(PARTS)
    refused(request(content, sign=SIGN + extra))
    refused(request(content, sign=tlv(0x30, values.ECDSA.der + tlv(0x04, b"sig") + extra)))
    refused(request(content) + extra)
    refused(request(content) + b"\0")
    refused(request(content, pp=PP + extra))
    for name, part in (("dhKey", tlv(0x30, tlv(0x30, b"\x02\x01\x17\x04\x01x" + extra))), ("sigAlg", GCM16.der)):
        changed = [part if own == name else one for own, one in zip(NAMES, PARTS, strict=True)]
        if name == "sigAlg":
            changed[0] = tlv(0x30, b"\x06\x01\x2a" + NULL + extra)
        refused(request(b"".join(changed)), f"HandshakeReq.tbs.token1.{name}")
    mode = tlv(0xA0, tlv(0xA1, GCM16.der) + extra)
    changed = [mode if own == "encr-mode" else one for own, one in zip(NAMES, PARTS, strict=True)]
    refused(request(b"".join(changed)), "HandshakeReq.tbs.token1.encr-mode")


def test_a_malformed_extension_is_refused() -> None:
    refused(request(b"".join(PARTS) + b"\x04\x05x"))
    refused(request(b"".join(PARTS), MMS_PDU + b"\x04\x05x"))
    refused(request(b"".join(PARTS), MMS_PDU + b"\0\0"))


# --- applData and diag ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("appl_data", [tlv(0x80, b"x"), tlv(0xA8, b""), tlv(0xBF51, b"x" * 200), tlv(0x9F8101, b"")])
def test_appl_data_of_class_context(appl_data: bytes) -> None:
    assert decode(request(b"".join(PARTS), appl_data)).appl_data == appl_data


@pytest.mark.parametrize("other", [tlv(0x04, b"x"), tlv(0x30, b""), NULL, tlv(0x41, b""), tlv(0xE1, b"")])
def test_other_classes_are_no_appl_data(other: bytes) -> None:
    refused(request(b"".join(PARTS), other), "applData")  # MMS needs it
    assert decode(request(b"".join(PARTS), other + MMS_PDU)).appl_data == MMS_PDU


def test_mms_needs_appl_data_as_it_is() -> None:
    for pp in (profile.PP_MMS_OSI, profile.PP_MMS_XMPP):
        refused(handshake(token1(), None, pp), "applData")
        refused(handshake(token1(), der.wrap_appl_data(pp, b"x"), pp), "applData")
        pdu = decode(handshake(token1(), MMS_PDU, pp))
        assert pdu.speaks(pp)
        assert not pdu.speaks("other")


def test_other_protocols_repeat_their_name_under_the_signature() -> None:
    wrapped = der.wrap_appl_data("DNP3", b"data")
    pdu = decode(handshake(token1(), wrapped, "DNP3"))
    assert pdu.appl_data == wrapped
    assert pdu.speaks("DNP3")
    assert der.unwrap_appl_data(wrapped) == ("DNP3", b"data")
    refused(handshake(token1(), wrapped, "DNP4"), "applData")
    refused(handshake(token1(), tlv(0xC0, b"data"), "DNP3"), "applData")
    refused(handshake(token1(), tlv(0xE0, PP), "DNP3"), "applData")
    assert decode(handshake(token1(), None, "DNP3")).speaks("DNP3")


def test_an_mms_handshake_passed_off_as_another_protocol() -> None:
    # pp is not signed: an intermediary may write another name there, but applData stays in the form of MMS.
    pdu = decode(handshake(token1(), MMS_PDU, "DNP3"))
    assert not pdu.speaks("DNP3")
    assert not pdu.speaks(profile.PP_MMS_OSI)


@pytest.mark.parametrize("row", values.CONTROLS, ids=lambda row: row.kind.value)
def test_tag_80_is_diag_in_the_security_pdus_only(row: fields.SecPdu) -> None:
    tbs = der.encode_control_tbs(row.kind, token3()) + b"\x80\x01\x09"
    pdu = der.decode(row.carrier, der.assemble(row.kind, None, tbs, values.RSA, b"s"))
    assert isinstance(pdu, Control)
    assert (pdu.diag, pdu.appl_data) == ((9, None) if row.body is fields.Body.DIAG else (None, b"\x80\x01\x09"))


@pytest.mark.parametrize("first", [tlv(0x81, b"x"), tlv(0xE0, b""), tlv(0xA0, b"")])
def test_only_the_first_such_component_can_be_diag(first: bytes) -> None:
    tbs = der.encode_control_tbs(SecPduKind.DT_SEC_ABORT, token3()) + first + b"\x80\x01\x09"
    pdu = der.decode(Carrier.ABORT, der.assemble(SecPduKind.DT_SEC_ABORT, None, tbs, values.RSA, b"s"))
    assert isinstance(pdu, Control)
    # The first one is no diag, but neither is it anything else; then 80 is an extension or the diag of a confused
    # peer. Reading it or not makes no difference to security: the association ends.
    assert pdu.appl_data is None


@pytest.mark.parametrize("diag", [b"", b"\xff", b"\x01" * 9, (2**31).to_bytes(5, "big")])
def test_diag_out_of_range(diag: bytes) -> None:
    tbs = der.encode_control_tbs(SecPduKind.DT_SEC_ABORT, token3()) + tlv(0x80, diag)
    octets = der.assemble(SecPduKind.DT_SEC_ABORT, None, tbs, values.RSA, b"s")
    refused(octets, "DtSecAbort.tbs.diag", Carrier.ABORT)


# --- lengths --------------------------------------------------------------------------------------------------------


def test_tbs_of_indefinite_length_is_signed_with_its_end() -> None:
    content = tlv(0x30, b"".join(PARTS)) + MMS_PDU
    pdu = decode(tlv(0x30, PP + b"\x30\x80" + content + b"\0\0" + SIGN))
    assert pdu.tbs == content + b"\0\0"
    assert pdu.token1 == token1()
    assert pdu.appl_data == MMS_PDU
    definite = decode(request(b"".join(PARTS)))
    assert pdu._replace(tbs=b"") == definite._replace(tbs=b"")


@pytest.mark.parametrize("row", values.SIGNED_ROWS, ids=lambda row: row.kind.value)
def test_every_signed_kind_takes_the_indefinite_tbs(row: fields.SecPdu) -> None:
    definite = der.decode(row.carrier, values.sample(row))
    head = PP if row.token is fields.Token.CLEAR_TOKEN_1 else b""
    sign = tlv(0x30, definite.algo.der + tlv(0x04, definite.signature))
    pdu = der.decode(row.carrier, tlv(row.tag, head + b"\x30\x80" + definite.tbs + b"\0\0" + sign))
    assert pdu == definite._replace(tbs=definite.tbs + b"\0\0")


def test_indefinite_lengths_elsewhere_are_refused() -> None:
    content = b"".join(PARTS)
    refused(b"\x30\x80" + PP + tlv(0x30, tlv(0x30, content) + MMS_PDU) + SIGN + b"\0\0")
    refused(tlv(0x30, PP + tlv(0x30, b"\x30\x80" + content + b"\0\0" + MMS_PDU) + SIGN))
    refused(tlv(0x30, PP + b"\x30\x80\x30\x80" + content + b"\0\0" + MMS_PDU + b"\0\0" + SIGN))
    refused(request(content, b"\xa8\x80\x80\x01x\0\0"))
    refused(request(content, sign=b"\x30\x80" + values.ECDSA.der + tlv(0x04, b"sig") + b"\0\0"), "HandshakeReq.sign")
    refused(request(content, pp=b"\x2c\x80" + PP + b"\0\0"))


def test_lengths_need_not_be_minimal() -> None:
    content = b"".join(PARTS)
    tbs = tlv(0x30, content) + MMS_PDU
    padded = b"\x30\x84" + len(tbs).to_bytes(4, "big") + tbs
    pdu = decode(tlv(0x30, b"\x0c\x81\x0dIEC 61850-8-1" + padded + SIGN))
    assert pdu.tbs == tbs
    time = b"\x18\x83\0\0\x0f20261120114419Z"
    changed = [time if name == "time" else part for name, part in zip(NAMES, PARTS, strict=True)]
    assert decode(request(b"".join(changed))).token1.time == "20261120114419Z"


# --- algorithms and groups ------------------------------------------------------------------------------------------

GCM_ABSENT = AlgorithmId(profile.AES128_GCM)
GCM_12 = algorithm_id(profile.AES128_GCM, 12)
GCM_OTHER_NONCE = AlgorithmId(profile.AES128_GCM, tlv(0x30, tlv(0x04, b"another nonce") + b"\x02\x01\x0c"))
SAME = [
    (AlgorithmId(profile.HMAC_SHA256), AlgorithmId(profile.HMAC_SHA256, NULL)),
    (AlgorithmId(profile.SHA256_RSA), AlgorithmId(profile.SHA256_RSA, NULL)),
    (AlgorithmId(profile.ECDSA_SHA256), AlgorithmId(profile.ECDSA_SHA256, NULL)),
    (AlgorithmId(profile.AES128_CBC), AlgorithmId(profile.AES128_CBC, tlv(0x04, bytes(16)))),
    (AlgorithmId(profile.AES128_CBC), AlgorithmId(profile.AES128_CBC, NULL)),
    (GCM_ABSENT, GCM_12),
    (GCM_12, GCM_OTHER_NONCE),
    (AlgorithmId("1.2.3"), AlgorithmId("1.2.3", NULL)),
]
DIFFERENT = [
    (GCM_12, GCM16),
    (GCM16, algorithm_id(profile.AES256_GCM, 16)),
    (GCM_12, algorithm_id(profile.AES128_GMAC_RFC9044, 12)),
    (AlgorithmId("1.2.3", tlv(0x04, b"a")), AlgorithmId("1.2.3", tlv(0x04, b"b"))),
    (AlgorithmId("1.2.3"), AlgorithmId("1.2.4")),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_algorithm_twice(one: AlgorithmId, other: AlgorithmId) -> None:
    assert one == other
    assert hash(one) == hash(other)
    assert one.pair == other.pair
    mode = tlv(0x30, one.der + other.der)
    changed = [mode if own == "encr-mode" else part for own, part in zip(NAMES, PARTS, strict=True)]
    refused(request(b"".join(changed)), "HandshakeReq.tbs.token1.encr-mode")
    with pytest.raises(LocalError):
        der.encode_handshake_tbs(token1(encr_mode=AeaOffer((one, other))), None)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_algorithms(one: AlgorithmId, other: AlgorithmId) -> None:
    assert one != other
    token = token1(encr_mode=AeaOffer((one, other)))
    assert decode(handshake(token)).token1 == token


@pytest.mark.parametrize(
    ("oid", "icv_len", "params"),
    [
        (profile.SHA256_RSA, 0, NULL),
        (profile.ECDSA_SHA256, 0, None),
        (profile.HMAC_SHA256, 32, NULL),
        (profile.AES256_CBC, 0, None),
        (profile.AES128_GCM, 12, bytes.fromhex("300e040c000000000000000000000000")),
        (profile.AES256_GCM, 16, bytes.fromhex("3011040c000000000000000000000000020110")),
    ],
)
def test_parameters_that_are_emitted(oid: str, icv_len: int, params: bytes | None) -> None:
    algorithm = algorithm_id(oid, icv_len)
    assert algorithm.params == params
    assert algorithm.pair == (oid, icv_len)


@pytest.mark.parametrize(
    ("oid", "params"),
    [
        (profile.HMAC_SHA256, tlv(0x04, b"x")),
        (profile.SHA256_RSA, b"\x05\x01\x00"),
        (profile.ECDSA_SHA256, tlv(0x30, b"")),
        (profile.AES128_CBC, tlv(0x30, b"")),
        (profile.AES128_GCM, tlv(0x04, bytes(12))),
        (profile.AES128_GCM, tlv(0x30, b"")),
        (profile.AES128_GCM, tlv(0x30, tlv(0x04, bytes(12)) + b"\x02\x01\x0b")),
        (profile.AES128_GCM, tlv(0x30, tlv(0x04, bytes(12)) + b"\x02\x01\x11")),
        (profile.AES128_GCM, tlv(0x30, tlv(0x04, bytes(12)) + b"\x02\x01\x0c\x05\x00")),
        (profile.AES256_GMAC_RFC9044, tlv(0x30, b"\x02\x01\x0c")),
    ],
)
def test_parameters_that_are_refused(oid: str, params: bytes) -> None:
    with pytest.raises(DecodeError):
        AlgorithmId(oid, params)
    broken = AlgorithmId("1.2.3", params).der.replace(b"\x06\x02\x2a\x03", AlgorithmId(oid).der[2:])
    broken = tlv(0x30, broken[2:])
    changed = [broken if own == "hmac" else part for own, part in zip(NAMES, PARTS, strict=True)]
    refused(request(b"".join(changed)), "HandshakeReq.tbs.token1.hmac")


def test_a_group_twice() -> None:
    one = tlv(0x30, b"\x02\x01\x17\x04\x01a")
    other = tlv(0x30, b"\x02\x02\x00\x17\x04\x01b")
    changed = [tlv(0x30, one + other) if own == "dhKey" else part for own, part in zip(NAMES, PARTS, strict=True)]
    refused(request(b"".join(changed)), "HandshakeReq.tbs.token1.dhKey")
    with pytest.raises(LocalError):
        der.encode_handshake_tbs(token1(dh_key=(DhPublic(23, b"a"), DhPublic(23, b"b"))), None)


@pytest.mark.parametrize("group", [b"\xff", b"\x01\x00\x00", b"\x00" * 9, b""])
def test_groups_out_of_range(group: bytes) -> None:
    key = tlv(0x30, tlv(0x30, tlv(0x02, group) + b"\x04\x01a"))
    changed = [key if own == "dhKey" else part for own, part in zip(NAMES, PARTS, strict=True)]
    refused(request(b"".join(changed)), "HandshakeReq.tbs.token1.dhKey")


def test_icv_algorithms_are_a_set() -> None:
    one, other = GCM16, values.HMAC
    assert one.der > other.der
    token = token1(encr_mode=NonAeaOffer(None, (one, other)))
    assert decode(handshake(token)).token1.encr_mode == NonAeaOffer(None, (other, one))
    unsorted = tlv(0xA0, tlv(0xA1, one.der + other.der))
    changed = [unsorted if own == "encr-mode" else part for own, part in zip(NAMES, PARTS, strict=True)]
    assert decode(request(b"".join(changed))).token1.encr_mode == NonAeaOffer(None, (one, other))


@pytest.mark.parametrize(
    "mode",
    [
        tlv(0x30, b""),
        tlv(0x31, GCM16.der),
        tlv(0xA1, GCM16.der),
        tlv(0xA0, b""),
        tlv(0xA0, tlv(0xA0, GCM16.der)),
        tlv(0xA0, tlv(0xA1, b"")),
        tlv(0xA0, tlv(0xA0, b"") + tlv(0xA1, GCM16.der)),
        tlv(0xA0, tlv(0xA1, GCM16.der) + tlv(0xA0, GCM16.der)),
        tlv(0xA0, tlv(0x31, GCM16.der)),
    ],
)
def test_encryption_modes_that_are_refused(mode: bytes) -> None:
    changed = [mode if own == "encr-mode" else part for own, part in zip(NAMES, PARTS, strict=True)]
    refused(request(b"".join(changed)), "HandshakeReq.tbs.token1.encr-mode")


# --- texts and bits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "1000", "a", "1:", ":1", "1:2:3", "01", "1:02", "00", " 1", "1\n", "-1", "١"])
def test_association_numbers_that_are_refused(text: str) -> None:
    changed = [tlv(0x0C, text.encode()) if own == "assoID" else p for own, p in zip(NAMES, PARTS, strict=True)]
    refused(request(b"".join(changed)), "HandshakeReq.tbs.token1.assoID")
    with pytest.raises(LocalError):
        der.encode_handshake_tbs(token1(asso_id=text), None)


@pytest.mark.parametrize("text", ["0", "999", "0:0", "999:999", "10:7"])
def test_association_numbers(text: str) -> None:
    assert decode(handshake(token1(asso_id=text))).token1.asso_id == text


@pytest.mark.parametrize(
    ("encoded", "mask"),
    [(b"\x03\x02\x07\x80", 1), (b"\x03\x01\x00", 0), (b"\x03\x02\x00\x80", 1), (b"\x03\x03\x00\x40\x00", 2)],
)
def test_named_bits(encoded: bytes, mask: int) -> None:
    changed = [encoded if own == "confParams" else part for own, part in zip(NAMES, PARTS, strict=True)]
    assert decode(request(b"".join(changed))).token1.conf_params == mask


def test_named_bits_that_are_emitted() -> None:
    assert components(token1(version=1))[3] == b"\x03\x02\x07\x80"
    assert components(token1(conf_params=0))[9] == b"\x03\x01\x00"
    assert components(token1(conf_params=6))[9] == b"\x03\x02\x05\x60"


@pytest.mark.parametrize("encoded", [b"\x03\x00", b"\x03\x02\x08\x80", b"\x03\x01\x01", b"\x23\x02\x07\x80"])
def test_named_bits_that_are_refused(encoded: bytes) -> None:
    changed = [encoded if own == "version" else part for own, part in zip(NAMES, PARTS, strict=True)]
    refused(request(b"".join(changed)), "HandshakeReq.tbs.token1.version")


def test_pp_is_utf8() -> None:
    refused(request(b"".join(PARTS), pp=b"\x0c\x02\xc3\x28"), "HandshakeReq")
    refused(request(b"".join(PARTS), pp=b"\x16\x0dIEC 61850-8-1"), "HandshakeReq")
