"""The real peers by name, and how each is started as a process of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastsec.demo.points import POINTS, Value, float32
from fastsec.demo.process import PeerProcess, PeerRefused, free_port

PEERS = Path(__file__).parent / "peers"
SERVERS: dict[str, list[str]] = {
    "iec61850": ["-m", "fastsec.demo.peer_server"],
    "hat-drivers": [str(PEERS / "hat_server.py")],
    "pyiec61850-ng": [str(PEERS / "libiec_server.py")],
}
CLIENTS: dict[str, list[str]] = {
    "iec61850": [str(PEERS / "iec61850_client.py")],
    "hat-drivers": ["-m", "fastsec.demo.peer_client"],
    "pyiec61850-ng": [str(PEERS / "libiec_client.py")],
}
WRITES: tuple[tuple[str, Value], ...] = (
    ("SetA1", float32(-273.15)),
    ("SetB1", True),
    ("SetI1", -2_147_483_648),
    ("SetI1", 2_147_483_647),
)


async def start_server(kind: str, cwd: Path) -> PeerProcess:
    """A plain MMS server of the package ``kind`` on a free loopback port."""
    return await PeerProcess.start(f"{kind} server", [*SERVERS[kind], "--port", str(free_port())], cwd)


async def start_client(kind: str, cwd: Path) -> PeerProcess:
    """A process that can be told to open plain MMS associations with the package ``kind``."""
    return await PeerProcess.start(f"{kind} client", CLIENTS[kind], cwd)


async def exercise(client: PeerProcess, server: PeerProcess, port: int, name: str = "a") -> None:
    """Open an association to ``port``, read every point, write and read back, compare with the server's own view."""
    await client.ask("open", name=name, port=port)
    values = await client.ask("read", name=name, points=[point.name for point in POINTS])
    assert values == [point.initial for point in POINTS]
    for point, value in WRITES:
        await client.ask("write", name=name, point=point, value=value)
        assert await client.ask("read", name=name, points=[point]) == [value]
    written = [tuple(pair) for pair in await server.ask("written")]
    assert set(written) >= {("SetA1", WRITES[0][1]), ("SetB1", True), WRITES[-1]}
    await server.ask("set", point="AnIn1", value=float32(1.0e-20))
    assert await client.ask("read", name=name, points=["AnIn1"]) == [float32(1.0e-20)]
    try:
        await client.ask("write", name=name, point="AnIn1", value=1.0)
    except PeerRefused:
        pass
    else:
        raise AssertionError("the server let a client write a measured value")
    assert await client.ask("state", name=name)


async def eventually_no_connection(server: PeerProcess) -> None:
    """Wait until the server counts no client any more; fails by its own timeout, not by a guess at a duration."""
    async with asyncio.timeout(20):
        while await server.ask("connections"):  # noqa: ASYNC110 - the other process raises no event here
            await asyncio.sleep(0.05)
