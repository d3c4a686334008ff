"""Peers that break rules, on the wire: the fault ends that association, is reported, and harms nothing else."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from world import DER, INITIATE, KINDS, PDU, PLAIN, Recorder, pair

from fastsec.aio.client import connect, plain_connect, plain_connect_handler
from fastsec.aio.server import plain_serve, serve
from fastsec.errors import Aborted, FastsecError, PeerError
from fastsec.instant import now

EACH = pytest.mark.parametrize("kind", KINDS)
CR = bytes.fromhex("0300001611e00000000100c0010dc2020001c1020001")
CC = bytes.fromhex("0300001611d00001000100c0010dc2020001c1020001")
NONSENSE = {
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "tpkt version": bytes.fromhex("0200000702f080"),
    "tpkt too short": bytes.fromhex("03000004"),
    "tpkt and nothing": bytes.fromhex("0300000702"),
    "data first": bytes.fromhex("0300000702f08001"),
    "disconnect first": bytes.fromhex("0300000b06800000000100"),
    "error first": bytes.fromhex("0300000906700001000a")[:9],
    "length indicator": bytes.fromhex("03000016ffe00000000100c0010dc2020001c1020001"),
    "unknown tpdu": bytes.fromhex("0300000702330000")[:7],
    "session nonsense": CR + bytes.fromhex("0300000f02f080ffffffffffffffff"),
    "session abort": CR + bytes.fromhex("0300000a02f08019011101"),
    "empty session": CR + bytes.fromhex("0300000702f080"),
    "connect twice": CR + CR,
}


@pytest.mark.parametrize("what", sorted(NONSENSE))
@pytest.mark.parametrize("kind", ["secured", "plain"])
def test_a_client_that_talks_nonsense(run, world, authority, kind, what) -> None:
    server = Recorder()

    async def main() -> None:
        if kind == "plain":
            opening = plain_serve(lambda: server, "osi://127.0.0.1:0", PLAIN)
        else:
            opening = serve(lambda: server, "osi://127.0.0.1:0", world.der)
        async with opening as listener:
            reader, writer = await asyncio.open_connection(*listener.addresses[0])
            writer.write(NONSENSE[what])
            writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            await server.wait("ended")
            assert isinstance(server.error, FastsecError)
            assert "associated" not in server.calls
            assert "association_requested" not in server.calls
            listener.stop_listening()

    run(main())


ANSWERS = {
    "closes at once": b"",
    "disconnect": bytes.fromhex("0300000b06800000000180"),
    "error": bytes.fromhex("0300000906700001000a")[:9],
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "closes after CC": CC,
    "CC twice": CC + CC,
    "refuse": CC + bytes.fromhex("0300000c02f0800c03320102")[:12],
    "accept with nonsense": CC + bytes.fromhex("0300000b02f0800e02c100"),
    "abort": CC + bytes.fromhex("0300000a02f08019011101"),
}


@pytest.mark.parametrize("what", sorted(ANSWERS))
@pytest.mark.parametrize("kind", ["secured", "plain"])
def test_a_server_that_talks_nonsense(run, world, kind, what) -> None:
    async def main() -> None:
        async def answer(reader, writer) -> None:
            with contextlib.suppress(ConnectionError):
                await reader.read(64)
                writer.write(ANSWERS[what])
                writer.write_eof()
                await reader.read()
            writer.close()

        listener = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = "osi://{}:{}".format(*listener.sockets[0].getsockname())
        if kind == "plain":
            opening = plain_connect(address, PLAIN, initiate=INITIATE)
        else:
            opening = connect(address, world.centre, peer=DER, initiate=INITIATE)
        with pytest.raises(FastsecError) as caught:
            await opening
        assert isinstance(caught.value, Aborted | PeerError)
        listener.close()

    run(main())


def _flip(frames: bytes, position: int) -> bytes:
    octets = bytearray(frames)
    octets[position] ^= 1
    return bytes(octets)


def _tampered(kind: str, frames: list[bytes]) -> list[bytes]:
    if kind == "bit":
        return [frames[0], _flip(frames[1], -1), frames[2]]
    if kind == "replay":
        return [frames[0], frames[1], frames[1], frames[2]]
    if kind == "reorder":
        return [frames[1], frames[0], frames[2]]
    return [frames[0], frames[2]]  # deletion


@pytest.mark.parametrize(
    ("kind", "event", "code", "delivered"),
    [
        ("bit", "ENCR_BAD_ICV", None, 1),
        ("replay", "ENCR_DATA_REPLAY_DETECTED", None, 2),
        ("reorder", "ENCR_INV_SEQ_NR_TRF", 6, 0),
        ("deletion", "ENCR_INV_SEQ_NR_TRF", 6, 1),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_tampering_is_detected(run, world, authority, kind, event, code, delivered, at_once) -> None:
    """What came before the fault is delivered, nothing after it; another association is not touched."""

    async def main() -> None:
        config, events = world.events(world.der)
        server = Recorder()
        async with pair(world, authority, server=Recorder(echo=True), server_config=config) as other:
            await other.opened()
            async with pair(world, authority, server=server, server_config=config) as two:
                await two.opened()
                two.client.assoc.write(PDU)
                await server.until(lambda: server.pdus == [PDU])
                channel, transport = two.client.assoc._channel, two.client.assoc.transport
                moment = now().utc_ms  # one for all, so that the sequence numbers alone tell
                frames = _tampered(kind, [channel.seal(PDU[:-1] + bytes([n]), moment) for n in range(3)])
                if at_once:
                    transport.write(b"".join(frames))
                else:
                    for frame in frames:
                        if "ended" not in two.client.calls:
                            transport.write(frame)
                        await asyncio.sleep(0.01)
                await two.ended()
                assert len(server.pdus) == 1 + delivered
                assert events == [event]
                assert event in server.calls
                assert isinstance(two.client.error, Aborted)
                assert (two.client.error.side, two.client.error.code) == ("peer", code)
            other.client.assoc.write(PDU)
            await other.client.until(lambda: other.client.pdus == [PDU])
            async with pair(world, authority, server_config=config) as again:
                await again.opened()
            assert events == [event]

    run(main())


def test_framing_nonsense_in_the_data_phase(run, world, authority) -> None:
    async def main() -> None:
        for kind in KINDS:
            async with pair(world, authority, kind) as two:
                await two.opened()
                two.client.assoc.write(PDU)
                two.client.assoc.transport.write(b"GET / HTTP/1.1\r\n\r\n")
                await two.ended()
                assert two.server.pdus == [PDU]
                assert two.server.error is not None
                assert two.client.error is not None

    run(main())


def test_a_frame_that_is_no_data_in_a_bare_association(run) -> None:
    async def main() -> None:
        server, client = Recorder(echo=True), Recorder()
        async with plain_serve(lambda: server, "osi://127.0.0.1:0", None) as listener:
            address = "osi://{}:{}".format(*listener.addresses[0])
            await plain_connect_handler(client, address, None)
            await client.wait("associated")
            client.assoc.write(PDU)
            client.assoc.write_many([PDU, PDU])
            await client.until(lambda: client.pdus == [PDU] * 3)
            client.assoc.transport.write(CR)
            await server.wait("ended")
            assert isinstance(server.error, PeerError)
            await client.wait("ended")

    run(main())


@EACH
def test_an_endless_stream_without_a_frame_is_bounded(run, world, authority, kind) -> None:
    """Octets that never complete a frame do not pile up."""

    async def main() -> None:
        async with pair(world, authority, kind) as two:
            await two.opened()
            transport = two.client.assoc.transport
            part = bytes.fromhex("03003fff02f000") + bytes(0x3FFF - 7)  # DT without end of TSDU
            for _ in range(64):
                transport.write(part)
            await two.ended()
            assert two.server.error is not None

    run(main())


def test_what_a_repr_says(run, world, authority) -> None:
    async def main() -> None:
        async with pair(world, authority) as two:
            await two.opened()
            assert repr(two.client.assoc).startswith("<fastsec association, client, open, peer 127.0.0.1:")
            assert two.client.assoc.secured
            two.client.assoc.abort()
            await two.ended()
            assert "over" in repr(two.client.assoc) or "closed" in repr(two.client.assoc)

    run(main())
