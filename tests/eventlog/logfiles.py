"""What the tests of the event log share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from fastsec.eventlog import chain
from fastsec.eventlog.record import Record, line, record
from fastsec.events import event

WITHIN = 30.0


def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until ``condition()`` holds."""
    end = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < end, what or "did not happen in time"
        time.sleep(0.01)


def made(number: int, size: int = 0) -> tuple[Record, bytes]:
    """A record with its line."""
    happened = event("IEC62351-4", 1, 3, peer="10.0.0.1", filler="x" * size)
    entry = record(happened, utc_ms=number, sqnum=number, source="host", app_name="app")
    return entry, line(entry)


def files(path: Path) -> list[Path]:
    """The event file and those rotated away."""
    return [each for each in path.parent.glob(f"{path.name}*") if each.suffix != ".head"]


def contents(path: Path) -> list[bytes]:
    """All lines of a chain in order, without hashes and first lines."""
    found = []
    for each in sorted(files(path), key=lambda each: int(each.read_bytes().split(b" ", 5)[4])):
        found += [text[65:] for text in each.read_bytes().splitlines()[1:]]
    return found


def verified(path: Path, key: bytes | None = None) -> chain.Verified:
    """The verdict on the event file, those rotated away, and its end."""
    head = chain.unsealed(Path(f"{path}.head").read_bytes(), key)
    assert head is not None
    return chain.verify([(each.name, each.read_bytes()) for each in files(path)], key, head)
