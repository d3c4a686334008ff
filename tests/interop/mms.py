"""As much MMS (ISO 9506-2) as a test needs to be a client or a server: initiate, read, write, conclude.

Written by hand from the standard's syntax; fastsec itself treats MMS as opaque.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from fastsec.demo.points import BY_ITEM, BY_NAME, DOMAIN, POINTS, Value

# Proposed and negotiated: version 1, the usual conformance building blocks and services.
DETAIL = bytes.fromhex("8001018103 05f100 820c03ee1c00000408000079ef18".replace(" ", ""))
CONCLUDE_REQUEST, CONCLUDE_RESPONSE = b"\x8b\x00", b"\x8c\x00"
ACCESS_DENIED, NON_EXISTENT = 3, 10


def tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    if len(content) < 128:
        return bytes((tag, len(content))) + content
    size = len(content).to_bytes(2, "big").lstrip(b"\x00")
    return bytes((tag, 0x80 | len(size))) + size + content


def parts(octets: bytes) -> list[tuple[int, bytes]]:
    """The TLVs in ``octets``: (tag, content); one-octet tags, definite lengths."""
    found, at = [], 0
    while at < len(octets):
        tag, size, at = octets[at], octets[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(octets[at : at + count], "big"), at + count
        assert at + size <= len(octets)
        found.append((tag, octets[at : at + size]))
        at += size
    return found


def number(content: bytes) -> int:
    return int.from_bytes(content, "big", signed=True)


def integer(value: int) -> bytes:
    return value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True)


def initiate_request() -> bytes:
    return tlv(
        0xA8, tlv(0x80, integer(65_000)), tlv(0x81, b"\x05"), tlv(0x82, b"\x05"), tlv(0x83, b"\x0a"), tlv(0xA4, DETAIL)
    )


def initiate_response() -> bytes:
    return tlv(
        0xA9, tlv(0x80, integer(65_000)), tlv(0x81, b"\x05"), tlv(0x82, b"\x05"), tlv(0x83, b"\x0a"), tlv(0xA4, DETAIL)
    )


def data(value: Value) -> bytes:
    if isinstance(value, bool):
        return tlv(0x83, b"\xff" if value else b"\x00")
    if isinstance(value, int):
        return tlv(0x85, integer(value))
    return tlv(0x87, b"\x08" + struct.pack(">f", value))


def value(tag: int, content: bytes) -> Value:
    if tag == 0x83:
        return content != b"\x00"
    if tag == 0x87:
        assert content[0] == 8
        return float(struct.unpack(">f", content[1:])[0])
    assert tag in (0x85, 0x86), f"data tag {tag:02x}"
    return number(content)


def _variables(points: list[str]) -> bytes:
    names = (tlv(0xA1, tlv(0x1A, DOMAIN.encode()), tlv(0x1A, BY_NAME[point].item.encode())) for point in points)
    return tlv(0xA0, *(tlv(0x30, tlv(0xA0, name)) for name in names))


def read_request(invoke: int, points: list[str]) -> bytes:
    return tlv(0xA0, tlv(0x02, integer(invoke)), tlv(0xA4, tlv(0xA1, _variables(points))))


def write_request(invoke: int, point: str, new: Value) -> bytes:
    return tlv(0xA0, tlv(0x02, integer(invoke)), tlv(0xA5, _variables([point]), tlv(0xA0, data(new))))


def results(response: bytes, invoke: int) -> list[Value | None]:
    """What a read or write response says: values, None for a write that succeeded; anything else fails the test."""
    ((tag, body),) = parts(response)
    assert tag == 0xA1, f"not a confirmed response: {response.hex()}"
    (_, number_), (service, content) = parts(body)
    assert number(number_) == invoke
    found: list[Value | None] = []
    items = parts(content)
    if service == 0xA4:
        items = parts(dict(items)[0xA1])
    for kind, octets in items:
        assert kind != 0x80, f"data access error {octets.hex()}"
        found.append(None if service == 0xA5 else value(kind, octets))
    return found


@dataclass
class Device:
    """The server side: answers requests for the demo's points."""

    values: dict[str, Value] = field(default_factory=lambda: {point.item: point.initial for point in POINTS})
    written: list[tuple[str, Value]] = field(default_factory=list)

    def answer(self, request: bytes) -> bytes:
        """The response to one confirmed request or to conclude."""
        if request == CONCLUDE_REQUEST:
            return CONCLUDE_RESPONSE
        ((tag, body),) = parts(request)
        assert tag == 0xA0, f"not a confirmed request: {request.hex()}"
        (_, invoke), (service, content) = parts(body)[:2]
        if service == 0xA4:
            items = _items(dict(parts(dict(parts(content))[0xA1]))[0xA0])
            known = (
                data(self.values[item]) if item in self.values else tlv(0x80, bytes((NON_EXISTENT,))) for item in items
            )
            return tlv(0xA1, tlv(0x02, invoke), tlv(0xA4, tlv(0xA1, *known)))
        if service == 0xA5:
            (_, variables), (_, values) = parts(content)
            done = (self._write(*pair) for pair in zip(_items(variables), parts(values), strict=True))
            return tlv(0xA1, tlv(0x02, invoke), tlv(0xA5, *done))
        return tlv(0xA2, tlv(0x80, invoke), tlv(0xA2, tlv(0xA0, tlv(0x82, b"\x01"))))

    def _write(self, item: str, encoded: tuple[int, bytes]) -> bytes:
        point = BY_ITEM.get(item)
        if point is None:
            return tlv(0x80, bytes((NON_EXISTENT,)))
        if not point.writable:
            return tlv(0x80, bytes((ACCESS_DENIED,)))
        self.values[item] = value(*encoded)
        self.written.append((point.name, self.values[item]))
        return tlv(0x81)


def _items(variables: bytes) -> list[str]:
    """Item names of a listOfVariable in our domain."""
    found = []
    for _, specification in parts(variables):
        name = dict(parts(dict(parts(specification))[0xA0]))[0xA1]
        (_, domain), (_, item) = parts(name)
        assert domain.decode() == DOMAIN
        found.append(item.decode())
    return found
