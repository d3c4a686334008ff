"""What passes a channel is counted: exactly what was delivered and sent, whatever the cut, the kind and the fault."""

from __future__ import annotations

import pytest
from guardkit import KINDS, T0, Kind, appl

from fastsec import limits
from fastsec._core.guard import OpenGuard, SealGuard
from fastsec._core.osidata import OsiChannel, Tally
from fastsec.errors import LocalError

SIZES = (3, 30, 400, 5000)


def counts(tally: Tally) -> tuple[int, ...]:
    return (tally.pdus_in, tally.octets_in, tally.frames_in, tally.pdus_out, tally.octets_out, tally.frames_out)


def pair(
    tx: SealGuard | None, rx: OpenGuard | None, tpdu_size: int = 1024
) -> tuple[OsiChannel, OsiChannel, Tally, Tally]:
    sent, got = Tally(), Tally()
    one, other = OsiChannel(limits.OUR_TSDU_MAX, sent), OsiChannel(limits.OUR_TSDU_MAX, got)
    one.arm_tx(tx, 5, tpdu_size)
    other.arm_rx(rx, 5)
    return one, other, sent, got


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_sent_and_delivered_is_counted(kind: Kind) -> None:
    one, other, sent, got = pair(kind.seal_guard(), kind.open_guard())
    pdus = [appl(size) for size in SIZES]
    wire = b"".join([one.seal(pdu, T0) for pdu in pdus] + one.seal_batch(pdus, T0))
    assert other.feed(wire, T0) == 2 * pdus
    octets = 2 * sum(map(len, pdus))
    assert counts(sent) == (0, 0, 0, 8, octets, len(wire))
    assert counts(got) == (8, octets, len(wire), 0, 0, 0)


def test_any_cut_counts_the_same() -> None:
    kind = KINDS[0]
    one, other, _, got = pair(kind.seal_guard(), kind.open_guard())
    pdus = [appl(size) for size in SIZES]
    wire = b"".join(one.seal_batch(pdus, T0))
    for octet in wire:
        other.feed(bytes([octet]), T0)
    other.feed(b"", T0)
    assert counts(got) == (4, sum(map(len, pdus)), len(wire), 0, 0, 0)


def test_what_does_not_verify_is_not_counted() -> None:
    kind = KINDS[0]
    one, other, sent, got = pair(kind.seal_guard(), kind.open_guard())
    good, bad = one.seal(appl(30), T0), bytearray(one.seal(appl(30), T0))
    bad[-1] ^= 1
    assert len(other.feed(good + bytes(bad), T0)) == 1
    assert other.next() is not None
    assert other.fault is not None
    assert counts(got) == (1, len(appl(30)), len(good + bad), 0, 0, 0)
    assert sent.pdus_out == 2


def test_what_is_refused_is_not_counted() -> None:
    kind = KINDS[0]
    one, _, sent, _ = pair(kind.seal_guard(), kind.open_guard())
    for pdus in ([b"\x30\x00"], [appl(30), b"\x30\x00"]):
        with pytest.raises(LocalError):
            one.seal_batch(pdus, T0)
    with pytest.raises(LocalError):
        one.seal(b"\x30\x00", T0)
    assert counts(sent) == (0,) * 6


def test_channels_share_a_tally_and_leave_it_what_they_counted() -> None:
    tally = Tally()
    for _ in range(3):
        channel = OsiChannel(1000, tally)
        channel.arm_tx(None, 5, 1024)
        channel.seal(b"\xa0\x00", T0)
        assert channel.tally is tally
        del channel
    assert (tally.pdus_out, tally.octets_out) == (3, 6)


def test_a_channel_without_one_has_its_own() -> None:
    assert OsiChannel(1000).tally is not OsiChannel(1000).tally


def test_a_frame_of_the_control_path_is_no_pdu() -> None:
    channel = OsiChannel(1000)
    channel.frame(b"abc")
    channel.feed(b"\x03\x00\x00\x0b\x06\xe0\x00\x00\x00\x01\x00", T0)
    assert channel.next() is not None
    assert counts(channel.tally) == (0, 0, 11, 0, 0, 0)
