"""Transport TPDUs: layout, limits, what is negotiated."""

from __future__ import annotations

import pytest

from fastsec.envs.osi import cotp
from fastsec.errors import DecodeError
from fastsec.limits import OUR_TPDU_SIZE_PREFERRED, OUR_TSEL_MAX

CR = bytes.fromhex("11e00000000100c0010dc2020001c1020001")
CC = bytes.fromhex("11d00001000100c0010dc2020001c1020001")


def test_captured_connect_pair_is_read_and_written_alike() -> None:
    request, confirm = cotp.decode(CR), cotp.decode(CC)
    assert request == cotp.Connect(cotp.CODE_CR, 0, 1, b"\0\1", b"\0\1", 8192)
    assert confirm == cotp.Connect(cotp.CODE_CC, 1, 1, b"\0\1", b"\0\1", 8192)
    assert isinstance(request, cotp.Connect)
    assert isinstance(confirm, cotp.Connect)
    assert cotp.encode_connect(request) == CR
    assert cotp.encode_connect(confirm) == CC


@pytest.mark.parametrize("preferred", [128, 8192, 32640, 32768, OUR_TPDU_SIZE_PREFERRED])
def test_preferred_size_comes_back(preferred: int) -> None:
    tpdu = cotp.Connect(cotp.CODE_CR, 0, 9, None, None, 8192, preferred)
    assert cotp.decode(cotp.encode_connect(tpdu)) == tpdu


def test_preferred_size_has_its_own_parameter_code() -> None:
    octets = cotp.encode_connect(cotp.Connect(cotp.CODE_CR, 0, 1, None, None, 8192, OUR_TPDU_SIZE_PREFERRED))
    assert octets.endswith(bytes.fromhex("c0010d f00201ff"))


@pytest.mark.parametrize("length", [0, 1, OUR_TSEL_MAX])
def test_selectors_up_to_the_limit(length: int) -> None:
    tpdu = cotp.Connect(cotp.CODE_CR, 0, 1, bytes(length), b"\xff" * length)
    assert cotp.decode(cotp.encode_connect(tpdu)) == tpdu


def test_selector_beyond_the_limit() -> None:
    tpdu = cotp.encode_connect(cotp.Connect(cotp.CODE_CR, 0, 1, bytes(OUR_TSEL_MAX + 1)))
    with pytest.raises(DecodeError, match="T-selector"):
        cotp.decode(tpdu)


@pytest.mark.parametrize("octets", ["", "01", "06e000000001", "06e0000000010000", "06e00000000100ff", "ffe000000001"])
def test_length_indicator_must_fit(octets: str) -> None:
    """Also because none of these TPDUs may carry user data in class 0."""
    with pytest.raises(DecodeError) as caught:
        cotp.decode(bytes.fromhex(octets))
    assert caught.value.check == "protocol-error"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("e000000001", "too short"),
        ("d000000001", "too short"),
        ("e0000000010000", "parameter longer"),
        ("e00000000100c1040001", "parameter longer"),
        ("e0000100010000", "destination reference"),
        ("e00000000100c00106", "TPDU size"),
        ("e00000000100c00110", "TPDU size"),
        ("e00000000100c0020d0d", "TPDU size"),
        ("e00000000100f000", "preferred"),
        ("e00000000100f00100", "preferred"),
        ("e00000000100f0050000000001", "preferred"),
        ("8000000000", "DR too short"),
        ("700001", "ER too short"),
        ("60aa", "unknown"),  # AK, not in class 0
        ("10aa", "unknown"),
        ("f080", "unknown"),  # DT is the channel's
    ],
)
def test_malformed(body: str, what: str) -> None:
    octets = bytes.fromhex(body)
    with pytest.raises(DecodeError, match=what) as caught:
        cotp.decode(bytes((len(octets),)) + octets)
    assert caught.value.check == "protocol-error"


def test_unknown_parameters_are_ignored() -> None:
    assert cotp.decode(bytes.fromhex("0ce00000000100c60103990155")) == cotp.Connect(cotp.CODE_CR, 0, 1)


@pytest.mark.parametrize(
    ("class_octet", "parameters", "usable"),
    [(0x00, "", True), (0x40, "", False), (0x40, "c70100", True), (0x40, "c7022030", False), (0x01, "", True)],
)
def test_class_0_proposed_or_alternative(class_octet: int, parameters: str, usable: bool) -> None:
    body = bytes.fromhex("e000000001") + bytes((class_octet,)) + bytes.fromhex(parameters)
    tpdu = cotp.decode(bytes((len(body),)) + body)
    assert isinstance(tpdu, cotp.Connect)
    assert tpdu.class_0 is usable


def test_disconnect_and_error() -> None:
    assert cotp.decode(cotp.encode_disconnect(0x1234, 0, 3)) == cotp.Disconnect(0x1234, 0, 3)
    assert cotp.decode(cotp.encode_error(0x1234, 2)) == cotp.Error(0x1234, 2)
    assert cotp.Disconnect(1, 0, 3).text == "address unknown"
    assert cotp.Disconnect(1, 0, 77).text == "reason 77"
    # DR and ER may carry parameters; their lengths are checked.
    assert cotp.decode(bytes.fromhex("098000010000 80e00141")) == cotp.Disconnect(1, 0, 128)
    with pytest.raises(DecodeError, match="longer"):
        cotp.decode(bytes.fromhex("088000010000 80e001"))
    with pytest.raises(DecodeError, match="longer"):
        cotp.decode(bytes.fromhex("0670000102c101"))


@pytest.mark.parametrize(
    ("offered", "preferred", "largest", "size", "agreed"),
    [
        (8192, None, 65408, 8192, 8192),  # a peer that does not know F0
        (1024, None, 65408, 1024, 1024),
        (None, None, 65408, 8192, 8192),  # captured: CR without a size
        (8192, 65408, 65408, None, 65408),
        (8192, 16384, 65408, None, 16384),
        (8192, 65408, 8192, None, 8192),
        (8192, 65408, 1000, None, 896),
        (8192, None, 1000, 512, 512),
        (128, None, 128, 128, 128),
    ],
)
def test_negotiation(offered: int | None, preferred: int | None, largest: int, size: int | None, agreed: int) -> None:
    request = cotp.Connect(cotp.CODE_CR, 0, 5, b"a", b"b", offered, preferred)
    confirm = cotp.answer(request, 7, largest)
    assert (confirm.dst, confirm.src, confirm.calling, confirm.called) == (5, 7, b"a", b"b")
    assert confirm.size == size
    assert (confirm.preferred is None) == (size is not None)
    assert cotp.agreed_size(request, confirm) == agreed
    assert cotp.decode(cotp.encode_connect(confirm)) == confirm


def test_a_confirm_cannot_ask_for_more_than_was_offered() -> None:
    request = cotp.Connect(cotp.CODE_CR, 0, 1, None, None, 1024, None)
    assert cotp.agreed_size(request, cotp.Connect(cotp.CODE_CC, 1, 1, None, None, 8192)) == 1024
    assert cotp.agreed_size(request, cotp.Connect(cotp.CODE_CC, 1, 1)) == 1024
    assert cotp.agreed_size(request, cotp.Connect(cotp.CODE_CC, 1, 1, None, None, None, 65408)) == 1024
