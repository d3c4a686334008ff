"""The same message path in plain Python: the tests' reference implementation of the SecPDUs, and OSI framing by hand.

Written straightforwardly on top of ``cryptography``, as somebody would who has no compiled core.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from fastsec import profile
from reference.transfer import Receiver, Sender, Suite, Window, time_text

ASSO_ID = "17:42"
CONTEXT = bytes([0x02, 0x01, profile.CONTEXT_E2E])
TPDU = 65_408


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def read_tlv(data: bytes, tag: int) -> bytes:
    if data[0] != tag:
        raise ValueError(f"tag {data[0]:02x}")
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    if start + size != len(data):
        raise ValueError("length")
    return data[start:]


def frame(pdu: bytes) -> bytes:
    """Presentation, session, COTP DT, TPKT."""
    tsdu = b"\x01\x00\x01\x00" + tlv(0x61, tlv(0x30, CONTEXT + tlv(0xA0, pdu)))
    out = b""
    for start in range(0, len(tsdu), TPDU - 3):
        part = tsdu[start : start + TPDU - 3]
        last = start + TPDU - 3 >= len(tsdu)
        out += b"\x03\x00" + (len(part) + 7).to_bytes(2, "big") + (b"\x02\xf0\x80" if last else b"\x02\xf0\x00") + part
    return out


def unframe(data: bytes) -> bytes:
    tsdu = b""
    while data:
        size = int.from_bytes(data[2:4], "big")
        if data[:2] != b"\x03\x00" or data[4:6] != b"\x02\xf0":
            raise ValueError("no DT")
        tsdu += data[7:size]
        data = data[size:]
    if tsdu[:4] != b"\x01\x00\x01\x00":
        raise ValueError("no session data")
    pdv = read_tlv(read_tlv(tsdu[4:], 0x61), 0x30)
    if pdv[:3] != CONTEXT:
        raise ValueError("another context")
    return read_tlv(pdv[3:], 0xA0)


def message_loop(mode: str, payload: bytes) -> Callable[[int], float]:
    """A timed loop: one message sealed and opened."""
    suite = Suite(aea=(profile.AES128_GCM, 16)) if mode == "ae" else Suite(icv=(profile.HMAC_SHA256, 32))
    ik, ek = (b"", bytes(16)) if mode == "ae" else (bytes(32), b"")
    now = time.time_ns() // 1_000_000
    start_time = time_text(now - 1)
    sender = Sender(suite, ASSO_ID, ik, ek, start_time)
    receiver = Receiver(suite, ASSO_ID, ik, ek, Window(start_time))
    if receiver.open(unframe(frame(sender.seal(payload, now))), now).appl_data != payload:
        raise RuntimeError("the message did not arrive")

    def run(n: int) -> float:
        start = time.perf_counter()
        for _ in range(n):
            receiver.open(unframe(frame(sender.seal(payload, now))), now)
        return time.perf_counter() - start

    return run
