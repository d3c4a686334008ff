"""Roles and rights as unmodified clients and servers meet them, behind gateways with role certificates."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fastsec.demo.points import POINTS
from fastsec.demo.process import PeerProcess, PeerRefused, free_port
from fastsec.pki.roles import ROLE_NAMES, UserRoleInfo
from interop.common import CLIENTS, PEERS, SERVERS, eventually_no_connection, exercise, start_client, start_server
from interop.pair import Pair, gateways

pytestmark = pytest.mark.interop

ACCESS = "access = true\n"
READS = [point.name for point in POINTS if not point.writable]
DENIED = {"iec61850": "access", "hat-drivers": "OBJECT_ACCESS_DENIED", "pyiec61850-ng": "IedClientError 21"}


def with_role(
    tmp_path: Path,
    role: str | None,
    server: list[str] | str,
    clients: list[str],
    test: Callable[[Pair, PeerProcess, list[PeerProcess]], Awaitable[None]],
    by: str = "cc_roles",
    **changes: str,
) -> None:
    """Run ``test`` with a server and clients whose gateway has a certificate that grants ``role``; or a token does."""
    granted = [UserRoleInfo((ROLE_NAMES.index(role),))] if role is not None else []

    async def scenario() -> None:
        starting = (
            start_server(server, tmp_path)
            if isinstance(server, str)
            else PeerProcess.start("server", [*server, "--port", str(free_port())], tmp_path)
        )
        values = {"der_extra": ACCESS, by: granted, **changes}
        async with (
            asyncio.timeout(90),
            await starting as device,
            gateways(tmp_path, device.port, tls=False, **values) as pair,  # type: ignore[arg-type]
        ):
            started = [await start_client(kind, tmp_path) for kind in clients]
            try:
                await test(pair, device, started)
                await eventually_no_connection(device)
            finally:
                for client in started:
                    await client.stop()
            assert pair.cc.process.running
            assert pair.der.process.running

    asyncio.run(scenario())


async def refused(asking: Awaitable[object]) -> str:
    """What a client says about a request that is refused."""
    with pytest.raises(PeerRefused) as caught:
        await asking
    return str(caught.value)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_viewer_reads_and_is_told_that_it_may_not_write(kind: str, tmp_path: Path) -> None:
    async def test(pair: Pair, server: PeerProcess, clients: list[PeerProcess]) -> None:
        for client_kind, client in zip(CLIENTS, clients, strict=True):
            await client.ask("open", name="a", port=pair.port)
            for _ in range(3):
                assert await client.ask("read", name="a", points=READS) == [
                    point.initial for point in POINTS if not point.writable
                ]
                words = await refused(client.ask("write", name="a", point="SetI1", value=7))
                assert DENIED[client_kind].lower() in words.lower(), words
            assert await client.ask("state", name="a")
            await client.ask("close", name="a")
        assert not await server.ask("written")

    with_role(tmp_path, "VIEWER", kind, list(CLIENTS), test)


@pytest.mark.parametrize("kind", SERVERS)
def test_an_engineer_does_everything_but_operate(kind: str, tmp_path: Path) -> None:
    async def test(pair: Pair, server: PeerProcess, clients: list[PeerProcess]) -> None:
        for client in clients:
            for point in POINTS:  # as at the start, whatever the last client wrote
                await server.ask("set", point=point.name, value=point.initial)
            await exercise(client, server, pair.port)
            await client.ask("close", name="a")

    with_role(tmp_path, "ENGINEER", kind, list(CLIENTS), test)


CONTROLLED = [str(PEERS / "controlled_server.py")]


@pytest.mark.parametrize("by", ["cc_roles", "cc_token"])
@pytest.mark.parametrize(("role", "operates"), [("VIEWER", False), ("OPERATOR", True), ("ENGINEER", False)])
def test_operating_a_switch(role: str, operates: bool, by: str, tmp_path: Path) -> None:
    """Directly, and selected before: with two foreign clients at a foreign server."""

    async def test(pair: Pair, server: PeerProcess, clients: list[PeerProcess]) -> None:
        for client in clients:
            await client.ask("open", name="a", port=pair.port)
            for switch, select in (("SPCSO1", False), ("SPCSO2", True)):
                asked = client.ask("operate", name="a", path=f"GGIO1.{switch}", select=select, value=True)
                if operates:
                    assert await asked is True
                else:
                    await refused(asked)
            assert await client.ask("read", name="a", points=["Ind1"]) == [True]
            assert await client.ask("state", name="a")
            await client.ask("close", name="a")

    with_role(tmp_path, role, CONTROLLED, ["iec61850", "pyiec61850-ng"], test, by)


def test_an_operator_of_some_switches(tmp_path: Path) -> None:
    head = '[access.a.roles]\nOPERATOR = ["LISTOBJECTS", "READVALUES", "CONTROL:simpleIO*/GGIO1$CO$SPCSO1"]\n'

    async def test(pair: Pair, server: PeerProcess, clients: list[PeerProcess]) -> None:
        (client,) = clients
        await client.ask("open", name="a", port=pair.port)
        assert await client.ask("operate", name="a", path="GGIO1.SPCSO1", select=False, value=True) is True
        await refused(client.ask("operate", name="a", path="GGIO1.SPCSO2", select=True, value=True))
        assert await client.ask("operate", name="a", path="GGIO1.SPCSO1", select=False, value=False) is True
        await client.ask("close", name="a")

    with_role(tmp_path, "OPERATOR", CONTROLLED, ["iec61850"], test, der_extra='access = "a"\n' + head)


def test_without_a_role_names_are_not_shown_either(tmp_path: Path) -> None:
    async def test(pair: Pair, server: PeerProcess, clients: list[PeerProcess]) -> None:
        (client,) = clients
        await client.ask("open", name="a", port=pair.port)
        for _ in range(2):
            await refused(client.ask("names", name="a"))
            await refused(client.ask("identify", name="a"))
            assert "OBJECT_NON_EXISTENT" in await refused(client.ask("read", name="a", points=["Ind1"]))
        assert await client.ask("state", name="a")
        await client.ask("close", name="a")

    with_role(tmp_path, None, "hat-drivers", ["hat-drivers"], test)


@pytest.mark.parametrize("role", ["VIEWER", "SECADM"])
def test_names_are_for_who_may_list_objects(role: str, tmp_path: Path) -> None:
    async def test(pair: Pair, server: PeerProcess, clients: list[PeerProcess]) -> None:
        (client,) = clients
        await client.ask("open", name="a", port=pair.port)
        assert set(await client.ask("names", name="a")) >= {point.item for point in POINTS}
        assert (await client.ask("identify", name="a"))[0] == "hat"
        await client.ask("close", name="a")

    with_role(tmp_path, role, "hat-drivers", ["hat-drivers"], test)


def test_many_at_once_allowed_and_denied(tmp_path: Path) -> None:
    """Answers of the gateway come between those of the server; each reaches who asked."""
    burst = [["AnIn1"] if number % 2 else ["SetI1", number] for number in range(60)]

    async def test(pair: Pair, server: PeerProcess, clients: list[PeerProcess]) -> None:
        (client,) = clients
        names = [f"a{number}" for number in range(8)]
        await asyncio.gather(*(client.ask("open", name=name, port=pair.port) for name in names))
        for name in names:
            assert "OBJECT_ACCESS_DENIED" in await refused(client.ask("burst", name=name, requests=burst))
            assert await client.ask("burst", name=name, requests=burst[1::2]) == [[POINTS[0].initial]] * 30
        await asyncio.gather(*(client.ask("close", name=name) for name in names))
        assert not await server.ask("written")

    with_role(tmp_path, "VIEWER", "iec61850", ["hat-drivers"], test)
