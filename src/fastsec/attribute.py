"""The role tokens of a verified peer (IEC 62351-8): the extension of its certificate and its attribute certificate.

Attribute certificate (RFC 5755, 62351-9 Table 2), in this order: form and version, holder, issuer, signature, validity,
extensions, revocation. A failed check refuses the handshake (invalid-attribute-certificate). A grant that is not known
here is left out, with an event. Where no attribute authority is believed, an attribute certificate grants nothing, so
only form, holder and validity are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from fastsec.errors import HandshakeError, IntegrityError
from fastsec.events import SecurityEvent, event, named
from fastsec.pki import oids
from fastsec.pki.attribute import (
    CHECK,
    STEP,
    AttributeCertificate,
    VerifiedToken,
    attribute_authority,
    fault,
)
from fastsec.pki.certificate import Certificate
from fastsec.pki.revocation import Question, may_match
from fastsec.pki.roles import Judged, RoleGrant, RoleTrust, judge

if TYPE_CHECKING:
    from fastsec.pki.path import TrustStore, VerifiedPeer

_CANDIDATES: Final = 2  # certificates of one issuer that a peer may bring
_SHORT_MS: Final = 24 * 3_600_000  # who lives so short need not say how revocation is learned (62351-9)


def take_roles(
    peer: VerifiedPeer,
    att_cert: bytes | None,
    cert_path: Sequence[bytes],
    roles: RoleTrust,
    trust: TrustStore,
    utc_ms: int,
    *,
    may_ask: bool = False,
    before: VerifiedToken | None = None,
) -> VerifiedPeer:
    """The peer with the roles that its tokens grant here; the last check of a handshake PDU (62351-4 §6).

    Arguments:
        peer: whose public-key certificate is verified.
        att_cert, cert_path: of its ClearToken1.
        roles: whose roles count.
        may_ask: whether the caller will have ``VerifiedPeer.questions`` asked and then call ``settle``.
        before: of an open association: its attribute certificate as it was verified; then ``att_cert`` is None.
    Errors:
        HandshakeError "attribute-certificate".
    """
    certificate = peer.certificate
    needed = roles.required
    if (
        att_cert is None
        and before is None
        and certificate.user_roles is None
        and not certificate.role_faults
        and not needed
    ):
        return peer
    findings: tuple[SecurityEvent, ...] = ()
    questions: tuple[Question, ...] = ()
    judged: list[Judged] = []
    tokens = 0
    if roles.certificates:
        findings += certificate.role_faults
        if certificate.user_roles:
            judged.append(judge(certificate.user_roles, roles, "certificate"))
            tokens += 1
    token: VerifiedToken | None = None
    if att_cert is not None or before is not None:
        parsed = before.certificate if before is not None else _parsed(att_cert or b"")
        verifier = _Verifier(parsed, roles, trust, utc_ms, may_ask, before is None)
        token = verifier.verify(certificate, cert_path, before.chain if before is not None and before.issued else ())
        findings += verifier.findings
        questions = verifier.questions
        if token is not None and token.certificate.user_roles:
            judged.append(judge(token.certificate.user_roles, roles, "attribute-certificate"))
            tokens += token.certificate.tokens
    if not tokens and needed:
        missing = named("AT_NOT_AVAIL", reason="no role token that counts here")
        raise HandshakeError("no role token, but one is required", check=CHECK, step=STEP, also=(missing,))
    if tokens > 1:
        findings += (named("MULTIPLE_AT", reason=f"{tokens} role tokens"),)
    for one in judged:
        findings += one.findings
    return replace(
        peer,
        roles=_together(judged),
        withdrawn=tuple((key, number) for one in judged for key, number in one.withdrawn.items() if number is not None),
        token=token,
        findings=tuple(dict.fromkeys(peer.findings + findings)),
        questions=peer.questions + questions,
    )


def settle(
    peer: VerifiedPeer, roles: RoleTrust, trust: TrustStore, utc_ms: int, *, establishing: bool = True
) -> VerifiedPeer:
    """``TrustStore.settle``, and the same for the attribute certificate: after the questions about both were asked.
    HandshakeError as there, or "attribute-certificate"; of an open association such a token only grants nothing."""
    settled = trust.settle(peer, utc_ms, establishing=establishing)
    if peer.token is None:
        return settled
    verifier = _Verifier(peer.token.certificate, roles, trust, utc_ms, False, establishing)
    try:
        verifier.check_revocation(peer.token.chain)
    except HandshakeError as failed:
        if establishing:
            raise
        return _without_token(settled, failed, roles, trust, utc_ms)
    return replace(settled, findings=tuple(dict.fromkeys(settled.findings + verifier.findings)))


def recheck(
    peer: VerifiedPeer, roles: RoleTrust, trust: TrustStore, utc_ms: int, *, may_ask: bool = False
) -> VerifiedPeer:
    """Look again at a peer of an open association: its certificate, as ``TrustStore.recheck``, whose errors end the
    association; and its tokens, of which one that is not good any more grants nothing, with its events."""
    fresh = trust.recheck(peer, utc_ms, may_ask=may_ask)
    roles = replace(roles, required=False)  # a demand on handshakes
    try:
        return take_roles(fresh, None, (), roles, trust, utc_ms, may_ask=may_ask, before=peer.token)
    except HandshakeError as failed:
        return _without_token(fresh, failed, roles, trust, utc_ms)


def _without_token(
    peer: VerifiedPeer, failed: HandshakeError, roles: RoleTrust, trust: TrustStore, utc_ms: int
) -> VerifiedPeer:
    """The peer with what its certificate alone grants, since its attribute certificate failed."""
    bare = replace(peer, roles=(), token=None)
    kept = take_roles(bare, None, (), replace(roles, required=False), trust, utc_ms)
    return replace(kept, findings=tuple(dict.fromkeys(kept.findings + failed.also)))


def _together(judged: Sequence[Judged]) -> tuple[RoleGrant, ...]:
    """What all tokens grant, without what one of them takes away; a grant with a later number than that stays."""
    withdrawn: dict[tuple[int, str, str], int | None] = {}
    for one in judged:
        withdrawn.update(one.withdrawn)
    grants = [grant for one in judged for grant in one.grants]
    if not withdrawn:
        return tuple(grants)
    return tuple(grant for grant in grants if not _is_withdrawn(grant, withdrawn))


def _is_withdrawn(grant: RoleGrant, withdrawn: dict[tuple[int, str, str], int | None]) -> bool:
    key = grant.role, grant.aor, grant.definition
    if key not in withdrawn:
        return False
    number = withdrawn[key]
    return number is None or grant.sequence is None or grant.sequence <= number


# --- one attribute certificate --------------------------------------------------------------------------------------


class _Verifier:
    """The checks of one attribute certificate, and what could not be checked."""

    def __init__(
        self,
        token: AttributeCertificate,
        roles: RoleTrust,
        trust: TrustStore,
        utc_ms: int,
        may_ask: bool,
        establishing: bool,
    ) -> None:
        self.token = token
        self.roles = roles
        self.trust = trust
        self.utc_ms = utc_ms
        self.may_ask = may_ask
        self.establishing = establishing
        self.findings: tuple[SecurityEvent, ...] = ()
        self.questions: tuple[Question, ...] = ()

    def verify(
        self, holder: Certificate, path: Sequence[bytes], before: tuple[Certificate, ...] = ()
    ) -> VerifiedToken | None:
        """All checks; the token, if it may grant roles here. HandshakeError "attribute-certificate".

        Arguments:
            path: certPath that came with it.
            before: its issuer and the authorities above, where a path was verified already.
        """
        token = self.token
        wrong = token.belongs_to(holder)
        if wrong:
            raise fault(wrong, "attribute certificate of another holder", named("AT_SUB_AUTH_FAIL"))
        if not self.roles.attribute_certificates:
            self._check_valid()
            return None
        if token.inner_algorithm != token.outer_algorithm or token.signature_algorithm not in oids.SIGNATURES:
            raise fault(1, "signature algorithm of the attribute certificate", named("AT_SIGALG_NO_MATCH"))
        chain = self._issuer(path, before)
        self._check_valid()
        token.read_extensions()
        if not may_match(token.authority_key_id, chain[0].subject_key_id):
            raise fault(13, "attribute certificate names another key of its issuer")
        self.check_revocation(chain)
        return VerifiedToken(token, chain, chain[0].der not in self.roles.authorities)

    def _check_valid(self) -> None:
        if self.utc_ms < self.token.not_before_ms:
            raise fault(9, "attribute certificate not yet valid", named("AT_VAL_PERIODE_FAIL", reason="not yet"))
        if self.utc_ms >= self.token.not_after_ms + 1000:
            raise fault(8, "attribute certificate expired", named("AT_VAL_PERIODE_FAIL", reason="expired"))

    def _issuer(self, path: Sequence[bytes], before: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
        """The issuer whose key verifies the token, and the authorities above it."""
        failed = fault(
            7 if self.roles.issued_authorities else 6,
            "issuer of the attribute certificate is not trusted",
            named("AT_ISSUER_FAIL"),
        )
        configured = [attribute_authority(der) for der in self.roles.authorities]
        brought: list[Certificate] = []
        if self.roles.issued_authorities:
            brought = list(before[:1]) or self._brought(path)
        for issuer in (*configured, *brought):
            if issuer.subject != self.token.issuer:
                continue
            try:
                above = self._configured(issuer) if issuer in configured else self._issued(issuer, path, before)
            except HandshakeError as error:
                failed = self._bad_issuer(issuer, error)
                continue
            try:
                _check_signature(self.token, issuer)
            except IntegrityError:
                # Of several keys of one issuer another may fit.
                failed = fault(2, "signature of the attribute certificate does not verify", named("AT_INTEGRITY_FAIL"))
                continue
            return (issuer, *above)
        raise failed

    def _brought(self, path: Sequence[bytes]) -> list[Certificate]:
        """Certificates of the token's issuer in the peer's certPath that may issue attribute certificates (62351-9)."""
        found: list[Certificate] = []
        for der in path:
            if self.token.issuer not in der or len(found) == _CANDIDATES:
                continue
            try:
                certificate = _certificate(der)
            except HandshakeError:
                continue  # an authority above may have a key that only authorities have
            if certificate.is_source_of_authority and certificate.has_usage(oids.KU_DIGITAL_SIGNATURE):
                found.append(certificate)
        return found

    def _configured(self, issuer: Certificate) -> tuple[Certificate, ...]:
        """What is above an authority that is believed because it stands in the configuration: the anchor that has
        issued its certificate, if one has, so that it can be revoked. HandshakeError if it is out of date."""
        issuer.check_valid(self.utc_ms)
        for anchor in self.trust.anchors:
            if anchor.subject == issuer.issuer and may_match(issuer.authority_key_id, anchor.subject_key_id):
                return (anchor,)
        return ()

    def _issued(
        self, issuer: Certificate, path: Sequence[bytes], before: tuple[Certificate, ...]
    ) -> tuple[Certificate, ...]:
        """The authorities above one that is believed because an anchor vouches for it. HandshakeError if none does."""
        if before and before[-1] in self.trust.anchors:
            for authority in before:
                authority.check_valid(self.utc_ms)
            return before[1:]
        path = path or [authority.der for authority in before[1:-1]]
        return self.trust.validate(
            issuer.der, path, self.utc_ms, certificate=issuer, identity=False, may_ask=self.may_ask
        ).chain

    def _bad_issuer(self, issuer: Certificate, error: HandshakeError) -> HandshakeError:
        word = "AT_ISSUER_REVOKE" if error.check == "revoked" else "AT_ISSUER_FAIL"
        number = 6 if issuer.der in self.roles.authorities else 7
        return fault(number, f"issuer of the attribute certificate: {error}", *error.also, named(word))

    def check_revocation(self, chain: tuple[Certificate, ...]) -> None:
        """HandshakeError if the issuer or the token is revoked. A token that lives up to 24 h may leave open how its
        revocation is learned, and then nothing is missed; on a list that is there it counts all the same."""
        token = self.token
        if len(chain) > 1:
            try:
                issuer = self.trust.revocation.judge(
                    chain[0], chain[1:], self.utc_ms, may_ask=self.may_ask, establishing=self.establishing
                )
            except HandshakeError as error:
                raise self._bad_issuer(chain[0], error) from None
            self.findings += issuer.findings
            self.questions += issuer.questions
        silent = token.no_revocation
        if token.no_revocation:
            self.findings += (event("IEC62351-9", 3, 14),)
        elif not token.crl_urls and not token.ocsp_urls:
            silent = token.not_after_ms - token.not_before_ms <= _SHORT_MS
            if not silent:
                self.findings += (event("IEC62351-9", 3, 15), event("IEC62351-9", 3, 16))
        try:
            found = self.trust.revocation.judge(
                token,
                chain[:1],
                self.utc_ms,
                may_ask=self.may_ask and not silent,
                establishing=self.establishing and not silent,
            )
        except HandshakeError as error:
            raise HandshakeError(f"attribute {error}", check=CHECK, step=STEP, also=error.also) from None
        if not silent:
            self.findings += found.findings
            self.questions += found.questions


# A peer presents the same token in each of its handshakes. What depends on the octets alone is found out once; what
# raises is not kept, and a full cache forgets the oldest.
@lru_cache(maxsize=1024)
def _parsed(token: bytes) -> AttributeCertificate:
    return AttributeCertificate(token)


@lru_cache(maxsize=64)
def _certificate(der: bytes) -> Certificate:
    return Certificate(der)


@lru_cache(maxsize=1024)
def _check_signature(token: AttributeCertificate, issuer: Certificate) -> None:
    """IntegrityError unless the signature is the issuer's."""
    issuer.public_key.verify(token.signature_algorithm, token.tbs, token.signature)
