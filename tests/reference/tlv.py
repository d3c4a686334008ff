"""BER and DER, as much as the SecPDUs need. A tag is the int of its identifier octets, as in 0x30, 0xA0, 0x5F81."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Fault(Exception):
    """A rule was broken; ``check`` says which, in the words that fastsec uses too."""

    def __init__(self, check: str, text: str = "") -> None:
        super().__init__(f"{check}: {text}")
        self.check = check


def bad(text: str) -> Fault:
    return Fault("protocol-error", text)


class Tlv(NamedTuple):
    tag: int
    content: bytes  # without end-of-contents octets
    signed: bytes  # what a signature or ICV over it covers: with them
    whole: bytes


def length_octets(length: int) -> bytes:
    if length < 128:
        return bytes([length])
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets


def tlv(tag: int, content: bytes) -> bytes:
    return tag.to_bytes((tag.bit_length() + 7) // 8, "big") + length_octets(len(content)) + content


def read(data: bytes, pos: int = 0, indefinite: bool = False, depth: int = 0) -> Tlv:
    """The TLV that begins at pos."""
    first = pos
    if pos >= len(data) or data[pos] == 0:
        raise bad("no TLV")
    tag = data[pos]
    pos += 1
    if tag & 0x1F == 0x1F:
        number = 0
        while True:
            if pos >= len(data) or pos - first > 3:
                raise bad("tag")
            tag = tag << 8 | data[pos]
            number = number << 7 | data[pos] & 0x7F
            if number == 0:
                raise bad("tag with leading zeros")
            pos += 1
            if data[pos - 1] < 0x80:
                break
        if number < 31:
            raise bad("long form of a short tag")
    if pos >= len(data):
        raise bad("no length")
    length = data[pos]
    pos += 1
    if length == 0x80:
        if not indefinite or not data[first] & 0x20 or depth > 15:
            raise bad("indefinite length")
        start = pos
        while data[pos : pos + 2] != b"\0\0":
            pos += len(read(data, pos, True, depth + 1).whole)
        return Tlv(tag, data[start:pos], data[start : pos + 2], data[first : pos + 2])
    if length == 0xFF:
        raise bad("reserved length")
    if length > 0x80:
        count = length & 0x7F
        length = int.from_bytes(data[pos : pos + count], "big")
        if pos + count > len(data):
            raise bad("length cut off")
        pos += count
    if pos + length > len(data):
        raise bad("too long")
    content = data[pos : pos + length]
    return Tlv(tag, content, content, data[first : pos + length])


def walk(data: bytes, indefinite: bool = False) -> Iterator[Tlv]:
    """The TLVs that make up data."""
    pos = 0
    while pos < len(data):
        item = read(data, pos, indefinite)
        pos += len(item.whole)
        yield item


def only(data: bytes, indefinite: bool = False) -> Tlv:
    """The one TLV that data is."""
    item = read(data, 0, indefinite)
    if len(item.whole) != len(data):
        raise bad("trailing octets")
    return item


class Components:
    """The components of a SEQUENCE, taken in order."""

    def __init__(self, content: bytes, indefinite: bool = False) -> None:
        self.left = list(walk(content, indefinite))

    def take(self, tag: int) -> Tlv:
        if not self.left or self.left[0].tag != tag:
            raise bad(f"component {tag:02X} missing")
        return self.left.pop(0)

    def maybe(self, tag: int) -> Tlv | None:
        return self.left.pop(0) if self.left and self.left[0].tag == tag else None

    def finish(self) -> None:
        if self.left:
            raise bad("component too many")


def integer(value: int, tag: int = 0x02) -> bytes:
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def read_integer(item: Tlv, low: int, high: int) -> int:
    if not 1 <= len(item.content) <= 8:
        raise bad("INTEGER")
    value = int.from_bytes(item.content, "big", signed=True)
    if not low <= value <= high:
        raise bad("INTEGER out of range")
    return value


def oid(dotted: str) -> bytes:
    arcs = [int(arc) for arc in dotted.split(".")]
    out = b""
    for arc in [40 * arcs[0] + arcs[1], *arcs[2:]]:
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(0x80 | arc & 0x7F)
        out += bytes(reversed(septets))
    return tlv(0x06, out)


def read_oid(item: Tlv) -> str:
    content = item.content
    if not 1 <= len(content) <= 64 or content[-1] & 0x80:
        raise bad("OBJECT IDENTIFIER")
    arcs: list[int] = []
    arc = 0
    fresh = True
    for octet in content:
        if fresh and octet == 0x80:
            raise bad("OBJECT IDENTIFIER with leading zeros")
        arc = arc << 7 | octet & 0x7F
        fresh = octet < 0x80
        if fresh:
            if arc >> 63:
                raise bad("OBJECT IDENTIFIER with a huge arc")
            arcs.append(arc)
            arc = 0
    head = min(arcs[0] // 40, 2)
    return ".".join(str(n) for n in [head, arcs[0] - 40 * head, *arcs[1:]])


def bits(numbers: set[int], tag: int = 0x03) -> bytes:
    """A BIT STRING with named bits, DER."""
    if not numbers:
        return tlv(tag, b"\0")
    size = max(numbers) + 1
    value = sum(1 << (max(numbers) - n) for n in numbers)
    unused = -size % 8
    return tlv(tag, bytes([unused]) + (value << unused).to_bytes((size + unused) // 8, "big"))


def read_bits(item: Tlv) -> set[int]:
    content = item.content
    if not content or content[0] > 7 or (content[0] and len(content) == 1) or len(content) > 33:
        raise bad("BIT STRING")
    size = 8 * (len(content) - 1) - content[0]
    return {n for n in range(size) if content[1 + n // 8] >> (7 - n % 8) & 1}


def boolean(item: Tlv) -> bool:
    if len(item.content) != 1:
        raise bad("BOOLEAN")
    return item.content != b"\0"
