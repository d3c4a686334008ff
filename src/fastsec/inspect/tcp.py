"""TCP reassembly of one direction: segments in any order, repeated or missing, come out as octets in order."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final, NamedTuple

from fastsec.inspect.capture import Frame
from fastsec.inspect.packets import ACK, SYN, Segment

PENDING_OCTETS_MAX: Final = 256 * 1024
PENDING_SEGMENTS_MAX: Final = 1024
# A capture may hold an acknowledgement before what it acknowledges: so many segments are waited for.
PATIENCE: Final = 32
_HALF: Final = 1 << 31
_WHOLE: Final = 1 << 32


class Piece(NamedTuple):
    """Octets in their order.

    Attributes:
        data: the octets.
        frame: the frame they came in.
        missing: octets before them that the capture does not hold.
    """

    data: bytes
    frame: Frame
    missing: int


class Stream:
    """One direction of a TCP connection.

    Places are counted from the first octet seen and grow without end, so that sequence numbers may wrap.

    Attributes:
        begun: whether the beginning was seen (SYN).
        pending: octets that wait for others before them.
    """

    __slots__ = ("_acked", "_base", "_count", "_heap", "_next", "_waited", "begun", "pending")

    def __init__(self) -> None:
        self.begun = False
        self.pending = 0
        self._base: int | None = None  # sequence number of place 0
        self._next = 0
        self._acked = 0
        self._waited = 0
        self._heap: list[tuple[int, int, bytes, Frame]] = []
        self._count = 0

    def _place(self, number: int) -> int:
        """The place of a sequence number, near the next one."""
        base = self._base or 0
        return self._next + ((number - base - self._next + _HALF) % _WHOLE) - _HALF

    def is_other(self, segment: Segment) -> bool:
        """Whether a SYN opens another connection between the same endpoints."""
        if not segment.flags & SYN or self._base is None:
            return False
        return not self.begun or (segment.seq + 1) % _WHOLE != self._base

    def take(self, segment: Segment) -> list[Piece]:
        """One segment of this direction."""
        seq = segment.seq
        if segment.flags & SYN:
            seq = (seq + 1) % _WHOLE
            self.begun = True
        if self._base is None:
            self._base = seq
        if segment.payload:
            place = self._place(seq)
            if place + len(segment.payload) > self._next:
                self._count += 1
                heappush(self._heap, (place, self._count, segment.payload, segment.frame))
                self.pending += len(segment.payload)
        return self._ready()

    def acknowledged(self, segment: Segment) -> list[Piece]:
        """A segment of the other direction: what it acknowledges and is not here will hardly come any more."""
        if not segment.flags & ACK or self._base is None:
            return []
        self._acked = max(self._acked, self._place(segment.ack))
        return self._ready()

    def finish(self) -> list[Piece]:
        """No more segments: what waits comes out, with its gaps."""
        return self._ready(always=True)

    def _ready(self, *, always: bool = False) -> list[Piece]:
        pieces = []
        heap = self._heap
        while heap:
            place, _, data, frame = heap[0]
            if place > self._next and not always:
                full = self.pending > PENDING_OCTETS_MAX or len(heap) > PENDING_SEGMENTS_MAX
                self._waited += place <= self._acked
                if not full and self._waited <= PATIENCE:
                    break
            self._waited = 0
            heappop(heap)
            self.pending -= len(data)
            if place + len(data) <= self._next:
                continue
            missing = max(place - self._next, 0)
            fresh = data[max(self._next - place, 0) :]
            self._next = place + len(data)
            pieces.append(Piece(fresh, frame, missing))
        return pieces
