"""A trial authority: a root, conforming end-entity certificates and a CRL for trials, demos and tests.

Not for operation: the root key lies unprotected beside the certificates it signs. Everything it issues says TRIAL.
"""

from __future__ import annotations

import base64
import datetime
import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fastsec.errors import ConfigError
from fastsec.pki import builder, oids
from fastsec.pki.identity import OsiName
from fastsec.pki.roles import UserRoleInfo

_DAY_MS = 86_400_000
SKEW_MS = 600_000
ROOT_DAYS = 3650
LEAF_DAYS = 730
CRL_DAYS = 30
ORGANIZATION = "TRIAL - NOT FOR OPERATION"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate just issued.

    Attributes:
        certificate: DER.
        key: its private key.
        paths: files written (certificate, key); empty for an authority in memory.
    """

    certificate: bytes
    key: builder.PrivateKey
    paths: tuple[Path, ...] = ()

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return pem_text("CERTIFICATE", self.certificate)

    @property
    def key_pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM."""
        return _key_pem(self.key)


class TrialAuthority:
    """Issues certificates under a root of its own, in a directory or in memory.

    Attributes:
        root: the root certificate, DER; the trust anchor of what is issued.
        crl: the CRL, DER; empty at the start.
        directory: where files go, or None.
        utc_ms: the time taken as now by ``issue_*`` and ``revoke``, ms since 1970 UTC; may be set.

    Files: ``root.pem root.key root.crl.pem NAME.e2e.pem NAME.e2e.key NAME.tls.pem NAME.tls.key``; keys have mode 0600.
    Attribute authorities stand in ``trial_roles``.
    """

    def __init__(
        self, root: bytes, key: builder.PrivateKey, crl: bytes, utc_ms: int, directory: Path | None = None
    ) -> None:
        self.root = root
        self.crl = crl
        self.directory = directory
        self.utc_ms = utc_ms
        self._key = key
        self._issuer = x509.load_der_x509_certificate(root).subject.public_bytes()

    # --- making and opening -----------------------------------------------------------------------------------------
    @classmethod
    def in_memory(
        cls, utc_ms: int, *, key: str = "p256", days: int = ROOT_DAYS, crl_days: int = CRL_DAYS
    ) -> TrialAuthority:
        """A new authority without files, valid from 10 min before ``utc_ms`` on for ``days``."""
        private = builder.generate_key(key)
        public = builder.spki(private.public_key())
        identifier = builder.key_identifier(public)
        # The number keeps two trial authorities apart by name, not only by key.
        name = builder.text_name(o=ORGANIZATION, cn=f"fastsec trial authority {uuid.uuid4().hex[:8]}")
        root = builder.certificate(
            serial=uuid.uuid4().int,
            issuer=name,
            subject=name,
            public=public,
            not_before_ms=utc_ms - SKEW_MS,
            not_after_ms=utc_ms + days_ms(days),
            extensions=(
                builder.basic_constraints(True, 2),
                builder.key_usage(oids.KU_KEY_CERT_SIGN, oids.KU_CRL_SIGN),
                builder.subject_key_identifier(identifier),
                builder.authority_key_identifier(identifier),
            ),
            key=private,
        )
        authority = cls(root, private, b"", utc_ms)
        authority._write_crl((), 1, crl_days)
        return authority

    @classmethod
    def create(
        cls,
        directory: str | os.PathLike[str],
        utc_ms: int,
        *,
        key: str = "p256",
        days: int = ROOT_DAYS,
        crl_days: int = CRL_DAYS,
    ) -> TrialAuthority:
        """A new authority in ``directory``, which is made (mode 0700) if missing. ConfigError if it has one already.

        Arguments:
            utc_ms: the present time, ms since 1970 UTC.
            key: type of the root key: p256, brainpool, rsa2048, rsa3072.
            days, crl_days: validity of the root and of each CRL.
        """
        path = Path(directory)
        if (path / "root.pem").exists() or (path / "root.key").exists():
            raise ConfigError(f"{path} already holds an authority; choose another directory")
        authority = cls.in_memory(utc_ms, key=key, days=days, crl_days=crl_days)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(path / "root.key", _key_pem(authority._key), secret=True)
        write_new(path / "root.pem", pem_text("CERTIFICATE", authority.root))
        write_new(path / "root.crl.pem", pem_text("X509 CRL", authority.crl))
        authority.directory = path
        return authority

    @classmethod
    def open(cls, directory: str | os.PathLike[str], utc_ms: int) -> TrialAuthority:
        """The authority that ``create`` left in ``directory``; ConfigError if there is none."""
        path = Path(directory)
        try:
            root = x509.load_pem_x509_certificate((path / "root.pem").read_bytes())
            key = serialization.load_pem_private_key((path / "root.key").read_bytes(), None)
            crl = x509.load_pem_x509_crl((path / "root.crl.pem").read_bytes())
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{path} holds no trial authority; make one with: fastsec pki init {path}") from error
        if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
            raise ConfigError(f"{path / 'root.key'} is neither an RSA nor an EC key")
        return cls(
            root.public_bytes(serialization.Encoding.DER),
            key,
            crl.public_bytes(serialization.Encoding.DER),
            utc_ms,
            path,
        )

    # --- issuing ----------------------------------------------------------------------------------------------------
    def issue_e2e(
        self, name: str, osi: OsiName, *, key: str = "p256", days: int = LEAF_DAYS, roles: Sequence[UserRoleInfo] = ()
    ) -> Issued:
        """An end-to-end certificate by 62351-4 Annex G.

        Subject: one RDN objectIdentifier; subjectAltName: the same as registeredID; serial: a UUID; key usage
        digitalSignature and keyAgreement. Written to ``NAME.e2e.pem`` and ``NAME.e2e.key`` if there is a directory.

        Arguments:
            name: file name part, letters, digits and ``._-``.
            osi: the identity.
            key: p256, brainpool, rsa2048, rsa3072.
            days: validity.
            roles: what its extension IECUserRoles says; () for none.
        """
        extensions = (
            builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT),
            builder.alternative_names(osi=osi),
            *([builder.user_roles(roles)] if roles else ()),
        )
        return self.issue(f"{name}.e2e", builder.osi_subject(osi), extensions, key, days)

    def issue_tls(self, name: str, hosts: Sequence[str], *, key: str = "p256", days: int = LEAF_DAYS) -> Issued:
        """A TLS certificate for both roles, apart from the end-to-end one as 62351-4 wants it.

        Arguments:
            name: file name part.
            hosts: DNS names and IP addresses, at least one.
            key, days: as for ``issue_e2e``.
        """
        if not hosts:
            raise ConfigError("a TLS certificate needs at least one host name or IP address")
        usage = [oids.KU_DIGITAL_SIGNATURE] + ([oids.KU_KEY_ENCIPHERMENT] if key.startswith("rsa") else [])
        extensions = (
            builder.key_usage(*usage),
            builder.extended_key_usage(oids.SERVER_AUTH, oids.CLIENT_AUTH),
            builder.alternative_names(hosts=hosts),
        )
        subject = builder.text_name(o=ORGANIZATION, cn=name)
        return self.issue(f"{name}.tls", subject, extensions, key, days)

    def issue(self, name: str, subject: bytes, extensions: Sequence[builder.Extension], key: str, days: int) -> Issued:
        """Any end-entity certificate; the key identifiers are added. Written to ``NAME.pem`` and ``NAME.key``."""
        paths: tuple[Path, ...] = ()
        check_name(name.rpartition(".")[0])
        if self.directory is not None:
            paths = (self.directory / f"{name}.pem", self.directory / f"{name}.key")
            for path in paths:
                if path.exists():
                    raise ConfigError(f"{path} exists already; revoke it and choose another name, or remove it")
        private = builder.generate_key(key)
        public = builder.spki(private.public_key())
        certificate = builder.certificate(
            serial=uuid.uuid4().int,
            issuer=self._issuer,
            subject=subject,
            public=public,
            not_before_ms=self.utc_ms - SKEW_MS,
            not_after_ms=self.utc_ms + days_ms(days),
            extensions=(
                *extensions,
                builder.subject_key_identifier(builder.key_identifier(public)),
                builder.authority_key_identifier(builder.key_identifier(builder.spki(self._public()))),
            ),
            key=self._key,
        )
        issued = Issued(certificate, private, paths)
        if paths:
            write_new(paths[1], issued.key_pem, secret=True)
            write_new(paths[0], issued.certificate_pem)
        return issued

    def _public(self) -> builder.PublicKey:
        return self._key.public_key()

    # --- revoking ---------------------------------------------------------------------------------------------------
    def revoke(self, *certificates: bytes, crl_days: int = CRL_DAYS) -> bytes:
        """Add these certificates (DER) to the CRL and renew it; with none it is only renewed. Returns the CRL, DER.

        ConfigError for a certificate of another issuer.
        """
        old = x509.load_der_x509_crl(self.crl)
        revoked = {entry.serial_number: _ms(entry.revocation_date_utc) for entry in old}
        for der in certificates:
            certificate = x509.load_der_x509_certificate(der)
            if certificate.issuer.public_bytes() != self._issuer:
                raise ConfigError("this certificate was issued by another authority")
            revoked.setdefault(certificate.serial_number, self.utc_ms)
        number = old.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        self._write_crl(tuple(revoked.items()), number + 1, crl_days)
        return self.crl

    def revoke_name(self, name: str, *, crl_days: int = CRL_DAYS) -> tuple[Path, ...]:
        """Revoke what was issued under ``name``: its e2e and TLS certificate. Returns their files."""
        if self.directory is None:
            raise ConfigError("this authority has no directory; use revoke(certificate)")
        check_name(name)
        paths = [path for kind in ("e2e", "tls") if (path := self.directory / f"{name}.{kind}.pem").exists()]
        if not paths:
            raise ConfigError(f"nothing was issued under the name {name!r}")
        self.revoke(
            *(
                x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(serialization.Encoding.DER)
                for path in paths
            ),
            crl_days=crl_days,
        )
        return tuple(paths)

    def _write_crl(self, revoked: Sequence[tuple[int, int]], number: int, days: int) -> None:
        self.crl = builder.revocation_list(
            issuer=self._issuer,
            this_update_ms=self.utc_ms - SKEW_MS,
            next_update_ms=self.utc_ms + days_ms(days),
            revoked=revoked,
            extensions=(
                builder.authority_key_identifier(builder.key_identifier(builder.spki(self._public()))),
                builder.crl_number(number),
            ),
            key=self._key,
        )
        if self.directory is not None:
            # A reader sees the old list or the new one, never half of it.
            fresh = self.directory / "root.crl.pem.new"
            fresh.unlink(missing_ok=True)
            write_new(fresh, pem_text("X509 CRL", self.crl))
            fresh.replace(self.directory / "root.crl.pem")


def check_name(name: str) -> None:
    """ConfigError unless ``name`` can be a part of file names."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r}: a name has letters, digits and ._- only, at most 64")


def days_ms(days: int) -> int:
    """A validity in ms; ConfigError unless it is 1 to 36500 days."""
    if not 1 <= days <= 36_500:
        raise ConfigError("validity is 1 to 36500 days")
    return days * _DAY_MS


def _ms(moment: datetime.datetime) -> int:
    return int(moment.timestamp()) * 1000


def pem_text(label: str, der: bytes) -> bytes:
    """DER as PEM."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode("ascii")


def _key_pem(key: builder.PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_new(path: Path, octets: bytes, *, secret: bool = False) -> None:
    """Write a file that must not exist yet; a secret one with mode 0600."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if secret else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
