"""TLS 1.3 between two ssl.MemoryBIO objects in one process: mutual certificates, P-256, AES-128-GCM."""

from __future__ import annotations

import datetime
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Pair:
    """Two contexts with certificates of one authority; ``connect`` gives a fresh pair of connected objects."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fastsec-bench-")
        folder = self.folder = Path(self._folder.name)
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _certificate("bench authority", authority_key, "bench authority", authority_key, ca=True)
        (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        for name in ("client", "server"):
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = _certificate(name, key, "bench authority", authority_key, ca=False)
            (folder / f"{name}.pem").write_bytes(
                certificate.public_bytes(serialization.Encoding.PEM)
                + key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        self.client = self._context(ssl.PROTOCOL_TLS_CLIENT, folder / "client.pem", folder / "ca.pem")
        self.server = self._context(ssl.PROTOCOL_TLS_SERVER, folder / "server.pem", folder / "ca.pem")
        self.server.num_tickets = 0

    @staticmethod
    def _context(protocol: int, own: Path, authority: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(own)
        context.load_verify_locations(authority)
        return context

    def connect(self) -> tuple[ssl.SSLObject, ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
        """A full mutual handshake: (client, server, octets to the server, octets to the client)."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.client.wrap_bio(to_client, to_server)
        server = self.server.wrap_bio(to_server, to_client, server_side=True)
        done = [False, False]
        while not all(done):
            for index, side in enumerate((client, server)):
                if not done[index]:
                    try:
                        side.do_handshake()
                        done[index] = True
                    except ssl.SSLWantReadError:
                        pass
        return client, server, to_server, to_client

    def handshakes(self) -> Callable[[int], float]:
        """A timed loop of full mutual handshakes."""

        def run(n: int) -> float:
            start = time.perf_counter()
            for _ in range(n):
                self.connect()
            return time.perf_counter() - start

        return run

    def messages(self, size: int) -> Callable[[int], float]:
        """A timed loop: one message of ``size`` octets protected by the client and unprotected by the server."""
        client, server, _, _ = self.connect()
        name, _, bits = server.cipher() or ("none", "", 0)
        if bits != 128:
            raise RuntimeError(f"TLS negotiated {name}, not a 128-bit key; run the benchmark through its command")
        payload = bytes(size)
        write, read = client.write, server.read

        def run(n: int) -> float:
            start = time.perf_counter()
            for _ in range(n):
                write(payload)
                read(20_000)
            return time.perf_counter() - start

        return run


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, issuer_key: ec.EllipticCurvePrivateKey, *, ca: bool
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )
