"""``fastsec demo``: the whole thing between real MMS peers."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_PEERS = ("rich", "iec61850", "hat")


def main(arguments: Sequence[str]) -> int:
    """Run the demo; exit 2 and say how to install them if the demo's MMS peers are missing."""
    try:
        from fastsec.demo import main as run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _PEERS:
            raise
        print(f"fastsec demo: {error.name} is missing; install it with: pip install 'fastsec[demo]'", file=sys.stderr)
        return 2
    return int(run(list(arguments)) or 0)
