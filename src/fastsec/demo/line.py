"""The line protocol between the demo and its peer processes: JSON objects, one per line, on stdin and stdout.

A peer prints ``READY {…}`` once it can be used. Each command line carries ``id`` and ``op``; its answer carries the
same ``id`` and either ``result`` or ``error``. A peer ends when its stdin is closed, so that no process outlives the
one that started it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Command = dict[str, Any]


def ready(**facts: Any) -> None:
    """Print the READY line with ``facts``, e.g. ``port=10102``."""
    print("READY", json.dumps(facts), flush=True)


def answer(command: Command, result: Any = None, error: str | None = None) -> None:
    """Print the answer to ``command``; ``error`` wins over ``result``."""
    body = {"result": result} if error is None else {"error": error}
    print(json.dumps({"id": command.get("id"), **body}), flush=True)


def describe(error: BaseException) -> str:
    """One line that names an error for the other process."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


async def serve(handler: Callable[[Command], Awaitable[Any]]) -> None:
    """Answer command lines until stdin is closed; several may be under way at once."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tasks: set[asyncio.Task[None]] = set()

    async def one(command: Command) -> None:
        try:
            answer(command, await handler(command))
        except Exception as error:
            answer(command, error=describe(error))

    while line := await reader.readline():
        task = asyncio.create_task(one(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in tuple(tasks):
        task.cancel()


def serve_blocking(handler: Callable[[Command], Any]) -> None:
    """The same for peers whose library blocks: one command at a time."""
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer(command, handler(command))
        except Exception as error:
            answer(command, error=describe(error))
