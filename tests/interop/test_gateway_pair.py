"""Unmodified clients and servers, with two gateways between them: everything works as without, and nothing is seen."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fastsec.demo.points import POINTS
from fastsec.demo.process import PeerRefused, free_port
from interop.common import CLIENTS, SERVERS, eventually_no_connection, exercise, start_client, start_server
from interop.pair import gateways

pytestmark = pytest.mark.interop


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("kind", SERVERS)
def test_each_client_with_each_server(kind: str, tls: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(90),
            await start_server(kind, tmp_path) as server,
            gateways(tmp_path, server.port, tls=tls) as pair,
            AsyncExitStack() as stack,
        ):
            clients = []
            for client_kind in CLIENTS:
                client = await stack.enter_async_context(await start_client(client_kind, tmp_path))
                for point in POINTS:  # as at the start, whatever the last client wrote
                    await server.ask("set", point=point.name, value=point.initial)
                await exercise(client, server, pair.port)
                clients.append(client)
            # All three associations are open at once; each ends by itself and leaves the others alone.
            for number, client in enumerate(clients):
                await client.ask("close", name="a")
                for other in clients[number + 1 :]:
                    assert await other.ask("read", name="a", points=["Ind1"]) == [True]
            await eventually_no_connection(server)
            assert pair.cc.process.running
            assert pair.der.process.running

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "policy",
    [
        'encryption = "required"\nae = "required"\nae_algorithms = ["aes256-gcm"]',
        'encryption = "required"\nae = "forbidden"',
        'encryption = "required"\nae = "forbidden"\nicv_algorithms = ["aes128-gmac"]',
        'encryption = "forbidden"',
        'encryption = "forbidden"\nicv_algorithms = ["aes256-gmac"]',
        "groups = [14]",
        "groups = [28]",
    ],
    ids=["ae256", "cbc-hmac", "cbc-gmac", "hmac", "gmac", "modp", "brainpool"],
)
def test_each_mode_carries_real_values(policy: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(60),
            await start_server("iec61850", tmp_path) as server,
            await start_client("hat-drivers", tmp_path) as client,
            gateways(tmp_path, server.port, tls=False, policy=policy) as pair,
        ):
            await exercise(client, server, pair.port)
            await client.ask("close", name="a")

    asyncio.run(scenario())


def test_a_server_that_is_not_there_refuses_the_client_and_harms_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        nobody = free_port()
        async with (
            asyncio.timeout(60),
            await start_client("hat-drivers", tmp_path) as client,
            gateways(tmp_path, nobody) as pair,
        ):
            with pytest.raises(PeerRefused):
                await client.ask("open", name="a", port=pair.port)
            assert pair.cc.process.running
            assert pair.der.process.running

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", CLIENTS)
def test_the_loss_of_a_client_reaches_the_server(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(60),
            await start_server("iec61850", tmp_path) as server,
            gateways(tmp_path, server.port) as pair,
            await start_client("hat-drivers", tmp_path) as witness,
        ):
            await witness.ask("open", name="w", port=pair.port)
            client = await start_client(kind, tmp_path)
            await client.ask("open", name="a", port=pair.port)
            assert await server.ask("connections") == 2
            await client.stop()
            while await server.ask("connections") != 1:  # noqa: ASYNC110 - the other process raises no event here
                await asyncio.sleep(0.05)
            assert await witness.ask("read", name="w", points=["Ind1"]) == [True]

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", SERVERS)
def test_the_loss_of_the_server_reaches_the_client(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        server = await start_server(kind, tmp_path)
        async with (
            asyncio.timeout(60),
            gateways(tmp_path, server.port) as pair,
            await start_client("hat-drivers", tmp_path) as client,
        ):
            await client.ask("open", name="a", port=pair.port)
            await server.stop()
            assert await client.ask("ended", name="a") is True

    asyncio.run(scenario())
