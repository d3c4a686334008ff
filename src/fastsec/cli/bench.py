"""``fastsec bench``: hands over to the benchmarks of a checkout; they are not part of the installed package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

USAGE = "usage: fastsec bench record|handshake|trust|echo|memory|gateway|storm [--json] [--full]"


def checkout() -> Path | None:
    """The directory of the checkout this module runs from, or None."""
    root = Path(__file__).resolve().parents[3]
    found = (root / "benchmarks" / "__init__.py").exists() or (root / "benchmarks" / "run.py").exists()
    return root if found and (root / "pyproject.toml").exists() else None


def main(arguments: Sequence[str]) -> int:
    """Run a benchmark; exit 2 if there is no checkout around this package."""
    root = checkout()
    if root is None:
        print(
            f"{USAGE}\nfastsec bench runs from a checkout of fastsec: its benchmarks and the peers they compare with "
            "are not installed.\nGet the sources and run `make bench` there, later `.venv/bin/fastsec bench CASE`.",
            file=sys.stderr,
        )
        return 2
    sys.path.insert(0, str(root))
    return int(importlib.import_module("benchmarks.run").main(list(arguments)) or 0)
