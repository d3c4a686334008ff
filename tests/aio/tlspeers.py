"""Foreign TLS peers for tests: OpenSSL's s_client and s_server as processes, octets by hand, odd certificates."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import struct
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID
from tlsends import End
from tlsfiles import DAY, Authority

from fastsec.aio.tls import TLSConfig, TLSLayer

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
