"""fastsec without security (61850-8-1) against real peers: what the gateway's near sides rest on.

Each conversation also passes a recorder, and tshark must not find fault with a frame that fastsec sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fastsec.aio.client import plain_connect
from fastsec.aio.connection import Connection
from fastsec.aio.handler import AssociationHandler
from fastsec.aio.server import plain_serve
from fastsec.demo.intermediary import Intermediary, Way
from fastsec.demo.points import POINTS
from fastsec.demo.process import PeerRefused
from fastsec.envs.osi import OsiParams
from fastsec.errors import Aborted, FastsecError
from interop import mms, pcap
from interop.common import CLIENTS, SERVERS, WRITES, eventually_no_connection, start_client, start_server

pytestmark = pytest.mark.interop
CAPTURES = Path(__file__).parents[1] / "captures" / "pdu"
PLAIN = OsiParams(security=False)
NAMES = [point.name for point in POINTS]


@asynccontextmanager
async def recording(port: int, ours: Way, path: Path) -> AsyncIterator[int]:
    """A port that forwards to ``port``; at the end tshark judges the frames of our direction."""
    recorder = Intermediary(port)
    try:
        yield await recorder.start()
    finally:
        await recorder.stop()
    frames = [(frame.way is Way.REQUEST, frame.octets) for frame in recorder.frames]
    pcap.write(path / "recorded.pcap", frames)
    packets = pcap.dissect(path / "recorded.pcap")
    assert len(packets) == len(frames)
    sent = [packet for packet, (request, _) in zip(packets, frames, strict=True) if request is (ours is Way.REQUEST)]
    assert not [packet for packet in sent if packet.malformed or packet.complaints]
    layers = {packet.protocols[-1] for packet in sent}
    assert {"cotp", "mms"} <= layers


class Served(AssociationHandler):
    """A plain MMS server of the demo's points on top of fastsec."""

    def __init__(self) -> None:
        self.device = mms.Device()
        self.ends: list[FastsecError | None] = []
        self.over = asyncio.Event()

    def pdus_received(self, assoc: Connection, pdus: Sequence[bytes]) -> None:
        assoc.write_many([self.device.answer(pdu) for pdu in pdus])

    def ended(self, assoc: Connection, error: FastsecError | None) -> None:
        self.ends.append(error)
        self.over.set()


@pytest.mark.parametrize("conclude", [True, False], ids=["conclude-then-release", "release-alone"])
@pytest.mark.parametrize("kind", SERVERS)
def test_fastsec_client_with_a_real_server(kind: str, conclude: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            await start_server(kind, tmp_path) as server,
            recording(server.port, Way.REQUEST, tmp_path) as port,
            asyncio.timeout(30),
        ):
            stream = await plain_connect(f"osi://127.0.0.1:{port}", PLAIN, initiate=mms.initiate_request())
            assert stream.initiate_response[0] == 0xA9
            await stream.send(mms.read_request(1, NAMES))
            assert mms.results(await stream.recv(), 1) == [point.initial for point in POINTS]
            for invoke, (point, value) in enumerate(WRITES, 2):
                await stream.send(mms.write_request(invoke, point, value))
                assert mms.results(await stream.recv(), invoke) == [None]
            assert ["SetI1", WRITES[-1][1]] in await server.ask("written")
            if conclude:
                await stream.send(mms.CONCLUDE_REQUEST)
                assert await stream.recv() == mms.CONCLUDE_RESPONSE
            with contextlib.suppress(Aborted):
                await stream.release()
            error = await stream.wait_ended()
            # After a conclude the server of hat-drivers aborts, in a FINISH SPDU, unless our release was faster.
            assert error is None or (conclude and kind == "hat-drivers" and isinstance(error, Aborted))
            await eventually_no_connection(server)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", CLIENTS)
def test_real_client_with_a_fastsec_server(kind: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        served = Served()
        async with (
            await start_client(kind, tmp_path) as client,
            plain_serve(lambda: served, "osi://127.0.0.1:0", PLAIN, initiate=mms.initiate_response()) as server,
            recording(server.addresses[0][1], Way.RESPONSE, tmp_path) as port,
            asyncio.timeout(30),
        ):
            await client.ask("open", name="a", port=port)
            assert await client.ask("read", name="a", points=NAMES) == [point.initial for point in POINTS]
            for point, value in WRITES:
                await client.ask("write", name="a", point=point, value=value)
                assert await client.ask("read", name="a", points=[point]) == [value]
            assert served.device.written == list(WRITES)
            with pytest.raises(PeerRefused):
                await client.ask("write", name="a", point="AnIn1", value=1.0)
            await client.ask("close", name="a")
            await served.over.wait()

    asyncio.run(scenario())


def test_tshark_is_heard(tmp_path: Path) -> None:
    """The verdict the tests above rely on does exist: a frame cut short is found."""
    names = ["cr", "cc", "aarq", "aare", "readreq", "readrsp"]
    frames = [(at % 2 == 0, (CAPTURES / f"{name}.bin").read_bytes()) for at, name in enumerate(names)]
    request = frames[4][1]
    cut = request[:2] + (len(request) - 3).to_bytes(2, "big") + request[4:-3]
    pcap.write(tmp_path / "x.pcap", [*frames, (True, cut)])
    *good, bad = pcap.dissect(tmp_path / "x.pcap")
    assert [packet.protocols[-1] for packet in good] == ["cotp", "cotp", "mms", "mms", "mms", "mms"]
    assert not [packet for packet in good if packet.malformed or packet.complaints]
    assert bad.malformed
