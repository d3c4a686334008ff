"""A listener whose door is watched: who is not admitted is closed before anything is read."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, cast

from fastsec.aio.server import Server

if TYPE_CHECKING:
    from fastsec.aio.connection import Connection
    from fastsec.aio.runtime import Runtime
    from fastsec.aio.server import HandlerFactory
    from fastsec.aio.setup import Maker
    from fastsec.aio.tls import TLSConfig
    from fastsec.gateway.admission import Admission


class Listener(Server):
    """A server that asks ``admission`` for each connection, by its source address.

    Arguments:
        admission: the door; a connection that was let in leaves it when it closes.
        patient: connections wait for the gateway here, not for the peer, so that all may be without association.
    """

    def __init__(
        self,
        shared: Runtime,
        factory: HandlerFactory,
        maker: Maker,
        tls: TLSConfig | None,
        admission: Admission,
        *,
        patient: bool = False,
    ) -> None:
        super().__init__(shared, factory, maker, tls, admission.maximum + 1)
        self.admission = admission
        admission.make_room = self.make_room
        if patient:
            self.max_half_open = admission.maximum + 1

    def _accept(self) -> asyncio.Protocol:
        return _Door(self)

    def admitted(self) -> asyncio.Protocol:
        """The protocol for a connection that was let in."""
        before = len(self._connections)
        protocol = super()._accept()
        if len(self._connections) == before:  # the server's own limits refuse it
            self.admission.leave()
        return protocol

    def closed(self, connection: Connection) -> None:
        """The connection is gone: its place is free."""
        if connection in self._connections:
            self.admission.leave()
        super().closed(connection)


class _Door(asyncio.Protocol):
    """Looks who is there, then hands the transport to the real protocol."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tcp = cast("asyncio.Transport", transport)
        peer = tcp.get_extra_info("peername")
        source = peer[0] if isinstance(peer, tuple) else ""
        if self._listener.admission.enter(source, time.monotonic()):
            tcp.abort()
            return
        protocol = self._listener.admitted()
        tcp.set_protocol(protocol)
        protocol.connection_made(tcp)
