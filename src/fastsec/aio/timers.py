"""One timer of the event loop for all associations of that loop.

An association has at most one deadline. A ``call_later`` per association would cost a timer object, a context and a
heap entry each; here a deadline costs a place in a set, and near deadlines share one wake-up.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import Final, Protocol

NEAR_MS: Final = 16_000  # deadlines closer than this are kept to FINE_MS, others to COARSE_MS
FINE_MS: Final = 16
COARSE_MS: Final = 1024
BURST: Final = 64  # targets called in one iteration of the loop; the rest follows in the next, after other events


class Timed(Protocol):
    """What has a deadline."""

    def timer_expired(self) -> None:
        """Called once, never early, at most ``COARSE_MS`` late; no slot is held any more."""


def mono_ms() -> int:
    """Milliseconds of the monotonic clock, the same that ``Instant.mono_ms`` has."""
    return time.monotonic_ns() // 1_000_000


class Timers:
    """Deadlines of one event loop. A target remembers the slot number it was given; 0 is no slot."""

    __slots__ = ("_armed", "_handle", "_heap", "_loop", "_ready", "_slots")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Timed]] = {}
        self._heap: list[int] = []
        self._ready: list[Timed] = []
        self._handle: asyncio.TimerHandle | None = None
        self._armed = 0

    def __len__(self) -> int:
        return sum(map(len, self._slots.values())) + len(self._ready)

    def targets(self) -> list[Timed]:
        """All that have a deadline."""
        return [*self._ready, *(target for targets in self._slots.values() for target in targets)]

    def move(self, target: Timed, slot: int, due_ms: int | None) -> int:
        """Give ``target`` another deadline.

        Arguments:
            slot: what the last ``move`` of this target returned, or 0.
            due_ms: monotonic milliseconds, or None for no deadline.

        Result: the new slot, to be handed in next time.
        """
        now = mono_ms()
        if due_ms is None:
            new = 0
        else:
            grain = FINE_MS if due_ms - now < NEAR_MS else COARSE_MS
            new = max(-(-due_ms // grain) * grain, 1)
        if new == slot:
            return slot
        if slot:
            self._discard(target, slot)
        if new:
            self._insert(target, new, now)
        return new

    def _insert(self, target: Timed, slot: int, now: int) -> None:
        targets = self._slots.get(slot)
        if targets is not None:
            targets.add(target)
            return
        self._slots[slot] = {target}
        if len(self._heap) > 2 * len(self._slots) + BURST:
            self._heap = list(self._slots)
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, slot)
        if not self._handle or slot < self._armed:
            self._arm(slot, now)

    def _discard(self, target: Timed, slot: int) -> None:
        targets = self._slots.get(slot)
        if targets is not None and target in targets:
            targets.discard(target)
            if not targets:
                del self._slots[slot]
        elif target in self._ready:
            self._ready.remove(target)

    def _arm(self, slot: int, now: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed = slot
        # The loop's clock may be coarser than ours: one more millisecond, so as not to wake just before.
        self._handle = self._loop.call_later(max(slot - now + 1, 0) / 1000, self._run)

    def _run(self) -> None:
        self._handle = None
        now = mono_ms()
        while self._heap and self._heap[0] <= now:
            self._ready.extend(self._slots.pop(heapq.heappop(self._heap), ()))
        for _ in range(min(len(self._ready), BURST)):
            if not self._ready:
                break
            target = self._ready.pop()
            try:
                target.timer_expired()
            except Exception as error:
                self._loop.call_exception_handler({"message": "deadline of an association", "exception": error})
        if self._ready:
            self._arm(now, now)
            return
        while self._heap and self._heap[0] not in self._slots:
            heapq.heappop(self._heap)
        if self._heap and (self._handle is None or self._heap[0] < self._armed):
            self._arm(self._heap[0], mono_ms())
