"""The real peers among themselves, without fastsec: what the other interop tests take for granted holds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from interop.common import CLIENTS, SERVERS, eventually_no_connection, exercise, start_client, start_server

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("server_kind", SERVERS)
@pytest.mark.parametrize("client_kind", CLIENTS)
def test_plain_client_and_server_understand_each_other(client_kind: str, server_kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            await start_server(server_kind, tmp_path) as server,
            await start_client(client_kind, tmp_path) as client,
        ):
            await exercise(client, server, server.port)
            await client.ask("close", name="a")
            await eventually_no_connection(server)

    asyncio.run(scenario())
