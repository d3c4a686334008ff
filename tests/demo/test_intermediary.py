"""The untrusted middle: what it forwards, recognizes, finds and does on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fastsec.demo.intermediary import Intermediary, Link, Trick, Way, payload


def tpkt(tpdu: bytes) -> bytes:
    return b"\x03\x00" + (len(tpdu) + 4).to_bytes(2, "big") + tpdu


CR = tpkt(bytes.fromhex("06e00000000100"))
CC = tpkt(bytes.fromhex("06d00001000200"))
CN = tpkt(bytes.fromhex("02f0800d00"))
AC = tpkt(bytes.fromhex("02f0800e00"))


def data(pdu: bytes) -> bytes:
    body = b"\x02\x01\x03\xa0" + bytes((len(pdu),)) + pdu
    list_ = b"\x30" + bytes((len(body),)) + body
    return tpkt(b"\x02\xf0\x80\x01\x00\x01\x00\x61" + bytes((len(list_),)) + list_)


class Ends:
    """Both ends of one link through the intermediary."""

    def __init__(self, middle: Intermediary, near: tuple, far: tuple) -> None:  # type: ignore[type-arg]  # stream pairs
        self.middle = middle
        self.near_reader, self.near = near
        self.far_reader, self.far = far

    @property
    def link(self) -> Link:
        return self.middle.links[0]

    async def request(self, octets: bytes) -> bytes:
        """Send towards the server and return as many octets as arrive there."""
        self.near.write(octets)
        return await asyncio.wait_for(self.far_reader.readexactly(len(octets)), 5)

    async def respond(self, octets: bytes) -> bytes:
        self.far.write(octets)
        return await asyncio.wait_for(self.near_reader.readexactly(len(octets)), 5)

    async def associate(self) -> None:
        assert await self.request(CR) == CR
        assert await self.respond(CC) == CC
        assert await self.request(CN) == CN
        assert await self.respond(AC) == AC


@asynccontextmanager
async def through() -> AsyncIterator[Ends]:
    accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(lambda r, w: accepted.put_nowait((r, w)), "127.0.0.1", 0)
    middle = Intermediary(server.sockets[0].getsockname()[1])
    near = await asyncio.open_connection("127.0.0.1", await middle.start())
    ends = Ends(middle, near, await asyncio.wait_for(accepted.get(), 5))
    try:
        yield ends
    finally:
        ends.near.close()
        ends.far.close()
        await middle.stop()
        server.close()


def test_forwards_unchanged_and_tells_opening_from_data() -> None:
    async def scenario() -> None:
        async with through() as ends:
            await ends.associate()
            request, response = data(b"\xa0\x03\x02\x01\x07"), data(b"\xa1\x03\x02\x01\x07")
            assert await ends.request(request) == request
            assert await ends.respond(response) == response
            seen = [(frame.octets, frame.way, frame.opened, frame.data) for frame in ends.middle.frames]
            assert seen == [
                (CR, Way.REQUEST, False, False),
                (CC, Way.RESPONSE, False, False),
                (CN, Way.REQUEST, False, False),
                (AC, Way.RESPONSE, False, False),
                (request, Way.REQUEST, True, True),
                (response, Way.RESPONSE, True, True),
            ]
            assert ends.middle.after_handshake() == request + response

    asyncio.run(scenario())


def test_frames_are_found_in_a_byte_stream_whatever_its_pieces() -> None:
    async def scenario() -> None:
        async with through() as ends:
            for octet in CR[:-1]:
                ends.near.write(bytes((octet,)))
                await ends.near.drain()
                await asyncio.sleep(0)
            ends.near.write(CR[-1:] + CN)
            assert await ends.far_reader.readexactly(len(CR + CN)) == CR + CN
            assert [frame.octets for frame in ends.middle.frames] == [CR, CN]

    asyncio.run(scenario())


def test_a_continued_tsdu_is_data_in_all_of_its_frames() -> None:
    async def scenario() -> None:
        async with through() as ends:
            first = tpkt(b"\x02\xf0\x00\x01\x00\x01\x00" + b"\x61\x03")
            last = tpkt(b"\x02\xf0\x80" + b"\x0d\x0e\x0f")
            await ends.request(first)
            await ends.request(last)
            await ends.request(CN)
            assert [frame.data for frame in ends.middle.frames] == [True, True, False]

    asyncio.run(scenario())


def test_finds_plaintext_only_after_the_opening() -> None:
    async def scenario() -> None:
        async with through() as ends:
            await ends.request(tpkt(b"\x02\xf0\x80\x0d\x00early"))
            await ends.respond(AC)
            await ends.request(data(b"\xa0\x04late"))
            assert ends.middle.find(b"early", b"late", b"absent", b"") == [b"late"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("trick", "expected"),
    [
        (Trick.FLIP, lambda one, two: one[:-1] + bytes((one[-1] ^ 1,)) + two),
        (Trick.REPLAY, lambda one, two: one + one + two),
        (Trick.REORDER, lambda one, two: two + one),
    ],
)
def test_each_trick_is_played_once_on_data_of_one_direction(trick: Trick, expected) -> None:  # type: ignore[no-untyped-def]  # a lambda
    async def scenario() -> None:
        async with through() as ends:
            ends.middle.order(ends.link, trick)
            await ends.associate()  # the opening is left alone
            assert not ends.link.done.is_set()
            response = data(b"\xa1\x03\x02\x01\x01")
            assert await ends.respond(response) == response
            one, two, three = (data(bytes((0xA0, 3, 2, 1, number))) for number in (1, 2, 3))
            ends.near.write(one + two)
            wanted = expected(one, two)
            assert await asyncio.wait_for(ends.far_reader.readexactly(len(wanted)), 5) == wanted
            assert ends.link.done.is_set()
            assert await ends.request(three) == three
            # It remembers what came in, not what it made of it.
            assert [f.octets for f in ends.middle.frames if f.data and f.way is Way.REQUEST] == [one, two, three]

    asyncio.run(scenario())


@pytest.mark.parametrize("closer", ["near", "far"])
def test_when_one_side_goes_the_other_is_told(closer: str) -> None:
    async def scenario() -> None:
        async with through() as ends:
            getattr(ends, closer).close()
            other = ends.far_reader if closer == "near" else ends.near_reader
            assert await asyncio.wait_for(other.read(), 5) == b""

    asyncio.run(scenario())


def test_no_server_behind_it_closes_the_connection() -> None:
    async def scenario() -> None:
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        middle = Intermediary(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", await middle.start())
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await middle.stop()

    asyncio.run(scenario())


def test_payload_of_a_data_frame() -> None:
    assert payload(data(b"\xa0\x03\x02\x01\x07")) == b"\xa0\x03\x02\x01\x07"
    long = b"\xa0\x82\x01\x00" + bytes(256)
    body = b"\x02\x01\x05\xa0\x82\x01\x04" + long
    list_ = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    frame = tpkt(b"\x02\xf0\x80\x01\x00\x01\x00\x61\x82" + len(list_).to_bytes(2, "big") + list_)
    assert payload(frame) == long


@pytest.mark.parametrize("octets", [CR, CN, b"", data(b"\xa0\x03\x02\x01\x07")[:-1], data(b"x")[:14]])
def test_payload_of_anything_else_is_none(octets: bytes) -> None:
    assert payload(octets) is None
