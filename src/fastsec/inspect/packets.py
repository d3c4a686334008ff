"""TCP segments out of captured frames: Ethernet, Linux cooked, loopback and raw IP; IPv4 and IPv6."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from fastsec.inspect.capture import Frame

FIN, SYN, RST, ACK = 1, 2, 4, 16

_NULL, _ETHERNET, _LOOP, _SLL, _SLL2 = 0, 1, 108, 113, 276
_RAW: Final = (12, 14, 101, 228, 229)
_VLAN: Final = (0x8100, 0x88A8, 0x9100)
_EXTENSIONS: Final = (0, 43, 60, 135)
_HEADERS_MAX: Final = 8

Endpoint = tuple[bytes, int]


class Segment(NamedTuple):
    """One TCP segment.

    Attributes:
        frame: what brought it.
        source, target: (IP address, port).
        seq, ack, flags: of its header.
        payload: its octets, as far as captured.
        missing: octets of it that the capture lacks.
    """

    frame: Frame
    source: Endpoint
    target: Endpoint
    seq: int
    ack: int
    flags: int
    payload: bytes
    missing: int


def endpoint_text(endpoint: Endpoint) -> str:
    """``127.0.0.1:102``, ``[::1]:102``."""
    address, port = endpoint
    return f"{IPv4Address(address)}:{port}" if len(address) == 4 else f"[{IPv6Address(address)}]:{port}"


def segment_of(frame: Frame) -> Segment | str:
    """The TCP segment of a frame, or in one word why there is none: ``link``, ``other``, ``fragment``, ``short``."""
    data = frame.data
    link = frame.link
    if link == _ETHERNET:
        at = 14
        kind = int.from_bytes(data[12:14], "big")
        for _ in range(_HEADERS_MAX):
            if kind not in _VLAN:
                break
            kind = int.from_bytes(data[at + 2 : at + 4], "big")
            at += 4
    elif link == _SLL:
        at, kind = 16, int.from_bytes(data[14:16], "big")
    elif link == _SLL2:
        at, kind = 20, int.from_bytes(data[:2], "big")
    elif link in (_NULL, _LOOP) or link in _RAW:
        at = 0 if link in _RAW else 4
        kind = {4: 0x0800, 6: 0x86DD}.get(data[at] >> 4, 0) if len(data) > at else 0
    else:
        return "link"
    if kind == 0x0800:
        return _ipv4(frame, at)
    if kind == 0x86DD:
        return _ipv6(frame, at)
    return "other"


def _ipv4(frame: Frame, at: int) -> Segment | str:
    data = frame.data
    if len(data) < at + 20 or data[at] >> 4 != 4:
        return "short"
    header = (data[at] & 15) * 4
    total = int.from_bytes(data[at + 2 : at + 4], "big") or len(data) - at  # 0: the sender's network card splits it
    if header < 20 or total < header:
        return "short"
    if data[at + 9] != 6:
        return "other"
    if int.from_bytes(data[at + 6 : at + 8], "big") & 0x3FFF:
        return "fragment"
    return _tcp(frame, data[at + 12 : at + 16], data[at + 16 : at + 20], at + header, at + total)


def _ipv6(frame: Frame, at: int) -> Segment | str:
    data = frame.data
    if len(data) < at + 40 or data[at] >> 4 != 6:
        return "short"
    following = data[at + 6]
    end = at + 40 + int.from_bytes(data[at + 4 : at + 6], "big")
    if end == at + 40:
        end = len(data)
    pos = at + 40
    for _ in range(_HEADERS_MAX):
        if following == 6:
            return _tcp(frame, data[at + 8 : at + 24], data[at + 24 : at + 40], pos, end)
        if following == 44:
            return "fragment"
        if following not in _EXTENSIONS or len(data) < pos + 8:
            break
        following, pos = data[pos], pos + 8 * (data[pos + 1] + 1)
    return "other"


def _tcp(frame: Frame, source: bytes, target: bytes, at: int, end: int) -> Segment | str:
    data = frame.data
    if len(data) < at + 20:
        return "short"
    start = at + (data[at + 12] >> 4) * 4
    if start < at + 20 or start > end:
        return "short"
    payload = data[start:end]
    return Segment(
        frame,
        (source, int.from_bytes(data[at : at + 2], "big")),
        (target, int.from_bytes(data[at + 2 : at + 4], "big")),
        int.from_bytes(data[at + 4 : at + 8], "big"),
        int.from_bytes(data[at + 8 : at + 12], "big"),
        data[at + 13],
        payload,
        end - start - len(payload),
    )
