"""Attribute authorities and role tokens, good ones and ones with one fault, for tests with ``engine_pair``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine_pair import UTC, authority, credential
from fastsec._core.cursor import tlv
from fastsec.pki import builder, oids
from fastsec.pki.attribute import AttributeCertificate
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import Credential
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.pki.roles import RoleTrust, UserRoleInfo, write_user_roles
from fastsec.pki.trial import TrialAuthority
from fastsec.pki.trial_roles import TrialAttributeAuthority

HOUR = 3_600_000
OPERATOR = UserRoleInfo((1,))
_made: dict[str, Any] = {}


def root() -> TrialAuthority:
    """The authority of all credentials of ``engine_pair``, at the time of its pairs."""
    return authority("one")


def attribute_authority(name: str = "aa") -> TrialAttributeAuthority:
    """A trial attribute authority below ``root``, the same at every call; it issues at the time of pairs."""
    if name not in _made:
        _made[name] = TrialAttributeAuthority.create(root(), name)
        _made[name].utc_ms = UTC
    found: TrialAttributeAuthority = _made[name]
    return found


def believing(*names: str, **more: Any) -> RoleTrust:
    """Believes these attribute authorities."""
    return RoleTrust(authorities=tuple(attribute_authority(name).certificate for name in names or ("aa",)), **more)


def token(owner: OsiName, roles: Sequence[UserRoleInfo] = (OPERATOR,), by: str = "aa", **changes: Any) -> bytes:
    """An attribute certificate for ``credential(owner)``, with these changes of what the builder gets."""
    own = attribute_authority(by)
    certificate = Certificate(credential(owner).certificate)
    facts: dict[str, Any] = {
        "serial": 77,
        "holder": builder.holder_of(certificate),
        "issuer": Certificate(own.certificate).subject,
        "not_before_ms": UTC - HOUR,
        "not_after_ms": UTC + HOUR,
        "attributes": ((oids.IEC_USER_ROLES, write_user_roles(roles)),),
        "extensions": (),
        "key": own._key,
    }
    return builder.attribute_certificate(**facts | changes)


def holding(holder: OsiName, der: bytes, path: Sequence[bytes] = ()) -> Credential:
    """``credential(holder)`` that sends this attribute certificate."""
    return replace(credential(holder), attribute_certificate=AttributeCertificate(der), cert_path=tuple(path))


def trust_with(*crls: bytes) -> TrustStore:
    """Trusts ``root``; with these CRLs beside its own."""
    return TrustStore((root().root,), (root().crl, *crls))


# --- extensions and parts -------------------------------------------------------------------------------------------

POINTS = builder.Extension(
    oids.CRL_DISTRIBUTION_POINTS, tlv(0x30, tlv(0x30, tlv(0xA0, tlv(0xA0, tlv(0x86, b"http://127.0.0.1/aa.crl")))))
)
ACCESS = builder.Extension(
    oids.AUTHORITY_INFO_ACCESS,
    tlv(0x30, tlv(0x30, bytes.fromhex("06082b06010505073001") + tlv(0x86, b"http://127.0.0.1/ocsp"))),
)
TARGETS = builder.Extension("2.5.29.55", tlv(0x30, b""), critical=True)


def other_key_identifier() -> builder.Extension:
    """An authorityKeyIdentifier of no key."""
    return builder.authority_key_identifier(bytes(20))


def resigned(der: bytes, change: Any, key: builder.PrivateKey | None = None) -> bytes:
    """The token with another AttributeCertificateInfo: ``change`` of its content; signed again."""
    parsed = AttributeCertificate(der)
    content = builder.Reader(parsed.tbs)
    content.expect(0x30)
    return builder.signed(change(content.value()), key or attribute_authority()._key, "sha256")
