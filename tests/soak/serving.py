"""The server process under attack: a fastsec server as any application runs it, which tells what each connection saw.

Commands come over stdin (``fastsec.demo.line``). Beside their answers it prints ``RECORDS [...]``: one entry for each
connection that has ended, with its address, its events in order and the limit that ended it, if one did.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import hashlib
import json
import os
import sys
import threading
import time
from pathlib import Path

from fastsec import limits
from fastsec.aio.connection import Connection
from fastsec.aio.endpoints import identity_of
from fastsec.aio.handler import AssociationHandler
from fastsec.aio.loop import run
from fastsec.aio.runtime import runtime
from fastsec.aio.server import Server, serve
from fastsec.demo import line
from fastsec.errors import Aborted, FastsecError, LimitReached
from fastsec.events import DOMAIN_E2E, SecurityEvent

from . import pki

RESPONSE = bytes.fromhex("a903800102")
_LATE = "did not come in time"
_SILENT = "its place was wanted"


def answer_to(pdu: bytes) -> bytes:
    """What the application answers: a digest of the request and the request itself."""
    body = hashlib.sha256(pdu).digest() + pdu
    return b"\xa1\x82" + len(body).to_bytes(2, "big") + body


class Book:
    """What happened on each connection that has ended."""

    def __init__(self) -> None:
        self.entries: list[dict[str, object]] = []

    def flush(self) -> None:
        entries, self.entries = self.entries, []
        if entries:
            print("RECORDS", json.dumps(entries), flush=True)


class Served(AssociationHandler):
    """One association, or attempt at one."""

    __slots__ = ("_book", "_details", "_events", "_opened")

    def __init__(self, book: Book) -> None:
        self._book = book
        self._events: list[str] = []
        self._details: list[str] = []
        self._opened = False

    def association_requested(self, assoc: Connection, appl_data: bytes) -> bytes:
        return RESPONSE

    def associated(self, assoc: Connection) -> None:
        self._opened = True

    def pdus_received(self, assoc: Connection, pdus: list[bytes]) -> None:
        if assoc.is_open:
            assoc.write_many([answer_to(pdu) for pdu in pdus])

    def event_received(self, assoc: Connection, event: SecurityEvent) -> None:
        (self._events if event.id.startswith(DOMAIN_E2E + ":") else self._details).append(event.mnemonic)

    def ended(self, assoc: Connection, error: FastsecError | None) -> None:
        self._book.entries.append(
            {
                "at": assoc.peer_address,
                "events": self._events,
                "details": self._details,
                "opened": self._opened,
                "refusal": refusal(error),
                "error": str(error or ""),
            }
        )


def refusal(error: FastsecError | None) -> str:
    """The limit that ended a connection, by its name in ``Refusals`` or ``Admissions``."""
    if isinstance(error, LimitReached):
        if error.limit == "OUR_UNCONFIRMED_PER_PEER":
            return "evicted" if "evicted" in str(error) else "unconfirmed"
        return {"OUR_HALF_OPEN_MAX": "half_open", "OUR_UNCONFIRMED_TIMEOUT": "expired"}.get(error.limit, error.limit)
    if isinstance(error, Aborted):
        return "late" if _LATE in error.reason else "silent" if _SILENT in error.reason else ""
    return ""


def measure(listener: Server, config, events: collections.Counter[str]) -> dict[str, object]:
    """All that must not grow, and the counters."""
    endpoint = identity_of(config).endpoint(config)
    jobs = runtime().jobs
    with open("/proc/self/statm") as file:
        rss = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "rss": rss,
        "cpu": time.process_time(),
        "replay": sum(map(len, endpoint.replay._peers.values())),
        "events": dict(events),
        "admissions": dataclasses.asdict(listener.admissions),
        "refusals": dataclasses.asdict(listener.refusals),
        "tables": {
            "fds": len(os.listdir("/proc/self/fd")),
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "connections": len(listener.connections),
            "half_open": listener.half_open,
            "handshakes": endpoint.half_open,
            "unconfirmed": len(endpoint._unconfirmed),
            "numbers": sum(len(one.live_as_server) for one in endpoint._peers.values()),
            "jobs": jobs.running + jobs.waiting,
        },
    }


async def main(directory: Path, changed: dict[str, int]) -> None:
    for name, value in changed.items():
        setattr(limits, name, value)
    book = Book()
    events: collections.Counter[str] = collections.Counter()

    def count(event: SecurityEvent) -> None:
        if event.id.startswith(DOMAIN_E2E + ":"):
            events[event.mnemonic] += 1

    config = pki.load(directory).config("server", sink=count, replay_file=str(directory / "replay"))

    async def flushing() -> None:
        while True:
            await asyncio.sleep(0.2)
            book.flush()

    async def handle(command: line.Command) -> object:
        book.flush()
        return measure(listener, config, events)

    async with serve(lambda: Served(book), "osi://127.0.0.1:0", config) as listener:
        line.ready(port=listener.addresses[0][1])
        task = asyncio.create_task(flushing())
        await line.serve(handle)
        task.cancel()
        await listener.close(0)
    book.flush()


if __name__ == "__main__":
    run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
