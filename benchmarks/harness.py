"""How two things are compared fairly on a noisy machine, and the one row format all benches print.

Ours and the peer run in alternating short slices within one process or one run, so drift of the machine's speed hits
both alike; each round gives one ratio, and the median of the rounds' ratios is what counts. Absolute values are
medians too, and only that: a hint.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TextIO

Loop = Callable[[int], float]

SLICE_SECONDS = 0.001
ROUNDS = 120
ROUNDS_FULL = 1000


@dataclass(slots=True)
class Row:
    """One result.

    Attributes:
        bench, case: which.
        size: octets of payload, or None.
        against: the peer.
        value, peer_value: ours and the peer's, both in ``unit``.
        ratio: > 1 means fastsec is better, whatever the unit's direction.
        rounds: number of alternating rounds.
        spread: (third quartile - first quartile) / median of the rounds' ratios.
        error: why there is no figure, or None.
    """

    bench: str
    case: str
    size: int | None
    against: str
    value: float | None = None
    unit: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    rounds: int = 0
    spread: float | None = None
    env: dict[str, str] = field(default_factory=dict)
    error: str | None = None


@cache
def environment() -> dict[str, str]:
    """What the figures depend on."""
    import ssl

    cpu = platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(("model name", "Model")):
                    cpu = line.split(":", 1)[1].strip()
                    break
    except OSError:
        pass
    return {
        "cpu": f"{cpu} x{os.cpu_count()}",
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "cipher": "AES-128-GCM",
    }


class Report:
    """Collects rows: JSON lines on stdout with ``as_json``, else a table; progress goes to stderr."""

    def __init__(self, as_json: bool, out: TextIO = sys.stdout) -> None:
        self.as_json = as_json
        self.out = out
        self.rows: list[Row] = []

    def progress(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def add(self, row: Row) -> None:
        row.env = environment()
        self.rows.append(row)
        if self.as_json:
            record = asdict(row)
            if row.error is None:
                del record["error"]
            print(json.dumps(record), file=self.out, flush=True)
        else:
            self.progress(line_of(row))

    def failed(self, bench: str, case: str, size: int | None, against: str, why: str) -> None:
        """A peer that is missing is a row with an error, and exit status 3 at the end."""
        self.add(Row(bench, case, size, against, error=why))

    def finish(self) -> int:
        if not self.as_json:
            for row in self.rows:
                print(line_of(row), file=self.out)
        return 3 if any(row.error for row in self.rows) else 0


def line_of(row: Row) -> str:
    name = f"{row.bench:10} {row.case:18} {'' if row.size is None else row.size:>6} vs {row.against:16}"
    if row.error:
        return f"{name} ERROR {row.error}"
    return (
        f"{name} {row.value:12.4g} {row.unit:8} peer {row.peer_value:12.4g}  ratio {row.ratio:7.3f}"
        f"  rounds {row.rounds} spread {row.spread or 0:.3f}"
    )


def alternate(
    ours: Callable[[int], float], peer: Callable[[int], float], rounds: int
) -> tuple[float, float, list[float]]:
    """Time two loops in alternating slices.

    Arguments:
        ours, peer: run ``n`` iterations and return the seconds they took.
        rounds: number of pairs.
    Returns:
        median seconds per iteration of ours and of the peer, and per round the ratio peer / ours.
    """
    n_ours, n_peer = calibrate(ours), calibrate(peer)
    mine: list[float] = []
    theirs: list[float] = []
    for index in range(rounds):
        if index % 2:
            a = ours(n_ours) / n_ours
            b = peer(n_peer) / n_peer
        else:
            b = peer(n_peer) / n_peer
            a = ours(n_ours) / n_ours
        mine.append(a)
        theirs.append(b)
    return statistics.median(mine), statistics.median(theirs), [b / a for a, b in zip(mine, theirs, strict=True)]


def calibrate(loop: Callable[[int], float]) -> int:
    """How many iterations fill a slice."""
    loop(1)
    n = 1
    while (taken := loop(n)) < SLICE_SECONDS / 2 and n < 1 << 20:
        n *= 2
    return max(1, int(n * SLICE_SECONDS / max(taken, 1e-9)))


def spread_of(ratios: Iterable[float]) -> float:
    quartiles = statistics.quantiles(ratios, n=4)
    return (quartiles[2] - quartiles[0]) / quartiles[1]


def looped(call: Callable[[], object]) -> Callable[[int], float]:
    """A timed loop around a call without arguments."""

    def run(n: int) -> float:
        start = time.perf_counter()
        for _ in range(n):
            call()
        return time.perf_counter() - start

    return run


def compare(
    report: Report,
    bench: str,
    case: str,
    size: int | None,
    against: str,
    ours: Callable[[int], float],
    peer: Callable[[int], float],
    rounds: int = ROUNDS,
    scale: float = 1e6,
    unit: str = "us",
) -> Row:
    """Compare two timed loops (less is better) and add the row."""
    value, peer_value, ratios = alternate(ours, peer, rounds)
    row = Row(
        bench,
        case,
        size,
        against,
        value * scale,
        unit,
        peer_value * scale,
        statistics.median(ratios),
        rounds,
        spread_of(ratios),
    )
    report.add(row)
    return row


def with_cipher_suite(argv: list[str]) -> int | None:
    """Run ``argv`` again with OpenSSL told to use TLS_AES_128_GCM_SHA256 alone for TLS 1.3; None if that is so already.

    Python's ssl cannot choose TLS 1.3 suites; OpenSSL's configuration file can, and is read once at start. Without
    this TLS would run AES-256 against our AES-128.
    """
    from pathlib import Path

    config = Path(__file__).with_name("openssl-bench.cnf")
    if os.environ.get("OPENSSL_CONF") == str(config):
        return None
    return subprocess.run(
        [sys.executable, *argv], env={**os.environ, "OPENSSL_CONF": str(config)}, check=False
    ).returncode
