"""Certificates for TLS in tests, made with `cryptography`: a root, leaves, a CRL."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fastsec.aio.tls import TLSConfig

DAY = datetime.timedelta(days=1)


def usage(*names: str) -> x509.KeyUsage:
    """A keyUsage extension with these bits."""
    bits = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{bit: bit in names for bit in bits})


class Authority:
    """A root whose files live in ``folder``."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.now = datetime.datetime.now(datetime.UTC)
        self.certificate = (
            self._builder(self.subject, self.key, -DAY, 10 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage("key_cert_sign", "crl_sign"), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.anchor = folder / f"{name}.pem"
        self.anchor.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject, key, start, end):
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + start)
            .not_valid_after(self.now + end)
        )

    def issue(self, name: str, *, host: str = "localhost", start=-DAY, end=DAY, padding: int = 0):
        """Write NAME.pem and NAME.key; the certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, start, end).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False
        )
        if padding:
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.32473.1"), bytes(padding))
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (self.folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate

    def crl(self, *revoked, name: str = "crl", start=-2 * DAY, end=DAY) -> Path:
        """Write a CRL; its path."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.subject)
            .last_update(self.now + start)
            .next_update(self.now + end)
        )
        for certificate in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.serial_number)
                .revocation_date(self.now - DAY)
                .build()
            )
        path = self.folder / f"{name}.crl"
        path.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def config(self, name: str, **more) -> TLSConfig:
        """The TLSConfig with the certificate NAME, trusting this root."""
        more.setdefault("anchors", [self.anchor])
        return TLSConfig(self.folder / f"{name}.pem", self.folder / f"{name}.key", **more)
