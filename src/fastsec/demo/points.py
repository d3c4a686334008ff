"""The little process image that the demo's MMS server hosts, and its names on the wire.

Plain facts, shared by the server, the client and the check that an intermediary saw none of it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

IED: str = "simpleIO"
DEVICE: str = "GenericIO"
DOMAIN: str = IED + DEVICE

Value = float | bool | int
Kind = Literal["float", "bool", "int"]


@dataclass(frozen=True, slots=True)
class Point:
    """One variable.

    Attributes:
        name: short name in the demo's output.
        item: MMS item id within ``DOMAIN`` (61850-8-1 spelling with ``$``).
        kind: Float32, Boolean or Int32.
        initial: value after start.
        writable: a client may write it (functional constraint SP).
    """

    name: str
    item: str
    kind: Kind
    initial: Value
    writable: bool = False

    @property
    def path(self) -> str:
        """61850-7-2 reference below the device, e.g. ``GGIO1.AnIn1.mag.f``."""
        node, _constraint, *rest = self.item.split("$")
        return ".".join((node, *rest))

    @property
    def constraint(self) -> str:
        """Functional constraint, e.g. ``MX``."""
        return self.item.split("$")[1]


def float32(value: float) -> float:
    """The nearest Float32, as a peer returns it."""
    return float(struct.unpack(">f", struct.pack(">f", value))[0])


POINTS: tuple[Point, ...] = (
    Point("AnIn1", "GGIO1$MX$AnIn1$mag$f", "float", float32(49.9731)),
    Point("Ind1", "GGIO1$ST$Ind1$stVal", "bool", True),
    Point("IntIn1", "GGIO1$ST$IntIn1$stVal", "int", -1_984_201_637),
    Point("SetA1", "GGIO1$SP$SetA1$setVal", "float", 0.0, writable=True),
    Point("SetB1", "GGIO1$SP$SetB1$setVal", "bool", False, writable=True),
    Point("SetI1", "GGIO1$SP$SetI1$setVal", "int", 0, writable=True),
)
BY_NAME: dict[str, Point] = {point.name: point for point in POINTS}
BY_ITEM: dict[str, Point] = {point.item: point for point in POINTS}


def value_octets(value: Value) -> bytes:
    """The value as MMS Data (ISO 9506-2), to look for it in recorded octets.

    Results: the whole TLV for Float32 (tag 87) and INTEGER (tag 85); for a Boolean b"": two possible values say
    nothing when they are found.
    """
    if isinstance(value, bool):
        return b""
    if isinstance(value, float):
        return b"\x87\x05\x08" + struct.pack(">f", value)
    content = value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True)
    return bytes((0x85, len(content))) + content
