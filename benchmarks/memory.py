"""Memory of a server per idle association: 5,000 of them, of several client identities, after one message each."""

from __future__ import annotations

import asyncio
import resource
import tempfile
from pathlib import Path

import echo
import fastsec
import harness
import identities
import record
from fastsec.aio.client import connect_handler
from fastsec.aio.connection import Connection

COUNT = 5000
CLIENTS = 10
BUDGET = 8.0  # KiB


class Idle(fastsec.AssociationHandler):
    """Sends one message and keeps still."""

    def __init__(self) -> None:
        self.failed: str | None = None
        self.done: dict[Connection, asyncio.Future[None]] = {}

    def associated(self, assoc: Connection) -> None:
        assoc.write(record.mms_pdu(64))

    def pdus_received(self, assoc: Connection, pdus: list[bytes]) -> None:
        self.done[assoc].set_result(None)

    def ended(self, assoc: Connection, error: fastsec.FastsecError | None) -> None:
        self.failed = str(error)
        waiting = self.done.get(assoc)
        if waiting is not None and not waiting.done():
            waiting.set_exception(RuntimeError(f"an association ended: {error}"))


async def one(handler: Idle, port: int, config: fastsec.Config) -> None:
    """Open one association and wait for the echo of its message."""
    connection = await connect_handler(
        handler, f"osi://127.0.0.1:{port}", config, peer=identities.SERVER, initiate=identities.INITIATE
    )
    handler.done[connection] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(30):
        await handler.done[connection]


async def client(number: int, folder: Path, port: int, count: int) -> Idle:
    handler = Idle()
    config = identities.config(folder / "pki", f"client{number}")
    for _ in range(count):
        await one(handler, port, config)
    return handler


async def measure(report: harness.Report, server: echo.Server, folder: Path) -> None:
    warm = [await client(number, folder, server.secured, 5) for number in range(CLIENTS)]
    before = server.ask("memory")
    report.progress(f"memory: opening {COUNT} associations")
    idle = await asyncio.gather(*(client(n, folder, server.secured, COUNT // CLIENTS) for n in range(CLIENTS)))
    value = (server.ask("memory") - before) / COUNT / 1024
    failed = [handler.failed for handler in (*warm, *idle) if handler.failed]
    if failed:
        raise RuntimeError(failed[0])
    report.add(
        harness.Row("memory", f"idle.{COUNT}", None, "budget-8KiB", value, "KiB", BUDGET, BUDGET / value, 1, 0.0)
    )


def run(report: harness.Report, full: bool) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1 << 16)), hard))
    with tempfile.TemporaryDirectory(prefix="fastsec-bench-") as name:
        folder = Path(name)
        identities.make(folder / "pki", CLIENTS)
        with echo.server(folder) as server:
            fastsec.run(measure(report, server, folder))
