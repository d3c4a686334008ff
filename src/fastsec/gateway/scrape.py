"""HTTP for metrics, in the gateway's own event loop: ``GET /metrics`` and nothing else.

Associations must not notice it. So the text is made in small slices with a turn of the loop after each, at most once a
second however many ask, and who asks has little room: a few connections, a small request, a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, cast

from fastsec.errors import ConfigError
from fastsec.gateway.admission import allowed
from fastsec.metrics import Collector, Family, exposed, library

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from fastsec.gateway.logs import Log
    from fastsec.gateway.tables import Address, Network
    from fastsec.metrics import Definition

CONNECTIONS_MAX: Final = 16
REQUEST_MAX: Final = 8192  # octets of request line and header
REQUEST_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
FRESH: Final = 1.0  # s for which a text is given again
SLICE: Final = 60  # samples that are made into text without a turn of the loop
PATH: Final = "/metrics"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

_REASONS: Final = {
    200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 505: "HTTP Version Not Supported",
}  # fmt: skip


class _One:
    """A registry with one metric, as ``generate_latest`` wants it."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def pieces(family: Family, first: bool = True) -> Iterator[bytes]:
    """The text of a family, in slices; ``first``: no other of this metric stands before it."""
    definition, samples = family.definition, family.samples
    lines = 1
    if definition.kind == "histogram":
        lines = max((len(value.counts) for _, value in samples if not isinstance(value, int | float)), default=1) + 2
    step = max(SLICE // lines, 1)
    for start in range(0, max(len(samples), 1), step):
        text: bytes = library().generate_latest(_One(exposed(definition, samples[start : start + step])))
        if start or not first:  # its name and help stand before the first slice
            text = b"".join(line for line in text.splitlines(keepends=True) if line[:1] != b"#")
        yield text


class ScrapeServer:
    """Serves the text of a collector.

    Arguments:
        collector: what is served.
        allow: source addresses that may ask; empty: all.
        log: where failures go.
        clock: monotonic seconds.
    """

    def __init__(
        self, collector: Collector, allow: Sequence[Network], log: Log, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.collector = collector
        self.allow = tuple(allow)
        self.exchanges: set[_Exchange] = set()
        self._log = log
        self._clock = clock
        self._listener: asyncio.Server | None = None
        self._text = b""
        self._made = float("-inf")
        self._making: asyncio.Task[bytes] | None = None

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening socket."""
        sockets = self._listener.sockets if self._listener is not None else ()
        return [sock.getsockname()[:2] for sock in sockets]

    async def listen(self, address: Address) -> None:
        """Begin to serve.

        Errors:
            ConfigError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                lambda: _Exchange(self), address.host, address.port, backlog=CONNECTIONS_MAX
            )
        except OSError as error:
            raise ConfigError(f"metrics: cannot listen at {address}: {error.strerror or error}") from None

    async def close(self) -> None:
        """Serve nothing more."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        for exchange in list(self.exchanges):
            exchange.drop()
        if self._making is not None:
            self._making.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._making

    async def text(self) -> bytes:
        """What is served now: made for all who ask at the same time, and not made anew within a second."""
        if self._clock() - self._made < FRESH:
            return self._text
        if self._making is None:
            self._making = asyncio.get_running_loop().create_task(self._make())
        return await asyncio.shield(self._making)

    async def _make(self) -> bytes:
        try:
            begun = self._clock()
            parts: list[bytes] = []
            before: Definition | None = None
            for family in self.collector.families():
                known, before = before, family.definition
                for piece in pieces(family, known is not before):
                    parts.append(piece)
                    await asyncio.sleep(0)
            self._text, self._made = b"".join(parts), begun
            return self._text
        finally:
            self._making = None

    def failed(self, error: BaseException) -> None:
        """A fault of ours: the gateway goes on."""
        self._log.error("internal error, please report it: metrics", error=repr(error))


class _Exchange(asyncio.Protocol):
    """One connection: one request, one answer, closed."""

    def __init__(self, server: ScrapeServer) -> None:
        self._server = server
        self._request = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tcp = cast("asyncio.Transport", transport)
        server = self._server
        peer = tcp.get_extra_info("peername")
        source = peer[0] if isinstance(peer, tuple) else ""
        if len(server.exchanges) >= CONNECTIONS_MAX or (server.allow and not allowed(source, server.allow)):
            tcp.abort()
            return
        server.exchanges.add(self)
        self._transport = tcp
        self._timer = asyncio.get_running_loop().call_later(REQUEST_SECONDS, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.exchanges.discard(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._asked or self._transport is None:
            return
        self._request += data
        end = self._request.find(b"\r\n\r\n")
        if (end if end >= 0 else len(self._request)) > REQUEST_MAX:
            self._answer(431)
        elif end >= 0:
            self._judge(bytes(self._request[:end]).split(b"\r\n", 1)[0])

    def drop(self) -> None:
        """End now."""
        if self._transport is not None:
            self._transport.abort()

    def _late(self) -> None:
        if self._asked:
            self.drop()  # it does not take the answer
        else:
            self._answer(408)

    def _judge(self, line: bytes) -> None:
        words = line.split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/"):
            self._answer(400)
        elif words[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
            self._answer(505)
        elif words[0] not in (b"GET", b"HEAD"):
            self._answer(405)
        elif words[1].split(b"?")[0] != PATH.encode():
            self._answer(404)
        else:
            self._begin()
            self._task = asyncio.get_running_loop().create_task(self._give(words[0] == b"HEAD"))

    def _begin(self) -> None:
        """The request is known: what else comes is not looked at."""
        self._asked = True
        self._request.clear()
        if self._transport is not None:
            self._transport.pause_reading()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._late)

    async def _give(self, head: bool) -> None:
        try:
            text = await self._server.text()
        except Exception as error:
            self._server.failed(error)
            self._write(500, b"not available\n")
        else:
            self._write(200, text, TEXT, head)

    def _answer(self, status: int) -> None:
        self._begin()
        self._write(status, f"{_REASONS[status]}; metrics are at {PATH}\n".encode())

    def _write(self, status: int, body: bytes, kind: str = "text/plain; charset=utf-8", head: bool = False) -> None:
        if self._transport is None:
            return
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        if status == 405:
            lines.append("Allow: GET, HEAD")
        lines += ["Cache-Control: no-store", "Connection: close", "", ""]
        self._transport.write("\r\n".join(lines).encode() + (b"" if head else body))
        self._transport.close()  # when it is written; else the timer ends it
