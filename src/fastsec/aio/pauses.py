"""Short pauses of the garbage collector, for a process that is there for fastsec.

CPython looks through everything that is alive whenever that has grown by a quarter: with thousands of associations,
and new ones all the time, that stops all of them for tens of milliseconds every few seconds. An association leaves no
circles behind, so nearly all of that work finds nothing. Here what has lived for a moment is set aside (``gc.freeze``):
counting references frees it as ever, the collector does not look at it. What circles there may be all the same are
looked for when as much again has been set aside, or once an hour.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Final

PERIOD: Final = 0.25
FULL_EVERY: Final = 3600.0
GROWTH_MIN: Final = 500_000  # objects


class ShortPauses:
    """Keeps the collector's pauses short while it runs, in the loop that is running.

    Attributes:
        full: how often everything was looked through.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None
        self.full = 0
        self._look()
        self._next()

    def _look(self) -> None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self.full += 1
        self._limit = 2 * gc.get_freeze_count() + GROWTH_MIN
        self._due = time.monotonic() + FULL_EVERY

    def _next(self) -> None:
        self._handle = self._loop.call_later(PERIOD, self._turn)

    def _turn(self) -> None:
        if gc.get_freeze_count() > self._limit or time.monotonic() > self._due:
            self._look()
        elif gc.get_count()[1]:  # since the last time there was something to look at
            gc.freeze()
        self._next()

    def stop(self) -> None:
        """Leave it to CPython again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            gc.unfreeze()
