"""Absolute times of the compiled core with pyperf, to compare commits on one quiet machine.

    python benchmarks/pyperf_core.py -o before.json      # and later: pyperf compare_to before.json after.json

Ratios against other systems are ``fastsec bench``'s; instruction counts are steadier still.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import pyperf

import handshake
import record
from fastsec import profile


def only_seal(mode: str, payload: bytes) -> Callable[[int], float]:
    line = record.Line(mode)
    seal, now = line.tx.seal, line.now

    def run(n: int) -> float:
        start = time.perf_counter()
        for _ in range(n):
            seal(payload, now)
        return time.perf_counter() - start

    return run


def main() -> None:
    runner = pyperf.Runner()
    for mode in ("ae", "hmac"):
        for size in record.SIZES:
            payload = record.mms_pdu(size)
            runner.bench_time_func(f"{mode}.seal {size}", only_seal(mode, payload))
            runner.bench_time_func(f"{mode}.call {size}", record.Line(mode).call(payload))
            runner.bench_time_func(f"{mode}.batch {size}", record.Line(mode).batch(payload))
    runner.bench_time_func("handshake p256", handshake.Setup("p256", profile.Group.SECP256R1).handshakes())


if __name__ == "__main__":
    main()
