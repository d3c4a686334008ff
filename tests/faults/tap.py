"""One fault in one direction of one connection, without input or output: octets go in, what to do comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """What can happen to an octet, or at it."""

    CUT = "the connection is gone before it"
    HALF_CLOSE = "this direction ends before it, the other goes on"
    STALL = "it and all after it never arrive; the connection stays"
    DELAY = "it and all after it come later"
    TINY = "it and the rest of its frame come octet by octet"
    CORRUPT = "one bit of it changes"
    DUPLICATE = "it comes twice"
    REORDER = "it changes places with its neighbour"
    FRAME_TWICE = "its frame comes twice"
    FRAMES_SWAPPED = "its frame changes places with the next of the same write"


PASSIVE: Final = frozenset((Kind.DELAY, Kind.TINY))  # every octet arrives, in order
PER_FRAME: Final = frozenset((Kind.FRAME_TWICE, Kind.FRAMES_SWAPPED))
PER_OCTET: Final = tuple(kind for kind in Kind if kind not in PER_FRAME)


class Mark(Enum):
    """What is to be done besides forwarding octets."""

    CUT = "drop the connection, both ways"
    EOF = "end this direction"
    HELD = "something is held back"


@dataclass(frozen=True)
class Fault:
    """A fault at one place.

    Attributes:
        kind: which.
        to_server: in the direction from the association's client to its server.
        frame: number of the TPKT in this direction, from 0.
        offset: of the octet in it.
        bit: for CORRUPT.
    """

    kind: Kind
    to_server: bool
    frame: int
    offset: int
    bit: int = 0

    def __str__(self) -> str:
        way = "to the server" if self.to_server else "to the client"
        return f"{self.kind.name} {way}, frame {self.frame} octet {self.offset} bit {self.bit}"


Action = bytes | Mark


class Tap:
    """Watches one direction and plays the fault.

    Arguments:
        fault: None to let everything pass.
        tls: the frames are TLS records, not TPKTs.

    Attributes:
        frames: what was sent so far, TPKT by TPKT, as it was.
        hit: the fault has been played; ``struck`` has the frame as it was.
    """

    def __init__(self, fault: Fault | None, *, tls: bool = False) -> None:
        self.fault = fault
        self._head, self._at, self._more = (5, 3, 5) if tls else (4, 2, 0)
        self.frames: list[bytes] = []
        self.hit = False
        self.struck = b""
        self._part = b""
        self._held: bytearray | None = None
        self._shut = False

    @property
    def silent(self) -> bool:
        """Nothing more comes through, not even the end."""
        return self._shut or self._held is not None

    def feed(self, data: bytes) -> list[Action]:
        """Octets of the sender; what is not a whole frame yet waits for the rest."""
        new = self._split(data)
        if self._shut:
            return []
        if self._held is not None:
            self._held += b"".join(new)
            return []
        if self.fault is None:
            return [b"".join(new)] if new else []
        actions: list[Action] = []
        whole = b""
        number = len(self.frames) - len(new)
        swapped = False
        for index, frame in enumerate(new):
            if swapped:
                swapped = False
            elif self._shut:
                break
            elif self._held is not None:
                self._held += frame
            elif not self.hit and number + index == self.fault.frame and self.fault.offset < len(frame):
                self.hit, self.struck = True, frame
                if self.fault.kind is Kind.FRAMES_SWAPPED and index + 1 < len(new):
                    played: list[Action] = [new[index + 1] + frame]
                    swapped = True
                else:
                    played = self._play(frame)
                # What stood before it in the same write comes in the same read.
                if isinstance(played[0], bytes):
                    played[0] = whole + played[0]
                    whole = b""
                actions += played
            else:
                whole += frame
                continue
        return [action for action in (*actions, whole) if action != b""]

    def _split(self, data: bytes) -> list[bytes]:
        octets = self._part + data
        first = len(self.frames)
        while len(octets) >= self._head:
            size = int.from_bytes(octets[self._at : self._at + 2], "big") + self._more
            if not self._head <= size <= len(octets):
                break
            self.frames.append(octets[:size])
            octets = octets[size:]
        self._part = octets
        return self.frames[first:]

    def _play(self, frame: bytes) -> list[Action]:
        assert self.fault is not None
        kind, at = self.fault.kind, self.fault.offset
        match kind:
            case Kind.CUT:
                self._shut = True
                return [frame[:at], Mark.CUT]
            case Kind.HALF_CLOSE:
                self._shut = True
                return [frame[:at], Mark.EOF]
            case Kind.STALL:
                self._shut = True
                return [frame[:at], Mark.HELD]
            case Kind.DELAY:
                self._held = bytearray(frame[at:])
                return [frame[:at], Mark.HELD]
            case Kind.TINY:
                return [frame[:at], *[frame[i : i + 1] for i in range(at, len(frame))]]
            case Kind.CORRUPT:
                return [frame[:at] + bytes((frame[at] ^ 1 << self.fault.bit,)) + frame[at + 1 :]]
            case Kind.DUPLICATE:
                return [frame[: at + 1] + frame[at:]]
            case Kind.REORDER:
                first = min(at, len(frame) - 2)
                return [frame[:first] + frame[first + 1 : first + 2] + frame[first : first + 1] + frame[first + 2 :]]
            case Kind.FRAME_TWICE:
                return [frame + frame]
        return [frame]

    @property
    def changed_nothing(self) -> bool:
        """Two equal octets changed places."""
        if self.fault is None or self.fault.kind is not Kind.REORDER or not self.hit:
            return False
        at = min(self.fault.offset, len(self.struck) - 2)
        return self.struck[at] == self.struck[at + 1]

    def release(self) -> bytes:
        """DELAY: what was held back comes now."""
        held, self._held = bytes(self._held or b""), None
        self.fault = None
        return held
