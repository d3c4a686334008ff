"""Whether the certificate of a TLS peer is revoked: ``fastsec.pki.revocation`` asked, told in words of 62351-3."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Final, cast

from fastsec.aio.tls_checks import CertificateRefused, PeerFacts
from fastsec.errors import HandshakeError, PeerError
from fastsec.events import SecurityEvent, named
from fastsec.pki.certificate import Certificate
from fastsec.pki.findings import Revocation

if TYPE_CHECKING:
    from fastsec.pki.revocation import Revocations

# Warnings of the domain IEC62351-9, group 4, for which IEC62351-3 has its own.
_OWN: Final = {
    f"IEC62351-9:4.{int(number)}": name
    for number, name in (
        (Revocation.NO_CRL, "TLS_NO_CRL"),
        (Revocation.CRL_SIGNATURE, "TLS_NO_CRL"),
        (Revocation.CRL_EXPIRED, "TLS_CRL_EXP"),
        (Revocation.OCSP_EXPIRED, "TLS_OCSP_RES_EXP"),
    )
}


class KnownRevocation:
    """Looks up what is known; where somebody has to be asked first it says where that is to be waited for.

    Arguments:
        known: lists and answers; ``RevocationService.known`` where they are kept up to date.
        anchors: DER certificates, for certificates whose path is not known (of a resumed session).
    """

    __slots__ = ("_anchors", "known")

    def __init__(self, known: Revocations, anchors: Iterable[bytes]) -> None:
        self.known = known
        self._anchors: dict[bytes, Certificate] = {}
        for der in anchors:
            anchor = _read(der)
            if anchor is not None:
                self._anchors[anchor.subject] = anchor

    def check(
        self, facts: PeerFacts, utc: float, peer: str, *, establishing: bool, final: bool
    ) -> tuple[tuple[SecurityEvent, ...], Executor | None]:
        """See ``RevocationCheck``."""
        path = [_read(der) for der in facts.chain]
        leaf = path[0]
        if leaf is not None and len(path) == 1:
            path.append(self._anchors.get(leaf.issuer))
        if leaf is None or None in path:
            if facts.der == facts.chain[-1] and facts.der in (each.der for each in self._anchors.values()):
                return (), None  # pinned: nobody else vouches for it
            return (named("TLS_NO_CRL", peer=peer, reason="of a certificate that cannot be looked up"),), None
        chain = cast("list[Certificate]", path[1:])
        try:
            found = self.known.judge(leaf, chain, int(utc * 1000), may_ask=not final, establishing=establishing)
        except HandshakeError as error:
            raise CertificateRefused(
                "the peer's certificate is revoked" if error.check == "revoked" else str(error),
                *(_told(each, peer, establishing) for each in error.also),
            ) from None
        events = tuple(_told(each, peer, establishing) for each in found.findings)
        if found.questions and self.known.executor is not None and not final:
            return (), cast(Executor, self.known.executor(found.questions))
        return events, None


def _read(der: bytes) -> Certificate | None:
    try:
        return Certificate(der, ca=True)
    except PeerError:
        return None  # with a key or an extension that end-to-end security has no use for


def _told(event: SecurityEvent, peer: str, establishing: bool) -> SecurityEvent:
    params = dict(event.params)
    if event.id == f"IEC62351-9:4.{int(Revocation.REVOKED)}":
        name = "TLS_CERT_REVOKED" if establishing else "TLS_SESSION_CLOSED_REV"
    elif event.id in _OWN:
        name = _OWN[event.id]
    else:
        return dataclasses.replace(event, peer=peer[:64])
    return named(name, peer=peer, **params)
