"""The A-profile over real sockets: both roles and directions of dial, every refusal with its event, hostile peers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aprofile_peers import WORLD, Side, _fresh_memories, accepted, echo, proof_in, raw, request, serving, side  # noqa: F401
from world import Recorder, until

from aprofile_world import (
    DAY,
    INITIATE,
    INITIATE_RESPONSE,
    Authority,
    authentication,
    characters,
    connect_by_hand,
    der,
    now_ms,
    p_abort,
    seconds,
    value_of,
)
from fastsec import limits
from fastsec.aio.aprofile import forget_a_profile, shared_of
from fastsec.aio.client import connect, connect_handler, plain_connect
from fastsec.aio.handler import Reject
from fastsec.aio.server import plain_serve, serve
from fastsec.aio.stream import AssociationStream, streams
from fastsec.aprofile import AProfileConfig
from fastsec.envs.osi import OsiAddress, OsiParams
from fastsec.errors import Aborted, ConfigError, FastsecError, PeerError, Rejected
from fastsec.instant import now
from fastsec.pki.path import TrustStore

PDU = bytes.fromhex("a0050102030405")


# --- what works -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("dials", ["client", "server"])
def test_both_roles_and_directions(run: Any, authority: Any, tls: bool, dials: Any) -> None:
    async def main() -> None:
        client = side(WORLD.centre, peers=("subject:O=Utility,CN=der",), without_tls=not tls)
        server = side(WORLD.der, peers=("subject:O=Utility,CN=centre",), without_tls=not tls)
        configs = {"client": client.config, "server": server.config}
        handlers = {"client": Recorder(), "server": Recorder(echo=True)}
        accepts: Any = "server" if dials == "client" else "client"
        extra = {"client": {"initiate": INITIATE}, "server": {}}
        listener = await serve(
            lambda: handlers[accepts],
            "osi://127.0.0.1:0",
            configs[accepts],
            tls=authority.config("server") if tls else None,
            role=accepts,
            **extra[accepts],
        )
        host, port = listener.addresses[0]
        async with listener:
            await connect_handler(
                handlers[dials],
                f"osi://{host}:{port}",
                configs[dials],
                tls=authority.config("client") if tls else None,
                role=dials,
                **extra[dials],
            )
            await handlers["client"].wait("associated")
            await handlers["server"].wait("associated")
            mine, theirs = handlers["client"].assoc, handlers["server"].assoc
            assert mine.peer.certificate.der == WORLD.der.certificate
            assert theirs.peer.certificate.der == WORLD.centre.certificate
            assert (mine.roles, mine.secured, mine.confirmed) == ((), False, True)
            mine.write_many([PDU] * 100)
            await handlers["client"].until(lambda: len(handlers["client"].pdus) == 100)
            mine.release()
            await handlers["server"].wait("ended")
            await handlers["client"].wait("ended")
            assert handlers["client"].error is None
            assert handlers["server"].error is None
        assert client.events == []
        assert server.events == []

    run(main())


@pytest.mark.parametrize("carrier", ["external", "other"])
@pytest.mark.parametrize("signed", ["characters", "encoding"])
@pytest.mark.parametrize("form", ["field", "der", "milliseconds"])
def test_every_setting_is_understood_by_every_other(run: Any, carrier: Any, signed: Any, form: Any) -> None:
    async def main() -> None:
        async with serving(WORLD.config(WORLD.der)) as address:
            config = WORLD.config(WORLD.centre, carrier=carrier, signed=signed, time=form)
            async with connect(address, config, initiate=INITIATE) as stream:
                assert stream.initiate_response == INITIATE_RESPONSE
                await stream.send(PDU)
                assert await stream.recv() == PDU

    run(main())


def test_many_at_once(run: Any) -> None:
    """Times are whole seconds, yet associations need not wait for the next."""

    async def one(address: str, config: AProfileConfig) -> None:
        async with connect(address, config, initiate=INITIATE) as stream:
            await stream.send(PDU)
            assert await stream.recv() == PDU

    async def main() -> None:
        client, server = side(WORLD.centre), side(WORLD.der)
        async with serving(server.config) as address:
            await asyncio.gather(*(one(address, client.config) for _ in range(20)))
        assert client.events == server.events == []

    run(main())


def test_a_client_by_hand(run: Any) -> None:
    """Octets by another implementation, and what comes back judged by another."""

    async def main() -> None:
        async with serving(WORLD.config(WORLD.der)) as address:
            answer = await accepted(address, request(value_of(WORLD.centre, characters())))
            value = proof_in(answer, 0xAA)
            assert WORLD.der.certificate in value
            text = value[value.index(b"\x81\x0f") + 2 :][:15]
            assert value[-256:] == WORLD.der.sign(text)
            assert abs(time.mktime(time.strptime(text.decode(), "%Y%m%d%H%M%S.")) - time.mktime(time.gmtime())) < 60

    run(main())


def test_own_addresses_are_used(run: Any) -> None:
    async def main() -> None:
        seen: list[Any] = []

        def answer(stream: AssociationStream, _: bytes) -> bytes:
            seen.append(stream.connection.request)
            return INITIATE_RESPONSE

        async with serving(WORLD.config(WORLD.der), answer) as address:
            local = OsiAddress(ap_title="1.1.999.7", ae_qualifier=7, tsel=b"\x00\x09")
            osi = OsiParams(security=False, local=local, remote=OsiAddress(ap_title="1.1.999.8"))
            async with connect(address, WORLD.config(WORLD.centre), initiate=INITIATE, osi=osi):
                pass
        assert (seen[0].calling.ap_title, seen[0].called.ap_title) == ("1.1.999.7", "1.1.999.8")
        assert seen[0].proof is not None

    run(main())


# --- what is refused: the server --------------------------------------------------------------------------------------
def with_certificate(octets: bytes) -> bytes:
    return der(0xA0, der(0x80, octets), der(0x81, b"20260921141320."), der(0x82, b"s"))


def hostile(name: str) -> tuple[bytes, str, dict[str, Any]]:
    """AARQ, the check that fails, and the server's settings."""
    authority = WORLD.authority
    good = value_of(WORLD.centre, characters())
    revoked = authority.holder("centre", 1, serial=4711)
    expired = authority.holder("centre", 1, not_before_ms=now_ms() - 2 * DAY, not_after_ms=now_ms() - DAY)
    cases: dict[str, tuple[bytes, str, dict[str, Any]]] = {
        "signature": (value_of(WORLD.centre, characters(), signed=b"20260921141320."), "signature", {}),
        "changed time": (good.replace(b"\x81\x0f" + characters()[:8].encode(), b"\x81\x0f20200101"), "time", {}),
        "late": (value_of(WORLD.centre, characters(-605)), "time", {}),
        "early": (value_of(WORLD.centre, characters(605)), "time", {}),
        "foreign": (value_of(Authority("other", 101).holder("centre", 1), characters()), "path", {}),
        "expired": (value_of(expired, characters()), "certificate", {}),
        "revoked": (
            value_of(revoked, characters()),
            "revoked",
            {"trust": TrustStore([authority.certificate], [authority.crl(4711)])},
        ),
        "not let in": (good, "address", {"peers": ("subject:CN=another",)}),
        "our own": (value_of(WORLD.der, characters()), "address", {}),
        "oversize": (with_certificate(bytes(8193)), "certificate", {}),
        "no certificate": (with_certificate(b""), "certificate", {}),
        "malformed": (der(0xA0, der(0x80, b"c")), "protocol-error", {}),
        "another alternative": (der(0xA1, b"\x05\x00"), "protocol-error", {}),
    }  # fmt: skip
    value, check, settings = cases[name]
    return request(value), check, settings


CASES = ["signature", "changed time", "late", "early", "foreign", "expired", "revoked", "not let in", "our own",
         "oversize", "no certificate", "malformed", "another alternative"]  # fmt: skip
EVENTS = {
    "malformed": ["IEC62351-4:15.4"],
    "another alternative": ["IEC62351-4:15.4"],
    "expired": ["IEC62351-9:2.6"],
    "revoked": ["IEC62351-9:4.1"],
}


@pytest.mark.event("IEC62351-14:4.4")
@pytest.mark.parametrize("name", CASES)
def test_a_refused_request_is_answered_by_p_abort(run: Any, name: str) -> None:
    """Whatever it was: the same P-ABORT, which says nothing, and an event that does."""

    async def main() -> None:
        octets, check, settings = hostile(name)
        server = side(WORLD.der, **settings)
        async with serving(server.config) as address:
            assert p_abort(await raw(address, octets))
        assert server.ids()[-1] == "IEC62351-14:4.4"
        found = server.about("IEC62351-14:4.4")
        assert (found["check"], found["peer"]) == (check, "127.0.0.1")
        for wanted in EVENTS.get(name, []):
            assert wanted in server.ids()

    run(main())


def test_the_application_is_asked_only_for_who_proved_itself(run: Any) -> None:
    async def main() -> None:
        handler = Recorder()
        async with serve(lambda: handler, "osi://127.0.0.1:0", WORLD.config(WORLD.der)) as listener:
            host, port = listener.addresses[0]
            for name in CASES[:4]:
                assert p_abort(await raw(f"osi://{host}:{port}", hostile(name)[0]))
        assert "association_requested" not in handler.calls
        assert "associated" not in handler.calls

    run(main())


@pytest.mark.event("IEC62351-14:4.4", "IEC62351-9:4.1")
def test_the_event_of_a_revoked_certificate(run: Any) -> None:
    async def main() -> None:
        octets, _, settings = hostile("revoked")
        server = side(WORLD.der, **settings)
        async with serving(server.config) as address:
            assert p_abort(await raw(address, octets))
        assert server.ids() == ["IEC62351-9:4.1", "IEC62351-14:4.4"]

    run(main())


@pytest.mark.event("IEC62351-4:15.4", "IEC62351-14:4.4")
def test_the_event_of_a_malformed_value(run: Any) -> None:
    async def main() -> None:
        octets, _, settings = hostile("malformed")
        server = side(WORLD.der, **settings)
        async with serving(server.config) as address:
            assert p_abort(await raw(address, octets))
        assert server.ids() == ["IEC62351-4:15.4", "IEC62351-14:4.4"]

    run(main())


@pytest.mark.event("IEC62351-4:15.15", "IEC62351-14:4.4", "IEC62351-14:4.3")
def test_a_plain_client_is_told_what_is_missing(run: Any) -> None:
    async def main() -> None:
        server = side(WORLD.der)
        async with serving(server.config) as address:
            with pytest.raises(Rejected, match="authentication mechanism name required") as caught:
                await plain_connect(address, OsiParams(security=False), initiate=INITIATE)
            assert not caught.value.transient
            with pytest.raises(Rejected, match="not recognized"):
                await plain_connect(address, OsiParams(security=False, password=b"x"), initiate=INITIATE)
            stripped = authentication(b"")[:-2]
            answer = await raw(address, connect_by_hand(stripped))
            assert bytes.fromhex("a305a10302010e") in answer  # authentication-required
        assert server.ids() == ["IEC62351-4:15.15", "IEC62351-14:4.4"] * 3
        client = side(WORLD.centre)
        async with plain_serve(streams(echo, Reject(None)), "osi://127.0.0.1:0", OsiParams(security=False)) as refusing:
            host, port = refusing.addresses[0]
            with pytest.raises(Rejected):
                await connect(f"osi://{host}:{port}", client.config, initiate=INITIATE)
        assert client.ids() == ["IEC62351-14:4.3"]

    run(main())


@pytest.mark.event("IEC62351-14:4.4")
def test_replay(run: Any) -> None:
    """What a client sent is sent again by somebody else, exactly or with the time written otherwise."""

    async def main() -> None:
        server = side(WORLD.der)
        text = characters()
        async with serving(server.config) as address:
            await accepted(address, request(value_of(WORLD.centre, text)))
            assert p_abort(await raw(address, request(value_of(WORLD.centre, text))))
            assert p_abort(await raw(address, request(value_of(WORLD.centre, text[:14] + "Z"))))
            other = value_of(WORLD.centre, text, signed=b"\x81\x0f" + text.encode())
            assert p_abort(await raw(address, request(other)))
            await accepted(address, request(value_of(WORLD.centre, characters(1))))
        assert server.ids() == ["IEC62351-14:4.4"] * 3
        assert {dict(event.params)["check"] for event in server.events} == {"replay"}

    run(main())


def test_an_exact_repeat_costs_no_public_key_work(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        server = side(WORLD.der)
        octets = request(value_of(WORLD.centre, characters()))
        async with serving(server.config) as address:
            await accepted(address, octets)

            def never(*_: Any) -> None:
                raise AssertionError("it was judged")

            monkeypatch.setattr("fastsec.aio.aprofile.take_value", never)
            assert p_abort(await raw(address, octets))
        assert server.about("IEC62351-14:4.4")["check"] == "replay"

    run(main())


def test_a_replay_to_another_door_of_the_same_key(run: Any) -> None:
    async def main() -> None:
        octets = request(value_of(WORLD.centre, characters()))
        async with serving(WORLD.config(WORLD.der)) as one, serving(WORLD.config(WORLD.der, peers=("any",))) as other:
            await accepted(one, octets)
            assert p_abort(await raw(other, octets))

    run(main())


@pytest.mark.event("IEC62351-14:4.4")
def test_reflection(run: Any) -> None:
    """Our own AARE sent back as AARQ; and a server's AARE, seen by us as its client, sent to us as its AARQ."""

    async def main() -> None:
        server = side(WORLD.der)
        async with serving(server.config) as address:
            answer = await accepted(address, request(value_of(WORLD.centre, characters(-3))))
            mine = proof_in(answer, 0xAA)
            assert p_abort(await raw(address, request(mine)))
            assert server.about("IEC62351-14:4.4")["check"] == "address"

            # The centre, our peer, serves too; we have called it, and somebody plays its answer back to us.
            seen: list[bytes] = []

            async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                onward = await asyncio.open_connection(*their_address.removeprefix("osi://").split(":"))

                async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, keep: bool) -> None:
                    while octets := await source.read(65536):
                        if keep:
                            seen.append(octets)
                        sink.write(octets)
                    sink.close()

                await asyncio.gather(pump(reader, onward[1], False), pump(onward[0], writer, True))

            async with serving(WORLD.config(WORLD.centre)) as their_address:
                middle = await asyncio.start_server(note, "127.0.0.1", 0)
                port = middle.sockets[0].getsockname()[1]
                async with connect(f"osi://127.0.0.1:{port}", server.config, initiate=INITIATE):
                    pass
                middle.close()
            theirs = proof_in(b"".join(seen), 0xAA)
            assert p_abort(await raw(address, request(theirs)))
            checks = [dict(event.params)["check"] for event in server.events]
            assert checks == ["address", "replay"]

    run(main())


@pytest.mark.event("IEC62351-14:5.2")
def test_a_peer_with_too_many_times(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OUR_REPLAY_PER_PEER", 2)

    async def main() -> None:
        server = side(WORLD.der)
        async with serving(server.config) as address:
            *texts, last = seconds(3)
            for text in texts:
                await accepted(address, request(value_of(WORLD.centre, text)))
            assert p_abort(await raw(address, request(value_of(WORLD.centre, last))))
            other = WORLD.authority.holder("other", 3)
            await accepted(address, request(value_of(other, characters())))
        assert server.ids() == ["IEC62351-14:5.2"]

    run(main())


# --- restarts ---------------------------------------------------------------------------------------------------------
def restart() -> None:
    forget_a_profile()


@pytest.mark.parametrize("kept", [False, True])
def test_replay_over_a_restart(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    """With a file what was seen stays known; without, times from before the start are refused."""
    file = str(tmp_path / "seen") if kept else None
    asyncio.run(_restarted(file, monkeypatch))


async def _restarted(file: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    octets = request(value_of(WORLD.centre, characters(2)))
    async with serving(WORLD.config(WORLD.der, replay_file=file)) as address:
        await accepted(address, octets)
        assert p_abort(await raw(address, octets))
    restart()
    monkeypatch.undo()  # this time the start is now
    server = side(WORLD.der, replay_file=file)
    async with serving(server.config) as address:
        assert p_abort(await raw(address, request(value_of(WORLD.centre, characters(-30)))))
        assert "before our start" in server.about("IEC62351-14:4.4")["reason"]
        server.events.clear()
        if file is not None:
            assert p_abort(await raw(address, octets))
            assert "came before" in server.about("IEC62351-14:4.4")["reason"]
        await accepted(address, request(value_of(WORLD.centre, characters(4))))


def test_own_times_go_on_after_a_restart(tmp_path: Any) -> None:
    config = WORLD.config(WORLD.centre, replay_file=str(tmp_path / "seen"))
    shared = shared_of(config)
    used = [shared.memory.request_time(now().utc_ms, "der") for _ in range(30)]
    shared.keep()
    restart()
    assert shared_of(config).memory.request_time(now().utc_ms, "der") > max(used)


def test_one_file_for_one_key(tmp_path: Any) -> None:
    shared_of(WORLD.config(WORLD.centre, replay_file=str(tmp_path / "a")))
    with pytest.raises(ConfigError, match="same one"):
        shared_of(WORLD.config(WORLD.centre, replay_file=str(tmp_path / "b")))
    with pytest.raises(ConfigError, match="in use"):
        shared_of(WORLD.config(WORLD.der, replay_file=str(tmp_path / "a")))


# --- what is refused: the client --------------------------------------------------------------------------------------
@pytest.mark.event("IEC62351-14:4.4", "IEC62351-14:4.3")
@pytest.mark.parametrize(
    ("settings", "check"),
    [
        ({"peers": ("subject:CN=another",)}, "address"),
        ({"trust": TrustStore([Authority("other", 101).certificate])}, "path"),
        ({"trust": TrustStore([WORLD.authority.certificate], [WORLD.authority.crl(4712)])}, "revoked"),
    ],
)
def test_a_client_refuses_its_server(run: Any, settings: dict[str, Any], check: str) -> None:
    """The server has accepted already; it is aborted before any data, and told nothing of why."""

    async def main() -> None:
        server = side(WORLD.authority.holder("der", 2, serial=4712))
        client = side(WORLD.centre, **settings)
        handler = Recorder()
        async with serve(lambda: handler, "osi://127.0.0.1:0", server.config) as listener:
            host, port = listener.addresses[0]
            with pytest.raises(PeerError) as caught:
                await connect(f"osi://{host}:{port}", client.config, initiate=INITIATE)
            assert caught.value.check == check
            await handler.wait("ended")
            assert isinstance(handler.error, Aborted)
            assert handler.error.side == "peer"
        assert client.ids()[-1] == "IEC62351-14:4.4"
        # And a client that the server refuses:
        refused = side(WORLD.centre)
        async with serving(WORLD.config(WORLD.der, peers=("subject:CN=nobody",))) as address:
            with pytest.raises(Aborted, match="presentation aborted"):
                await connect(address, refused.config, initiate=INITIATE)
        assert refused.ids() == ["IEC62351-14:4.3"]

    run(main())


@pytest.mark.event("IEC62351-4:15.16", "IEC62351-14:4.4")
def test_a_plain_server_is_refused(run: Any) -> None:
    """It ignores the authentication and accepts: no association, no second attempt without it."""

    async def main() -> None:
        client = side(WORLD.centre)
        handler = Recorder()
        async with plain_serve(lambda: handler, "osi://127.0.0.1:0", OsiParams(security=False)) as listener:
            host, port = listener.addresses[0]
            with pytest.raises(Aborted, match="does not authenticate itself"):
                await connect(f"osi://{host}:{port}", client.config, initiate=INITIATE)
            await handler.wait("ended")
            assert handler.calls.count("association_requested") == 1
            assert listener.admissions.accepted == 1
        assert client.ids() == ["IEC62351-4:15.16", "IEC62351-14:4.4"]

    run(main())


# --- nothing falls back -----------------------------------------------------------------------------------------------
def test_native_and_a_profile_do_not_meet(run: Any, world: Any) -> None:
    from world import DER

    async def main() -> None:
        server = side(WORLD.der)
        async with serving(server.config) as address:
            with pytest.raises(FastsecError):
                await connect(address, world.centre, peer=DER, initiate=INITIATE)
        assert server.ids() == ["IEC62351-4:15.5"]
        native, events = world.events(world.der)
        client = side(WORLD.centre)
        handler = Recorder()
        async with serve(lambda: handler, "osi://127.0.0.1:0", native) as listener:
            host, port = listener.addresses[0]
            with pytest.raises(FastsecError):
                await connect(f"osi://{host}:{port}", client.config, initiate=INITIATE)
            await until(lambda: not listener.connections)
            assert listener.admissions.accepted == 1  # one attempt
            assert listener.admissions.opened == 0
        assert "association_requested" not in handler.calls
        assert events == ["INV_APPL_CNTX_RQ"]

    run(main())


def test_without_tls_it_must_be_meant(run: Any, authority: Any) -> None:
    async def main() -> None:
        config = WORLD.config(WORLD.centre, without_tls=False)
        with pytest.raises(ConfigError, match="not secure"):
            connect("osi://127.0.0.1:1", config, initiate=INITIATE)
        with pytest.raises(ConfigError, match="not secure"):
            serve(Recorder, "osi://127.0.0.1:0", config)
        serve(Recorder, "osi://127.0.0.1:0", config, tls=authority.config("server"))

    run(main())


def test_arguments_that_have_no_meaning(run: Any) -> None:
    from world import DER

    async def main() -> None:
        config = WORLD.config(WORLD.centre)
        with pytest.raises(ConfigError, match="no OSI identities"):
            connect("osi://127.0.0.1:1", config, peer=DER, initiate=INITIATE)
        for osi in (OsiParams(security=False, password=b"x"),):
            with pytest.raises(ConfigError, match="not for the A-profile"):
                connect("osi://127.0.0.1:1", config, initiate=INITIATE, osi=osi)

    run(main())
