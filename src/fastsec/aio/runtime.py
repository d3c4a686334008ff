"""What the associations of one event loop share: timers, jobs, a scratch buffer for TLS."""

from __future__ import annotations

import asyncio
from typing import Final

from fastsec.aio.jobs import Jobs
from fastsec.aio.timers import Timed, Timers

SCRATCH: Final = 64 * 1024


class Runtime:
    """Made once per event loop by ``runtime()``.

    Attributes:
        loop: the event loop.
        timers: its deadlines.
        jobs: its work for threads.
        rechecks: whose peers are to be looked at again (``fastsec.aio.recheck``); None if nobody's.
    """

    __slots__ = ("_scratch", "jobs", "loop", "rechecks", "timers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.timers = Timers(loop)
        self.jobs = Jobs(loop)
        self.rechecks: list[Timed] | None = None
        self._scratch: memoryview | None = None

    @property
    def scratch(self) -> memoryview:
        """64 KiB into which TLS decrypts before the octets are handed on."""
        if self._scratch is None:
            self._scratch = memoryview(bytearray(SCRATCH))
        return self._scratch


_runtimes: dict[int, Runtime] = {}


def runtimes() -> list[Runtime]:
    """Those of all loops of the process that are not closed."""
    return [each for each in list(_runtimes.values()) if not each.loop.is_closed()]


def runtime(loop: asyncio.AbstractEventLoop | None = None) -> Runtime:
    """The Runtime of ``loop``, by default of the running one."""
    if loop is None:
        loop = asyncio.get_running_loop()
    known = _runtimes.get(id(loop))
    if known is not None and known.loop is loop:
        return known
    for key, other in list(_runtimes.items()):
        if other.loop.is_closed():
            _runtimes.pop(key, None)
    made = _runtimes[id(loop)] = Runtime(loop)
    return made
