"""Rejects, aborts and release: the signed SecPDUs with ClearToken3 (62351-4 §6 control PDUs).

``make_control`` and ``take_control`` stand side by side, so that what one writes the other checks. Both run in worker
threads on the values they are given; nothing here knows an association.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastsec import limits, profile
from fastsec._core.crypto import equal
from fastsec.errors import HandshakeError
from fastsec.faults import Group
from fastsec.negotiation import V1
from fastsec.pki.certificate import Certificate
from fastsec.secpdu.der import assemble, encode_control_tbs
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import AlgorithmId, ClearToken1, ClearToken3, Control, Handshake, algorithm_id
from fastsec.secpdu.timestamp import time_key, time_text, time_utc_ms
from fastsec.state import Input

if TYPE_CHECKING:
    from fastsec.pki.credential import Credential
    from fastsec.pki.path import TrustStore, VerifiedPeer

SIGNATURES: Final = (profile.ECDSA_SHA256, profile.SHA256_RSA)

GROUP_OF: Final = {
    SecPduKind.HANDSHAKE_REQ: Group.HANDSHAKE_REQ,
    SecPduKind.HANDSHAKE_ACC: Group.HANDSHAKE_ACC,
    SecPduKind.APPLICATION_REJECT: Group.APPLICATION_REJECT,
    SecPduKind.HANDSHAKE_SEC_REJECT: Group.HANDSHAKE_SEC_REJECT,
    SecPduKind.HANDSHAKE_SEC_ABORT: Group.HANDSHAKE_SEC_ABORT,
    SecPduKind.DT_SEC_ABORT: Group.DT_SEC_ABORT,
    SecPduKind.APPL_ABORT: Group.APPL_ABORT,
    SecPduKind.RELEASE_REQ: Group.RELEASE_REQ,
    SecPduKind.RELEASE_RSP: Group.RELEASE_RSP,
    SecPduKind.CLEAR_TRANSFER: Group.CLEAR_TRANSFER,
    SecPduKind.ENCR_TRANSFER: Group.ENCR_TRANSFER,
}
INPUT_OF: Final = {kind: Input[kind.name] for kind in SecPduKind if kind.name in Input.__members__} | {
    SecPduKind.CLEAR_TRANSFER: Input.TRANSFER,
    SecPduKind.ENCR_TRANSFER: Input.TRANSFER,
}
CARRIER_OF: Final = {
    SecPduKind.APPLICATION_REJECT: Carrier.ASSOCIATE_RSP,
    SecPduKind.HANDSHAKE_SEC_REJECT: Carrier.ASSOCIATE_RSP,
    SecPduKind.HANDSHAKE_SEC_ABORT: Carrier.ABORT,
    SecPduKind.DT_SEC_ABORT: Carrier.ABORT,
    SecPduKind.APPL_ABORT: Carrier.ABORT,
    SecPduKind.RELEASE_REQ: Carrier.RELEASE_REQ,
    SecPduKind.RELEASE_RSP: Carrier.RELEASE_RSP,
}

STEP: Final = {kind: kind.standard_name for kind in SecPduKind}
_own_algorithm: Final = {oid: algorithm_id(oid) for oid in SIGNATURES}


def signature_algorithm(credential: Credential) -> AlgorithmId:
    """sigAlg of the own signatures, by the signer."""
    return _own_algorithm[credential.signer.algorithm]


# --- what handshake and control PDUs have in common -----------------------------------------------------------------


def check_signature(
    pdu: Handshake | Control, token: ClearToken1 | ClearToken3, known: Certificate | None = None
) -> Certificate:
    """The three signature checks, before any signed field is judged; returns the certificate of the verified key.

    Arguments:
        known: pkCert parsed, if the caller has it.
    Errors:
        HandshakeError "signature-algorithm", "signature-mismatch", "certificate"; IntegrityError "signature".
    """
    if token.sig_alg.oid not in SIGNATURES:
        step = f"{STEP[pdu.kind]}.sigAlg"
        raise HandshakeError("signature algorithm not supported", check="signature-algorithm", step=step)
    if token.sig_alg != pdu.algo:
        step = f"{STEP[pdu.kind]}.sign.algo"
        raise HandshakeError("Signature.algo is not the signed sigAlg", check="signature-mismatch", step=step)
    parsed = known or Certificate(token.pk_cert)
    parsed.public_key.verify(token.sig_alg.oid, pdu.tbs, pdu.signature)
    return parsed


def check_time(text: str, utc_ms: int, kind: SecPduKind) -> None:
    """HandshakeError "time" unless ``text`` is within 10 min of now."""
    ahead = time_utc_ms(text) - utc_ms
    if abs(ahead) > limits.SPEC_CLOCK_SKEW * 1000:
        # Never the number that is still allowed, and not one less because the message travelled.
        minutes = max(round(abs(ahead) / 60_000), limits.SPEC_CLOCK_SKEW // 60 + 1)
        words = f"{minutes} min {'ahead' if ahead > 0 else 'behind'}"
        raise HandshakeError(f"the peer's clock is {words}", check="time", step=f"{STEP[kind]}.tbs.token.time")


# --- one control PDU ------------------------------------------------------------------------------------------------


def make_control(
    credential: Credential,
    kind: SecPduKind,
    asso_id: str | None,
    utc_ms: int,
    diag: int | None,
    appl_data: bytes | None,
) -> bytes:
    """A signed control PDU, encoded. Runs in a worker: the signer may take its time.

    Arguments:
        asso_id: ``n:m``; in rejects the client's number or None.
        utc_ms: strictly later than every time in the own earlier signed PDUs of the association.
        diag: HandshakeDiagnostics or DtDiagnostics number, None for an alarm and in kinds without.
    """
    algorithm = signature_algorithm(credential)
    token = ClearToken3(algorithm, V1, asso_id, time_text(utc_ms), credential.certificate, credential.cert_path)
    tbs = encode_control_tbs(kind, token, diag, appl_data)
    return assemble(kind, None, tbs, algorithm, credential.signer.sign(tbs))


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a control PDU of one association must agree with.

    Attributes:
        peer: the verified peer of the handshake, None before there is one.
        names: identities (OID strings) of which the certificate must carry one, used without ``peer``.
        own_certificate: DER, to find reflections.
        asso_ids: the association numbers that may stand in the token.
        seen: time keys of the peer's signed PDUs in this association, in order.
        trust: for a certificate that is not the handshake's.
        utc_ms: now.
    """

    peer: VerifiedPeer | None
    names: frozenset[str]
    own_certificate: bytes
    asso_ids: tuple[str | None, ...]
    seen: tuple[str, ...]
    trust: TrustStore
    utc_ms: int


@dataclass(frozen=True, slots=True)
class TakenControl:
    """A control PDU that passed all checks.

    Attributes:
        control: the PDU.
        time_key: time of its token, to be remembered as seen.
    """

    control: Control
    time_key: str


def take_control(control: Control, expected: Expectation) -> TakenControl:
    """All checks of a control PDU in the order of the specification. Runs in a worker.

    Errors:
        PeerError with the name of the first check that failed.
    """
    token = control.token3
    step = f"{STEP[control.kind]}.tbs.token3"
    known = expected.peer
    same = known is not None and equal(token.pk_cert, known.certificate.der)
    # decode has happened -> sigAlg -> mismatch -> signature
    certificate = check_signature(control, token, known.certificate if same and known is not None else None)
    # certificate -> identity
    if not same:
        fresh = expected.trust.validate(token.pk_cert, token.cert_path, expected.utc_ms, certificate=certificate)
        wanted = expected.names if known is None else known.names
        agrees = bool(fresh.names & wanted) if known is None else fresh.names == wanted
        if not agrees or equal(token.pk_cert, expected.own_certificate):
            raise HandshakeError("certificate of another identity", check="address", step=f"{step}.pkCert")
    if token.version != V1:
        raise HandshakeError("version differs from the handshake", check="version", step=f"{step}.version")
    if token.asso_id not in expected.asso_ids:
        raise HandshakeError("not the number of this association", step=f"{step}.assoID")
    check_time(token.time, expected.utc_ms, control.kind)
    key = time_key(token.time)
    if expected.seen:
        if key in expected.seen:
            raise HandshakeError("time of an earlier PDU", check="replay", step=f"{step}.time")
        if key < expected.seen[-1]:
            raise HandshakeError("time before that of an earlier PDU", check="time", step=f"{step}.time")
    return TakenControl(control, key)
