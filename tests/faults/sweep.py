"""Which faults there are, and running all of them on as many processes as there are processors."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from faults.dissect import dissect
from faults.judge import broken_rules, word
from faults.memory import memory_world
from faults.script import ENDS, MODE_POLICY, Result, frames_of
from faults.sockets import GROUP, SocketWorld
from faults.table import TLS_TABLE, allowed, fits
from faults.tap import PER_FRAME, Fault, Kind

FULL = os.environ.get("FASTSEC_FAULTS") == "all"
TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Plan:
    """A set of faults.

    Attributes:
        place: "memory", "sockets" or "tls".
        mode: of protection; ``end``: how the life ends; ``dials``: who dials, over sockets.
        kinds: of fault; ``every``: those tried at every octet, the others at the ends of every field and inside long
            ones now and then.
        frames: only these kinds of frame; empty for all.
        thin: only every so many-th of the faults that would be.
    """

    place: str
    mode: str = "ae"
    end: str = ENDS[0]
    dials: str = "client"
    kinds: tuple[Kind, ...] = tuple(Kind)
    every: tuple[Kind, ...] = ()
    frames: tuple[str, ...] = ()
    thin: int = 1


@dataclass
class Tally:
    """What came of a plan."""

    cases: int = 0
    words: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # kind, frame, octet, word
    wrong: list[str] = field(default_factory=list)
    missed: int = 0

    def add(self, other: Tally) -> None:
        self.cases += other.cases
        self.words.update(other.words)
        self.wrong += other.wrong
        self.missed += other.missed


def faults_of(plan: Plan, frames: dict[bool, list[bytes]], part: int = 0, parts: int = 1) -> Iterator[Fault]:
    """One share of the faults of a plan, given the frames of an undisturbed life.

    Which share a fault belongs to follows from the fault alone: the frames of two lives differ by an octet or two.
    """
    thin = 1 if FULL else plan.thin
    for fault in _all_of(plan, frames):
        number = crc32(f"{fault.kind.name} {fault.to_server} {fault.frame} {fault.offset}".encode())
        if (fault.kind in PER_FRAME or number % thin == 0) and number // thin % parts == part:
            yield fault


def _all_of(plan: Plan, frames: dict[bool, list[bytes]]) -> Iterator[Fault]:
    for to_server in (True, False):
        for number, frame in enumerate(frames[to_server]):
            names = _names(plan, frame)
            if plan.frames and frames_of(plan.end, to_server)[number][0].partition("-")[0] not in plan.frames:
                continue
            for kind in plan.kinds:
                for offset in _offsets(kind, names, FULL or kind in plan.every):
                    yield Fault(kind, to_server, number, offset, offset % 8)


def _names(plan: Plan, frame: bytes) -> list[str]:
    if plan.place == "tls":
        return [*("type", "version", "version", "length", "length"), *["fragment"] * (len(frame) - 5)]
    return dissect(frame)[1]


def _offsets(kind: Kind, names: list[str], every: bool) -> Iterator[int]:
    if kind in PER_FRAME:
        yield 0
        return
    for offset, name in enumerate(names):
        first = not offset or names[offset - 1] != name
        last = offset + 1 == len(names) or names[offset + 1] != name
        if every or first or last or offset % 16 == 0:
            yield offset


def _judge(plan: Plan, fault: Fault, result: Result, tally: Tally) -> None:
    tally.cases += 1
    if not result.hit:
        tally.missed += 1  # signatures and numbers differ in length by an octet or two
        if not (result.finished and not result.complaints):
            tally.wrong.append(f"{plan.place} {plan.mode} {fault}: not played, and yet {word(result, fault)}")
        return
    found = word(result, fault)
    if plan.place == "tls":
        frame, octet, before = "record", _names(plan, result.frame)[fault.offset], (0, 0)
        words = set(TLS_TABLE[fault.kind].split())
    else:
        spec = frames_of(plan.end, fault.to_server)[fault.frame]
        frame, before = spec[0], spec[1:]
        if frame == "CR" and plan.dials == "server":
            frame = "CR-reverse"
        octet = dissect(result.frame)[1][fault.offset]
        words = allowed(fault.kind, frame, octet)
    if result.unchanged:
        words = {"on"}
    tally.words[fault.kind.name, frame, octet, found] += 1
    where = f"{plan.place} {plan.mode} {fault} [{frame} {octet}]"
    if not fits(found, words) and not _at_the_very_end(plan, fault, result, found):
        errors = f"{result.client.error} / {result.server.error}"
        tally.wrong.append(f"{where}: {found}, allowed {sorted(words)}; {errors}; {result.server.reasons}")
    # A reject that names the damaged number is refused by the client, and so many at a time become plain ABRTs.
    limited = plan.place != "memory" or octet.endswith("assoID:V")
    broken = broken_rules(result, fault, before, tls=plan.place == "tls", limited=limited)
    tally.wrong += [f"{where}: {text}" for text in broken]


def _at_the_very_end(plan: Plan, fault: Fault, result: Result, found: str) -> bool:
    """An octet too many behind the last PDU is not waited for."""
    last = fault.frame == len(frames_of(plan.end, fault.to_server)) - 1
    return fault.kind is Kind.DUPLICATE and last and found == "on" and fault.offset >= len(result.frame) - 80


def run_part(plan: Plan, part: int, parts: int) -> Tally:
    """One share of a plan, in this process."""
    return _in_memory(plan, part, parts) if plan.place == "memory" else _over_sockets(plan, part, parts)


def _in_memory(plan: Plan, part: int, parts: int) -> Tally:
    tally = Tally()
    with memory_world(MODE_POLICY[plan.mode]) as world:
        frames = world.frames(plan.end)
        for fault in faults_of(plan, frames, part, parts):
            _judge(plan, fault, world.live(fault, plan.end), tally)
    return tally


def _over_sockets(plan: Plan, part: int, parts: int) -> Tally:
    from fastsec.aio.loop import run

    tally = Tally()

    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            world = SocketWorld(
                MODE_POLICY[plan.mode], _tls(Path(folder)) if plan.place == "tls" else None, dials=plan.dials
            )
            async with world.running():
                world.patience = 50
                (plain,) = await world.live([(None, plan.end)])
                assert plain.result.finished
                world.patience = 3
                frames = {True: plain.taps[0].frames, False: plain.taps[1].frames}
                mine = list(faults_of(plan, frames, part, parts))
                again: list[Fault] = []
                for at in range(0, len(mine), GROUP):
                    for life in await world.live([(fault, plan.end) for fault in mine[at : at + GROUP]]):
                        assert life.fault is not None
                        once = Tally()
                        _judge(plan, life.fault, life.result, once)
                        if once.wrong:
                            again.append(life.fault)
                        else:
                            tally.add(once)
                # On a machine under load the clock may have been turned while octets were still on their way. What is
                # really wrong is so again when more time is given.
                world.patience = 200
                for at in range(0, len(again), 4):
                    for life in await world.live([(fault, plan.end) for fault in again[at : at + 4]]):
                        assert life.fault is not None
                        _judge(plan, life.fault, life.result, tally)

    async def bounded() -> None:
        await asyncio.wait_for(main(), 3600)

    run(bounded())
    return tally


def _tls(folder: Path) -> tuple[Any, Any]:
    sys.path.insert(0, str(TESTS / "aio"))
    from tlsfiles import Authority

    authority = Authority(folder, "root")
    for name in ("server", "client"):
        authority.issue(name)
    return authority.config("server"), authority.config("client")


def sweep(plans: list[Plan]) -> Tally:
    """All plans, shared out among fresh processes: no lives of one disturb those of another."""
    parts = max(1, min(4, os.cpu_count() or 1))
    with tempfile.TemporaryDirectory() as folder:
        running = []
        for part in range(parts):
            out = Path(folder) / f"{part}"
            order = pickle.dumps((plans, part, parts, str(out)))
            process = subprocess.Popen([sys.executable, "-c", _WORKER, str(TESTS)], stdin=subprocess.PIPE)
            assert process.stdin is not None
            process.stdin.write(order)
            process.stdin.close()
            running.append((process, out))
        whole = Tally()
        try:
            for process, out in running:
                assert process.wait() == 0, "a worker failed; its error is above"
                whole.add(pickle.loads(out.read_bytes()))
        finally:
            for process, _ in running:
                process.kill()
                process.wait()
        return whole


_WORKER = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
from faults.sweep import Tally, run_part
plans, part, parts, out = pickle.load(sys.stdin.buffer)
whole = Tally()
for plan in plans:
    whole.add(run_part(plan, part, parts))
open(out, "wb").write(pickle.dumps(whole))
"""
