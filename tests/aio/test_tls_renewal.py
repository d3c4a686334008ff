"""Connections that last (62351-3): a peer looked at again, and handshakes anew on the same connection."""

from __future__ import annotations

import asyncio
import datetime

import pytest
from tlsends import pair
from tlsfiles import DAY, Authority
from world import PDU, Recorder, World
from world import pair as association

from fastsec.aio import tls_renewal
from fastsec.aio.tls import TLSConfig, TLSRules
from fastsec.aio.tls_profile import REHANDSHAKE
from fastsec.errors import Aborted, ConfigError
from fastsec.pki.credential import load_crls


def often(renewal: float = 0.3, **more) -> TLSRules:
    """Rules with short times."""
    values = {"renewal": renewal, "resumption": min(renewal, 0.2), "limit": max(renewal, 60.0), **more}
    return TLSRules(**values)


@pytest.fixture
def unhurried(monkeypatch) -> None:
    """Handshakes anew may follow one another quickly."""
    monkeypatch.setattr(tls_renewal, "GAP", 0.0)


def names(events) -> list[str]:
    return [event.mnemonic for event in events]


async def until(condition, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


# --- data over new handshakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("who", ["client", "server", "both"])
@pytest.mark.event("IEC62351-3:1.1")
def test_traffic_both_ways(run, authority, unhurried, version, who) -> None:
    """Octets flow all the time, and all of them arrive in order, whoever begins."""
    seldom = TLSRules(versions=(version,))
    rules = {side: often(versions=(version,)) if who in (side, "both") else seldom for side in ("client", "server")}
    events = []

    async def main() -> None:
        server = authority.config("server", rules=rules["server"], sink=events.append)
        client = authority.config("client", rules=rules["client"], sink=events.append)
        async with pair(server, client) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            sent, number = bytearray(), 0
            while min(near.transport.renewals, ends[0].transport.renewals) < 3:
                for _ in range(10):
                    number += 1
                    octets = number.to_bytes(4, "big") * (1 + number % 50)
                    sent += octets
                    near.transport.write(octets)
                    ends[0].transport.write(octets)
                assert not near.transport.is_closing()
                await asyncio.sleep(0.001)
            assert await near.until(len(sent)) == sent
            assert await ends[0].until(len(sent)) == sent
            assert near.transport.get_extra_info("ssl_object").version() == f"TLSv{version}"
            near.transport.close()
            assert await near.lost is None
            assert await ends[0].lost is None

    run(main(), seconds=60)
    assert {"TLS_HS_SUCCESS"} == set(names(events))
    how = [dict(event.params)["handshake"] for event in events]
    assert how.count("full") == 2
    assert how.count("renewed") >= 6


def test_idle_connections_begin_anew_too(run, authority, unhurried) -> None:
    async def main() -> None:
        server, client = authority.config("server"), authority.config("client", rules=often(0.1))
        async with pair(server, client, echo=True) as (near, ends):
            await until(lambda: near.transport is not None and near.transport.renewals >= 3)
            near.transport.write(b"still here")
            assert await near.until(10) == b"still here"
            # The session of the last handshake is the one to resume.
            assert ends[0].transport.renewals >= 3

    run(main(), seconds=60)


class Ruled:
    """An authority whose configurations have these rules."""

    def __init__(self, authority: Authority, rules: TLSRules, sink=None) -> None:
        self._authority, self._rules, self._sink = authority, rules, sink

    def config(self, name: str) -> TLSConfig:
        return self._authority.config(name, rules=self._rules, sink=self._sink)


@pytest.mark.parametrize("dials", ["client", "server"])
def test_twenty_thousand_pdus_of_an_association(run, world, authority, unhurried, dials) -> None:
    """Through secured associations with TLS below, there and back: none is lost, none out of order."""
    count = 10_000

    async def main() -> None:
        ruled = Ruled(authority, often(0.4))
        async with association(world, ruled, "secured-tls", dials, server=Recorder(echo=True)) as pair_:
            made = await pair_.opened()
            client, sent = made.client, []
            layers = [made.client.assoc.transport, made.server.assoc.transport]
            while len(sent) < count or layers[0].renewals < 3:
                batch = [b"\xa0\x04" + (len(sent) + index).to_bytes(4, "big") for index in range(25)]
                sent += batch
                if not client.assoc.can_write:
                    await until(lambda: client.assoc.can_write)
                client.assoc.write_many(batch)
                await asyncio.sleep(0.002)
            await client.until(lambda: len(client.pdus) >= len(sent))
            assert client.pdus == sent
            assert made.server.pdus == sent
            assert min(layer.renewals for layer in layers) >= 3
            assert client.error is None

    run(main(), seconds=90)


def test_back_pressure_while_the_peer_does_not_read(run, authority, unhurried) -> None:
    """The server's protocol pauses: the new handshake waits, data wait here, and the sender is asked to pause."""

    async def main() -> None:
        server, client = authority.config("server"), authority.config("client", rules=often(0.3))
        async with pair(server, client) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            far = ends[0]
            far.transport.pause_reading()
            await until(lambda: near.transport._state == tls_renewal.RENEWING)
            near.transport.write(b"a" * 1000)
            assert near.transport.get_write_buffer_size() >= 1000
            assert not near.full.is_set()
            near.transport.write(b"b" * tls_renewal.QUEUE_HIGH)
            await near.full.wait()
            assert not near.free.is_set()
            far.transport.write(b"towards the client nothing waits")
            await near.until(32)
            far.transport.resume_reading()
            await near.free.wait()
            assert await far.until(1000 + tls_renewal.QUEUE_HIGH) == b"a" * 1000 + b"b" * tls_renewal.QUEUE_HIGH
            assert near.transport.renewals == 1

    run(main(), seconds=60)


@pytest.mark.parametrize("how", ["close", "write_eof"])
def test_closing_with_data_that_wait(run, authority, unhurried, how) -> None:
    async def main() -> None:
        server, client = authority.config("server"), authority.config("client", rules=often(0.3))
        async with pair(server, client) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            far = ends[0]
            far.transport.pause_reading()
            await until(lambda: near.transport._state == tls_renewal.RENEWING)
            near.transport.write(b"the last words")
            getattr(near.transport, how)()
            assert near.transport.is_closing()
            near.transport.write(b"nobody hears these")
            far.transport.resume_reading()
            assert await far.until(14) == b"the last words"
            assert isinstance(await far.lost, OSError | None)  # what it still wrote may have met a closed socket
            assert bytes(far.data) == b"the last words"
            if how == "close":
                assert await near.lost is None

    run(main(), seconds=60)


def test_pausing_during_a_new_handshake(run, authority, unhurried) -> None:
    """The client's protocol pauses and resumes at any time; what came meanwhile comes later, all of it."""

    async def main() -> None:
        server, client = authority.config("server"), authority.config("client", rules=often(0.15))
        async with pair(server, client) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            sent = bytearray()
            turn = 0
            while near.transport.renewals < 5:
                turn += 1
                octets = turn.to_bytes(4, "big") * 500
                ends[0].transport.write(octets)
                sent += octets
                if turn % 7 == 0:
                    near.transport.pause_reading()
                    before = len(near.data)
                    await asyncio.sleep(0.003 * (turn % 5))
                    assert len(near.data) == before
                    near.transport.resume_reading()
                await asyncio.sleep(0.001)
            assert await near.until(len(sent)) == sent

    run(main(), seconds=60)


def test_an_end_is_still_an_end(run, authority) -> None:
    """close_notify and nothing behind it: the connection is over, at once."""

    async def main() -> None:
        for closer in (0, 1):
            async with pair(authority.config("server"), authority.config("client")) as (near, ends):
                await near.made.wait()
                await ends[0].made.wait()
                both = [near, ends[0]]
                both[closer].transport.write(b"bye")
                both[closer].transport.close()
                assert await both[1 - closer].until(3) == b"bye"
                assert await asyncio.wait_for(both[1 - closer].lost, 5) is None
                assert await both[closer].lost is None

    run(main())


@pytest.mark.event("IEC62351-3:1.11")
def test_a_peer_that_does_not_finish_is_left(run, authority, monkeypatch) -> None:
    monkeypatch.setattr(tls_renewal, "RENEWAL_TIME", 0.2)
    events = []

    async def main() -> None:
        server, client = authority.config("server"), authority.config("client", rules=often(0.1), sink=events.append)
        async with pair(server, client) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            ends[0].transport._below.pause_reading()  # it does not answer any more
            error = await near.lost
            assert "not finished in time" in str(error)

    run(main(), seconds=60)
    assert "TLS_NO_RENEG" in names(events)


# --- foreign peers --------------------------------------------------------------------------------------------------


@pytest.mark.event("IEC62351-3:1.11")
@pytest.mark.parametrize("at_limit", ["end", "keep"])
def test_a_foreign_peer_at_the_limit(run, authority, at_limit) -> None:
    events = []

    async def main() -> None:
        rules = TLSRules(renewal=0.2, resumption=0.2, limit=0.2, at_limit=at_limit)
        server = authority.config("server", rules=rules, sink=events.append)
        client = authority.config("client", rules=TLSRules(rehandshake=False))
        async with pair(server, client, echo=True) as (near, ends):
            await near.made.wait()
            if at_limit == "end":
                assert "the time of the session is over" in str(await ends[0].lost)
                assert await near.lost is None  # close_notify
            else:
                await until(lambda: names(events).count("TLS_NO_RENEG") >= 2)
                near.transport.write(b"still")
                assert await near.until(5) == b"still"

    run(main(), seconds=60)
    assert events[-1].severity == "alarm"


@pytest.mark.event("IEC62351-3:1.11")
def test_an_association_at_the_limit_is_released(run, world, authority) -> None:
    class Foreign(Ruled):
        def config(self, name: str) -> TLSConfig:
            config = super().config(name)
            return config if name == "server" else authority.config(name, rules=TLSRules(rehandshake=False))

    async def main() -> None:
        rules = TLSRules(renewal=1.0, resumption=1.0, limit=1.0)
        async with association(world, Foreign(authority, rules), "secured-tls") as made:
            await made.opened()
            made.client.assoc.write(PDU)
            await made.ended()
            assert "released" in made.client.calls
            assert "released" in made.server.calls
            assert made.client.error is None
            assert made.server.error is None

    run(main(), seconds=60)


# --- looking again --------------------------------------------------------------------------------------------------


@pytest.mark.event("IEC62351-3:1.8")
@pytest.mark.parametrize("news", ["update", "interval"])
def test_a_peer_that_is_revoked_while_it_is_here(run, tmp_path, news) -> None:
    authority = Authority(tmp_path, "root")
    events = []

    async def main() -> None:
        authority.issue("server")
        certificate = authority.issue("leaving")
        rules = TLSRules(recheck=0.2 if news == "interval" else 3600.0)
        server = authority.config("server", crls=[authority.crl()], rules=rules, sink=events.append)
        async with pair(server, authority.config("leaving"), echo=True) as (near, ends):
            await near.made.wait()
            near.transport.write(b"in order")
            await near.until(8)
            fresh = load_crls(authority.crl(certificate, name="fresh", start=-DAY))
            server.revocation.known.give(fresh)
            if news == "update":
                server.revocation_changed()
            error = await ends[0].lost
            assert isinstance(error, Aborted)
            assert "revoked" in str(error)
            assert await near.lost is None

    run(main(), seconds=60)
    assert "TLS_SESSION_CLOSED_REV" in names(events)
    assert "TLS_CERT_REVOKED" not in names(events)


@pytest.mark.event("IEC62351-3:2.8")
def test_a_certificate_that_expires_while_it_is_here(run, tmp_path) -> None:
    authority = Authority(tmp_path, "root")
    events = []

    async def main() -> None:
        authority.issue("server")
        authority.now = datetime.datetime.now(datetime.UTC)
        authority.issue("short", end=datetime.timedelta(seconds=3))
        server = authority.config("server", rules=TLSRules(recheck=0.2), sink=events.append)
        async with pair(server, authority.config("short")) as (near, ends):
            await near.made.wait()
            assert "expired" in str(await ends[0].lost)

    run(main(), seconds=60)
    assert names(events)[-1] == "TLS_CERT_EXP"


@pytest.mark.event("IEC62351-3:2.5")
def test_a_warning_is_told_once(run, authority, monkeypatch) -> None:
    """A revocation list that is missing does not end anything, and is not repeated at every look."""
    events = []

    async def main() -> None:
        rules = TLSRules(recheck=0.05)
        crl = authority.crl()
        server = authority.config("server", crls=[crl], rules=rules, sink=events.append)
        async with pair(server, authority.config("client"), echo=True) as (near, ends):
            await near.made.wait()
            server.revocation.known.drop("")
            looks: list[object] = []
            run_ = tls_renewal.Look.run
            monkeypatch.setattr(tls_renewal.Look, "run", lambda self: (looks.append(self), run_(self)))
            await until(lambda: len(looks) >= 4)
            near.transport.write(b"x")
            await near.until(1)
            assert not ends[0].transport.is_closing()

    run(main(), seconds=60)
    assert names(events).count("TLS_NO_CRL") == 1


@pytest.mark.event("IEC62351-3:2.2")
def test_other_anchors(run, authority, tmp_path) -> None:
    """New certificates are taken over: who is still trusted begins anew, who is not has to go."""
    other = Authority(tmp_path, "other")
    other.issue("other")

    async def main() -> None:
        first = authority.config("server", anchors=[authority.anchor, other.anchor])
        alien = TLSConfig(tmp_path / "other.pem", tmp_path / "other.key", [authority.anchor])
        async with pair(first, authority.config("client"), echo=True) as (near, ends):
            async with pair(first, alien, echo=True) as (strange, strangers):
                await near.made.wait()
                await strange.made.wait()
                await until(lambda: ends[0].made.is_set() and strangers[0].made.is_set())
                events = []
                second = authority.config("server", rules=often(0.5), sink=events.append)
                second.take_over(first)
                assert isinstance(await strangers[0].lost, Aborted)
                assert "TLS_NO_CA_MATCH" in names(events)
            await until(lambda: ends[0].transport.renewals >= 1)
            near.transport.write(b"x")
            await near.until(1)

    run(main(), seconds=60)


def test_rules_that_contradict_the_standard() -> None:
    for wrong in (
        {"renewal": 86_401.0, "limit": 86_401.0},
        {"resumption": 7200.0, "renewal": 3600.0},
        {"renewal": 7200.0, "limit": 3600.0},
        {"recheck": 90_000.0},
        {"resumption": 0.0, "renewal": 0.0},
        {"versions": ()},
        {"versions": ("1.1",)},
        {"suites": ("TLS_DH_RSA_WITH_AES_128_GCM_SHA256",)},
        {"suites": ()},
        {"suites": ("TLS_AES_128_GCM_SHA256",)},
        {"trust": "pinned"},
        {"trust": "anybody"},
        {"pinned": (bytes(32),)},
        {"at_limit": "maybe"},
        {"rsa_bits_min": 1536},
        {"rsa_bits_min": 512},
        {"ec_bits_min": 224},
    ):
        with pytest.raises(ConfigError, match="TLS"):
            TLSRules(**wrong)


def test_the_token_is_announced(run, authority) -> None:
    async def main() -> None:
        async with pair(authority.config("server"), authority.config("client")) as (near, _):
            await near.made.wait()
            assert near.transport.get_extra_info("ssl_object").selected_alpn_protocol() == REHANDSHAKE

    run(main())


@pytest.fixture(scope="module")
def world() -> World:
    return World()
