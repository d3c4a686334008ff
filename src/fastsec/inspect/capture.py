"""Captured frames out of pcap and pcapng files; one frame in memory at a time."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from fastsec.inspect.source import Damage, Source

FRAME_MAX: Final = 1 << 20
BLOCK_MAX: Final = 1 << 24
INTERFACES_MAX: Final = 1024

_PCAP: Final = {
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\x3c\x4d": (">", 1),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
}
_SECTION: Final = 0x0A0D0D0A
_INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 1, 2, 3, 6
_SECTION_OCTETS: Final = b"\x0a\x0d\x0d\x0a"


class Frame(NamedTuple):
    """One captured frame.

    Attributes:
        number: as Wireshark counts, from 1.
        time_ns: of the capture, ns since 1970 UTC, or None.
        link: link type (LINKTYPE_*).
        data: what was captured.
        cut: whether the capture holds only its beginning.
    """

    number: int
    time_ns: int | None
    link: int
    data: bytes
    cut: bool


def is_capture(head: bytes) -> bool:
    """Whether a file that begins with these four octets is a pcap or pcapng file."""
    return head in _PCAP or head == _SECTION_OCTETS


def read_capture(source: Source) -> Iterator[Frame]:
    """The frames of a pcap or pcapng file.

    Errors:
        Damage: the file breaks off or is malformed; the frames before it have been given.
    """
    if source.peek(4) == _SECTION_OCTETS:
        return _read_pcapng(source)
    return _read_pcap(source)


def _read_pcap(source: Source) -> Iterator[Frame]:
    magic = source.take(4, "the magic number")
    if magic not in _PCAP:
        raise Damage("octet 0", "neither pcap nor pcapng")
    order, unit = _PCAP[magic]
    major, _, _, _, _, link = struct.unpack(order + "HHiIII", source.take(20, "the file header"))
    if major != 2:
        raise Damage("octet 4", f"pcap version {major} is unknown")
    link &= 0xFFFF  # above are notes on the frame check sequence
    number = 0
    while source.peek(1):
        at = source.offset
        number += 1
        seconds, fraction, size, original = struct.unpack(
            order + "IIII", source.take(16, f"the header of frame {number}")
        )
        if size > FRAME_MAX:
            raise Damage(f"frame {number}, octet {at}", f"a frame of {size} octets")
        data = source.take(size, f"frame {number}")
        yield Frame(number, seconds * 1_000_000_000 + fraction * unit, link, data, original > size)


def _read_pcapng(source: Source) -> Iterator[Frame]:
    order = "<"
    interfaces: list[tuple[int, int, int]] = []  # link type, ns per unit (negative: units per s), offset in s
    number = 0
    while source.peek(1):
        at = source.offset
        head = source.take(8, "a block header")
        if head[:4] == _SECTION_OCTETS:
            mark = source.peek(4)
            if mark not in (b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"):
                raise Damage(f"octet {source.offset}", "section header without byte order")
            order = ">" if mark[0] == 0x1A else "<"
            interfaces = []
        kind, size = struct.unpack(order + "II", head)
        if size < 12 or size % 4 or size > BLOCK_MAX:
            raise Damage(f"octet {at}", f"a block of {size} octets")
        if kind not in (_INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED):
            source.skip(size - 12, "a block")
            body = b""
        else:
            body = source.take(size - 12, "a block")
        if struct.unpack(order + "I", source.take(4, "a block"))[0] != size:
            raise Damage(f"octet {at}", "a block whose two lengths differ")
        if kind == _INTERFACE:
            if len(interfaces) == INTERFACES_MAX:
                raise Damage(f"octet {at}", f"more than {INTERFACES_MAX} interfaces")
            interfaces.append(_interface(body, order, at))
        elif body and kind != _SECTION:
            number += 1
            yield _packet(kind, body, order, interfaces, number, at)


def _interface(body: bytes, order: str, at: int) -> tuple[int, int, int]:
    if len(body) < 8:
        raise Damage(f"octet {at}", "an interface description that is too short")
    (link,) = struct.unpack_from(order + "H", body)
    per_second, offset = 1_000_000, 0
    pos = 8
    while pos + 4 <= len(body):
        code, size = struct.unpack_from(order + "HH", body, pos)
        value = body[pos + 4 : pos + 4 + size]
        if code == 0:
            break
        if code == 9 and len(value) == 1:
            exponent = value[0] & 0x7F
            if exponent > (63 if value[0] & 0x80 else 18):
                raise Damage(f"octet {at}", "an interface whose clock has no usable resolution")
            per_second = (2 if value[0] & 0x80 else 10) ** exponent
        elif code == 14 and len(value) == 8:
            (offset,) = struct.unpack(order + "q", value)
        pos += 4 + (size + 3) // 4 * 4
    return link, per_second, offset


def _packet(kind: int, body: bytes, order: str, interfaces: list[tuple[int, int, int]], number: int, at: int) -> Frame:
    where = f"frame {number}, octet {at}"
    if kind == _SIMPLE:
        interface, stamp, start = 0, None, 4
        size = original = struct.unpack_from(order + "I", body)[0] if len(body) >= 4 else 0
        size = min(size, len(body) - 4)
    else:
        if len(body) < 20:
            raise Damage(where, "a packet block that is too short")
        if kind == _ENHANCED:
            interface, high, low, size, original = struct.unpack_from(order + "IIIII", body)
        else:
            interface, _, high, low, size, original = struct.unpack_from(order + "HHIIII", body)
        stamp, start = high << 32 | low, 20
    if size < 0 or size > len(body) - start:
        raise Damage(where, f"a frame of {size} octets in a block of {len(body)}")
    if interface >= len(interfaces):
        raise Damage(where, f"interface {interface} is not described")
    link, per_second, offset = interfaces[interface]
    time_ns = None if stamp is None else stamp * 1_000_000_000 // per_second + offset * 1_000_000_000
    return Frame(number, time_ns, link, body[start : start + size], original > size)
