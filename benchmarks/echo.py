"""100 associations over loopback, client and server in two processes on uvloop, no TLS: AES-GCM against bare TPKT.

Both sides of the comparison are the same connection class with the same per-read list callback; the bare one has TPKT
and COTP framing where the other has the guard.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import fastsec
import harness
import identities
import processes
import raw
import record
from fastsec.aio.client import connect_handler, plain_connect_handler
from fastsec.aio.connection import Connection

ASSOCIATIONS = 100
SIZE = 256
SLICE = 1.0
ROUNDS = 7


class Server:
    """The echo server's process."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        assert process.stdout
        words = process.stdout.readline().split()
        if len(words) != 3 or words[0] != "READY":
            raise RuntimeError(f"the echo server did not start: {log.read_text()[-500:]}")
        self.secured, self.bare = int(words[1]), int(words[2])

    def ask(self, word: str) -> float:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@contextlib.contextmanager
def server(folder: Path) -> Iterator[Server]:
    log = folder / "echo.log"
    argv = [sys.executable, str(processes.HERE / "echo_server.py"), str(folder / "pki")]
    with processes.child(argv, log=log) as process:
        yield Server(process, log)


class Player(fastsec.AssociationHandler):
    """Keeps so many messages in flight while it may; counts what comes back."""

    def __init__(self) -> None:
        self.count = 0
        self.playing = False
        self.waiting = 0
        self.connections: list[Connection] = []
        self.news = asyncio.Event()

    def associated(self, assoc: Connection) -> None:
        self.connections.append(assoc)
        self.news.set()

    def pdus_received(self, assoc: Connection, pdus: list[bytes]) -> None:
        self.count += len(pdus)
        if self.playing:
            assoc.write_many(pdus)
        else:
            self.waiting -= len(pdus)
            self.news.set()

    def ended(self, assoc: Connection, error: fastsec.FastsecError | None) -> None:
        if self.connections:
            self.connections.clear()
            raise RuntimeError(f"an association ended: {error}")

    async def until(self, done: object) -> None:
        assert callable(done)
        async with asyncio.timeout(30):
            while not done():
                self.news.clear()
                await self.news.wait()

    async def play(self, payload: bytes, in_flight: int, seconds: float) -> tuple[int, float]:
        """Messages that came back, and the seconds."""
        self.count, self.playing = 0, True
        self.waiting = in_flight * len(self.connections)
        start = time.perf_counter()
        for connection in self.connections:
            connection.write_many([payload] * in_flight)
        await asyncio.sleep(seconds)
        self.playing = False
        await self.until(lambda: self.waiting == 0)
        return self.count, time.perf_counter() - start


async def open_all(player: Player, port: int, config: fastsec.Config | None, count: int) -> None:
    """Open the associations, a few at a time, each confirmed by a first message."""
    address = f"osi://127.0.0.1:{port}"
    for number in range(1, count + 1):
        if config is None:
            await plain_connect_handler(player, address, None)
        else:
            await connect_handler(player, address, config, peer=identities.SERVER, initiate=identities.INITIATE)
        await player.until(lambda number=number: len(player.connections) == number)
        player.waiting = 1
        player.connections[-1].write(record.mms_pdu(SIZE))
        await player.until(lambda: player.waiting == 0)


async def measure(report: harness.Report, echo: Server, folder: Path, rounds: int) -> None:
    config = identities.config(folder / "pki", "client0")
    players = {"ae": Player(), "tpkt-only": Player()}
    await open_all(players["ae"], echo.secured, config, ASSOCIATIONS)
    await open_all(players["tpkt-only"], echo.bare, None, ASSOCIATIONS)
    payload = record.mms_pdu(SIZE)
    for in_flight in (1, 16):
        rates: dict[str, list[float]] = {key: [] for key in players}
        cpu: dict[str, list[float]] = {key: [] for key in players}
        for number in range(rounds):
            report.progress(f"echo 100x{in_flight} round {number + 1} of {rounds}")
            for key in list(players) if number % 2 else list(reversed(players)):
                before = time.process_time() + echo.ask("cpu")
                count, seconds = await players[key].play(payload, in_flight, SLICE)
                used = time.process_time() + echo.ask("cpu") - before
                rates[key].append(count / seconds)
                cpu[key].append(used / (2 * count))  # each echo is a message there and one back
        add(report, in_flight, rates, cpu, rounds)


def add(
    report: harness.Report, in_flight: int, rates: dict[str, list[float]], cpu: dict[str, list[float]], rounds: int
) -> None:
    case = f"ae.100x{in_flight}"

    def row(against: str, unit: str, value: float, peer: float, ratios: list[float]) -> None:
        ratio, spread = statistics.median(ratios), harness.spread_of(ratios)
        report.add(harness.Row("echo", case, SIZE, against, value, unit, peer, ratio, rounds, spread))

    mine, bare = rates["ae"], rates["tpkt-only"]
    ratios = [a / b for a, b in zip(mine, bare, strict=True)]
    row("tpkt-only", "1/s", statistics.median(mine), statistics.median(bare), ratios)
    if in_flight == 1:
        return
    try:
        baseline = raw.load().RawGcm(SIZE, record.authenticated_octets("ae", SIZE))
    except ImportError as error:
        report.failed("echo", case, SIZE, "raw-libcrypto", str(error))
        return
    floor = statistics.median(baseline.run(1000) / 1000 for _ in range(200)) * 1e6
    added = [(a - b) * 1e6 for a, b in zip(cpu["ae"], cpu["tpkt-only"], strict=True)]
    row("raw-libcrypto", "us", statistics.median(added), floor, [floor / one for one in added])


def run(report: harness.Report, full: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="fastsec-bench-") as name:
        folder = Path(name)
        identities.make(folder / "pki", 1)
        with server(folder) as echo:
            fastsec.run(measure(report, echo, folder, 3 * ROUNDS if full else ROUNDS))
