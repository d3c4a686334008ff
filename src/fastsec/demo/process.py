"""Starting the demo's processes, talking to them, and ending exactly those."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

START_TIMEOUT = 30.0
ANSWER_TIMEOUT = 15.0
STOP_TIMEOUT = 5.0


class ProcessError(Exception):
    """A process did not start, ended early, or did not answer in time."""


class PeerRefused(Exception):
    """The peer answered a command with an error; the text is the peer's own."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 that is free at this moment, below those that the system gives to outgoing connections:
    one of those would take it."""
    while True:
        port = secrets.randbelow(12_000) + 20_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _environment() -> dict[str, str]:
    """The child sees the same modules as this process, installed or from a checkout."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


class Process:
    """One child process whose output lines are collected.

    Its stdin is a pipe: closing it asks a peer to end. ``lines`` holds what it printed so far on stdout and stderr,
    in order of arrival; ``on_line`` sees each line once.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, on_line: Callable[[str], None] | None) -> None:
        self.name = name
        self.lines: list[str] = []
        self._process = process
        self._on_line = on_line
        self._news = asyncio.Event()
        assert process.stdout is not None  # noqa: S101 - a pipe
        assert process.stderr is not None  # noqa: S101 - a pipe
        self._readers = [asyncio.create_task(self._read(stream)) for stream in (process.stdout, process.stderr)]

    @classmethod
    async def spawn(
        cls, name: str, argv: Sequence[str], cwd: Path, on_line: Callable[[str], None] | None = None
    ) -> Self:
        """Start ``argv`` with this interpreter (``argv`` without it) in ``cwd``."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *argv,
            cwd=cwd,
            env=_environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        return cls(name, process, on_line)

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while line := await stream.readline():
            self._take(line.decode("utf-8", "replace").rstrip("\n"))
        self._news.set()

    def _take(self, line: str) -> None:
        self.lines.append(line)
        if self._on_line is not None:
            self._on_line(line)
        self._news.set()

    async def wait_line(
        self, match: Callable[[str], bool], seconds: float = START_TIMEOUT, start: int = 0
    ) -> tuple[int, str]:
        """The first line from index ``start`` on that ``match`` accepts, with its index.

        Errors: ProcessError with the last lines if it does not come within ``seconds`` or the process ends.
        """
        index = start
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self._news.clear()
                    while index < len(self.lines):
                        if match(self.lines[index]):
                            return index, self.lines[index]
                        index += 1
                    if all(reader.done() for reader in self._readers):
                        break
                    await self._news.wait()
        except TimeoutError:
            raise ProcessError(f"{self.name}: no such line within {seconds:.0f} s; {self.tail()}") from None
        raise ProcessError(f"{self.name} ended with code {await self._process.wait()}; {self.tail()}")

    def tail(self, count: int = 8) -> str:
        """The last lines, for an error text."""
        return "last lines: " + (" | ".join(self.lines[-count:]) or "none")

    async def send_line(self, line: str) -> None:
        """Write one line to its stdin."""
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - a pipe
        try:
            stdin.write(line.encode() + b"\n")
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            raise ProcessError(f"{self.name} has ended; {self.tail()}") from None

    def signal(self, number: int) -> None:
        """Send a signal to this process."""
        if self.running:
            self._process.send_signal(number)

    async def stop(self) -> int:
        """End it: close its stdin and SIGTERM, later SIGKILL. Returns its exit code."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        try:
            code = await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            code = await self._process.wait()
        for reader in self._readers:
            # A grandchild may hold the pipe open; its output is of no interest any more.
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        return code

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()


class PeerProcess(Process):
    """A process that speaks the line protocol of ``fastsec.demo.line``."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, on_line: Callable[[str], None] | None) -> None:
        self.facts: dict[str, Any] = {}
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        super().__init__(name, process, on_line)

    @classmethod
    async def start(cls, name: str, argv: Sequence[str], cwd: Path) -> Self:
        """Start a peer and wait for its READY line; its facts are in ``facts`` afterwards."""
        peer = await cls.spawn(name, argv, cwd)
        try:
            _, line = await peer.wait_line(lambda text: text.startswith("READY "))
            peer.facts = json.loads(line.removeprefix("READY "))
        except BaseException:
            await peer.stop()
            raise
        return peer

    @property
    def port(self) -> int:
        """The TCP port a server peer listens on."""
        return int(self.facts["port"])

    def _take(self, line: str) -> None:
        super()._take(line)
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                body = json.loads(line)
                future = self._waiting.pop(body.get("id", 0), None)
                if future is not None and not future.done():
                    if "error" in body:
                        future.set_exception(PeerRefused(body["error"]))
                    else:
                        future.set_result(body.get("result"))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        await super()._read(stream)
        if stream is self._process.stdout:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ProcessError(f"{self.name} has ended; {self.tail()}"))

    async def ask(self, op: str, seconds: float = ANSWER_TIMEOUT, **arguments: Any) -> Any:
        """Send a command and return its result.

        Errors: PeerRefused if the peer answers with an error, ProcessError if it does not answer within ``seconds``
        or has ended.
        """
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await self.send_line(json.dumps({"id": number, "op": op, **arguments}))
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            raise ProcessError(f"{self.name}: no answer to {op} within {seconds:.0f} s; {self.tail()}") from None
        finally:
            self._waiting.pop(number, None)
