"""The gateway's eye on MMS: kinds, and the answers it gives itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec.mms import pdu
from fastsec.mms.pdu import Kind, RejectReason

READ_REQUEST = bytes.fromhex("a038020101a433") + bytes(0x33)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_is_recognized(kind: Kind) -> None:
    assert pdu.kind_of(bytes([kind, 0])) is kind


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"\x05\x00", b"\xff", b"\x8a\x00"])
def test_other_octets_are_no_mms(data: bytes) -> None:
    assert pdu.kind_of(data) is None
    assert not pdu.is_one_pdu(data)


def test_initiate_family() -> None:
    assert pdu.is_initiate_request(b"\xa8\x00")
    assert pdu.is_initiate_response(b"\xa9\x00")
    assert pdu.is_initiate_error(b"\xaa\x00")
    for check in (pdu.is_initiate_request, pdu.is_initiate_response, pdu.is_initiate_error):
        assert not check(None)
        assert not check(b"")
        assert not check(b"\xa0\x00")


def test_conclude_response() -> None:
    assert pdu.is_conclude_response(b"\x8c\x00")
    assert not pdu.is_conclude_response(b"\x8b\x00")
    assert not pdu.is_conclude_response(b"")


def test_initiate_error_octets() -> None:
    # AA { A0 { 88 01 00 } 82 "no" }: errorClass [0] { initiate [8] other(0) }, additionalDescription [2]
    assert pdu.initiate_error("no") == bytes.fromhex("aa09a003880100") + b"\x82\x02no"


def test_initiate_error_text_is_visible_and_short() -> None:
    answer = pdu.initiate_error("Grüße\n" + "x" * 500)
    assert answer[9:].isascii()
    assert b"\n" not in answer[9:]
    assert len(answer) <= 140
    assert pdu.is_one_pdu(answer)


def test_reject_octets() -> None:
    assert pdu.reject(RejectReason.INVALID_PDU) == bytes.fromhex("a403850101")
    assert pdu.reject(RejectReason.UNKNOWN_PDU_TYPE, 7) == bytes.fromhex("a406800107850100")


def test_invoke_id() -> None:
    assert pdu.invoke_id(READ_REQUEST) == 1
    assert pdu.invoke_id(bytes.fromhex("a105020300ffff")) == 0xFFFF
    assert pdu.invoke_id(bytes.fromhex("a205800109a200")) == 9
    assert pdu.invoke_id(b"\xa3\x00") is None
    assert pdu.invoke_id(b"\xa0\x02\x02") is None


def test_reject_for() -> None:
    assert pdu.reject_for(b"\x30\x00") == pdu.reject(RejectReason.UNKNOWN_PDU_TYPE)
    assert pdu.reject_for(bytes.fromhex("a0030201 07ff")) == pdu.reject(RejectReason.INVALID_PDU, 7)
    assert pdu.reject_for(b"\xa0\x05\x02") == pdu.reject(RejectReason.INVALID_PDU)


def test_is_one_pdu_refuses_trailing_octets() -> None:
    assert pdu.is_one_pdu(b"\x8b\x00")
    assert not pdu.is_one_pdu(b"\x8b\x00\x00")
    assert not pdu.is_one_pdu(b"\xa0\x05\x02")


@given(st.binary(max_size=80))
def test_any_octets_give_a_value(data: bytes) -> None:
    pdu.kind_of(data)
    pdu.invoke_id(data)
    pdu.is_one_pdu(data)
