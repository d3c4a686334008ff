"""PPDUs: what is written, what is taken, limits."""

from __future__ import annotations

import pytest

from fastsec import profile
from fastsec._core.cursor import encode_oid, tlv
from fastsec.envs.osi import presentation
from fastsec.envs.osi.presentation import Context, Pdv, Ppdu
from fastsec.errors import DecodeError
from fastsec.limits import OUR_CONTEXTS_MAX, OUR_SELECTOR_MAX

BER = tlv(0x06, encode_oid(profile.OID_BER))
ACSE = tlv(0x06, encode_oid(profile.OID_ACSE_AS))
NORMAL = bytes.fromhex("a003800101")
APDU = bytes.fromhex("6403800100")
USER_DATA = bytes.fromhex("610c300a020101a005") + APDU
PLAIN = ((1, profile.OID_ACSE_AS), (3, profile.OID_MMS_AS))
SECURE = (*PLAIN, (5, profile.OID_E2E_SECURITY_AS))


def cp(*fields: bytes, mode: bytes = NORMAL) -> bytes:
    return tlv(0x31, mode + tlv(0xA2, b"".join(fields)))


def context(number: bytes, syntax: bytes, *transfer: bytes) -> bytes:
    return tlv(0x30, tlv(0x02, number) + syntax + tlv(0x30, b"".join(transfer)))


@pytest.mark.parametrize("contexts", [PLAIN, SECURE, SECURE[:1], ((7, profile.OID_MMS_AS), (1, "1.2.3"))])
@pytest.mark.parametrize(("calling", "called"), [(None, None), (b"", b"\1"), (bytes(OUR_SELECTOR_MAX), b"\0\0\0\1")])
def test_connect_comes_back(contexts: tuple[tuple[int, str], ...], calling: bytes | None, called: bytes | None) -> None:
    octets = presentation.encode_connect(presentation.connect_header(calling, called, contexts), 1, APDU)
    wanted = tuple(Context(number, syntax, True) for number, syntax in contexts)
    assert presentation.decode_connect(octets) == Ppdu(calling, called, wanted, None, (Pdv(1, APDU),))


def test_connect_is_as_captured() -> None:
    header = presentation.connect_header(b"\0\0\0\1", b"\0\0\0\1", PLAIN)
    assert header == bytes.fromhex(
        "8104000000018204000000 01a423300f0201010604520100013004060251013010020103060528ca2202013004 06025101"
    )


@pytest.mark.parametrize("results", [(0, 0), (0, 0, 0), (0, 2, 0), (0,), (2, 2), (0, 1)])
def test_accept_and_refuse_come_back(results: tuple[int, ...]) -> None:
    octets = presentation.encode_accept(b"\1", results, 1, APDU)
    assert presentation.decode_accept(octets) == Ppdu(None, b"\1", (), results, (Pdv(1, APDU),))
    octets = presentation.encode_refuse(None, results, (1, APDU))
    assert presentation.decode_refuse(octets) == Ppdu(None, None, (), results, (Pdv(1, APDU),))


def test_provider_refusal_comes_back() -> None:
    octets = presentation.encode_refuse(b"\1", (), provider_reason=3)
    assert presentation.decode_refuse(octets) == Ppdu(None, b"\1", provider_reason=3)
    assert presentation.refuse_text(3) == "called presentation address unknown"
    assert presentation.refuse_text(9) == "reason 9"


def test_the_usual_lists_are_read_like_any_other() -> None:
    """The shortcut for lists that every peer sends must agree with the parser proper."""
    for count in (2, 3):
        contexts = SECURE[:count]
        usual = presentation.connect_header(None, None, contexts)
        assert usual.startswith(b"\xa4")
        # A length octet in long form takes the same content past the shortcut.
        entries = usual[2:]
        longer = b"\xa4\x81" + bytes((len(entries) + 1,)) + b"\x30\x81" + entries[1:]
        assert presentation.decode_connect(cp(longer)) == presentation.decode_connect(cp(usual))
        accepted = presentation.encode_accept(None, (0,) * count, 1, APDU)
        other = tlv(0xA5, b"".join(tlv(0x30, b"\x80\x02\x00\x00\x81\x02\x51\x01") for _ in range(count)))
        assert presentation.decode_accept(cp(other, USER_DATA)) == presentation.decode_accept(accepted)


def test_set_components_in_either_order() -> None:
    body = tlv(0xA2, USER_DATA)
    assert presentation.decode_connect(tlv(0x31, body + NORMAL)) == presentation.decode_connect(cp(USER_DATA))


def test_indefinite_lengths_are_taken() -> None:
    octets = bytes.fromhex("3180a0808001010000a280 6180 3080 020101 a080") + APDU + bytes.fromhex("0000") * 5
    assert presentation.decode_connect(octets).user_data == (Pdv(1, APDU),)


def test_parameters_that_are_not_acted_on() -> None:
    """presentation-requirements and user-session-requirements as a captured peer sends them, protocol-version."""
    fields = bytes.fromhex("80020780") + bytes.fromhex("81 01 01") + bytes.fromhex("88020600 89020204") + USER_DATA
    found = presentation.decode_connect(cp(fields))
    assert found == Ppdu(b"\1", user_data=(Pdv(1, APDU),))
    assert not presentation.decode_connect(cp(bytes.fromhex("80020640"), USER_DATA)).version_1


def test_contexts_of_other_kinds() -> None:
    entries = context(b"\x01", ACSE, tlv(0x06, b"\x2a\x03"), BER) + context(b"\x7f", tlv(0x06, b"\x2a\x03"))
    found = presentation.decode_connect(cp(tlv(0xA4, entries)))
    assert found.contexts == (Context(1, profile.OID_ACSE_AS, True), Context(127, "1.2.3", False))


def test_contexts_up_to_the_limit() -> None:
    entries = [context(bytes((number,)), ACSE, BER) for number in range(1, OUR_CONTEXTS_MAX + 2)]
    found = presentation.decode_connect(cp(tlv(0xA4, b"".join(entries[:-1]))))
    assert len(found.contexts) == OUR_CONTEXTS_MAX
    with pytest.raises(DecodeError, match="presentation contexts"):
        presentation.decode_connect(cp(tlv(0xA4, b"".join(entries))))
    with pytest.raises(DecodeError, match="transfer syntaxes"):
        presentation.decode_connect(cp(tlv(0xA4, context(b"\1", ACSE, *[BER] * (OUR_CONTEXTS_MAX + 1)))))
    results = tlv(0xA5, tlv(0x30, b"\x80\x01\x02") * (OUR_CONTEXTS_MAX + 1))
    with pytest.raises(DecodeError, match="results"):
        presentation.decode_accept(cp(results))
    values = tlv(0x61, USER_DATA[2:] * (OUR_CONTEXTS_MAX + 1))
    with pytest.raises(DecodeError, match="presentation data values"):
        presentation.decode_user_data(values)
    assert len(presentation.decode_user_data(tlv(0x61, USER_DATA[2:] * OUR_CONTEXTS_MAX))) == OUR_CONTEXTS_MAX


@pytest.mark.parametrize("tag", [0x81, 0x82])
def test_selector_beyond_the_limit(tag: int) -> None:
    with pytest.raises(DecodeError, match="octets where"):
        presentation.decode_connect(cp(tlv(tag, bytes(OUR_SELECTOR_MAX + 1))))


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (b"", "missing"),
        (tlv(0x30, NORMAL), "wanted"),
        (tlv(0x31, NORMAL + NORMAL), "repeated"),
        (cp(USER_DATA, mode=b""), "normal mode"),
        (cp(USER_DATA, mode=bytes.fromhex("a003800100")), "normal mode"),
        (tlv(0x31, NORMAL + tlv(0xA1, b"")), "not allowed"),
        (cp(USER_DATA) + b"\0", "too many"),
        (cp(USER_DATA, USER_DATA), "twice"),
        (cp(tlv(0x60, b"\0")), "simply encoded"),
        (cp(b"\x81\x00\x81\x00"), "twice"),
        (cp(b"\x9b\x00" * 2), "twice"),
        (cp(tlv(0x61, b"")), "without a presentation data value"),
        (cp(tlv(0xA4, context(b"\x01", ACSE, BER) * 2)), "defined twice"),
        (cp(tlv(0xA4, context(b"\x00", ACSE, BER))), "not 1..127"),
        (cp(tlv(0xA4, context(b"\x00\x80", ACSE, BER))), "not 1..127"),
        (cp(tlv(0xA4, context(b"\xff", ACSE, BER))), "not 1..127"),
        (cp(tlv(0xA4, tlv(0x31, b""))), "wanted"),
        (cp(tlv(0x61, bytes.fromhex("3009020101a30480024141"))), "data value with tag A3"),
        (cp(tlv(0x61, bytes.fromhex("3005020101a000"))), "without a value"),
        (cp(tlv(0x61, bytes.fromhex("3009020101a00405000500"))), "too many"),
        (cp(tlv(0x61, bytes.fromhex("3007020101820201 02"))), "broken octet"),
        (cp(tlv(0x61, bytes.fromhex("300b020101a0046202000081 00"))), "2 octets too many"),
    ],
)
def test_malformed(octets: bytes, what: str) -> None:
    with pytest.raises(DecodeError, match=what):
        presentation.decode_connect(octets)


def test_accept_with_another_transfer_syntax() -> None:
    results = tlv(0xA5, tlv(0x30, b"\x80\x01\x00\x81\x02\x2a\x03"))
    with pytest.raises(DecodeError, match="not offered"):
        presentation.decode_accept(cp(results, USER_DATA))


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        ("a003800100", "800100"),
        ("8103800100", "800100"),
        ("820400800100", "800100"),
        ("a0808001000000", "800100"),
    ],
)
def test_data_value_in_each_alternative(value: str, octets: str) -> None:
    for syntax in (b"", BER):
        body = tlv(0x61, tlv(0x30, syntax + b"\x02\x01\x03" + bytes.fromhex(value)))
        assert presentation.decode_user_data(body) == (Pdv(3, bytes.fromhex(octets)),)
        assert presentation.decode_user_data(b"\0\0" + body, 2) == (Pdv(3, bytes.fromhex(octets)),)


def test_aborts() -> None:
    assert presentation.encode_abort(1, APDU) == bytes.fromhex("a00e") + USER_DATA  # as captured
    assert presentation.decode_abort(b"\xa0\x0e" + USER_DATA).user_data == (Pdv(1, APDU),)
    identifiers = bytes.fromhex("a0093007020101 06025101")
    assert presentation.decode_abort(tlv(0xA0, identifiers + USER_DATA)).user_data == (Pdv(1, APDU),)
    assert presentation.decode_abort(b"") == presentation.AbortPpdu()
    provider = presentation.decode_abort(bytes.fromhex("3003800102"))
    assert provider == presentation.AbortPpdu((), True, 2)
    assert provider.text == "unexpected PPDU"
    assert presentation.decode_abort(bytes.fromhex("3006800102810101")) == provider
    assert presentation.decode_abort(bytes.fromhex("3000")).text == "reason not specified"
    assert presentation.AbortPpdu((), True, 40).text == "reason 40"
    with pytest.raises(DecodeError, match="tag 31"):
        presentation.decode_abort(bytes.fromhex("3100"))
    with pytest.raises(DecodeError, match="twice"):
        presentation.decode_abort(tlv(0xA0, USER_DATA * 2))
