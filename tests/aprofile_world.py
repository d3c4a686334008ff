"""Certificates and values of the A-profile for tests: ordinary RSA certificates under an authority of its own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from fastsec._core.pk import PrivateKey
from fastsec.aprofile import AProfileConfig, AProfileCredential, make_a_profile_credential
from fastsec.pki import builder, oids
from fastsec.pki.builder import Extension
from fastsec.pki.credential import SoftwareSigner
from fastsec.pki.path import TrustStore

DAY = 86_400_000
SIGNS = (builder.key_usage(oids.KU_DIGITAL_SIGNATURE),)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@cache
def rsa_key(number: int, bits: int = 2048) -> rsa.RSAPrivateKey:
    """One key per number; made once, because it takes long."""
    return rsa.generate_private_key(65537, bits)


@dataclass
class Holder:
    """A certificate, its key, and both as a credential."""

    certificate: bytes
    key: builder.PrivateKey

    @property
    def pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def credential(self) -> AProfileCredential:
        return make_a_profile_credential(self.certificate, SoftwareSigner(PrivateKey.from_pem(self.pem)))

    def sign(self, octets: bytes) -> bytes:
        """By another implementation than ours."""
        assert isinstance(self.key, rsa.RSAPrivateKey)
        return self.key.sign(octets, padding.PKCS1v15(), hashes.SHA256())


class Authority:
    """Issues ordinary certificates."""

    def __init__(self, name: str = "test authority", number: int = 100) -> None:
        self.key = rsa_key(number)
        self.name = builder.text_name(o="Utility", cn=name)
        self.certificate = self.issue(
            self.name, self.key, (builder.basic_constraints(True), builder.key_usage(5, 6)), serial=1
        )

    def issue(
        self,
        subject: bytes,
        key: builder.PrivateKey,
        extensions: Sequence[Extension] = SIGNS,
        *,
        serial: int | None = None,
        not_before_ms: int | None = None,
        not_after_ms: int | None = None,
    ) -> bytes:
        return builder.certificate(
            serial=uuid.uuid4().int if serial is None else serial,
            issuer=self.name,
            subject=subject,
            public=builder.spki(key.public_key()),
            not_before_ms=now_ms() - DAY if not_before_ms is None else not_before_ms,
            not_after_ms=now_ms() + DAY if not_after_ms is None else not_after_ms,
            extensions=(
                *extensions,
                builder.subject_key_identifier(builder.key_identifier(builder.spki(key.public_key()))),
                builder.authority_key_identifier(builder.key_identifier(builder.spki(self.key.public_key()))),
            ),
            key=self.key,
        )

    def holder(self, name: str, number: int, extensions: Sequence[Extension] = SIGNS, **more: Any) -> Holder:
        key = rsa_key(number)
        return Holder(self.issue(builder.text_name(o="Utility", cn=name), key, extensions, **more), key)

    def crl(self, *serials: int) -> bytes:
        return builder.revocation_list(
            issuer=self.name,
            this_update_ms=now_ms() - 3_600_000,
            next_update_ms=now_ms() + DAY,
            revoked=[(serial, now_ms() - 7_200_000) for serial in serials],
            extensions=(
                builder.crl_number(1),
                builder.authority_key_identifier(builder.key_identifier(builder.spki(self.key.public_key()))),
            ),
            key=self.key,
        )


class AWorld:
    """An authority and two sides that let each other in."""

    def __init__(self) -> None:
        self.authority = Authority()
        self.centre = self.authority.holder("centre", 1)
        self.der = self.authority.holder("der", 2)

    def config(self, holder: Holder, **more: Any) -> AProfileConfig:
        trust = TrustStore([self.authority.certificate], [self.authority.crl()])
        values: dict[str, Any] = {"trust": trust, "peers": ("any",), "without_tls": True}
        return AProfileConfig(credential=holder.credential, **{**values, **more})


# --- MMS-Authentication-value by hand, from the specification ---------------------------------------------------------


def der(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    if len(content) < 128:
        return bytes((tag, len(content))) + content
    size = len(content).to_bytes(2, "big").lstrip(b"\x00")
    return bytes((tag, 0x80 | len(size))) + size + content


def value_of(holder: Holder, characters: str, *, signed: bytes | None = None) -> bytes:
    """certificate-based [0] { [0] certificate, [1] time, [2] signature }, signed over the characters if not told."""
    octets = characters.encode()
    signature = holder.sign(octets if signed is None else signed)
    return der(0xA0, der(0x80, holder.certificate), der(0x81, octets), der(0x82, signature))


def characters(offset_s: float = 0, form: str = "%Y%m%d%H%M%S.") -> str:
    """A time in UTC as it stands on the wire."""
    return time.strftime(form, time.gmtime(time.time() + offset_s))
