"""How much of a flood is written: token buckets per event and peer and for all, and a count of what was suppressed.

Severity reserves room: a flood of notices leaves half of it to what is worse, alarms may use all.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fastsec.events import EventType, SecurityEvent

# The part of a store (queue, spool, bucket) that is kept for severer records.
RESERVE: Final[Mapping[str, float]] = MappingProxyType({"alarm": 0.0, "error": 0.15, "warning": 0.3, "notice": 0.5})
ORDER: Final = ("alarm", "error", "warning", "notice")
KEYS_MAX: Final = 4096
PEERS_TOLD: Final = 64
# Host and port: IPv4, IPv6 as a socket names it (with or without brackets); identities (1.1.999.2:12) stay whole.
_ADDRESS: Final = re.compile(r"((?:\d{1,3}\.){3}\d{1,3}|\[.*\]|[0-9a-fA-F]*:.*):\d+")


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Events that were not written.

    Attributes:
        type: which.
        peer: whose; empty: of several peers.
        count: how many.
        since: when the first was suppressed, on the clock of ``Limiter.admit``.
    """

    type: EventType
    peer: str
    count: int
    since: float


class _Bucket:
    __slots__ = ("count", "last", "peer", "since", "tokens", "type")

    def __init__(self, kind: EventType, peer: str, tokens: float, now: float) -> None:
        self.type = kind
        self.peer = peer
        self.tokens = tokens
        self.last = now
        self.count = 0
        self.since = now


def who(event: SecurityEvent) -> str:
    """Whose event it is: the peer, or where it came from as long as nobody is known; an address without the port, since
    a new connection of the same host is no new peer."""
    peer = event.peer or next((value for name, value in event.params if name == "source"), "")
    place = _ADDRESS.fullmatch(peer)
    return place[1] if place is not None else peer


class Limiter:
    """Decides which events are written.

    Arguments:
        rate: per event and peer, per second.
        burst: per event and peer, at once.
        total_rate: of all events, per second.
        total_burst: of all events, at once.
        keys: pairs of event and peer that are told apart; beyond, the oldest is forgotten, not its count.
    """

    __slots__ = ("_all", "_burst", "_keys", "_last", "_others", "_rate", "_table", "_total_burst", "_total_rate")

    def __init__(
        self,
        rate: float = 1.0,
        burst: float = 20.0,
        total_rate: float = 100.0,
        total_burst: float = 1000.0,
        keys: int = KEYS_MAX,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._total_rate = total_rate
        self._total_burst = total_burst
        self._keys = keys
        self._all = total_burst
        self._last: float | None = None
        self._table: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()
        self._others: dict[str, _Bucket] = {}  # by event: what cannot be put down to a peer that is remembered

    def admit(self, event: SecurityEvent, now: float) -> bool:
        """Whether ``event`` is to be written; if not it is counted.

        Arguments:
            now: seconds of a monotonic clock.
        """
        kind = event.type
        key = (kind.id, who(event))
        table = self._table
        bucket = table.get(key)
        if bucket is None:
            if len(table) >= self._keys:
                self._forget(table.popitem(last=False)[1])
            table[key] = bucket = _Bucket(kind, key[1], self._burst, now)
        else:
            table.move_to_end(key)
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.last) * self._rate)
            bucket.last = now
        if self._last is not None:
            self._all = min(self._total_burst, self._all + (now - self._last) * self._total_rate)
        self._last = now
        if bucket.tokens >= 1 and self._all - 1 >= self._total_burst * RESERVE.get(kind.severity, 0.0):
            bucket.tokens -= 1
            self._all -= 1
            return True
        self._count(bucket, 1, now)
        return False

    def lost(self, kind: EventType, count: int, now: float) -> None:
        """Count events that were dropped elsewhere."""
        if count:
            self._count(self._other(kind, now), count, now)

    def suppressed(self) -> list[Suppressed]:
        """What was suppressed since the last call: the worst peers by name, the others by event."""
        found = sorted((each for each in self._table.values() if each.count), key=lambda each: -each.count)
        for bucket in found[PEERS_TOLD:]:
            self._forget(bucket)
        told = [*found[:PEERS_TOLD], *self._others.values()]
        result = [Suppressed(each.type, each.peer, each.count, each.since) for each in told]
        for bucket in found:
            bucket.count = 0
        self._others.clear()
        return result

    @staticmethod
    def _count(bucket: _Bucket, count: int, now: float) -> None:
        if not bucket.count:
            bucket.since = now
        bucket.count += count

    def _other(self, kind: EventType, now: float) -> _Bucket:
        return self._others.setdefault(kind.id, _Bucket(kind, "", 0, now))

    def _forget(self, bucket: _Bucket) -> None:
        if bucket.count:
            other = self._other(bucket.type, bucket.since)
            self._count(other, bucket.count, bucket.since)
            other.since = min(other.since, bucket.since)
