"""The server of the echo and memory benches: echoes every PDU, secured on one port, bare TPKT on another.

Prints ``READY secured-port bare-port``; a line ``cpu`` is answered with its CPU seconds, ``memory`` with its resident
octets.
Argument: the folder with the PKI made by ``identities.make``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import time
from pathlib import Path

import fastsec
import identities
from fastsec.aio.connection import Connection
from fastsec.aio.server import plain_serve


class Echo(fastsec.AssociationHandler):
    """Answers a read's list of PDUs with the same list."""

    def pdus_received(self, assoc: Connection, pdus: list[bytes]) -> None:
        assoc.write_many(pdus)

    def ended(self, assoc: Connection, error: fastsec.FastsecError | None) -> None:
        if error is not None and not isinstance(error, fastsec.Aborted):
            print(f"ended: {error}", file=sys.stderr)


def resident() -> int:
    """Octets of memory in use by this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def main(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 1 << 16)), hard))
    config = identities.config(folder, "server")
    echo = Echo()
    secured = await fastsec.serve(lambda: echo, "osi://127.0.0.1:0", config, initiate=identities.RESPONSE)
    bare = await plain_serve(lambda: echo, "osi://127.0.0.1:0", None)
    print("READY", secured.addresses[0][1], bare.addresses[0][1], flush=True)
    stopped = asyncio.Event()

    def command() -> None:
        line = sys.stdin.readline().strip()
        if line == "cpu":
            print(time.process_time(), flush=True)
        elif line == "memory":
            print(resident(), flush=True)
        else:
            stopped.set()

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), command)
    await stopped.wait()
    os._exit(0)  # thousands of open associations: the parent has what it wanted


if __name__ == "__main__":
    fastsec.run(main(Path(sys.argv[1])))
