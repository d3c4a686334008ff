"""Associations of the A-profile from signing to their end: slow signers, the application, revocation while open."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aprofile_peers import WORLD, Side, _fresh_memories, accepted, echo, proof_in, raw, request, serving, side  # noqa: F401
from world import Recorder, until

from aprofile_world import (
    CONNECTION_REQUEST,
    DAY,
    INITIATE,
    INITIATE_RESPONSE,
    Holder,
    characters,
    rsa_key,
    value_of,
)
from fastsec import limits
from fastsec.aio.aprofile import AProfileAssociation, AProfileMaker
from fastsec.aio.client import connect
from fastsec.aio.handler import Reject
from fastsec.aio.server import Server, serve
from fastsec.aprofile import AProfileConfig
from fastsec.errors import Aborted, LimitReached, PeerError, Rejected
from fastsec.instant import now
from fastsec.pki.path import TrustStore

PDU = bytes.fromhex("a0050102030405")


# --- slow and broken signers ------------------------------------------------------------------------------------------
class Card:
    """A signer that takes its time, on a thread of its own."""

    algorithm = "1.2.840.113549.1.1.11"
    kind = "rsa"

    def __init__(self, holder: Holder) -> None:
        self.holder = holder
        self.executor = ThreadPoolExecutor(1)
        self.go = threading.Event()
        self.go.set()
        self.broken = False
        self.asked = threading.Event()

    def sign(self, data: bytes) -> bytes:
        self.asked.set()
        assert self.go.wait(30)
        if self.broken:
            raise OSError("the card was pulled")
        return self.holder.sign(data)


def with_card(holder: Holder, **more: Any) -> tuple[Card, Side]:
    from fastsec.aprofile import make_a_profile_credential

    card = Card(holder)
    found = side(holder, **more)
    credential = make_a_profile_credential(holder.certificate, card)
    found.config = dataclasses.replace(found.config, credential=credential)
    return card, found


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_slow_signer_holds_nobody_else_up(run: Any, role: str) -> None:
    async def main() -> None:
        card, slow = with_card(WORLD.centre if role == "client" else WORLD.der)
        quick = side(WORLD.authority.holder("quick", 3))
        server = slow if role == "server" else side(WORLD.der)
        async with serving(server.config) as address, serving(WORLD.config(WORLD.der)) as other:
            card.go.clear()
            client = slow if role == "client" else quick
            waiting = asyncio.ensure_future(_echo_once(address, client.config))
            await until(card.asked.is_set, 30)
            await _echo_once(other, quick.config)
            assert not waiting.done()
            card.go.set()
            await asyncio.wait_for(waiting, 30)
        card.executor.shutdown()

    run(main())


async def _echo_once(address: str, config: AProfileConfig) -> None:
    async with connect(address, config, initiate=INITIATE) as stream:
        await stream.send(PDU)
        assert await stream.recv() == PDU


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_signer_that_never_answers(run: Any, monkeypatch: pytest.MonkeyPatch, role: str) -> None:
    """The handshake's deadline holds; what the signer makes in the end is not sent."""
    monkeypatch.setattr(limits, "OUR_AARQ_TO_AARE", 1)

    async def main() -> None:
        card, slow = with_card(WORLD.centre if role == "client" else WORLD.der)
        other = side(WORLD.der if role == "client" else WORLD.centre)
        client, server = (slow, other) if role == "client" else (other, slow)
        async with serving(server.config) as address:
            card.go.clear()
            with pytest.raises(Aborted):
                await connect(address, client.config, initiate=INITIATE)
            card.go.set()
            card.executor.shutdown()

    run(main())


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_broken_signer(run: Any, role: str) -> None:
    async def main() -> None:
        card, broken = with_card(WORLD.centre if role == "client" else WORLD.der)
        card.broken = True
        other = side(WORLD.der if role == "client" else WORLD.centre)
        client, server = (broken, other) if role == "client" else (other, broken)
        async with serving(server.config) as address:
            with pytest.raises(Aborted) as caught:
                await connect(address, client.config, initiate=INITIATE)
            if role == "client":
                assert "signer failed" in caught.value.reason
        card.executor.shutdown()

    run(main())


@pytest.mark.parametrize("client", [True, False])
def test_a_signature_that_comes_too_late_is_not_sent(client: bool) -> None:
    from fastsec.aio.aprofile import AProfileEndpoint
    from fastsec.outputs import Ended, Run, Send
    from fastsec.secpdu.fields import Carrier

    engine = AProfileAssociation(client, AProfileEndpoint(side(WORLD.der).config))
    at = now()
    if client:
        engine.start(INITIATE, at)
    else:
        engine.prove(value_of(WORLD.centre, characters()), "127.0.0.1")
        engine.receive(Carrier.ASSOCIATE_REQ, INITIATE, at)
        (judging,) = [output.job for output in engine.outputs() if isinstance(output, Run)]
        judging.run()
        engine.job_done(judging, at)
        engine.outputs()
        engine.accept(INITIATE_RESPONSE, at)
    (signing,) = [output.job for output in engine.outputs() if isinstance(output, Run)]
    late = at._replace(mono_ms=at.mono_ms + limits.OUR_AARQ_TO_AARE * 1000)
    engine.tick(late)
    sent, ended = engine.outputs()
    assert isinstance(sent, Send)
    assert sent.carrier is Carrier.ABORT
    assert isinstance(ended, Ended)
    signing.run()
    engine.job_done(signing, late)
    assert engine.outputs() == []


@pytest.mark.event("IEC62351-14:4.4")
def test_the_same_value_on_two_connections_at_once() -> None:
    """Both are judged before either is remembered: one is let in."""
    from fastsec.aio.aprofile import AProfileEndpoint
    from fastsec.outputs import AssociateIndication, Ended, Raised, Run, Send
    from fastsec.secpdu.fields import Carrier

    endpoint = AProfileEndpoint(side(WORLD.der).config)
    engines = [AProfileAssociation(False, endpoint) for _ in range(2)]
    value = value_of(WORLD.centre, characters())
    jobs = []
    for engine in engines:
        engine.prove(value, "127.0.0.1")
        engine.receive(Carrier.ASSOCIATE_REQ, INITIATE, now())
        (running,) = engine.outputs()
        assert isinstance(running, Run)
        jobs.append(running.job)
    for job in jobs:
        job.run()
    for engine, job in zip(engines, jobs, strict=True):
        engine.job_done(job, now())
    (first,), second = engines[0].outputs(), engines[1].outputs()
    assert isinstance(first, AssociateIndication)
    assert [type(output) for output in second] == [Raised, Send, Ended]
    assert second[1].disposition == "provider-abort"
    assert second[2].error.check == "replay"


def test_a_server_that_sends_at_once(run: Any) -> None:
    """Data right behind the AARE waits until the AARE has been judged."""

    class Eager(Recorder):
        def associated(self, assoc: Any) -> None:
            super().associated(assoc)
            assoc.write_many([PDU] * 50)

    async def main() -> None:
        handler = Eager()
        async with serve(lambda: handler, "osi://127.0.0.1:0", WORLD.config(WORLD.der)) as listener:
            host, port = listener.addresses[0]
            async with connect(f"osi://{host}:{port}", WORLD.config(WORLD.centre), initiate=INITIATE) as stream:
                for _ in range(50):
                    assert await stream.recv() == PDU

    run(main())


def test_no_own_time_left(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_A_PROFILE_TIME_AHEAD", -1)

    async def main() -> None:
        async with serving(WORLD.config(WORLD.der)) as address:
            with pytest.raises(LimitReached, match="OUR_A_PROFILE_TIME_AHEAD"):
                await connect(address, WORLD.config(WORLD.centre), initiate=INITIATE)
            answer = await raw(address, request(value_of(WORLD.centre, characters())))
            assert bytes.fromhex("a203020102") in answer  # rejected-transient

    run(main())


# --- the application, and the end -------------------------------------------------------------------------------------
def test_the_application_refuses(run: Any) -> None:
    async def main() -> None:
        async with serving(WORLD.config(WORLD.der), Reject(b"\xaa\x00", transient=True)) as address:
            with pytest.raises(Rejected) as caught:
                await connect(address, WORLD.config(WORLD.centre), initiate=INITIATE)
            assert caught.value.transient
            assert caught.value.appl_data == b"\xaa\x00"

    run(main())


def test_a_client_that_leaves_while_it_is_examined(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import fastsec.aio.aprofile as module

    gate, reached, real = threading.Event(), threading.Event(), module.take_value

    def slowly(*arguments: Any) -> Any:
        reached.set()
        assert gate.wait(30)
        return real(*arguments)

    monkeypatch.setattr(module, "take_value", slowly)

    async def main() -> None:
        handler = Recorder()
        async with serve(lambda: handler, "osi://127.0.0.1:0", WORLD.config(WORLD.der)) as listener:
            host, port = listener.addresses[0]
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(CONNECTION_REQUEST + request(value_of(WORLD.centre, characters())))
            await until(reached.is_set, 30)
            writer.transport.abort()
            del reader
            gate.set()
            await until(lambda: not listener.connections, 30)

    run(main())


def test_data_before_the_answer_ends_it(run: Any) -> None:
    async def main() -> None:
        data = bytes.fromhex("01000100610f300d020103a008") + bytes.fromhex("a0060201010a0100")
        from aprofile_world import tpkt

        async with serving(WORLD.config(WORLD.der)) as address:
            answer = await raw(address, request(value_of(WORLD.centre, characters())), tpkt(data))
            assert answer[7] in (0x19, 0x0E)

    run(main())


@pytest.mark.event("IEC62351-9:4.1", "IEC62351-14:4.4")
def test_revoked_while_it_is_open(run: Any) -> None:
    """New CRLs come: who is on them is ended at once, whatever is not stays."""

    async def main() -> None:
        trusted = TrustStore([WORLD.authority.certificate], [WORLD.authority.crl()])
        server = side(WORLD.der, trust=trusted)
        handlers: list[Recorder] = []

        def handler() -> Recorder:
            handlers.append(Recorder(echo=True))
            return handlers[-1]

        listener: Server = await serve(handler, "osi://127.0.0.1:0", server.config)
        host, port = listener.addresses[0]
        address = f"osi://{host}:{port}"
        bad = WORLD.authority.holder("bad", 3, serial=4713)
        async with listener:
            good = await connect(address, WORLD.config(WORLD.centre), initiate=INITIATE)
            lost = await connect(address, WORLD.config(bad), initiate=INITIATE)
            fresh = TrustStore([WORLD.authority.certificate], [WORLD.authority.crl(4713)])
            maker = AProfileMaker(
                dataclasses.replace(server.config, trust=fresh), client=False, osi=None, initiate=b"", tls=False
            )
            listener.replace(maker=maker)
            with pytest.raises(Aborted):
                await lost.recv()
            await good.send(PDU)
            assert await good.recv() == PDU
            await good.__aexit__(None, None, None)
        assert server.ids() == ["IEC62351-9:4.1", "IEC62351-14:4.4"]
        assert server.about("IEC62351-14:4.4")["peer"] == "O=Utility,CN=bad"
        assert isinstance(handlers[1].error, PeerError)

    run(main())


def test_a_certificate_that_runs_out_while_it_is_open() -> None:
    """Looked at every 24 h, at the latest."""
    from fastsec.aio.aprofile import AProfileEndpoint
    from fastsec.outputs import Ended, Run
    from fastsec.secpdu.fields import Carrier

    server = side(WORLD.der)
    engine = AProfileAssociation(False, AProfileEndpoint(server.config))
    at = now()

    def carry() -> list[Any]:
        found = []
        while outputs := engine.outputs():
            for output in outputs:
                if isinstance(output, Run):
                    output.job.run()
                    engine.job_done(output.job, at)
                found.append(output)
        return found

    engine.prove(value_of(WORLD.centre, characters()), "127.0.0.1")
    engine.receive(Carrier.ASSOCIATE_REQ, INITIATE, at)
    carry()
    engine.accept(INITIATE_RESPONSE, at)
    carry()
    assert engine.deadline == at.mono_ms + limits.OUR_RECHECK_INTERVAL * 1000
    at = at._replace(mono_ms=engine.deadline, utc_ms=at.utc_ms + 2 * DAY)
    engine.tick(at)
    ended = [output for output in carry() if isinstance(output, Ended)]
    assert isinstance(ended[0].error, PeerError)
    assert ended[0].error.check in ("certificate", "path")


def test_keys_of_4096_bits(run: Any) -> None:
    async def main() -> None:
        key = rsa_key(60, 4096)
        from fastsec.pki import builder

        large = Holder(WORLD.authority.issue(builder.text_name(cn="large"), key, ()), key)
        async with serving(WORLD.config(WORLD.der)) as address:
            await _echo_once(address, WORLD.config(large))

    run(main())
