"""Asking a gateway for its metrics as Prometheus does, and an intermediary that counts what passes."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families


def values(text: str) -> dict[str, float]:
    """Each line's value by name and labels, in alphabetical order."""
    kinds = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert len(set(kinds)) == len(kinds), "a metric begins twice"
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}"
            assert name not in found, f"{name} stands there twice"
            found[name] = sample.value
    return found


async def ask(port: int, request: bytes, within: float = 30.0) -> tuple[int, dict[str, str], bytes]:
    """Status, header and body of the answer to ``request``; status 0 if the connection was closed without one."""
    async with asyncio.timeout(within):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            octets = await reader.read()
        except ConnectionError:
            octets = b""
        finally:
            writer.close()
    return parsed(octets)


def parsed(octets: bytes) -> tuple[int, dict[str, str], bytes]:
    if not octets:
        return 0, {}, b""
    head, _, body = octets.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    header = dict(line.lower().split(": ", 1) for line in lines)
    assert int(header["content-length"]) == len(body) or not body
    return int(status.split(" ")[1]), header, body


async def scrape(port: int) -> dict[str, float]:
    """All values, as they are now."""
    status, header, body = await ask(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\n")
    assert status == 200, body
    assert header["content-type"].startswith("text/plain; version=0.0.4")
    return values(body.decode())


async def scraped(port: int, wanted: dict[str, float], within: float = 30.0) -> dict[str, float]:
    """Scrape until all of ``wanted`` is so; at the end of the time say what is not."""
    loop = asyncio.get_running_loop()
    end = loop.time() + within
    while True:
        try:
            found = await scrape(port)
        except ConnectionError:
            found = {}
        wrong = {name: (value, found.get(name)) for name, value in wanted.items() if found.get(name) != value}
        if not wrong:
            return found
        assert loop.time() < end, f"wanted, found: {wrong}"
        await asyncio.sleep(0.3)


class Counting:
    """Forwards TCP between the gateways; counts octets and keeps those of the first connection."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.there = self.back = 0
        self.first: bytes = b""
        self._connections = 0

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        await asyncio.gather(
            self._copy(reader, far_writer, number, True), self._copy(far_reader, writer, number, False)
        )

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, there: bool) -> None:
        try:
            while data := await reader.read(65536):
                if there:
                    self.there += len(data)
                    self.first += data if number == 1 else b""
                else:
                    self.back += len(data)
                writer.write(data)
                await writer.drain()
            writer.close()
        except OSError:
            writer.close()


def frames(octets: bytes) -> list[bytes]:
    """The TPKT frames in them."""
    found = []
    while octets:
        size = int.from_bytes(octets[2:4], "big")
        found.append(octets[:size])
        octets = octets[size:]
    return found
