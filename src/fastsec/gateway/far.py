"""The far side: secured associations, whoever dials TCP.

Where the client of the association dials, there is nothing to keep. Where its server dials (a plant behind a
firewall), that server keeps a few connections open and waiting, and the client takes one when a plain MMS client
comes: ``Waiting`` is the client's stock of such connections, ``Dialler`` keeps them up on the server's side.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from fastsec.errors import Aborted, FastsecError
from fastsec.gateway.bridge import SECURED, Bridge, End

if TYPE_CHECKING:
    from fastsec.aio.connection import Connection
    from fastsec.aio.handler import Reject
    from fastsec.gateway.logs import Log
    from fastsec.gateway.model import Route

ATTEMPTS: Final = 3
RETRY_FIRST: Final = 0.25
RETRY_MOST: Final = 30.0
FULL_PAUSE: Final = 1.0
KEEPALIVE_IDLE: Final = 45  # s; below the time after which firewalls usually forget a silent connection
KEEPALIVE_STEP: Final = 15
KEEPALIVE_COUNT: Final = 4


def keep_alive(connection: Connection) -> None:
    """Make the operating system notice within two minutes that an idle peer has vanished."""
    transport = connection.transport
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_STEP)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)


class WaitingEnd(End):
    """A connection that the far gateway dialled in and that waits to be needed."""

    __slots__ = ("_waiting", "_wanted")

    def __init__(self, waiting: Waiting) -> None:
        super().__init__(SECURED)
        self._waiting = waiting
        self._wanted: asyncio.Future[bytes] | None = None

    async def initiate(self, assoc: Connection) -> bytes:
        """TCP and TLS stand: wait for a plain client to come."""
        self.connection = assoc
        self._wanted = asyncio.get_running_loop().create_future()
        keep_alive(assoc)
        self._waiting.add(self)
        return await self._wanted

    def use(self) -> bool:
        """Ask for an association with the bridge's request; False if the connection has gone meanwhile."""
        if self._wanted is None or self._wanted.done() or self.over:
            return False
        self._wanted.set_result(self.bridge.request)
        return True

    def ended(self, assoc: Connection, error: FastsecError | None) -> None:
        """The connection is over, waiting or in use."""
        self._waiting.discard(self)
        super().ended(assoc, error)


class Waiting:
    """Connections that the far gateway has dialled in, newest last.

    Arguments:
        log: of the route.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._ends: list[WaitingEnd] = []
        self._arrival: asyncio.Event = asyncio.Event()
        self._present = False

    def __len__(self) -> int:
        return len(self._ends)

    def handler(self) -> WaitingEnd:
        """The handler for a connection that is coming in."""
        return WaitingEnd(self)

    def add(self, end: WaitingEnd) -> None:
        """``end`` is ready to be used."""
        self._ends.append(end)
        self._arrival.set()
        if not self._present:
            self._present = True
            source = end.connection.peer_address if end.connection is not None else ""
            self._log.info("the far gateway has dialled in", source=source)

    def discard(self, end: WaitingEnd) -> None:
        """``end`` is gone."""
        if end in self._ends:
            self._ends.remove(end)
            if not self._ends and self._present:
                self._present = False
                self._log.warning("no connection of the far gateway is waiting any more")

    async def open_far(self, bridge: Bridge) -> None:
        """Use a waiting connection for ``bridge``; wait for one to come if there is none.

        The newest is taken: it is the least likely to be dead. One that is lost before the association was asked for
        is replaced by another.
        """
        for _ in range(ATTEMPTS):
            while not self._ends:
                self._arrival.clear()
                await self._arrival.wait()
            end = self._ends.pop()
            bridge.adopt(end)
            if end.use():
                return
        raise Aborted("provider", None, "the far gateway's connections are lost as soon as they are used")

    def close(self) -> None:
        """Close all that wait."""
        for end in list(self._ends):
            if end.connection is not None:
                end.connection.abort(reason="the gateway is going down")


class DialledEnd(End):
    """A connection that we dialled and on which we wait to be asked for an association.

    Attributes:
        settled: done when it waits no more: True if it is in use, False if it was lost.
    """

    __slots__ = ("settled",)

    def __init__(self) -> None:
        super().__init__(SECURED)
        self.settled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def association_requested(self, assoc: Connection, appl_data: bytes) -> Reject | Awaitable[bytes | Reject]:
        """In use: another has to be dialled."""
        self.settle(True)
        return super().association_requested(assoc, appl_data)

    def ended(self, assoc: Connection, error: FastsecError | None) -> None:
        """Over, used or not."""
        self.settle(False)
        super().ended(assoc, error)

    def settle(self, used: bool) -> None:
        """It waits no more; ``used``: another is to be dialled at once."""
        if not self.settled.done():
            self.settled.set_result(used)


class Dialler:
    """Keeps ``spare`` connections to the far gateway open and waiting for its request.

    Arguments:
        end: makes the handler of a connection.
        dial: makes a connection for a handler; raises OSError or FastsecError.
        bridge: makes the bridge of such a handler.
        full: whether the route has all the associations it may have.
        route: for the far address and the number.
        log: of the route.
    """

    def __init__(
        self,
        end: Callable[[], DialledEnd],
        dial: Callable[[End], Awaitable[Connection]],
        bridge: Callable[[End], Bridge],
        full: Callable[[], bool],
        route: Route,
        log: Log,
    ) -> None:
        self._end = end
        self._dial = dial
        self._bridge = bridge
        self._full = full
        self._route = route
        self._log = log
        self._idle: dict[Connection, DialledEnd] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._failing = False

    def __len__(self) -> int:
        return len(self._idle)

    def start(self) -> None:
        """Begin to dial."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_one()) for _ in range(self._route.spare)]

    def renew(self) -> None:
        """Close all that wait; they are dialled again, with whatever ``dial`` uses by then."""
        for connection, end in list(self._idle.items()):
            end.settle(True)
            connection.abort(reason="not needed any more")

    async def close(self) -> None:
        """Dial no more and close all that wait."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.renew()

    async def _keep_one(self) -> None:
        attempt = 0
        while True:
            if self._full():
                await asyncio.sleep(FULL_PAUSE)
                continue
            since = asyncio.get_running_loop().time()
            try:
                used = await self._wait_on_one()
            except Exception as error:  # whatever it was, a gateway that no longer dials can be reached by nobody
                self._log.error(f"internal error, please report it: dialling {self._route.far}", error=repr(error))
                used = False
            if used:
                attempt = 0
                continue
            # What was open for a while was no failure, even if nobody needed it.
            attempt = 1 if asyncio.get_running_loop().time() - since > RETRY_MOST else attempt + 1
            await asyncio.sleep(backoff(attempt))

    async def _wait_on_one(self) -> bool:
        """Dial, and wait until the connection is used (True) or lost (False)."""
        end = self._end()
        bridge = self._bridge(end)
        try:
            connection = await self._dial(end)
        except (OSError, FastsecError) as error:
            bridge.forget()
            self._tell_failure(str(error))
            return False
        except BaseException:
            bridge.forget()
            raise
        self._idle[connection] = end
        keep_alive(connection)
        if self._failing:
            self._failing = False
            self._log.info(f"the far gateway at {self._route.far} answers again")
        try:
            used = await end.settled
        except asyncio.CancelledError:
            connection.abort(reason="the gateway is going down")
            raise
        finally:
            self._idle.pop(connection, None)
        if not used:
            self._log.debug("a waiting connection was lost")
        return used

    def _tell_failure(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            self._log.warning(f"the far gateway at {self._route.far} cannot be dialled: {why}; trying on")


def backoff(attempt: int) -> float:
    """Seconds to wait before attempt number ``attempt`` (from 1): doubling, at most 30, spread by a quarter."""
    delay = min(RETRY_MOST, RETRY_FIRST * 2.0 ** (min(attempt, 10) - 1))
    return delay * random.uniform(0.75, 1.25)  # to spread, not to hide
