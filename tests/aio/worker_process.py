"""One process of an identity, for test_workers: serves and calls, is told what on stdin, says what happens on stdout.

    worker_process.py DIRECTORY NAME INDEX COUNT PORT

DIRECTORY has NAME.pem, NAME.key, root.pem, root.crl; PORT is shared with the other processes of NAME. Each line on
stdin: ``call PORT PEER HOW_MANY``, ``release`` or ``stop``. Each line on stdout is JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import sys

from fastsec.aio.client import connect
from fastsec.aio.handler import AssociationHandler
from fastsec.aio.loop import run
from fastsec.aio.server import serve
from fastsec.config import Config
from fastsec.errors import ConfigError, FastsecError
from fastsec.pki.credential import load_credential, load_trust
from fastsec.pki.identity import OsiName

INITIATE = bytes.fromhex("a803800101")
RESPONSE = bytes.fromhex("a903800102")


def say(**what: object) -> None:
    """At once: the process may be killed in the next moment."""
    os.write(1, json.dumps(what).encode() + b"\n")


class Served(AssociationHandler):
    """Says what is asked and opened."""

    def association_requested(self, assoc, appl_data):
        say(asked=assoc._engine._n)
        return RESPONSE

    def associated(self, assoc) -> None:
        say(served=assoc._engine.asso_id)


async def call(config: Config, port: int, peer: str, streams: list) -> None:
    try:
        stream = await connect(f"osi://127.0.0.1:{port}", config, peer=OsiName.parse(peer), initiate=INITIATE)
    except (FastsecError, OSError) as error:
        say(failed=str(error))
    else:
        streams.append(stream)
        say(called=stream.connection._engine.asso_id)


async def main(directory: str, name: str, index: int, count: int, port: int) -> None:
    config = Config(
        credential=load_credential(f"{directory}/{name}.pem", f"{directory}/{name}.key"),
        trust=load_trust(f"{directory}/root.pem", crls=[f"{directory}/root.crl"]),
        sink=lambda event: say(event=event.mnemonic),
        replay_file=f"{directory}/{name}.replay",
        worker=(index, count),
    )
    handler = Served()
    shared = await serve(lambda: handler, f"osi://127.0.0.1:{port}", config, reuse_port=True)
    own = await serve(lambda: handler, "osi://127.0.0.1:0", dataclasses.replace(config))
    say(ready=own.addresses[0][1])
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    streams: list = []
    while words := (await reader.readline()).decode().split():
        if words[0] == "call":
            limit = asyncio.Semaphore(8)

            async def one(words=words, limit=limit) -> None:
                async with limit:
                    await call(config, int(words[1]), words[2], streams)

            await asyncio.gather(*(one() for _ in range(int(words[3]))))
            say(done="call")
        elif words[0] == "release":
            for stream in streams:
                with contextlib.suppress(FastsecError):
                    await stream.release()
            streams.clear()
            say(done="release")
        elif words[0] == "stop":
            break
    await shared.close(2)
    await own.close(2)


if __name__ == "__main__":
    try:
        run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])))
    except ConfigError as error:
        say(unusable=str(error))
        sys.exit(2)
