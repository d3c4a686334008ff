"""The pair of configurations in docs/gateway.md: checked as it stands there, and run between real MMS peers."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fastsec.demo.process import Process, free_port

from .common import eventually_no_connection, exercise, start_client, start_server

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8").partition("## A pair")[2].partition("\n## ")[0]


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTION, re.S)
    return str(found)


def files() -> dict[str, str]:
    """cc.toml as the left column and comments have it; der.toml with the same keys and the routes on the right."""
    left = block("toml")
    head, _, route = left.partition("[[route]]")
    right = "[[route]]\n" + "\n".join(line.split("#")[1].strip() for line in route.splitlines()[1:] if "#" in line)
    return {"cc.toml": left, "der.toml": head.replace('"cc.', '"der.') + right + "\n"}


def fastsec(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    environ.pop("STATE_DIRECTORY", None)
    return subprocess.run(
        [sys.executable, "-m", "fastsec", *arguments],
        cwd=directory, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The trial authority as documented, and both files."""
    for line in block("sh").splitlines():
        done = fastsec(tmp_path, *line.split()[1:])
        assert done.returncode == 0, done.stderr
    for name, text in files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_check_accepts_the_pair_as_written(directory: Path) -> None:
    cc, der = (fastsec(directory, "gateway", "--check", name) for name in ("cc.toml", "der.toml"))
    assert (cc.returncode, cc.stderr) == (0, "")
    assert cc.stdout.splitlines() == [
        "identity 1.1.1.999.1:12",
        'route "route1": client; plain MMS at 127.0.0.1:10102; dials 127.0.0.1:3782 with TLS; encryption required',
        "cc.toml: fine",
    ]
    assert (der.returncode, der.stderr) == (0, "")
    assert der.stdout.splitlines() == [
        "identity 1.1.1.999.2:12",
        'route "route1": server; plain MMS at 127.0.0.1:102; is dialled at 0.0.0.0:3782 with TLS; encryption required',
        "der.toml: fine",
    ]


@pytest.mark.interop
def test_the_pair_secures_real_peers(directory: Path) -> None:
    near, far = free_port(), free_port()

    async def scene() -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(await start_server("iec61850", directory))
            for name, text in files().items():
                for port, free in (("10102", near), ("3782", far), ("102", server.port)):
                    text = re.sub(rf":{port}\b", f":{free}", text)
                (directory / name).write_text(text, encoding="utf-8")
                gateway = await Process.spawn(name, ["-m", "fastsec", "gateway", name], directory)
                stack.push_async_callback(gateway.stop)
                await gateway.wait_line(lambda line: "listens=" in line)
            client = await stack.enter_async_context(await start_client("hat-drivers", directory))
            await exercise(client, server, near)
            await client.ask("close", name="a")
            await eventually_no_connection(server)

    asyncio.run(scene())
