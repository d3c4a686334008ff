"""Connections that last (62351-3): a peer looked at again, and handshakes anew on the same connection."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl

import pytest
from tlsends import End, pair
from tlsfiles import DAY, Authority
from world import PDU, Recorder, World
from world import pair as association

from fastsec.aio import tls_renewal
from fastsec.aio.tls import TLSConfig, TLSLayer, TLSRules
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


# --- hostile peers --------------------------------------------------------------------------------------------------


class Raw:
    """A TLS client made of ssl objects, that can do what no fastsec end does."""

    def __init__(self, reader, writer) -> None:
        self.reader, self.writer = reader, writer
        self.rest = b""

    @classmethod
    async def to(cls, port: int) -> Raw:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def handshake(self, config: TLSConfig, *, before: bytes = b"", **limits) -> ssl.SSLObject:
        context = config.client_context
        for name, value in limits.items():
            if name != "session":
                setattr(context, name, value)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = context.wrap_bio(self.incoming, self.outgoing, session=limits.get("session"))
        self.incoming.write(self.rest)
        while True:
            try:
                made.do_handshake()
            except ssl.SSLWantReadError:
                self.writer.write(before + self.outgoing.read())
                before = b""
                data = await self.reader.read(65536)
                if not data:
                    raise ConnectionError("closed") from None
                self.incoming.write(data)
            else:
                self.writer.write(self.outgoing.read())
                self.tls = made
                return made

    def notified(self) -> bytes:
        """Our close_notify."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.outgoing.read()

    async def their_notify(self) -> None:
        """Read up to their close_notify; what is behind it stays in ``rest``."""
        while True:
            try:
                if not self.tls.read(65536):
                    break
            except ssl.SSLWantReadError:
                data = await self.reader.read(65536)
                if not data:
                    raise ConnectionError("closed") from None
                self.incoming.write(data)
            except ssl.SSLZeroReturnError:
                break
        self.rest = self.incoming.read()

    async def anew(self, config: TLSConfig, **limits) -> None:
        """Another handshake on this connection."""
        old_incoming = self.incoming
        notified = self.notified()
        context = config.client_context
        for name, value in limits.items():
            if name != "session":
                setattr(context, name, value)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        made = context.wrap_bio(incoming, outgoing, session=limits.get("session"))
        with contextlib.suppress(ssl.SSLWantReadError):
            made.do_handshake()
        self.writer.write(notified + outgoing.read())
        assert old_incoming is self.incoming
        await self.their_notify()
        incoming.write(self.rest)
        self.tls, self.incoming, self.outgoing = made, incoming, outgoing
        while True:
            try:
                made.do_handshake()
            except ssl.SSLWantReadError:
                self.writer.write(outgoing.read())
                data = await self.reader.read(65536)
                if not data:
                    raise ConnectionError("closed") from None
                incoming.write(data)
            else:
                self.writer.write(outgoing.read())
                return

    async def closed(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


@contextlib.asynccontextmanager
async def listening(config: TLSConfig):
    loop = asyncio.get_running_loop()
    ends: list[End] = []

    def accept() -> TLSLayer:
        ends.append(End(echo=True))
        return TLSLayer(ends[-1], config, server_side=True)

    listener = await loop.create_server(accept, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1], ends
    finally:
        for end in ends:
            if end.transport is not None:
                end.transport.abort()
        listener.close()
        await listener.wait_closed()


@pytest.mark.parametrize("trick", ["another", "version", "resumed", "renewed certificate"])
@pytest.mark.event("IEC62351-3:1.1")
def test_who_takes_part_in_a_new_handshake(run, tmp_path, trick) -> None:
    """Spliced-in identities, other versions and resumption are refused; a renewed certificate of the same is not."""
    authority = Authority(tmp_path, "root")
    for name in ("server", "client", "mallory"):
        authority.issue(name)
    events = []

    async def main() -> None:
        server = authority.config("server", sink=events.append)
        async with listening(server) as (port, ends):
            raw = await Raw.to(port)
            first = authority.config("client")
            await raw.handshake(first)
            await until(lambda: ends and ends[0].made.is_set())
            raw.tls.write(b"first")
            raw.writer.write(raw.outgoing.read())
            await ends[0].until(5)
            more = {}
            second = authority.config("mallory") if trick == "another" else first
            if trick == "version":
                more["maximum_version"] = ssl.TLSVersion.TLSv1_2
            if trick == "resumed":
                with contextlib.suppress(ssl.SSLWantReadError):
                    raw.incoming.write(await raw.reader.read(65536))
                    raw.tls.read(100)
                more["session"] = raw.tls.session
            if trick == "renewed certificate":
                authority.issue("client")
                second = authority.config("client")
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await raw.anew(second, **more)
            if trick == "renewed certificate":
                raw.tls.write(b"again")
                raw.writer.write(raw.outgoing.read())
                assert await ends[0].until(10) == b"firstagain"
                assert ends[0].transport.renewals == 1
            else:
                assert isinstance(await ends[0].lost, Aborted)
                assert ends[0].transport.renewals == 0
                assert bytes(ends[0].data) == b"first"
            raw.writer.close()

    run(main(), seconds=60)
    wanted = {
        "another": "TLS_NO_TRUSTED_CERT_MATCH",
        "version": "TLS_VERSION_CHANGE",
        "resumed": "TLS_NO_RENEG",
        "renewed certificate": "TLS_HS_SUCCESS",
    }
    assert names(events)[-1] == wanted[trick]


def test_a_flood_of_new_handshakes_is_ended(run, authority) -> None:
    async def main() -> None:
        async with listening(authority.config("server")) as (port, ends):
            raw = await Raw.to(port)
            client = authority.config("client")
            await raw.handshake(client)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                for _ in range(50):
                    await raw.anew(client)
            assert "all the time" in str(await ends[0].lost)
            assert ends[0].transport.renewals == tls_renewal.HURRIED_MAX

    run(main(), seconds=60)


@pytest.mark.parametrize(
    "behind",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        tls_renewal.HELLO_REQUEST,
        b"\x17\x03\x03\xff\xff" + bytes(70_000),
    ],
    ids=["text", "short", "request", "long"],
)  # fmt: skip
def test_what_is_no_handshake_behind_close_notify(run, authority, behind) -> None:
    async def main() -> None:
        async with listening(authority.config("server")) as (port, ends):
            raw = await Raw.to(port)
            await raw.handshake(authority.config("client"))
            raw.tls.write(b"data")
            raw.writer.write(raw.outgoing.read() + raw.notified() + behind)
            error = await ends[0].lost
            assert isinstance(error, Aborted)
            assert bytes(ends[0].data) == b"data"
            raw.writer.close()

    run(main(), seconds=60)


def test_silence_behind_close_notify(run, authority, monkeypatch) -> None:
    """The TCP connection stays open, nothing comes: it is closed."""
    monkeypatch.setattr(tls_renewal, "FOLLOW_TIME", 0.2)

    async def main() -> None:
        async with listening(authority.config("server")) as (port, ends):
            raw = await Raw.to(port)
            await raw.handshake(authority.config("client"))
            raw.writer.write(raw.notified())
            assert await ends[0].lost is None
            await raw.closed()
            raw.writer.close()

    run(main(), seconds=60)


@pytest.mark.parametrize("behind", [b"", b"x", tls_renewal.HELLO_REQUEST + b"more", tls_renewal.HELLO_REQUEST[:5]])
def test_a_client_whose_server_misbehaves(run, authority, monkeypatch, behind) -> None:
    """A server's close_notify and then nothing, something else, something too much, or half of a request."""
    monkeypatch.setattr(tls_renewal, "FOLLOW_TIME", 0.3)
    monkeypatch.setattr(tls_renewal, "RENEWAL_TIME", 0.3)

    async def main() -> None:
        async with pair(authority.config("server"), authority.config("client")) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            layer = ends[0].transport
            octets = layer._notify_octets() + behind
            layer._below.write(octets)
            error = await near.lost
            assert (error is None) == (not behind)

    run(main(), seconds=60)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_octets_in_pieces(run, authority, unhurried, version) -> None:
    """Between the ends everything is cut into pieces of one to seven octets."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ends: list[End] = []
        rules = often(0.3, versions=(version,))

        def accept() -> TLSLayer:
            ends.append(End(echo=True))
            return TLSLayer(ends[-1], authority.config("server", rules=rules), server_side=True)

        async def cut(reader, writer) -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(4096):
                    for start in range(0, len(data), 7):
                        writer.write(data[start : start + 1 + start % 7])
                        writer.write(data[start + 1 + start % 7 : start + 7])
                        await asyncio.sleep(0)
                writer.close()

        async def between(reader, writer) -> None:
            there, back = await asyncio.open_connection(*listener.sockets[0].getsockname())
            await asyncio.gather(cut(reader, back), cut(there, writer))

        listener = await loop.create_server(accept, "127.0.0.1", 0)
        middle = await asyncio.start_server(between, "127.0.0.1", 0)
        near = End()
        client = authority.config("client", rules=rules)
        await loop.create_connection(
            lambda: TLSLayer(near, client, server_side=False), *middle.sockets[0].getsockname()
        )
        await near.made.wait()
        sent = bytearray()
        while near.transport.renewals < 3:
            octets = len(sent).to_bytes(4, "big") * 20
            near.transport.write(octets)
            sent += octets
            await asyncio.sleep(0.01)
        assert await near.until(len(sent)) == sent
        near.transport.close()
        await near.lost
        await ends[0].lost
        for server in (listener, middle):
            server.close()
            await server.wait_closed()

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
