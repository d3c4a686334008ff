"""Certificates right and wrong for tests: every field can be set. Signed by ``cryptography``, built by the builder."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fastsec.pki import builder, oids
from fastsec.pki.builder import Extension
from fastsec.pki.identity import OsiName

NOW = 1_790_000_000_000  # 2026-09-21
DAY = 86_400_000
OSI = OsiName.parse("1.1.1.999.2:12")
LEAF_USAGE = (oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT)
CA_USAGE = (oids.KU_KEY_CERT_SIGN, oids.KU_CRL_SIGN)
RSA_2048 = rsa.generate_private_key(65537, 2048)


def replace(extensions: Sequence[Extension], *new: Extension) -> tuple[Extension, ...]:
    """Extensions with those of the same OID replaced and others added."""
    by_oid = {extension.oid: extension for extension in extensions}
    by_oid.update({extension.oid: extension for extension in new})
    return tuple(by_oid.values())


def without(extensions: Sequence[Extension], oid: str) -> tuple[Extension, ...]:
    """Extensions but the one with this OID."""
    return tuple(extension for extension in extensions if extension.oid != oid)


@dataclass
class Ca:
    """An authority with its certificate."""

    name: bytes
    key: builder.PrivateKey
    certificate: bytes = b""
    digest: str = "sha256"
    serials: list[int] = field(default_factory=list)

    @property
    def identifier(self) -> bytes:
        """Its key identifier."""
        return builder.key_identifier(builder.spki(self.key.public_key()))

    def sign(
        self,
        subject: bytes,
        public: bytes,
        extensions: Sequence[Extension],
        *,
        serial: int | None = None,
        issuer: bytes | None = None,
        not_before_ms: int = NOW - DAY,
        not_after_ms: int = NOW + DAY,
        digest: str | None = None,
    ) -> bytes:
        """A certificate signed by this authority."""
        return builder.certificate(
            serial=uuid.uuid4().int if serial is None else serial,
            issuer=self.name if issuer is None else issuer,
            subject=subject,
            public=public,
            not_before_ms=not_before_ms,
            not_after_ms=not_after_ms,
            extensions=extensions,
            key=self.key,
            digest=digest or self.digest,
        )

    def crl(
        self, *serials: int, this: int = NOW - DAY, following: int | None = NOW + DAY, extra: Sequence[Extension] = ()
    ) -> bytes:
        """A CRL of this authority with these serial numbers."""
        return builder.revocation_list(
            issuer=self.name,
            this_update_ms=this,
            next_update_ms=following,
            revoked=[(serial, this) for serial in serials],
            extensions=(builder.authority_key_identifier(self.identifier), builder.crl_number(1), *extra),
            key=self.key,
            digest=self.digest,
        )


def ca_extensions(key: bytes, issuer_key: bytes, path_len: int | None = None) -> tuple[Extension, ...]:
    """Extensions of an authority's certificate."""
    return (
        builder.basic_constraints(True, path_len),
        builder.key_usage(*CA_USAGE),
        builder.subject_key_identifier(key),
        builder.authority_key_identifier(issuer_key),
    )


def root(
    name: str = "root", *, key: Any = None, path_len: int | None = None, digest: str = "sha256", **fields: Any
) -> Ca:
    """A root authority."""
    ca = Ca(builder.text_name(cn=name), key or builder.generate_key("p256"), digest=digest)
    extensions = fields.pop("extensions", None) or ca_extensions(ca.identifier, ca.identifier, path_len)
    fields = {"not_after_ms": NOW + 100 * DAY, **fields}
    ca.certificate = ca.sign(ca.name, builder.spki(ca.key.public_key()), extensions, **fields)
    return ca


def intermediate(
    issuer: Ca,
    name: str = "intermediate",
    *,
    key: Any = None,
    path_len: int | None = None,
    digest: str = "sha256",
    **fields: Any,
) -> Ca:
    """An authority under another."""
    ca = Ca(builder.text_name(cn=name), key or builder.generate_key("p256"), digest=digest)
    extensions = fields.pop("extensions", None) or ca_extensions(ca.identifier, issuer.identifier, path_len)
    ca.certificate = issuer.sign(ca.name, builder.spki(ca.key.public_key()), extensions, **fields)
    return ca


def leaf_extensions(issuer: Ca, public: bytes, osi: OsiName | None = OSI) -> tuple[Extension, ...]:
    """Extensions of a certificate by Annex G."""
    return (
        builder.key_usage(*LEAF_USAGE),
        *([builder.alternative_names(osi=osi)] if osi else []),
        builder.subject_key_identifier(builder.key_identifier(public)),
        builder.authority_key_identifier(issuer.identifier),
    )


def leaf(
    issuer: Ca,
    /,
    *,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
    public: bytes | None = None,
    subject: bytes | None = None,
    extensions: Sequence[Extension] | None = None,
    **fields: Any,
) -> bytes:
    """An end-entity certificate, by Annex G where nothing else is said."""
    if public is None:
        public = builder.spki((key or builder.generate_key("p256")).public_key())
    if extensions is None:
        extensions = leaf_extensions(issuer, public)
    return issuer.sign(builder.osi_subject(OSI) if subject is None else subject, public, extensions, **fields)
