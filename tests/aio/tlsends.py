"""Two ends of a TLS connection over loopback, for tests."""

from __future__ import annotations

import asyncio
import contextlib

from fastsec.aio.tls import TLSConfig, TLSLayer


class End(asyncio.Protocol):
    """The protocol above: collects what happens."""

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.transport: TLSLayer | None = None
        self.data = bytearray()
        self.reads = 0
        self.made = asyncio.Event()
        self.lost = asyncio.get_running_loop().create_future()
        self.got = asyncio.Event()
        self.full, self.free = asyncio.Event(), asyncio.Event()

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.made.set()

    def data_received(self, data: bytes) -> None:
        self.reads += 1
        if self.echo:
            self.transport.write(data)
        self.data += data
        self.got.set()

    def connection_lost(self, exc) -> None:
        self.lost.set_result(exc)  # InvalidStateError if told twice

    def pause_writing(self) -> None:
        self.full.set()

    def resume_writing(self) -> None:
        self.free.set()

    async def until(self, size: int) -> bytes:
        while len(self.data) < size:
            self.got.clear()
            await self.got.wait()
        return bytes(self.data)


@contextlib.asynccontextmanager
async def pair(server: TLSConfig, client: TLSConfig, *, echo: bool = False, address: str = ""):
    """A client End and the list of server Ends over loopback."""
    loop = asyncio.get_running_loop()
    ends: list[End] = []

    def accept() -> TLSLayer:
        ends.append(End(echo))
        return TLSLayer(ends[-1], server, server_side=True)

    listener = await loop.create_server(accept, "127.0.0.1", 0)
    try:
        port = listener.sockets[0].getsockname()[1]
        near = End()
        await loop.create_connection(
            lambda: TLSLayer(near, client, server_side=False, address=address), "127.0.0.1", port
        )
        yield near, ends
        if near.transport is not None:
            near.transport.abort()
        for end in ends:
            if end.transport is not None:
                end.transport.abort()
            await end.lost
        await near.lost
    finally:
        listener.close()
        await listener.wait_closed()
