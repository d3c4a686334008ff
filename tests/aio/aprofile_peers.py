"""Configurations that note their events, servers of the A-profile, and a client made by hand."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aprofile_world import (
    CONNECTION_REQUEST,
    INITIATE_RESPONSE,
    AWorld,
    Holder,
    authentication,
    connect_by_hand,
    external,
)
from fastsec.aio.aprofile import forget_a_profile
from fastsec.aio.server import serve
from fastsec.aio.stream import AssociationStream, streams
from fastsec.aprofile import AProfileConfig
from fastsec.events import SecurityEvent
from fastsec.instant import now

WORLD = AWorld()


@dataclasses.dataclass
class Side:
    """A configuration and the events its sink got."""

    config: AProfileConfig
    events: list[SecurityEvent]

    def ids(self) -> list[str]:
        return [event.id for event in self.events]

    def about(self, identifier: str) -> dict[str, str]:
        (found,) = [event for event in self.events if event.id == identifier]
        return {**dict(found.params), "peer": found.peer}


def side(holder: Holder, **more: Any) -> Side:
    events: list[SecurityEvent] = []
    return Side(WORLD.config(holder, sink=events.append, **more), events)


async def echo(stream: AssociationStream) -> None:
    async for pdu in stream:
        await stream.send(pdu)


@contextlib.asynccontextmanager
async def serving(config: Any, answer: Any = INITIATE_RESPONSE, **more: Any) -> AsyncIterator[str]:
    async with serve(streams(echo, answer), "osi://127.0.0.1:0", config, **more) as server:
        host, port = server.addresses[0]
        yield f"osi://{host}:{port}"


async def raw(address: str, *tpkts: bytes) -> bytes:
    """What a hand-made client gets in answer to ``tpkts`` after CC, up to the end of the connection."""
    host, _, port = address.removeprefix("osi://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(CONNECTION_REQUEST)
        header = await reader.readexactly(4)
        await reader.readexactly(int.from_bytes(header[2:], "big") - 4)
        for octets in tpkts:
            writer.write(octets)
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def accepted(address: str, octets: bytes) -> bytes:
    """The TPKT that a hand-made client is accepted with."""
    host, _, port = address.removeprefix("osi://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(CONNECTION_REQUEST + octets)
        found = b""
        for _ in range(2):
            header = await asyncio.wait_for(reader.readexactly(4), 30)
            found = header + await asyncio.wait_for(reader.readexactly(int.from_bytes(header[2:], "big") - 4), 30)
        assert found[7] == 0x0E, found[:16].hex()
        return found
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def request(value: bytes) -> bytes:
    return connect_by_hand(authentication(external(value)))


def proof_in(tpkt: bytes, tag: int) -> bytes:
    """The MMS-Authentication-value within an AARQ (tag AC) or AARE (tag AA), found by its certificate."""
    at = tpkt.index(bytes((0x80, 0x82)), tpkt.index(bytes((tag, 0x82))))
    start = at - 4
    assert tpkt[start] == 0xA0
    return tpkt[start : at + int.from_bytes(tpkt[start + 2 : start + 4], "big")]


@pytest.fixture(autouse=True)
def _fresh_memories(monkeypatch: pytest.MonkeyPatch) -> Any:
    """No times seen in an earlier test, and as if everybody had been here for an hour."""
    forget_a_profile()
    monkeypatch.setattr("fastsec.aio.aprofile.present", lambda: now()._replace(utc_ms=now().utc_ms - 3_600_000))
    yield
    forget_a_profile()
