"""Open associations while 200 new ones per second are made by a server whose signer takes 100 ms.

Three processes: the server, a client with open associations that measures, and clients that storm. What is measured is
the time from a request's ``write`` to its answer, at a fixed pace whether or not earlier answers have come. Idle and
storm alternate; all samples of a kind count together.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import harness
import identities
import processes

CLIENTS = 8
RATE = 200
SIGN = 0.1
SECONDS = 5.0
ROUNDS = 4
ROUNDS_FULL = 24
POINTS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}


class Child:
    """A child that answers a line with a line."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process, self.log = process, log

    def ask(self, *words: object) -> list[str]:
        """Say something, and wait for the answer."""
        assert self.process.stdin
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> list[str]:
        assert self.process.stdout
        words = self.process.stdout.readline().split()
        if not words:
            raise RuntimeError(f"a process of the bench ended: {self.log.read_text()[-800:]}")
        return words


@contextlib.contextmanager
def child(folder: Path, name: str, *arguments: object) -> Iterator[Child]:
    log = folder / f"{name}.log"
    argv = [sys.executable, str(processes.HERE / "storm_process.py"), name, str(folder / "pki"), *map(str, arguments)]
    with processes.child(argv, log=log) as process:
        yield Child(process, log)


def at(samples: list[float], share: float) -> float:
    """The value that this share of the sorted samples does not exceed."""
    return samples[min(len(samples) - 1, int(share * len(samples)))]


def run(report: harness.Report, full: bool, seconds: float = SECONDS, rounds: int | None = None) -> None:
    """Measure and add the rows: a point of the distribution against idle, and against what is wanted."""
    rounds = rounds or (ROUNDS_FULL if full else ROUNDS)
    kinds: dict[str, list[float]] = {"idle": [], "storm": []}
    p99s: dict[str, list[float]] = {"idle": [], "storm": []}
    cpu: dict[str, float] = {"idle": 0.0, "storm": 0.0}
    made, failed, stormed = 0, 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        identities.make(folder / "pki", CLIENTS)
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(child(folder, "server", SIGN))
            port = server.answer()[1]
            steady = stack.enter_context(child(folder, "steady", port))
            storm = stack.enter_context(child(folder, "storm", port, RATE, CLIENTS))
            steady.answer(), storm.answer()
            steady.ask("measure", 2)  # warm
            for number in range(rounds):
                for kind in ("idle", "storm"):
                    report.progress(f"storm {kind} round {number + 1} of {rounds}")
                    if kind == "storm":
                        storm.ask("start")
                        steady.ask("measure", 1)  # until as many begin as end
                    before = float(server.ask("cpu")[0])
                    samples = [float(word) for word in steady.ask("measure", seconds)]
                    cpu[kind] += float(server.ask("cpu")[0]) - before
                    if kind == "storm":
                        opened, blown, lost, *why = storm.ask("stop")
                        made, failed = made + int(opened), failed + int(lost)
                        stormed += float(blown) - 2 * SIGN  # the last ones are still being made
                        if int(lost):
                            report.progress(f"storm: {lost} associations of the storm failed: {' '.join(why)}")
                    kinds[kind] += samples
                    p99s[kind].append(at(sorted(samples), 0.99))
            worst = server.ask("worst")
    idle, stormy = sorted(kinds["idle"]), sorted(kinds["storm"])
    each, rate = rounds * seconds, made / stormed
    report.progress(
        f"storm: {len(idle)} and {len(stormy)} requests; {rate:.0f} new associations/s; "
        f"server busy {cpu['idle'] / each:.0%} idle, {cpu['storm'] / each:.0%} in the storm; {' '.join(worst)}"
    )
    spread = harness.spread_of(p99s["storm"]) if rounds > 1 else 0.0
    for point, share in POINTS.items():
        calm, busy = at(idle, share), at(stormy, share)
        report.add(harness.Row("storm", point, None, "idle", busy, "us", calm, calm / busy, rounds, spread))
    wanted = {"p99": 5 * at(idle, 0.99), "p99.9": at(idle, 0.999) + 3000, "max": 20_000.0}
    for point, limit in wanted.items():
        busy = at(stormy, POINTS[point])
        report.add(harness.Row("storm", point, None, "wanted", busy, "us", limit, limit / busy, rounds, spread))
    if rate < 0.9 * RATE or failed > 0.01 * made:
        why = f"{rate:.0f} new associations/s, {failed} failed: the machine is too busy for the storm to be one"
        report.failed("storm", "rate", None, "wanted", why)
    late = sum(sample > 20_000 for sample in stormy)
    per = statistics.fmean(sample > 5 * at(idle, 0.99) for sample in stormy)
    report.progress(f"storm: {late} requests above 20 ms, {per:.2%} above 5 times the p99 of idle")
