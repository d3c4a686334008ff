"""A small HTTP client for CRLs and OCSP: one request, everything bounded.

One deadline holds for all of it, from the name look-up to the last octet, so a server that drips is no better off than
a dead one. The size is bounded, redirects are not followed, nothing but http is spoken: what is fetched is signed.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

HEAD_MAX: Final = 16 * 1024
_PIECE: Final = 64 * 1024
_ADDRESSES_MAX: Final = 4
_DIGITS_MAX: Final = 12  # of Content-Length
CHUNKS_MAX: Final = 65_536  # a list of 64 MiB in chunks of 1 KiB; smaller ones would only cost time


class FetchError(Exception):
    """There is no usable answer; the text says why, in a few words. A ``TimeoutError`` is one of its own."""


class Fetched(NamedTuple):
    """An answer.

    Attributes:
        status: 200 or 304.
        headers: names in lower case.
        body: the content.
    """

    status: int
    headers: dict[str, str]
    body: bytes


async def fetch(
    url: str,
    *,
    seconds: float,
    maximum: int,
    body: bytes | None = None,
    content_type: str = "",
    headers: tuple[tuple[str, str], ...] = (),
    allowed: Callable[[str], bool] = lambda address: True,
) -> Fetched:
    """GET, or POST if there is a body.

    Arguments:
        url: http.
        seconds: for all of it.
        maximum: octets of the answer's body.
        headers: further ones.
        allowed: whether an IP address may be connected to.
    Errors:
        FetchError; TimeoutError.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:  # a certificate may name any
        raise FetchError("not an http URL") from None
    if parts.scheme != "http" or not parts.hostname:
        raise FetchError("not an http URL")
    async with asyncio.timeout(seconds):
        reader, writer = await _connect(parts.hostname, port, allowed)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            lines = [
                f"{'GET' if body is None else 'POST'} {target} HTTP/1.1",
                f"Host: {parts.netloc}",
                "Connection: close",
                "User-Agent: fastsec",
                *(f"{name}: {value}" for name, value in headers),
            ]
            if body is not None:
                lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
            writer.write("\r\n".join([*lines, "", ""]).encode("ascii") + (body or b""))
            await writer.drain()
            return await read_answer(reader, maximum)
        except (OSError, EOFError, UnicodeError, asyncio.LimitOverrunError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise FetchError(f"the connection broke: {type(error).__name__}") from None
        finally:
            writer.transport.abort()


async def _connect(
    host: str, port: int, allowed: Callable[[str], bool]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise FetchError("its name is not known") from None
    addresses = [str(entry[4][0]) for entry in found]
    usable = [address for address in dict.fromkeys(addresses) if allowed(address)][:_ADDRESSES_MAX]
    if not usable:
        raise FetchError("its address is not allowed")
    for address in usable:
        try:
            return await asyncio.open_connection(address, port, limit=HEAD_MAX)
        except TimeoutError:
            raise
        except OSError:
            continue
    raise FetchError("it refuses connections or is not there")


async def read_answer(reader: asyncio.StreamReader, maximum: int) -> Fetched:
    """The answer that comes on ``reader``; errors as ``fetch``, EOFError, LimitOverrunError."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    version, _, rest = head[0].partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit()):
        raise FetchError("its answer is not HTTP")
    status = int(code)
    headers: dict[str, str] = {}
    for line in head[1:-2]:
        name, colon, value = line.partition(":")
        if not colon:
            raise FetchError("its answer is not HTTP")
        headers[name.strip().lower()] = value.strip()
    if 300 <= status < 400 and status != 304:
        raise FetchError("it redirects, which is not followed")
    if status == 304:
        return Fetched(status, headers, b"")
    if status != 200:
        raise FetchError(f"it answers with status {status}")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Fetched(status, headers, await _chunks(reader, maximum))
    length = headers.get("content-length")
    if length is None:
        return Fetched(status, headers, await _until_end(reader, maximum))
    if not (length.isascii() and length.isdigit() and len(length) <= _DIGITS_MAX) or int(length) > maximum:
        raise FetchError(f"its answer is larger than {maximum} octets")
    return Fetched(status, headers, await _exactly(reader, int(length)))


async def _exactly(reader: asyncio.StreamReader, length: int) -> bytes:
    """In pieces, so that the limit of the stream holds and the memory grows with what has really come."""
    found = bytearray()
    while len(found) < length:
        piece = await reader.read(min(length - len(found), _PIECE))
        if not piece:
            raise FetchError("its answer is cut short")
        found += piece
    return bytes(found)


async def _until_end(reader: asyncio.StreamReader, maximum: int) -> bytes:
    found = bytearray()
    while piece := await reader.read(_PIECE):
        found += piece
        if len(found) > maximum:
            raise FetchError(f"its answer is larger than {maximum} octets")
    return bytes(found)


async def _chunks(reader: asyncio.StreamReader, maximum: int) -> bytes:
    found = bytearray()
    for _ in range(CHUNKS_MAX):
        line = await reader.readuntil(b"\r\n")
        text = line[:-2].partition(b";")[0].strip()
        if not 1 <= len(text) <= 8 or not all(octet in b"0123456789abcdefABCDEF" for octet in text):
            raise FetchError("its answer is not HTTP")
        length = int(text, 16)
        if len(found) + length > maximum:
            raise FetchError(f"its answer is larger than {maximum} octets")
        if length == 0:
            return bytes(found)
        found += await _exactly(reader, length)
        if await reader.readexactly(2) != b"\r\n":
            raise FetchError("its answer is not HTTP")
    raise FetchError("its answer comes in too many pieces")
