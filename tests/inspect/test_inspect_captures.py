"""Capture files in all their forms give the same PDUs; damaged ones say where, and what was whole is still shown."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

import inspect_writer as writer
import pytest
from inspect_world import World, damages, pdus, records, secpdus, whole_life, world

from envs.osi.support import CAPTURES
from fastsec.config import Policy
from fastsec.inspect import run, tcp
from fastsec.inspect.capture import FRAME_MAX
from fastsec.secpdu.fields import Carrier

Records = list[dict[str, Any]]


@cache
def life() -> World:
    return whole_life()


def essence(found: Records) -> list[Any]:
    """What does not depend on how a PDU travelled."""
    return [(record.get("secpdu"), record["anomalies"], record.get("from_side")) for record in pdus(found)]


@cache
def plain() -> Records:
    return records(writer.pcap(writer.segments(life().frames)), life().key_log)


def same(octets: bytes) -> Records:
    found = records(octets, life().key_log)
    assert not damages(found)
    assert essence(found) == essence(plain())
    return found


def test_the_whole_life_is_seen() -> None:
    assert len(secpdus(plain())) == len(life().sent)
    assert [one["kind"] for one in secpdus(plain())] == [
        "HandshakeReq", "HandshakeAcc", *["EncrTransfer"] * (len(life().sent) - 4), "ReleaseReq", "ReleaseRsp",
    ]  # fmt: skip
    assert [one["octets"] for one in secpdus(plain())] == [len(pdu) for _, _, pdu in life().sent]
    sides = [record["from_side"] for record in pdus(plain()) if "secpdu" in record]
    assert sides == [who for who, _, _ in life().sent]
    assert all(not record["anomalies"] for record in pdus(plain()))
    assert plain()[2]["time"] == "2026-11-18T11:46:40.000000Z"[:11] + plain()[2]["time"][11:]
    assert plain()[2]["from"] == "127.0.0.1:40000"


@pytest.mark.parametrize("link", writer.LINKS)
def test_link_types(link: str) -> None:
    same(writer.pcap(writer.segments(life().frames), link=link))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_byte_orders_and_resolutions(order: str, nano: bool) -> None:
    found = same(writer.pcap(writer.segments(life().frames), order=order, nano=nano))
    assert [record["time"] for record in pdus(found)] == [record["time"] for record in pdus(plain())]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("resolution", [3, 6, 9])
def test_pcapng(order: str, resolution: int) -> None:
    found = same(writer.pcapng(writer.segments(life().frames), order=order, resolution=resolution))
    assert [record["time"] for record in pdus(found)] == [record["time"] for record in pdus(plain())]


def test_pcapng_with_simple_packets_has_no_time() -> None:
    found = same(writer.pcapng(writer.segments(life().frames), simple=True))
    assert {record["time"] for record in pdus(found)} == {None}


@pytest.mark.parametrize("extension", [False, True])
def test_ipv6(extension: bool) -> None:
    frames = [writer.ipv6(packet, extension=extension) for packet in writer.segments(life().frames)]
    found = same(writer.pcap_of(frames, at_ms=life().frames[0][2]))
    assert pdus(found)[0]["from"] == "[::1]:40000"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_tiny_segments(size: int) -> None:
    same(writer.pcap(writer.segments(life().frames, size=size)))


@pytest.mark.parametrize("size", [5, 60])
def test_segments_out_of_order_repeated_and_overlapping(size: int) -> None:
    """In each direction the PDUs come in their order; between the directions the order may differ."""
    found = records(writer.pcap(writer.shuffled(writer.segments(life().frames, size=size))), life().key_log)
    assert not damages(found)
    for side in ("client", "server"):
        ours = [record["secpdu"] for record in pdus(found) if record.get("from_side") == side]
        wanted = [record["secpdu"] for record in pdus(plain()) if record.get("from_side") == side]
        assert ours == wanted
    assert not [one for record in pdus(found) for one in record["anomalies"]]


@pytest.mark.parametrize("starts", [(2**32 - 1, 2**32 - 2), (2**32 - 700, 2**32 - 300), (0, 2**31)])
def test_sequence_numbers_wrap(starts: tuple[int, int]) -> None:
    same(writer.pcap(writer.segments(life().frames, starts=starts, size=100)))


def test_connections_side_by_side_and_a_port_used_again() -> None:
    first, second = life(), whole_life(Policy(encryption="forbidden"))
    packets = writer.segments(first.frames, size=300)
    others = writer.segments(second.frames, size=300)
    again = writer.segments(second.frames, size=300, starts=(900_000, 5_000_000))
    mixed: list[bytes] = []
    for one, other in zip(packets, others, strict=False):
        mixed += [writer.ipv4(one), writer.ipv4(other, last=2)]
    mixed += [writer.ipv4(one) for one in packets[len(others) :]]
    mixed += [writer.ipv4(other, last=2) for other in others[len(packets) :]]
    mixed += [writer.ipv4(one) for one in again]
    found = records(writer.pcap_of(mixed, at_ms=first.frames[0][2]))
    assert not damages(found)
    by_connection = [
        [record["secpdu"]["kind"] for record in pdus(found) if record["connection"] == number and "secpdu" in record]
        for number in (1, 2, 3)
    ]
    assert [len(kinds) for kinds in by_connection] == [len(first.sent), len(second.sent), len(second.sent)]
    # The same handshake came twice in one file: that is a replay.
    assert ("HandshakeReq", "replay") in [
        (record["secpdu"]["kind"], one["check"])
        for record in pdus(found)
        for one in record["anomalies"]
        if record["connection"] == 3
    ]


def test_tpdus_in_pieces() -> None:
    made = whole_life(tpdu_size=128)
    found = records(writer.pcap(writer.segments(made.frames, size=50)), made.key_log)
    assert [one["kind"] for one in secpdus(found)] == [one["kind"] for one in secpdus(plain())]
    assert max(record["layers"]["tpkt"]["count"] for record in pdus(found)) > 5
    assert not damages(found)


def test_a_capture_that_begins_in_the_middle() -> None:
    """Without the handshake: the keys are found by the association number."""
    middle = [frame for frame in life().frames if len(frame[1]) < 300][2:]
    packets = writer.segments(middle, handshake=False)
    found = records(writer.pcap(packets), life().key_log)
    transfers = secpdus(found)
    assert len(transfers) == sum(carrier is Carrier.DATA for _, carrier, _ in life().sent)
    assert all(one["guessed"] for one in transfers)
    assert all(one["opened"]["icv"] == "verified" for one in transfers)
    assert max(one["opened"]["epoch"] for one in transfers) == 2


@pytest.mark.parametrize("size", [1, 200])
def test_a_capture_that_begins_within_a_tpkt(size: int) -> None:
    packets = writer.segments(life().frames, size=size)
    cut = [packet for packet in packets if packet.payload][60 if size == 1 else 2 :]
    found = records(writer.pcap(cut), life().key_log)
    assert secpdus(found)
    assert all(one["opened"]["icv"] == "verified" for one in secpdus(found) if one["kind"] == "EncrTransfer")


def without(numbers: set[int], *, size: int = 1400) -> tuple[Records, int]:
    packets = writer.segments(life().frames, size=size)
    kept = [packet for number, packet in enumerate(packets) if number not in numbers]
    return records(writer.pcap(kept), life().key_log), len(packets)


def test_a_lost_segment_is_said_and_the_rest_shown() -> None:
    """The lost one held a transfer of the client: it is missing, and seq does not follow."""
    packets = writer.segments(life().frames)
    number = next(
        number
        for number, packet in enumerate(packets)
        if packet.request and packet.payload and 100 < len(packet.payload) < 300 and number > 9
    )
    found, _ = without({number})
    (damage,) = damages(found)
    assert f"lacks {len(packets[number].payload)} octets" in damage
    assert len(secpdus(found)) == len(life().sent) - 1
    assert all(one["opened"]["icv"] == "verified" for one in secpdus(found) if one["kind"] == "EncrTransfer")


def test_losing_any_one_segment_is_never_silent() -> None:
    total = len(writer.segments(life().frames, size=400))
    for number in range(3, total):
        found, _ = without({number}, size=400)
        # What follows a gap is looked for, not taken for damaged.
        assert "environment" not in [one["check"] for record in pdus(found) for one in record["anomalies"]]
        last_of_side = not damages(found)
        if last_of_side:
            # Nothing follows in that direction, so the capture alone cannot show it: only the end is missing.
            assert len(secpdus(found)) >= len(life().sent) - 1
        else:
            assert len(secpdus(found)) >= len(life().sent) - 2


@pytest.mark.parametrize("snap", [60, 200, 700])
def test_frames_cut_short(snap: int) -> None:
    found = records(writer.pcap(writer.segments(life().frames), snap=snap), life().key_log)
    assert damages(found)


@pytest.mark.parametrize("make", [writer.pcap, writer.pcapng])
def test_a_file_that_breaks_off_anywhere(make: Callable[..., bytes]) -> None:
    whole = make(writer.segments(life().frames[:6]))
    full = len(pdus(records(whole)))
    shown = 0
    for size in range(0, len(whole), 3):
        found = records(whole[:size], form="pcap")
        now = len(pdus(found))
        assert shown <= now <= full
        shown = now
    assert damages(records(whole[:-1]))


def test_every_octet_of_a_file_may_be_anything() -> None:
    """Never an exception, and always an end."""
    for make in (writer.pcap, writer.pcapng):
        whole = make(writer.segments(life().frames[:4]))
        for at in range(0, len(whole), 11):
            for value in (0, 0x7F, 0xFF):
                records(whole[:at] + bytes((value,)) + whole[at + 1 :])


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "empty"),
        (b"\xa1\xb2\xc3\xd4\0\7\0\0" + bytes(16), "version 7"),
        (b"\xa1\xb2\xc3\xd4\0\2\0\4" + bytes(16) + struct.pack(">4I", 0, 0, FRAME_MAX + 1, 0), "a frame of"),
        (b"\x0a\x0d\x0d\x0a\0\0\0\x1cxxxx" + bytes(16), "byte order"),
        (b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a" + bytes(12) + b"\x1d\0\0\0", "two lengths differ"),
        (b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a" + bytes(12) + b"\x1c\0\0\0\6\0\0\0\x0b\0\0\0", "block of 11"),
        (
            b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a" + bytes(12) + b"\x1c\0\0\0"
            + b"\6\0\0\0\x20\0\0\0" + bytes(20) + b"\x20\0\0\0",
            "not described",
        ),
        (b"\x7fELF" + bytes(100), "neither a capture"),
    ],
)  # fmt: skip
def test_damage_is_named(octets: bytes, words: str) -> None:
    found = records(octets)
    assert any(words in damage for damage in damages(found)), damages(found)
    assert found[-1]["damaged"]


def test_what_is_no_tcp_is_counted() -> None:
    packets = writer.segments(life().frames)
    fragment = bytearray(writer.ipv4(packets[5]))
    fragment[6] = 0x20
    udp = bytearray(writer.ipv4(packets[5]))
    udp[9] = 17
    frames = [writer.ipv4(packet) for packet in packets] + [bytes(fragment)] * 3 + [bytes(udp), b"\x45\0", b""]
    found = records(writer.pcap_of(frames, at_ms=packets[0].at_ms), life().key_log)
    assert len(secpdus(found)) == len(life().sent)
    counts = found[-1]["counts"]
    assert counts["frames left out: IP fragment, not put together"] == 3
    assert counts["frames left out: no TCP"] == 2
    assert counts["frames left out: headers not whole"] == 1
    assert [damage for damage in damages(found) if "fragment" in damage] == [
        f"frame {len(packets) + 1}: IP fragment, not put together (told once)"
    ]
    found = records(writer.pcap_of([bytes(40)] * 2, link=147))
    assert damages(found) == ["frame 1: link type not known (told once)"]


@pytest.mark.parametrize(
    ("begin", "kind"),
    [(b"GET / HTTP/1.1\r\n", "other"), (b"\x16\x03\x01\x02\0", "TLS, not readable"), (b"\x03", "empty")],
)
def test_other_traffic_is_left_alone(begin: bytes, kind: str) -> None:
    packets = writer.segments([(True, begin, 0), (False, begin, 0)])
    found = records(writer.pcap(packets))
    assert not pdus(found)
    assert any(name.startswith(f"directions: {kind}") for name in found[-1]["counts"])


def test_much_other_traffic_costs_no_memory() -> None:
    """A stream joined in the middle is searched for a while and then given up."""
    octets = bytes(1000)
    packets = writer.segments([(True, octets, 0)] * 300, handshake=False)
    found = records(writer.pcap(packets))
    assert found[-1]["counts"]["directions: other"] == 1


def test_any_order_and_overlap_gives_the_octets() -> None:
    """Pieces of all sizes in all orders: each octet comes once, the first that came of each place."""
    octets = bytes(range(200))
    choice = random.Random(3)
    for _ in range(200):
        stream = tcp.Stream()
        pieces = [(at, choice.choice((1, 3, 10, 40))) for at in range(0, 200, choice.choice((1, 2, 5)))]
        pieces += [(at, 60) for at in range(0, 200, 60)]
        choice.shuffle(pieces)
        got = b""
        for number, (at, size) in enumerate([(0, 0), *pieces]):
            flags = 0x18 if number else 0x02
            packet = writer.Packet(True, 1000 + at + bool(number), 0, flags, octets[at : at + size], 0)
            segment = run.segment_of(run.Frame(1, 0, 101, writer.ipv4(packet), False))
            assert not isinstance(segment, str)
            for piece in stream.take(segment):
                assert not piece.missing
                got += piece.data
        assert got == octets
        assert not stream.pending


def test_octets_that_wait_are_bounded() -> None:
    """One octet is missing for ever: after a while the rest is taken without it."""
    packets = writer.segments([(True, b"\x03\x00" + bytes(1000), 0)] * 600)
    del packets[3]
    stream = tcp.Stream()
    most = 0
    for packet in packets:
        found = run.segment_of(run.Frame(1, 0, 101, writer.ipv4(packet), False))
        assert not isinstance(found, str)
        stream.take(found)
        most = max(most, stream.pending)
    assert tcp.PENDING_OCTETS_MAX - 2000 < most <= tcp.PENDING_OCTETS_MAX + 1400


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CONNECTIONS_MAX", 10)
    packets = writer.segments([(True, b"\x03\x00\x00\x20" + bytes(8), 0)])
    frames = [writer.ipv4(packet, (port, 102)) for port in range(1, 40) for packet in packets]
    found = records(writer.pcap_of(frames))
    assert found[-1]["counts"]["connections given up for memory"] == 29
    assert len(damages(found)) == 39


def test_octets_of_all_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "HELD_MAX", 100)
    packets = writer.segments([(True, b"\x03\x00\x00\x20" + bytes(16), 0)])
    frames = [writer.ipv4(packet, (port, 102)) for port in range(1, 40) for packet in packets]
    found = records(writer.pcap_of(frames))
    assert found[-1]["counts"]["connections given up for memory"] >= 30


@pytest.mark.parametrize("path", sorted(CAPTURES.glob("*.pcap*")), ids=lambda path: path.name)
def test_plain_mms_is_nothing_of_ours(path: Any) -> None:
    found = records(path.read_bytes())
    assert pdus(found)
    assert not secpdus(found)
    assert found[-1]["counts"].get("MMS without end-to-end security", 0) > 0 or "cancel" in path.name


def test_an_unfinished_association_is_no_damage() -> None:
    made = world()
    made.pair.client.start(b"\xa8\x00")
    found = records(writer.pcap(writer.segments(made.frames)))
    assert [one["kind"] for one in secpdus(found)] == ["HandshakeReq"]
    assert not damages(found)


def test_a_conflicting_retransmission_does_not_replace_what_came_first() -> None:
    packets = writer.segments(life().frames)
    number = next(number for number, packet in enumerate(packets) if len(packet.payload) > 500)
    forged = dataclasses.replace(packets[number], payload=bytes(len(packets[number].payload)))
    packets.insert(number + 1, forged)
    same(writer.pcap(packets))
