"""A trial attribute authority (62351-9, IEC 62351-8): attribute certificates with roles, and their CRL.

Not for operation: its key lies unprotected beside what it signs, as that of ``trial.TrialAuthority``, which issues it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fastsec.errors import ConfigError
from fastsec.pki import builder, oids
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import load_certificates
from fastsec.pki.identity import OsiName
from fastsec.pki.roles import ROLE_NAMES, UserRoleInfo, write_user_roles
from fastsec.pki.trial import (
    CRL_DAYS,
    LEAF_DAYS,
    ORGANIZATION,
    SKEW_MS,
    TrialAuthority,
    check_name,
    days_ms,
    pem_text,
    write_new,
)

_HOUR_MS = 3_600_000
TOKEN_HOURS = 12
_TOKEN_HOURS_MAX = 24 * 366


class TrialAttributeAuthority:
    """Issues attribute certificates under a certificate of its own with sOAIdentifier.

    Attributes:
        certificate: its certificate, DER, issued by a trial authority; name it in ``RoleTrust.authorities``.
        crl: the CRL of its attribute certificates, DER.
        utc_ms: the time taken as now; may be set.

    Files beside those of the trial authority: ``NAME.aa.pem NAME.aa.key NAME.aa.crl.pem``, per token
    ``HOLDER.roles.pem``.
    """

    def __init__(
        self, certificate: bytes, key: builder.PrivateKey, crl: bytes, utc_ms: int, base: Path | None = None
    ) -> None:
        self.certificate = certificate
        self.crl = crl
        self.utc_ms = utc_ms
        self._key = key
        self._base = base
        self._subject = Certificate(certificate).subject

    @classmethod
    def create(
        cls, root: TrialAuthority, name: str, *, key: str = "p256", days: int = LEAF_DAYS, crl_days: int = CRL_DAYS
    ) -> TrialAttributeAuthority:
        """A new attribute authority; in the directory of ``root`` if that has one.

        Arguments:
            name: file name part, and in its subject.
            key: type of its key: p256, brainpool, rsa2048, rsa3072.
            days, crl_days: validity of its certificate and of each CRL.
        """
        extensions = (
            builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_CRL_SIGN),
            builder.soa_identifier(),
        )
        subject = builder.text_name(o=ORGANIZATION, ou="attribute authority", cn=name)
        issued = root.issue(f"{name}.aa", subject, extensions, key, days)
        base = root.directory / f"{name}.aa" if root.directory is not None else None
        made = cls(issued.certificate, issued.key, b"", root.utc_ms, base)
        made._write_crl((), 1, crl_days)
        return made

    @classmethod
    def open(cls, root: TrialAuthority, name: str) -> TrialAttributeAuthority:
        """The attribute authority that ``create`` left beside ``root``; ConfigError if there is none."""
        check_name(name)
        if root.directory is None:
            raise ConfigError("this authority has no directory")
        base = root.directory / f"{name}.aa"
        try:
            key = serialization.load_pem_private_key(Path(f"{base}.key").read_bytes(), None)
            crl = x509.load_pem_x509_crl(Path(f"{base}.crl.pem").read_bytes())
            (certificate,) = load_certificates(Path(f"{base}.pem"))
        except (OSError, ValueError, TypeError, ConfigError) as error:
            raise ConfigError(
                f"{root.directory} holds no attribute authority {name}; make one with: "
                f"fastsec pki init-roles {root.directory} {name}"
            ) from error
        if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
            raise ConfigError(f"{base}.key is neither an RSA nor an EC key")
        return cls(certificate, key, crl.public_bytes(serialization.Encoding.DER), root.utc_ms, base)

    def issue(
        self,
        holder: bytes,
        roles: Sequence[UserRoleInfo],
        *,
        hours: int = TOKEN_HOURS,
        named: OsiName | None = None,
        revocable: bool = True,
    ) -> bytes:
        """An attribute certificate, DER.

        Arguments:
            holder: DER of the end-to-end certificate whose owner gets the roles.
            roles: which.
            hours: validity.
            named: the identity, to name the holder by it (entityName) instead of by issuer and serial number of
                ``holder``; then the token outlives a renewal of the certificate.
            revocable: whether nothing is said of revocation, and so the CRL counts; else noRevAvail.
        """
        if not 1 <= hours <= _TOKEN_HOURS_MAX:
            raise ConfigError(f"validity of a role token is 1 to {_TOKEN_HOURS_MAX} hours")
        if named is None:
            owner = builder.holder_of(Certificate(holder))
        else:
            owner = builder.holder_named(builder.registered_id(named))
        identifier = builder.key_identifier(builder.spki(self._key.public_key()))
        return builder.attribute_certificate(
            serial=uuid.uuid4().int,
            holder=owner,
            issuer=self._subject,
            not_before_ms=self.utc_ms - SKEW_MS,
            not_after_ms=self.utc_ms + hours * _HOUR_MS,
            attributes=((oids.IEC_USER_ROLES, write_user_roles(roles)),),
            extensions=(
                builder.authority_key_identifier(identifier),
                *(() if revocable else (builder.no_revocation_available(),)),
            ),
            key=self._key,
        )

    def save(self, token: bytes, name: str, *, chain: bool = False) -> Path:
        """Write a token to ``NAME.roles.pem``, replacing an older one.

        Arguments:
            chain: add the certificate of this authority, which the owner then sends along.
        """
        check_name(name)
        if self._base is None:
            raise ConfigError("this authority has no directory")
        path = self._base.parent / f"{name}.roles.pem"
        text = pem_text("ATTRIBUTE CERTIFICATE", token)
        _replace(path, text + pem_text("CERTIFICATE", self.certificate) if chain else text)
        return path

    def revoke(self, *serials: int, crl_days: int = CRL_DAYS) -> bytes:
        """Add these serial numbers of attribute certificates to the CRL and renew it. Returns the CRL, DER."""
        old = x509.load_der_x509_crl(self.crl)
        revoked = {entry.serial_number: int(entry.revocation_date_utc.timestamp()) * 1000 for entry in old}
        for serial in serials:
            revoked.setdefault(serial, self.utc_ms)
        number = old.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        self._write_crl(tuple(revoked.items()), number + 1, crl_days)
        return self.crl

    def _write_crl(self, revoked: Sequence[tuple[int, int]], number: int, days: int) -> None:
        identifier = builder.key_identifier(builder.spki(self._key.public_key()))
        self.crl = builder.revocation_list(
            issuer=self._subject,
            this_update_ms=self.utc_ms - SKEW_MS,
            next_update_ms=self.utc_ms + days_ms(days),
            revoked=revoked,
            extensions=(builder.authority_key_identifier(identifier), builder.crl_number(number)),
            key=self._key,
        )
        if self._base is not None:
            _replace(Path(f"{self._base}.crl.pem"), pem_text("X509 CRL", self.crl))


def _replace(path: Path, octets: bytes) -> None:
    """A reader sees the old file or the new one, never half of it."""
    fresh = Path(f"{path}.new")
    fresh.unlink(missing_ok=True)
    write_new(fresh, octets)
    fresh.replace(path)


def parse_role(text: str) -> int:
    """A role id from ``OPERATOR`` or a number; ConfigError for another name."""
    if text.upper() in ROLE_NAMES:
        return ROLE_NAMES.index(text.upper())
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no role: {', '.join(ROLE_NAMES)}, or a number") from None


def role_infos(
    roles: Sequence[str],
    areas: Sequence[str] = (),
    revision: int = 0,
    definition: str = "IEC62351-8",
) -> tuple[UserRoleInfo, ...]:
    """UserRoleInfo for these roles: one that holds anywhere, or one per area; () for no roles."""
    found = tuple(parse_role(role) for role in roles)
    if not found:
        return ()
    return tuple(UserRoleInfo(found, area, revision, definition) for area in (areas or (None,)))
