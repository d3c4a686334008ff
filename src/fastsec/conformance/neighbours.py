"""The tables about the neighbours of IEC 62351-4: TLS (-3), roles (-8), certificates (-9), events (-14)."""

from __future__ import annotations

from collections.abc import Iterator

from fastsec.conformance.model import Table


def tables() -> Iterator[Table]:
    """All of them."""
    yield from ()
