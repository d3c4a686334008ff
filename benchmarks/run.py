"""`fastsec bench CASE [--json] [--full]`: from a checkout; prints one row per (case, size, against)."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import harness

BENCHES = ("record", "handshake", "trust", "echo", "memory", "gateway", "storm")


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="fastsec bench", description="Ratios measured in one run; > 1 = fastsec better."
    )
    parser.add_argument("bench", choices=BENCHES)
    parser.add_argument("--json", action="store_true", help="JSON lines on stdout, progress on stderr")
    parser.add_argument("--full", action="store_true", help="more rounds")
    arguments = parser.parse_args(argv)
    status = harness.with_cipher_suite([str(Path(__file__).resolve()), *argv])
    if status is not None:
        return status
    report = harness.Report(arguments.json)
    importlib.import_module(arguments.bench).run(report, arguments.full)
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
