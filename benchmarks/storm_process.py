"""The processes of the storm bench: ``server``, ``steady`` (open associations, measures), ``storm`` (makes new ones).

Each prints READY, and answers each line of standard input with one line.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastsec
import identities
import record
from echo_server import Echo
from fastsec.aio.client import connect_handler
from fastsec.aio.connection import Connection
from fastsec.aio.pauses import ShortPauses
from fastsec.aio.signers import SignerThreads

ASSOCIATIONS = 20
PACE = 0.001  # seconds between two requests, of all associations together
LIFE = 1.0  # seconds that an association of the storm lives
SIZE = 256


class SlowSigner:
    """As a token: the thread waits, without the interpreter lock."""

    def __init__(self, signer: Any, seconds: float, threads: int) -> None:
        self._signer, self._seconds = signer, seconds
        self.algorithm, self.kind = signer.algorithm, signer.kind
        self.executor = SignerThreads(threads)

    def sign(self, data: bytes) -> bytes:
        time.sleep(self._seconds)
        return self._signer.sign(data)


async def commands(answer: Callable[[list[str]], Awaitable[str]]) -> None:
    """Print READY, then answer lines until there are no more."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), lambda: lines.put_nowait(sys.stdin.readline()))
    while words := (await lines.get()).split():
        print(await answer(words), flush=True)
    os._exit(0)  # thousands of open associations: the parent has what it wanted


def settle() -> None:
    """What a process does that runs for months."""
    gc.collect()
    gc.freeze()


class GcTimes:
    """The longest pauses of the garbage collector."""

    def __init__(self) -> None:
        self.longest, self.count, self._since = 0.0, 0, 0.0
        gc.callbacks.append(self)

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._since = time.perf_counter()
        else:
            self.count += 1
            self.longest = max(self.longest, time.perf_counter() - self._since)


async def server(pki: Path, seconds: float) -> None:
    config = identities.config(pki, "server")
    signer = SlowSigner(config.credential.signer, seconds, 48)
    config = replace(config, credential=replace(config.credential, signer=signer))
    echo = Echo()
    listener = await fastsec.serve(lambda: echo, "osi://127.0.0.1:0", config, initiate=identities.RESPONSE)
    ShortPauses()  # as a gateway does
    times = GcTimes()
    print("READY", listener.addresses[0][1], flush=True)

    async def answer(words: list[str]) -> str:
        if words[0] == "cpu":
            return str(time.process_time())
        return f"garbage collections of the server: {times.count}, longest {times.longest * 1e3:.1f} ms"

    await commands(answer)


class Steady(fastsec.AssociationHandler):
    """Notes how long each answer took."""

    def __init__(self) -> None:
        self.sent: dict[Connection, deque[float]] = {}
        self.took: list[float] = []
        self.news = asyncio.Event()

    def associated(self, assoc: Connection) -> None:
        self.sent[assoc] = deque()
        self.news.set()

    def pdus_received(self, assoc: Connection, pdus: list[bytes]) -> None:
        now, sent = time.perf_counter(), self.sent[assoc]
        for _ in pdus:
            self.took.append(now - sent.popleft())


async def steady(pki: Path, port: str) -> None:
    config, handler = identities.config(pki, "client0"), Steady()
    payload = record.mms_pdu(SIZE)
    for number in range(ASSOCIATIONS):
        handler.news.clear()
        await connect_handler(
            handler, f"osi://127.0.0.1:{port}", config, peer=identities.SERVER, initiate=identities.INITIATE
        )
        await handler.news.wait()
        assert len(handler.sent) == number + 1
    connections = list(handler.sent)
    loop = asyncio.get_running_loop()
    gc.disable()  # what is measured is the server
    print("READY", flush=True)

    async def answer(words: list[str]) -> str:
        handler.took = []
        begin, done = loop.time(), loop.create_future()
        count, wanted = 0, int(float(words[1]) / PACE)

        def send() -> None:
            nonlocal count
            due = min(wanted, int((loop.time() - begin) / PACE) + 1)
            while count < due:
                connection = connections[count % len(connections)]
                handler.sent[connection].append(time.perf_counter())
                connection.write(payload)
                count += 1
            if count < wanted:
                loop.call_later(PACE, send)
            else:
                loop.call_later(1.0, done.set_result, None)

        send()
        await done
        if len(handler.took) != wanted:
            raise RuntimeError(f"{wanted - len(handler.took)} requests were not answered within a second")
        return " ".join(f"{took * 1e6:.1f}" for took in handler.took)

    await commands(answer)


class Visitor(fastsec.AssociationHandler):
    """Opens, says something, leaves after a while."""

    opened = failed = 0
    why = ""

    def associated(self, assoc: Connection) -> None:
        Visitor.opened += 1
        assoc.write(record.mms_pdu(SIZE))
        asyncio.get_running_loop().call_later(LIFE, assoc.abort)

    def ended(self, assoc: Connection, error: fastsec.FastsecError | None) -> None:
        if not isinstance(error, fastsec.Aborted) or error.side != "local":
            Visitor.failed += 1
            Visitor.why = str(error)


async def storm(pki: Path, port: str, rate: float, clients: int) -> None:
    os.nice(19)  # its work is not to be measured
    configs = [identities.config(pki, f"client{number}") for number in range(1, clients)]
    visitor, tasks = Visitor(), set()
    running: asyncio.Task[None] | None = None
    since = 0.0
    loop = asyncio.get_running_loop()
    settle()
    print("READY", flush=True)

    async def call(number: int) -> None:
        await connect_handler(
            visitor,
            f"osi://127.0.0.1:{port}",
            configs[number % len(configs)],
            peer=identities.SERVER,
            initiate=identities.INITIATE,
        )

    async def blow() -> None:
        begin, count = loop.time(), 0
        while True:
            while count < (loop.time() - begin) * rate:
                task = loop.create_task(call(count))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                count += 1
            await asyncio.sleep(0.5 / rate)

    async def answer(words: list[str]) -> str:
        nonlocal running, since
        if words[0] == "start":
            Visitor.opened, since = 0, loop.time()
            running = loop.create_task(blow())
            return "started"
        assert running
        running.cancel()
        opened, seconds = Visitor.opened, loop.time() - since
        await asyncio.sleep(LIFE + 1)
        failed, Visitor.failed = Visitor.failed, 0
        return f"{opened} {seconds:.2f} {failed} {Visitor.why}"

    await commands(answer)


def main() -> None:
    name, pki, *rest = sys.argv[1:]
    folder = Path(pki)
    if name == "server":
        fastsec.run(server(folder, float(rest[0])))
    elif name == "steady":
        fastsec.run(steady(folder, rest[0]))
    else:
        fastsec.run(storm(folder, rest[0], float(rest[1]), int(rest[2])))


if __name__ == "__main__":
    main()
