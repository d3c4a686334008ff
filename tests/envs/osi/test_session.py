"""SPDUs: length forms, user data parameters, limits, malformed ones."""

from __future__ import annotations

import pytest

from fastsec.envs.osi import session
from fastsec.errors import DecodeError, LimitReached
from fastsec.limits import OUR_SELECTOR_MAX, OUR_SESSION_PARAMETERS_MAX, SPEC_CONNECT_USER_DATA_MAX

USUAL = bytes.fromhex("0506130100160102 14020002")


def connect(user_data: bytes) -> bytes:
    return session.encode_connect(session.connect_header(b"\0\1", b"\0\2"), user_data)


@pytest.mark.parametrize("size", [0, 1, 200, 254, 255, 256, 511, 512])
def test_connect_with_short_user_data_uses_c1(size: int) -> None:
    octets = connect(bytes(size))
    head = b"\xc1" + (bytes((size,)) if size < 255 else b"\xff" + size.to_bytes(2, "big"))
    assert octets[: -size or None].endswith(head)
    assert session.decode(octets) == session.Spdu(
        session.SI_CN, bytes(size), b"\0\1", b"\0\2", session.VERSION_2, session.DUPLEX
    )


@pytest.mark.parametrize("size", [513, 1405, SPEC_CONNECT_USER_DATA_MAX])
def test_connect_with_extended_user_data_uses_c2(size: int) -> None:
    octets = connect(bytes(size))
    assert octets[:-size].endswith(b"\xc2\xff" + size.to_bytes(2, "big"))
    assert session.decode(octets).user_data == bytes(size)


def test_connect_beyond_the_limit_is_refused() -> None:
    with pytest.raises(LimitReached) as caught:
        connect(bytes(SPEC_CONNECT_USER_DATA_MAX + 1))
    assert caught.value.limit == "SPEC_CONNECT_USER_DATA_MAX"


@pytest.mark.parametrize("length", [254, 255, 256])
def test_spdu_length_indicator_boundary(length: int) -> None:
    body = b"\x99" + bytes((length - 2,)) + bytes(length - 2)  # an unknown parameter fills it
    octets = b"\x0a" + (bytes((length,)) if length < 255 else b"\xff" + length.to_bytes(2, "big")) + body
    assert session.decode(octets) == session.Spdu(session.SI_DN)


@pytest.mark.parametrize("code", [0xC1, 0xC2])
@pytest.mark.parametrize(
    "si", [session.SI_CN, session.SI_AC, session.SI_FN, session.SI_DN, session.SI_AB, session.SI_NF, session.SI_RF]
)
def test_user_data_is_taken_in_either_parameter_and_length_form(code: int, si: int) -> None:
    for item in (bytes((code, 3)) + b"abc", bytes((code, 255, 0, 3)) + b"abc"):
        for spdu in (bytes((si, len(item))) + item, bytes((si, 255, 0, len(item))) + item):
            assert session.decode(spdu).user_data == b"abc"


def test_encoders_give_what_the_decoder_reads() -> None:
    data = bytes(range(256)) * 5
    assert session.decode(session.encode_accept(b"\0\1", data)) == session.Spdu(
        session.SI_AC, data, None, b"\0\1", session.VERSION_2, session.DUPLEX
    )
    assert session.decode(session.encode_accept(None, data, session.VERSION_1)).version == session.VERSION_1
    assert session.decode(session.encode_finish(data)) == session.Spdu(session.SI_FN, data)
    assert session.decode(session.encode_disconnect(data)) == session.Spdu(session.SI_DN, data)
    assert session.decode(session.encode_abort(data)) == session.Spdu(session.SI_AB, data, flags=0x0B)
    assert session.decode(session.encode_refuse(129)) == session.Spdu(session.SI_RF, reason=129, flags=1)
    assert session.decode(session.encode_refuse(2, data)) == session.Spdu(session.SI_RF, data, reason=2, flags=1)
    assert session.decode(session.encode_data(data)) == session.Spdu(session.SI_GT_DT, data)


def test_short_finish_and_disconnect_are_as_captured() -> None:
    rlrq = bytes.fromhex("610c300a020101a0056203800100")
    assert session.encode_finish(rlrq) == bytes.fromhex("0910c10e") + rlrq
    rlre = bytes.fromhex("61093007020101a0026300")
    assert session.encode_disconnect(rlre) == bytes.fromhex("0a0dc10b") + rlre


def test_user_data_too_long_for_any_spdu() -> None:
    with pytest.raises(LimitReached):
        session.encode_finish(bytes(70_000))
    with pytest.raises(LimitReached):
        session.encode_disconnect(bytes(65_535))


@pytest.mark.parametrize("item", ["", "16 01 02", "05 03 16 01 02", "05 06 16 01 02 13 01 00"])
def test_version_alone_or_in_its_item(item: str) -> None:
    body = bytes.fromhex(item)
    spdu = session.decode(bytes((session.SI_CN, len(body))) + body)
    assert spdu.version == (session.VERSION_2 if body else session.VERSION_1)


def test_overflow_is_seen() -> None:
    assert session.decode(bytes.fromhex("0d033c0101")).overflow
    assert not session.decode(bytes.fromhex("0d00")).overflow


@pytest.mark.parametrize("length", [0, OUR_SELECTOR_MAX])
def test_selector_up_to_the_limit(length: int) -> None:
    header = session.connect_header(bytes(length), bytes(length))
    spdu = session.decode(session.encode_connect(header, b""))
    assert (spdu.calling, spdu.called) == (bytes(length), bytes(length))


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        ("", "without octets"),
        ("0d", "length indicator missing"),
        ("0dff00", "cut off"),
        ("0d05c1", "longer than"),
        ("0d02c101", "longer than"),
        ("0d03c1ff00", "cut off"),
        ("0d00ff", "stand alone"),
        ("0d04c100c100", "twice"),
        ("0d04c100c200", "twice"),
        ("0d03140100", "two octets"),
        ("0d04160201 02", "one octet"),
        ("0d0616020102c100", "one octet"),
        ("0d06050416020102", "one octet"),
        ("0d060504130200 00", "one octet"),
        ("0d04050216 02", "longer than"),
        ("0d133311" + "00" * 17, "S-selector"),
        ("0d133411" + "00" * 17, "S-selector"),
        ("0c023200", "reason code empty"),
        ("0c07320202 61c10161", "twice"),
        ("0c07c10161 32020261", "twice"),
        ("1904110201 02", "one octet"),
        ("0100", "GIVE TOKENS"),
        ("010005 00", "GIVE TOKENS"),
        ("01000103", "longer than"),
        ("0100010319010100", "segmented"),
        ("0100010319010200", "segmented"),
        ("01000104190203030061", "segmented"),
    ],
)
def test_malformed(octets: str, what: str) -> None:
    with pytest.raises(DecodeError, match=what):
        session.decode(bytes.fromhex(octets))


def test_parameters_up_to_the_limit() -> None:
    body = bytes.fromhex("9900") * OUR_SESSION_PARAMETERS_MAX
    assert session.decode(bytes((0x0A, len(body))) + body) == session.Spdu(session.SI_DN)
    with pytest.raises(DecodeError, match="parameters"):
        session.decode(bytes((0x0A, len(body) + 2)) + body + b"\x99\x00")
    assert session.decode(bytes((1, 0, 1, len(body))) + body + b"a") == session.Spdu(session.SI_GT_DT, b"a")
    with pytest.raises(DecodeError, match="parameters"):
        session.decode(bytes((1, 0, 1, len(body) + 2)) + body + b"\x99\x00a")


def test_data_forms_that_the_channel_leaves_alone() -> None:
    data = bytes.fromhex("6100")
    for head in ("01000100", "0103100100 0100", "01000103190103", "01ff0000 01ff0000"):
        assert session.decode(bytes.fromhex(head) + data) == session.Spdu(session.SI_GT_DT, data)


def test_other_spdus_are_left_to_the_state_table() -> None:
    assert session.decode(bytes.fromhex("210000")) == session.Spdu(0x21)
    assert session.refuse_text(129) == "S-selector unknown"
    assert session.refuse_text(99) == "reason 99"


def test_the_usual_beginning_is_read_like_any_other() -> None:
    for si in (session.SI_CN, session.SI_AC):
        usual = session.decode(bytes((si, len(USUAL))) + USUAL)
        swapped = USUAL[8:] + USUAL[:8]
        assert usual == session.decode(bytes((si, len(swapped))) + swapped)
        assert (usual.version, usual.requirements) == (session.VERSION_2, session.DUPLEX)
