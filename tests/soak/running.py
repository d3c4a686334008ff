"""The soak as a whole: start everybody, let them go at each other, watch what must not grow, judge."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fastsec import limits
from fastsec.demo.process import PeerProcess

from . import between, garbage, middle, pki, requests, rogue
from .arena import ATTACKS, Attempt, load, target
from .honest import SOURCE
from .judge import Judge

HERE = Path(__file__).parent.parent
# Attacks in which a fastsec client is the victim have a process of their own.
_VICTIMS = (middle.__name__, rogue.__name__)
# Waited out by the server, not by us; a flood makes many attempts at once and comes less often.
SLOW = {
    "half-tcp": "OUR_ACCEPT_TO_AARQ",
    "half-cr": "OUR_ACCEPT_TO_AARQ",
    **{f"{side}-half-{what}": "OUR_ACCEPT_TO_AARQ" for side in ("near", "far") for what in ("tcp", "cr")},
    "half-aarq-by-octets": "OUR_ACCEPT_TO_AARQ",
    "flood-connections": "OUR_ACCEPT_TO_AARQ",
    "half-unconfirmed": "OUR_UNCONFIRMED_TIMEOUT",
    "flood-handshakes": "OUR_UNCONFIRMED_TIMEOUT",
    "rekey-old-value": "OUR_REKEY_DISTANCE_SERVER",
}
FLOODS = ("flood-connections", "flood-handshakes", "flood-signatures", "flood-repeats")
HURRIED = {"OUR_ACCEPT_TO_AARQ": 3, "OUR_UNCONFIRMED_TIMEOUT": 10, "OUR_REKEY_DISTANCE_SERVER": 5}
START, ANSWER = 120.0, 120.0
GROWTH_MAX = 10.0  # per cent
SAMPLE = 1.0
# Octets of one handshake in the replay memory (for 10 min) and of one pair n:m that rests (for 20 min), as measured.
REPLAY_ENTRY, NUMBER_PAIR = 255, 252
WINDOW_COUNTS = 200  # seconds; a longer run sees the memory of those windows fill up, which is no leak
SETTLE = 60.0


class SoakFailed(Exception):
    """A step of the soak did not go as it has to."""

    def __init__(self, step: str, *faults: str) -> None:
        super().__init__(step)
        self.step = step
        self.faults = faults


@dataclass(frozen=True)
class Plan:
    """How long and how much.

    Attributes:
        seconds: of everybody at once.
        associations: honest ones.
        hurried: the server's waiting times are short, and nothing is measured for each attack alone.
        pace: seconds between two attempts of one kind.
    """

    seconds: float = 180
    associations: int = 200
    hurried: bool = False
    pace: float = 4.0


class Member(PeerProcess):
    """A process of the soak; what it prints as RECORDS is collected apart."""

    def __init__(self, *arguments: Any) -> None:
        self.on_records: Callable[[list[dict[str, Any]]], None] = lambda found: None
        super().__init__(*arguments)

    @classmethod
    async def start(cls, name: str, argv: Sequence[str], cwd: Path) -> Self:
        """As the base, with patience for a loaded machine."""
        member = await cls.spawn(name, argv, cwd)
        try:
            _, ready = await member.wait_line(lambda text: text.startswith("READY "), START)
            member.facts = json.loads(ready.removeprefix("READY "))
        except BaseException:
            await member.stop()
            raise
        return member

    async def ask(self, op: str, seconds: float = ANSWER, **arguments: Any) -> Any:
        """As the base, with patience."""
        return await super().ask(op, seconds, **arguments)

    def _take(self, line: str) -> None:
        if line.startswith("RECORDS "):
            self.on_records(json.loads(line.removeprefix("RECORDS ")))
        else:
            super()._take(line)


@dataclass
class Soak:
    """One run."""

    plan: Plan
    directory: Path
    say: Callable[[str], None]
    judge: Judge = field(default_factory=lambda: Judge(SOURCE))
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    cpu_ms: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        load()
        self.changed = HURRIED if self.plan.hurried else {}
        self.waits = {name: self.changed.get(name, getattr(limits, name)) for name in HURRIED}
        self.kinds = tuple(ATTACKS)

    async def _start(self, stack: Any, name: str, module: str, *arguments: object) -> Member:
        argv = ["-m", f"soak.{module}", str(self.directory), *map(str, arguments)]
        return await stack.enter_async_context(await Member.start(name, argv, HERE))

    async def run(self) -> dict[str, Any]:
        """All steps; SoakFailed names the one that failed."""
        pki.make(self.directory, time.time_ns() // 1_000_000)
        async with contextlib.AsyncExitStack() as stack:
            self.server = await self._start(stack, "server", "serving", json.dumps(self.changed))
            self.server.on_records = self.judge.records.extend
            self.gateways = await self._start(stack, "gateways", "between", json.dumps(self.changed))
            ports = json.dumps({"server": self.server.port, **self.gateways.facts})
            port, waits = self.server.port, json.dumps(self.waits)
            hurry = "hurried" if self.plan.hurried else "patient"
            self.honest = await self._start(stack, "honest", "honest", port, self.plan.associations, hurry)
            self.attackers = []
            for name in ("attackers", "middles"):
                member = await self._start(stack, name, "attacking", ports, waits)
                member.on_records = lambda found: self.judge.attempts.extend(Attempt(**one) for one in found)
                self.attackers.append(member)
            return await self._steps()

    async def _steps(self) -> dict[str, Any]:
        begun = time.monotonic()
        self.say(f"opening {self.plan.associations} honest associations")
        await self._until("opening the honest associations", self._all_open)
        await self.honest.ask("pause")
        level = await self._until("settling before the attacks", self._is_settled)
        await (self._once_each() if self.plan.hurried else self._survey())
        await self.honest.ask("resume")
        self.say(f"{len(self.kinds)} kinds of attack for {self.plan.seconds:.0f} s, honest traffic meanwhile")
        await self._everybody_at_once()
        self.say("waiting for the attacks under way")
        for member in self.attackers:
            await member.ask("stop", 600)
        await self.honest.ask("pause")
        after = await self._until("tables back at their level after the attacks", self._is_settled)
        self._compare(level["tables"], after["tables"])
        await self.honest.ask("resume")
        await asyncio.sleep(1)
        honest = await self.honest.ask("stop", 300)
        self._judge_honest(honest)
        end = await self._until("all associations given back", self._is_empty)
        gateways = await self.gateways.ask("stop", 300)
        if gateways["lost"] or gateways["faults"] or not gateways["pdus"]:
            raise SoakFailed("plain traffic through the gateways", f"{gateways['lost']} PDUs lost", *gateways["faults"])
        await asyncio.sleep(0.5)  # the last records
        self.judge.judge(end, honest)
        self.judge.judge_gateways(gateways)
        if self.judge.faults:
            raise SoakFailed("matching every attempt with its event or refusal", *self.judge.faults)
        growth = self._growth()
        explained = self._growth(1) if self.plan.seconds > WINDOW_COUNTS else 0.0
        if self.plan.seconds >= 60 and growth - explained >= GROWTH_MAX:
            faults = f"it grew by {growth} % after the warm-up; {self._growth(1)} % is what it remembers of handshakes"
            raise SoakFailed("memory of the server", faults)
        return self._result(begun, end, honest, gateways, growth)

    # --- steps ---

    async def _survey(self) -> None:
        """Each kind alone, nobody else about: what one attempt costs the server."""
        self.say("each kind of attack alone")
        for kind in self.kinds:
            member = self._member(kind)
            attempts = len(self.judge.attempts)
            before = (await self.server.ask("measure"))["cpu"]
            await member.ask("once", kind=kind, count=1 if kind in FLOODS else 5, within=1.5)
            after = (await self.server.ask("measure"))["cpu"]
            made = 5 if kind in SLOW else len(self.judge.attempts) - attempts
            if kind == "flood-connections":
                made = garbage.FLOOD
            elif kind == "flood-handshakes":
                made = requests.CROWD
            if target(kind) == "server" and self.judge._table[kind].side == "server":
                self.cpu_ms[kind] = round((after - before) * 1000 / max(made, 1), 2)

    async def _once_each(self) -> None:
        """Each kind that has an event once, while no flood is in its way."""
        self.say("each kind of attack once")
        few = asyncio.Semaphore(8)

        async def once(kind: str) -> None:
            async with few:
                await self._member(kind).ask("once", kind=kind, count=1, within=60)

        await asyncio.gather(*(once(kind) for kind in self.kinds if self.judge._table[kind].event))

    def _member(self, kind: str) -> Member:
        return self.attackers[ATTACKS[kind].__module__ in _VICTIMS]

    async def _everybody_at_once(self) -> None:
        for member in self.attackers:
            kinds = []
            for kind in self.kinds:
                if self._member(kind) is member:
                    wait = self.waits[SLOW[kind]] if kind in SLOW else 0
                    pace = self.plan.pace * (3 if kind in FLOODS else 1)
                    kinds.append(
                        (kind, min(pace, self.plan.seconds / 2), max(self.plan.seconds - wait, pace / 2), kind in SLOW)
                    )
            await member.ask("begin", kinds=kinds)
        begun = time.monotonic()
        while (elapsed := time.monotonic() - begun) < self.plan.seconds:
            found = await self.server.ask("measure")
            remembered = found["replay"] * REPLAY_ENTRY + found["admissions"]["opened"] * NUMBER_PAIR
            self.samples.append((elapsed, found["rss"], remembered))
            await asyncio.sleep(SAMPLE)

    async def _until(self, step: str, condition: Callable[[], Any]) -> dict[str, Any]:
        """Wait until ``condition`` gives something; what it gave last is the fault otherwise."""
        end = time.monotonic() + SETTLE + sum(self.waits.values())
        while True:
            good, found = await condition()
            if good:
                return found
            if time.monotonic() > end:
                raise SoakFailed(step, json.dumps(found))
            await asyncio.sleep(0.2)

    async def _all_open(self) -> tuple[bool, dict[str, Any]]:
        found, plain = await self.honest.ask("count"), await self.gateways.ask("count")
        if found["faults"]:
            raise SoakFailed("opening the honest associations", *found["faults"])
        return found["open"] == self.plan.associations and plain["open"] == between.CLIENTS, found

    async def _is_settled(self) -> tuple[bool, dict[str, Any]]:
        """Nothing half-open, and as many connections as honest associations."""
        honest, found = await self.honest.ask("count"), await self.server.ask("measure")
        tables = found["tables"]
        empty = not any(tables[name] for name in ("half_open", "handshakes", "unconfirmed", "jobs"))
        same = tables["connections"] == tables["numbers"] == honest["open"]
        return empty and same, {**found, "honest": honest["open"]}

    async def _is_empty(self) -> tuple[bool, dict[str, Any]]:
        found = await self.server.ask("measure")
        return not found["tables"]["connections"] and not found["tables"]["numbers"], found

    def _compare(self, before: dict[str, int], after: dict[str, int]) -> None:
        """Descriptors, tasks and threads, those of the honest connections apart."""
        own = [{**one, "fds": one["fds"] - one["connections"]} for one in (before, after)]
        apart = {
            name: (own[0][name], own[1][name]) for name in ("fds", "tasks", "threads") if own[0][name] != own[1][name]
        }
        if apart:
            raise SoakFailed("tables back at their level after the attacks", f"before and after: {apart}")

    def _judge_honest(self, honest: dict[str, Any]) -> None:
        if honest["lost"] or honest["faults"] or honest["events"]:
            found: Iterable[str] = (f"{honest['lost']} PDUs lost", *honest["faults"], *honest["events"])
            of_honest = [one for one in self.judge.records if one["at"].startswith(f"{SOURCE}:") and not one["opened"]]
            raise SoakFailed("honest traffic", *found, *(f"the server of it: {one}" for one in of_honest))
        if not honest["pdus"]:
            raise SoakFailed("honest traffic", "there was none")

    # --- result ---

    def _growth(self, which: int = 0) -> float:
        """Per cent by which the server's memory grew after the first third: medians of the next and the last fifth.

        Arguments:
            which: 1 for the part that the replay memory and the resting association numbers have; both have a bound.
        """
        kept = [sizes for at, *sizes in self.samples if at >= self.plan.seconds / 3]
        if len(kept) < 5:
            return 0.0
        part = max(1, len(kept) // 5)
        first, last = (statistics.median(one[which] for one in some) for some in (kept[:part], kept[-part:]))
        return round(100 * (last - first) / statistics.median(one[0] for one in kept[:part]), 2)

    def _result(
        self, begun: float, end: dict[str, Any], honest: dict[str, Any], gateways: dict[str, Any], growth: float
    ) -> dict[str, Any]:
        scores = self.judge.scores
        return {
            "soak": "ok",
            "associations": self.plan.associations,
            "seconds": round(time.monotonic() - begun, 1),
            "honest_pdus": honest["pdus"],
            "honest_lost": honest["lost"],
            "honest_connects": honest["connects"],
            "honest_turned_away": honest["turned_away"],
            "key_updates": honest["updates"],
            "latency_ms": honest["latency_ms"],
            "plain_pdus": gateways["pdus"],
            "plain_lost": gateways["lost"],
            "attempts": sum(score.attempts for score in scores.values()),
            "detected": sum(score.detected for score in scores.values()),
            "refused": sum(score.refused.total() for score in scores.values()),
            "detected_percent": self.judge.matched_percent,
            "rss_mib": round(self.samples[-1][1] / 2**20, 1) if self.samples else 0,
            "rss_growth_percent": growth,
            "rss_growth_remembered_percent": self._growth(1),
            "replay_entries": end["replay"],
            "admissions": end["admissions"],
            "refusals": end["refusals"],
            "server_cpu_s": round(end["cpu"], 1),
            "server_cpu_ms_per_attempt": self.cpu_ms,
            "attacks": {kind: score.as_json() for kind, score in scores.items()},
        }


def write_table(soak: Soak, result: dict[str, Any]) -> None:
    """One line for each kind."""
    print(f"{'attack':<44}{'attempts':>9}{'detected':>9}{'refused':>8}  {'CPU ms':>7}  expected")
    for kind, row in soak.judge._table.items():
        score = soak.judge.scores[kind]
        cost = f"{soak.cpu_ms[kind]:>7}" if kind in soak.cpu_ms else "      -"
        wanted = f"{row.side}: {row.event}" if row.event else f"{row.side} counts: {' or '.join(row.refusals)}"
        print(f"{kind:<44}{score.attempts:>9}{score.detected:>9}{score.refused.total():>8}  {cost}  {wanted}")
    latency, turned_away = result["latency_ms"], result["honest_turned_away"]
    print(f"\nhonest: {result['honest_pdus']} requests answered, {result['honest_lost']} lost")
    print(f"        p50 {latency.get('p50')} ms, p99 {latency.get('p99')} ms, {result['key_updates']} key updates")
    print(f"        {result['honest_connects']} connects, {turned_away} times turned away by a full server")
    print(f"plain:  {result['plain_pdus']} requests answered through the gateways, {result['plain_lost']} lost")
    print(
        f"server: {result['rss_mib']} MiB, grew {result['rss_growth_percent']} % after the warm-up, of which "
        f"{result['rss_growth_remembered_percent']} % is what it remembers of handshakes"
    )
    print(f"        {result['server_cpu_s']} s of CPU, {result['replay_entries']} handshakes remembered\n")


async def soak(plan: Plan, directory: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Run ``plan``; the result, or SoakFailed."""

    def say(text: str) -> None:
        if not quiet:
            print(f"soak: {text}", flush=True, file=sys.stderr)

    run = Soak(plan, directory, say)
    result = await run.run()
    if not quiet:
        write_table(run, result)
    return result
