"""A real connection of the asyncio adapter without a loop: transport, timers, worker threads and clocks are stand-ins.

Octets go into ``Connection.data_received``; the engine, the OSI endpoint and the channel behind it are the product's.
What may not happen is checked in here: an exception, a job that breaks, a PDU delivered that nobody protected, a word
after the end, more octets held or sent than there is reason for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from fastsec import limits
from fastsec.aio import connection as connection_module
from fastsec.aio import receiving as receiving_module
from fastsec.aio import wiring as wiring_module
from fastsec.aio.connection import Connection
from fastsec.aio.handler import AssociationHandler, Reject
from fastsec.aio.plain import PlainAssociation
from fastsec.aio.wiring import CLOSED, LINGER, OPENING
from fastsec.association import Association, Role
from fastsec.envs.osi import OsiParams
from fastsec.errors import Aborted, FastsecError, LimitReached, LocalError
from fastsec.instant import Instant
from fastsec.outputs import Job
from fastsec.peers import Endpoint

MONO: Final = 1_000_000
# One PDU in, at most so many octets out besides what it carries itself: the handshake with its certificates.
ANSWER_MAX: Final = 3 * limits.SPEC_CONNECT_USER_DATA_MAX


class Clock:
    """Both clocks, turned by hand."""

    def __init__(self, utc_ms: int) -> None:
        self.begin = utc_ms
        self.reset()

    def reset(self) -> None:
        """Back to the beginning."""
        self.utc_ms = self.begin
        self.mono_ms = MONO

    def now(self) -> Instant:
        """For ``fastsec.instant.now``."""
        return Instant(self.utc_ms, self.mono_ms)

    def time_ns(self) -> int:
        """For ``time.time_ns``."""
        return self.utc_ms * 1_000_000

    def install(self) -> None:
        """Give the adapter this clock instead of the system's."""
        for module in (connection_module, receiving_module, wiring_module):
            module.now = self.now  # type: ignore[attr-defined]
            if hasattr(module, "time_ns"):
                module.time_ns = self.time_ns


class Loop:
    """What the adapter asks of an event loop."""

    def __init__(self) -> None:
        self.soon: deque[Callable[[], object]] = deque()

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Later, by ``Bench.settle``."""
        self.soon.append(callback)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Never called for what a peer did."""
        error = context.get("exception")
        raise AssertionError(f"the loop was told of an exception: {context}") from error


class Timers:
    """Deadlines, noted only."""

    def __init__(self) -> None:
        self.due: int | None = None

    def move(self, target: object, slot: int, due_ms: int | None) -> int:
        """Note the deadline."""
        self.due = due_ms
        return 0 if due_ms is None else 1


class Jobs:
    """Work for threads, done when ``Bench.settle`` says."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Job, Callable[[Any, BaseException | None], None]]] = deque()

    def submit(self, job: Job, done: Callable[[Any, BaseException | None], None], *, urgent: bool = False) -> None:
        """Queue it."""
        self.waiting.append((job, done))


class Runtime:
    """Stands for ``fastsec.aio.runtime.Runtime``."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.timers = Timers()
        self.jobs = Jobs()


class Wire(asyncio.Transport):
    """Stands for TCP: remembers what was written, and whether the other side wants to go on."""

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.total = 0
        self.paused = False
        self.closing = False
        self.half = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        """Note the octets."""
        assert not self.half, "written after the end of writing"
        if not self.closing:
            self.out.append(data)
            self.total += len(data)

    def write_eof(self) -> None:
        """No more is written."""
        self.half = True

    def close(self) -> None:
        """The connection goes."""
        self.closing = True

    def abort(self) -> None:
        """The connection goes at once."""
        self.closing = True

    def is_closing(self) -> bool:
        """Whether it goes."""
        return self.closing

    def pause_reading(self) -> None:
        """Nothing is to be delivered."""
        self.paused = True

    def resume_reading(self) -> None:
        """Deliver again."""
        self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """An address."""
        return ("192.0.2.1", 40_000) if name == "peername" else default


class Handler(AssociationHandler):
    """The application: answers as it is told and notes what it hears."""

    def __init__(self, answer: bytes | Reject) -> None:
        self.answer = answer
        self.received: list[bytes] = []
        self.over = 0
        self.error: Any = None
        self.events = 0
        self.opened = 0
        self.released_count = 0
        self.asked = 0

    @property
    def heard(self) -> tuple[int, int, int, bool]:
        """What only the peer's good signature brings about: opening, release, an end that the peer has explained."""
        told = isinstance(self.error, Aborted) and self.error.side == "peer"
        return self.opened, self.released_count, self.asked, told

    def _alive(self) -> None:
        assert not self.over, "a callback after ended"

    def association_requested(self, assoc: Connection, appl_data: bytes) -> bytes | Reject:
        """A verified peer asks."""
        self._alive()
        return self.answer

    def associated(self, assoc: Connection) -> None:
        """Open."""
        self._alive()
        self.opened += 1
        assert self.opened == 1

    def confirmed(self, assoc: Connection) -> None:
        """Confirmed."""
        self._alive()
        assert assoc.confirmed

    def pdus_received(self, assoc: Connection, pdus: list[bytes]) -> None:
        """Data."""
        self._alive()
        assert pdus
        self.received += pdus

    def release_requested(self, assoc: Connection) -> None:
        """The peer wants to release."""
        self._alive()
        self.asked += 1

    def released(self, assoc: Connection) -> None:
        """Both have released."""
        self._alive()
        self.released_count += 1
        assert self.released_count == 1

    def ended(self, assoc: Connection, error: FastsecError | None) -> None:
        """Over."""
        self._alive()
        self.over += 1
        self.error = error
        assert error is None or isinstance(error, FastsecError)
        assert (error is None) <= (self.released_count == 1)

    def event_received(self, assoc: Connection, event: object) -> None:
        """A security event."""
        self.events += 1


class Bench:
    """One connection under test.

    Arguments:
        clock: installed.
        engine: with an endpoint of its own, or a plain one.
        params: None for a bare association.
        client: role of the association.
        answer: of the application to a request.
        initiate: own PDU of the protected protocol.
    """

    def __init__(
        self,
        clock: Clock,
        engine: Association | PlainAssociation,
        params: OsiParams | None,
        *,
        client: bool,
        answer: bytes | Reject,
        initiate: bytes,
    ) -> None:
        self.clock = clock
        self.runtime = Runtime()
        self.handler = Handler(answer)
        self.wire = Wire()
        self.engine = engine
        self.connection = Connection(
            self.runtime,  # type: ignore[arg-type]
            self.handler,
            engine,
            params,
            client=client,
            initiate=initiate,
            sink=self._event,
        )
        self.raised = 0
        self.hold = False
        self.fed = 0
        self.calls = 1
        self.unread: deque[bytes] = deque()
        self.allowed: set[bytes] = set()
        self.checked = 0

    def _event(self, event: object) -> None:
        self.raised += 1

    # --- what happens to it -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """TCP stands."""
        self.connection.connection_made(self.wire)
        self.settle()

    def feed(self, octets: bytes, step: int = 0) -> None:
        """Octets arrive, in pieces of ``step``; while reading is paused they wait as in the system's buffer."""
        step = step or len(octets) or 1
        for at in range(0, len(octets), step):
            self.unread.append(octets[at : at + step])
        self.deliver()

    def deliver(self) -> None:
        """Hand over what waits."""
        wire = self.wire
        while self.unread and not wire.paused and not wire.closing:
            octets = self.unread.popleft()
            self.fed += len(octets)
            self.calls += 1
            self.connection.data_received(octets)
            self.settle()

    def settle(self) -> None:
        """Let the threads and the loop do what waits, unless the threads are held up."""
        runtime = self.runtime
        while True:
            while runtime.loop.soon:
                runtime.loop.soon.popleft()()
            if self.hold or not runtime.jobs.waiting:
                break
            self.run_job()
        self.check()

    def run_job(self) -> None:
        """One job comes back."""
        job, done = self.runtime.jobs.waiting.popleft()
        job.run()
        error = job.error
        if error is not None and not isinstance(error, FastsecError):
            raise error
        done(job, None)

    def call(self, function: Callable[..., object], *facts: object) -> None:
        """The application calls; it may be told that this is not possible, no more."""
        try:
            function(*facts)
        except (LocalError, LimitReached):
            return
        finally:
            self.calls += 1
            self.settle()

    def elapse(self, utc_ms: int, mono_ms: int) -> None:
        """Both clocks move, the wall clock perhaps back; what is due by then runs."""
        clock, timers = self.clock, self.runtime.timers
        clock.utc_ms += utc_ms
        end = clock.mono_ms + mono_ms
        for _ in range(4):
            if timers.due is None or timers.due > end:
                break
            clock.mono_ms = max(clock.mono_ms, timers.due)
            timers.due = None
            self.calls += 1
            self.connection.timer_expired()
            self.settle()
        clock.mono_ms = end

    # --- what must hold ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """After every step."""
        handler, connection = self.handler, self.connection
        for pdu in handler.received[self.checked :]:
            assert pdu in self.allowed, "delivered, but nobody has protected it"
        self.checked = len(handler.received)
        assert connection._channel.buffered <= limits.OUR_TSDU_MAX + 65_535 + 4096
        assert self.wire.total <= ANSWER_MAX + 4 * self.fed + 6000 * self.calls
        assert self.raised <= 4 * self.calls + self.fed // 4

    def end(self) -> None:
        """The connection is lost; nothing may be left of the association."""
        self.hold = False
        self.settle()
        if self.wire.paused:
            self.connection.resume_reading()
        self.unread.clear()
        phase = self.connection._phase
        self.connection.connection_lost(None)
        self.settle()
        assert self.connection._phase == CLOSED
        if phase > OPENING:
            assert self.handler.over == 1
        assert not self.runtime.jobs.waiting
        engine = self.engine
        if isinstance(engine, PlainAssociation):
            return
        endpoint = engine._endpoint
        assert engine.rx is None
        assert engine.tx is None
        assert engine._keys is None
        assert endpoint.half_open == 0
        assert not endpoint._unconfirmed
        for numbers in endpoint._peers.values():
            assert not numbers.live_as_client
            assert not numbers.live_as_server
            assert not numbers.unconfirmed
        assert engine.deadline is None


def twin(engine: Association, endpoint: Endpoint) -> Association:
    """A copy of an engine that has just opened, without its guards and key update, on an endpoint of its own."""
    copy = object.__new__(Association)
    for kind in type(engine).__mro__:
        for slot in getattr(kind, "__slots__", ()):
            if slot != "__weakref__" and hasattr(engine, slot):
                setattr(copy, slot, getattr(engine, slot))
    copy._endpoint = endpoint
    copy._outputs = []
    copy._inbox = None
    copy.wakeup = None
    peer = engine._called
    assert peer is not None
    numbers = endpoint.numbers(peer.oid)
    copy._numbers = numbers
    if copy._pair is not None:
        numbers.hold(copy._pair)
        live = numbers.live_as_client if engine.role is Role.CLIENT else numbers.live_as_server
        live.add(int(copy._n or 0))
    return copy


assert LINGER
