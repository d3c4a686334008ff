"""The themes of IEC TS 62351-100-3 (conformance of 62351-3 in a real protocol): normal and negative, and their events.

Peers are OpenSSL's s_client and s_server and stunnel, as processes on loopback, and octets written by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tlsends import End, pair
from tlsfiles import DAY, Authority, usage

from fastsec.aio.tls import TLSConfig, TLSLayer, TLSRules
from fastsec.aio.tls_profile import BY_NAME, SUITES, USUAL
from fastsec.errors import Aborted, ConfigError
from fastsec.pki.credential import load_certificates

OPENSSL = shutil.which("openssl")
STUNNEL = shutil.which("stunnel") or shutil.which("stunnel4")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
needs_stunnel = pytest.mark.skipif(STUNNEL is None, reason="stunnel is not installed")
WAIT = 30


def names(events) -> list[str]:
    return [event.mnemonic for event in events]


def made(events, mnemonic: str) -> dict[str, str]:
    """The parameters of the only event of this name."""
    (found,) = [event for event in events if event.mnemonic == mnemonic]
    return dict(found.params)


class Pki(Authority):
    """Certificates of every kind, good and bad."""

    def odd(self, name: str, key, *, digest=None, issuer=None, extensions=(), start=-DAY, end=DAY) -> tuple[Path, Path]:
        """Write a leaf with this key and these extensions; its files."""
        digest = digest or hashes.SHA256()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject if issuer is None else issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + start)
            .not_valid_after(self.now + end)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        certificate = builder.sign(self.key, digest)
        return self.write(name, certificate, key)

    def write(self, name: str, certificate, key) -> tuple[Path, Path]:
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


@pytest.fixture(scope="module")
def pki(tmp_path_factory) -> Pki:
    """An authority with EC and RSA leaves."""
    made_ = Pki(tmp_path_factory.mktemp("conformance"), "root")
    made_.issue("server")
    made_.issue("client")
    made_.odd("rsa", rsa.generate_private_key(65537, 2048))
    return made_


@contextlib.asynccontextmanager
async def listening(config: TLSConfig):
    """Port, and the ends that were accepted; they echo."""
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


@contextlib.asynccontextmanager
async def process(*arguments: str, folder: Path):
    """A peer in a process of its own."""
    peer = await asyncio.create_subprocess_exec(
        *arguments, cwd=folder, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield peer
    finally:
        if peer.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                peer.kill()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(peer.communicate(), WAIT)


async def s_client(config: TLSConfig, pki: Pki, *more: str, name: str = "client", say: bytes = b"") -> bytes:
    """Connect s_client to a listener with ``config``, say something, and give what it printed."""
    async with listening(config) as (port, ends):
        own = () if not name else ("-cert", f"{name}.pem", "-key", f"{name}.key")
        command = (OPENSSL, "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", "root.pem", *own, *more)
        async with process(*command, folder=pki.folder) as peer:
            if not say:
                peer.stdin.close()
                printed = await asyncio.wait_for(peer.stdout.read(), WAIT)
            else:
                peer.stdin.write(say)
                printed = await asyncio.wait_for(peer.stdout.readuntil(say), WAIT)
                peer.stdin.close()
                printed += await asyncio.wait_for(peer.stdout.read(), WAIT)
            for end in ends:
                await asyncio.wait_for(end.lost, WAIT)
            return printed


@contextlib.asynccontextmanager
async def s_server(pki: Pki, *more: str, name: str = "server"):
    """An s_server that asks for a certificate; its port."""
    own = ("-cert", f"{name}.pem", "-key", f"{name}.key")
    command = (OPENSSL, "s_server", "-accept", "127.0.0.1:0", *own, "-CAfile", "root.pem", "-Verify", "3", *more)
    async with process(*command, folder=pki.folder) as peer:
        line = b""
        while not line.startswith(b"ACCEPT"):
            line = await asyncio.wait_for(peer.stdout.readline(), WAIT)
            assert line, "s_server ended"
        yield int(line.rpartition(b":")[2]), peer


async def dial(config: TLSConfig, port: int, address: str = "") -> End:
    near = End()
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: TLSLayer(near, config, server_side=False, address=address), "127.0.0.1", port)
    return near


async def send_raw(config: TLSConfig, octets: bytes) -> Exception | None:
    """Send ``octets`` to a listener; how its connection ended."""
    async with listening(config) as (port, ends):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(octets)
        await writer.drain()
        while await asyncio.wait_for(reader.read(65536), WAIT):
            pass
        writer.close()
        assert not ends[0].made.is_set()
        return await asyncio.wait_for(ends[0].lost, WAIT)


def client_hello(version: int = 0x0303, suites=(0xC02B,), extensions: dict[int, bytes] | None = None) -> bytes:
    """A ClientHello in a record."""
    usual = {
        10: bytes.fromhex("00020017"),  # secp256r1
        11: b"\x01\x00",
        13: bytes.fromhex("000404030804"),  # ecdsa_secp256r1_sha256, rsa_pss_rsae_sha256
        35: b"",
        0xFF01: b"\x00",
    }
    found = {**usual, **(extensions or {})}
    parts = b"".join(struct.pack("!HH", kind, len(value)) + value for kind, value in found.items() if value is not None)
    listed = b"".join(struct.pack("!H", code) for code in suites)
    body = struct.pack("!H", version) + bytes(32) + b"\x00" + struct.pack("!H", len(listed)) + listed + b"\x01\x00"
    body += struct.pack("!H", len(parts)) + parts if parts else b""
    return b"\x16\x03\x01" + struct.pack("!H", len(body) + 4) + b"\x01" + len(body).to_bytes(3, "big") + body


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


# --- mutual authentication ------------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.event("IEC62351-3:1.6")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_authentication_negative_no_certificate(run, pki, version) -> None:
    async def main() -> None:
        events = []
        await s_client(pki.config("server", sink=events.append), pki, version, name="")
        assert names(events) == ["TLS_NO_PEER_CERT"]

    run(main(), seconds=60)


@pytest.mark.event("IEC62351-3:1.7")
def test_authentication_negative_no_certificate_of_our_own(pki, tmp_path) -> None:
    events = []
    with pytest.raises(ConfigError):
        TLSConfig(tmp_path / "none.pem", tmp_path / "none.key", [pki.anchor], sink=events.append)
    assert names(events) == ["TLS_NO_LOCAL_CERT"]


def leaf(kind: str, pki: Pki, other: Pki) -> tuple[Path, Path]:
    """Files of a certificate with this fault."""
    key = ec.generate_private_key(ec.SECP256R1())
    eku = x509.ExtendedKeyUsage
    if kind == "foreign":
        return other.odd(kind, key)
    if kind == "self-signed":
        self_ = Pki(other.folder, "self")
        return self_.odd(kind, self_.key, issuer=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, kind)]))
    if kind == "forged":
        return other.odd(kind, key, issuer=pki.subject)
    if kind == "wrong algorithm":
        paths = other.odd(kind, key, issuer=pki.subject)
        der = bytearray(load_certificates(paths[0])[0])
        der[der.rindex(bytes.fromhex("2a8648ce3d040302")) + 7] = 3  # SHA-384 outside, SHA-256 inside
        paths[0].write_text(ssl.DER_cert_to_PEM_cert(bytes(der)))
        return paths
    if kind == "rsa1024":
        return pki.odd(kind, rsa.generate_private_key(65537, 1024))
    if kind == "p224":  # no leaf of that kind gets through a handshake, but an authority may have such a key
        return below_authority(pki, kind, ec.generate_private_key(ec.SECP224R1()))
    if kind == "sha1":
        return by_command(pki, kind, "ec", "-sha1")
    if kind == "huge":
        padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), bytes(8192))
        return pki.odd(kind, key, extensions=[(padding, False)])
    if kind == "critical":
        odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.2"), b"\x05\x00")
        return pki.odd(kind, key, extensions=[(odd, True)])
    if kind == "purpose":
        return pki.odd(kind, key, extensions=[(eku([ExtendedKeyUsageOID.CODE_SIGNING]), False)])
    if kind == "usage":
        return pki.odd(kind, key, extensions=[(usage("crl_sign"), True)])
    span = {"expired": (-2 * DAY, -DAY), "early": (DAY, 2 * DAY)}[kind]
    return pki.odd(kind, key, start=span[0], end=span[1])


def below_authority(pki: Pki, kind: str, key) -> tuple[Path, Path]:
    """A leaf below an intermediate authority that has ``key``."""
    ca = [(x509.BasicConstraints(ca=True, path_length=None), True)]
    middle = pki.odd(f"{kind}-authority", key, extensions=ca)
    sub = Pki(pki.folder, f"{kind}-unused")
    sub.key = key
    sub.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{kind}-authority")])
    paths = sub.odd(kind, ec.generate_private_key(ec.SECP256R1()))
    paths[0].write_bytes(paths[0].read_bytes() + middle[0].read_bytes())
    return paths


def by_command(pki: Pki, kind: str, key: str, digest: str) -> tuple[Path, Path]:
    """A leaf that only the command line still makes."""
    pki.write("authority", pki.certificate, pki.key)
    new = ["-newkey", key] if key != "ec" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    where = pki.folder / kind
    for command in (
        ["req", "-new", *new, "-nodes", "-subj", f"/CN={kind}", "-keyout", f"{where}.key", "-out", f"{where}.csr"],
        ["x509", "-req", "-in", f"{where}.csr", "-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial",
         "-days", "2", digest, "-out", f"{where}.pem"],
    ):  # fmt: skip
        subprocess.run([OPENSSL, *command], cwd=pki.folder, check=True, capture_output=True)
    return Path(f"{where}.pem"), Path(f"{where}.key")


BAD = {
    "foreign": "IEC62351-3:2.2",
    "self-signed": "IEC62351-3:2.2",
    "forged": "IEC62351-3:2.10",
    "wrong algorithm": "IEC62351-3:2.10",
    "rsa1024": "IEC62351-3:2.11",
    "p224": "IEC62351-3:2.13",
    "sha1": "IEC62351-3:2.14",
    "huge": "IEC62351-3:2.1",
    "critical": "IEC62351-9:2.12",
    "purpose": "IEC62351-9:2.24",
    "usage": "IEC62351-9:2.24",
    "expired": "IEC62351-3:2.8",
    "early": "IEC62351-9:2.7",
}


@needs_openssl
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.event(wanted)) for kind, wanted in BAD.items()])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_certificates_negative_of_a_client(run, pki, tmp_path, kind, version) -> None:
    paths = leaf(kind, pki, Pki(tmp_path, "other"))

    async def main() -> None:
        events = []
        server = pki.config("server", sink=events.append)
        own = ("-cert", str(paths[0]), "-key", str(paths[1]), "-cipher", "DEFAULT:@SECLEVEL=0")
        if kind == "p224":
            own += ("-cert_chain", "p224-authority.pem")
        await s_client(server, pki, version, *own, name="")
        assert [event.id for event in events] == [BAD[kind]]
        assert events[0].peer.startswith("127.0.0.1:")

    run(main(), seconds=60)


@needs_openssl
@pytest.mark.parametrize("kind", ["foreign", "forged", "rsa1024", "p224", "huge", "purpose", "expired"])
@pytest.mark.event("IEC62351-9:2.23")
def test_certificates_negative_of_a_server(run, pki, tmp_path, kind) -> None:
    other = Pki(tmp_path, "other")

    async def one(kind: str) -> list[str]:
        paths = leaf(kind, pki, other)
        events = []
        command = (
            OPENSSL, "s_server", "-accept", "127.0.0.1:0", "-cert", str(paths[0]), "-key", str(paths[1]),
            "-cipher", "DEFAULT:@SECLEVEL=0", *(("-cert_chain", "p224-authority.pem") if kind == "p224" else ()),
        )  # fmt: skip
        async with process(*command, folder=pki.folder) as peer:
            line = b""
            while not line.startswith(b"ACCEPT"):
                line = await asyncio.wait_for(peer.stdout.readline(), WAIT)
            near = await dial(pki.config("client", sink=events.append), int(line.rpartition(b":")[2]))
            assert isinstance(await asyncio.wait_for(near.lost, WAIT), Aborted)
        return [event.id for event in events]

    async def main() -> None:
        assert await one(kind) == [BAD[kind].replace("2.24", "2.23")]
        if kind != "purpose":
            assert await one("purpose") == ["IEC62351-9:2.23"]

    run(main(), seconds=90)


@needs_openssl
@pytest.mark.event("IEC62351-3:2.9")
def test_signature_algorithms_negative(run, pki) -> None:
    """The client verifies RSA only, our key is an EC one."""

    async def main() -> None:
        events = []
        server = pki.config("server", sink=events.append)
        await s_client(server, pki, "-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256", name="rsa")
        assert "TLS_SIG_ALG_MISMATCH" in names(events)

    run(main(), seconds=60)


@pytest.mark.event("IEC62351-9:2.16")
def test_certificates_negative_another_name(run, pki) -> None:
    async def main() -> None:
        events = []
        client = pki.config("client", server_hostname="elsewhere.example", sink=events.append)
        async with pair(pki.config("server"), client) as (near, _):
            assert isinstance(await near.lost, Aborted)
        assert [event.id for event in events] == ["IEC62351-9:2.16"]

    run(main())


@needs_openssl
@pytest.mark.event("IEC62351-3:2.12", "IEC62351-3:2.13")
def test_keys_of_1024_bits_where_they_are_allowed(run, pki, tmp_path) -> None:
    paths = leaf("rsa1024", pki, pki)
    short = by_command(pki, "rsa768", "rsa:768", "-sha256")

    async def main() -> None:
        events = []
        server = pki.config("server", rules=TLSRules(rsa_bits_min=1024), sink=events.append)
        weak = ("-cipher", "DEFAULT:@SECLEVEL=0")
        await s_client(server, pki, "-cert", str(paths[0]), "-key", str(paths[1]), *weak, name="", say=b"warned\n")
        assert names(events) == ["TLS_MIN_KEY", "TLS_HS_SUCCESS"]
        events.clear()
        await s_client(server, pki, "-cert", str(short[0]), "-key", str(short[1]), *weak, name="")
        assert names(events) == ["TLS_SHORT_KEY"]

    run(main(), seconds=90)


@needs_openssl
@pytest.mark.event("IEC62351-9:2.19")
def test_strict_usage(run, pki) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    extensions = [
        (usage("digital_signature"), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
    ]
    pki.odd("proper", key, extensions=extensions)

    async def main() -> None:
        events = []
        server = pki.config("server", rules=TLSRules(strict_usage=True), sink=events.append)
        await s_client(server, pki, name="proper", say=b"proper\n")
        assert names(events) == ["TLS_HS_SUCCESS"]
        events.clear()
        await s_client(server, pki)
        assert [event.id for event in events] == ["IEC62351-9:2.19"]

    run(main(), seconds=60)


# --- trusted individual certificates --------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.event("IEC62351-3:2.3")
@pytest.mark.parametrize("form", ["certificate", "fingerprint", "self-signed"])
def test_pinned_certificates(run, pki, tmp_path, form) -> None:
    name = "client"
    if form == "self-signed":
        paths = leaf("self-signed", pki, Pki(tmp_path, "other"))
        der = load_certificates(paths[0])[0]
        own = ("-cert", str(paths[0]), "-key", str(paths[1]))
        name = ""
    else:
        der = load_certificates(pki.folder / "client.pem")[0]
        own = ()
    pin = x509.load_der_x509_certificate(der).fingerprint(hashes.SHA256()) if form == "fingerprint" else der

    async def main() -> None:
        events = []
        anchors = [pki.anchor] if form == "fingerprint" else []
        rules = TLSRules(trust="pinned", pinned=(pin,))
        server = pki.config("server", anchors=anchors, rules=rules, sink=events.append)
        await s_client(server, pki, *own, name=name, say=b"pinned\n")
        assert names(events) == ["TLS_HS_SUCCESS"]
        events.clear()
        pki.odd("second", ec.generate_private_key(ec.SECP256R1()))
        await s_client(server, pki, name="second")
        assert names(events) == ["TLS_NO_TRUSTED_CERT_MATCH"]

    run(main(), seconds=60)
    with pytest.raises(ConfigError, match="fingerprints"):
        pki.config("server", anchors=[], rules=TLSRules(trust="pinned", pinned=(bytes(32),)))


def test_several_anchors(run, pki, tmp_path) -> None:
    others = []
    for index in range(5):
        folder = tmp_path / str(index)
        folder.mkdir()
        other = Pki(folder, f"other {index}")
        other.issue("client")
        others.append(other)

    async def main() -> None:
        server = pki.config("server", anchors=[pki.anchor, *(other.anchor for other in others)])
        for other in others:
            async with pair(server, other.config("client", anchors=[pki.anchor])) as (near, ends):
                await near.made.wait()
                await ends[0].made.wait()

    run(main())


# --- revocation -----------------------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.event("IEC62351-3:2.4", "IEC62351-3:2.5", "IEC62351-3:2.6")
def test_revocation_lists(run, tmp_path) -> None:
    """Revoked: refused. No list, or one out of date: a warning. In order: nothing."""
    pki = Pki(tmp_path, "root")
    pki.issue("server")
    certificate = pki.issue("client")
    fine = pki.crl(name="fine")
    revoked = pki.crl(certificate, name="revoked")
    expired = pki.crl(name="expired", end=-DAY)
    other = Pki(tmp_path, "other").crl(name="other")

    async def main() -> None:
        for crl, wanted in (
            (fine, ["TLS_HS_SUCCESS"]),
            (revoked, ["TLS_CERT_REVOKED"]),
            (expired, ["TLS_CRL_EXP", "TLS_HS_SUCCESS"]),
            (other, ["TLS_NO_CRL", "TLS_HS_SUCCESS"]),
        ):
            events = []
            server = pki.config("server", crls=[crl], sink=events.append)
            await s_client(server, pki, say=b"checked\n" if "TLS_HS_SUCCESS" in wanted else b"")
            assert names(events) == wanted
            if crl == revoked:
                assert made(events, "TLS_CERT_REVOKED")["CRLReason"] == "unspecified"

    run(main(), seconds=90)


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
            born, kinds = loop.time(), []
            while loop.time() - born < 2.5:
                before = loop.time()
                async with pair(server, client, echo=True, address="a") as (near, _):
                    await near.made.wait()
                    kinds.append((before - born, near.transport.resumed))
                    near.transport.write(b"x")
                    await near.until(1)
                await asyncio.sleep(0.2)
            assert kinds[0][1] is False
            if kinds[1][0] < 1.5:
                assert kinds[1][1] is True
            # Whatever began before the limit was over, the chain was cut once by then.
            assert any(not resumed for at, resumed in kinds if at > 1.0)

    run(main(), seconds=90)


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
