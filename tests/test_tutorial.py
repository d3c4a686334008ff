"""docs/tutorial.md is run, not only read: every block of it, in one shell, with free ports in place of those written.

Blocks are marked by their first line: ``sh`` is run; ``sh shown`` only its syntax is checked; ``python FILE`` and
``toml FILE`` are written to that file; ``text`` is what the shell block before it prints, ``text FILE`` what that file
holds or soon will. In texts ``…`` stands for anything; lines that are not shown may stand between those that are.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastsec.demo.process import free_port

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
PORTS = ("10002", "10102", "3782")
WITHIN = 30.0


def blocks(text: str) -> list[tuple[str, str, str]]:
    """Language, argument and content of each marked block, in order."""
    found = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", text, re.S | re.M)
    return [(language, argument, body) for language, argument, body in found]


def lines_appear(shown: str, real: str) -> bool:
    """Whether the shown lines stand in ``real`` in this order."""
    found = real.splitlines()
    at = 0
    for line in shown.splitlines():
        pattern = re.compile(".*".join(map(re.escape, line.split("…"))))
        while at < len(found) and not pattern.fullmatch(found[at]):
            at += 1
        if at == len(found):
            return False
        at += 1
    return True


class Shell:
    """One bash that is told one block after another."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        commands = directory / ".bin"
        commands.mkdir()
        for name, arguments in (("python", ""), ("fastsec", "-m fastsec")):
            (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            (commands / name).chmod(0o755)
        environ = {
            **os.environ,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        }
        for name in ("NOTIFY_SOCKET", "STATE_DIRECTORY", "JOURNAL_STREAM", "WATCHDOG_USEC"):
            environ.pop(name, None)
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    def run(self, script: str) -> tuple[int, str]:
        """Exit status of the last command, and what was printed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{script}printf '\\n%s\\n' \"=====$?\"\n")
        self.process.stdin.flush()
        printed: list[str] = []
        for line in self.process.stdout:
            if line.startswith("====="):
                return int(line[5:]), "".join(printed)
            printed.append(line)
        raise AssertionError(f"the shell has ended; it printed {''.join(printed)}")

    def end(self) -> None:
        """End the shell and all it has started, and nothing else: they are a session of their own."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.end()


def with_free_ports(text: str) -> str:
    for port in PORTS:
        text = re.sub(rf"\b{port}\b", str(free_port()), text)
    return text


def check_file(directory: Path, argument: str, shown: str) -> None:
    """Wait until the file ``argument`` holds the shown lines."""
    file, end, held = directory / argument, time.monotonic() + WITHIN, ""
    while not lines_appear(shown, held):
        assert time.monotonic() < end, f"{argument} lacks\n{shown}\nit holds\n{held}"
        time.sleep(0.05)
        held = file.read_text(encoding="utf-8") if file.exists() else ""


@pytest.mark.interop
def test_every_step_works(shell: Shell) -> None:
    printed, checked = "", 0
    for language, argument, body in blocks(with_free_ports(TEXT)):
        if language in ("python", "toml"):
            (shell.directory / argument).write_text(body, encoding="utf-8")
        elif language == "text" and argument:
            check_file(shell.directory, argument, body)
            checked += 1
        elif language == "text":
            assert lines_appear(body, printed), f"expected\n{body}\nprinted\n{printed}"
            checked += 1
        elif argument != "shown":
            status, printed = shell.run(body)
            assert status == 0, f"{body}\nprinted\n{printed}"
    assert checked >= 12
    for side, title in (("centre", "1.1.1.999.1.12"), ("plant", "1.1.1.999.2.12")):
        assert list((shell.directory / side / "state").glob(f"replay-{title}.[01]"))


def test_what_is_only_shown_is_a_script_with_files_that_exist() -> None:
    (script,) = [body for _, argument, body in blocks(TEXT) if argument == "shown"]
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    unit = (ROOT / "src/fastsec/gateway/fastsec-gateway.service").read_text(encoding="utf-8")
    for needed in ("/usr/local/bin/fastsec", "/etc/fastsec", "fastsec-gateway.service", "useradd --system"):
        assert needed in script
        assert needed in unit


def test_ten_steps_and_every_block_is_marked() -> None:
    steps = [int(number) for number in re.findall(r"^## (\d+)\. ", TEXT, re.M)]
    assert steps == list(range(1, 11))
    fences = re.findall(r"^```.*$", TEXT, re.M)
    assert len(fences) == 2 * len(blocks(TEXT)) + 2  # the picture has no mark
    assert {language for language, _, _ in blocks(TEXT)} == {"sh", "python", "toml", "text"}


def test_a_wrong_statement_is_found() -> None:
    assert lines_appear("a … c\nd\n", "x\na b c\ny\nd\n")
    assert not lines_appear("d\na … c\n", "a b c\nd\n")
    assert not lines_appear("a … d\n", "a b c\n")
