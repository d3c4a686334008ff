"""Having open associations look at their peers' certificates again, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from fastsec import limits
from fastsec.aio.runtime import runtimes

if TYPE_CHECKING:
    from fastsec.aio.runtime import Runtime


def recheck_all() -> None:
    """What is known about revocation has changed. From any thread: every loop of the process is told."""
    for runtime in runtimes():
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            runtime.loop.call_soon_threadsafe(_begin, runtime)


def _begin(runtime: Runtime) -> None:
    """All connections have a deadline, so the timers know them all."""
    under_way = runtime.rechecks is not None
    runtime.rechecks = runtime.timers.targets()
    if not under_way:
        _turn(runtime)


def _turn(runtime: Runtime) -> None:
    left: list[Any] = runtime.rechecks or []
    for _ in range(min(limits.OUR_RECHECKS_AT_ONCE, len(left))):
        recheck = getattr(left.pop(), "recheck", None)
        if recheck is not None:
            try:
                recheck()
            except Exception as error:  # of one; the others have to be looked at all the same
                runtime.loop.call_exception_handler({"message": "recheck of an association", "exception": error})
    if left:
        loop: asyncio.AbstractEventLoop = runtime.loop
        loop.call_later(limits.OUR_RECHECK_PAUSE, _turn, runtime)
    else:
        runtime.rechecks = None
