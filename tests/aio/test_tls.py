"""TLS over memory BIOs: data, back-pressure, resumption, and every refusal."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading

import pytest
from tlsends import End, pair
from tlsfiles import DAY, Authority

from fastsec.aio import tls_config
from fastsec.aio.tls import PIECE, TLSConfig, TLSLayer, TLSRules
from fastsec.aio.tls_renewal import OPEN, Step
from fastsec.errors import Aborted, ConfigError
from fastsec.pki.revocation import GIVEN


def test_echo_of_every_size(run, authority) -> None:
    async def main() -> None:
        async with pair(authority.config("server"), authority.config("client"), echo=True) as (near, ends):
            await near.made.wait()
            sent = b""
            for size in (1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7, 40 * PIECE):
                block = bytes(range(256)) * (size // 256 + 1)
                near.transport.write(block[:size])
                sent += block[:size]
                assert await near.until(len(sent)) == sent
            near.transport.writelines([b"one", b"two", b""])
            assert await near.until(len(sent) + 6) == sent + b"onetwo"
            connection = near.transport.get_extra_info("ssl_object")
            assert connection.version() == "TLSv1.3"
            assert near.transport.get_extra_info("peercert")["subject"] == ((("commonName", "server"),),)
            near.transport.close()
            assert near.transport.is_closing()
            assert await ends[0].lost is None
            assert await near.lost is None
            near.transport.write(b"after the end: no effect, no error")

    run(main())


def test_tls_1_2(run, authority) -> None:
    async def main() -> None:
        client = authority.config("client")
        client.client_context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with pair(authority.config("server"), client, echo=True) as (near, _):
            await near.made.wait()
            near.transport.write(b"x" * 50_000)
            await near.until(50_000)
            assert near.transport.get_extra_info("ssl_object").version() == "TLSv1.2"

    run(main())


def test_versions_before_1_2_are_refused(run, authority) -> None:
    async def main() -> None:
        client = authority.config("client")
        client.client_context.minimum_version = ssl.TLSVersion.TLSv1
        client.client_context.maximum_version = ssl.TLSVersion.TLSv1_1
        client.client_context.set_ciphers("ALL:@SECLEVEL=0")
        async with pair(authority.config("server"), client) as (near, ends):
            assert isinstance(await near.lost, Aborted)
            assert isinstance(await ends[0].lost, Aborted)
            assert not ends[0].made.is_set()

    with pytest.warns(DeprecationWarning, match="TLSv1"):
        run(main())


def test_one_octet_at_a_time(run, authority, monkeypatch) -> None:
    """Every record arrives in fragments of one octet, in both directions."""
    whole = TLSLayer.data_received

    def split(self, data: bytes) -> None:
        if self._state == OPEN:
            for octet in data:
                whole(self, bytes([octet]))
        else:
            whole(self, data)

    async def main() -> None:
        monkeypatch.setattr(TLSLayer, "data_received", split)
        async with pair(authority.config("server"), authority.config("client"), echo=True) as (near, _):
            await near.made.wait()
            near.transport.write(b"fragment" * 100)
            assert await near.until(800) == b"fragment" * 100

    run(main())


def records(sender: End, *plain: bytes) -> bytes:
    """``plain`` as TLS records, one each, not sent."""
    layer = sender.transport
    for data in plain:
        layer._ssl.write(data)
    return layer._outgoing.read()


PLAIN = [b"a" * 5, b"b" * 300, b"c", b"d" * 40]


@pytest.mark.parametrize("step", [7, 22, 23, 27, 62, 350, 10_000])
def test_small_chunks_cut_anywhere(run, authority, step) -> None:
    async def main() -> None:
        async with pair(authority.config("server"), authority.config("client")) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            [far] = ends
            for _ in range(3):
                octets = records(near, *PLAIN)
                for start in range(0, len(octets), step):
                    far.transport.data_received(octets[start : start + step])
            assert bytes(far.data) == b"".join(PLAIN) * 3
            if step > len(octets):
                assert far.reads == 3 * 2  # a record by itself, the others at once

    run(main())


def test_pausing_after_the_first_record_of_a_small_chunk(run, authority) -> None:
    async def main() -> None:
        async with pair(authority.config("server"), authority.config("client")) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            [far] = ends
            whole = far.data_received

            def pausing(data: bytes) -> None:
                far.transport.pause_reading()
                whole(data)

            far.data_received = pausing
            far.transport.data_received(records(near, *PLAIN))
            await asyncio.sleep(0)
            assert bytes(far.data) == PLAIN[0]
            far.transport.resume_reading()
            assert await far.until(346) == b"".join(PLAIN)

    run(main())


def test_the_end_in_the_chunk_of_the_last_data(run, authority) -> None:
    """Towards a peer that does not begin anew, close_notify is the end."""

    async def main() -> None:
        foreign = TLSRules(rehandshake=False)
        async with pair(authority.config("server"), authority.config("client", rules=foreign)) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            [far] = ends
            octets = records(near, *PLAIN)
            with contextlib.suppress(ssl.SSLError):
                near.transport._ssl.unwrap()
            far.transport.data_received(octets + near.transport._outgoing.read())
            assert bytes(far.data) == b"".join(PLAIN)
            assert far.transport.is_closing()
            assert await far.lost is None

    run(main())


def test_the_end_alone_while_paused(run, authority) -> None:
    async def main() -> None:
        foreign = TLSRules(rehandshake=False)
        async with pair(authority.config("server"), authority.config("client", rules=foreign)) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            [far] = ends
            with contextlib.suppress(ssl.SSLError):
                near.transport._ssl.unwrap()
            far.transport.pause_reading()
            far.transport.data_received(near.transport._outgoing.read())  # was under way when it paused
            assert not far.transport.is_closing()
            far.transport.resume_reading()
            assert await far.lost is None

    run(main())


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_record_in_a_small_chunk(run, authority, which) -> None:
    async def main() -> None:
        async with pair(authority.config("server"), authority.config("client")) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            [far] = ends
            octets = bytearray(records(near, *PLAIN))
            octets[[12, -3][which]] ^= 1
            far.transport.data_received(bytes(octets))
            assert bytes(far.data) == [b"", b"".join(PLAIN[:-1])][which]
            error = await far.lost
            assert isinstance(error, Aborted)
            assert error.reason.startswith("TLS")

    run(main())


def test_sessions_are_resumed(run, authority) -> None:
    async def main() -> None:
        server, client = authority.config("server"), authority.config("client")
        for resumed in (False, True, True):
            async with pair(server, client, echo=True, address="osi://one") as (near, ends):
                await near.made.wait()
                near.transport.write(b"x")
                await near.until(1)
                assert near.transport.resumed is resumed
                assert ends[0].transport.resumed is resumed
        async with pair(server, client, address="osi://two") as (near, _):
            await near.made.wait()
            assert near.transport.resumed is False
        client._sessions["osi://one"] = (client.session("osi://one"), -client.rules.resumption, "TLSv1.3")
        assert client.session("osi://one") is None  # its time is over

    run(main())


def test_the_store_of_sessions_is_bounded(authority, monkeypatch) -> None:
    monkeypatch.setattr(tls_config, "SESSIONS_MAX", 2)
    config = authority.config("client")
    config.keep_session("none", None)
    for address in ("a", "b", "c"):
        config.keep_session(address, object())
    assert [config.session(address) is not None for address in ("a", "b", "c")] == [False, True, True]


def test_a_resumed_session_is_checked_again(run, authority) -> None:
    """The certificate is revoked between two connections: resumption does not help."""

    async def main() -> None:
        authority.issue("leaving")
        server, client = authority.config("server"), authority.config("leaving")
        async with pair(server, client, echo=True, address="x") as (near, _):
            await near.made.wait()
            near.transport.write(b"x")
            await near.until(1)
        crl = authority.crl(_certificate(authority, "leaving"), name="leaving")
        server.revocation = authority.config("server", crls=[crl]).revocation
        async with pair(server, client, address="x") as (near, ends):
            error = await ends[0].lost
            assert "revoked" in str(error)
            assert not ends[0].made.is_set()

    run(main())


def _certificate(authority: Authority, name: str):
    from cryptography import x509

    return x509.load_pem_x509_certificate((authority.folder / f"{name}.pem").read_bytes())


def test_pause_and_resume(run, authority) -> None:
    async def main() -> None:
        async with pair(authority.config("server"), authority.config("client")) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            far = ends[0]
            far.transport.pause_reading()
            far.transport.pause_reading()
            block = bytes(1_000_000)
            for _ in range(20):
                near.transport.write(block)
            await near.full.wait()
            for _ in range(20):
                await asyncio.sleep(0)
            assert far.reads == 0
            assert not near.free.is_set()
            far.transport.resume_reading()
            assert len(await far.until(20_000_000)) == 20_000_000
            await near.free.wait()

    run(main())


def test_pausing_inside_a_read_keeps_the_rest(run, authority) -> None:
    """The protocol pauses at the first piece; nothing is lost, nothing comes before it resumes."""

    async def main() -> None:
        async with pair(authority.config("server"), authority.config("client")) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            far = ends[0]
            whole = far.data_received

            def pausing(data: bytes) -> None:
                far.transport.pause_reading()
                whole(data)

            far.data_received = pausing
            sent = bytes(range(256)) * 2000
            near.transport.write(sent)
            while len(far.data) < len(sent):
                reads = far.reads
                far.got.clear()
                await far.got.wait()
                for _ in range(3):
                    await asyncio.sleep(0)
                assert far.reads <= reads + 1
                far.transport.resume_reading()
            assert bytes(far.data) == sent

    run(main())


@pytest.mark.parametrize("client", ["stranger", "expired", "future", "huge", "revoked"])
def test_the_server_refuses(run, authority, tmp_path, client) -> None:
    other = Authority(tmp_path, "other")
    crls = []
    anchors = [authority.anchor]
    if client == "stranger":
        other.issue(client)
        config = TLSConfig(tmp_path / "stranger.pem", tmp_path / "stranger.key", [authority.anchor])
    else:
        span = {"expired": (-2 * DAY, -DAY), "future": (DAY, 2 * DAY)}.get(client, (-DAY, DAY))
        certificate = authority.issue(client, start=span[0], end=span[1], padding=8192 if client == "huge" else 0)
        if client == "revoked":
            crls = [authority.crl(certificate, name="revoked")]
        config = authority.config(client)

    async def main() -> None:
        async with pair(authority.config("server", crls=crls, anchors=anchors), config) as (near, ends):
            error = await ends[0].lost
            assert isinstance(error, Aborted)
            assert str(error).startswith("association aborted by provider: TLS: ")
            assert not ends[0].made.is_set()
            if near.transport is not None:
                near.transport.close()
            await near.lost

    run(main())


def test_a_client_without_certificate_is_refused(run, authority) -> None:
    async def main() -> None:
        client = authority.config("client")
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        bare.check_hostname = False
        bare.load_verify_locations(authority.anchor)
        client._client = bare
        async with pair(authority.config("server"), client) as (_, ends):
            assert "peer did not return a certificate" in str(await ends[0].lost)
            assert not ends[0].made.is_set()

    run(main())


@pytest.mark.parametrize("server", ["stranger", "expired", "elsewhere"])
def test_the_client_refuses(run, authority, tmp_path, server) -> None:
    hostname = None
    if server == "stranger":
        issuer = Authority(tmp_path, "other")
        issuer.issue(server)
    else:
        issuer = authority
        issuer.issue(server, host="elsewhere.example", start=-2 * DAY, end=-DAY if server == "expired" else DAY)
        hostname = "localhost" if server == "elsewhere" else None
    config = TLSConfig(issuer.folder / f"{server}.pem", issuer.folder / f"{server}.key", [authority.anchor])

    async def main() -> None:
        client = authority.config("client", server_hostname=hostname)
        async with pair(config, client) as (near, ends):
            error = await near.lost
            assert isinstance(error, Aborted)
            assert "TLS" in error.reason
            assert not near.made.is_set()
            assert await ends[0].lost is not None

    run(main())


def test_the_right_hostname_is_accepted(run, authority) -> None:
    async def main() -> None:
        client = authority.config("client", server_hostname="localhost")
        async with pair(authority.config("server"), client) as (near, _):
            await near.made.wait()

    run(main())


def test_a_plain_client_on_the_tls_port(run, authority) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ends: list[End] = []

        def accept() -> TLSLayer:
            ends.append(End())
            return TLSLayer(ends[0], authority.config("server"), server_side=True)

        listener = await loop.create_server(accept, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        writer.write(bytes.fromhex("0300001611e00000000100c0010dc2020001c1020001"))
        assert isinstance(await reader.read(), bytes)  # an alert perhaps, then the end
        error = await ends[0].lost
        assert "TLS" in str(error)
        assert not ends[0].made.is_set()
        writer.close()
        listener.close()
        await listener.wait_closed()

    run(main())


def test_corruption_ends_the_connection(run, authority) -> None:
    async def main() -> None:
        async with pair(authority.config("server"), authority.config("client")) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            near.transport._below.write(b"\x17\x03\x03\x00\x20" + bytes(32))
            assert "TLS" in str(await ends[0].lost)
            assert not ends[0].data

    run(main())


def test_loss_and_abort_during_the_handshake(run, authority) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)  # never answers
        address = listener.sockets[0].getsockname()
        near = End()
        transport, _ = await loop.create_connection(
            lambda: TLSLayer(near, authority.config("client"), server_side=False), *address
        )
        transport.abort()
        assert "during the TLS handshake" in str(await near.lost)
        for end_it in (TLSLayer.abort, TLSLayer.close):
            near = End()
            _, layer = await loop.create_connection(
                lambda near=near: TLSLayer(near, authority.config("client"), server_side=False), *address
            )
            end_it(layer)
            assert "given up during the TLS handshake" in str(await near.lost)
        layer = TLSLayer(End(), authority.config("client"), server_side=False)
        layer.close()
        assert layer.is_closing()
        listener.close()
        await listener.wait_closed()

    run(main())


def test_the_handshake_runs_in_worker_threads(run, authority, monkeypatch) -> None:
    seen = set()
    step = Step.run

    def noting(self) -> None:
        seen.add(threading.current_thread() is threading.main_thread())
        step(self)

    monkeypatch.setattr(Step, "run", noting)

    async def main() -> None:
        async with pair(authority.config("server"), authority.config("client")) as (near, _):
            await near.made.wait()

    run(main())
    assert seen == {False}


def test_configuration_errors_name_the_file(authority, tmp_path) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        authority.config("client", anchors=[])
    with pytest.raises(ConfigError, match=r"nothere\.pem"):
        authority.config("client", anchors=[tmp_path / "nothere.pem"])
    with pytest.raises(ConfigError, match="key values mismatch"):
        TLSConfig(authority.folder / "client.pem", authority.folder / "server.key", [authority.anchor])
    with pytest.raises(ConfigError, match=r"nothere\.crl"):
        authority.config("client", crls=[tmp_path / "nothere.crl"])


def test_crl_missing_or_expired_is_a_warning(run, authority, caplog) -> None:
    expired = authority.crl(name="expired", end=-DAY)

    async def main() -> None:
        server = authority.config("server", crls=[expired])
        async with pair(server, authority.config("client")) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
        server.revocation.known.drop(GIVEN)
        async with pair(server, authority.config("client")) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()

    run(main())
    messages = [record.getMessage() for record in caplog.records]
    assert sum("TLS_CRL_EXP" in message for message in messages) == 1
    assert sum("TLS_NO_CRL" in message for message in messages) == 1
