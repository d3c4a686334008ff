"""The security event catalogue of IEC 62351-14 as data, and one event that happened.

The catalogue stands in ``data/62351-14.csv`` (edition CDV 2025; identifiers may still move, then the file changes and
nothing else). Group 5 of the domain IEC62351-4 and all texts are ours: the public extract of the standard lacks them.
Where the CDV contradicts itself, the column ``note`` says so.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

DOMAIN_E2E = "IEC62351-4"
_PEER_MAX = 64
_PARAM_MAX = 128


@dataclass(frozen=True, slots=True)
class EventType:
    """One row of the catalogue (IEC 62351-14, clause 4).

    Attributes:
        id: ``Domain:Group.Number``, e.g. ``IEC62351-4:1.11``.
        mnemonic: upper-case name, at most 64 characters.
        severity: ``alarm``, ``error``, ``warning`` or ``notice``.
        text: what happened, at most 128 characters.
        edition: edition of the catalogue the row is taken from.
        note: where the row differs from what is printed, and why; mostly empty.
    """

    id: str
    mnemonic: str
    severity: str
    text: str
    edition: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """An event that happened.

    Attributes:
        type: its row of the catalogue.
        peer: identity or address of the peer, at most 64 characters, empty where none is involved.
        params: further facts as (name, value), values at most 128 characters, none of them secret.
    """

    type: EventType
    peer: str = ""
    params: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        """``Domain:Group.Number``."""
        return self.type.id

    @property
    def mnemonic(self) -> str:
        """The catalogue's name of the event."""
        return self.type.mnemonic

    @property
    def severity(self) -> str:
        """``alarm``, ``error``, ``warning`` or ``notice``."""
        return self.type.severity

    @property
    def text(self) -> str:
        """The catalogue's text."""
        return self.type.text

    def __str__(self) -> str:
        facts = "".join(f" {name}={value!r}" for name, value in self.params)
        peer = f" peer={self.peer}" if self.peer else ""
        return f"{self.id} {self.mnemonic} {self.severity}: {self.text}{peer}{facts}"


EventSink = Callable[[SecurityEvent], None]


def _load() -> tuple[Mapping[tuple[str, int, int], EventType], Mapping[str, tuple[EventType, ...]]]:
    by_id: dict[tuple[str, int, int], EventType] = {}
    by_name: dict[str, tuple[EventType, ...]] = {}
    text = resources.files("fastsec").joinpath("data/62351-14.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        group, number = int(row["group"]), int(row["number"])
        name = f"{row['domain']}:{group}.{number}"
        entry = EventType(name, row["mnemonic"], row["severity"], row["text"], row["edition"], row["note"])
        by_id[row["domain"], group, number] = entry
        by_name[entry.mnemonic] = (*by_name.get(entry.mnemonic, ()), entry)
    return MappingProxyType(by_id), MappingProxyType(by_name)


CATALOGUE, _BY_MNEMONIC = _load()


def by_mnemonic(mnemonic: str) -> EventType:
    """The row with this mnemonic.

    Errors:
        KeyError: there is none, or more than one (``CERT_V_FORMAT``): then use ``event`` with the number.
    """
    rows = _BY_MNEMONIC[mnemonic]
    if len(rows) > 1:
        raise KeyError(f"{mnemonic} is {' and '.join(row.id for row in rows)}: use event(domain, group, number)")
    return rows[0]


def event(domain: str, group: int, number: int, *, peer: str = "", **params: object) -> SecurityEvent:
    """An event that happened now.

    Arguments:
        domain: e.g. ``"IEC62351-4"``.
        group, number: see the catalogue.
        peer: identity or address of the peer; cut at 64 characters.
        params: further facts; their text is cut at 128 characters.
    Errors:
        KeyError: the catalogue has no such event.
    """
    return _make(CATALOGUE[domain, group, number], peer, params)


def named(mnemonic: str, *, peer: str = "", **params: object) -> SecurityEvent:
    """As ``event``, by mnemonic; KeyError also if more than one event has it."""
    return _make(by_mnemonic(mnemonic), peer, params)


def _make(entry: EventType, peer: str, params: Mapping[str, object]) -> SecurityEvent:
    facts = tuple((name, str(value)[:_PARAM_MAX]) for name, value in params.items())
    return SecurityEvent(entry, peer[:_PEER_MAX], facts)
