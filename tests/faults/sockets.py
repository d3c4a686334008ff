"""The real stack over real sockets on loopback, a proxy between: lives in groups, the clock turned when all is quiet.

No life waits in true time for a limit. When no octet moves and no job runs, the clock that the stack reads is set to
the next deadline; so a loaded machine only makes it slower, never wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from engine_pair import CLIENT, SERVER, config
from fastsec.aio import connection, endpoints, receiving, timers, wiring
from fastsec.aio.client import connect_handler
from fastsec.aio.endpoints import forget_identities, identity_of
from fastsec.aio.runtime import runtime
from fastsec.aio.server import Server, serve
from fastsec.aio.tls import TLSConfig
from fastsec.config import Policy
from fastsec.errors import StateError
from fastsec.instant import Instant
from faults.memory import DELAY_MS, HORIZON_MS
from faults.script import INITIATE, End, Result, Step, steps
from faults.tap import Fault, Kind, Mark, Tap
from stateful.noted import NotedSecrets

GROUP = 24
START_MS = 1_795_100_000_000  # of the turned wall clock; the trial certificates are valid then


class TurnedClock:
    """True time, which hardly passes, plus what was turned."""

    def __init__(self) -> None:
        self.ahead_ms = 0
        self.begun = time.monotonic_ns() // 1_000_000

    @property
    def mono_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000 + self.ahead_ms

    @property
    def now(self) -> Instant:
        return Instant(START_MS + self.mono_ms - self.begun, self.mono_ms)


class Hop(asyncio.Protocol):
    """One of the two connections of a proxied link: what comes in goes through its tap to the other."""

    def __init__(self, proxy: Proxy, tap: Tap) -> None:
        self.proxy, self.tap = proxy, tap
        self.transport: Any = None
        self.other: Hop
        self.early: list[bytes | None] = []
        self.pieces: list[bytes | None] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        early, self.early = self.early, []
        for data in early:
            self.put(data)

    def data_received(self, data: bytes) -> None:
        self.proxy.moves += 1
        for action in self.tap.feed(data):
            if action is Mark.CUT:
                self.other.put(None)
                self.close()
            elif action is Mark.EOF:
                self.other.put(None)
            elif isinstance(action, bytes):
                self.other.put(action)

    def put(self, data: bytes | None) -> None:
        """Send; None ends the direction."""
        if self.transport is None:
            self.early.append(data)
        elif self.transport.is_closing():
            return
        elif self.pieces or (data is not None and len(data) == 1):
            self.pieces.append(data)
            if len(self.pieces) == 1:
                asyncio.get_running_loop().call_soon(self.trickle)
        else:
            self.put_now(data)

    def put_now(self, data: bytes | None) -> None:
        if data is not None:
            self.transport.write(data)
        elif self.transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                self.transport.write_eof()

    def trickle(self) -> None:
        """Octet by octet, each in a turn of the loop of its own, so that each is a read at the other end."""
        self.proxy.moves += 1
        if self.transport.is_closing():
            self.pieces.clear()
            return
        self.put_now(self.pieces[0])
        self.pieces.pop(0)
        if self.pieces:
            asyncio.get_running_loop().call_soon(self.trickle)

    def eof_received(self) -> bool:
        self.proxy.moves += 1
        if not self.tap.silent:
            self.other.put(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy.moves += 1
        if not self.tap.silent and self.other.transport is not None:
            self.other.close()

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Proxy:
    """A listener that forwards its one connection to ``port`` with a tap in each direction.

    ``dialler_is_client``: which association role dials, for the direction of the taps.
    """

    def __init__(self, port: int, up: Tap, down: Tap, dialler_is_client: bool) -> None:
        self.port = port
        self.moves = 0
        self.near = Hop(self, up if dialler_is_client else down)
        self.far = Hop(self, down if dialler_is_client else up)
        self.near.other, self.far.other = self.far, self.near
        self.task: asyncio.Future[Any] | None = None

    async def listen(self) -> int:
        loop = asyncio.get_running_loop()
        self.listener = await loop.create_server(self._accept, "127.0.0.1", 0)
        return int(self.listener.sockets[0].getsockname()[1])

    def _accept(self) -> Hop:
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(loop.create_connection(lambda: self.far, "127.0.0.1", self.port))
        return self.near

    @property
    def stands(self) -> bool:
        """The onward connection is there, or has failed."""
        return self.task is not None and self.task.done()

    def close(self) -> None:
        self.listener.close()
        for hop in (self.near, self.far):
            if hop.transport is not None:
                hop.transport.abort()


class Life:
    """One association through a proxy, with the script's state."""

    def __init__(self, fault: Fault | None, end: str, tls: bool) -> None:
        self.fault = fault
        self.end = end
        self.taps = [
            Tap(fault if fault is not None and fault.to_server is up else None, tls=tls) for up in (True, False)
        ]
        self.tap = self.taps[0 if fault is None or fault.to_server else 1]
        self.client, self.server = End(), End()
        self.result = Result(self.client, self.server)
        self.steps: list[Step] = steps(end)
        self.acted = False
        self.waited = self.stopped = False
        self.listener: Server
        self.proxy: Proxy
        self.made: Any = None

    @property
    def over(self) -> bool:
        return self.client.over and self.server.over

    @property
    def to_release(self) -> bool:
        """DELAY: the rest waits to be let go."""
        return self.fault is not None and self.fault.kind is Kind.DELAY and self.tap.hit and not self.waited

    def advance(self) -> bool:
        """Do what the script says next, if it is time; whether something was done."""
        if not self.steps or self.stopped:
            return False
        step = self.steps[0]
        if not self.acted:
            self.acted = True
            if step.name != "associated":
                ends = (self.client, self.server)
                if not all(end.assoc is not None and end.assoc.is_open for end in ends):
                    self.stopped = True
                    return True
                try:
                    step.act(*ends)
                except StateError:  # an end is under way
                    self.stopped = True
                    return True
        if step.done(self.client, self.server):
            self.steps.pop(0)
            self.acted = False
            self.result.finished = not self.steps
            return True
        return False


class SocketWorld:
    """Two identities on one event loop, an untouched association between them, and groups of faulty lives."""

    def __init__(self, policy: Policy, tls: tuple[TLSConfig, TLSConfig] | None, *, dials: str = "client") -> None:
        self.dials = dials
        self.tls = tls
        self.clock = TurnedClock()
        self.noted = NotedSecrets()
        self.complaints: list[str] = []
        silent = {"sink": lambda event: None}
        self.configs = {
            "client": config(CLIENT, policy=policy, **silent),
            "server": config(SERVER, policy=policy, **silent),
        }
        self.patience = 3  # rounds of the loop, a millisecond each, without anything: then all is quiet

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[SocketWorld]:
        forget_identities()
        with ExitStack() as stack:
            for module in (connection, wiring, receiving, endpoints):
                stack.enter_context(patch.object(module, "now", lambda: self.clock.now))
            for module in (connection, receiving):
                stack.enter_context(patch.object(module, "time_ns", lambda: self.clock.now.utc_ms * 1_000_000))
            stack.enter_context(patch.object(timers, "mono_ms", lambda: self.clock.mono_ms))
            stack.enter_context(self.noted)
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(
                lambda _, context: self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")
            )
            for one in self.configs.values():
                identity_of(one)
            self.clock.ahead_ms += 1000
            self.runtime = runtime()
            untouched = Life(None, "client releases", False)
            del untouched.steps[1:]
            self.bystander = await self.dial(untouched, through_proxy=False)
            async with asyncio.timeout(300):
                while not all("associated" in end.calls for end in (untouched.client, untouched.server)):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            self.talk()
            await self.quiet([self.bystander])
            self.noted.clear()
            yield self
            self.bystander.made.abort()
            await self.bystander.listener.close(0)
            await asyncio.sleep(0)
        forget_identities()

    def talk(self) -> None:
        life = self.bystander
        life.client.assoc.write(b"\xa0\x01\x01")
        life.server.assoc.write(b"\xa1\x01\x01")

    async def dial(self, life: Life, *, through_proxy: bool = True) -> Life:
        accepts = "server" if self.dials == "client" else "client"
        ends = {"client": life.client, "server": life.server}
        extra: dict[str, dict[str, Any]] = {"client": {"peer": SERVER, "initiate": INITIATE}, "server": {}}
        tls = self.tls if through_proxy else None
        life.listener = await serve(
            lambda: ends[accepts],
            "osi://127.0.0.1:0",
            self.configs[accepts],
            role=accepts,
            tls=tls and tls[0],
            **extra[accepts],
        )
        port = life.listener.addresses[0][1]
        if through_proxy:
            life.proxy = Proxy(port, life.taps[0], life.taps[1], self.dials == "client")
            port = await life.proxy.listen()
        life.made = await connect_handler(
            ends[self.dials],
            f"osi://127.0.0.1:{port}",
            self.configs[self.dials],
            role=self.dials,
            tls=tls and tls[1],
            **extra[self.dials],
        )
        return life

    def activity(self, lives: Iterable[Life]) -> tuple[int, ...]:
        jobs = self.runtime.jobs
        moved = sum(life.proxy.moves for life in lives if hasattr(life, "proxy"))
        told = sum(len(end.calls) + len(end.pdus) for life in lives for end in (life.client, life.server))
        connecting = sum(not life.proxy.stands for life in lives if hasattr(life, "proxy"))
        return moved, told, jobs.running + jobs.waiting + connecting

    async def quiet(self, lives: list[Life]) -> None:
        """Until no octet moves, no job runs and no life has a next step to make."""
        still = 0
        async with asyncio.timeout(300):
            while still < self.patience:
                before = self.activity(lives)
                await asyncio.sleep(0.001)
                acted = False
                for life in lives:
                    while life.advance():
                        acted = True
                after = self.activity(lives)
                still = 0 if acted or before != after or after[2] else still + 1

    def turn(self, ms: int) -> None:
        """Time passes."""
        self.clock.ahead_ms += ms
        if self.runtime.timers._handle is not None:
            self.runtime.timers._handle.cancel()
        self.runtime.timers._run()

    async def live(self, faults: list[tuple[Fault | None, str]]) -> list[Life]:
        """A group of lives, to their ends or to the horizon."""
        self.noted.clear()
        self.complaints.clear()
        tls = self.tls is not None
        lives = await asyncio.gather(*[self.dial(Life(fault, end, tls)) for fault, end in faults])
        passed = 0
        while True:
            await self.quiet(lives)
            if any(life.to_release for life in lives):
                self.turn(DELAY_MS)
                passed += DELAY_MS
                await self.quiet(lives)
                for life in lives:
                    if life.to_release:
                        life.waited = True
                        hop = life.proxy.near if life.proxy.near.tap is life.tap else life.proxy.far
                        hop.other.put(life.tap.release())
                continue
            waiting = [life for life in lives if not life.over]
            if not waiting or passed >= HORIZON_MS:
                break
            step = min(self.next_due_ms(), HORIZON_MS - passed)
            passed += step
            self.turn(step)
        await self.finish(lives, passed)
        return lives

    def next_due_ms(self) -> int:
        slots = [slot for slot in self.runtime.timers._slots if slot > 0]
        return max(1, min(slots, default=self.clock.mono_ms + HORIZON_MS) - self.clock.mono_ms + 1)

    async def finish(self, lives: list[Life], passed: int) -> None:
        for life in lives:
            result = life.result
            result.alive = [not end.over for end in (life.client, life.server)]
            result.waited = passed / 1000
            result.hit, result.unchanged, result.frame = life.tap.hit, life.tap.changed_nothing, life.tap.struck
            life.proxy.close()
        await self.quiet(lives)
        self.turn(11_000)
        await self.quiet(lives)
        for life in lives:
            left = life.result.left
            if life.listener.connections or life.listener.half_open:
                left.append("a place at the listener")
            await life.listener.close(0)
            for end in (life.client, life.server):
                if end.assoc is not None:
                    engine = end.assoc._engine
                    if engine.tx is not None or engine.rx is not None or end.assoc._phase != wiring.CLOSED:
                        left.append(f"{end.assoc!r} is not over")
        shared = [f"secret {secret!r}" for secret in self.noted.left()]
        if len(self.runtime.timers) > 2:
            shared.append(f"{len(self.runtime.timers)} deadlines")
        up = identity_of(self.configs["client"]).endpoint(self.configs["client"], tls=self.tls is not None)
        down = identity_of(self.configs["server"]).endpoint(self.configs["server"], tls=self.tls is not None)
        if up.half_open or down.half_open:
            shared.append("half-open count")
        ours, theirs = up.numbers(SERVER.oid), down.numbers(CLIENT.oid)
        if len(ours.live_as_client) != 1 or len(theirs.live_as_server) != 1 or theirs.unconfirmed:
            shared.append(f"numbers {ours.live_as_client} {theirs.live_as_server} {theirs.unconfirmed}")
        before = len(self.bystander.client.pdus), len(self.bystander.server.pdus)
        self.talk()
        await self.quiet([self.bystander])
        if (len(self.bystander.client.pdus), len(self.bystander.server.pdus)) != (before[0] + 1, before[1] + 1):
            shared.append("the bystander was disturbed")
        for life in lives:
            life.result.left += shared
            life.result.complaints = list(self.complaints)
