"""The examples of docs/a-profile.md work as they stand."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import aprofile_files
from aprofile_world import INITIATE, INITIATE_RESPONSE, AWorld
from fastsec.aio.aprofile import forget_a_profile
from fastsec.aio.server import serve
from fastsec.aio.stream import AssociationStream, streams
from fastsec.aio.tls import TLSConfig
from fastsec.gateway import service, settings
from fastsec.instant import now

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "a-profile.md").read_text(encoding="utf-8")
WORLD = AWorld()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    forget_a_profile()
    monkeypatch.setattr("fastsec.aio.aprofile.present", lambda: now()._replace(utc_ms=now().utc_ms - 3_600_000))
    aprofile_files.write(tmp_path, WORLD, cc=WORLD.centre, der=WORLD.der)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forget_a_profile()


def block(kind: str) -> str:
    (found,) = re.findall(rf"```{kind}\n(.*?)```", TEXT, re.S)
    return str(found)


def test_python(files: Path) -> None:
    example: dict[str, Any] = {}
    exec(block("python"), example)

    async def echo(stream: AssociationStream) -> None:
        async for pdu in stream:
            await stream.send(pdu)

    async def main() -> None:
        tls = TLSConfig(files / "der.tls.pem", files / "der.tls.key", [files / "root.pem"])
        server = serve(
            streams(echo, INITIATE_RESPONSE), "osi://127.0.0.1:0", WORLD.config(WORLD.der, without_tls=False), tls=tls
        )
        async with server as listener:
            host, port = listener.addresses[0]
            assert await example["main"](f"osi://{host}:{port}", INITIATE) == b"\xa0\x03\x02\x01\x01"

    asyncio.run(asyncio.wait_for(main(), 60))


def test_gateway(files: Path) -> None:
    text = block("toml")
    _, fine = service.check(settings.parse(text, files / "cc.toml"))
    assert "A-profile of 2007" in fine[0]


def test_tables_name_what_there_is() -> None:
    from dataclasses import fields

    from fastsec import profile
    from fastsec.aprofile import AProfileConfig

    table = TEXT[TEXT.index("| `AProfileConfig`") : TEXT.index("A subject is written")]
    documented = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", table, re.M)[1:])
    known = {field.name: field.default for field in fields(AProfileConfig) if field.name not in ("_allowed", "sink")}
    assert documented.keys() == known.keys()
    assert documented["signed"] == f'`"{profile.A_PROFILE_SIGNED}"`'
    assert documented["time"] == f'`"{profile.A_PROFILE_TIME}"`'
    assert documented["carrier"] == f'`"{profile.A_PROFILE_CARRIER}"`'
