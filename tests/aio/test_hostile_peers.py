"""Peers that attack the adapter: resets at bad moments, floods, silence. Nobody waits in vain and nothing piles up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest
from world import DER, INITIATE, PLAIN

from fastsec import limits
from fastsec.aio.client import connect, plain_connect
from fastsec.aio.tls import PIECE, TLSLayer
from fastsec.errors import Aborted, FastsecError

CC = bytes.fromhex("0300001611d00001000100c0010dc2020001c1020001")


class Upper(asyncio.Protocol):
    """Above a TLS layer: keeps it."""

    def __init__(self) -> None:
        self.made = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport) -> None:
        self.made.set_result(transport)

    def connection_lost(self, exc) -> None:
        self.lost.set_result(exc)


@contextlib.asynccontextmanager
async def hostile(talk):
    """A TCP server whose one connection is handled by ``talk(sock)``; its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)

    async def accept() -> None:
        client, _ = await asyncio.get_running_loop().sock_accept(listening)
        with client:
            await talk(client)

    task = asyncio.ensure_future(accept())
    try:
        yield "osi://{}:{}".format(*listening.getsockname())
        await task
    finally:
        task.cancel()
        listening.close()


def reset(sock: socket.socket) -> None:
    """Close with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("kind", ["secured", "plain"])
def test_a_server_that_breaks_a_rule_and_resets(run, world, kind) -> None:
    """The abort cannot be sent any more, but whoever waits for the association hears of its end."""

    async def talk(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_recv(sock, 64)
        await loop.sock_sendall(sock, CC + CC)
        reset(sock)

    async def main() -> None:
        async with hostile(talk) as address:
            if kind == "plain":
                opening = plain_connect(address, PLAIN, initiate=INITIATE)
            else:
                opening = connect(address, world.centre, peer=DER, initiate=INITIATE)
            with pytest.raises(FastsecError):
                await asyncio.wait_for(opening.__aenter__(), 5)

    run(main())


@pytest.mark.parametrize("tls", [False, True])
def test_a_server_that_resets_at_once(run, world, authority, tls) -> None:
    """Before ``connect`` has even seen the socket: it still ends as any lost connection."""

    async def talk(sock: socket.socket) -> None:
        reset(sock)

    async def main() -> None:
        for _ in range(5):
            async with hostile(talk) as address:
                config = authority.config("client") if tls else None
                opening = connect(address, world.centre, peer=DER, initiate=INITIATE, tls=config)
                with pytest.raises((Aborted, ConnectionError)):  # never any other OSError
                    await opening

    run(main())


def test_a_tls_peer_that_breaks_a_rule_and_never_reads(run, authority, monkeypatch) -> None:
    """The alert stays behind data the peer does not take; the socket is given back all the same."""
    monkeypatch.setattr(limits, "OUR_ABORT_LINGER", 0.1)
    closed = asyncio.Event()
    below_lost = TLSLayer.connection_lost

    def noting(self, exc) -> None:
        below_lost(self, exc)
        if self._server_side:
            closed.set()

    monkeypatch.setattr(TLSLayer, "connection_lost", noting)

    async def main() -> None:
        closed.clear()
        loop, config = asyncio.get_running_loop(), authority.config("server")
        near, far = Upper(), Upper()
        listener = await loop.create_server(lambda: TLSLayer(near, config, server_side=True), "127.0.0.1", 0)
        address = listener.sockets[0].getsockname()
        await loop.create_connection(lambda: TLSLayer(far, authority.config("client"), server_side=False), *address)
        writing, deaf = await near.made, await far.made
        deaf.pause_reading()
        while not writing.get_write_buffer_size():
            writing.write(bytes(1000))
            await asyncio.sleep(0)
        assert writing.get_write_buffer_size() < PIECE
        deaf._below.write(b"no record of TLS")
        assert isinstance(await near.lost, Aborted)
        assert not closed.is_set()
        await asyncio.wait_for(closed.wait(), 5)
        deaf.abort()
        listener.close()

    run(main())
