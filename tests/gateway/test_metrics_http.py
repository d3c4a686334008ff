"""The HTTP server of the metrics: what it answers, and that whoever abuses it is cut off and harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from gateway_pair import confirmed, free_port, gateways, run, until
from hypothesis import given, settings
from hypothesis import strategies as st
from scraping import ask, parsed, scrape, scraped

from fastsec.aio.loop import run as run_loop
from fastsec.aio.meter import Histogram, Meter
from fastsec.gateway import scrape as serving
from fastsec.gateway.logs import Log
from fastsec.gateway.scrape import CONNECTIONS_MAX, REQUEST_MAX, SLICE, ScrapeServer, pieces
from fastsec.gateway.tables import Address, Network
from fastsec.metrics import Collector, Definition, Family, exposed

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
LOOPBACK = ipaddress.ip_network("127.0.0.1/32")


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def served(
    collector: Collector | None = None, *, allow: tuple[Network, ...] = (), clock: Clock | None = None
) -> AsyncIterator[tuple[ScrapeServer, int]]:
    server = ScrapeServer(collector or Collector(meters=[Meter("a")]), allow, Log(), clock or time.monotonic)
    await server.listen(Address("127.0.0.1", 0))
    try:
        yield server, server.addresses[0][1]
    finally:
        await server.close()


# --- what it answers --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET, 200),
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"GET /metrics?name=x HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /metrics/../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET http://127.0.0.1/metrics HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 505),
        (b"GET /metrics\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1 \r\n\r\n", 400),
    ],
)
def test_answers(request_: bytes, status: int) -> None:
    async def test() -> None:
        async with served() as (_, port):
            found, header, body = await ask(port, request_)
            assert found == status
            assert header["connection"] == "close"
            assert bool(body) == (request_[:4] != b"HEAD")
            assert (status == 200) == header["content-type"].startswith("text/plain; version=0.0.4")
            assert (status == 405) == ("allow" in header)

    run_loop(test())


def test_a_request_in_single_octets() -> None:
    async def test() -> None:
        async with served() as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for octet in GET:
                writer.write(bytes([octet]))
                await writer.drain()
                await asyncio.sleep(0)
            async with asyncio.timeout(30):
                assert parsed(await reader.read())[0] == 200
            writer.close()

    run_loop(test())


def test_several_requests_on_one_connection_get_one_answer() -> None:
    async def test() -> None:
        async with served() as (_, port):
            status, _, body = await ask(port, GET * 3)
            assert status == 200
            assert body.count(b"# TYPE fastsec_build_info") == 1

    run_loop(test())


def test_a_text_is_given_again_within_a_second() -> None:
    async def test() -> None:
        clock, meter = Clock(), Meter("a")
        name = "fastsec_key_updates_total{route=a}"
        async with served(Collector(meters=[meter]), clock=clock) as (_, port):
            assert (await scrape(port))[name] == 0
            meter.key_updates = 5
            clock.now += 0.9
            assert (await scrape(port))[name] == 0
            clock.now += 0.2
            assert (await scrape(port))[name] == 5

    run_loop(test())


def test_who_asks_at_the_same_time_shares_the_work() -> None:
    class Counted(Collector):
        collections = 0

        def families(self) -> Iterator[Family]:
            self.collections += 1
            return super().families()

    async def test() -> None:
        collector = Counted(meters=[Meter("a")])
        async with served(collector) as (_, port):
            answers = await asyncio.gather(*(ask(port, GET) for _ in range(CONNECTIONS_MAX)))
            assert [status for status, _, _ in answers] == [200] * CONNECTIONS_MAX
            assert collector.collections == 1

    run_loop(test())


def test_a_collection_that_fails_is_500_and_the_next_one_works(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Collector):
        fail = True

        def families(self) -> Iterator[Family]:
            if self.fail:
                raise RuntimeError("x")
            return super().families()

    async def test() -> None:
        collector = Failing(meters=[Meter("a")])
        async with served(collector) as (_, port):
            assert (await ask(port, GET))[0] == 500
            collector.fail = False
            assert (await ask(port, GET))[0] == 200

    run_loop(test())
    assert "metrics" in caplog.text


# --- in slices --------------------------------------------------------------------------------------------------------
MANY = 1000
COUNTER = Definition("fastsec_x_total", "counter", "X.", ("n",))
BUCKETS = Definition("fastsec_y_seconds", "histogram", "Y.", ("n",))


def histogram(value: float) -> Histogram:
    made = Histogram((1.0, 2.0))
    made.observe(value)
    return made


@pytest.mark.parametrize(
    "family",
    [
        Family(COUNTER, [((str(n),), n) for n in range(MANY)]),
        Family(BUCKETS, [((str(n),), histogram(n)) for n in range(MANY)]),
        Family(COUNTER, []),
    ],
    ids=["counter", "histogram", "empty"],
)
def test_slices_are_small_and_together_are_the_whole(family: Family) -> None:
    class One:
        def collect(self) -> Iterator[object]:
            yield exposed(family.definition, family.samples)

    from prometheus_client import generate_latest

    slices = list(pieces(family))
    assert b"".join(slices) == generate_latest(One())  # type: ignore[arg-type]
    assert max(text.count(b"\n") for text in slices) <= SLICE + 2
    assert len(slices) == 1 or len(slices) >= MANY / SLICE


def test_the_loop_gets_a_turn_after_each_slice() -> None:
    async def test() -> None:
        meters = [Meter(str(n)) for n in range(200)]
        server = ScrapeServer(Collector(meters=meters), (), Log())
        loop = asyncio.get_running_loop()
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        turn()
        text = await server.text()
        assert turns >= text.count(b"\n") / (SLICE + 2)

    run_loop(test())


# --- abuse ------------------------------------------------------------------------------------------------------------
def test_who_is_not_allowed_is_cut_off() -> None:
    async def test() -> None:
        async with served(allow=(ipaddress.ip_network("10.0.0.0/8"),)) as (server, port):
            assert (await ask(port, GET))[0] == 0
            assert not server.exchanges
        async with served(allow=(LOOPBACK,)) as (_, port):
            assert (await ask(port, GET))[0] == 200

    run_loop(test())


@pytest.mark.parametrize(
    "request_", [b"GET /" + b"x" * 100_000, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000 + b"\r\n"]
)
def test_a_huge_request_is_refused_early(request_: bytes) -> None:
    async def test() -> None:
        async with served() as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                writer.write(request_[: REQUEST_MAX + 1])
                async with asyncio.timeout(30):
                    assert parsed(await reader.read())[0] in (431, 0)
            writer.close()
            with contextlib.suppress(ConnectionError):
                assert (await ask(port, request_))[0] in (431, 0)
            await until(lambda: not server.exchanges)
            assert (await ask(port, GET))[0] == 200

    run_loop(test())


def test_a_request_of_exactly_the_limit_is_taken() -> None:
    async def test() -> None:
        async with served() as (_, port):
            for more, status in ((0, 200), (1, 431)):
                line = b"GET /metrics HTTP/1.1\r\nx: "
                request = line + b"y" * (REQUEST_MAX - len(line) + more) + b"\r\n\r\n"
                assert (await ask(port, request))[0] == status

    run_loop(test())


def test_who_is_slow_to_ask_is_told_so_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 0.2)

    async def test() -> None:
        async with served() as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\n")

            async def drip() -> None:
                with contextlib.suppress(ConnectionError):
                    while True:
                        writer.write(b"x: y\r\n")
                        await writer.drain()
                        await asyncio.sleep(0.02)

            dripping = asyncio.get_running_loop().create_task(drip())
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(30):
                    assert parsed(await reader.read())[0] == 408
            dripping.cancel()
            await until(lambda: not server.exchanges)
            writer.close()

    run_loop(test())


def test_who_does_not_take_the_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "ANSWER_SECONDS", 0.3)

    async def test() -> None:
        meters = [Meter("r" * 500 + str(n)) for n in range(300)]  # more than the operating system keeps
        async with served(Collector(meters=meters)) as (server, port):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.sock_sendall(sock, GET)
            await until(lambda: bool(server.exchanges))
            await until(lambda: not server.exchanges, 30)
            sock.close()

    run_loop(test())


def test_many_connections_leave_room_when_their_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 1.0)

    async def test() -> None:
        async with served() as (server, port):
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(CONNECTIONS_MAX)]
            await until(lambda: len(server.exchanges) == CONNECTIONS_MAX)
            for _ in range(50):
                assert (await ask(port, GET))[0] == 0
                assert len(server.exchanges) <= CONNECTIONS_MAX
            await until(lambda: not server.exchanges, 30)
            assert (await ask(port, GET))[0] == 200
            for _, writer in held:
                writer.close()

    run_loop(test())


class Wire(asyncio.Transport):
    """Notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 1) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass


lines = st.sampled_from([b"GET", b"HEAD", b"/metrics", b" ", b"HTTP/1.1", b"\r\n", b"\r\n\r\n", b"\n\n", b"\x00"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=40) | lines | st.just(b"x" * 3000), max_size=12))
def test_any_octets_get_at_most_one_answer(chunks: list[bytes]) -> None:
    async def test() -> None:
        server = ScrapeServer(Collector(meters=[]), (), Log())
        exchange, wire = serving._Exchange(server), Wire()
        exchange.connection_made(wire)
        for chunk in chunks:
            exchange.data_received(chunk)
            assert len(exchange._request) <= REQUEST_MAX + 3000
        if exchange._task is not None:
            await exchange._task
        exchange.connection_lost(None)
        assert not server.exchanges
        assert bool(wire.written) == wire.closed
        if wire.written:
            status, _, _ = parsed(wire.written)
            assert status in (200, 400, 404, 405, 431, 505)
        assert not exchange._timer or exchange._timer.cancelled()

    asyncio.run(test())


def test_associations_go_on_under_all_this(pki: Path) -> None:
    """A flood of requests and of silent connections; meanwhile data pass and are counted."""

    async def test() -> None:
        port = free_port()
        async with gateways(pki, cc_head=f'[metrics]\nlisten = "127.0.0.1:{port}"\n') as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            stop = False

            async def flood(request: bytes) -> int:
                done = 0
                while not stop:
                    with contextlib.suppress(OSError):
                        await ask(port, request)
                        done += 1
                return done

            loop = asyncio.get_running_loop()
            flooding = [loop.create_task(flood(request)) for request in [GET] * 4 + [b"\xff" * 9000] * 4]
            sent = 0
            for number in range(500):
                pdu = confirmed(number, 100)
                await client.send(pdu)
                assert len(await client.recv()) == len(pdu)
                sent += 1
            stop = True
            assert all(done > 0 for done in await asyncio.gather(*flooding))
            await scraped(port, {"fastsec_pdus_total{direction=sent,route=north,side=secured}": sent})
            client.abort()

    run(test())


def test_a_gateway_that_ends_closes_them(pki: Path) -> None:
    async def test() -> None:
        port = free_port()
        async with gateways(pki, cc_head=f'[metrics]\nlisten = "127.0.0.1:{port}"\n') as pair:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            server = pair.cc.metrics
            assert server is not None
            await until(lambda: bool(server.exchanges))
            await pair.cc.end()
            async with asyncio.timeout(30):
                with contextlib.suppress(ConnectionError):
                    assert not await reader.read()
            writer.close()
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)

    run(test())
