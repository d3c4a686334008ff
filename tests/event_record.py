"""Which security events were made while a test ran: behind the marker ``event`` (see ``conftest.py``).

Events of this process are seen by themselves. A test whose peer runs in another process, or that looks below the
engine, says what it saw there: ``event_record.note("OSI_ENV_PROT_ERR")``, ``event_record.note_text(log)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from fastsec import events

_ID = re.compile(r"IEC62351-\d+:\d+\.\d+")
IDS = frozenset(entry.id for entry in events.CATALOGUE.values())

T = TypeVar("T")

_recordings: list[set[str]] = []


@contextmanager
def recording() -> Iterator[set[str]]:
    """The identifiers of all events made within."""
    seen: set[str] = set()
    make = events._make

    def noting(entry: events.EventType, *args: Any) -> events.SecurityEvent:
        seen.add(entry.id)
        return make(entry, *args)

    events._make = noting
    _recordings.append(seen)
    try:
        yield seen
    finally:
        _recordings.remove(seen)
        events._make = make


def marked(cases: Iterable[T], names_of: Callable[[T], Iterable[str]]) -> list[Any]:
    """The cases of a parametrized test, each with the marker of its own events, by identifier or mnemonic."""
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.event(*map(_id, names_of(case)))
        )
        for case in cases
    ]


def _id(name: str) -> str:
    return name if name in IDS else events.by_mnemonic(name).id


def note(*names: str) -> None:
    """These events occurred too, by identifier or by mnemonic."""
    for name in names:
        for seen in _recordings:
            seen.add(_id(name))


def note_text(text: str) -> None:
    """All events that a log of another process names by their identifiers occurred too."""
    note(*(found for found in _ID.findall(text) if found in IDS))
