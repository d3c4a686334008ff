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


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_gateway_that_dials_out_can_be_the_server(tls: bool, tmp_path: Path) -> None:
    """Who dials TCP and who opens the association are different things."""

    async def scenario() -> None:
        async with (
            asyncio.timeout(60),
            await start_server("pyiec61850-ng", tmp_path) as server,
            await start_client("hat-drivers", tmp_path) as client,
            gateways(tmp_path, server.port, tls=tls, der_dials=True) as pair,
        ):
            for name in ("a", "b", "c"):
                await exercise(client, server, pair.port, name)
                for point in POINTS:
                    await server.ask("set", point=point.name, value=point.initial)
            for name in ("a", "b", "c"):
                await client.ask("close", name=name)
            await eventually_no_connection(server)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", SERVERS)
def test_pdus_of_many_segments(kind: str, tmp_path: Path) -> None:
    """Requests of about 32 KB take several TPDUs of 8192 octets on the plain sides."""
    points = [point.name for point in POINTS] * 110
    expected = [point.initial for point in POINTS] * 110

    async def scenario() -> None:
        async with (
            asyncio.timeout(60),
            await start_server(kind, tmp_path) as server,
            await start_client("hat-drivers", tmp_path) as client,
            gateways(tmp_path, server.port) as pair,
        ):
            await client.ask("open", name="a", port=pair.port)
            assert await client.ask("read", name="a", points=points) == expected
            assert await client.ask("read", name="a", points=points[:60]) == expected[:60]
            assert max(len(frame.octets) for frame in pair.middle.frames) > 30_000

    asyncio.run(scenario())


@pytest.mark.parametrize("asker", ["cc", "der"])
def test_keys_change_under_traffic_whoever_wants_it(asker: str, tmp_path: Path) -> None:
    """The server's side asks with reqRekey, the client's side begins by itself."""
    plain, often = 'encryption = "required"', 'encryption = "required"\nrekey_messages = 5'

    async def scenario() -> None:
        async with (
            asyncio.timeout(60),
            await start_server("iec61850", tmp_path) as server,
            await start_client("hat-drivers", tmp_path) as client,
            gateways(
                tmp_path,
                server.port,
                policy=often if asker == "cc" else plain,
                der_policy=often if asker == "der" else plain,
            ) as pair,
        ):
            await client.ask("open", name="a", port=pair.port)
            for _ in range(5):
                requests = [["SetI1", number] for number in range(20)] + [["AnIn1"]] * 20
                results = await client.ask("burst", name="a", requests=requests)
                assert results == [None] * 20 + [[POINTS[0].initial]] * 20
            assert [value for _, value in await server.ask("written")] == list(range(20)) * 5
            # The next one has to wait for 60 s.
            assert pair.middle.key_changes(pair.middle.links[0]) == 1
            await client.ask("close", name="a")

    asyncio.run(scenario())


def test_the_plain_side_asks_for_an_acse_password(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(60),
            await start_server("iec61850", tmp_path) as server,
            await start_client("pyiec61850-ng", tmp_path) as client,
            gateways(tmp_path, server.port, cc_extra='[route.near]\npassword = "swordfish"\n') as pair,
        ):
            for wrong in ({}, {"password": "sword"}):
                with pytest.raises(PeerRefused):
                    await client.ask("open", name="x", port=pair.port, **wrong)
            assert not pair.middle.links
            await client.ask("open", name="a", port=pair.port, password="swordfish")
            assert await client.ask("read", name="a", points=["Ind1"]) == [True]
            await client.ask("close", name="a")

    asyncio.run(scenario())


def test_many_associations_at_once(tmp_path: Path) -> None:
    names = [f"a{number}" for number in range(24)]

    async def scenario() -> None:
        async with (
            asyncio.timeout(90),
            await start_server("iec61850", tmp_path) as server,
            await start_client("hat-drivers", tmp_path) as client,
            gateways(tmp_path, server.port) as pair,
        ):
            await asyncio.gather(*(client.ask("open", name=name, port=pair.port) for name in names))
            assert await server.ask("connections") == len(names)
            for _ in range(3):
                burst = [["AnIn1"], ["Ind1"], ["IntIn1"]]
                found = await asyncio.gather(*(client.ask("burst", name=name, requests=burst) for name in names))
                assert found == [[[point.initial] for point in POINTS[:3]]] * len(names)
            await asyncio.gather(*(client.ask("close", name=name) for name in names))
            await eventually_no_connection(server)

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
