"""Attribute authorities and role tokens, good ones and ones with one fault, for tests with ``engine_pair``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine_pair import CLIENT, SERVER, UTC, ConnectionPair, authority, config, credential
from fastsec._core.cursor import tlv
from fastsec.pki import builder, oids
from fastsec.pki.attribute import AttributeCertificate
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import Credential
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.pki.roles import RoleGrant, RoleTrust, UserRoleInfo, write_user_roles
from fastsec.pki.trial import TrialAuthority
from fastsec.pki.trial_roles import TrialAttributeAuthority
from odd_certificates import odd_certificate

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


# --- what is granted, and by whom -----------------------------------------------------------------------------------

WEEK = 7 * 24 * HOUR
GRANT = RoleGrant(1, "", 0, "IEC62351-8", "attribute-certificate")
ISSUED = RoleTrust(issued_authorities=True)


def open_with(der: bytes, roles: RoleTrust | None = None, *crls: bytes, path: Sequence[bytes] = ()) -> ConnectionPair:
    """An association in which the client presents this token."""
    judge = config(SERVER, roles=roles or believing(), trust=trust_with(*crls))
    return ConnectionPair(config(CLIENT, credential=holding(CLIENT, der, path)), judge).open().confirm()


def with_roles(name: OsiName, *infos: UserRoleInfo, oid: str = oids.IEC_USER_ROLES) -> Any:
    """A credential whose certificate has this extension."""
    extensions = (
        builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT),
        builder.alternative_names(osi=name),
        builder.authority_key_identifier(builder.key_identifier(builder.spki(root()._key.public_key()))),
        builder.user_roles(infos, oid=oid),
    )
    return odd_certificate(name, "p256", extensions=extensions)


def serial_of(name: OsiName) -> bytes:
    """The serial number of ``credential(name)``."""
    return Certificate(credential(name).certificate).serial


def revoked_authority() -> Sequence[bytes]:
    return [
        builder.revocation_list(
            issuer=root()._issuer,
            this_update_ms=UTC,
            next_update_ms=UTC + WEEK,
            revoked=[(int.from_bytes(Certificate(attribute_authority("revoked").certificate).serial, "big"), UTC)],
            extensions=(builder.crl_number(99),),
            key=root()._key,
        )
    ]


def own_crl(*serials: int) -> bytes:
    own = attribute_authority()
    return builder.revocation_list(
        issuer=Certificate(own.certificate).subject,
        this_update_ms=UTC,
        next_update_ms=UTC + WEEK,
        revoked=[(serial, UTC) for serial in serials],
        extensions=(builder.crl_number(5),),
        key=own._key,
    )


def authority_certificate(**changes: Any) -> bytes:
    """A certificate of ``attribute_authority()`` with something else in it."""
    own = attribute_authority()
    facts: dict[str, Any] = {
        "serial": 4712,
        "issuer": root()._issuer,
        "subject": Certificate(own.certificate).subject,
        "public": builder.spki(own._key.public_key()),
        "not_before_ms": UTC - HOUR,
        "not_after_ms": UTC + HOUR,
        "extensions": (builder.key_usage(oids.KU_DIGITAL_SIGNATURE), builder.soa_identifier()),
        "key": root()._key,
    }
    return builder.certificate(**facts | changes)
