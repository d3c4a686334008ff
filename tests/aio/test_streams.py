"""The awaitable door: order, back-pressure, the end, and cancellation at every await."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket

import pytest
from world import CENTRE, DER, INITIATE, PDU, PLAIN, RESPONSE, Recorder, until

from fastsec import limits
from fastsec.aio import client as client_module
from fastsec.aio import stream as stream_module
from fastsec.aio.client import connect, plain_connect
from fastsec.aio.handler import Reject
from fastsec.aio.server import plain_serve, serve
from fastsec.aio.stream import streams
from fastsec.errors import Aborted, ConfigError, Rejected, StateError

KINDS = pytest.mark.parametrize("kind", ["secured", "secured-tls", "plain"])


async def echo(assoc) -> None:
    async for pdu in assoc:
        await assoc.send(pdu)


class Place:
    """Listener and dialler of one kind, over loopback."""

    def __init__(self, world, authority, kind: str) -> None:
        self.world, self.kind = world, kind
        self.tls = {side: authority.config(side) if kind.endswith("tls") else None for side in ("client", "server")}
        self.address = ""

    def serve(self, factory):
        if self.kind == "plain":
            return plain_serve(factory, "osi://127.0.0.1:0", PLAIN)
        return serve(factory, "osi://127.0.0.1:0", self.world.der, tls=self.tls["server"])

    def connect(self, listener=None, **more):
        if listener is not None:
            host, port = listener.addresses[0]
            self.address = f"osi://{host}:{port}"
        if self.kind == "plain":
            return plain_connect(self.address, PLAIN, initiate=INITIATE, **more)
        return connect(self.address, self.world.centre, peer=DER, initiate=INITIATE, tls=self.tls["client"], **more)


@KINDS
def test_one_after_the_other(run, world, authority, kind) -> None:
    async def main() -> None:
        place = Place(world, authority, kind)
        async with place.serve(streams(echo, RESPONSE)) as listener:
            async with place.connect(listener) as assoc:
                assert assoc.initiate_response == RESPONSE
                for number in range(50):
                    await assoc.send(PDU[:-1] + bytes([number]))
                    assert await assoc.recv() == PDU[:-1] + bytes([number])
                if kind != "plain":
                    assert assoc.peer.names == {DER.oid}
                    assert assoc.confirmed
                    assoc.update_keys()
                    await assoc.send(PDU)
                    assert await assoc.recv() == PDU
            assert await assoc.recv() == b""
            assert await assoc.wait_ended() is None
            with pytest.raises(StateError):
                await assoc.send(PDU)
            assoc = await place.connect(listener)
            await assoc.release()
            await assoc.release()
            assert await assoc.recv() == b""

    run(main())


@KINDS
def test_the_server_finds_its_answer(run, world, authority, kind) -> None:
    async def main() -> None:
        place = Place(world, authority, kind)
        seen = []

        async def answer(assoc, request: bytes) -> bytes | Reject:
            seen.append((request, assoc.initiate_request))
            return Reject(b"\xaa\x00", transient=True) if len(seen) == 1 else RESPONSE

        async with place.serve(streams(echo, answer)) as listener:
            with pytest.raises(Rejected) as caught:
                await place.connect(listener)
            assert caught.value.appl_data == b"\xaa\x00"
            assert caught.value.transient
            async with place.connect(listener) as assoc:
                await assoc.send(PDU)
                assert await assoc.recv() == PDU
            assert seen == [(INITIATE, INITIATE)] * 2

    run(main())


@KINDS
def test_back_pressure_from_end_to_end(run, world, authority, kind) -> None:
    """A reader that does not read stops the sender; when it reads, everything comes in order."""

    async def main() -> None:
        place = Place(world, authority, kind)
        gate, finished = asyncio.Event(), asyncio.Event()
        got: list[int] = []

        async def slow(assoc) -> None:
            await gate.wait()
            async for pdu in assoc:
                got.append(int.from_bytes(pdu[4:8], "big"))
            finished.set()

        sent = 0

        async def flood(assoc) -> None:
            nonlocal sent
            for number in range(1000):
                await assoc.send(b"\xa0\x82\x40\x04" + number.to_bytes(4, "big") + bytes(0x4000))
                sent += 1

        async with place.serve(streams(slow, RESPONSE)) as listener, place.connect(listener) as assoc:
            task = asyncio.create_task(flood(assoc))
            before = -1
            while sent != before or assoc.connection.can_write:
                before = sent
                await asyncio.sleep(0.02)
            [served] = listener.connections
            assert 0 < sent < 1000
            queued = served._handler.stream._octets
            assert queued > stream_module.QUEUE_OCTETS
            assert queued < stream_module.QUEUE_OCTETS + 1024 * 1024
            gate.set()
            await task
            await assoc.release()
            await finished.wait()
            assert got == list(range(1000))

    run(main())


def test_a_queue_of_many_small_pdus_is_bounded_too(run, world, authority) -> None:
    async def main() -> None:
        place = Place(world, authority, "plain")

        async def idle(assoc) -> None:
            await asyncio.Event().wait()

        async with place.serve(streams(idle, RESPONSE)) as listener:
            assoc = await place.connect(listener)
            assoc.connection.write_many([PDU] * 3 * stream_module.QUEUE_PDUS)
            [served] = listener.connections
            await until(lambda: served._pause)
            assert len(served._handler.stream._queue) > stream_module.QUEUE_PDUS
            assoc.abort()
            await listener.close(0)

    run(main())


@KINDS
def test_the_end_wakes_everybody(run, world, authority, kind) -> None:
    async def main() -> None:
        place = Place(world, authority, kind)
        opened = asyncio.get_running_loop().create_future()

        async def hold(assoc) -> None:
            opened.set_result(assoc)
            await asyncio.Event().wait()

        async with place.serve(streams(hold, RESPONSE)) as listener:
            assoc = await place.connect(listener)
            other = await opened
            tasks = [asyncio.create_task(one) for one in (assoc.recv(), assoc.wait_ended())]
            other.connection.write(PDU)
            assert await tasks[0] == PDU
            tasks[0] = asyncio.create_task(assoc.recv())
            await asyncio.sleep(0)
            with pytest.raises(StateError, match="another task"):
                await assoc.recv()
            other.abort()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(results[0], Aborted)
            assert results[1] is results[0]
            with pytest.raises(Aborted):
                await assoc.send(PDU)
            with pytest.raises(Aborted):
                await assoc.release()

    run(main())


@KINDS
def test_an_exception_in_the_block_aborts(run, world, authority, kind) -> None:
    async def main() -> None:
        place = Place(world, authority, kind)
        errors = []

        class Noting(Recorder):
            def ended(self, assoc, error) -> None:
                errors.append(error)
                super().ended(assoc, error)

        server = Noting()
        async with place.serve(lambda: server) as listener:
            with pytest.raises(ZeroDivisionError):
                async with place.connect(listener):
                    raise ZeroDivisionError
            await server.wait("ended")
            assert isinstance(errors[0], Aborted)
            assert errors[0].side == "peer"

    run(main())


class CancelAt:
    """Runs a coroutine and cancels its task at the n-th place where it waits."""

    def __init__(self, coroutine, number: int) -> None:
        self.coroutine, self.number, self.hit = coroutine, number, False

    def __await__(self):
        waited = 0
        inner = self.coroutine.__await__()
        value, error = None, None
        while True:
            try:
                awaited = inner.throw(error) if error is not None else inner.send(value)
            except StopIteration as stop:
                return stop.value
            if waited == self.number:
                self.hit = True
                asyncio.current_task().cancel()
            waited += 1
            value = error = None
            try:
                value = yield awaited
            except BaseException as caught:
                error = caught


async def cancelled_everywhere(make, after) -> int:
    """Run ``make()`` again and again, cancelled one await later each time, until it runs through.

    Result: how many places there were. ``after(result)`` is awaited each time: the result or None if cancelled.
    """
    number = 0
    while True:
        cancel = CancelAt(make(), number)

        async def body(cancel=cancel):
            return await cancel

        try:
            result = await asyncio.create_task(body())
        except asyncio.CancelledError:
            result = None
        await after(result)
        if not cancel.hit:
            return number
        number += 1


async def settled(listener) -> None:
    """The listener has no connection left."""
    await until(lambda: not listener.connections)


@KINDS
def test_connect_cancelled_at_every_await(run, world, authority, kind) -> None:
    async def main() -> None:
        place = Place(world, authority, kind)
        async with place.serve(streams(echo, RESPONSE)) as listener:

            async def dial():
                return await place.connect(listener)

            async def after(assoc) -> None:
                if assoc is not None:
                    await assoc.release()
                await settled(listener)

            assert await cancelled_everywhere(dial, after) >= 2

    run(main())


@KINDS
def test_a_whole_exchange_cancelled_at_every_await(run, world, authority, kind) -> None:
    """Whatever is cancelled, the association ends on both sides and nothing stays behind."""

    async def main() -> None:
        place = Place(world, authority, kind)
        async with place.serve(streams(echo, RESPONSE)) as listener:

            async def exchange():
                async with place.connect(listener) as assoc:
                    for _ in range(3):
                        await assoc.send(PDU)
                        assert await assoc.recv() == PDU
                    await assoc.release()
                    await assoc.wait_ended()
                return True

            async def after(done) -> None:
                await settled(listener)

            assert await cancelled_everywhere(exchange, after) >= 6

    run(main())


@KINDS
def test_recv_cancelled_loses_nothing(run, world, authority, kind) -> None:
    async def main() -> None:
        place = Place(world, authority, kind)
        async with place.serve(streams(echo, RESPONSE)) as listener, place.connect(listener) as assoc:
            for number in range(5):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await assoc.recv()
                await assoc.send(PDU[:-1] + bytes([number]))
                task = asyncio.create_task(assoc.recv())
                await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                assert await assoc.recv() == PDU[:-1] + bytes([number])

    run(main())


def test_send_cancelled_has_not_sent(run, world, authority) -> None:
    async def main() -> None:
        place = Place(world, authority, "secured")
        gate, got, finished = asyncio.Event(), [], asyncio.Event()

        async def slow(assoc) -> None:
            await gate.wait()
            async for pdu in assoc:
                got.append(pdu)
            finished.set()

        async with place.serve(streams(slow, RESPONSE)) as listener:
            assoc = await place.connect(listener)
            big, count = b"\xa0\x82\x40\x00" + bytes(0x4000), 0
            while True:
                try:
                    async with asyncio.timeout(0.1):
                        await assoc.send(big)
                    count += 1
                except TimeoutError:
                    break
            gate.set()
            await assoc.release()
            await finished.wait()
            assert len(got) == count

    run(main())


@KINDS
def test_serving_cancelled_at_every_await(run, world, authority, kind) -> None:
    """No socket goes on listening behind a cancelled ``serve``."""

    async def main() -> None:
        place = Place(world, authority, kind)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

        async def start():
            if kind == "plain":
                return await plain_serve(Recorder, f"osi://127.0.0.1:{port}", PLAIN)
            return await serve(Recorder, f"osi://127.0.0.1:{port}", world.der, tls=place.tls["server"])

        async def after(listener) -> None:
            if listener is not None:
                await listener.close()
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)

        assert await cancelled_everywhere(start, after) >= 1

    run(main())


@KINDS
def test_closing_the_server_cancelled_at_every_await(run, world, authority, kind) -> None:
    async def main() -> None:
        place = Place(world, authority, kind)
        listener = None

        async def close() -> None:
            nonlocal listener
            listener = await place.serve(Recorder)
            dialled = Recorder()
            assoc = await place.connect(listener)
            del assoc, dialled
            closing.append(listener)
            await listener.close(0.2)

        async def after(_) -> None:
            for one in closing:
                await one.close(0)
                assert not one.connections

        closing: list = []
        assert await cancelled_everywhere(close, after) >= 3

    run(main())


def test_arguments(world, authority) -> None:
    with pytest.raises(ConfigError, match="initiate"):
        connect("osi://localhost", world.centre, peer=DER)
    with pytest.raises(ConfigError, match="must name the peer"):
        connect("osi://localhost", world.centre, initiate=INITIATE)
    with pytest.raises(ConfigError, match="answer"):
        connect("osi://localhost", world.der, role="server")
    with pytest.raises(ConfigError, match=r"config\.peers"):
        connect("osi://localhost", world.der, role="server", peer=CENTRE, answer=RESPONSE)
    with pytest.raises(ConfigError, match="role"):
        connect("osi://localhost", world.centre, peer=DER, initiate=INITIATE, role="both")
    with pytest.raises(ConfigError, match="osi://HOST:PORT"):
        connect("xmpp:a@b", world.centre, peer=DER, initiate=INITIATE)
    with pytest.raises(ConfigError, match="security=True"):
        connect("osi://localhost", world.centre, peer=DER, initiate=INITIATE, osi=PLAIN)
    with pytest.raises(ConfigError, match="osi://HOST:PORT"):
        serve(Recorder, "nothing/", world.der)


def test_nobody_listens(run, world, authority) -> None:
    async def main() -> None:
        place = Place(world, authority, "secured")
        async with place.serve(Recorder) as listener:
            host, port = listener.addresses[0]
        with pytest.raises(OSError):
            await connect(f"osi://{host}:{port}", world.centre, peer=DER, initiate=INITIATE)

    run(main())


def test_tcp_does_not_answer(run, world, monkeypatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(limits, "OUR_ACCEPT_TO_AARQ", 0.05)
        with socket.socket() as full, contextlib.ExitStack() as stack:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):  # the queue of the listening socket is full: the next SYN gets no answer
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(full.getsockname())
            host, port = full.getsockname()
            with pytest.raises(Aborted, match="does not answer"):
                await connect(f"osi://{host}:{port}", world.centre, peer=DER, initiate=INITIATE)

    run(main())


def test_a_server_that_dials(run, world, authority) -> None:
    """The far side listens as the association's client; the near side dials and waits as its server."""

    async def main() -> None:
        client = Recorder()
        listening = serve(lambda: client, "osi://127.0.0.1:0", world.centre, role="client", peer=DER, initiate=INITIATE)
        async with listening as listener:
            host, port = listener.addresses[0]
            async with connect(f"osi://{host}:{port}", world.der, role="server", answer=RESPONSE) as assoc:
                assert assoc.initiate_request == INITIATE
                assert assoc.peer.names == {CENTRE.oid}
                await client.wait("associated")
                client.assoc.write(PDU)
                assert await assoc.recv() == PDU

    run(main())


def test_another_number_is_tried(run, world, authority, monkeypatch) -> None:
    """Only where the peer refused the association number, and not for ever (62351-4 AssoID)."""

    async def main() -> None:
        place = Place(world, authority, "secured")
        attempts = []

        class Refusing(Recorder):
            def association_requested(self, assoc, appl_data):
                attempts.append(1)
                return Reject()

        async with place.serve(Refusing) as listener:
            with pytest.raises(Rejected):
                await place.connect(listener)
            assert len(attempts) == 1
            monkeypatch.setattr(client_module.Connection, "may_retry", True)
            with pytest.raises(Rejected):
                await place.connect(listener)
            assert len(attempts) == 1 + 1 + limits.OUR_ASSO_RETRIES

    run(main())


def living() -> list[object]:
    """All connections there are."""
    return [one for one in gc.get_objects() if type(one).__name__ in ("Connection", "TLSLayer", "Association")]


def test_nothing_stays_in_memory(run, world, authority) -> None:
    async def main() -> None:
        gc.collect()
        before = living()  # of earlier tests, in loops that were closed while a peer lingered
        place = Place(world, authority, "secured-tls")
        async with place.serve(streams(echo, RESPONSE)) as listener:
            for _ in range(3):
                async with place.connect(listener) as assoc:
                    await assoc.send(PDU)
                    await assoc.recv()
            del assoc
            await settled(listener)
            for _ in range(3):
                await asyncio.sleep(0)
                gc.collect()
            assert [one for one in living() if not any(one is other for other in before)] == []
        assert len(client_module.runtime().timers) == 0

    run(main())
