"""One route at work: its listeners, its dialling, its bridges."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
from typing import TYPE_CHECKING

from fastsec import limits
from fastsec.aio.client import dial
from fastsec.aio.events import default_sink
from fastsec.aio.handler import AssociationHandler
from fastsec.aio.meter import PLAIN, Meter
from fastsec.aio.runtime import runtime
from fastsec.aio.setup import PlainMaker, maker_for, take_over
from fastsec.errors import ConfigError
from fastsec.gateway import aprofile, far, near
from fastsec.gateway.admission import Admission
from fastsec.gateway.bridge import SECURED, Bridge, End
from fastsec.gateway.enforce import Enforcer, GuardedDialledEnd, GuardedEnd
from fastsec.gateway.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastsec.aio.aprofile import AProfileMaker
    from fastsec.aio.connection import Connection
    from fastsec.aio.setup import Maker, SecuredMaker
    from fastsec.aio.tls import TLSConfig
    from fastsec.aprofile import AProfileConfig
    from fastsec.config import Config
    from fastsec.errors import FastsecError
    from fastsec.gateway.bridge import Opener
    from fastsec.gateway.logs import Log
    from fastsec.gateway.model import Route
    from fastsec.gateway.tables import Address, Network

_numbers = itertools.count(1)


def _hint(error: OSError, address: Address) -> str:
    """What to do about an address that cannot be had."""
    if error.errno == errno.EACCES and 0 < address.port < 1024:
        return f"; port {address.port} needs the capability CAP_NET_BIND_SERVICE (see the systemd unit)"
    if error.errno == errno.EADDRINUSE:
        return "; another program listens there, or another instance of this one"
    if error.errno == errno.EADDRNOTAVAIL:
        return "; this machine does not have that address"
    return ""


class Runner:
    """A route from start to end.

    Arguments:
        route: what it is to do.
        config: end-to-end identity, trust and policy.
        tls: of the secured side, or None.
        log: with the route's name.
        meter: counts what happens on the secured side.

    Attributes:
        bridges: all associations, also those on their way.
        addresses: host and port of each listener, near first.
        meters: of the plain and of the secured side.
        doors: side and door of each listener.
        watch: see ``Bridge``; for all of them.
    """

    def __init__(
        self, route: Route, config: Config | AProfileConfig, tls: TLSConfig | None, log: Log, meter: Meter
    ) -> None:
        self.route = route
        self.log = log
        self.bridges: set[Bridge] = set()
        self.watch: Callable[[Connection, bool, FastsecError | None], None] | None = None
        self.meters = (Meter(route.name, PLAIN), meter)
        self.doors: list[tuple[str, Admission]] = []
        self._config = config
        self._tls = tls
        self._enforcer = Enforcer(route.access, config.sink or default_sink) if route.access is not None else None
        # What is the same for all associations is made once.
        self._near = PlainMaker(near.parameters(route), client=route.role == "server", initiate=b"",
                                meter=self.meters[0])  # fmt: skip
        self._far = self._far_maker()
        self._listeners: list[Listener] = []
        self._far_listener: Listener | None = None
        self._waiting: far.Waiting | None = None
        self._dialler: far.Dialler | None = None
        self._quiet: asyncio.Future[None] | None = None
        # The far gateway has 64 places for associations of one peer that are not confirmed yet. Whoever stands in a
        # longer queue after a restart waits for his turn here instead of being refused there.
        self._turn: contextlib.AbstractAsyncContextManager[None] = (
            asyncio.Semaphore(limits.OUR_OPENING_AT_ONCE) if route.role == "client" else contextlib.nullcontext()
        )

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the route listens."""
        return [address for listener in self._listeners for address in listener.addresses]

    @property
    def associations(self) -> int:
        """Associations that are relayed."""
        return sum(bridge.both_open for bridge in self.bridges)

    @property
    def denied(self) -> int | None:
        """MMS requests that the access policy has denied so far; None without one."""
        return None if self._enforcer is None else self._enforcer.denied

    @property
    def waiting(self) -> int:
        """Connections that are kept ready where TCP is reversed."""
        return len(self._waiting or ()) + len(self._dialler or ())

    # --- start, renew, stop ------------------------------------------------------------------------------------------
    async def start(self) -> None:
        """Listen and dial.

        Errors:
            ConfigError: an address cannot be listened at.
        """
        route = self.route
        if route.role == "client":
            await self._listen(route.near, self._near, None, self._plain_handler, route.allow)
        if route.dial == "in":
            if route.role == "client":
                self._waiting = far.Waiting(self.log)
                make: Callable[[], AssociationHandler] = self._waiting.handler
            else:
                make = self._secured_handler
            self._far_listener = await self._listen(route.far, self._far, self._tls, make, route.far_allow)
        elif route.role == "server":
            self._dialler = far.Dialler(
                self._dialled_end, self._dial, self._secured_bridge, self._full, route, self.log
            )
            self._dialler.start()

    async def _listen(
        self,
        address: Address,
        maker: Maker,
        tls: TLSConfig | None,
        make: Callable[[], AssociationHandler],
        allow: tuple[Network, ...],
    ) -> Listener:
        route = self.route
        waits = self._waiting is not None and make == self._waiting.handler
        admission = Admission(
            allow=allow,
            rate=route.accept_rate,
            # The waiting connections come on top of those in use.
            maximum=route.max_associations + (route.spare if waits else 0),
            report=lambda why, count: self.log.warning(f"connections to {address} refused: {why}", count=count),
        )
        self.doors.append((maker.meter.side, admission))
        listener = Listener(runtime(), make, maker, tls, admission, patient=waits)
        try:
            await listener.listen(f"osi://{address}", 1024)
        except OSError as error:
            raise ConfigError(f"cannot listen at {address}: {error.strerror or error}{_hint(error, address)}") from None
        self._listeners.append(listener)
        return listener

    def _far_maker(self) -> SecuredMaker | AProfileMaker:
        route = self.route
        return maker_for(
            self._config,
            client=route.role == "client",
            peer=route.peer,
            osi=None if route.a_profile is None else aprofile.parameters(route),
            initiate=b"",
            tls=self._tls is not None and route.a_profile is not None,  # a native Config says it by itself
            meter=self.meters[1],
        )

    def renew(self, config: Config | AProfileConfig, tls: TLSConfig | None) -> None:
        """Use other certificates, anchors and CRLs for associations from now on. Open ones go on; their peers are
        looked up in the new CRLs at the next key update, or within 24 h."""
        if tls is not None and self._tls is not None:
            tls.take_over(self._tls)  # open connections are looked at again, and begin anew where they can
        self._config, self._tls = config, tls
        if self._enforcer is not None:
            self._enforcer.sink = config.sink or default_sink
        older, self._far = self._far, self._far_maker()
        take_over(self._far, older)
        if self._far_listener is not None:
            self._far_listener.replace(maker=self._far, tls=tls)
        if self._waiting is not None:
            self._waiting.close()
        if self._dialler is not None:
            self._dialler.renew()

    async def stop(self) -> None:
        """Take nothing new; give up what is not open yet; release what is."""
        for listener in self._listeners:
            listener.stop_listening()
            for connection in listener.connections:
                if not connection.is_open:
                    connection.abort(reason="the gateway is going down")
        if self._dialler is not None:
            await self._dialler.close()
        if self._waiting is not None:
            self._waiting.close()
        for bridge in list(self.bridges):
            bridge.release()

    async def quiet(self) -> None:
        """Wait until no bridge is left."""
        while self.bridges:
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet

    async def end(self) -> None:
        """End everything at once."""
        for bridge in list(self.bridges):
            bridge.abort("the gateway is going down")
        await asyncio.gather(*(listener.close(0) for listener in self._listeners))

    # --- bridges -----------------------------------------------------------------------------------------------------
    def _plain_handler(self) -> End:
        return self._bridge(near.Caller(self.route), self._open_far).incoming

    def _secured_handler(self) -> End:
        end = End(SECURED) if self._enforcer is None else GuardedEnd(self._enforcer)
        return self._secured_bridge(end).incoming

    def _dialled_end(self) -> far.DialledEnd:
        return far.DialledEnd() if self._enforcer is None else GuardedDialledEnd(self._enforcer)

    def _secured_bridge(self, end: End) -> Bridge:
        return self._bridge(end, self._open_near)

    def _bridge(self, end: End, opener: Opener) -> Bridge:
        log = self.log.having(assoc=next(_numbers))
        bridge = Bridge(end, opener, self.route.connect_timeout, log, self._done, self._turn)
        bridge.watch = self.watch
        self.bridges.add(bridge)
        return bridge

    def _done(self, bridge: Bridge) -> None:
        self.bridges.discard(bridge)
        if not self.bridges and self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)

    def _full(self) -> bool:
        return len(self.bridges) >= self.route.max_associations + self.route.spare

    async def _open_far(self, bridge: Bridge) -> None:
        if self._waiting is not None:
            await self._waiting.open_far(bridge)
        else:
            end = bridge.outgoing_end()
            end.connection = await self._dial(end)

    async def _open_near(self, bridge: Bridge) -> None:
        end = bridge.outgoing_end()
        end.connection = await dial(f"osi://{self.route.near}", self._near, end, None)

    async def _dial(self, end: End) -> Connection:
        return await dial(f"osi://{self.route.far}", self._far, end, self._tls)
