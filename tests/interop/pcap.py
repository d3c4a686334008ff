"""Recorded TPKTs into a pcap file, and what tshark, an independent dissector, makes of them."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CLIENT, SERVER = b"\x7f\x00\x00\x01", b"\x7f\x00\x00\x02"
CLIENT_PORT, MMS_PORT = 40_000, 102
LINKTYPE_RAW = 101
SEGMENT = 65_000
WARNING = 0x00600000  # Wireshark's PI_WARN; errors are above it


def _checksum(octets: bytes) -> int:
    octets += b"\x00" * (len(octets) % 2)
    total = sum(struct.unpack(f">{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class _Stream:
    """A TCP connection as packets: SYN, SYN-ACK, ACK, then the data, each segment acknowledging all before it."""

    def __init__(self) -> None:
        self.sequence = {True: 1000, False: 2000}
        self.packets: list[bytes] = []
        self.add(True, b"", 0x02)
        self.add(False, b"", 0x12)
        self.add(True, b"", 0x10)

    def add(self, request: bool, octets: bytes, flags: int = 0x18) -> None:
        source, target = (CLIENT, SERVER) if request else (SERVER, CLIENT)
        ports = (CLIENT_PORT, MMS_PORT) if request else (MMS_PORT, CLIENT_PORT)
        acknowledged = self.sequence[not request] if flags & 0x10 else 0
        tcp = struct.pack(">HHIIBBHHH", *ports, self.sequence[request], acknowledged, 0x50, flags, 65535, 0, 0)
        pseudo = source + target + struct.pack(">BBH", 0, 6, len(tcp) + len(octets))
        tcp = tcp[:16] + struct.pack(">H", _checksum(pseudo + tcp + octets)) + tcp[18:]
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(octets), len(self.packets) + 1, 0, 64, 6, 0) + source + target
        ip = ip[:10] + struct.pack(">H", _checksum(ip)) + ip[12:]
        self.packets.append(ip + tcp + octets)
        self.sequence[request] += len(octets) + (flags & 0x02 == 0x02)


def write(path: Path, frames: Iterable[tuple[bool, bytes]]) -> None:
    """Write frames, (True for client to server, TPKT), as one TCP connection to port 102."""
    stream = _Stream()
    for request, octets in frames:
        for at in range(0, len(octets), SEGMENT):
            stream.add(request, octets[at : at + SEGMENT])
    with path.open("wb") as file:
        file.write(struct.pack(">IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, LINKTYPE_RAW))
        for number, packet in enumerate(stream.packets):
            file.write(struct.pack(">IIII", 1_700_000_000, number, len(packet), len(packet)) + packet)


@dataclass(frozen=True, slots=True)
class Packet:
    """What tshark says of one packet.

    Attributes:
        protocols: names from the outside in.
        complaints: texts of expert items of severity warning or above.
        malformed: whether it calls the packet malformed.
    """

    protocols: tuple[str, ...]
    complaints: tuple[str, ...]
    malformed: bool


def _tshark(path: Path, *arguments: str) -> str:
    program = shutil.which("tshark")
    assert program is not None, "tshark is needed; scripts/ lists and installs it"
    # Without name resolution and without the user's preferences, so that the result is the same everywhere.
    environment = {**os.environ, "HOME": str(path.parent), "XDG_CONFIG_HOME": str(path.parent)}
    command = [program, "-n", "-r", str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def dissect(path: Path) -> list[Packet]:
    """What tshark makes of the data packets of ``path``."""
    fields = ["frame.protocols", "_ws.malformed", "_ws.expert.severity", "_ws.expert.message"]
    arguments = [part for field in fields for part in ("-e", field)]
    separated = ["-T", "fields", *arguments, "-E", "separator=\t", "-E", "occurrence=a", "-E", "aggregator=\x1f"]
    packets = []
    for line in _tshark(path, "-Y", "tcp.len > 0", *separated).rstrip("\n").split("\n"):
        protocols, malformed, severities, messages = line.split("\t")
        experts = zip(severities.split("\x1f"), messages.split("\x1f"), strict=False)
        complaints = tuple(message for severity, message in experts if severity and int(severity, 0) >= WARNING)
        packets.append(Packet(tuple(protocols.split(":")), complaints, bool(malformed)))
    return packets


def text(path: Path) -> str:
    """tshark's full dissection as text."""
    return _tshark(path, "-V", "-Y", "tcp.len > 0")
