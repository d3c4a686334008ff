"""tshark, an independent dissector, finds nothing malformed in what we send and reads in it what we meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from envs.osi.support import (
    ABORT,
    ACCEPTANCE,
    APPL_REJECT,
    CALLED,
    CALLING,
    CAPTURES,
    CONCLUDE,
    INITIATE,
    INITIATE_RESPONSE,
    PLAIN_INITIATOR,
    PLAIN_RESPONDER,
    RELEASE,
    REQUEST,
    SECURE_INITIATOR,
    SECURE_RESPONDER,
    Pair,
    take,
)
from fastsec._core.cursor import tlv
from fastsec.envs.osi import OsiParams
from interop import pcap


def released(pair: Pair, user_data: bytes | None) -> Pair:
    pair.initiator.release(user_data)
    pair.to_responder()
    pair.responder.release_response(user_data)
    pair.to_initiator()
    return pair


def plain() -> Pair:
    pair = Pair.plain().associate()
    read = (CAPTURES / "pdu/readreq.bin").read_bytes()[20:]
    pair.initiator.data(read)
    pair.to_responder()
    pair.initiator.data(CONCLUDE)
    pair.to_responder()
    return released(pair, None)


def secure() -> Pair:
    pair = Pair.secure().associate()
    pair.initiator.data(tlv(0x30, bytes(300)))
    pair.to_responder()
    return released(pair, RELEASE)


def password() -> Pair:
    asked = replace(PLAIN_INITIATOR, password=b"test"), replace(PLAIN_RESPONDER, password=b"test")
    return released(Pair.make(*asked).associate(), None)


def wrong_password() -> Pair:
    pair = Pair.make(PLAIN_INITIATOR, replace(PLAIN_RESPONDER, password=b"test"))
    pair.request(INITIATE)
    pair.to_initiator()
    return pair


def large() -> Pair:
    pair = Pair.secure()
    pair.request(tlv(0x30, bytes(9000)))
    pair.responder.accept(tlv(0xA0, bytes(9000)))
    pair.to_initiator()
    return pair


def segmented() -> Pair:
    pair = Pair.make(replace(SECURE_INITIATOR, max_tpdu_size=128), SECURE_RESPONDER)
    pair.request(tlv(0x30, bytes(1400)))
    pair.responder.accept(tlv(0xA0, bytes(1400)))
    pair.to_initiator()
    pair.initiator.data(tlv(0x30, bytes(1400)))
    pair.to_responder()
    return pair


def rejected() -> Pair:
    pair = Pair.secure()
    pair.request(REQUEST)
    pair.responder.reject(APPL_REJECT)
    pair.to_initiator()
    return pair


def rejected_plainly() -> Pair:
    pair = Pair.plain()
    pair.request(INITIATE)
    pair.responder.reject(None, permanent=False)
    pair.to_initiator()
    return pair


def aborted() -> Pair:
    pair = Pair.secure().associate()
    pair.responder.abort(ABORT)
    pair.to_initiator()
    return pair


def faulty() -> Pair:
    pair = Pair.make(PLAIN_INITIATOR, SECURE_RESPONDER)
    pair.request(INITIATE)
    pair.to_initiator()
    return pair


def selectors(name: str) -> Callable[[], Pair]:
    def run() -> Pair:
        wrong = replace(CALLED, **{name: b"\0\0\0\x07"})  # type: ignore[arg-type]
        initiator = OsiParams(security=False, local=CALLING, remote=wrong)
        pair = Pair.make(initiator, replace(PLAIN_RESPONDER, check_selectors=True))
        pair.transport()
        if not pair.initiator.closed:
            pair.initiator.associate(INITIATE)
            pair.to_responder()
            pair.to_initiator()
        return pair

    return run


def error() -> Pair:
    pair = Pair.plain()
    take(pair.initiator, bytes.fromhex("0300000702f080"))
    pair.initiator.data_to_send()
    take(pair.responder, bytes.fromhex("0300000702f080"))
    pair.to_initiator()
    return pair


# What each conversation must show, as tshark puts it.
CONVERSATIONS: dict[str, tuple[Callable[[], Pair], list[str]]] = {
    "plain": (
        plain,
        [
            "TPDU size: 8192",
            "aSO-context-name: 1.0.9506.2.3 (MMS)",
            "called-AP-title: ap-title-form2 (1)",
            "initiate-RequestPDU",
            "initiate-ResponsePDU",
            "confirmed-RequestPDU",
            "conclude-RequestPDU",
            "result: accepted (0)",
            "rlrq",
            "rlre",
        ],
    ),
    "secure": (
        secure,
        [
            "Preferred maximum TPDU size: 65408",
            "aSO-context-name: 1.0.62351.4.2.1",
            "abstract-syntax-name: 1.0.62351.4.1.1.1",
            "indirect-reference: 5",
            "presentation-context-identifier: 5",
            "Session user data",
        ],
    ),
    "password": (password, ["mechanism-name: 2.2.3.1", "charstring: test", "responder-acse-requirements: 80"]),
    "wrong_password": (wrong_password, ["REFUSE", "rejected-permanent (1)", "authentication-required (14)"]),
    "large": (large, ["Session extended user data (194)", "indirect-reference: 5"]),
    "segmented": (segmented, ["COTP Segments", "TPDU size: 128"]),
    "rejected": (rejected, ["REFUSE", "rejected-permanent (1)", "no-reason-given (1)"]),
    "rejected_plainly": (rejected_plainly, ["REFUSE", "rejected-transient (2)"]),
    "aborted": (aborted, ["ABORT (AB) SPDU", "abort-source: service-user (0)"]),
    "faulty": (faulty, ["ABORT (AB) SPDU", "abort-source: service-user (0)"]),
    "tsel": (selectors("tsel"), ["Disconnect Request (0x08)", "Address unknown (3)"]),
    "ssel": (selectors("ssel"), ["REFUSE"]),
    "psel": (selectors("psel"), ["REFUSE", "called-presentation-address-unknown (3)"]),
    "error": (error, ["ER TPDU"]),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_tshark_reads_it(name: str, tmp_path: Path) -> None:
    run, wanted = CONVERSATIONS[name]
    path = tmp_path / f"{name}.pcap"
    pcap.write(path, run().log)
    packets = pcap.dissect(path)
    assert packets
    for packet in packets:
        assert not packet.malformed, packet
        # No dissector is registered for e2eSecurityAS; everything else tshark knows.
        assert all("Dissector" in text or "dissector" in text for text in packet.complaints), packet
    text = pcap.text(path)
    assert "Malformed" not in text
    for phrase in wanted:
        assert phrase in text, phrase


def test_tshark_would_tell() -> None:
    """The captures hold an AC that tshark calls malformed: the check above can fail."""
    packets = pcap.dissect(CAPTURES / "iti_iec61850_read.pcap")
    assert [packet.malformed for packet in packets].count(True) == 1


def test_responses_with_user_data() -> None:
    """The conversations carry what they should: the same octets on both sides."""
    pair = plain()
    assert INITIATE_RESPONSE in pair.log[3][1]
    assert ACCEPTANCE in secure().log[3][1]
