"""Revocation of TLS certificates from CRL files."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import TYPE_CHECKING

from cryptography import x509

from fastsec.aio.tls_checks import CertificateRefused, PeerFacts
from fastsec.errors import ConfigError
from fastsec.events import SecurityEvent, named
from fastsec.pki.credential import load_crls

if TYPE_CHECKING:
    from datetime import datetime


class FileRevocation:
    """CRLs by issuer. Only those whose signature an anchor verifies count.

    Arguments:
        files: PEM or DER.
        anchors: DER certificates.
    """

    __slots__ = ("_crls",)

    def __init__(self, files: Iterable[str | PathLike[str]], anchors: Iterable[bytes]) -> None:
        issuers = []
        for der in anchors:
            certificate = x509.load_der_x509_certificate(der)
            issuers.append((certificate.subject.public_bytes(), certificate.public_key()))
        self._crls: dict[bytes, tuple[datetime, datetime | None, dict[int, str]]] = {}
        for file in files:
            try:
                ders = load_crls(file)
                crls = [x509.load_der_x509_crl(der) for der in ders]
            except (ConfigError, ValueError) as error:
                raise ConfigError(f"TLS CRL {file}: {error}") from None
            for crl in crls:
                issuer = crl.issuer.public_bytes()
                if not any(name == issuer and crl.is_signature_valid(key) for name, key in issuers):  # type: ignore[arg-type]  # other kinds of key sign no CRL
                    raise ConfigError(f"TLS CRL {file}: no trust anchor verifies its signature")
                known = self._crls.get(issuer)
                if known is None or known[0] < crl.last_update_utc:
                    revoked = {entry.serial_number: _reason(entry) for entry in crl}
                    self._crls[issuer] = crl.last_update_utc, crl.next_update_utc, revoked

    def check(self, facts: PeerFacts, utc: float, peer: str, *, establishing: bool) -> tuple[SecurityEvent, ...]:
        """See ``RevocationCheck``."""
        found = self._crls.get(facts.issuer)
        if found is None:
            return (named("TLS_NO_CRL", peer=peer),)
        _, until, revoked = found
        reason = revoked.get(facts.serial)
        if reason is not None:
            name = "TLS_CERT_REVOKED" if establishing else "TLS_SESSION_CLOSED_REV"
            raise CertificateRefused("the peer's certificate is revoked", named(name, peer=peer, CRLReason=reason))
        if until is not None and until.timestamp() < utc:
            return (named("TLS_CRL_EXP", peer=peer),)
        return ()


def _reason(entry: x509.RevokedCertificate) -> str:
    try:
        return str(entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
    except (x509.ExtensionNotFound, ValueError):
        return "unspecified"
