"""What ``make fuzz`` runs: every target for its share of the time, several at once, and one account of it all.

    python -m fuzz.campaign --seconds 600 --jobs 2 [--only NAME,NAME] [--sanitized]

Each target first runs with the branches of its Python modules reported (slower, finds more), then without. Inputs that
reach something new stay in ``--corpus`` for the next time. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from fuzz.registry import CORPUS, TARGETS, TRACED

TREE: Final = Path(__file__).resolve().parents[2]
TRACING_SHARE: Final = 0.15
TRACING_MOST: Final = 60.0
MIN_SLICE: Final = 2.0
TIMEOUT: Final = 25  # seconds of wall clock for one input; what takes longer is a finding
RSS_MB: Final = 1024

_STAT: Final = re.compile(r"^stat::(\w+):\s+(\d+)", re.M)
_PROGRESS: Final = re.compile(r"^#(\d+)\t", re.M)
_EDGES: Final = re.compile(r"\bcov: (\d+)")


@dataclass
class Slice:
    """One process: a target for so many seconds."""

    target: str
    seconds: float
    traced: bool


@dataclass
class Account:
    """What has become of one target."""

    executions: int = 0
    seconds: float = 0.0
    edges: int = 0
    edges_python: int = 0
    rss_mb: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def rate(self) -> int:
        """Executions in a second."""
        return round(self.executions / self.seconds) if self.seconds else 0


def slices(seconds: float, jobs: int, names: list[str]) -> list[Slice]:
    """All that is to be run, so that ``jobs`` at once take about ``seconds``; tracing first, then the longest first."""
    total = sum(TARGETS[name][1] for name in names)
    tracing, plain = [], []
    for name in names:
        module, weight = TARGETS[name]
        share = max(seconds * jobs * weight / total, MIN_SLICE)
        traced = (
            max(min(share * TRACING_SHARE, TRACING_MOST), MIN_SLICE)
            if module in TRACED and share >= 2 * MIN_SLICE
            else 0.0
        )
        if traced:
            tracing.append(Slice(name, traced, True))
        plain.append(Slice(name, share - traced, False))
    # Long ones in parts, so that the jobs come to an end together.
    longest = max(seconds / 8, 2 * MIN_SLICE)
    parts = []
    for each in plain:
        count = max(1, round(each.seconds / longest))
        parts += [Slice(each.target, each.seconds / count, False)] * count
    return tracing + sorted(parts, key=lambda each: -each.seconds)


class Campaign:
    """Runs slices in ``jobs`` threads, each a process at a time."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.accounts = {name: Account() for name in options.names}
        self.lock = threading.Lock()
        self.waiting: queue.SimpleQueue[Slice] = queue.SimpleQueue()
        self.planned = 0.0
        self.left = 0
        self.begun = time.monotonic()
        self.overhead = 2.0  # seconds until a process runs its target, as seen last
        options.findings.mkdir(parents=True, exist_ok=True)

    def run(self) -> None:
        """All of it."""
        for each in slices(self.options.seconds, self.options.jobs, self.options.names):
            self.waiting.put(each)
            self.planned += each.seconds
            self.left += 1
        threads = [threading.Thread(target=self._work) for _ in range(self.options.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        while True:
            try:
                each = self.waiting.get_nowait()
            except queue.Empty:
                return
            with self.lock:
                account = self.accounts[each.target]
                stop = bool(account.findings)
                # What starting processes takes is taken off what they run, so that all ends in time.
                rest = self.options.seconds - (time.monotonic() - self.begun)
                useful = rest * self.options.jobs - self.overhead * self.left
                seconds = max(MIN_SLICE, each.seconds * min(1.0, useful / self.planned))
                self.planned -= each.seconds
                self.left -= 1
            if not stop:
                self._one(Slice(each.target, seconds, each.traced), account)

    def _one(self, each: Slice, account: Account) -> None:
        name, options = each.target, self.options
        grown = options.corpus / name
        grown.mkdir(parents=True, exist_ok=True)
        begun = datetime.now(UTC).strftime("%H%M%S%f")
        prefix = options.findings / f"{name}-{begun}-"
        committed = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
        command = [
            sys.executable, "-m", "fuzz.run", name, str(grown), *committed,
            f"-max_total_time={max(1, round(each.seconds))}", f"-timeout={TIMEOUT}", f"-rss_limit_mb={RSS_MB}",
            f"-artifact_prefix={prefix}", "-print_final_stats=1", "-use_value_profile=0", "-len_control=10",
            "-reload=0", "-verbosity=1",
        ]  # fmt: skip
        started = time.monotonic()
        done = subprocess.run(
            command, env=environment(options.sanitized, each.traced) | {"FASTSEC_FUZZ_SEEDS": str(grown)}, cwd=TREE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        took = time.monotonic() - started
        self.overhead = min(max(took - each.seconds, 0.5), 20.0)
        text = done.stdout.decode("utf-8", "replace")
        stats = dict(_STAT.findall(text))
        progress = _PROGRESS.findall(text)
        edges = [int(found) for found in _EDGES.findall(text)]
        with self.lock:
            account.executions += int(stats.get("number_of_executed_units", progress[-1] if progress else 0))
            account.seconds += took
            account.rss_mb = max(account.rss_mb, int(stats.get("peak_rss_mb", 0)))
            if each.traced:
                account.edges_python = max([account.edges_python, *edges])
            else:
                account.edges = max([account.edges, *edges])
            sum_so_far = sum(one.executions for one in self.accounts.values())
            how = ", with Python" if each.traced else ""
            say(f"{name}{how}: {account.executions:,} in {account.seconds:.0f} s; all: {sum_so_far:,}")
            if done.returncode:
                log = prefix.with_name(prefix.name + "log.txt")
                log.write_text(text, encoding="utf-8")
                files = sorted(map(str, options.findings.glob(f"{prefix.name}*")))
                account.findings += [path for path in files if not path.endswith("log.txt")] or [str(log)]
                say(f"FINDING in {name}: {account.findings[-1]}")
                say("    " + "\n    ".join(_essence(text)))


def _essence(text: str) -> list[str]:
    """The lines of a log that say what happened."""
    lines = text.splitlines()
    wanted = ("Uncaught Python", "ERROR:", "SUMMARY:")
    at = next((number for number, line in enumerate(lines) if any(word in line for word in wanted)), len(lines) - 20)
    return lines[max(at, 0) : at + 24]


def environment(sanitized: bool, traced: bool = False) -> dict[str, str]:
    """Of a process that runs a target: libFuzzer has to be there before the instrumented extensions."""
    spec = find_spec("atheris")
    if spec is None or spec.origin is None:
        sys.exit("atheris is not installed: pip install 'fastsec[fuzz]'")
    library = "asan_with_fuzzer.so" if sanitized else "ubsan_with_fuzzer.so"
    found = dict(os.environ)
    found["LD_PRELOAD"] = str(Path(spec.origin).resolve().parents[1] / library)
    found["PYTHONPATH"] = os.pathsep.join((str(TREE / "src"), str(TREE / "tests")))
    found["FASTSEC_FUZZ_TRACE"] = "1" if traced else "0"
    found["ASAN_OPTIONS"] = "detect_leaks=0:allocator_may_return_null=1:detect_odr_violation=0"
    found["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1"
    if sanitized:
        found["PYTHONMALLOC"] = "malloc"
    return found


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def table(accounts: dict[str, Account]) -> list[str]:
    """The account, a line per target and the sum."""
    head = f"{'target':<18} {'executions':>13} {'per second':>11} {'edges':>7} {'+Python':>8} {'MiB':>5}  findings"
    lines = [head]
    for name, each in accounts.items():
        lines.append(
            f"{name:<18} {each.executions:>13,} {each.rate:>11,} {each.edges:>7,} {each.edges_python or '':>8} "
            f"{each.rss_mb:>5}  {len(each.findings)}"
        )
    executions = sum(each.executions for each in accounts.values())
    findings = sum(len(each.findings) for each in accounts.values())
    return [*lines, f"{'sum':<18} {executions:>13,} {'':>11} {'':>7} {'':>8} {'':>5}  {findings}"]


def main() -> int:
    """Run, print the table and the JSON line; 1 if there was a finding."""
    parser = argparse.ArgumentParser(prog="fuzz.campaign")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="names of targets, separated by commas")
    parser.add_argument("--sanitized", action="store_true", help="the tree was built with AddressSanitizer and UBSan")
    parser.add_argument("--corpus", type=Path, default=TREE / "build/fuzz-corpus", help="where inputs are kept")
    parser.add_argument("--findings", type=Path, default=TREE / "build/fuzz-findings")
    parser.add_argument("--commit", default="")
    options = parser.parse_args()
    options.names = options.only.split(",") if options.only else list(TARGETS)
    if not set(options.names) <= set(TARGETS):
        parser.error(f"targets are {', '.join(TARGETS)}")
    options.corpus, options.findings = options.corpus.resolve(), options.findings.resolve()
    begun = datetime.now(UTC)
    findings = [] if options.only else _scaling(options.sanitized)
    campaign = Campaign(options)
    campaign.run()
    accounts = campaign.accounts
    for line in table(accounts):
        say(line)
    findings += [path for each in accounts.values() for path in each.findings]
    for path in findings:
        say(f"reproduce: {path}")
    say(json.dumps(_summary(options, begun, accounts, findings)))
    return 1 if findings else 0


def _scaling(sanitized: bool) -> list[str]:
    """Whether worst cases take time in proportion to their size."""
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.scaling"], env=environment(sanitized), cwd=TREE, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    say(done.stdout + done.stderr)
    return ["fuzz.scaling"] if done.returncode else []


def _summary(
    options: argparse.Namespace, begun: datetime, accounts: dict[str, Account], findings: list[str]
) -> dict[str, Any]:
    return {
        "commit": options.commit,
        "begun": begun.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - begun).total_seconds()),
        "jobs": options.jobs,
        "sanitized": options.sanitized,
        "executions": sum(each.executions for each in accounts.values()),
        "findings": findings,
        "targets": {
            name: {
                "executions": each.executions,
                "per_second": each.rate,
                "edges": each.edges,
                "edges_python": each.edges_python,
                "rss_mb": each.rss_mb,
                "findings": len(each.findings),
            }
            for name, each in accounts.items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
