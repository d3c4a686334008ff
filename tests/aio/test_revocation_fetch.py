"""The HTTP client of the revocation service: what it takes, what it refuses, and that everything is bounded."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fastsec.aio import fetch as fetching
from fastsec.aio.fetch import HEAD_MAX, FetchError, fetch
from responders import Http, http


@pytest.fixture
def go():
    """Run a coroutine with a server."""

    def runner(use):
        async def main():
            async with Http().serving() as web:
                return await asyncio.wait_for(use(web), 30)

        return asyncio.run(main())

    return runner


async def get(web: Http, answer: bytes, path: str = "/x", **more):
    web.answers[path] = lambda _: answer
    return await fetch(f"{web.url}{path}", **{"seconds": 10, "maximum": 1000, **more})


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (http(b"abc"), b"abc"),
        (http(b""), b""),
        (http(bytes(1000)), bytes(1000)),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 200\r\nX: y\r\n\r\n", b""),
        (CHUNKED + b"3\r\nabc\r\n002;ext=1\r\nde\r\n0\r\n\r\n", b"abcde"),
        (CHUNKED + b"0\r\n\r\n", b""),
    ],
)
def test_answers(go, answer: bytes, body: bytes) -> None:
    async def use(web: Http) -> None:
        assert (await get(web, answer)).body == body

    go(use)


@pytest.mark.parametrize(
    "answer",
    [
        http(bytes(1001)),
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1001),
        CHUNKED + b"3E9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n",
        CHUNKED + b"FFFFFFFF\r\n",
        CHUNKED + b"FFFFFFFFFF\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"+1\r\na\r\n0\r\n\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
        CHUNKED + b"5\r\nabc",
        CHUNKED + b"3" * 20_000,
        http(b"abc")[:-1],
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * HEAD_MAX + b"\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: /y\r\n\r\n",
        b"HTTP/ ",
    ],
)
def test_answers_that_are_refused(go, answer: bytes) -> None:
    async def use(web: Http) -> None:
        web.answers["/y"] = lambda _: http(b"reached")
        with pytest.raises(FetchError):
            await get(web, answer)
        assert "/y" not in web.hits

    go(use)


def test_what_is_sent(go) -> None:
    async def use(web: Http) -> None:
        asked = []
        web.answers["/a?b=c"] = lambda body: asked.append(body) or http(b"")
        await fetch(
            f"{web.url}/a?b=c", seconds=10, maximum=9, body=b"\x30\x00", content_type="application/ocsp-request",
            headers=(("If-None-Match", '"x"'),),
        )  # fmt: skip
        assert asked == [b"\x30\x00"]
        head = web.heads[0]
        assert head.startswith("POST /a?b=c HTTP/1.1\r\n")
        assert f"Host: {web.url[7:]}\r\n" in head
        assert "Content-Type: application/ocsp-request\r\n" in head
        assert 'If-None-Match: "x"\r\n' in head
        web.answers["/"] = lambda _: http(b"")
        await fetch(web.url, seconds=10, maximum=9)
        assert web.heads[1].startswith("GET / HTTP/1.1\r\n")

    go(use)


def test_not_modified(go) -> None:
    async def use(web: Http) -> None:
        found = await get(web, b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n")
        assert (found.status, found.body, found.headers["etag"]) == (304, b"", "x")

    go(use)


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "ftp://127.0.0.1/", "http:///", "127.0.0.1"])
def test_only_http(go, url: str) -> None:
    async def use(web: Http) -> None:
        with pytest.raises(FetchError):
            await fetch(url, seconds=1, maximum=1)

    go(use)


def test_addresses_that_are_not_allowed(go) -> None:
    async def use(web: Http) -> None:
        asked = []
        with pytest.raises(FetchError, match="not allowed"):
            await get(web, http(b""), allowed=lambda address: asked.append(address))
        assert asked == ["127.0.0.1"]
        assert not web.hits

    go(use)


def test_names_that_are_not_known(go) -> None:
    async def use(web: Http) -> None:
        with pytest.raises(FetchError, match="name"):
            await fetch("http://no-such-host.invalid/", seconds=20, maximum=1)
        with pytest.raises(FetchError, match="name"):
            await fetch(f"http://{'a' * 70}/", seconds=20, maximum=1)

    go(use)


def test_nobody_there(go) -> None:
    async def use(web: Http) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            with pytest.raises(FetchError, match="refuses"):
                await fetch(f"http://127.0.0.1:{port}/", seconds=20, maximum=1)

    go(use)


@pytest.mark.parametrize(
    "first", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", CHUNKED]
)
def test_one_deadline_for_all_of_it(go, first: bytes) -> None:
    """However steadily the octets drip, wherever they do."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(b"1")
            await writer.drain()
            await asyncio.sleep(0.01)

    async def use(web: Http) -> None:
        web.raw["/x"] = drip
        with pytest.raises(TimeoutError):
            await fetch(f"{web.url}/x", seconds=0.3, maximum=1_000_000)

    go(use)


def test_a_connection_that_breaks(go) -> None:
    async def cut(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nabc")
        await writer.drain()
        writer.transport.abort()

    async def use(web: Http) -> None:
        web.raw["/x"] = cut
        with pytest.raises(FetchError):
            await fetch(f"{web.url}/x", seconds=10, maximum=1000)

    go(use)


# --- what costs time or memory, or is no number ---------------------------------------------------------------------
def read(octets: bytes, maximum: int = 1 << 20) -> object:
    async def main() -> object:
        reader = asyncio.StreamReader(limit=fetching.HEAD_MAX)
        reader.feed_data(octets)
        reader.feed_eof()
        return await fetching.read_answer(reader, maximum)

    return asyncio.run(main())


def test_a_length_of_thousands_of_digits() -> None:
    with pytest.raises(fetching.FetchError, match="larger"):
        read(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n")


def test_more_chunks_than_anybody_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "CHUNKS_MAX", 10)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert read(head + b"1\r\nx\r\n" * 9 + b"0\r\n\r\n") == fetching.Fetched(
        200, {"transfer-encoding": "chunked"}, b"x" * 9
    )
    with pytest.raises(fetching.FetchError, match="pieces"):
        read(head + b"1\r\nx\r\n" * 10 + b"0\r\n\r\n")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://[::1/"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(fetching.FetchError, match="not an http URL"):
        asyncio.run(fetching.fetch(url, seconds=5, maximum=100))
