"""The event log: takes events in any thread, makes records of them in a thread of its own, hands them to its outputs.

Whoever raises an event pays for one append to a queue. Limits, numbers, lines, files and sockets are the writer's
thread's business, so that a flood of events can neither fill a disk nor hold up an association.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol

from fastsec.aio.meter import LOGS
from fastsec.eventlog import generic
from fastsec.eventlog.limiter import ORDER, RESERVE, Limiter
from fastsec.eventlog.record import Record, line, record, timestamp
from fastsec.events import SecurityEvent

if TYPE_CHECKING:
    from fastsec.aio.event_file import Counter
    from fastsec.events import EventSink, EventType

QUEUE: Final = 10_000
CHUNK: Final = 200
GATHER: Final = 0.05  # s, for events that come together to be written together
SUMMARY: Final = 10.0  # s between two counts of what was suppressed
RETRY: Final = 1.0  # s after an output failed
COMPLAIN: Final = 60.0  # s
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

_log = logging.getLogger("fastsec.events.log")


class Output(Protocol):
    """Where records go. Called in the writer's thread only."""

    def write(self, records: list[tuple[Record, bytes]]) -> None:
        """Take records, each with its RFC 5424 line, out of the list; what an OSError leaves there comes again."""

    def flush(self) -> None:
        """Make what was written last."""

    def close(self) -> None:
        """The end."""


class _Pending:
    """What an output has not taken yet."""

    __slots__ = ("complained", "lost", "output", "records", "retry")

    def __init__(self, output: Output) -> None:
        self.output = output
        self.records: list[tuple[Record, bytes]] = []
        self.retry = 0.0
        self.lost = 0
        self.complained = -COMPLAIN

    def write(self, batch: Sequence[tuple[Record, bytes]], now: float, *, again: bool = False) -> None:
        self.records += batch
        if not self.records or (now < self.retry and not again):
            self._bound()
            return
        try:
            self.output.write(self.records)
        except OSError as error:
            self.retry = now + RETRY
            if now - self.complained >= COMPLAIN:
                self.complained = now
                _log.error("events cannot be written, trying again: %s", error.strerror or error)
            self._bound()
            return
        if self.lost:
            _log.error("events can be written again; lost meanwhile: %d", self.lost)
            self.lost = 0

    def _bound(self) -> None:
        if (over := len(self.records) - QUEUE) > 0:
            del self.records[:over]
            self.lost += over


class EventLog:
    """An event sink with records, limits and outputs.

    Arguments:
        source: host name or address of this machine, for the records.
        app_name: of this program.
        counter: of records; None: their SqNum is 0.
        limiter: how much of a flood is written.
        level: the least severity that is written.
        with_generic: also the generic events of 62351-14 beside those of the parts.
        queue: events that may wait; beyond, the less severe are dropped first, and counted.

    Attributes:
        records: made so far.
        limited: events that the limiter has kept out so far; ``dropped``: those for which there was no room.
    """

    def __init__(
        self,
        *,
        source: str,
        app_name: str = "fastsec",
        counter: Counter | None = None,
        limiter: Limiter | None = None,
        level: str = "notice",
        with_generic: bool = False,
        queue: int = QUEUE,
    ) -> None:
        self._source = source
        self._app_name = app_name
        self._outputs: list[_Pending] = []
        self._counter = counter
        self._limiter = limiter or Limiter()
        self._levels = frozenset(ORDER[: ORDER.index(level) + 1])
        self._generic = with_generic
        self._room = {severity: int(queue * (1 - part)) for severity, part in RESERVE.items()}
        self._queue: deque[tuple[int, SecurityEvent, Mapping[str, str]]] = deque()
        self._marks: deque[threading.Event] = deque()
        self._dropped: dict[str, tuple[EventType, int]] = {}
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._closing = False
        self.records = self.limited = self.dropped = 0
        LOGS.add(self)
        self._summary = 0.0
        self._thread = threading.Thread(target=self._run, name="fastsec-events", daemon=True)

    # --- as a sink ---------------------------------------------------------------------------------------------------
    def __call__(self, event: SecurityEvent) -> None:
        """Take ``event``; never waits, in whatever thread."""
        self._put(event, _NOTHING)

    def tagged(self, **extra: str) -> EventSink:
        """A sink whose records also say ``extra``, as ``X.`` parameters."""
        known = MappingProxyType(extra)
        return lambda event: self._put(event, known)

    def _put(self, event: SecurityEvent, extra: Mapping[str, str]) -> None:
        queue = self._queue
        if len(queue) >= self._room.get(event.severity, 0):
            self._drop(event)
            return
        queue.append((time.time_ns() // 1_000_000, event, extra))
        if not self._awake.is_set():
            self._awake.set()

    def _drop(self, event: SecurityEvent) -> None:
        with self._lock:
            kind, count = self._dropped.get(event.id, (event.type, 0))
            self._dropped[event.id] = kind, count + 1
            self.dropped += 1

    @property
    def waiting(self) -> int:
        """Events that the writer's thread has not looked at yet."""
        return len(self._queue)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Where records go."""
        return tuple(each.output for each in self._outputs)

    def add(self, output: Output) -> None:
        """Let records go to ``output`` too; before ``start``."""
        self._outputs.append(_Pending(output))

    # --- life --------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to write. Events that came before are kept."""
        self._thread.start()

    def mark(self) -> threading.Event:
        """Something that is set when all that came before has been handed to the outputs, and flushed there."""
        done = threading.Event()
        self._marks.append(done)
        self._awake.set()
        return done

    def flush(self, within: float = 10.0) -> bool:
        """Wait for ``mark``; False if it took too long. Not for an event loop's thread."""
        return self._thread.is_alive() and self.mark().wait(within)

    def close(self, within: float = 10.0) -> None:
        """Write what has come, and close the outputs. Not for an event loop's thread."""
        self._closing = True
        self._awake.set()
        if self._thread.ident is not None:
            self._thread.join(within)
        if self._thread.is_alive():
            _log.error("events were still being written when time was up")
            return
        for each in self._outputs:
            each.output.close()
        if self._counter is not None:
            self._counter.close()

    # --- the writer's thread ------------------------------------------------------------------------------------------
    def _run(self) -> None:
        while True:
            self._awake.wait(self._until())
            if not self._closing and not self._marks:
                time.sleep(GATHER)
            self._awake.clear()
            closing, marks = self._closing, list(self._marks)
            try:
                self._turn(last=closing)
                if marks:
                    self._flush(marks)
            except Exception:  # a fault of ours must not end the log
                _log.exception("the event log failed; it goes on")
            if closing:
                return

    def _until(self) -> float | None:
        """How long to sleep if nothing comes."""
        if any(each.records for each in self._outputs):
            return RETRY
        if self._summary:
            return max(0.0, self._summary - time.monotonic())
        return None

    def _turn(self, *, last: bool) -> None:
        queue = self._queue
        while queue:
            self._write(self._chunk())
            if queue and not last:
                time.sleep(0.0005)  # let the loop's thread have the interpreter
        now = time.monotonic()
        if self._summary and (now >= self._summary or last):
            self._summary = 0.0
            self._write(self._summaries())
        elif any(each.records for each in self._outputs):
            self._write([])

    def _chunk(self) -> list[tuple[Record, bytes]]:
        batch: list[tuple[Record, bytes]] = []
        now = time.monotonic()
        if self._dropped:
            with self._lock:
                dropped, self._dropped = self._dropped, {}
            for kind, count in dropped.values():
                self._limiter.lost(kind, count, now)
            self._summary = self._summary or now + SUMMARY
        for _ in range(min(CHUNK, len(self._queue))):
            utc_ms, event, extra = self._queue.popleft()
            try:
                if self._admitted(event, now):
                    batch.append(self._record(utc_ms, event, extra))
                if self._generic and (also := generic.of(event)) is not None and self._admitted(also, now):
                    batch.append(self._record(utc_ms, also, extra))
            except Exception:  # a fault of ours with this event; the others go on
                _log.exception("no record can be made of an event")
        return batch

    def _admitted(self, event: SecurityEvent, now: float) -> bool:
        if event.severity not in self._levels:
            return False
        if self._limiter.admit(event, now):
            return True
        self._summary = self._summary or now + SUMMARY
        self.limited += 1
        return False

    def _record(self, utc_ms: int, event: SecurityEvent, extra: Mapping[str, str]) -> tuple[Record, bytes]:
        number = 0
        if self._counter is not None:
            try:
                number = self._counter.next()
            except OSError as error:
                _log.error("the counter of events cannot be written: %s", error.strerror)
        made = record(
            event, utc_ms=utc_ms, sqnum=number, source=self._source, app_name=self._app_name, extra=extra
        )  # fmt: skip
        self.records += 1
        return made, line(made)

    def _summaries(self) -> list[tuple[Record, bytes]]:
        """One record per event and peer, or event, of which some were suppressed: the same event with their count."""
        utc_ms, now = time.time_ns() // 1_000_000, time.monotonic()
        found = []
        for each in self._limiter.suppressed():
            since = timestamp(utc_ms - int((now - each.since) * 1000))
            facts = (("Suppressed", str(each.count)), ("Since", since))
            if each.type.severity in self._levels:
                found.append(self._record(utc_ms, SecurityEvent(each.type, each.peer, facts), _NOTHING))
        return found

    def _write(self, batch: Sequence[tuple[Record, bytes]]) -> None:
        now = time.monotonic()
        for each in self._outputs:
            each.write(batch, now, again=self._closing)

    def _flush(self, marks: list[threading.Event]) -> None:
        for each in self._outputs:
            try:
                each.output.flush()
            except OSError as error:
                _log.error("events cannot be written: %s", error.strerror or error)
        for mark in marks:
            self._marks.remove(mark)
            mark.set()
