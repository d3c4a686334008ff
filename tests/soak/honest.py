"""The honest clients: many associations under several identities, that ask, check every answer, update keys and come
again. They know nothing of the attacks and must not notice them.

Commands: ``pause``, ``resume``, ``count``, ``stop`` (finish what is under way, release, report).
"""

from __future__ import annotations

import array
import asyncio
import os
import random
import sys
import time
from pathlib import Path

from fastsec.aio.client import connect
from fastsec.aio.loop import run
from fastsec.aio.stream import AssociationStream
from fastsec.demo import line
from fastsec.errors import Aborted, FastsecError, Rejected

from . import pki
from .serving import answer_to

SOURCE = "127.0.1.1"
INITIATE = bytes.fromhex("a803800101")
ANSWER_TIMEOUT = 60.0
# Seconds between an association's requests and between its reconnects, drawn anew each time.
PAUSE = (0.05, 0.45)
STAY = (15.0, 60.0)
STAY_HURRIED = (2.0, 6.0)


class Honest:
    """All associations and what they have seen."""

    def __init__(self, people: pki.People, port: int, hurried: bool) -> None:
        self.people = people
        self.address = f"osi://127.0.0.1:{port}"
        self.stay = STAY_HURRIED if hurried else STAY
        self.configs = [people.config(f"honest{i}", sink=self._event) for i in range(pki.HONEST)]
        self.going = asyncio.Event()
        self.going.set()
        self.stopping = False
        self.begun = time.monotonic()
        self.open = self.pdus = self.lost = self.updates = self.connects = self.turned_away = 0
        self.events: list[str] = []
        self.faults: list[str] = []
        self.latencies = array.array("f")

    def _event(self, event: object) -> None:
        self.events.append(str(event))

    async def live(self, number: int) -> None:
        """One association after the other."""
        config = self.configs[number % pki.HONEST]
        while not self.stopping:
            stream = await self._connect(config)
            if stream is None:
                continue
            self.open += 1
            try:
                await self._talk(stream)
                await stream.release()
            except (FastsecError, TimeoutError) as error:
                self.faults.append(f"association {number}: {type(error).__name__}: {error}")
                return
            finally:
                self.open -= 1
                self.updates += stream.connection.key_updates

    async def _connect(self, config: object) -> AssociationStream | None:
        """None if the server has no place at the moment: that is its limit at work, and it counts it."""
        await self.going.wait()
        try:
            stream = await connect(self.address, config, peer=pki.SERVER, initiate=INITIATE, local_address=(SOURCE, 0))
        except (Aborted, ConnectionError) as error:
            no_place = isinstance(error, ConnectionError) or (isinstance(error, Rejected) and error.transient)
            if not (no_place or "without an answer" in str(error) or "connection" in str(error)):
                self.faults.append(
                    f"connecting, after {time.monotonic() - self.begun:.0f} s: {type(error).__name__}: {error}"
                )
            self.turned_away += 1
            await asyncio.sleep(random.uniform(0.2, 1.0))
            return None
        self.connects += 1
        return stream

    async def _talk(self, stream: AssociationStream) -> None:
        until = time.monotonic() + random.uniform(*self.stay)
        update = random.random() < 0.5
        while not self.stopping and time.monotonic() < until:
            batch = [self._request() for _ in range(random.randrange(1, 5))]
            begun = time.monotonic()
            for request in batch:
                await stream.send(request)
            for done, request in enumerate(batch):
                try:
                    async with asyncio.timeout(ANSWER_TIMEOUT):
                        answer = await stream.recv()
                except BaseException:
                    self.lost += len(batch) - done
                    raise
                self.latencies.append(time.monotonic() - begun)
                if answer == answer_to(request):
                    self.pdus += 1
                else:
                    self.lost += 1
                    self.faults.append("an answer that belongs to another request")
            if update:
                stream.update_keys()  # the next wishes are put off until the distance is over
                update = random.random() < 0.2
            await asyncio.sleep(random.uniform(*PAUSE))
            await self.going.wait()

    @staticmethod
    def _request() -> bytes:
        body = os.urandom(random.choice((8, 40, 200, 1200)))
        return b"\xa0\x82" + len(body).to_bytes(2, "big") + body

    def report(self) -> dict[str, object]:
        ordered = sorted(self.latencies)
        share = {name: round(ordered[int(len(ordered) * part)] * 1000, 2) for name, part in _SHARES} if ordered else {}
        return {
            "open": self.open, "pdus": self.pdus, "lost": self.lost, "updates": self.updates, "latency_ms": share,
            "connects": self.connects, "turned_away": self.turned_away, "events": self.events, "faults": self.faults,
        }  # fmt: skip


_SHARES = (("p50", 0.50), ("p99", 0.99), ("p999", 0.999))


async def main(directory: Path, port: int, count: int, hurried: bool) -> None:
    honest = Honest(pki.load(directory), port, hurried)
    tasks = [asyncio.create_task(honest.live(number)) for number in range(count)]

    async def handle(command: line.Command) -> object:
        match command["op"]:
            case "pause":
                honest.going.clear()
            case "resume":
                honest.going.set()
            case "stop":
                honest.stopping = True
                honest.going.set()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(result, BaseException):
                        honest.faults.append(f"{type(result).__name__}: {result}")
        return honest.report()

    line.ready()
    await line.serve(handle)


if __name__ == "__main__":
    run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "hurried"))
