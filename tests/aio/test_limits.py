"""Timeouts, limits, shutdown, and work in threads that must not hold up others. The limits are made short."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import threading

import pytest
from world import CENTRE, DER, INITIATE, KINDS, PDU, PLAIN, RESPONSE, Recorder, pair, until

from fastsec import data_phase, limits
from fastsec.aio.client import connect, connect_handler, plain_connect, plain_connect_handler
from fastsec.aio.connection import Connection
from fastsec.aio.endpoints import identity_of
from fastsec.aio.runtime import runtime
from fastsec.aio.server import Admissions, plain_serve, serve
from fastsec.errors import Aborted, FastsecError, Rejected

EACH = pytest.mark.parametrize("kind", KINDS)
CR = bytes.fromhex("0300001611e00000000100c0010dc2020001c1020001")


@contextlib.asynccontextmanager
async def silent():
    """A TCP server that accepts and says nothing; its address."""
    writers = []  # from Python 3.13 on a writer that nobody holds closes its connection
    listener = await asyncio.start_server(lambda reader, writer: writers.append(writer), "127.0.0.1", 0)
    try:
        yield "osi://{}:{}".format(*listener.sockets[0].getsockname())
    finally:
        listener.close()
        for writer in writers:
            writer.close()


@pytest.mark.parametrize("kind", ["plain", "secured", "secured-tls"])
def test_a_server_that_says_nothing(run, world, authority, monkeypatch, kind) -> None:
    """Neither TLS nor the transport connection comes about."""
    monkeypatch.setattr(limits, "OUR_ACCEPT_TO_AARQ", 0.1)

    async def main() -> None:
        async with silent() as address:
            if kind == "plain":
                opening = plain_connect(address, PLAIN, initiate=INITIATE)
            else:
                tls = authority.config("client") if kind == "secured-tls" else None
                opening = connect(address, world.centre, peer=DER, initiate=INITIATE, tls=tls)
            with pytest.raises(Aborted, match="did not come in time"):
                await opening

    run(main())


@pytest.mark.parametrize("octets", [b"", CR[:5], CR])
@EACH
def test_a_client_that_says_nothing_or_too_little(run, world, authority, monkeypatch, kind, octets) -> None:
    """From accept to AARQ: TLS and COTP count too."""
    monkeypatch.setattr(limits, "OUR_ACCEPT_TO_AARQ", 0.1)
    monkeypatch.setattr(limits, "OUR_ABORT_LINGER", 0.1)
    server = Recorder()

    async def main() -> None:
        if kind == "plain":
            opening = plain_serve(lambda: server, "osi://127.0.0.1:0", PLAIN)
        else:
            tls = authority.config("server") if kind == "secured-tls" else None
            opening = serve(lambda: server, "osi://127.0.0.1:0", world.der, tls=tls)
        async with opening as listener:
            reader, writer = await asyncio.open_connection(*listener.addresses[0])
            writer.write(octets)
            await reader.read()
            await server.wait("ended")
            assert isinstance(server.error, Aborted)
            assert "associated" not in server.calls
            writer.close()
            await until(lambda: not listener.connections)
            late = kind != "secured-tls" or not octets  # TLS does not wait for what is no record of it
            assert listener.admissions == Admissions(accepted=1, unopened=1, late=int(late))

    run(main())


@EACH
def test_an_application_that_never_answers(run, world, authority, monkeypatch, kind) -> None:
    monkeypatch.setattr(limits, "OUR_AARQ_TO_AARE", 0.2)

    class Undecided(Recorder):
        def association_requested(self, assoc, appl_data):
            return asyncio.get_running_loop().create_future()

    async def main() -> None:
        server = Undecided()
        async with pair(world, authority, kind, server=server) as two:
            with pytest.raises(FastsecError) as caught:
                await two.opened()
            assert isinstance(caught.value, Aborted)
            if isinstance(caught.value, Rejected):
                assert caught.value.transient
            await server.wait("ended")
            assert "associated" not in server.calls

    run(main())


@EACH
def test_a_peer_that_does_not_release(run, world, authority, monkeypatch, kind) -> None:
    monkeypatch.setattr(limits, "OUR_RELEASE", 0.1)
    monkeypatch.setattr(limits, "OUR_ABORT_LINGER", 0.1)

    class Stubborn(Recorder):
        def release_requested(self, assoc):
            return asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with pair(world, authority, kind, server=Stubborn()) as two:
            await two.opened()
            two.client.assoc.release()
            await two.ended()
            assert isinstance(two.client.error, Aborted)
            assert isinstance(two.server.error, Aborted)
            assert "released" not in two.client.calls

    run(main())


@EACH
def test_a_peer_that_does_not_close_after_the_end(run, world, authority, monkeypatch, kind) -> None:
    """The side that sent the last PDU waits for the other to close, but not for ever."""
    monkeypatch.setattr(limits, "OUR_ABORT_LINGER", 0.1)

    async def main() -> None:
        async with pair(world, authority, kind) as two:
            await two.opened()
            monkeypatch.setattr(Connection, "data_received", lambda self, data: None)  # both have gone deaf
            two.client.assoc.abort()
            await two.client.wait("ended")
            two.server.assoc.pause_reading()
            lost = asyncio.Event()
            closed = Connection.connection_lost

            def noting(self, exc) -> None:
                closed(self, exc)
                lost.set()

            monkeypatch.setattr(Connection, "connection_lost", noting)
            await lost.wait()
            monkeypatch.undo()
            two.server.assoc.cut()

    run(main())


@pytest.mark.parametrize("grace", [0, 5])
@EACH
def test_a_server_closes_down(run, world, authority, kind, grace) -> None:
    """Open associations are released or aborted, half-open connections end, and nothing new is let in."""

    async def main() -> None:
        clients = [Recorder() for _ in range(5)]
        async with contextlib.AsyncExitStack() as stack:
            pairs = [await stack.enter_async_context(pair(world, authority, kind, client=one)) for one in clients]
            for two in pairs:
                await two.opened()
            listener = pairs[0].listener
            host, port = listener.addresses[0]
            reader, writer = await asyncio.open_connection(host, port)
            await until(lambda: listener.half_open == 1)
            await listener.close(grace)
            assert not listener.connections
            await pairs[0].ended()
            if grace:
                assert pairs[0].client.error is None
            else:
                assert isinstance(pairs[0].client.error, Aborted)
            assert isinstance(await reader.read(), bytes)
            writer.close()
            with pytest.raises(OSError):
                await asyncio.open_connection(host, port)
            assert [two.client.calls.count("ended") for two in pairs] == [1, 0, 0, 0, 0]

    run(main())


def test_a_peer_that_ignores_the_shutdown_is_cut(run, world, authority, monkeypatch) -> None:
    monkeypatch.setattr(limits, "OUR_ABORT_LINGER", 0.1)

    async def main() -> None:
        async with plain_serve(Recorder, "osi://127.0.0.1:0", PLAIN) as listener:
            two = Recorder()
            await plain_connect_handler(two, "osi://{}:{}".format(*listener.addresses[0]), PLAIN, initiate=INITIATE)
            await two.wait("associated")
            two.assoc.pause_reading()
            await listener.close(0.1)
            assert not listener.connections
            two.assoc.cut()

    run(main())


def test_limits_of_connections(run, world, authority, monkeypatch) -> None:
    monkeypatch.setattr(limits, "OUR_SILENCE", 1000)

    async def main() -> None:
        server = Recorder()
        opening = serve(lambda: server, "osi://127.0.0.1:0", world.der, max_connections=3)
        async with opening as listener:
            address = listener.addresses[0]
            listener.max_half_open = 2
            streams = [await asyncio.open_connection(*address) for _ in range(2)]
            await until(lambda: listener.half_open == 2)
            reader, writer = await asyncio.open_connection(*address)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""  # the third without an association
            writer.close()
            assert len(listener.connections) == 2
            streams.pop()[1].close()
            await until(lambda: listener.half_open == 1)
            clients = [Recorder() for _ in range(2)]
            for client in clients:
                await connect_handler(client, "osi://{}:{}".format(*address), world.centre, peer=DER, initiate=INITIATE)
                await client.wait("associated")
            assert len(listener.connections) == 3
            late = Recorder()
            await connect_handler(late, "osi://{}:{}".format(*address), world.centre, peer=DER, initiate=INITIATE)
            await late.wait("ended")
            assert isinstance(late.error, Aborted)
            assert listener.admissions == Admissions(accepted=4, opened=2, unopened=1, full=2)
            clients[0].assoc.write(PDU)
            await server.until(lambda: server.pdus == [PDU])
            streams.pop()[1].close()

    run(main())


class Card:
    """A signer that waits for a gate, like a slow smart card."""

    def __init__(self, signer) -> None:
        self._signer = signer
        self.algorithm, self.kind = signer.algorithm, signer.kind
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def sign(self, data: bytes) -> bytes:
        self.entered.set()
        self.gate.wait(10)
        return self._signer.sign(data)


def test_a_slow_signer_holds_up_no_open_association(run, world, authority) -> None:
    """While HandshakeAcc of a second association is being signed, the first one goes on."""
    credential = world.der.credential
    card = Card(credential.signer)
    config = dataclasses.replace(world.der, credential=dataclasses.replace(credential, signer=card))

    async def main() -> None:
        async with pair(world, authority, server=Recorder(echo=True), server_config=config) as first:
            await first.opened()
            card.gate.clear()
            card.entered.clear()
            try:
                async with pair(world, authority, server_config=config) as second:
                    await asyncio.to_thread(card.entered.wait, 10)
                    for number in range(100):
                        first.client.assoc.write(PDU)
                        await first.client.until(lambda number=number: len(first.client.pdus) == number + 1)
                    assert second.client.calls == []
                    assert "associated" not in second.server.calls
                    card.gate.set()
                    await second.opened()
            finally:
                card.gate.set()

    run(main())


def test_data_behind_a_key_update_waits_and_that_of_others_does_not(run, world, authority, monkeypatch) -> None:
    """The server derives new keys in a thread: what follows the carrier is opened with them, afterwards."""
    gate, entered = threading.Event(), threading.Event()
    derive = data_phase.take_keys

    def slowly(*arguments):
        entered.set()
        gate.wait(10)
        return derive(*arguments)

    monkeypatch.setattr(data_phase, "take_keys", slowly)

    async def main() -> None:
        async with (
            pair(world, authority, server=Recorder(echo=True)) as two,
            pair(world, authority, server=Recorder(echo=True)) as other,
        ):
            await two.opened()
            await other.opened()
            try:
                two.client.assoc.write(PDU)
                await two.client.until(lambda: len(two.client.pdus) == 1)
                two.client.assoc.update_keys()
                await asyncio.to_thread(entered.wait, 10)
                two.client.assoc.write_many([PDU] * 10)
                for number in range(100):
                    other.client.assoc.write(PDU)
                    await other.client.until(lambda number=number: len(other.client.pdus) == number + 1)
                assert len(two.server.pdus) == 1
                assert two.server.assoc._pause
                two.server.assoc.write(PDU)  # the other direction goes on under the old key
                await two.client.until(lambda: len(two.client.pdus) == 2)
            finally:
                gate.set()
            await two.client.until(lambda: len(two.client.pdus) == 12)
            assert not two.server.assoc._pause

    run(main())


def test_a_connection_lost_during_a_job(run, world, authority, monkeypatch) -> None:
    gate, entered = threading.Event(), threading.Event()
    derive = data_phase.take_keys

    def slowly(*arguments):
        entered.set()
        gate.wait(10)
        return derive(*arguments)

    monkeypatch.setattr(data_phase, "take_keys", slowly)

    async def main() -> None:
        async with pair(world, authority) as two:
            await two.opened()
            two.client.assoc.update_keys()
            await asyncio.to_thread(entered.wait, 10)
            two.client.assoc.cut()
            two.server.assoc.resume_reading()
            two.server.assoc._transport.resume_reading()
            await asyncio.sleep(0.01)
            gate.set()
            await two.server.wait("ended")
            assert two.server.error.side == "provider"

    run(main())


def test_a_job_that_fails_by_our_own_fault(run, world, authority, monkeypatch) -> None:
    def broken(*arguments):
        raise MemoryError

    complaints = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["exception"]))
        async with pair(world, authority) as two:
            await two.opened()
            monkeypatch.setattr(two.server.assoc._engine.__class__, "_keys_made", broken)
            two.client.assoc.update_keys()
            await two.ended()
            assert two.client.error is not None
            assert "internal error" in str(two.client.error) + str(two.server.error)

    run(main())
    assert complaints
    assert all(isinstance(error, MemoryError) for error in complaints)


def test_confirmation_comes_by_itself(run, world, authority, monkeypatch) -> None:
    """An idle side proves itself with a NULL transfer; the handler hears of it, the application gets no PDU."""
    monkeypatch.setattr(limits, "OUR_CONFIRM_DELAY", 0.1)

    async def main() -> None:
        async with pair(world, authority) as two:
            await two.opened()
            assert not two.client.assoc.confirmed
            await two.client.wait("confirmed")
            await two.server.wait("confirmed")
            assert two.client.pdus == two.server.pdus == []
            assert two.client.assoc._fast_rx
            assert two.server.assoc._fast_rx

    run(main())


def test_an_unconfirmed_association_gives_way(run, world, authority, monkeypatch) -> None:
    """The 3rd association of a peer that confirms none evicts the oldest, whose connection must notice."""
    monkeypatch.setattr(limits, "OUR_UNCONFIRMED_PER_PEER", 2)
    monkeypatch.setattr(limits, "OUR_UNCONFIRMED_EVICT_AGE", -1)

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            pairs = []
            for _ in range(3):
                two = await stack.enter_async_context(pair(world, authority))
                pairs.append(await two.opened())
            await pairs[0].ended()
            assert "evicted" in str(pairs[0].server.error) or "OUR_UNCONFIRMED" in str(pairs[0].server.error)
            assert [two.client.error for two in pairs[1:]] == [None, None]

    run(main())


def test_who_may_call(run, world, authority) -> None:
    """config.peers lets in; a stranger gets a signed reject and an event is raised."""

    async def main() -> None:
        config, events = world.events(dataclasses.replace(world.der, peers=(DER,)))
        async with pair(world, authority, server_config=config) as two:
            with pytest.raises(Aborted):
                await two.opened()
            await two.server.wait("ended")
            assert events
            assert events[0] in two.server.calls
        config, events = world.events(dataclasses.replace(world.der, peers=(CENTRE,)))
        async with pair(world, authority, server_config=config) as two:
            await two.opened()
            assert events == []
            assert two.client.assoc.initiate_response == RESPONSE

    run(main())


def test_a_factory_that_fails_refuses_one_connection(run, world, authority) -> None:
    complaints = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["exception"]))
        good = [None, Recorder()]

        def factory() -> Recorder:
            handler = good.pop(0)
            if handler is None:
                raise ZeroDivisionError
            return handler

        async with serve(factory, "osi://127.0.0.1:0", world.der) as listener:
            reader, writer = await asyncio.open_connection(*listener.addresses[0])
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            address = "osi://{}:{}".format(*listener.addresses[0])
            assoc = await connect(address, world.centre, peer=DER, initiate=INITIATE)
            await assoc.release()

    run(main())
    assert [type(error) for error in complaints] == [ZeroDivisionError]


def test_dead_peers_are_noticed_by_the_operating_system(run, world, authority) -> None:
    async def main() -> None:
        async with pair(world, authority) as two:
            await two.opened()
            for end in (two.client, two.server):
                sock = end.assoc.transport.get_extra_info("socket")
                with socket.fromfd(sock.fileno(), sock.family, socket.SOCK_STREAM) as same:
                    assert same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                    assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main())


@pytest.mark.parametrize("kind", ["secured", "secured-tls"])
def test_the_handshake_says_whether_there_is_tls(run, world, authority, kind) -> None:
    async def main() -> None:
        async with pair(world, authority, kind) as two:
            await two.opened()
            for end in (two.client, two.server):
                assert end.assoc._engine._endpoint.config.tls_protected is (kind == "secured-tls")

    run(main())


def test_a_server_that_dialled_in_may_wait(run, world, authority, monkeypatch) -> None:
    """The accepting side is the client and asks when it wants to; till then the connection is not half-open."""
    monkeypatch.setattr(limits, "OUR_ACCEPT_TO_AARQ", 0.1)

    async def main() -> None:
        wanted = asyncio.Event()

        class Later(Recorder):
            def initiate(self, assoc):
                self.note("initiate", assoc)

                async def wait() -> bytes:
                    await wanted.wait()
                    return INITIATE

                return wait()

        for kind in KINDS:
            wanted.clear()
            async with pair(world, authority, kind, dials="server", client=Later()) as two:
                await two.client.wait("initiate")
                await asyncio.sleep(0.25)
                assert len(two.listener.connections) == 1
                assert two.listener.half_open == 0
                assert two.server.calls == []
                wanted.set()
                await two.opened()
                assert two.server.assoc.initiate_request == INITIATE

    run(main())


@pytest.mark.parametrize("how", ["cut", "cut early", "nonsense", "internal", "abort", "release", "shutdown"])
def test_whatever_ends_it_gives_everything_back(run, world, authority, monkeypatch, how) -> None:
    """Association numbers, places among the unconfirmed, half-open counts, timers."""

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with pair(world, authority) as two:
            if how == "cut early":
                await two.server.wait("association_requested")
                two.server.assoc.cut()
            else:
                await two.opened()
            if how == "cut":
                two.client.assoc.cut()
            elif how == "nonsense":
                two.client.assoc.transport.write(b"nonsense")
            elif how == "internal":
                monkeypatch.setattr(type(two.server.assoc._engine), "_keys_made", lambda *_: 1 / 0)
                two.client.assoc.update_keys()
            elif how == "abort":
                two.server.assoc.abort()
            elif how == "release":
                two.client.assoc.release()
            elif how == "shutdown":
                await two.listener.close(0)
            await two.ended()
            await until(lambda: not two.listener.connections)
        for config, peer in ((world.centre, DER), (world.der, CENTRE)):
            endpoint = identity_of(config).endpoint(config)
            numbers = endpoint.numbers(peer.oid)
            assert not numbers.live_as_client
            assert not numbers.live_as_server
            assert not numbers.unconfirmed
            assert endpoint.half_open == 0
        shared = runtime()
        await until(lambda: not len(shared.timers))
        await until(lambda: not shared.jobs.running)

    run(main())
