"""Opening: ``connect`` and ``plain_connect``."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from fastsec import limits
from fastsec.aio.address import parse_address
from fastsec.aio.connection import Connection
from fastsec.aio.handler import AssociationHandler
from fastsec.aio.runtime import runtime
from fastsec.aio.setup import Maker, PlainMaker, Role, check_role, maker_for
from fastsec.aio.stream import Answer, AssociationStream, StreamHandler
from fastsec.aio.tls import TLSConfig, TLSLayer
from fastsec.errors import Aborted, ConfigError, FastsecError

if TYPE_CHECKING:
    from fastsec.aio.meter import Meter
    from fastsec.aprofile import AProfileConfig
    from fastsec.config import Config
    from fastsec.envs.osi import OsiParams
    from fastsec.pki.identity import OsiName


class Closable(Protocol):
    """What can be left."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


T = TypeVar("T", bound=Closable)


class Opening(Generic[T]):
    """What ``connect`` and ``serve`` return: ``await`` it, or use it in ``async with``; once."""

    __slots__ = ("_got", "_open")

    def __init__(self, opening: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._open = opening
        self._got: T | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._open().__await__()

    async def __aenter__(self) -> T:
        self._got = await self._open()
        return self._got

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._got is not None:
            await self._got.__aexit__(kind, error, trace)


def connect(
    address: str,
    config: Config | AProfileConfig,
    *,
    peer: OsiName | None = None,
    initiate: bytes = b"",
    tls: TLSConfig | None = None,
    role: Role = "client",
    answer: Answer | None = None,
    osi: OsiParams | None = None,
    local_address: tuple[str, int] | None = None,
    meter: Meter | None = None,
) -> Opening[AssociationStream]:
    """Dial and open a secured association, for ``await`` (62351-4 native mode over OSI).

    Arguments:
        address: ``osi://host:port``; the port is 3782 with TLS, 102 without.
        config: this endpoint; an ``AProfileConfig`` for the A-profile of 2007 instead of native mode, then without
            ``peer`` (docs/a-profile.md).
        peer: whom to call: the certificate and the responding name have to be this one. Needed by a client.
        initiate: the protected protocol's request for the handshake (an MMS initiate-Request). Needed by a client.
        tls: certificates for the hop, or None for no TLS.
        role: role in the association, whoever dials: a ``server`` dials out and waits for the client's request.
        answer: server: the protected protocol's response, or a function of the stream and the request that finds it.
        osi: selectors and sizes, if others than usual; then with the names.
        local_address: host and port to dial from.
        meter: counts what happens (docs/metrics.md); by default that of all who name none.

    Result: awaitable of, and context manager with, an open ``AssociationStream``; leaving the block releases.

    Errors:
        ConfigError: arguments. OSError: TCP. Aborted, Rejected, PeerError: the attempt failed.
    """
    client = check_role(role)
    maker = maker_for(config, client=client, peer=peer, osi=osi, initiate=initiate, tls=tls is not None, meter=meter)
    return _stream(address, maker, tls, client, initiate, answer, local_address)


def plain_connect(
    address: str,
    osi: OsiParams,
    *,
    initiate: bytes = b"",
    tls: TLSConfig | None = None,
    role: Role = "client",
    answer: Answer | None = None,
    local_address: tuple[str, int] | None = None,
    meter: Meter | None = None,
) -> Opening[AssociationStream]:
    """As ``connect``, without end-to-end security, towards unmodified MMS peers.

    Arguments:
        osi: selectors, names, ACSE password, with ``security=False``.
    """
    client = check_role(role)
    maker = PlainMaker(osi, client=client, initiate=initiate, meter=meter)
    return _stream(address, maker, tls, client, initiate, answer, local_address)


async def connect_handler(
    handler: AssociationHandler,
    address: str,
    config: Config | AProfileConfig,
    *,
    peer: OsiName | None = None,
    initiate: bytes = b"",
    tls: TLSConfig | None = None,
    role: Role = "client",
    osi: OsiParams | None = None,
    local_address: tuple[str, int] | None = None,
    meter: Meter | None = None,
) -> Connection:
    """As ``connect``, for callbacks: returns when TCP stands; the handler is told the rest."""
    client = check_role(role)
    maker = maker_for(config, client=client, peer=peer, osi=osi, initiate=initiate, tls=tls is not None, meter=meter)
    return await dial(address, maker, handler, tls, local_address)


async def plain_connect_handler(
    handler: AssociationHandler,
    address: str,
    osi: OsiParams | None,
    *,
    initiate: bytes = b"",
    tls: TLSConfig | None = None,
    role: Role = "client",
    local_address: tuple[str, int] | None = None,
    meter: Meter | None = None,
) -> Connection:
    """As ``plain_connect``, for callbacks. ``osi`` None: no association at all, TPKT and COTP DT only, to measure."""
    maker = PlainMaker(osi, client=check_role(role), initiate=initiate, meter=meter)
    return await dial(address, maker, handler, tls, local_address)


def _stream(
    address: str,
    maker: Maker,
    tls: TLSConfig | None,
    client: bool,
    initiate: bytes,
    answer: Answer | None,
    local_address: tuple[str, int] | None,
) -> Opening[AssociationStream]:
    if client and not initiate:
        raise ConfigError("the association's client must give the protected protocol's request (initiate)")
    if not client and answer is None:
        raise ConfigError("the association's server must give the protected protocol's response (answer)")
    parse_address(address, tls=tls is not None)

    async def open_stream() -> AssociationStream:
        attempts = limits.OUR_ASSO_RETRIES
        while True:
            stream = AssociationStream(answer)
            connection = await dial(address, maker, StreamHandler(stream), tls, local_address)
            try:
                await stream.opened()
            except asyncio.CancelledError:
                connection.abort(reason="cancelled")
                raise
            except FastsecError:
                # Only where the peer refused nothing but the association number (62351-4 AssoID).
                if not connection.may_retry or not attempts:
                    raise
                attempts -= 1
            else:
                return stream

    return Opening(open_stream)


async def dial(
    address: str,
    maker: Maker,
    handler: AssociationHandler,
    tls: TLSConfig | None,
    local_address: tuple[str, int] | None = None,
) -> Connection:
    """Make the TCP connection, of at most 10 s.

    Errors:
        OSError: it was refused or does not come about. Aborted: not within the time.
    """
    shared = runtime()
    host, port = parse_address(address, tls=tls is not None)
    connection = maker(shared, handler, None)
    layer = TLSLayer(connection, tls, server_side=False, address=f"{host}:{port}") if tls is not None else None
    connection.begin(layer, None)
    made = False
    try:
        async with asyncio.timeout(limits.OUR_ACCEPT_TO_AARQ):
            transport, _ = await shared.loop.create_connection(
                lambda: layer or connection, host, port, local_addr=local_address
            )
        made = True
    except TimeoutError:
        raise Aborted("provider", None, f"{address} does not answer") from None
    finally:
        if not made:
            connection.dismiss()
    keep_alive(transport.get_extra_info("socket"))
    connection.limit_opening(limits.OUR_ACCEPT_TO_AARQ)
    return connection


def keep_alive(sock: Any) -> None:
    """Let the operating system notice a peer that has vanished; sockets accepted from a listening one inherit it.

    Arguments:
        sock: a socket, or what an event loop shows instead of one.
    """
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        with (
            contextlib.suppress(OSError),  # the peer may have reset the connection already
            socket.fromfd(sock.fileno(), sock.family, socket.SOCK_STREAM) as same,
        ):
            same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
