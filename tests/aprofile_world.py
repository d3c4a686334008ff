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


def seconds(count: int) -> list[str]:
    """Different times of the last seconds, the latest first."""
    present = int(time.time())
    return [time.strftime("%Y%m%d%H%M%S.", time.gmtime(present - second)) for second in range(count)]


# --- AARQ by hand ---------------------------------------------------------------------------------------------------
# From the specification: OIDs, tags and values are written out here, not taken from the code.
MECHANISM = bytes.fromhex("2886480001000101")  # {1 0 840 0 1 0 1 1}
AUTHENTICATION_AS = bytes.fromhex("2886480001010401")  # {1 0 840 0 1 1 4 1}

CONNECTION_REQUEST = bytes.fromhex("0300000e 09e00000000100 c0010d".replace(" ", ""))
INITIATE = bytes.fromhex("a826800300fde881010582010583010aa416800101810305f100820c03ee1c00000408000079ef18")
INITIATE_RESPONSE = bytes.fromhex("a926800300fde881010582010583010aa416800101810305f100820c03ee1c000000000000000118")
BASIC_AC = bytes.fromhex("a107060528ca220203")
ACSE_CONTEXT = bytes.fromhex("300f0201010604520100013004 06025101".replace(" ", ""))
MMS_CONTEXT = bytes.fromhex("3010020103060528ca2202013004 06025101".replace(" ", ""))
AUTHENTICATION_CONTEXT = der(0x30, bytes.fromhex("020105"), der(0x06, AUTHENTICATION_AS), bytes.fromhex("300406025101"))


def tpkt(octets: bytes) -> bytes:
    """A TSDU in DT TPDUs of at most 8192 octets."""
    found = b""
    for at in range(0, len(octets), 8189):
        part = octets[at : at + 8189]
        last = at + len(part) == len(octets)
        found += (
            b"\x03\x00" + (len(part) + 7).to_bytes(2, "big") + (b"\x02\xf0\x80" if last else b"\x02\xf0\x00") + part
        )
    return found


def session_item(code: int, content: bytes) -> bytes:
    size = len(content)
    return bytes((code, size)) + content if size < 255 else bytes((code, 255)) + size.to_bytes(2, "big") + content


def connect_by_hand(*fields: bytes, contexts: bytes = ACSE_CONTEXT + MMS_CONTEXT + AUTHENTICATION_CONTEXT) -> bytes:
    """CN with CP and an AARQ of basic-AC, these fields, and an initiate-Request."""
    information = der(0xBE, der(0x28, bytes.fromhex("020103"), der(0xA0, INITIATE)))
    aarq = der(0x60, BASIC_AC, *fields, information)
    body = der(0xA4, contexts) + der(0x61, der(0x30, bytes.fromhex("020101"), der(0xA0, aarq)))
    cp = der(0x31, bytes.fromhex("a003800101"), der(0xA2, body))
    header = bytes.fromhex("05061301001601021402000233020001340200 01".replace(" ", ""))
    return tpkt(session_item(0x0D, header + session_item(0xC2 if len(cp) > 512 else 0xC1, cp)))


def authentication(value: bytes, *, mechanism: bytes = MECHANISM, requirements: str = "8a020780") -> bytes:
    """ACSE requirements, mechanism-name, authentication-value."""
    return bytes.fromhex(requirements) + der(0x8B, mechanism) + der(0xAC, value)


def external(value: bytes, reference: int = 5) -> bytes:
    """EXTERNAL { indirect-reference, single-ASN1-type }, [2] IMPLICIT."""
    return der(0xA2, bytes((2, 1, reference)), der(0xA0, value))


def p_abort(octets: bytes) -> bool:
    """Whether this is a session ABORT with an ARP PPDU, reason-not-specified: no ACSE APDU, no context."""
    return octets == tpkt(bytes.fromhex("190a11010bc105") + bytes.fromhex("3003800100"))
