"""``make soak``, the hostile world: ``python -m soak`` in ``tests``. SOAK_SECONDS, SOAK_ASSOCIATIONS: how much."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from .running import Plan, SoakFailed, soak

SHOWN = 20


def main() -> int:
    seconds = float(os.environ.get("SOAK_SECONDS", "180"))
    associations = int(os.environ.get("SOAK_ASSOCIATIONS", "200"))
    hurried = seconds < 90  # shorter than the server's own waiting times allow
    plan = Plan(seconds, associations, hurried, pace=2.0 if hurried else 4.0)
    with tempfile.TemporaryDirectory(prefix="fastsec-soak-") as directory:
        try:
            result = asyncio.run(soak(plan, Path(directory)))
        except SoakFailed as failure:
            for fault in failure.faults[:SHOWN]:
                print(f"  {fault}")
            if len(failure.faults) > SHOWN:
                print(f"  and {len(failure.faults) - SHOWN} more")
            print(json.dumps({"soak": "failed", "step": failure.step, "faults": len(failure.faults)}))
            return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
