"""Path validation (RFC 5280 section 6, the part that 62351-4 and 62351-9 need) and the binding to an identity.

Built for the usual case, a leaf directly under an anchor: one signature verification and a few look-ups. Names are
compared octet by octet. Key identifiers are hints: they order the candidates and decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from fastsec import limits
from fastsec.errors import ConfigError, HandshakeError, IntegrityError, PeerError
from fastsec.events import SecurityEvent
from fastsec.pki import oids
from fastsec.pki.attribute import VerifiedToken
from fastsec.pki.certificate import Certificate, name_text
from fastsec.pki.findings import Cert, certificate_event
from fastsec.pki.revocation import Question, Revocations, may_match
from fastsec.pki.roles import RoleGrant, Withdrawn

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
        findings: what could not be checked or is not as it should be: events of the domain IEC62351-9, to be raised
            once per association.
        chain: the authorities, issuer first, trust anchor last.
        roles: what its tokens grant of what counts here; ``fastsec.attribute`` puts them in.
        token: its attribute certificate, if it may grant roles here.
        withdrawn: roles that its tokens take away, with the number of that change.
        questions: what has to be asked about its revocation, then ``TrustStore.settle``; only if ``may_ask``.
    """

    certificate: Certificate
    names: frozenset[str]
    not_after_ms: int
    findings: tuple[SecurityEvent, ...]
    chain: tuple[Certificate, ...]
    roles: tuple[RoleGrant, ...] = ()
    token: VerifiedToken | None = None
    withdrawn: Withdrawn = ()
    questions: tuple[Question, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The findings in words: mnemonic, colon, facts."""
        return tuple(
            f"{event.mnemonic}: " + ", ".join(f"{name} {value}" for name, value in event.params)
            for event in self.findings
        )


class TrustStore:
    """Whom to believe: trust anchors, CRLs, and how a certificate names its subject. Immutable.

    Arguments:
        anchors: DER certificates of authorities, at least one.
        crls: DER CRLs.
        binding: what identity a certificate is for: ``subject`` (one RDN objectIdentifier, 62351-4 Annex G),
            ``registered-id`` (subjectAltName), or ``either``: where it has both they must agree.
        revocation: what is known about revocation, kept up to date by a ``RevocationService``; None: ``crls`` alone.

    Raises: ConfigError for something that cannot serve as an anchor or CRL.
    """

    __slots__ = ("_anchors", "_binding", "revocation")

    def __init__(
        self,
        anchors: Sequence[bytes],
        crls: Sequence[bytes] = (),
        binding: Binding = "either",
        *,
        revocation: Revocations | None = None,
    ) -> None:
        if binding not in _BINDINGS:
            raise ConfigError(f"binding must be one of {', '.join(_BINDINGS)}")
        if not anchors:
            raise ConfigError("name at least one trust anchor, or nobody can be believed")
        self._binding = binding
        self._anchors: dict[bytes, list[Certificate]] = {}
        for der in dict.fromkeys(anchors):
            anchor = _anchor(der)
            self._anchors.setdefault(anchor.subject, []).append(anchor)
        if revocation is None:
            revocation = Revocations(crls)
        elif crls:
            revocation.give(crls)
        self.revocation = revocation
        for anchor in self.anchors:
            revocation.know(anchor)

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
        may_ask: bool = False,
    ) -> VerifiedPeer:
        """Validate an end-to-end certificate.

        Arguments:
            leaf: DER.
            path: DER certificates of authorities that came with it, any order; at most 4 with 16 KiB.
            utc_ms: now, ms since 1970 UTC.
            certificate: ``leaf`` parsed, if the caller has it already.
            identity: whether it has to follow Annex G and name an OSI identity; False for the ordinary certificates of
                the A-profile, which the caller binds to a peer otherwise.
            may_ask: whether the caller will have ``VerifiedPeer.questions`` asked and then call ``settle``.
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
            raise _bad_path("certification path too long", Cert.PATH)
        chain = _Search(self._anchors, path, utc_ms).chain(certificate)
        certificate.check_valid(utc_ms)
        return self._verdict(certificate, chain, utc_ms, identity, may_ask=may_ask)

    def recheck(self, peer: VerifiedPeer, utc_ms: int, *, may_ask: bool = False) -> VerifiedPeer:
        """Look again at expiry and revocation of a peer validated before, perhaps by an earlier TrustStore (then the
        whole validation is done). Same errors as ``validate``, but that nobody knows is not one."""
        anchors = self._anchors.get(peer.chain[-1].subject, ())
        if not any(anchor is peer.chain[-1] for anchor in anchors):
            return self.validate(
                peer.certificate.der,
                [issuer.der for issuer in peer.chain[:-1]],
                utc_ms,
                certificate=peer.certificate,
                identity=bool(peer.names),
                may_ask=may_ask,
            )
        for issuer in peer.chain:
            issuer.check_valid(utc_ms, "path")
        peer.certificate.check_valid(utc_ms)
        return self._verdict(
            peer.certificate, peer.chain, utc_ms, bool(peer.names), may_ask=may_ask, establishing=False
        )

    def settle(self, peer: VerifiedPeer, utc_ms: int, *, establishing: bool = True) -> VerifiedPeer:
        """``peer`` after its questions were asked, or were not answered in time. HandshakeError as ``validate``."""
        found = self.revocation.judge(peer.certificate, peer.chain, utc_ms, establishing=establishing)
        # What is revoked without being refused, a role token that is, stays so.
        certain = tuple(
            finding
            for finding in peer.findings
            if not finding.id.startswith("IEC62351-9:4.") or finding.id == "IEC62351-9:4.1"
        )
        findings = tuple(dict.fromkeys((*certain, *found.findings)))
        return replace(peer, findings=findings, questions=())

    def _verdict(
        self,
        leaf: Certificate,
        chain: tuple[Certificate, ...],
        utc_ms: int,
        identity: bool,
        *,
        may_ask: bool,
        establishing: bool = True,
    ) -> VerifiedPeer:
        found = self.revocation.judge(leaf, chain, utc_ms, may_ask=may_ask, establishing=establishing)
        not_after_ms = min(leaf.not_after_ms, min(issuer.not_after_ms for issuer in chain))
        names = self._names(leaf) if identity else frozenset[str]()
        findings = found.findings
        if leaf.authority_key_id is None or any(issuer.subject_key_id is None for issuer in chain):
            findings = (*_identifiers_missing(leaf, chain), *findings)
        return VerifiedPeer(leaf, names, not_after_ms, findings, chain, questions=found.questions)

    def _names(self, leaf: Certificate) -> frozenset[str]:
        subject = leaf.subject_oid
        registered = frozenset(leaf.registered_ids)
        if self._binding == "registered-id" or (self._binding == "either" and subject is None):
            names = registered
        else:
            names = frozenset() if subject is None else frozenset([subject])
            if self._binding == "either" and registered and registered != names:
                raise _bad_subject("subject and registeredID differ", "subjectAltName")
        if not names:
            raise _bad_subject(f"certificate names no identity by {self._binding}", "subject")
        return names


def _bad_subject(message: str, step: str) -> HandshakeError:
    also = (certificate_event(Cert.SUBJECT, reason=message),)
    return HandshakeError(message, check="certificate", step=step, also=also)


def _bad_path(message: str, number: int, check: str = "path") -> HandshakeError:
    return HandshakeError(message, check=check, step="certPath", also=(certificate_event(number, reason=message),))


def _identifiers_missing(leaf: Certificate, chain: Sequence[Certificate]) -> tuple[SecurityEvent, ...]:
    """Key identifiers that 62351-9 wants and that nothing here depends on."""
    found = []
    if leaf.authority_key_id is None:
        found.append(certificate_event(Cert.AUTHORITY_KEY_ID, reason="missing", serial=leaf.serial.hex()))
    for issuer in chain:
        if issuer.subject_key_id is None:
            found.append(certificate_event(Cert.SUBJECT_KEY_ID, reason="missing", authority=name_text(issuer.subject)))
    return tuple(found)


def _anchor(der: bytes) -> Certificate:
    try:
        anchor = Certificate(der, ca=True)
    except PeerError as error:
        raise ConfigError(f"a trust anchor is not usable: {error}") from error
    if not anchor.is_ca or not anchor.has_usage(oids.KU_KEY_CERT_SIGN):
        raise ConfigError(f"the trust anchor {name_text(anchor.subject)} is not an authority's certificate")
    return anchor


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
        self.fault = _bad_path("no trusted issuer", Cert.ISSUER)

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
            if self.rank == _NO_ISSUER:
                self.fault = _bad_path("no trusted issuer", Cert.PATH)
            self.parsed = [Certificate(der, ca=True) for der in dict.fromkeys(self.path)]
        for issuer in _ordered([c for c in self.parsed if c.subject == child.issuer], child):
            # Each certificate stands in a chain once, so there is no circle and no chain beyond the limit.
            if id(issuer) in self.used or not self._issued(issuer, child, below):
                continue
            self.used.add(id(issuer))
            if self.rank == _NO_ISSUER:  # the path fits, but leads to nobody we trust
                self.fault = _bad_path("no trusted issuer", Cert.ANCHOR)
            above = self._issuers(issuer, below + (not issuer.self_issued))
            if above is not None:
                return (issuer, *above)
            self.used.discard(id(issuer))
        return None

    def _issued(self, issuer: Certificate, child: Certificate, below: int) -> bool:
        """Whether issuer may have issued child and did. What speaks against it is kept if it tells more."""
        fault = None
        if not issuer.is_ca:
            fault = "the issuer is not an authority", Cert.BASIC_CONSTRAINTS
        elif not issuer.has_usage(oids.KU_KEY_CERT_SIGN):
            fault = "the issuer may not sign certificates", Cert.KEY_CERT_SIGN
        elif issuer.path_len is not None and below > issuer.path_len:
            fault = "the issuer's pathLenConstraint is exceeded", Cert.PATH_LENGTH
        elif self.utc_ms < issuer.not_before_ms:
            fault = "the issuer's certificate is not yet valid", Cert.EARLY
        elif self.utc_ms >= issuer.not_after_ms + 1000:
            fault = "the issuer's certificate is expired", Cert.EXPIRED
        elif self.budget == 0:
            fault = "too many signatures to verify", Cert.PATH
        if fault is not None:
            self._keep(_ISSUER_FAULT, *fault, "path")
            return False
        self.budget -= 1
        try:
            issuer.public_key.verify(child.signature_algorithm, child.tbs, child.signature)
        except IntegrityError:
            named = may_match(child.authority_key_id, issuer.subject_key_id)
            self._keep(
                _FORGED if named else _NAMESAKE,
                "the signature of a certificate does not verify",
                Cert.SIGNATURE if named else Cert.AUTHORITY_KEY_ID,
                "certificate-signature",
            )
            return False
        return True

    def _keep(self, rank: int, message: str, number: int, check: str) -> None:
        if rank > self.rank:
            self.rank = rank
            self.fault = _bad_path(message, number, check)


def _ordered(candidates: Sequence[Certificate], child: Certificate) -> Sequence[Certificate]:
    """Candidates whose key identifier fits first."""
    if len(candidates) < 2:
        return candidates
    return sorted(candidates, key=lambda issuer: not may_match(child.authority_key_id, issuer.subject_key_id))
