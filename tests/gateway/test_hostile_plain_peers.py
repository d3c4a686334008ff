"""Plain peers that attack the gateway: what they send without end, or send and never read, does not pile up."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from gateway_pair import Pair, answer_to, confirmed, gateways, plain, run, until

from fastsec.aio.connection import Connection
from fastsec.errors import FastsecError
from fastsec.gateway import bridge, far
from fastsec.gateway.runner import Runner
from fastsec.mms import pdu as mms

GARBAGE = b"\x30\x03\x02\x01\x07"


def near_side(pair: Pair) -> Connection:
    """The gateway's connection of the one plain client."""
    (connection,) = pair.cc_route._listeners[0].connections
    return connection


def test_rejects_do_not_pile_up_for_a_client_that_never_reads(pki: Path) -> None:
    """Each garbage PDU gets a reject; while those do not get out, no more garbage is read."""

    async def test() -> None:
        async with gateways(pki) as pair:
            client = await pair.client()
            near = near_side(pair)
            near.pause_writing()  # as the transport does when the client does not read
            await client.send(GARBAGE)
            await until(lambda: bool(near._pause))
            await client.send(confirmed(1))
            await asyncio.sleep(0.05)
            assert near._pause
            near.resume_writing()
            assert not near._pause
            answers = [await client.recv() for _ in range(2)]
            assert answers == [mms.reject(mms.RejectReason.UNKNOWN_PDU_TYPE), answer_to(confirmed(1))]
            await client.release()

    run(test())


def test_a_client_that_never_takes_its_rejects_is_given_up(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "STALL", 0.1)

    async def test() -> None:
        async with gateways(pki) as pair:
            client = await pair.client()
            near_side(pair).pause_writing()
            await client.send(GARBAGE)
            assert await client.wait_ended() is not None
            await pair.no_bridges()
            assert pair.records.about("has taken no data")

    run(test())


def test_a_pdu_too_large_to_be_carried_is_blamed_on_who_sent_it(pki: Path) -> None:
    """The near gateway says so; nothing reaches the far one that it would have to take for an attack."""

    async def test() -> None:
        async with gateways(pki) as pair:
            client = await pair.client()
            await client.send(confirmed(1, 65_100))
            assert await client.wait_ended() is not None
            await pair.no_bridges()
            (line,) = pair.records.about("data of the plain peer could not be sent on: a PDU of 65116 octets")
            assert line["route"] == "north"
            assert pair.records.events() == []

    run(test())


def test_who_came_to_nothing_is_named_by_address(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            _, writer = await asyncio.open_connection("127.0.0.1", pair.near)
            host, port = writer.get_extra_info("sockname")
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: bool(pair.records.about("no association")))
            assert pair.records.about("no association")[0]["source"] == f"{host}:{port}"
            writer.close()

    run(test())


def test_a_fault_of_ours_while_dialling_does_not_end_the_dialling(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plant that dials out can be reached by nobody once it has stopped dialling."""
    monkeypatch.setattr(far, "backoff", lambda attempt: 0.01)
    dial, failed = Runner._dial, []

    async def failing(self: Runner, end: object) -> Connection:
        if self.route.name == "plant" and len(failed) < 4:
            failed.append(end)
            raise RuntimeError("not foreseen")
        return await dial(self, end)

    monkeypatch.setattr(Runner, "_dial", failing)

    async def test() -> None:
        async with gateways(pki, reverse=True) as pair:
            client = await pair.client()
            await client.release()
            assert len(failed) == 4
            assert len(pair.records.about("internal error")) == 4
            await until(lambda: len(pair.der_route.bridges) == pair.der_route.route.spare)

    run(test())


@pytest.mark.parametrize("which", ["allow", "far_allow"])
def test_who_is_not_allowed_is_closed_before_anything_is_read(pki: Path, which: str) -> None:
    line = f'{which} = ["192.0.2.0/24", "2001:db8::/32"]\n'
    extra = {"cc_extra": line} if which == "allow" else {"der_extra": line}

    async def test() -> None:
        async with gateways(pki, **extra) as pair:
            with pytest.raises(FastsecError):
                await pair.client()
            (refusal,) = pair.records.about("the source address is not in the allowed ranges")
            assert refusal["route"] == ("north" if which == "allow" else "plant")
            assert not pair.served
            assert not pair.records.about("association open")

    run(test())


def test_the_log_has_neither_plaintext_nor_passwords(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the most talkative level, and of associations that end in every bad way."""
    secret, password = b"PLAINTEXT-OF-MMS", "open-sesame"
    marked = b"\xa0" + bytes([len(secret)]) + secret

    async def test() -> None:
        near = f'[route.near]\npassword = "{password}"\n'
        async with gateways(pki, cc_extra=near) as pair:
            osi = plain(password=password.encode())
            frames = (b"\x03\x00\x00\x04" + secret, b"GET " + secret, b"\x03\x00\x00\x16\x11\xe0" + secret)
            for end in (b"", b"\x30" + marked[1:], *frames):
                client = await pair.client(osi=osi)
                await client.send(marked)
                assert secret in await client.recv()
                if end[:1] == b"\x30":
                    await client.send(end)
                    await client.recv()
                    client.abort(marked)
                elif end:
                    client.connection.transport.write(end)
                else:
                    await client.release()
                await client.wait_ended()
            wrong = plain(password=secret)
            with pytest.raises(FastsecError):
                await pair.client(osi=wrong)
            with pytest.raises(FastsecError):
                await pair.client(osi=osi, initiate=b"\xa8" + marked[1:] + secret)
            await pair.no_bridges()

    with caplog.at_level(logging.DEBUG):
        run(test())
    text = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "fastsec" in text
    for forbidden in (secret.decode(), secret.hex(), secret.hex(" "), password, password.encode().hex()):
        assert forbidden not in text
