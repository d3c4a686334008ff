"""What the associations of one route, or of one application, have done so far, counted as it happens.

A ``Meter`` costs an association nothing while data flows: PDUs and octets are counted in C by the channel
(``fastsec._core.osidata.Tally``), all else happens a few times in the life of an association. What has ended stays
in the totals. ``fastsec.metrics`` reads meters; without a reader they are a few numbers that nobody looks at.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from fastsec._core.osidata import Tally
from fastsec.errors import Aborted, FastsecError, LimitReached, PeerError, Rejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastsec.aio.connection import Connection
    from fastsec.aio.event_log import EventLog
    from fastsec.aio.revocation import RevocationService
    from fastsec.events import EventSink, SecurityEvent

HANDSHAKE_SECONDS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
JOB_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 10.0)

PLAIN: Final = "plain"
SECURED: Final = "secured"
OWN: Final = "own"  # no side of an association: events that are of no route


@dataclass(slots=True)
class Admissions:
    """What became of the connections to one server, counted since the start.

    Attributes:
        accepted: all that came, those in ``full`` not included.
        opened: those whose association was opened.
        unopened: those that ended without an association, for whatever reason; ``silent`` and ``late`` are among them.
        silent: closed because they had asked for nothing and their place was wanted.
        late: closed because they did not ask for an association in time.
        full: closed at once because too many were there.
    """

    accepted: int = 0
    opened: int = 0
    unopened: int = 0
    silent: int = 0
    late: int = 0
    full: int = 0


class Histogram:
    """How many values lay up to each bound.

    Arguments:
        bounds: ascending; what is above the last one is counted too.

    Attributes:
        counts: one per bound, and one for what is above; not cumulative.
        total: sum of the values.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Meter:
    """The counters of one side of a route, or of an application. Belongs to one event loop.

    Arguments:
        route: the name it has among others; few and chosen by the operator, never by a peer.
        side: ``secured``, ``plain`` or ``own``.

    Attributes:
        traffic: PDUs and octets.
        admissions: of all servers that count here.
        half_open: connections to these servers without an association yet.
        started: handshakes begun: HandshakeReq received, or the connection to send it on stands.
        completed: handshakes after which the association was open.
        failed: handshakes that were not, by what stopped them; see ``cause_of``.
        durations: seconds from the one to the other.
        opened, open: associations, ever and now.
        ended: those that were open, by why they ended.
        key_updates: completed.
        events: security events by identifier, those of our own side's sink.
        tls: TLS handshakes completed: full ones, resumed ones, those made anew on an open connection.
        tls_failed: TLS handshakes that were not, by what stopped them.
    """

    __slots__ = (
        "_begun", "_unconfirmed", "admissions", "completed", "durations", "ended", "events", "failed", "half_open",
        "key_updates", "open", "opened", "route", "side", "started", "tls", "tls_failed", "traffic",
    )  # fmt: skip

    def __init__(self, route: str = "default", side: str = SECURED) -> None:
        self.route = route
        self.side = side
        self.traffic = Tally()
        self.admissions = Admissions()
        self.half_open = 0
        self.started = self.completed = 0
        self.failed: dict[str, int] = {}
        self.durations = Histogram(HANDSHAKE_SECONDS)
        self.opened = self.open = 0
        self.ended: dict[str, int] = {}
        self.key_updates = 0
        self.events: dict[str, int] = {}
        self.tls = [0, 0, 0]
        self.tls_failed: dict[str, int] = {}
        self._begun: dict[Connection, float] = {}
        self._unconfirmed: set[Connection] = set()

    @property
    def under_way(self) -> int:
        """Handshakes begun and not over."""
        return len(self._begun)

    @property
    def unconfirmed(self) -> int:
        """Open associations whose peer has not proved yet that it saw our handshake unaltered."""
        return len(self._unconfirmed)

    # --- told by connections --------------------------------------------------------------------------------------
    def begin_association(self, connection: Connection) -> None:
        """The handshake begins."""
        self.started += 1
        self._begun[connection] = time.monotonic()

    def open_association(self, connection: Connection, confirmed: bool) -> None:
        """The association is open."""
        self.opened += 1
        self.open += 1
        since = self._begun.pop(connection, None)
        if since is not None:
            self.completed += 1
            self.durations.observe(time.monotonic() - since)
        if not confirmed:
            self._unconfirmed.add(connection)

    def confirm_association(self, connection: Connection) -> None:
        """The peer has proved itself in full."""
        self._unconfirmed.discard(connection)

    def end_association(self, connection: Connection, was_open: bool, error: FastsecError | None) -> None:
        """The association, or the attempt to open it, is over."""
        self._unconfirmed.discard(connection)
        if was_open:
            self.open -= 1
            _count(self.ended, cause_of(error))
        elif self._begun.pop(connection, None) is not None:
            _count(self.failed, cause_of(error))

    def end_tls_handshake(self, resumed: bool) -> None:
        """TLS stands."""
        self.tls[resumed] += 1

    def renew_tls(self) -> None:
        """The peer of an open connection was authenticated anew."""
        self.tls[2] += 1

    def fail_tls_handshake(self, error: FastsecError | None) -> None:
        """TLS did not come about."""
        _count(self.tls_failed, cause_of(error))

    # --- events -----------------------------------------------------------------------------------------------------
    def counting(self, sink: EventSink) -> EventSink:
        """``sink``, with each event counted once, however often this is called."""
        return sink if isinstance(sink, Counting) and sink.meter is self else Counting(self, sink)


class Counting:
    """An event sink in front of another. May be called in any thread.

    Attributes:
        meter: counts the events.
    """

    __slots__ = ("_lock", "_sink", "meter")

    def __init__(self, meter: Meter, sink: EventSink) -> None:
        self.meter = meter
        self._sink = sink
        self._lock = Lock()

    def __call__(self, event: SecurityEvent) -> None:
        """Count ``event`` and pass it on."""
        with self._lock:
            _count(self.meter.events, event.type.id)
        self._sink(event)


def _count(table: dict[str, int], key: str) -> None:
    table[key] = table.get(key, 0) + 1


def cause_of(error: FastsecError | None) -> str:
    """One word for why an association ended, of a set that the code alone makes: a peer adds nothing to it.

    ``released``; the name of the check that failed; ``rejected-`` or ``aborted-`` and who did it (``peer``, ``local``,
    ``provider``); the name of the limit that was reached; ``other``.
    """
    if error is None:
        return "released"
    if isinstance(error, PeerError):
        return error.check
    if isinstance(error, Aborted):
        return f"{'rejected' if isinstance(error, Rejected) else 'aborted'}-{error.side}"
    if isinstance(error, LimitReached):
        return error.limit
    return "other"


@dataclass(slots=True)
class RevocationCounts:
    """What the services of the process that keep revocation up to date have done so far.

    Attributes:
        lists_fetched, lists_failed: distribution points asked for a CRL: it was there, or unchanged; it was not.
        answers, answers_failed: questions to OCSP responders.
    """

    lists_fetched: int = 0
    lists_failed: int = 0
    answers: int = 0
    answers_failed: int = 0


REVOCATION: Final = RevocationCounts()
SERVICES: Final[WeakSet[RevocationService]] = WeakSet()
LOGS: Final[WeakSet[EventLog]] = WeakSet()

DEFAULT: Final = Meter()
"""Counts for who names no meter of his own."""


def meter_or_default(meter: Meter | None) -> Meter:
    """``meter``, or the one of all who name none."""
    return DEFAULT if meter is None else meter
