"""An intermediary between two gateways: what it can read, and what happens when it tampers, in both directions."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from fastsec.demo.intermediary import Trick, Way
from fastsec.demo.points import DOMAIN, POINTS, float32, value_octets
from fastsec.demo.process import PeerProcess, PeerRefused
from interop.common import eventually_no_connection, start_client, start_server
from interop.pair import Pair, gateways

pytestmark = pytest.mark.interop
MODES = {
    "ae": ('encryption = "required"\nae = "required"', 11),
    "cbc-hmac": ('encryption = "required"\nae = "forbidden"', 11),
    "hmac": ('encryption = "forbidden"', 10),
    "gmac": ('encryption = "forbidden"\nicv_algorithms = ["aes128-gmac"]', 10),
}
# 62351-14 numbers its events of ClearTransfer (group 10) and EncrTransfer (group 11) alike here.
EVENTS = {Trick.FLIP: {5}, Trick.REPLAY: {7}, Trick.REORDER: {6, 8}}


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize(("mode", "visible"), [("ae", False), ("cbc-hmac", False), ("hmac", True)])
def test_what_it_can_read(mode: str, visible: bool, tls: bool, tmp_path: Path) -> None:
    """Encrypting modes hide names and values although TLS ends in the middle; integrity alone hides nothing."""
    secret = float32(-7.654321)

    async def scenario() -> None:
        async with (
            asyncio.timeout(60),
            await start_server("iec61850", tmp_path) as server,
            await start_client("hat-drivers", tmp_path) as client,
            gateways(tmp_path, server.port, tls=tls, policy=MODES[mode][0]) as pair,
        ):
            await client.ask("open", name="a", port=pair.port)
            await client.ask("write", name="a", point="SetA1", value=secret)
            assert await client.ask("read", name="a", points=["SetA1", "AnIn1"]) == [secret, POINTS[0].initial]
            await client.ask("close", name="a")
            needles = [DOMAIN.encode(), b"SetA1", value_octets(secret), value_octets(POINTS[0].initial)]
            assert len(pair.middle.after_handshake()) > 400
            assert pair.middle.find(*needles) == (needles if visible else [])

    asyncio.run(scenario())


async def attack(pair: Pair, client: PeerProcess, server: PeerProcess, trick: Trick, way: Way, group: int) -> None:
    """One association under attack; the gateway that receives the PDUs must say so and end it."""
    name = f"{trick.name} {way.name}"
    await client.ask("open", name=name, port=pair.port)
    link = pair.middle.links[-1]
    await client.ask("read", name=name, points=["Ind1"])
    before = len(await server.ask("written"))
    gateway = pair.der if way is Way.REQUEST else pair.cc
    mark = gateway.mark()
    pair.middle.order(link, trick, way)
    values = [1_000_001, 1_000_002]
    with contextlib.suppress(PeerRefused):
        await client.ask("burst", name=name, requests=[["SetI1", value] for value in values])
    event = await gateway.event(mark)
    assert link.done.is_set()
    domain, number = event.id.rsplit(".", 1)
    assert domain == f"IEC62351-4:{group}"
    assert int(number) in EVENTS[trick], event
    assert await client.ask("ended", name=name) is True
    written = [value for _, value in (await server.ask("written"))[before:]]
    if way is Way.REQUEST:
        # Never the altered, doubled or moved PDU; what came in order before it may have been delivered.
        assert written in {Trick.FLIP: [[]], Trick.REPLAY: [[], [values[0]]], Trick.REORDER: [[], [values[1]]]}[trick]
    else:
        assert written in ([], values[:1], values)


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("mode", MODES)
def test_what_happens_when_it_tampers(mode: str, tls: bool, tmp_path: Path) -> None:
    policy, group = MODES[mode]

    async def scenario() -> None:
        async with (
            asyncio.timeout(90),
            await start_server("iec61850", tmp_path) as server,
            await start_client("hat-drivers", tmp_path) as client,
            gateways(tmp_path, server.port, tls=tls, policy=policy) as pair,
        ):
            await client.ask("open", name="witness", port=pair.port)
            for way in Way:
                for trick in Trick:
                    await attack(pair, client, server, trick, way, group)
                    assert await client.ask("read", name="witness", points=["Ind1"]) == [True]
            await client.ask("close", name="witness")
            await eventually_no_connection(server)

    asyncio.run(scenario())
