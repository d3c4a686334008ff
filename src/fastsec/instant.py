"""The two clocks that the engine is handed with every input; it never asks the system for the time itself."""

from __future__ import annotations

import time
from typing import NamedTuple


class Instant(NamedTuple):
    """One moment.

    Attributes:
        utc_ms: milliseconds since 1970-01-01T00:00:00Z, as the wall clock has it; it may step.
        mono_ms: milliseconds of a monotonic clock with an arbitrary start; timers and distances use it.
    """

    utc_ms: int
    mono_ms: int


def now() -> Instant:
    """Read both clocks of the system. For adapters and doors; floors below take an ``Instant``."""
    return Instant(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)
