"""Path validation (RFC 5280 section 6, the part that 62351-4 and 62351-9 need) and the binding to an identity.

Built for the usual case, a leaf directly under an anchor: one signature verification and a few look-ups. Names are
compared octet by octet. Key identifiers are hints: they order the candidates and decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from fastsec import limits
from fastsec.errors import ConfigError, HandshakeError, IntegrityError, PeerError
from fastsec.pki import oids
from fastsec.pki.certificate import Certificate, name_text
from fastsec.pki.crl import RevocationList
from fastsec.pki.roles import RoleGrant

Binding = Literal["subject", "registered-id", "either"]
_BINDINGS: Final = ("subject", "registered-id", "either")
# How telling a fault is when no path was found: a signature that fails under the very key the certificate names
# says more than an issuer out of order, and that more than a namesake's key that does not fit.
_NO_ISSUER, _NAMESAKE, _ISSUER_FAULT, _FORGED = range(4)


@dataclass(frozen=True, slots=True)
class VerifiedPeer:
    """Proof that a certificate was validated; only ``TrustStore`` makes one.

    Attributes:
        certificate: the end-entity certificate.
        names: the identities it is for, dotted OBJECT IDENTIFIERs (``OsiName.oid``); empty only if it was validated
            without one (A-profile).
        not_after_ms: when the first certificate of the path ends, ms since 1970 UTC.
        warnings: what could not be checked: a mnemonic of the domain IEC62351-9 (62351-14), a colon, a sentence.
        chain: the authorities, issuer first, trust anchor last.
        roles: what its tokens grant of what counts here; only ``fastsec.attribute.take_roles`` puts them in.
    """

    certificate: Certificate
    names: frozenset[str]
    not_after_ms: int
    warnings: tuple[str, ...]
    chain: tuple[Certificate, ...]
    roles: tuple[RoleGrant, ...] = ()


class TrustStore:
    """Whom to believe: trust anchors, CRLs, and how a certificate names its subject. Immutable.

    Arguments:
        anchors: DER certificates of authorities, at least one.
        crls: DER CRLs.
        binding: what identity a certificate is for: ``subject`` (one RDN objectIdentifier, 62351-4 Annex G),
            ``registered-id`` (subjectAltName), or ``either``: where it has both they must agree.

    Raises: ConfigError for something that cannot serve as an anchor or CRL.
    """

    __slots__ = ("_anchors", "_binding", "_crls", "_genuine")

    def __init__(self, anchors: Sequence[bytes], crls: Sequence[bytes] = (), binding: Binding = "either") -> None:
        if binding not in _BINDINGS:
            raise ConfigError(f"binding must be one of {', '.join(_BINDINGS)}")
        if not anchors:
            raise ConfigError("name at least one trust anchor, or nobody can be believed")
        self._binding = binding
        self._anchors: dict[bytes, list[Certificate]] = {}
        for der in dict.fromkeys(anchors):
            anchor = _anchor(der)
            self._anchors.setdefault(anchor.subject, []).append(anchor)
        self._crls: dict[bytes, list[RevocationList]] = {}
        for der in dict.fromkeys(crls):
            try:
                crl = RevocationList(der)
            except PeerError as error:
                raise ConfigError(f"a CRL is not usable: {error}") from error
            self._crls.setdefault(crl.issuer, []).append(crl)
        for lists in self._crls.values():
            lists.sort(key=lambda crl: (crl.this_update_ms, crl.number), reverse=True)
        # Whether a CRL's signature verifies under an issuer's key: the same answer each time, so found once.
        self._genuine: dict[tuple[int, bytes], bool] = {}

    @property
    def anchors(self) -> tuple[Certificate, ...]:
        """The trust anchors."""
        return tuple(anchor for namesakes in self._anchors.values() for anchor in namesakes)

    def validate(
        self,
        leaf: bytes,
        path: Sequence[bytes],
        utc_ms: int,
        *,
        certificate: Certificate | None = None,
        identity: bool = True,
    ) -> VerifiedPeer:
        """Validate an end-to-end certificate.

        Arguments:
            leaf: DER.
            path: DER certificates of authorities that came with it, any order; at most 4 with 16 KiB.
            utc_ms: now, ms since 1970 UTC.
            certificate: ``leaf`` parsed, if the caller has it already.
            identity: whether it has to follow Annex G and name an OSI identity; False for the ordinary certificates of
                the A-profile, which the caller binds to a peer otherwise.
        Raises: HandshakeError with check ``certificate`` (a fault of the leaf), ``path`` (of the path),
        ``certificate-signature`` (alarm) or ``revoked`` (alarm).
        """
        if certificate is None or certificate.der != leaf:
            certificate = Certificate(leaf)
        if identity:
            certificate.check_leaf()
        else:
            certificate.check_signer()
        if len(path) > limits.OUR_CERT_PATH_COUNT or sum(map(len, path)) > limits.OUR_CERT_PATH_MAX:
            raise HandshakeError("certification path too long", check="path", step="certPath")
        chain = _Search(self._anchors, path, utc_ms).chain(certificate)
        certificate.check_valid(utc_ms)
        return self._verdict(certificate, chain, utc_ms, identity)

    def recheck(self, peer: VerifiedPeer, utc_ms: int) -> VerifiedPeer:
        """Look again at expiry and revocation of a peer validated before, perhaps by an earlier TrustStore (then the
        whole validation is done). Same errors as ``validate``."""
        anchors = self._anchors.get(peer.chain[-1].subject, ())
        if not any(anchor is peer.chain[-1] for anchor in anchors):
            return self.validate(
                peer.certificate.der,
                [issuer.der for issuer in peer.chain[:-1]],
                utc_ms,
                certificate=peer.certificate,
                identity=bool(peer.names),
            )
        for issuer in peer.chain:
            issuer.check_valid(utc_ms, "path")
        peer.certificate.check_valid(utc_ms)
        return self._verdict(peer.certificate, peer.chain, utc_ms, bool(peer.names))

    def _verdict(self, leaf: Certificate, chain: tuple[Certificate, ...], utc_ms: int, identity: bool) -> VerifiedPeer:
        warnings: list[str] = []
        subject = leaf
        for issuer in chain:
            self._revocation(subject, issuer, utc_ms, warnings)
            subject = issuer
        not_after_ms = min(leaf.not_after_ms, min(issuer.not_after_ms for issuer in chain))
        names = self._names(leaf) if identity else frozenset[str]()
        return VerifiedPeer(leaf, names, not_after_ms, tuple(warnings), chain)

    def _names(self, leaf: Certificate) -> frozenset[str]:
        subject = leaf.subject_oid
        registered = frozenset(leaf.registered_ids)
        if self._binding == "registered-id" or (self._binding == "either" and subject is None):
            names = registered
        else:
            names = frozenset() if subject is None else frozenset([subject])
            if self._binding == "either" and registered and registered != names:
                raise HandshakeError("subject and registeredID differ", check="certificate", step="subjectAltName")
        if not names:
            raise HandshakeError(
                f"certificate names no identity by {self._binding}", check="certificate", step="subject"
            )
        return names

    def _revocation(self, subject: Certificate, issuer: Certificate, utc_ms: int, warnings: list[str]) -> None:
        """HandshakeError if subject is revoked; a warning if this cannot be told. A revocation counts even on a list
        that is overdue."""
        fault = "CERT_V_R_NR_CRL: no CRL of {}"
        for crl in self._crls.get(issuer.subject, ()):
            if not self._is_genuine(crl, issuer):
                # Another key of the same authority has its own list.
                if _may_match(crl.authority_key_id, issuer.subject_key_id):
                    fault = "CERT_V_CRL_SIG_FAIL: the CRL of {} has a bad signature"
                continue
            if subject.serial in crl.serials:
                check = "revoked"
                raise HandshakeError(f"certificate {subject.serial.hex()} is revoked", check=check, step="CRL")
            if not (crl.for_authorities if subject.is_ca else crl.for_users):
                continue
            if crl.next_update_ms is not None and utc_ms >= crl.next_update_ms + 1000:
                fault = "CERT_V_CRL_EXP: the CRL of {} is out of date"
            elif utc_ms < crl.this_update_ms - limits.SPEC_CLOCK_SKEW * 1000:
                fault = "CERT_V_R_NR_CRL: the CRL of {} is from the future"
            else:
                return
            break
        warnings.append(fault.format(name_text(issuer.subject)))

    def _is_genuine(self, crl: RevocationList, issuer: Certificate) -> bool:
        key = (id(crl), issuer.public_key.octets)
        known = self._genuine.get(key)
        if known is None:
            try:
                crl.verify(issuer)
                known = True
            except IntegrityError:
                known = False
            # A peer may bring intermediates of any key under the name of a CRL's issuer only below an anchor, so this
            # does not grow by a stranger's doing; authorities are few.
            self._genuine[key] = known
        return known


def _anchor(der: bytes) -> Certificate:
    try:
        anchor = Certificate(der, ca=True)
    except PeerError as error:
        raise ConfigError(f"a trust anchor is not usable: {error}") from error
    if not anchor.is_ca or not anchor.has_usage(oids.KU_KEY_CERT_SIGN):
        raise ConfigError(f"the trust anchor {name_text(anchor.subject)} is not an authority's certificate")
    return anchor


def _may_match(child: bytes | None, issuer: bytes | None) -> bool:
    return child is None or issuer is None or child == issuer


class _Search:
    """One search for a chain of issuers from a leaf up to an anchor, with a bounded number of verifications."""

    def __init__(self, anchors: dict[bytes, list[Certificate]], path: Sequence[bytes], utc_ms: int) -> None:
        self.anchors = anchors
        self.path = path
        self.utc_ms = utc_ms
        self.parsed: list[Certificate] | None = None
        self.used: set[int] = set()
        self.budget = limits.OUR_PATH_VERIFICATIONS
        self.rank = _NO_ISSUER
        self.fault = HandshakeError("no trusted issuer", check="path", step="certPath")

    def chain(self, leaf: Certificate) -> tuple[Certificate, ...]:
        """The issuers of leaf, its own first, the anchor last. HandshakeError with the most telling fault."""
        chain = self._issuers(leaf, 0)
        if chain is None:
            raise self.fault
        return chain

    def _issuers(self, child: Certificate, below: int) -> tuple[Certificate, ...] | None:
        """The chain above child; ``below``: how many intermediates that count for pathLen lie below its issuer."""
        for anchor in _ordered(self.anchors.get(child.issuer, ()), child):
            if self._issued(anchor, child, below):
                return (anchor,)
        if self.parsed is None:
            if not self.path:
                return None
            self.parsed = [Certificate(der, ca=True) for der in dict.fromkeys(self.path)]
        for issuer in _ordered([c for c in self.parsed if c.subject == child.issuer], child):
            # Each certificate stands in a chain once, so there is no circle and no chain beyond the limit.
            if id(issuer) in self.used or not self._issued(issuer, child, below):
                continue
            self.used.add(id(issuer))
            above = self._issuers(issuer, below + (not issuer.self_issued))
            if above is not None:
                return (issuer, *above)
            self.used.discard(id(issuer))
        return None

    def _issued(self, issuer: Certificate, child: Certificate, below: int) -> bool:
        """Whether issuer may have issued child and did. What speaks against it is kept if it tells more."""
        fault = None
        if not issuer.is_ca:
            fault = "the issuer is not an authority"
        elif not issuer.has_usage(oids.KU_KEY_CERT_SIGN):
            fault = "the issuer may not sign certificates"
        elif issuer.path_len is not None and below > issuer.path_len:
            fault = "the issuer's pathLenConstraint is exceeded"
        elif not issuer.not_before_ms <= self.utc_ms < issuer.not_after_ms + 1000:
            fault = "the issuer's certificate is expired or not yet valid"
        elif self.budget == 0:
            fault = "too many signatures to verify"
        if fault is not None:
            self._keep(_ISSUER_FAULT, fault, "path")
            return False
        self.budget -= 1
        try:
            issuer.public_key.verify(child.signature_algorithm, child.tbs, child.signature)
        except IntegrityError:
            named = _may_match(child.authority_key_id, issuer.subject_key_id)
            self._keep(
                _FORGED if named else _NAMESAKE,
                "the signature of a certificate does not verify",
                "certificate-signature",
            )
            return False
        return True

    def _keep(self, rank: int, message: str, check: str) -> None:
        if rank > self.rank:
            self.rank = rank
            self.fault = HandshakeError(message, check=check, step="certPath")


def _ordered(candidates: Sequence[Certificate], child: Certificate) -> Sequence[Certificate]:
    """Candidates whose key identifier fits first."""
    if len(candidates) < 2:
        return candidates
    return sorted(candidates, key=lambda issuer: not _may_match(child.authority_key_id, issuer.subject_key_id))
