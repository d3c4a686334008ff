"""ACSE APDUs: layout, forms of names, authentication, what is ignored, malformed ones."""

from __future__ import annotations

import pytest

from fastsec import profile
from fastsec._core.cursor import tlv
from fastsec.envs.osi import AeTitle, acse
from fastsec.envs.osi.acse import Authentication, External
from fastsec.errors import DecodeError

NO_AUTHENTICATION = Authentication(None, None, None)
BASIC = bytes.fromhex("a107060528ca220203")
VALUE = bytes.fromhex("a803800101")
NAME = tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("060355046a 06042a030405"))))
RDN = tlv(0x31, tlv(0x30, bytes.fromhex("060355046a 06042a030405")))

TITLES = [
    AeTitle(),
    AeTitle("1.1.1.999.1", 12),
    AeTitle("1.1.1.999.1", 0, 0, 0),
    AeTitle("2.999.1", -1, 127, 128),
    AeTitle("1.3.9999", 2**31, -(2**31), 2**40),
    AeTitle(NAME, RDN),
    AeTitle(tlv(0x13, b"AP"), tlv(0x13, b"AE"), None, 5),
]


@pytest.mark.parametrize("called", TITLES)
@pytest.mark.parametrize("calling", TITLES)
def test_request_comes_back_with_all_forms_of_names(called: AeTitle, calling: AeTitle) -> None:
    fields = acse.aarq_fields(profile.OID_E2E_MMS_AC, called, calling, None)
    found = acse.decode(acse.encode_aarq(fields, 5, VALUE))
    information = (External(None, 5, VALUE),)
    assert found == acse.Aarq(profile.OID_E2E_MMS_AC, called, calling, NO_AUTHENTICATION, information, True)


@pytest.mark.parametrize("responding", TITLES)
@pytest.mark.parametrize("outcome", [(0, 1, 0), (1, 1, 1), (2, 1, 14), (1, 2, 2)])
def test_response_comes_back(responding: AeTitle, outcome: tuple[int, int, int]) -> None:
    fields = acse.aare_fields(profile.OID_MMS_AC, responding, outcome)
    found = acse.decode(acse.encode_aare(fields, (3, VALUE)))
    information = (External(None, 3, VALUE),)
    assert found == acse.Aare(profile.OID_MMS_AC, *outcome, responding, NO_AUTHENTICATION, information)
    assert acse.decode(acse.encode_aare(fields, None)) == found._replace(user_information=None)  # type: ignore[union-attr]


def test_request_is_as_captured() -> None:
    fields = acse.aarq_fields(profile.OID_MMS_AC, AeTitle("1.1.1.999.1", 12), AeTitle("1.1.1.999", 12), b"test")
    assert fields == bytes.fromhex(
        "a107060528ca220203a20706052901876701a30302010ca606060429018767a70302010c8a0207808b03520301ac06800474657374"
    )


@pytest.mark.parametrize("requirements", ["8a020780", "8a020480"])
def test_requirements_in_both_encodings(requirements: str) -> None:
    octets = tlv(0x60, BASIC + bytes.fromhex(requirements) + bytes.fromhex("8b03520301ac06800474657374"))
    found = acse.decode(octets)
    assert isinstance(found, acse.Aarq)
    assert found.authentication.requirements == 1
    assert found.authentication.mechanism == profile.OID_ACSE_PASSWORD
    assert found.authentication.password == b"test"


def test_authentication_values_of_other_kinds() -> None:
    for value in ("81020041", "a2050201 05a000", "a30403020100"):
        found = acse.decode(tlv(0x60, BASIC + tlv(0xAC, bytes.fromhex(value))))
        assert isinstance(found, acse.Aarq)
        assert found.authentication.value == bytes.fromhex(value)
        assert found.authentication.password is None
    nothing = acse.decode(tlv(0x60, BASIC))
    assert isinstance(nothing, acse.Aarq)
    assert nothing.authentication == NO_AUTHENTICATION
    assert nothing.authentication.password is None


def test_the_response_says_that_the_password_was_checked() -> None:
    octets = acse.encode_aare(acse.aare_fields(profile.OID_MMS_AC, AeTitle(), (0, 1, 0), authenticated=True), None)
    found = acse.decode(octets)
    assert isinstance(found, acse.Aare)
    assert found.authentication == Authentication(1, profile.OID_ACSE_PASSWORD, None)
    # X.227 numbers: 88 and 89 in the AARE, not the AARQ's 8A and 8B.
    assert bytes.fromhex("88020780") in octets
    assert bytes.fromhex("8903520301") in octets


def test_secrets_do_not_show() -> None:
    found = acse.decode(acse.encode_aarq(acse.aarq_fields("1.2", AeTitle(), AeTitle(), b"hushhush"), 3, VALUE))
    assert "hush" not in repr(found)


def test_release_and_abort_are_as_captured() -> None:
    assert acse.encode_release(acse.TAG_RLRQ, None) == bytes.fromhex("6203800100")
    assert acse.encode_abort(acse.ABORT_BY_USER, None) == bytes.fromhex("6403800100")
    assert acse.decode(bytes.fromhex("6300")) == acse.Release(acse.TAG_RLRE, None, None)
    for tag in (acse.TAG_RLRQ, acse.TAG_RLRE):
        found = acse.decode(acse.encode_release(tag, (5, VALUE)))
        assert found == acse.Release(tag, 0, (External(None, 5, VALUE),))
    found = acse.decode(acse.encode_abort(acse.ABORT_BY_PROVIDER, (5, VALUE)))
    assert found == acse.Abort(1, None, (External(None, 5, VALUE),))
    assert acse.decode(bytes.fromhex("6406800101810103")) == acse.Abort(1, 3, None)


def test_fields_nobody_acts_on() -> None:
    """Implementation information, application context list, later extensions; protocol version."""
    extra = tlv(0xAD, bytes.fromhex("0602 2a03")) + tlv(0x9D, b"impl") + tlv(0x9B, b"new")
    found = acse.decode(tlv(0x60, bytes.fromhex("80020780") + BASIC + extra))
    assert found == acse.Aarq(profile.OID_MMS_AC, AeTitle(), AeTitle(), NO_AUTHENTICATION, None, True)
    other = acse.decode(tlv(0x60, bytes.fromhex("80020640") + BASIC))
    assert isinstance(other, acse.Aarq)
    assert not other.version_1


@pytest.mark.parametrize(
    ("external", "wanted"),
    [
        ("020103a003800100", External(None, 3, b"\x80\x01\x00")),
        ("06025101020103a003800100", External(profile.OID_BER, 3, b"\x80\x01\x00")),
        ("06025101a003800100", External(profile.OID_BER, None, b"\x80\x01\x00")),
        ("0201030703676162a003800100", External(None, 3, b"\x80\x01\x00")),
        ("0201038103800100", External(None, 3, b"\x80\x01\x00")),
        ("020103820400800100", External(None, 3, b"\x80\x01\x00")),
        ("a0808001000000", External(None, None, b"\x80\x01\x00")),
    ],
)
def test_external_in_all_forms(external: str, wanted: External) -> None:
    octets = tlv(0x60, BASIC + tlv(0xBE, tlv(0x28, bytes.fromhex(external))))
    found = acse.decode(octets)
    assert isinstance(found, acse.Aarq)
    assert found.user_information == (wanted,)


INFORMATION = bytes.fromhex("be0a2808020103a003800100")


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (b"", "TLV|missing|longer"),
        (tlv(0x65, BASIC), "tag 65"),
        (tlv(0x60, BASIC) + b"\0", "too many"),
        (tlv(0x60, b""), "application-context-name missing"),
        (tlv(0x60, BASIC + BASIC), "twice"),
        (tlv(0x60, BASIC + INFORMATION + INFORMATION), "twice"),
        (tlv(0x60, BASIC + bytes.fromhex("a2020600")), "OBJECT IDENTIFIER"),
        (tlv(0x60, BASIC + bytes.fromhex("a306020101020101")), "too many"),
        (tlv(0x60, BASIC + bytes.fromhex("a4030c0101")), "wanted"),
        (tlv(0x60, BASIC + bytes.fromhex("a200")), "longer"),
        (tlv(0x60, BASIC + tlv(0xBE, INFORMATION[2:] * 2)), "more than one"),
        (tlv(0x60, BASIC + tlv(0xBE, bytes.fromhex("2805020103a300"))), "data value"),
        (tlv(0x61, BASIC), "result or diagnostic missing"),
        (tlv(0x61, BASIC + bytes.fromhex("a203020100")), "result or diagnostic missing"),
        (tlv(0x61, BASIC + bytes.fromhex("a305a103020100a203020100")), "wrong order"),
        (tlv(0x61, BASIC + bytes.fromhex("a203020103a305a103020100")), "result 3"),
        (tlv(0x61, BASIC + bytes.fromhex("a203020100a305a303020100")), "neither user nor provider"),
        (tlv(0x64, b""), "abort-source missing"),
        (tlv(0x64, bytes.fromhex("800100800100")), "twice"),
        (tlv(0x62, bytes.fromhex("8000")), "INTEGER"),
    ],
)
def test_malformed(octets: bytes, what: str) -> None:
    with pytest.raises(DecodeError, match=what):
        acse.decode(octets)


def test_nesting_is_limited() -> None:
    value = b"\x05\x00"
    for _ in range(40):
        value = tlv(0xA0, value)
    # A value is carried, not entered: its depth is no matter of this layer.
    octets = acse.encode_aarq(acse.aarq_fields("1.2", AeTitle(), AeTitle(), None), 5, value)
    found = acse.decode(octets)
    assert isinstance(found, acse.Aarq)
    assert found.user_information == (External(None, 5, value),)
    indefinite = b"\xa0\x80" * 40 + b"\0\0" * 40
    with pytest.raises(DecodeError, match="nested too deep"):
        acse.decode(tlv(0x60, BASIC + tlv(0xBE, tlv(0x28, b"\x02\x01\x05" + tlv(0xA0, indefinite)))))


def test_integers_are_as_short_as_der_wants() -> None:
    for value, octets in ((0, "00"), (127, "7f"), (128, "0080"), (-1, "ff"), (-128, "80"), (-129, "ff7f")):
        fields = acse.aarq_fields("1.2", AeTitle(None, value), AeTitle(), None)
        content = bytes.fromhex(octets)
        assert fields.endswith(tlv(0xA3, tlv(0x02, content)))


def test_diagnostics_in_words() -> None:
    assert acse.diagnostic_text(acse.SOURCE_USER, 13) == "authentication failure"
    assert acse.diagnostic_text(acse.SOURCE_PROVIDER, 2) == "no common ACSE version"
    assert acse.diagnostic_text(acse.SOURCE_USER, 99) == "diagnostic 99"
