"""Peers that attack the adapter: resets at bad moments, floods, silence. Nobody waits in vain and nothing piles up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest
from world import DER, INITIATE, PLAIN

from fastsec.aio.client import connect, plain_connect
from fastsec.errors import FastsecError

CC = bytes.fromhex("0300001611d00001000100c0010dc2020001c1020001")


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
