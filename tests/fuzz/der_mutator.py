"""A mutation that knows TLVs: it changes one of them and makes the lengths around it right again.

Random changes of octets seldom get past a length; this one reaches what stands behind, at the price of some speed.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

TAGS: Final = (
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0A, 0x0C, 0x17, 0x18, 0x28, 0x30, 0x31, 0x60, 0x61, 0x62, 0x64, 0x80, 0x81,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x88, 0x8A, 0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xAC, 0xBE, 0xC0, 0xE0,
)  # fmt: skip
CONTENTS: Final = (
    b"", b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0\0\0\0\0", bytes(9), b"\x07\xff", b"\x00\x80",
    b"20261118104640.000Z", b"20260230000000Z", b"\x2a\x86\x48\xce\x3d\x04\x03\x02",
    b"\x60\x86\x48\x01\x65\x03\x04\x01\x06",
    b"\x05\0", b"999:999", b"IEC 61850-8-1",
)  # fmt: skip
NODES_MAX: Final = 64


class Node(NamedTuple):
    """One TLV: where it and its content begin, where it ends, and the nodes it stands in."""

    first: int
    start: int
    stop: int
    above: tuple[int, ...]


def nodes(
    data: bytes, at: int = 0, end: int | None = None, above: tuple[int, ...] = (), into: list[Node] | None = None
) -> list[Node]:
    """The TLVs of ``data``, at most 64, as far as it can be read."""
    found: list[Node] = [] if into is None else into
    stop = len(data) if end is None else end
    while at + 2 <= stop and len(found) < NODES_MAX:
        first = at
        constructed = data[at] & 0x20
        if data[at] & 31 == 31:
            return found
        size = data[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 3:
                return found
            size = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + size > stop:
            return found
        number = len(found)
        found.append(Node(first, at, at + size, above))
        if (constructed or data[first] in (4, 3)) and size:
            nodes(data, at, at + size, (*above, number), found)
        at += size
    return found


def _length(size: int) -> bytes:
    if size < 128:
        return bytes((size,))
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets


def replaced(data: bytes, all_nodes: list[Node], node: Node, octets: bytes) -> bytes:
    """``data`` with other octets in a node's place, and the lengths of what it stands in made right."""
    for number in reversed(node.above):
        outer = all_nodes[number]
        content = data[outer.start : node.first] + octets + data[node.stop : outer.stop]
        octets = data[outer.first : outer.first + 1] + _length(len(content)) + content
        node = outer
    return data[: node.first] + octets + data[node.stop :]


def mutate(data: bytes, most: int, seed: int, skip: int) -> bytes:
    """One or two TLVs changed.

    Arguments:
        most: the result has at most so many octets.
        seed: of the choice.
        skip: octets at the front that are not DER.
    """
    rng = random.Random(seed)
    head, body = data[:skip], data[skip:]
    for _ in range(rng.choice((1, 1, 2))):
        found = nodes(body)
        if not found:
            break
        node = rng.choice(found)
        whole = body[node.first : node.stop]
        content = body[node.start : node.stop]
        tag = body[node.first : node.first + 1]
        match rng.randrange(8):
            case 0:
                octets = bytes((rng.choice(TAGS),)) + whole[1:]
            case 1:
                filling = rng.choice(CONTENTS)
                octets = tag + _length(len(filling)) + filling
            case 2:
                octets = b""
            case 3:
                octets = whole + whole
            case 4:
                other = rng.choice(found)
                octets = body[other.first : other.stop]
            case 5:
                extra = bytes((rng.choice(TAGS),))
                filling = rng.choice(CONTENTS)
                octets = extra + _length(len(filling)) + filling + whole
            case 6 if content:
                at = rng.randrange(len(content))
                octets = tag + _length(len(content)) + content[:at] + rng.randbytes(1) + content[at + 1 :]
            case _:
                filling = content * rng.randrange(2, 4)
                octets = tag + _length(len(filling)) + filling
        body = replaced(body, found, node, octets)
    return (head + body)[:most]
