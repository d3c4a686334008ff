"""Running on uvloop, or saying that it is missing."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A uvloop event loop; where uvloop is not installed, asyncio's own with a RuntimeWarning."""
    try:
        import uvloop
    except ImportError:
        warnings.warn("uvloop is not installed: fastsec runs on asyncio, at lower speed", RuntimeWarning, stacklevel=2)
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run ``main`` to its end on a new event loop, as ``asyncio.run`` does, but on uvloop if there is one."""
    with asyncio.Runner(loop_factory=new_event_loop, debug=debug) as runner:
        return runner.run(main)
