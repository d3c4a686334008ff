"""Peers that attack the adapter: resets at bad moments, floods, silence. Nobody waits in vain and nothing piles up."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import struct

import pytest
from world import DER, INITIATE, PLAIN, RESPONSE, Recorder, until

from fastsec import limits
from fastsec.aio.client import connect, connect_handler, plain_connect, plain_connect_handler
from fastsec.aio.server import plain_serve, serve
from fastsec.aio.tls import PIECE, TLSLayer
from fastsec.errors import Aborted, FastsecError

CR = bytes.fromhex("0300001611e00000000100c0010dc2020001c1020001")
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


@pytest.mark.parametrize("kind", ["secured", "secured-tls", "plain"])
@pytest.mark.parametrize("limit", ["max_half_open", "max_connections"])
def test_who_connects_and_is_silent_keeps_nobody_out(run, world, authority, monkeypatch, kind, limit) -> None:
    monkeypatch.setattr(limits, "OUR_SILENCE", 0)
    servers: list[Recorder] = []

    def factory() -> Recorder:
        servers.append(Recorder(echo=True))
        return servers[-1]

    async def main() -> None:
        servers.clear()
        tls = kind == "secured-tls"
        if kind == "plain":
            opening = plain_serve(factory, "osi://127.0.0.1:0", PLAIN)
        else:
            opening = serve(factory, "osi://127.0.0.1:0", world.der, tls=authority.config("server") if tls else None)
        async with opening as listener:
            setattr(listener, limit, 3)
            silent = [await asyncio.open_connection(*listener.addresses[0]) for _ in range(3)]
            await until(lambda: listener.half_open == 3)
            address = "osi://{}:{}".format(*listener.addresses[0])
            if kind == "plain":
                client = await plain_connect(address, PLAIN, initiate=INITIATE)
            else:
                config = authority.config("client") if tls else None
                client = await connect(address, world.centre, peer=DER, initiate=INITIATE, tls=config)
            assert isinstance(servers[0].error, Aborted)  # the oldest made room, and only it
            assert [one.error for one in servers[1:]] == [None] * 3
            assert len(listener.connections) == 3
            assert listener.admissions.silent == listener.admissions.unopened == 1
            await client.release()
            for _, writer in silent:
                writer.close()

    run(main())


def test_who_waits_for_an_answer_is_not_closed_for_others(run, monkeypatch) -> None:
    """The peer has asked; what takes long is the application."""
    monkeypatch.setattr(limits, "OUR_SILENCE", 0)

    class Slow(Recorder):
        def association_requested(self, assoc, appl_data):
            super().association_requested(assoc, appl_data)
            self.answer = asyncio.get_running_loop().create_future()
            return self.answer

    async def main() -> None:
        server = Slow()
        async with plain_serve(lambda: server, "osi://127.0.0.1:0", PLAIN) as listener:
            listener.max_half_open = 1
            address = "osi://{}:{}".format(*listener.addresses[0])
            first, second = Recorder(), Recorder()
            await plain_connect_handler(first, address, PLAIN, initiate=INITIATE)
            await server.wait("association_requested")
            await plain_connect_handler(second, address, PLAIN, initiate=INITIATE)
            await second.wait("ended")
            server.answer.set_result(RESPONSE)
            await first.wait("associated")

    run(main())


@pytest.mark.parametrize(
    ("octets", "mnemonic", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "OSI_ENV_PROT_ERR", "not a TPKT: version is not 3"),
        (CR + CR, "OSI_ENV_PROT_ERR", "unexpected: CR"),
        (b"plain", "INV_APPL_CNTX_RQ", "application context 1.0.9506.2.3"),
    ],
)
def test_a_fault_below_the_association_names_its_source(run, world, octets, mnemonic, reason) -> None:
    """Before the peer has said who it is, its address is all an operator can go by."""
    seen = []

    async def main() -> None:
        seen.clear()
        server = Recorder()
        config = dataclasses.replace(world.der, sink=seen.append)
        async with serve(lambda: server, "osi://127.0.0.1:0", config) as listener:
            if octets == b"plain":
                address = "osi://{}:{}".format(*listener.addresses[0])
                with pytest.raises(Aborted):
                    await plain_connect(address, PLAIN, initiate=INITIATE)
            else:
                _, writer = await asyncio.open_connection(*listener.addresses[0])
                writer.write(octets)
            await server.wait("ended")
        (event,) = seen
        assert event.mnemonic == mnemonic
        assert dict(event.params) == {"reason": reason, "source": "127.0.0.1"}

    run(main())


@pytest.mark.parametrize("kind", ["secured", "plain"])
def test_a_server_that_dialled_does_not_wait_for_half_a_request(run, world, monkeypatch, kind) -> None:
    """It waits as long as the other side does not need it, but not between CR and AARQ."""
    monkeypatch.setattr(limits, "OUR_ACCEPT_TO_AARQ", 0.1)
    monkeypatch.setattr(limits, "OUR_ABORT_LINGER", 0.1)

    async def talk(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.2)
        await loop.sock_sendall(sock, CR)
        while await loop.sock_recv(sock, 100):
            pass

    async def main() -> None:
        async with hostile(talk) as address:
            server = Recorder()
            if kind == "plain":
                await plain_connect_handler(server, address, PLAIN, role="server")
            else:
                await connect_handler(server, address, world.der, role="server")
            await asyncio.wait_for(server.wait("ended"), 5)
            assert "did not come in time" in str(server.error)

    run(main())


@pytest.mark.parametrize("kind", ["secured", "plain"])
def test_a_server_that_never_answers_the_request(run, world, monkeypatch, kind) -> None:
    """From AARQ to AARE (62351-4 section 11): the client gives up with an abort."""
    monkeypatch.setattr(limits, "OUR_AARQ_TO_AARE", 0.2)
    monkeypatch.setattr(limits, "OUR_ABORT_LINGER", 0.1)
    heard = bytearray()

    async def talk(sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_recv(sock, 100)
        await loop.sock_sendall(sock, CC)
        while octets := await loop.sock_recv(sock, 10_000):
            heard.extend(octets)

    async def main() -> None:
        heard.clear()
        async with hostile(talk) as address:
            if kind == "plain":
                opening = plain_connect(address, PLAIN, initiate=INITIATE)
            else:
                opening = connect(address, world.centre, peer=DER, initiate=INITIATE)
            with pytest.raises(Aborted, match=r"in time"):
                await opening
        assert heard[7] == 0x0D  # CONNECT
        assert b"\x19" in heard[-40:]  # ABORT

    run(main())
