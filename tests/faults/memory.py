"""The whole stack of both ends in memory: real ``Connection`` objects over pipes, jobs run at once, a turned clock.

Nothing waits: time passes only when all is quiet, from deadline to deadline. So every octet can have every fault.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from engine_pair import CLIENT, SERVER, UTC, config
from fastsec.aio import connection, endpoints, receiving, wiring
from fastsec.aio.endpoints import forget_identities
from fastsec.aio.setup import SecuredMaker
from fastsec.config import Policy
from fastsec.errors import StateError
from fastsec.instant import Instant
from faults.script import INITIATE, End, Result, steps
from faults.tap import Fault, Kind, Mark, Tap
from stateful.noted import NotedSecrets

HORIZON_MS = 130_000
"""Longer than every limit that a stalled handshake or release may wait for: 60 s to confirm, 10 s, 30 s."""
DELAY_MS = 5_000
"""Shorter than all of them."""


class Loop:
    """The clock, the deadlines and the queue of what happens next."""

    def __init__(self) -> None:
        self.mono_ms = 1_000_000
        self.queue: deque[Callable[[], None]] = deque()
        self.due: dict[Any, int] = {}
        self.complaints: list[str] = []

    # what a Runtime has
    @property
    def loop(self) -> Loop:
        return self

    timers = jobs = loop

    def move(self, target: Any, slot: int, due_ms: int | None) -> int:
        if due_ms is None:
            self.due.pop(target, None)
            return 0
        self.due[target] = due_ms
        return max(due_ms, 1)

    def submit(self, job: Any, done: Callable[[Any, Any], None], *, urgent: bool = False) -> None:
        def run() -> None:
            job.run()
            done(job, None)

        self.queue.append(run)

    # what an event loop has
    def call_soon(self, callback: Callable[..., None], *facts: Any) -> None:
        self.queue.append(lambda: callback(*facts))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    @property
    def now(self) -> Instant:
        return Instant(UTC + self.mono_ms, self.mono_ms)

    def run(self) -> None:
        """Until nothing is left to do at this moment."""
        while self.queue:
            self.queue.popleft()()

    def pass_time(self, ms: int, until: Callable[[], bool] = lambda: False) -> int:
        """Let time pass; the milliseconds that did before ``until()`` held."""
        begun, end = self.mono_ms, self.mono_ms + ms
        self.run()
        while self.mono_ms < end and not until():
            coming = [due for due in self.due.values() if due <= end]
            self.mono_ms = max(self.mono_ms, min(coming, default=end))
            for target in [target for target, due in self.due.items() if due <= self.mono_ms]:
                del self.due[target]
                target.timer_expired()
            self.run()
        return self.mono_ms - begun


class Pipe(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, loop: Loop, protocol: Any) -> None:
        self.loop, self.protocol = loop, protocol
        self.tap = Tap(None)
        self.other: Pipe
        self.inbox: deque[bytes | None] = deque()  # None: end of file
        self.paused = self.closing = self.shut = self.lost = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 102) if name == "peername" else default

    def write(self, data: bytes) -> None:
        if self.closing or self.shut:
            return
        for action in self.tap.feed(bytes(data)):
            if action is Mark.CUT:
                self.cut()
                self.other.put(None)
            elif action is Mark.EOF:
                self.other.put(None)
            elif isinstance(action, bytes):
                self.other.put(action)

    def put(self, data: bytes | None) -> None:
        self.inbox.append(data)
        self.loop.call_soon(self.pump)

    def pump(self) -> None:
        while self.inbox and not self.paused and not self.lost:
            data = self.inbox.popleft()
            if data is None:
                self.close()
            elif not self.closing:
                self.protocol.data_received(data)

    def cut(self) -> None:
        if not self.lost:
            self.lost = self.closing = True
            self.loop.call_soon(self.protocol.connection_lost, None)

    def write_eof(self) -> None:
        if not self.shut and not self.closing:
            self.shut = True
            if not self.tap._shut and self.tap._held is None:
                self.other.put(None)

    def close(self) -> None:
        if not self.closing:
            self.write_eof()
            self.closing = True
            self.cut_soon()

    def cut_soon(self) -> None:
        if not self.lost:
            self.lost = True
            self.loop.call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self.loop.call_soon(self.pump)


class Keeper:
    """Counts as the server that accepted does."""

    def __init__(self) -> None:
        self.half_open: set[Any] = set()
        self.all: set[Any] = set()

    def opened(self, made: Any) -> None:
        self.half_open.discard(made)

    def late(self, made: Any) -> None:
        pass

    def closed(self, made: Any) -> None:
        self.half_open.discard(made)
        self.all.discard(made)


class MemoryWorld:
    """Two identities, an untouched association between them, and as many faulty lives as wanted."""

    def __init__(self, policy: Policy, *, secrets: bool = True) -> None:
        self.loop = Loop()
        self.stack = ExitStack()
        self.noted = NotedSecrets() if secrets else None
        forget_identities()
        for module in (connection, wiring, receiving, endpoints):
            self.stack.enter_context(patch.object(module, "now", lambda: self.loop.now))
        for module in (connection, receiving):
            self.stack.enter_context(patch.object(module, "time_ns", lambda: self.loop.now.utc_ms * 1_000_000))
        if self.noted is not None:
            self.stack.enter_context(self.noted)
        silent = {"sink": lambda event: None}
        self.loop.mono_ms -= 1000  # the endpoints are older than what they are asked
        self.client_maker = SecuredMaker(
            config(CLIENT, policy=policy, **silent), client=True, peer=SERVER, osi=None, initiate=INITIATE
        )
        self.server_maker = SecuredMaker(
            config(SERVER, policy=policy, **silent), client=False, peer=None, osi=None, initiate=b""
        )
        self.loop.mono_ms += 1000
        self.keeper = Keeper()
        self.dial_bystander()

    def close(self) -> None:
        self.stack.close()
        forget_identities()

    # --- one connection ---------------------------------------------------------------------------------------------

    def dial(self, up: Tap | None, down: Tap | None) -> tuple[End, End, Any, Any, Pipe, Pipe]:
        """The client dials; (handlers, connections, pipes) of client and server."""
        ends = End(), End()
        for end in ends:
            end.clock = lambda: self.loop.mono_ms
        client = self.client_maker(self.loop, ends[0], None)  # type: ignore[arg-type]
        server = self.server_maker(self.loop, ends[1], self.keeper)  # type: ignore[arg-type]
        self.keeper.all.add(server)
        self.keeper.half_open.add(server)
        pipes = Pipe(self.loop, client), Pipe(self.loop, server)
        pipes[0].other, pipes[1].other = pipes[1], pipes[0]
        if up is not None and down is not None:
            pipes[0].tap, pipes[1].tap = up, down
        client.begin(None, None)
        server.begin(None, 10)
        server.connection_made(pipes[1])
        client.connection_made(pipes[0])
        client.limit_opening(10)
        return (*ends, client, server, *pipes)

    def talk(self) -> None:
        """One PDU each way on the untouched association."""
        client, server, left, right, *_ = self.bystander
        before = len(client.pdus), len(server.pdus)
        left.write(b"\xa0\x01\x01")
        right.write(b"\xa1\x01\x01")
        self.loop.run()
        assert (len(client.pdus), len(server.pdus)) == (before[0] + 1, before[1] + 1), "the bystander was disturbed"
        assert not client.events
        assert not server.events

    # --- one life ---------------------------------------------------------------------------------------------------

    def live(self, fault: Fault | None, end: str) -> Result:
        """A whole life with one fault, to its end or to the horizon."""
        loop = self.loop
        if self.noted is not None:
            self.noted.clear()
        loop.complaints.clear()
        self.refresh()
        taps = [Tap(fault if fault is not None and fault.to_server is up else None) for up in (True, False)]
        client, server, left, right, here, there = self.dial(*taps)
        result = Result(client, server)
        tap = taps[0 if fault is None or fault.to_server else 1]
        self.play(result, end, fault, tap, (here, there))
        begun = loop.mono_ms
        if not (client.over and server.over):
            loop.pass_time(HORIZON_MS, lambda: client.over and server.over)
        result.waited = (loop.mono_ms - begun) / 1000
        result.hit, result.unchanged = tap.hit, tap.changed_nothing
        result.frame = tap.struck
        self.finish(result, left, right, (here, there))
        return result

    def frames(self, end: str) -> dict[bool, list[bytes]]:
        """The frames of an undisturbed life, by direction."""
        taps = Tap(None), Tap(None)
        client, server, left, right, *pipes = self.dial(*taps)
        result = Result(client, server)
        self.play(result, end, None, taps[0], (pipes[0], pipes[1]))
        assert result.finished
        self.finish(result, left, right, (pipes[0], pipes[1]))
        assert not result.left
        return {True: taps[0].frames, False: taps[1].frames}

    def play(self, result: Result, end: str, fault: Fault | None, tap: Tap, pipes: tuple[Pipe, Pipe]) -> None:
        client, server, loop = result.client, result.server, self.loop
        waited = False
        for step in steps(end):
            if step.name != "associated":
                if not all(one.assoc is not None and one.assoc.is_open for one in (client, server)):
                    return
                try:
                    step.act(client, server)
                except StateError:  # an end is under way
                    return
            loop.run()
            if not step.done(client, server) and fault is not None and fault.kind is Kind.DELAY and not waited:
                waited = True
                loop.pass_time(DELAY_MS)
                pipes[1 if fault.to_server else 0].put(tap.release())
                loop.run()
            if not step.done(client, server):
                return
        result.finished = True

    def finish(self, result: Result, left: Any, right: Any, pipes: tuple[Pipe, Pipe]) -> None:
        """What must be gone, is it? An association that goes on is dropped first."""
        loop = self.loop
        result.alive = [not end.over for end in (result.client, result.server)]
        for pipe in pipes:
            pipe.cut()
        loop.run()
        loop.pass_time(11_000)
        result.complaints = list(loop.complaints)
        for one in (left, right):
            if one in loop.due:
                result.left.append(f"a deadline of {one!r}")
            if one in self.keeper.all or one in self.keeper.half_open:
                result.left.append(f"a place of {one!r}")
            engine = one._engine
            if engine.tx is not None or engine.rx is not None or one._phase != wiring.CLOSED:
                result.left.append(f"{one!r} is not over")
        for maker in (self.client_maker, self.server_maker):
            endpoint = maker._endpoint
            if endpoint.half_open:
                result.left.append("half-open count")
        client_numbers = self.client_maker._endpoint.numbers(SERVER.oid)
        server_numbers = self.server_maker._endpoint.numbers(CLIENT.oid)
        if len(client_numbers.live_as_client) != 1 or len(server_numbers.live_as_server) != 1:
            result.left.append("association numbers")
        if server_numbers.unconfirmed:
            result.left.append("a place among the unconfirmed")
        if self.noted is not None:
            result.left += [f"secret {secret!r}" for secret in self.noted.left()]
        self.talk()

    def refresh(self) -> None:
        """Lives take seconds of the clock; the bystander is dialled anew before its own key update is due."""
        self.loop.pass_time(1000)
        if self.loop.mono_ms - self.dialled_ms > 1_500_000:
            for pipe in self.bystander[4:]:
                pipe.cut()
            self.loop.pass_time(3000)
            self.dial_bystander()

    def dial_bystander(self) -> None:
        self.dialled_ms = self.loop.mono_ms
        self.bystander = self.dial(None, None)
        self.loop.run()
        self.talk()
        if self.noted is not None:
            self.noted.clear()


@contextlib.contextmanager
def memory_world(policy: Policy, *, secrets: bool = True) -> Iterator[MemoryWorld]:
    """A world that is put away at the end."""
    world = MemoryWorld(policy, secrets=secrets)
    try:
        yield world
    finally:
        world.close()
