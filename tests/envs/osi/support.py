"""Two endpoints over a fake link, and captured traffic as TPKTs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastsec._core.osidata import OsiChannel
from fastsec.envs.osi import Indication, OsiAddress, OsiEndpoint, OsiParams

CAPTURES = Path(__file__).resolve().parents[2] / "captures"
MAX_TSDU = 70_000

CALLING = OsiAddress(ap_title="1.1.1.999", ae_qualifier=12)
CALLED = OsiAddress(ap_title="1.1.1.999.1", ae_qualifier=12)
SECURE_INITIATOR = OsiParams(security=True, local=CALLING, remote=CALLED)
SECURE_RESPONDER = OsiParams(security=True, local=CALLED)
PLAIN_INITIATOR = OsiParams(security=False, local=CALLING, remote=CALLED)
PLAIN_RESPONDER = OsiParams(security=False, local=CALLED)

# The environment never looks inside: a TLV is enough.
REQUEST = bytes.fromhex("300b0c09494543203631383530")
ACCEPTANCE = bytes.fromhex("a003020101")
APPL_REJECT = bytes.fromhex("a103020101")
SEC_REJECT = bytes.fromhex("a203020101")
RELEASE = bytes.fromhex("3003020107")
ABORT = bytes.fromhex("a103020109")
INITIATE = bytes.fromhex("a826800300fde881010582010583010aa416800101810305f100820c03ee1c00000408000079ef18")
INITIATE_RESPONSE = bytes.fromhex("a926800300fde881010582010583010aa416800101810305f100820c03ee1c000000000000000118")
CONCLUDE = bytes.fromhex("8b00")


def endpoint(role: str, params: OsiParams, max_tsdu: int = MAX_TSDU) -> OsiEndpoint:
    assert role in ("initiator", "responder")
    return OsiEndpoint(role, params, OsiChannel(max_tsdu))  # type: ignore[arg-type]


def doctored(params: OsiParams, **encoded: object) -> OsiParams:
    """A copy of ``params`` of which some parts that are encoded only once are something else."""
    copy = replace(params)
    vars(copy).update(encoded)
    return copy


def take(side: OsiEndpoint, octets: bytes) -> list[Indication]:
    """Hand octets from the wire to one side, as an adapter does."""
    found: list[Indication] = []
    assert side.channel.feed(octets, 0) == []
    while (frame := side.channel.next()) is not None:
        found += side.receive_tpdu(*frame)
    return found


@dataclass
class Pair:
    """An initiator and a responder; ``log`` has all octets, (True from the initiator, octets).

    ``step``: octets per read, 0 for whole.
    """

    initiator: OsiEndpoint
    responder: OsiEndpoint
    step: int = 0
    log: list[tuple[bool, bytes]] = field(default_factory=list)

    @classmethod
    def make(cls, initiator: OsiParams, responder: OsiParams, step: int = 0) -> Pair:
        return cls(endpoint("initiator", initiator), endpoint("responder", responder), step)

    @classmethod
    def secure(cls, step: int = 0) -> Pair:
        return cls.make(SECURE_INITIATOR, SECURE_RESPONDER, step)

    @classmethod
    def plain(cls, step: int = 0) -> Pair:
        return cls.make(PLAIN_INITIATOR, PLAIN_RESPONDER, step)

    def _carry(self, source: OsiEndpoint, target: OsiEndpoint) -> list[Indication]:
        octets = source.data_to_send()
        if not octets:
            return []
        self.log.append((source is self.initiator, octets))
        step = self.step or len(octets)
        found: list[Indication] = []
        for at in range(0, len(octets), step):
            found += take(target, octets[at : at + step])
        return found

    def to_responder(self) -> list[Indication]:
        return self._carry(self.initiator, self.responder)

    def to_initiator(self) -> list[Indication]:
        return self._carry(self.responder, self.initiator)

    def transport(self) -> None:
        self.initiator.connect_transport()
        self.to_responder()
        self.to_initiator()

    def request(self, user_data: bytes) -> list[Indication]:
        self.transport()
        self.initiator.associate(user_data)
        return self.to_responder()

    def associate(self) -> Pair:
        """Bring both sides to OPEN."""
        secure = self.initiator.params.security
        self.request(REQUEST if secure else INITIATE)
        self.responder.accept(ACCEPTANCE if secure else INITIATE_RESPONSE)
        self.to_initiator()
        return self


# --- captures -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Captured:
    """One TPKT of a capture; ``payload`` is what follows the TPKT header."""

    file: str
    connection: int
    request: bool
    payload: bytes

    def __str__(self) -> str:
        return f"{self.file}:{self.connection}:{'>' if self.request else '<'}{self.payload[:6].hex()}"


def _packets(path: Path) -> Iterator[tuple[int, bytes]]:
    """(link type, packet) of a pcap or pcapng file."""
    data = path.read_bytes()
    if data[:4] == b"\x0a\x0d\x0d\x0a":
        order = "<" if data[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
        links: list[int] = []
        at = 0
        while at < len(data):
            kind, size = struct.unpack_from(order + "II", data, at)
            if kind == 1:
                links.append(struct.unpack_from(order + "H", data, at + 8)[0])
            elif kind == 6:
                interface, _, _, length = struct.unpack_from(order + "IIII", data, at + 8)
                yield links[interface], data[at + 28 : at + 28 + length]
            at += size
        return
    order = "<" if data[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    link = struct.unpack_from(order + "I", data, 20)[0]
    at = 24
    while at < len(data):
        length = struct.unpack_from(order + "I", data, at + 8)[0]
        yield link, data[at + 16 : at + 16 + length]
        at += 16 + length


def captured(name: str) -> list[Captured]:
    """The TPKTs of a capture in order. Octets that are no TPKT end the search in that direction."""
    streams: dict[tuple[int, bool], bytes] = {}
    connections: dict[int, int] = {}
    found: list[Captured] = []
    for link, packet in _packets(CAPTURES / name):
        ip = packet[{1: 14, 113: 16, 276: 20, 101: 0}[link] :]
        tcp = ip[(ip[0] & 15) * 4 : struct.unpack_from(">H", ip, 2)[0]]
        source, target = struct.unpack_from(">HH", tcp)
        request = target == 102
        port = source if request else target
        number = connections.setdefault(port, len(connections))
        buffer = streams.get((port, request), b"") + tcp[(tcp[12] >> 4) * 4 :]
        while len(buffer) >= 4 and buffer[:2] == b"\x03\x00":
            size = struct.unpack_from(">H", buffer, 2)[0]
            if size < 5 or len(buffer) < size:
                break
            found.append(Captured(name, number, request, buffer[4:size]))
            buffer = buffer[size:]
        streams[port, request] = buffer
    return found


def all_captured() -> list[Captured]:
    """The TPKTs of all captures."""
    names = sorted(path.name for path in CAPTURES.glob("*.pcap*"))
    return [item for name in names for item in captured(name)]
