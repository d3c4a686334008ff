"""Listening: ``serve`` and ``plain_serve``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final

from fastsec import limits
from fastsec.aio.address import parse_address
from fastsec.aio.client import Opening, keep_alive
from fastsec.aio.connection import Connection
from fastsec.aio.handler import AssociationHandler
from fastsec.aio.meter import Admissions, Meter
from fastsec.aio.runtime import Runtime, runtime
from fastsec.aio.setup import Maker, PlainMaker, Role, SecuredMaker, check_role, maker_for, take_over
from fastsec.aio.tls import TLSConfig, TLSLayer
from fastsec.errors import StateError

if TYPE_CHECKING:
    from fastsec.aprofile import AProfileConfig
    from fastsec.config import Config
    from fastsec.envs.osi import OsiParams
    from fastsec.peers import Refusals
    from fastsec.pki.identity import OsiName

_log = logging.getLogger("fastsec.server")

REFUSALS_NOTED_EVERY: Final = 10.0  # seconds: who floods the port does not flood the log

HandlerFactory = Callable[[], AssociationHandler]


class _Refused(asyncio.Protocol):
    """A connection beyond a limit."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.abort()  # type: ignore[attr-defined]  # a TCP transport can


class Server:
    """A listener and the connections it accepted. Made by ``serve``.

    Attributes:
        max_connections: more are closed at once.
        max_half_open: so many may be without an association; more are closed at once.
        admissions: what became of the connections so far.
        meter: adds up all servers that share it.

    Before one is refused, the oldest that has asked for nothing for a second is closed: who opens connections and is
    silent keeps nobody out.
    """

    def __init__(
        self, shared: Runtime, factory: HandlerFactory, maker: Maker, tls: TLSConfig | None, max_connections: int
    ) -> None:
        self.max_connections = max_connections
        self.max_half_open = limits.OUR_HALF_OPEN_MAX
        self.admissions = Admissions()
        self.meter: Meter = maker.meter
        self._runtime = shared
        self._factory = factory
        self._maker = maker
        self._tls = tls
        self._connections: set[Connection] = set()
        self._half_open: dict[Connection, float] = {}  # since when, the oldest first
        self._listener: asyncio.Server | None = None
        self._empty: asyncio.Future[None] | None = None
        self._refused = 0
        self._noted = -REFUSALS_NOTED_EVERY

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening socket."""
        sockets = self._listener.sockets if self._listener is not None else ()
        return [sock.getsockname()[:2] for sock in sockets]

    @property
    def connections(self) -> frozenset[Connection]:
        """All connections, open or not."""
        return frozenset(self._connections)

    @property
    def half_open(self) -> int:
        """Connections without an association yet."""
        return len(self._half_open)

    @property
    def refusals(self) -> Refusals | None:
        """What the flood rules of this server's identity have refused so far; None without security."""
        return self._maker.refusals if isinstance(self._maker, SecuredMaker) else None

    async def listen(self, address: str, backlog: int, reuse_port: bool = False) -> None:
        """Begin to accept. OSError: the address cannot be bound."""
        host, port = parse_address(address, tls=self._tls is not None)
        self._listener = await self._runtime.loop.create_server(
            self._accept,
            None if host == "*" else host,
            port,
            backlog=backlog,
            reuse_port=reuse_port or None,
            start_serving=False,
        )
        try:
            for sock in self._listener.sockets:
                keep_alive(sock)
            await self._listener.start_serving()
        except BaseException:
            await self.close(0)
            raise

    def replace(self, *, maker: Maker | None = None, tls: TLSConfig | None = None) -> None:
        """Use renewed certificates for connections accepted from now on; associations that are open are re-checked
        against the anchors and CRLs of ``maker``, their TLS peers against those of ``tls``."""
        if maker is not None:
            take_over(maker, self._maker)
        self._maker = maker or self._maker
        if tls is not None and self._tls is not None:
            tls.take_over(self._tls)
        self._tls = tls or self._tls

    def _accept(self) -> asyncio.Protocol:
        full = len(self._connections) >= self.max_connections or len(self._half_open) >= self.max_half_open
        if full and not self.make_room():
            self._note_refusal()
            return _Refused()
        try:
            connection = self._maker(self._runtime, self._factory(), self)
        except Exception as error:
            self._runtime.loop.call_exception_handler({"message": "making a handler", "exception": error})
            return _Refused()
        self.admissions.accepted += 1
        self.meter.admissions.accepted += 1
        self.meter.half_open += 1
        self._connections.add(connection)
        self._half_open[connection] = time.monotonic()
        layer = TLSLayer(connection, self._tls, server_side=True) if self._tls is not None else None
        connection.begin(layer, limits.OUR_ACCEPT_TO_AARQ)
        return layer or connection

    def make_room(self) -> bool:
        """Close the oldest connection that has asked for nothing and had its time; False if there is none."""
        latest = time.monotonic() - limits.OUR_SILENCE
        for connection, since in self._half_open.items():
            if since > latest:
                break
            if not connection.has_asked:
                self.admissions.silent += 1
                self.meter.admissions.silent += 1
                connection.cut("it said nothing, and its place was wanted")
                self.closed(connection)
                return True
        return False

    def _note_refusal(self) -> None:
        self._refused += 1
        self.admissions.full += 1
        self.meter.admissions.full += 1
        now = time.monotonic()
        if now - self._noted >= REFUSALS_NOTED_EVERY:
            _log.warning(
                "%d connections refused: %d are there, %d of them without association",
                self._refused,
                len(self._connections),
                self.half_open,
            )
            self._noted, self._refused = now, 0

    def opened(self, connection: Connection) -> None:
        """Its association is open."""
        if self._half_open.pop(connection, None) is not None:
            self.admissions.opened += 1
            self.meter.admissions.opened += 1
            self.meter.half_open -= 1

    def closed(self, connection: Connection) -> None:
        """Its connection is gone."""
        self._connections.discard(connection)
        if self._half_open.pop(connection, None) is not None:
            self.admissions.unopened += 1
            self.meter.admissions.unopened += 1
            self.meter.half_open -= 1
        if not self._connections and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def late(self, connection: Connection) -> None:
        """It did not ask for an association in time and is being closed."""
        self.admissions.late += 1
        self.meter.admissions.late += 1

    def stop_listening(self) -> None:
        """Accept nothing more; connections stay."""
        if self._listener is not None:
            self._listener.close()

    async def close(self, grace: float = limits.OUR_RELEASE) -> None:
        """Stop listening, release every association, wait, close.

        Arguments:
            grace: seconds for the peers to answer; what is left then is aborted. 0 aborts all at once.

        When cancelled, all that is left is cut.
        """
        self.stop_listening()
        for connection in list(self._connections):
            if connection.is_open and grace > 0:
                try:
                    connection.release()
                    continue
                except StateError:
                    continue  # a release is under way already
            connection.abort(reason="the server shuts down")
        try:
            if not await self._emptied(grace):
                for connection in list(self._connections):
                    connection.abort(reason="the server shuts down")
                if not await self._emptied(limits.OUR_ABORT_LINGER):
                    self._cut()
                    await self._emptied(1)
        finally:
            self._cut()
            if self._listener is not None:
                # Only now: from Python 3.12 on it waits for the connections too.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await self._listener.wait_closed()

    def _cut(self) -> None:
        for connection in list(self._connections):
            connection.cut()

    async def _emptied(self, seconds: float) -> bool:
        if not self._connections:
            return True
        self._empty = self._runtime.loop.create_future()
        try:
            async with asyncio.timeout(seconds):
                await self._empty
        except TimeoutError:
            return False
        return True

    async def __aenter__(self) -> Server:
        """The server itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; at once if the block ended by an exception."""
        await self.close(limits.OUR_RELEASE if kind is None else 0)


def serve(
    factory: HandlerFactory,
    address: str,
    config: Config | AProfileConfig,
    *,
    tls: TLSConfig | None = None,
    role: Role = "server",
    peer: OsiName | None = None,
    initiate: bytes = b"",
    osi: OsiParams | None = None,
    max_connections: int = limits.OUR_CONNECTIONS_MAX,
    backlog: int = 1024,
    reuse_port: bool = False,
    meter: Meter | None = None,
) -> Opening[Server]:
    """Accept secured associations (62351-4 native mode over OSI).

    Arguments:
        factory: makes the handler of each connection; may give the same object every time.
        address: ``osi://host:port``, host ``*`` for all; the port is 3782 with TLS, 102 without, 0 for any.
        config: this endpoint; ``config.peers`` says who is let in. An ``AProfileConfig`` for the A-profile of 2007
            instead of native mode (docs/a-profile.md).
        tls: certificates for the hop, or None for no TLS.
        role: role in the association, whoever dials: a ``client`` lets its servers dial in and asks them then.
        peer: client: whom to call.
        initiate: the PDU that ``AssociationHandler.initiate`` or ``association_requested`` give by default.
        osi: selectors and sizes, if others than usual; then with the names.
        max_connections: more are closed at once.
        backlog: connections the operating system keeps waiting.
        reuse_port: other processes listen on this address too, and the operating system shares connections out among
            them (SO_REUSEPORT); under one identity they need ``config.worker``.
        meter: counts what happens (docs/metrics.md); by default that of all who name none.

    Result: awaitable of, and context manager with, a ``Server``; leaving the block releases all associations.

    Errors:
        ConfigError: arguments. OSError: the address cannot be bound.
    """
    client = check_role(role)
    maker = maker_for(config, client=client, peer=peer, osi=osi, initiate=initiate, tls=tls is not None, meter=meter)
    return _serving(factory, address, maker, tls, max_connections, backlog, reuse_port)


def plain_serve(
    factory: HandlerFactory,
    address: str,
    osi: OsiParams | None,
    *,
    tls: TLSConfig | None = None,
    role: Role = "server",
    initiate: bytes = b"",
    max_connections: int = limits.OUR_CONNECTIONS_MAX,
    backlog: int = 1024,
    reuse_port: bool = False,
    meter: Meter | None = None,
) -> Opening[Server]:
    """As ``serve``, without end-to-end security, for unmodified MMS peers.

    Arguments:
        osi: selectors, names, ACSE password, with ``security=False``; None: no association at all, TPKT and COTP DT
            frames only, to measure.
    """
    maker = PlainMaker(osi, client=check_role(role), initiate=initiate, meter=meter)
    return _serving(factory, address, maker, tls, max_connections, backlog, reuse_port)


def _serving(
    factory: HandlerFactory,
    address: str,
    maker: Maker,
    tls: TLSConfig | None,
    max_connections: int,
    backlog: int,
    reuse_port: bool,
) -> Opening[Server]:
    parse_address(address, tls=tls is not None)

    async def start() -> Server:
        server = Server(runtime(), factory, maker, tls, max_connections)
        await server.listen(address, backlog, reuse_port)
        return server

    return Opening(start)
