"""OCSP answers right and wrong for tests, made on the level of their DER; and answers made by ``cryptography``."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from fastsec._core.cursor import Writer, tlv
from fastsec.pki import builder, oids
from fastsec.pki.builder import Extension
from fastsec.pki.certificate import Certificate
from fastsec.pki.ocsp import CertId, cert_id

if TYPE_CHECKING:
    from pki_forge import Ca

NOW = 1_790_000_000_000  # as pki_forge has it
DAY = 86_400_000
GOOD = b"\x80\x00"
UNKNOWN = b"\x82\x00"


def time(utc_ms: int) -> bytes:
    """GeneralizedTime."""
    moment = datetime.datetime.fromtimestamp(utc_ms // 1000, datetime.UTC)
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


def revoked(at_ms: int = NOW - DAY, reason: int | None = None) -> bytes:
    """certStatus revoked."""
    inner = time(at_ms)
    if reason is not None:
        inner += tlv(0xA0, tlv(0x0A, bytes([reason])))
    return tlv(0xA1, inner)


def oid(text: str) -> bytes:
    """DER."""
    writer = Writer()
    writer.oid(text)
    return writer.getvalue()


def id_der(wanted: CertId) -> bytes:
    """DER of a CertID."""
    return tlv(
        0x30,
        tlv(0x30, oid(wanted.algorithm) + b"\x05\x00")
        + tlv(0x04, wanted.name_hash)
        + tlv(0x04, wanted.key_hash)
        + tlv(0x02, wanted.serial),
    )


def single(
    wanted: CertId, status: bytes = GOOD, this: int = NOW - 1000, following: int | None = NOW + DAY, extra: bytes = b""
) -> bytes:
    """SingleResponse."""
    later = b"" if following is None else tlv(0xA0, time(following))
    return tlv(0x30, id_der(wanted) + status + time(this) + later + extra)


def nonce_extension(nonce: bytes) -> bytes:
    """The nonce as Extension."""
    return tlv(0x30, oid(oids.OCSP_NONCE) + tlv(0x04, tlv(0x04, nonce)))


@dataclass
class Responder:
    """Who signs answers: an authority itself, or a delegate of it.

    Attributes:
        name, key: of the signer.
        chain: certificates that go along.
        by_key: whether the responder ID is the hash of the key instead of the name.
    """

    name: bytes
    key: Any
    chain: tuple[bytes, ...] = ()
    by_key: bool = False
    digest: str = "sha256"
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> bytes:
        """responderID, DER."""
        if not self.by_key:
            return tlv(0xA1, self.name)
        public = Certificate(self.chain[0], ca=True).public_key.octets if self.chain else key_octets(self.key)
        return tlv(0xA2, tlv(0x04, hashlib.sha1(public).digest()))

    def answer(
        self,
        *singles: bytes,
        nonce: bytes | None = None,
        version: bytes = b"",
        extensions: bytes | None = None,
        responder: bytes | None = None,
        status: int = 0,
    ) -> bytes:
        """An OCSPResponse."""
        if extensions is None:
            extensions = b"" if nonce is None else tlv(0xA1, tlv(0x30, nonce_extension(nonce)))
        tbs = tlv(
            0x30,
            version + (responder or self.id) + time(NOW) + tlv(0x30, b"".join(singles)) + extensions,
        )
        return self.wrap(tbs, status)

    def wrap(self, tbs: bytes, status: int = 0) -> bytes:
        """Sign and wrap ResponseData."""
        chain = tlv(0xA0, tlv(0x30, b"".join(self.chain))) if self.chain else b""
        basic = tlv(
            0x30, tbs + builder.signature_algorithm(self.key, self.digest) + tlv(0x03, b"\0" + self.sign(tbs)) + chain
        )
        return tlv(0x30, tlv(0x0A, bytes([status])) + tlv(0xA0, tlv(0x30, oid(oids.OCSP_BASIC) + tlv(0x04, basic))))

    def sign(self, octets: bytes) -> bytes:
        """The signature."""
        algorithm = builder._HASHES[self.digest]
        if isinstance(self.key, rsa.RSAPrivateKey):
            return self.key.sign(octets, padding.PKCS1v15(), algorithm)
        return self.key.sign(octets, ec.ECDSA(algorithm))

    def having(self, **changes: Any) -> Responder:
        """With other attributes."""
        return replace(self, **changes)


def key_octets(key: Any) -> bytes:
    """What the key hash of RFC 6960 is over."""
    from fastsec._core.pk import PublicKey

    return PublicKey.from_spki(builder.spki(key.public_key()), ca=True).octets


def own(ca: Ca) -> Responder:
    """The authority itself."""
    return Responder(ca.name, ca.key)


def delegate(
    ca: Ca,
    *,
    key: Any = None,
    purposes: tuple[str, ...] | None = (oids.OCSP_SIGNING,),
    usage: tuple[int, ...] | None = (oids.KU_DIGITAL_SIGNATURE,),
    no_check: bool = True,
    subject: bytes | None = None,
    **fields: Any,
) -> Responder:
    """A delegate of the authority."""
    from pki_forge import leaf

    key = key or builder.generate_key("p256")
    public = builder.spki(key.public_key())
    extensions: list[Extension] = [builder.authority_key_identifier(ca.identifier)]
    if usage is not None:
        extensions.append(builder.key_usage(*usage))
    if purposes is not None:
        extensions.append(builder.extended_key_usage(*purposes))
    if no_check:
        extensions.append(Extension(oids.OCSP_NO_CHECK, b"\x05\x00"))
    name = builder.text_name(cn="responder") if subject is None else subject
    certificate = leaf(ca, public=public, subject=name, extensions=extensions, **fields)
    return Responder(name, key, (certificate,))


def id_of(leaf_der: bytes, issuer: Ca, algorithm: str = "sha1") -> CertId:
    """The CertID of a certificate."""
    return cert_id(Certificate(leaf_der).serial, Certificate(issuer.certificate, ca=True), algorithm)
