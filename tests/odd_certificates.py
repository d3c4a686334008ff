"""Certificates and attribute certificates with one fault each, for peers that present them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine_pair import (
    UTC,
    authority,
)
from fastsec._core import cursor
from fastsec.pki import builder, oids
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import Credential
from fastsec.pki.identity import OsiName
from forge import flip_last

# --- certificates with one fault --------------------------------------------------------------------------------------


def odd_certificate(name: OsiName, key: str, **changes: Any) -> Credential:
    """A leaf of the trial authority with something wrong in it."""
    private = builder.generate_key("p256")
    root = authority("one")
    public = builder.spki(private.public_key())
    facts: dict[str, Any] = {
        "serial": 4711,
        "issuer": root._issuer,
        "subject": builder.osi_subject(name),
        "public": public,
        "not_before_ms": UTC - 86_400_000,
        "not_after_ms": UTC + 86_400_000,
        "extensions": (
            builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT),
            builder.alternative_names(osi=name),
        ),
        "key": root._key,
    } | changes
    certificate = builder.certificate(**facts)
    from cryptography.hazmat.primitives import serialization

    from fastsec._core.pk import PrivateKey
    from fastsec.pki.credential import SoftwareSigner

    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Credential(certificate, (), SoftwareSigner(PrivateKey.from_pem(pem)), name)


def expired(name: OsiName) -> Credential:
    return odd_certificate(name, "p256", not_before_ms=UTC - 7_200_000, not_after_ms=UTC - 3_600_000)


def without_agreement(name: OsiName) -> Credential:
    usage = (builder.key_usage(oids.KU_DIGITAL_SIGNATURE), builder.alternative_names(osi=name))
    return odd_certificate(name, "p256", extensions=usage)


def badly_signed(name: OsiName) -> Credential:
    good = odd_certificate(name, "p256")
    return replace(good, certificate=flip_last(good.certificate))


# --- attribute certificates -------------------------------------------------------------------------------------------


def tlv(tag: int, *parts: bytes) -> bytes:
    return cursor.tlv(tag, b"".join(parts))


def attribute_certificate(
    holder: bytes, begins: int = UTC - 1000, ends: int = UTC + 1000_000, serial: bytes = b""
) -> bytes:
    """An attribute certificate for the holder of a public-key certificate; its signature is made of zeros."""
    parsed = Certificate(holder)
    algorithm = tlv(0x30, bytes.fromhex("06082a8648ce3d040302"))
    times = [builder.generalized(ms) for ms in (begins, ends)]
    base = tlv(0xA0, tlv(0x30, tlv(0xA4, parsed.issuer)), tlv(0x02, serial or parsed.serial))
    issuer = tlv(0xA0, tlv(0x30, tlv(0xA4, parsed.issuer)))
    info = tlv(
        0x30,
        b"\x02\x01\x01",
        tlv(0x30, base),
        issuer,
        algorithm,
        b"\x02\x01\x05",
        tlv(0x30, *times),
        tlv(0x30),
    )
    return tlv(0x30, info, algorithm, tlv(0x03, bytes(65)))
