"""A pair of gateways between plain clients and a plain server, all in one process, attacked from both sides.

The plain clients are honest: each request has to be answered. What the gateways noticed is taken from their log: the
events by source address, and a line for each connection that came to nothing. Commands: ``count``, ``stop``.
"""

from __future__ import annotations

import asyncio
import collections
import json
import sys
from functools import partial
from pathlib import Path

from fastsec import limits
from fastsec.aio.loop import run
from fastsec.demo import line
from fastsec.errors import FastsecError
from fastsec.eventlog.limiter import Limiter
from fastsec.events import DOMAIN_E2E
from fastsec.gateway import events as gateway_events
from gateway.gateway_pair import Pair, answer_to, confirmed, gateways

CLIENTS = 8
PAUSE = 0.05
ANSWER_TIMEOUT = 60.0


class Plain:
    """The plain clients."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.stopping = False
        self.open = self.pdus = self.lost = 0
        self.faults: list[str] = []

    async def live(self, number: int) -> None:
        """One association that asks until the end."""
        try:
            async with await self.pair.client() as stream:
                self.open += 1
                while not self.stopping:
                    request = confirmed(self.pdus, 8 + 200 * number)
                    await stream.send(request)
                    self.lost += 1
                    async with asyncio.timeout(ANSWER_TIMEOUT):
                        answer = await stream.recv()
                    if answer == answer_to(request):
                        self.lost -= 1
                        self.pdus += 1
                    await asyncio.sleep(PAUSE)
        except (FastsecError, TimeoutError) as error:
            self.faults.append(f"plain client {number}: {type(error).__name__}: {error}")

    def report(self) -> dict[str, object]:
        """What happened, and what the gateways said of it."""
        events: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        nothing: dict[str, str] = {}
        for words, fields in self.pair.records.lines:
            if "mnemonic" in fields:
                if not fields["event"].startswith(DOMAIN_E2E + ":"):  # says more about a certificate
                    continue
                events[str(fields.get("p_source", ""))][fields["mnemonic"]] += 1
            elif words.startswith("no association: "):
                nothing[str(fields["source"])] = words
        return {
            "open": self.open, "pdus": self.pdus, "lost": self.lost, "faults": self.faults,
            "events": events, "nothing": nothing,
        }  # fmt: skip


async def main(directory: Path, changed: dict[str, int]) -> None:
    for name, value in changed.items():
        setattr(limits, name, value)
    # Every event has to be in the log, to be matched with its attempt.
    gateway_events.Limiter = partial(Limiter, 1e9, 1e9, 1e9, 1e9)  # type: ignore[misc]
    pki = directory / "gateways"
    async with gateways(pki) as pair:
        plain = Plain(pair)
        tasks = [asyncio.create_task(plain.live(number)) for number in range(CLIENTS)]

        async def handle(command: line.Command) -> object:
            if command["op"] == "stop":
                plain.stopping = True
                await asyncio.gather(*tasks)
                await pair.no_bridges()
            return plain.report()

        ((_, far),) = pair.der_route._listeners[0].addresses
        line.ready(near=pair.near, far=far)
        await line.serve(handle)


if __name__ == "__main__":
    run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
