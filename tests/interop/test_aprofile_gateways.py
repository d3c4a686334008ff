"""Unmodified MMS clients and servers, with two gateways between them that speak the A-profile over TLS."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import aprofile_files
from aprofile_world import AWorld
from fastsec.demo.gateways import Gateway
from fastsec.demo.points import POINTS
from fastsec.demo.process import PeerRefused, free_port
from interop.common import CLIENTS, SERVERS, eventually_no_connection, exercise, start_client, start_server

pytestmark = pytest.mark.interop
WORLD = AWorld()


@contextlib.asynccontextmanager
async def gateways(directory: Path, server: int, *, reverse: bool = False) -> AsyncIterator[tuple[int, int]]:
    """Both gateways as processes; the port for plain clients, and the one of the wire between them."""
    near, far = free_port(), free_port()
    state = directory / "state"
    state.mkdir()
    head = f'[log]\nformat = "json"\n[gateway]\nstate = "{state}"\ndrain = "5s"\n'
    for name, port in (("der", server), ("cc", near)):
        text = aprofile_files.configuration(name, port, far, reverse=reverse, head=head)
        (directory / f"{name}.toml").write_text(text)
    der = await Gateway.start("der", directory / "der.toml") if not reverse else None
    async with AsyncExitStack() as stack:
        if der is not None:
            await stack.enter_async_context(der.process)
        cc = await Gateway.start("cc", directory / "cc.toml")
        await stack.enter_async_context(cc.process)
        if reverse:
            der = await Gateway.start("der", directory / "der.toml")
            await stack.enter_async_context(der.process)
        yield near, far


@pytest.fixture
def files(tmp_path: Path) -> Path:
    aprofile_files.write(tmp_path, WORLD, cc=WORLD.authority.holder("cc", 1), der=WORLD.authority.holder("der", 2))
    return tmp_path


@pytest.mark.parametrize("reverse", [False, True], ids=["cc-dials", "der-dials"])
@pytest.mark.parametrize("kind", SERVERS)
def test_each_client_with_each_server(kind: str, reverse: bool, files: Path) -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(120),
            await start_server(kind, files) as server,
            gateways(files, server.port, reverse=reverse) as (port, _),
            AsyncExitStack() as stack,
        ):
            clients = []
            for client_kind in CLIENTS:
                client = await stack.enter_async_context(await start_client(client_kind, files))
                for point in POINTS:
                    await server.ask("set", point=point.name, value=point.initial)
                await exercise(client, server, port)
                clients.append(client)
            for client in clients:
                await client.ask("close", name="a")
            await eventually_no_connection(server)

    asyncio.run(scenario())


def test_a_plain_client_at_the_wire_gets_nothing(files: Path) -> None:
    """No TLS, no association; and nobody behind hears of it."""

    async def scenario() -> None:
        async with (
            asyncio.timeout(60),
            await start_server("iec61850", files) as server,
            gateways(files, server.port) as (_, far),
            await start_client("hat-drivers", files) as client,
        ):
            with pytest.raises(PeerRefused):
                await client.ask("open", name="a", port=far)
            assert not await server.ask("connections")

    asyncio.run(scenario())
