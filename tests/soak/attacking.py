"""A process of attackers. It makes each attack over and over and prints ``RECORDS [...]``: every single attempt.

Commands: ``once`` (kind, count, within): attempts of one kind, at most ``within`` seconds waited for; ``begin`` (kinds,
each with its pace, for how long, and whether it is the server that waits); ``stop``: begin nothing new and wait for
what is under way.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import sys
import time
from pathlib import Path

from fastsec.aio.loop import run
from fastsec.demo import line

from . import pki
from .arena import ATTACKS, Attempt, World, load, run_once

BACK_OFF = 20


class Attackers:
    """The attackers of this process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.entries: list[Attempt] = []
        self.stopping = False
        self.tasks: set[asyncio.Task[None]] = set()

    def flush(self) -> None:
        entries = self.entries + self.world.asides
        self.entries, self.world.asides = [], []
        for at in range(0, len(entries), 500):
            print("RECORDS", json.dumps([dataclasses.asdict(one) for one in entries[at : at + 500]]), flush=True)

    async def once(self, kind: str) -> None:
        made = await run_once(self.world, kind)  # not into a list that may have been printed meanwhile
        self.entries += made

    async def over_and_over(self, kind: str, pace: float, until: float, waits: bool) -> None:
        await asyncio.sleep(random.uniform(0, min(pace, until - time.monotonic()) / 2))
        while not self.stopping and time.monotonic() < until:
            begun = time.monotonic()
            await self.once(kind)
            # Who floods a machine that others use too would only measure how it is shared: the slower, the rarer.
            slowness = 0 if waits else BACK_OFF * (time.monotonic() - begun)
            await asyncio.sleep(pace * random.uniform(0.5, 1.5) + slowness)

    def start(self, coroutine: object) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


async def main(directory: Path, ports: dict[str, int], waits: dict[str, float]) -> None:
    load()
    attackers = Attackers(World(pki.load(directory), ports, waits))

    async def flushing() -> None:
        while True:
            await asyncio.sleep(0.2)
            attackers.flush()

    async def handle(command: line.Command) -> object:
        match command["op"]:
            case "once":
                under_way = [attackers.start(attackers.once(command["kind"])) for _ in range(command["count"])]
                await asyncio.wait(under_way, timeout=command["within"])
            case "begin":
                begun = time.monotonic()
                for kind, pace, seconds, waits in command["kinds"]:
                    attackers.start(attackers.over_and_over(kind, pace, begun + seconds, waits))
            case "stop":
                attackers.stopping = True
                while attackers.tasks:
                    await asyncio.wait(attackers.tasks)
        attackers.flush()
        return {"under_way": len(attackers.tasks), "kinds": len(ATTACKS)}

    flusher = asyncio.create_task(flushing())
    line.ready()
    await line.serve(handle)
    flusher.cancel()


if __name__ == "__main__":
    run(main(Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])))
