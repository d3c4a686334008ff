"""Child processes: started, asked, and ended, and only those."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from fastsec.demo.process import PeerProcess, PeerRefused, Process, ProcessError, free_port

ECHO = """
import asyncio
from fastsec.demo import line
gate = asyncio.Event()
async def handle(command):
    if command["op"] == "fail":
        raise ValueError("as asked")
    if command["op"] == "wait":
        await gate.wait()
    if command["op"] == "release":
        gate.set()
    if command["op"] == "exit":
        import os
        os._exit(3)
    return command.get("value")
line.ready(port=7)
asyncio.run(line.serve(handle))
"""
BLOCKING = """
from fastsec.demo import line
def handle(command):
    return 1 // command["by"]
line.ready()
line.serve_blocking(handle)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("READY {}", flush=True)
time.sleep(600)
"""


async def start(tmp_path: Path, text: str) -> PeerProcess:
    script = tmp_path / "script.py"
    script.write_text(text)
    return await PeerProcess.start("test", [str(script)], tmp_path)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_answers_come_to_the_one_who_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with await start(tmp_path, ECHO) as peer:
            assert peer.port == 7
            slow = asyncio.create_task(peer.ask("wait", value="slow"))
            assert await peer.ask("echo", value=[1.5, True, None]) == [1.5, True, None]
            assert not slow.done()
            await peer.ask("release")
            assert await slow == "slow"
            with pytest.raises(PeerRefused, match="ValueError: as asked"):
                await peer.ask("fail")
        assert gone(peer.pid)

    asyncio.run(scenario())


def test_a_blocking_peer_answers_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with await start(tmp_path, BLOCKING) as peer:
            assert await peer.ask("any", by=1) == 1
            with pytest.raises(PeerRefused, match="ZeroDivisionError"):
                await peer.ask("any", by=0)

    asyncio.run(scenario())


def test_no_answer_and_a_dead_peer_are_errors(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with await start(tmp_path, ECHO) as peer:
            with pytest.raises(ProcessError, match="no answer to wait"):
                await peer.ask("wait", 0.1)
            with pytest.raises(ProcessError, match="has ended"):
                await peer.ask("exit")
            with pytest.raises(ProcessError):
                await peer.wait_line(lambda _line: False)
            assert await peer.stop() == 3

    asyncio.run(scenario())


def test_a_peer_that_does_not_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(ProcessError, match=r"ended with code 1.*ValueError: no"):
            await start(tmp_path, "raise ValueError('no')")

    asyncio.run(scenario())


def test_waiting_for_a_line_has_an_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with await start(tmp_path, ECHO) as peer:
            with pytest.raises(ProcessError, match="no such line"):
                await peer.wait_line(lambda _line: False, 0.1)

    asyncio.run(scenario())


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsec.demo.process.STOP_TIMEOUT", 0.2)

    async def scenario() -> None:
        peer = await start(tmp_path, STUBBORN)
        assert await peer.stop() == -signal.SIGKILL
        assert gone(peer.pid)

    asyncio.run(scenario())


def test_closing_stdin_ends_a_peer(tmp_path: Path) -> None:
    async def scenario() -> None:
        peer = await start(tmp_path, ECHO)
        stdin = peer._process.stdin
        assert stdin is not None
        stdin.close()
        assert await asyncio.wait_for(peer._process.wait(), 10) == 0
        await peer.stop()

    asyncio.run(scenario())


def test_lines_are_collected_and_handed_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: list[str] = []
        code = "import sys; print('one'); sys.stdout.flush(); print('two', file=sys.stderr)"
        async with await Process.spawn("test", ["-c", code], tmp_path, seen.append) as process:
            await process.wait_line(lambda line: line == "two")
            await process.wait_line(lambda line: line == "one")
            assert sorted(seen) == ["one", "two"] == sorted(process.lines)

    asyncio.run(scenario())


def test_free_ports_are_ports() -> None:
    assert 0 < free_port() < 65536
