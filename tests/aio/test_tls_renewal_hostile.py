"""Handshakes anew on open connections: peers that do what no fastsec end does, and octets in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import pytest
from tlsends import End, pair
from tlsfiles import Authority

from fastsec.aio import tls_renewal
from fastsec.aio.tls import TLSConfig, TLSLayer, TLSRules
from fastsec.errors import Aborted


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
