"""Captures in every form that inspect reads: pcap and pcapng, link types, IPv4 and IPv6, and TCP as bad as it gets."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

Frames = Iterable[tuple[bool, bytes, int]]
CLIENT_PORT, SERVER_PORT = 40_000, 102


@dataclass(frozen=True)
class Packet:
    """One TCP segment: from the client or not, sequence and acknowledgement numbers, flags, payload, ms since 1970."""

    request: bool
    seq: int
    ack: int
    flags: int
    payload: bytes
    at_ms: int


def segments(
    frames: Frames, *, size: int = 1400, starts: tuple[int, int] = (1000, 2000), handshake: bool = True
) -> list[Packet]:
    """A TCP connection; ``starts`` are the initial sequence numbers."""
    sequence = {True: starts[0], False: starts[1]}
    packets: list[Packet] = []

    def add(request: bool, payload: bytes, flags: int, at_ms: int) -> None:
        ack = sequence[not request] if flags & 0x10 else 0
        packets.append(Packet(request, sequence[request], ack, flags, payload, at_ms))
        sequence[request] = (sequence[request] + len(payload) + (flags & 2 == 2)) % 2**32

    frames = list(frames)
    if handshake:
        for request, flags in ((True, 0x02), (False, 0x12), (True, 0x10)):
            add(request, b"", flags, frames[0][2])
    else:
        sequence = {key: (value + 1) % 2**32 for key, value in sequence.items()}
    for request, octets, at_ms in frames:
        for at in range(0, len(octets), size):
            add(request, octets[at : at + size], 0x18, at_ms)
    return packets


def _tcp(packet: Packet, ports: tuple[int, int]) -> bytes:
    client, server = ports
    both = (client, server) if packet.request else (server, client)
    return struct.pack(">HHIIBBHHH", *both, packet.seq, packet.ack, 0x50, packet.flags, 65535, 0, 0) + packet.payload


def ipv4(packet: Packet, ports: tuple[int, int] = (CLIENT_PORT, SERVER_PORT), last: int = 1) -> bytes:
    client, server = bytes((127, 0, 0, last)), bytes((127, 0, 0, 200))
    both = client + server if packet.request else server + client
    tcp = _tcp(packet, ports)
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + both + tcp


def ipv6(packet: Packet, *, extension: bool = False) -> bytes:
    client, server = bytes(15) + b"\1", bytes(15) + b"\2"
    both = client + server if packet.request else server + client
    tcp = _tcp(packet, (CLIENT_PORT, SERVER_PORT))
    if extension:
        tcp = bytes((6, 0)) + bytes(6) + tcp
    return struct.pack(">IHBB", 6 << 28, len(tcp), 0 if extension else 6, 64) + both + tcp


LINKS = {
    "raw": (101, b""),
    "ipv4": (228, b""),
    "ethernet": (1, bytes(12) + b"\x08\x00"),
    "vlan": (1, bytes(12) + b"\x81\x00\x00\x05\x88\xa8\x00\x06\x08\x00"),
    "null": (0, b"\x02\0\0\0"),
    "loop": (108, b"\0\0\0\x02"),
    "sll": (113, bytes(14) + b"\x08\x00"),
    "sll2": (276, b"\x08\x00" + bytes(18)),
}


def pcap(packets: Sequence[Packet], *, link: str = "raw", order: str = ">", nano: bool = False, snap: int = 0) -> bytes:
    """A pcap file; ``snap``: octets kept of each frame, 0 for all."""
    number, header = LINKS[link]
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262_144, number)]
    for packet in packets:
        out.append(_record(header + ipv4(packet), packet.at_ms, order, nano, snap))
    return b"".join(out)


def _record(data: bytes, at_ms: int, order: str, nano: bool, snap: int) -> bytes:
    seconds, ms = divmod(at_ms, 1000)
    kept = data[: snap or len(data)]
    return struct.pack(order + "IIII", seconds, ms * (1_000_000 if nano else 1000), len(kept), len(data)) + kept


def pcap_of(frames: Sequence[bytes], link: int = 101, at_ms: int = 0) -> bytes:
    """Frames that are already there."""
    out = [struct.pack(">IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, link)]
    return b"".join(out + [_record(frame, at_ms, ">", False, 0) for frame in frames])


def pcapng(packets: Sequence[Packet], *, order: str = "<", simple: bool = False, resolution: int = 6) -> bytes:
    """A pcapng file with a name resolution block that is to be passed over."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)

    option = struct.pack(order + "HHBxxx", 9, 1, resolution) + struct.pack(order + "HH", 0, 0)
    out = [
        block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)),
        block(1, struct.pack(order + "HHI", 101, 0, 0) + option),
        block(4, bytes(8)),
    ]
    for packet in packets:
        data = ipv4(packet)
        if simple:
            out.append(block(3, struct.pack(order + "I", len(data)) + data))
            continue
        stamp = packet.at_ms * 10 ** (resolution - 3)
        head = struct.pack(order + "IIIII", 0, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
        out.append(block(6, head + data))
    return b"".join(out)


def shuffled(packets: Sequence[Packet], distance: int = 3) -> list[Packet]:
    """Neighbours change places, every packet comes twice, and some overlap with others."""
    out: list[Packet] = []
    for at in range(0, len(packets), distance):
        out += reversed(packets[at : at + distance])
    again: list[Packet] = []
    for number, packet in enumerate(out):
        again.append(packet)
        if number % 3 == 0:
            again.append(packet)
        if len(packet.payload) > 4 and number % 2:
            half = len(packet.payload) // 2
            again.append(replace(packet, seq=(packet.seq + half) % 2**32, payload=packet.payload[half:]))
    return again
