"""The themes of IEC TS 62351-100-3 (conformance of 62351-3 in a real protocol): normal and negative, and their events.

Peers are OpenSSL's s_client and s_server and stunnel, as processes on loopback, and octets written by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tlsends import pair
from tlspeers import (
    OPENSSL,
    STUNNEL,
    WAIT,
    Pki,
    client_hello,
    dial,
    listening,
    made,
    names,
    needs_openssl,
    needs_stunnel,
    process,
    s_client,
    s_server,
    send_raw,
)

from fastsec.aio.tls import TLSRules
from fastsec.aio.tls_profile import BY_NAME, SUITES, USUAL
from fastsec.errors import Aborted


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    """An authority with EC and RSA leaves."""
    made_ = Pki(tmp_path_factory.mktemp("conformance"), "root")
    made_.issue("server")
    made_.issue("client")
    made_.odd("rsa", rsa.generate_private_key(65537, 2048))
    return made_


# --- protocol versions ----------------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.event("IEC62351-3:1.1")
def test_versions_normal(run, pki, version) -> None:
    async def main() -> None:
        events = []
        printed = await s_client(
            pki.config("server", sink=events.append), pki, "-tls1_" + version[-1], say=b"hello, fastsec\n"
        )
        assert b"Verification: OK" in printed
        assert made(events, "TLS_HS_SUCCESS")["version"] == f"TLSv{version}"
        events.clear()
        async with s_server(pki, "-tls1_" + version[-1]) as (port, peer):
            near = await dial(pki.config("client", sink=events.append), port)
            await asyncio.wait_for(near.made.wait(), WAIT)
            near.transport.write(b"hello, OpenSSL\n")
            await asyncio.wait_for(peer.stdout.readuntil(b"hello, OpenSSL\n"), WAIT)
            peer.stdin.write(b"hello again\n")
            assert await asyncio.wait_for(near.until(12), WAIT) == b"hello again\n"
            near.transport.close()
            await near.lost
        assert made(events, "TLS_HS_SUCCESS")["version"] == f"TLSv{version}"

    run(main(), seconds=90)


@needs_openssl
@pytest.mark.event("IEC62351-3:1.2")
@pytest.mark.parametrize("version", ["1", "1_1"])
def test_versions_negative_before_1_2(run, pki, version) -> None:
    async def main() -> None:
        events = []
        server = pki.config("server", sink=events.append)
        await s_client(server, pki, f"-tls{version}", "-cipher", "ALL:@SECLEVEL=0")
        assert names(events) == ["TLS_DEPRECATED_VERSION"]
        assert made(events, "TLS_DEPRECATED_VERSION")["version"] == f"TLS 1.{version[-1] if '_' in version else 0}"
        events.clear()
        async with s_server(pki, f"-tls{version}", "-cipher", "ALL:@SECLEVEL=0") as (port, _):
            near = await dial(pki.config("client", sink=events.append), port)
            assert isinstance(await near.lost, Aborted)
        assert names(events) == ["TLS_DEPRECATED_VERSION"]

    run(main(), seconds=90)


@pytest.mark.event("IEC62351-3:1.4")
@pytest.mark.parametrize(
    "octets",
    [
        client_hello(0x0300),
        bytes.fromhex("802e0100020015000000100100800300800700c0060040020080040080") + bytes(24),
    ],
    ids=["SSL 3.0", "SSL 2.0"],
)
def test_versions_negative_ssl(run, pki, octets) -> None:
    async def main() -> None:
        events = []
        assert isinstance(await send_raw(pki.config("server", sink=events.append), octets), Aborted)
        assert names(events) == ["TLS_DISALLOWED_VERSION"]

    run(main(), seconds=60)


@needs_openssl
@pytest.mark.event("IEC62351-3:1.5")
@pytest.mark.parametrize("who", ["server", "client"])
def test_versions_negative_change_at_resumption(run, pki, who) -> None:
    """A session of TLS 1.3 and then TLS 1.2: refused by who sees it; the client's next attempt is a fresh one."""

    async def main() -> None:
        events = []
        client = pki.config("client", sink=events.append if who == "client" else None)
        async with pair(pki.config("server"), client, echo=True, address="one") as (near, _):
            await near.made.wait()
            near.transport.write(b"x")
            await near.until(1)
        older = pki.config("server", rules=TLSRules(versions=("1.2",)), sink=events.append)
        if who == "server":
            async with pair(older, client, address="one") as (near, _):
                assert isinstance(await near.lost, Aborted)
        else:
            async with s_server(pki, "-tls1_2") as (port, _):
                near = await dial(client, port, "one")
                assert "TLSv1.3 before and is TLSv1.2 now" in str(await asyncio.wait_for(near.lost, WAIT))
        assert names(events)[-1] == "TLS_VERSION_CHANGE"
        async with pair(older, client, address="one") as (near, _):
            await near.made.wait()

    run(main(), seconds=60)


# --- cipher suites --------------------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.parametrize("name", [suite.name for suite in SUITES if suite.chosen])
def test_suites_normal(run, pki, name) -> None:
    """Each suite that can be had, with s_client and s_server; that without forward secrecy only where it is named."""
    suite = BY_NAME[name]
    own = "server" if "ECDSA" in name else "rsa"
    rules = TLSRules(suites=(name,)) if name not in USUAL else TLSRules()

    async def main() -> None:
        events = []
        server = pki.config(own, rules=rules, sink=events.append)
        await s_client(server, pki, "-tls1_2", "-cipher", suite.openssl, say=b"with this suite\n")
        assert made(events, "TLS_HS_SUCCESS")["suite"] == name
        events.clear()
        async with s_server(pki, "-tls1_2", "-cipher", suite.openssl, name=own) as (port, _):
            near = await dial(pki.config("client", rules=rules, sink=events.append), port)
            await asyncio.wait_for(near.made.wait(), WAIT)
            near.transport.abort()
            await near.lost
        assert made(events, "TLS_HS_SUCCESS")["suite"] == name

    run(main(), seconds=90)


@needs_openssl
@pytest.mark.event("IEC62351-3:1.9")
@pytest.mark.parametrize(
    "cipher", ["AES128-SHA256", "AES128-SHA", "NULL-SHA256", "AECDH-AES128-SHA", "CAMELLIA128-SHA256"]
)
def test_suites_negative(run, pki, cipher) -> None:
    """What is weak or unknown to the profile is refused, and said; also by the client."""

    async def main() -> None:
        events = []
        server = pki.config("rsa", sink=events.append)
        await s_client(server, pki, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
        assert "TLS_DISALLOWED_CIPHER" in names(events)
        assert "TLS_HS_SUCCESS" not in names(events)
        events.clear()
        async with s_server(pki, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0", name="rsa") as (port, _):
            near = await dial(pki.config("client", sink=events.append), port)
            assert isinstance(await asyncio.wait_for(near.lost, WAIT), Aborted)
        assert names(events) == ["TLS_DISALLOWED_CIPHER"]

    run(main(), seconds=90)


@needs_openssl
def test_suites_order_is_the_servers(run, pki) -> None:
    async def main() -> None:
        for first in USUAL[:1] + USUAL[2:3]:
            events = []
            order = (first, *(name for name in USUAL if name != first))
            server = pki.config("server", rules=TLSRules(suites=order), sink=events.append)
            ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"
            await s_client(server, pki, "-tls1_2", "-cipher", ciphers, say=b"choose\n")
            assert made(events, "TLS_HS_SUCCESS")["suite"] == first

    run(main(), seconds=90)


def test_suites_table(pki) -> None:
    """What is configured is what OpenSSL has on: nothing else of TLS 1.2, and no suite that lacks encryption."""
    for rules in (TLSRules(), TLSRules(suites=(*USUAL, "TLS_RSA_WITH_AES_128_CBC_SHA256"))):
        context = pki.config("server", rules=rules).server_context
        on = [entry["name"] for entry in context.get_ciphers() if entry["protocol"] == "TLSv1.2"]
        assert on == [BY_NAME[name].openssl for name in rules.suites]
        thirteen = {entry["name"] for entry in context.get_ciphers() if entry["protocol"] == "TLSv1.3"}
        assert thirteen == {suite.openssl for suite in SUITES if suite.version == "1.3" and suite.usual}
        assert all(entry["aead"] or entry["name"] == "AES128-SHA256" for entry in context.get_ciphers())
    assert not any(word in suite.openssl for suite in SUITES if suite.usual for word in ("NULL", "3DES", "CBC", "RC4"))


# --- what a ClientHello of TLS 1.2 or 1.3 lacks ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extensions", "wanted"),
    [
        pytest.param({0xFF01: None}, "TLS_NO_RENEG_SIG", marks=pytest.mark.event("IEC62351-3:1.12")),
        pytest.param({35: None}, "TLS_NO_RENEG_TICKET", marks=pytest.mark.event("IEC62351-3:1.13")),
        pytest.param(
            {3: b"\x00\x15\x03" + bytes(20)}, "TLS_NO_TR_CA_MATCH_S", marks=pytest.mark.event("IEC62351-3:1.14")
        ),
        pytest.param({13: None}, "TLS_NO_SIG_ALGO_EXT", marks=pytest.mark.event("IEC62351-3:1.15")),
        pytest.param(
            {13: bytes.fromhex("000402030201")}, "TLS_DEP_SIG_ALGO", marks=pytest.mark.event("IEC62351-3:1.16")
        ),
    ],
)
def test_hello_of_1_2(run, pki, extensions, wanted) -> None:
    async def main() -> None:
        events = []
        server = pki.config("server", sink=events.append)
        octets = client_hello(extensions=extensions)
        # The alert makes an end of it; with what went before it has been a handshake of TLS 1.2.
        await send_raw(server, octets + b"\x15\x03\x03\x00\x02\x02\x00")
        assert wanted in names(events)
        events.clear()
        await send_raw(server, client_hello() + b"\x15\x03\x03\x00\x02\x02\x00")
        assert not events

    run(main(), seconds=60)


@needs_openssl
@pytest.mark.event("IEC62351-3:1.18")
def test_hello_without_encrypt_then_mac(run, pki) -> None:
    async def main() -> None:
        events = []
        rules = TLSRules(suites=("TLS_RSA_WITH_AES_128_CBC_SHA256",))
        server = pki.config("rsa", rules=rules, sink=events.append)
        more = ("-tls1_2", "-cipher", "AES128-SHA256")
        await s_client(server, pki, *more, say=b"with it\n")
        assert names(events) == ["TLS_HS_SUCCESS"]
        (pki.folder / "noetm.cnf").write_text(
            "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nOptions = -EncryptThenMac\n"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENSSL_CONF", str(pki.folder / "noetm.cnf"))
            await s_client(server, pki, *more, say=b"without it\n")
        assert "TLS_NO_ENCRYPT_THEN_MAC" in names(events)

    run(main(), seconds=90)


@pytest.mark.parametrize(
    ("extensions", "wanted"),
    [
        pytest.param({41: bytes(50), 45: b"\x01\x00"}, "TLS_NO_EPSK_MODE", marks=pytest.mark.event("IEC62351-3:1.17")),
        pytest.param({42: b""}, "TLS_EARLY_DATA", marks=pytest.mark.event("IEC62351-3:1.21")),
    ],
)
def test_hello_of_1_3(run, pki, extensions, wanted) -> None:
    async def main() -> None:
        events = []
        offered = {43: bytes.fromhex("020304"), **extensions}
        await send_raw(pki.config("server", sink=events.append), client_hello(suites=(0x1301,), extensions=offered))
        assert wanted in names(events)

    run(main(), seconds=60)


@needs_openssl
@pytest.mark.event("IEC62351-3:1.20")
def test_hello_with_foreign_authorities(run, pki, tmp_path) -> None:
    """certificate_authorities of TLS 1.3: ours, and only another one."""
    other = Pki(tmp_path, "other")

    async def main() -> None:
        events = []
        server = pki.config("server", sink=events.append)
        await s_client(server, pki, "-tls1_3", "-requestCAfile", "root.pem", say=b"ours\n")
        assert names(events) == ["TLS_HS_SUCCESS"]
        await s_client(server, pki, "-tls1_3", "-requestCAfile", str(other.anchor), say=b"not ours\n")
        assert "TLS_NO_TR_CA_MATCH_SC" in names(events)

    run(main(), seconds=90)


@needs_openssl
@pytest.mark.event("IEC62351-3:1.12")
def test_a_server_without_secure_renegotiation(run, pki) -> None:
    """RFC 5746: a server that does not signal it is refused. Its ServerHello is written by hand."""

    async def main() -> None:
        async def old(reader, writer) -> None:
            await reader.read(4096)
            body = b"\x03\x03" + bytes(32) + b"\x00" + b"\xc0\x2b" + b"\x00"
            writer.write(
                b"\x16\x03\x03" + struct.pack("!H", len(body) + 4) + b"\x02" + len(body).to_bytes(3, "big") + body
            )
            await reader.read(4096)
            writer.close()

        server = await asyncio.start_server(old, "127.0.0.1", 0)
        events = []
        near = await dial(pki.config("client", sink=events.append), server.sockets[0].getsockname()[1])
        assert isinstance(await asyncio.wait_for(near.lost, WAIT), Aborted)
        assert names(events) == ["TLS_NO_RENEG_SIG"]
        server.close()
        await server.wait_closed()

    run(main(), seconds=60)


# --- resumption -----------------------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.event("IEC62351-3:1.10")
def test_resumption_with_foreign_clients(run, pki, version) -> None:
    """s_client resumes within the time, and makes a full handshake after it."""

    async def main() -> None:
        events = []
        server = pki.config("server", sink=events.append)
        more = (version, "-sess_out", "session.pem")
        await s_client(server, pki, *more, say=b"first\n")
        await s_client(server, pki, version, "-sess_in", "session.pem", say=b"second\n")
        assert [dict(event.params)["handshake"] for event in events] == ["full", "resumed"]
        events.clear()
        server.drop_sessions()  # as after the time, or with new revocation lists
        await s_client(server, pki, version, "-sess_in", "session.pem", say=b"third\n")
        assert names(events) == ["TLS_SESSIONID_EXPIRED_FULL_HS", "TLS_HS_SUCCESS"]
        assert made(events, "TLS_HS_SUCCESS")["handshake"] == "full"

    run(main(), seconds=90)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_resumption_time_is_over(run, pki, version) -> None:
    """Neither side resumes a session older than its limit, nor a chain of sessions resumed one from another."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        short = TLSRules(versions=(version,), resumption=2.0)
        seldom = TLSRules(versions=(version,))
        for strict in ("server", "client"):
            rules = {side: short if side == strict else seldom for side in ("server", "client")}
            server = pki.config("server", rules=rules["server"])
            client = pki.config("client", rules=rules["client"])
            kinds: list[bool] = []
            start = latest = 0.0
            while latest < start + 2.0:
                latest = loop.time()
                async with pair(server, client, echo=True, address="a") as (near, _):
                    await near.made.wait()
                    kinds.append(near.transport.resumed)
                    near.transport.write(b"x")
                    await near.until(1)
                start = start or loop.time()
                await asyncio.sleep(0.2)
            assert kinds[0] is False
            assert False in kinds[1:]  # the chain was cut at the latest when the first handshake was 2 s old


def test_resumption_ends_with_other_files(run, tmp_path) -> None:
    """The certificate files have changed, and nobody has said so: no new one is used, and nothing is resumed."""
    pki = Pki(tmp_path, "root")
    pki.issue("server")
    pki.issue("client")

    async def main() -> None:
        server, client = pki.config("server"), pki.config("client")
        was = server.certificate
        pki.issue("server")
        server.drop_sessions()
        for _ in range(3):
            async with pair(server, client, echo=True, address="a") as (near, _):
                await near.made.wait()
                near.transport.write(b"x")
                await near.until(1)
                assert near.transport.resumed is False
                assert near.transport.get_extra_info("peer_certificate") == was

    run(main(), seconds=60)


# --- integrity of records -------------------------------------------------------------------------------------------


@pytest.mark.event("IEC62351-14:4.5")
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_altered_records(run, pki, version) -> None:
    async def main() -> None:
        events = []
        server = pki.config("server", rules=TLSRules(versions=(version,)), sink=events.append)
        async with pair(server, pki.config("client")) as (near, ends):
            await near.made.wait()
            await ends[0].made.wait()
            layer = near.transport
            layer._ssl.write(b"a command")
            octets = bytearray(layer._outgoing.read())
            octets[-1] ^= 1
            layer._below.write(bytes(octets))
            assert isinstance(await ends[0].lost, Aborted)
            assert not ends[0].data
        assert events[-1].id == "IEC62351-14:4.5"

    run(main())


# --- renegotiation --------------------------------------------------------------------------------------------------


@needs_openssl
def test_renegotiation_asked_for_by_the_peer(run, pki) -> None:
    """s_client's R: it is not entered into, whether secure or not; data go on."""

    async def main() -> None:
        events = []
        server = pki.config("server", sink=events.append)
        async with listening(server) as (port, ends):
            own = ("-cert", "client.pem", "-key", "client.key", "-CAfile", "root.pem")
            command = (OPENSSL, "s_client", "-connect", f"127.0.0.1:{port}", *own, "-tls1_2")
            async with process(*command, folder=pki.folder) as peer:
                peer.stdin.write(b"before\n")
                await asyncio.wait_for(peer.stdout.readuntil(b"before\n"), WAIT)
                peer.stdin.write(b"R\n")
                printed = await asyncio.wait_for(peer.stdout.readuntil(b"RENEGOTIATING"), WAIT)
                assert printed
                peer.stdin.close()
                await asyncio.wait_for(ends[0].lost, WAIT)
        assert names(events).count("TLS_HS_SUCCESS") == 1

    run(main(), seconds=60)


# --- stunnel --------------------------------------------------------------------------------------------------------


@needs_stunnel
@pytest.mark.parametrize("side", ["client", "server"])
def test_stunnel(run, pki, side) -> None:
    """Through stunnel with mutual certificates, fastsec at the other end, both ways round."""

    async def main() -> None:
        events = []
        config = pki.config("server" if side == "client" else "client", sink=events.append)
        async with contextlib.AsyncExitStack() as stack:
            port, ends = await stack.enter_async_context(listening(config)) if side == "client" else (0, [])
            echo = await asyncio.start_server(_echo, "127.0.0.1", 0)
            stack.callback(echo.close)
            inner = echo.sockets[0].getsockname()[1]
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                own = probe.getsockname()[1]
            text = "foreground = yes\npid =\n[x]\n" + f"cert = {side}.pem\nkey = {side}.key\nCAfile = root.pem\n"
            text += "verifyChain = yes\n" + ("client = yes\n" if side == "client" else "")
            text += f"accept = 127.0.0.1:{own}\nconnect = 127.0.0.1:{port if side == 'client' else inner}\n"
            (pki.folder / f"{side}.conf").write_text(text)
            peer = await stack.enter_async_context(process(STUNNEL, f"{side}.conf", folder=pki.folder))
            line = b""
            while b"Configuration successful" not in line:
                line = await asyncio.wait_for(peer.stdout.readline(), WAIT)
                assert line, "stunnel ended"
            reader, writer = None, None
            if side == "client":
                for _ in range(200):
                    try:
                        reader, writer = await asyncio.open_connection("127.0.0.1", own)
                        break
                    except OSError:
                        await asyncio.sleep(0.05)
                assert reader is not None
                writer.write(b"through the tunnel")
                assert await asyncio.wait_for(reader.readexactly(18), WAIT) == b"through the tunnel"
                writer.close()
                await asyncio.wait_for(ends[0].lost, WAIT)
            else:
                near = None
                for _ in range(200):
                    try:
                        near = await dial(config, own)
                        break
                    except OSError:
                        await asyncio.sleep(0.05)
                await asyncio.wait_for(near.made.wait(), WAIT)
                near.transport.write(b"through the tunnel")
                assert await asyncio.wait_for(near.until(18), WAIT) == b"through the tunnel"
                near.transport.close()
                await asyncio.wait_for(near.lost, WAIT)
        assert names(events) == ["TLS_HS_SUCCESS"]

    run(main(), seconds=90)


async def _echo(reader, writer) -> None:
    while data := await reader.read(4096):
        writer.write(data)
    writer.close()
