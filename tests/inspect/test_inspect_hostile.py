"""Any input gives records and an end: never an exception, in linear time, in bounded memory."""

from __future__ import annotations

import io
import random
import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, BinaryIO

import inspect_writer as writer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_world import POLICIES, World, damages, pdus, records, secpdus, whole_life

from fastsec.inspect import osi, run, text
from fastsec.inspect.run import FORMATS, Inspector
from fastsec.inspect.source import Source


@cache
def life(mode: str = "ae") -> World:
    return whole_life(POLICIES[mode])


def survives(octets: bytes, form: str = "auto", keys: Any = None) -> None:
    for record in records(octets, keys, form=form, full=True):
        for line in text.lines(record):
            assert line.isprintable()


@settings(max_examples=150)
@given(octets=st.binary(max_size=600), form=st.sampled_from(FORMATS))
def test_any_octets(octets: bytes, form: str) -> None:
    survives(octets, form)


@settings(max_examples=150)
@given(
    head=st.sampled_from(
        [b"\x03\x00", b"\x30\x80", b"\xa0\x82", b"\xa1\xb2\xc3\xd4\0\2\0\4", b"\x0a\x0d\x0d\x0a", b"0000 ", b"30 "]
    ),
    octets=st.binary(max_size=400),
)
def test_octets_behind_a_good_beginning(head: bytes, octets: bytes) -> None:
    survives(head + octets)


@settings(max_examples=100)
@given(octets=st.binary(max_size=300), link=st.sampled_from([0, 1, 101, 108, 113, 228, 229, 276, 12, 147]))
def test_any_frame(octets: bytes, link: int) -> None:
    survives(writer.pcap_of([octets] * 2, link))


@settings(max_examples=100)
@given(streams=st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=60)), min_size=1, max_size=8))
def test_any_tcp_content(streams: list[tuple[bool, bytes]]) -> None:
    frames = [
        (request, b"\x03\x00" + octets if number < 2 else octets, 0) for number, (request, octets) in enumerate(streams)
    ]
    survives(writer.pcap(writer.segments(frames, size=7)))


def damaged(octets: bytes, choice: random.Random) -> bytes:
    out = bytearray(octets)
    for _ in range(choice.randrange(1, 4)):
        at = choice.randrange(len(out))
        out[at : at + choice.choice((0, 1, 1, 4))] = bytes(
            choice.randrange(256) for _ in range(choice.choice((0, 1, 1, 3)))
        )
    return bytes(out)


@pytest.mark.parametrize("mode", POLICIES)
def test_damaged_secpdus_with_and_without_keys(mode: str) -> None:
    made = life(mode)
    choice = random.Random(mode)
    for number, (who, carrier, pdu) in enumerate(made.sent):
        for _ in range(4):
            wrong = damaged(pdu, choice)
            survives(wrong, "der", made.key_log)
            again = World(made.pair, [])
            for entry in made.sent[:number]:
                again.put(*entry)
            again.put(who, carrier, wrong)
            survives(writer.pcap(writer.segments(again.frames)), "auto", made.key_log)


def test_damaged_layers() -> None:
    made = life()
    choice = random.Random(1)
    for number in range(150):
        frames = list(made.frames)
        at = number % len(frames)
        request, octets, at_ms = frames[at]
        frames[at] = (request, damaged(octets, choice), at_ms)
        survives(writer.pcap(writer.segments(frames)), "auto", made.key_log)


def test_deep_nesting() -> None:
    for octets in (b"\x30\x80" * 5000, b"\xa0\x80" * 5000, b"\x61\x80\x30\x80" * 2000):
        survives(octets)
        tsdu = b"\x01\x00\x01\x00" + octets[:8000]
        survives(b"\x03\x00" + struct.pack(">H", len(tsdu) + 7) + b"\x02\xf0\x80" + tsdu)


def test_a_tpkt_stream_that_loses_its_step_goes_on() -> None:
    made = life()
    good = b"".join(octets for _, octets, _ in made.frames)
    found = records(writer.pcap(writer.segments([(True, good + b"\x03\x00\x00\x01" + bytes(50) + good, 0)])))
    assert len(secpdus(found)) == 2 * len(made.sent)
    assert any(one["check"] == "environment" for record in pdus(found) for one in record["anomalies"])


# --- bounds -----------------------------------------------------------------------------------------------------------


class Endless(io.RawIOBase):
    """A file made as it is read."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            try:
                self._left = next(self._parts)
            except StopIteration:
                return 0
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def peak(file: BinaryIO) -> int:
    """Octets of memory that reading took at most."""
    tracemalloc.start()
    try:
        for _ in Inspector().run(Source(file)):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


HEADER = writer.pcap_of([])


def record_of(packet: writer.Packet, port: int = 40_000) -> bytes:
    return writer.pcap_of([writer.ipv4(packet, (port, 102))])[len(HEADER) :]


def unfinished_tsdus(count: int) -> Iterator[bytes]:
    """DT TPDUs of which none is the last."""
    yield HEADER
    tpdu = b"\x03\x00" + struct.pack(">H", 1400) + b"\x02\xf0\x00" + bytes(1393)
    for number in range(count):
        yield record_of(writer.Packet(True, 1 + number * 1400, 0, 0x18, tpdu, 0))


def holes(count: int) -> Iterator[bytes]:
    """Every other segment is missing."""
    yield HEADER
    yield record_of(writer.Packet(True, 0, 0, 0x02, b"", 0))
    for number in range(count):
        yield record_of(writer.Packet(True, 1 + number * 2800, 0, 0x18, b"\x03\x00\x05\x78" + bytes(1396), 0))


def connections(count: int) -> Iterator[bytes]:
    """Each with a TPKT that does not end."""
    yield HEADER
    for number in range(count):
        yield record_of(writer.Packet(True, 1, 0, 0x18, b"\x03\x00\xff\xff" + bytes(1396), 0), number % 60_000)


@pytest.mark.parametrize("make", [unfinished_tsdus, holes, connections])
def test_memory_is_bounded(make: Callable[[int], Iterator[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times the input takes no more than a little more memory."""
    monkeypatch.setattr(run, "HELD_MAX", 1 << 20)
    monkeypatch.setattr(run, "CONNECTIONS_MAX", 200)
    few = peak(io.BufferedReader(Endless(make(500))))  # type: ignore[arg-type]
    many = peak(io.BufferedReader(Endless(make(4000))))  # type: ignore[arg-type]
    assert many < few + (1 << 20)
    assert many < 8 << 20


def test_text_and_tsdus_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TEXT_MAX", 1 << 20)
    assert "more than 1 MiB" in damages(records(b"30" * (1 << 20)))[0]
    one = b"\x03\x00" + struct.pack(">H", 60_007) + b"\x02\xf0\x00" + bytes(60_000)
    found = records(one * 6)
    assert [record["anomalies"][0]["text"] for record in pdus(found)] == [f"TSDU of more than {osi.TSDU_MAX} octets"]


def calls(octets: bytes) -> int:
    """Python and C functions called to read ``octets``: what time would be, but the same each time."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    source = Source(io.BytesIO(octets))
    inspector = Inspector()
    sys.setprofile(note)
    try:
        for _ in inspector.run(source):
            pass
    finally:
        sys.setprofile(None)
    return count


def in_order(count: int) -> bytes:
    return writer.pcap(writer.segments(life().frames[:6] * count, size=3))


def in_no_order(count: int) -> bytes:
    packets = writer.segments([(True, bytes(3), 0)] * (count * 40))
    return writer.pcap([*packets[:3], *reversed(packets[3:])])


def no_tpkts(count: int) -> bytes:
    return writer.pcap(writer.segments([(True, b"\x03\x00" * 700, 0)] * count))


def ders(count: int) -> bytes:
    return life().sent[2][2] * (10 * count)


def hex_text(count: int) -> bytes:
    return ders(count).hex("\n").encode()


@pytest.mark.parametrize("make", [in_order, in_no_order, no_tpkts, ders, hex_text])
def test_work_grows_with_the_input_only(make: Callable[[int], bytes]) -> None:
    few, many = calls(make(4)), calls(make(16))
    assert many < 4.5 * few
