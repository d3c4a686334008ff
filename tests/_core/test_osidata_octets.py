"""Every bit and every octet of a protected frame through the channel: the payload comes out as it was sent, or nothing.

The channel first tries its fast way; whatever that does not take goes through all checks. So here, other than with a
guard alone, both have a say.
"""

from __future__ import annotations

import pytest
from guardkit import KINDS, T0, Kind, appl

from fastsec import profile
from fastsec._core.osidata import OsiChannel
from fastsec.errors import DecodeError

PAYLOAD = appl(20)


def ignored(kind: Kind, frame: bytes) -> set[tuple[int, int]]:
    """(octet, bit) that no check looks at: the reserved octet of TPKT (RFC 1006, 6), TPDU-NR, which class 0 does not
    use, and the aes-nonce in GMAC's parameters, beside which the Authenticator has its own."""
    found = {(1, bit) for bit in range(8)} | {(6, bit) for bit in range(7)}
    if bytes(12) in kind.icv_algorithm:
        start = frame.index(kind.icv_algorithm) + kind.icv_algorithm.index(bytes(12))
        found |= {(at, bit) for at in range(start, start + 12) for bit in range(8)}
        found.add((start - 1, 7))  # the twelve zero octets are then the nonce's length, written long: it is empty
    return found


def frame_of(kind: Kind) -> bytes:
    tx = OsiChannel(1 << 16)
    tx.arm_tx(kind.seal_guard(), profile.CONTEXT_E2E, 1024)
    return tx.seal(PAYLOAD, T0)


def received(kind: Kind, octets: bytes) -> list[bytes]:
    """The payloads of one chunk at a new receiver."""
    rx = OsiChannel(1 << 16)
    rx.arm_rx(kind.open_guard(), profile.CONTEXT_E2E)
    try:
        return rx.feed(octets, T0)
    except DecodeError:
        return []


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_bit_counts(kind: Kind) -> None:
    frame = frame_of(kind)
    assert received(kind, frame) == [PAYLOAD]
    free = ignored(kind, frame)
    for at in range(len(frame)):
        for bit in range(8):
            octets = bytearray(frame)
            octets[at] ^= 1 << bit
            expected = [PAYLOAD] if (at, bit) in free else []
            assert received(kind, bytes(octets)) == expected, (at, bit)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_part_of_a_frame_is_enough(kind: Kind) -> None:
    frame = frame_of(kind)
    head = frame[:7]
    for size in range(7, len(frame)):
        assert received(kind, frame[:size]) == []
        # The same as a whole, shorter frame.
        assert received(kind, head[:2] + size.to_bytes(2, "big") + frame[4:size]) == []


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_octet_more_is_too_much(kind: Kind) -> None:
    frame = frame_of(kind)
    for at in range(7, len(frame) + 1):
        longer = frame[:2] + (len(frame) + 1).to_bytes(2, "big") + frame[4:at] + b"\0" + frame[at:]
        assert received(kind, longer) == [], at
