"""The checks of what an association is set up with, each with its event of group 15 (62351-4 §9, 62351-14)."""

from __future__ import annotations

import hmac
from typing import Final, NamedTuple

from fastsec import limits, profile
from fastsec.envs.osi import acse, session
from fastsec.envs.osi.params import OsiParams
from fastsec.errors import DecodeError

OSI_ENV_PROT_ERR: Final = "OSI_ENV_PROT_ERR"
OSI_INV_INDR_REF: Final = "OSI_INV_INDR_REF"
OSI_INV_PCI: Final = "OSI_INV_PCI"
ACSE_PROT_ERR: Final = "ACSE_PROT_ERR"
AUTH_MECH_NOT_USED_RQ: Final = "AUTH_MECH_NOT_USED_RQ"
AUTH_MECH_NOT_USED_ABT: Final = "AUTH_MECH_NOT_USED_ABT"
# Faults of authentication itself: with the A-profile they are answered by P-ABORT.
UNAUTHENTICATED: Final = frozenset((AUTH_MECH_NOT_USED_RQ, AUTH_MECH_NOT_USED_ABT))

# Alternatives of HandshakeRsp and the results of the AARE they go with: assoAccept, applReject, secReject.
OUTCOMES: Final = {
    0xA0: (acse.ACCEPTED,),
    0xA1: (acse.REJECTED_PERMANENT, acse.REJECTED_TRANSIENT),
    0xA2: (acse.REJECTED_PERMANENT,),
}

_REJECTION_EVENTS: Final = {
    acse.CONTEXT_NOT_SUPPORTED: "INV_APPL_CNTX_RE",
    acse.CALLING_AP_TITLE: "INV_CALLING_AP_TITLE_RE",
    acse.CALLING_AE_QUALIFIER: "INV_CALLING_AE_QUAL_RE",
    acse.CALLED_AP_TITLE: "INV_CALLED_AP_TITLE_RE",
    acse.CALLED_AE_QUALIFIER: "INV_CALLED_AE_QUAL_RE",
    acse.MECHANISM_NOT_RECOGNIZED: "AUTH_MECH_NOT_USED_ABT",
    acse.MECHANISM_REQUIRED: "AUTH_MECH_NOT_USED_ABT",
    acse.AUTHENTICATION_FAILURE: "AUTH_MECH_NOT_USED_ABT",
    acse.AUTHENTICATION_REQUIRED: "AUTH_MECH_NOT_USED_ABT",
}


class Fault(Exception):
    """The peer broke a rule of the environment. Never leaves the endpoint.

    Arguments:
        mnemonic: event of group 15.
        text: what was wrong.
        reply: framed octets to answer with instead of an ABRT, or None.
    """

    def __init__(self, mnemonic: str, text: str, reply: bytes | None = None) -> None:
        super().__init__(text)
        self.mnemonic = mnemonic
        self.text = text
        self.reply = reply


class Objection(NamedTuple):
    """Why an AARQ is refused: the event, the diagnostic a plain responder answers with, and words."""

    mnemonic: str
    source: int
    diagnostic: int
    text: str


def _user(mnemonic: str, diagnostic: int, text: str) -> Objection:
    return Objection(mnemonic, acse.SOURCE_USER, diagnostic, text)


def check_connect(spdu: session.Spdu, params: OsiParams) -> tuple[int, str] | None:
    """Judge a CN; the reason code to refuse it with and words, or None if it is in order."""
    size = len(spdu.user_data)
    if spdu.overflow or size > limits.SPEC_CONNECT_USER_DATA_MAX:
        return session.RF_RESTRICTION, f"CONNECT user data of {size} octets or more"
    if not spdu.version & (session.VERSION_1 | session.VERSION_2):
        return session.RF_VERSION, "session version 2 not proposed"
    if spdu.requirements is not None and not spdu.requirements & session.DUPLEX:
        return session.RF_RESTRICTION, "duplex functional unit not proposed"
    if selector_refused(spdu.called, params.local.ssel, params):
        return session.RF_SELECTOR_UNKNOWN, "called S-selector is not ours"
    return None


def check_aarq(aarq: acse.Aarq, params: OsiParams, data_number: int | None) -> Objection | None:
    """Judge an AARQ, all but its user-information and password; None if it is in order.

    With security the calling name must be there in the forms a certificate can be compared with, and nothing of the
    authentication functional unit; the comparison itself is the engine's.
    """
    if not aarq.version_1:
        return Objection(ACSE_PROT_ERR, acse.SOURCE_PROVIDER, acse.NO_COMMON_VERSION, "ACSE version 1 not proposed")
    if aarq.context_name not in params.contexts_taken:
        text = f"application context {aarq.context_name}"
        return _user("INV_APPL_CNTX_RQ", acse.CONTEXT_NOT_SUPPORTED, text)
    if params.security:
        if any(part is not None for part in aarq.authentication):
            return _user("AUTH_MECH_NOT_USED_RQ", acse.NO_REASON, "ACSE authentication beside end-to-end security")
        if not isinstance(aarq.calling.ap_title, str):
            text = "calling AP-title missing or not an OBJECT IDENTIFIER"
            return _user("INV_CALLING_AP_TITLE_RQ", acse.CALLING_AP_TITLE, text)
        if not isinstance(aarq.calling.ae_qualifier, int):
            text = "calling AE-qualifier missing or not an INTEGER"
            return _user("INV_CALLING_AE_QUAL_RQ", acse.CALLING_AE_QUALIFIER, text)
    if params.titles_checked:
        local, called = params.local, aarq.called
        if None not in (called.ap_title, local.ap_title) and called.ap_title != local.ap_title:
            return _user("INV_CALLED_AP_TITLE_RQ", acse.CALLED_AP_TITLE, "called AP-title is not ours")
        if None not in (called.ae_qualifier, local.ae_qualifier) and called.ae_qualifier != local.ae_qualifier:
            return _user("INV_CALLED_AE_QUAL_RQ", acse.CALLED_AE_QUALIFIER, "called AE-qualifier is not ours")
    if data_number is None:
        name = "e2eSecurityAS" if params.security else "MMS"
        return _user(OSI_ENV_PROT_ERR, acse.NO_REASON, f"no presentation context for {name}")
    return None


def check_password(given: acse.Authentication, wanted: bytes) -> Objection | None:
    """Judge what an AARQ authenticates itself with where the ACSE password ``wanted`` is asked for."""
    if given.mechanism is None:
        wrong = acse.AUTHENTICATION_REQUIRED if given.value is None else acse.MECHANISM_REQUIRED
    elif given.mechanism != profile.OID_ACSE_PASSWORD:
        wrong = acse.MECHANISM_NOT_RECOGNIZED
    elif given.password is None or not hmac.compare_digest(given.password, wanted):
        wrong = acse.AUTHENTICATION_FAILURE
    else:
        return None
    return _user(ACSE_PROT_ERR, wrong, acse.diagnostic_text(acse.SOURCE_USER, wrong))


def check_authentication(given: acse.Authentication) -> Objection | None:
    """Judge the form of an A-profile AARQ's authentication fields; the MMS-Authentication-value itself is the
    engine's."""
    if given.mechanism is None:
        wrong = acse.MECHANISM_REQUIRED
    elif given.mechanism != profile.OID_MMS_AUTHENTICATION:
        wrong = acse.MECHANISM_NOT_RECOGNIZED
    elif not (given.requirements or 0) & 1 or given.value is None:
        wrong = acse.AUTHENTICATION_REQUIRED
    else:
        return None
    return _user(AUTH_MECH_NOT_USED_RQ, wrong, acse.diagnostic_text(acse.SOURCE_USER, wrong))


def proof_of(given: acse.Authentication, number: int | None, mnemonic: str) -> acse.Proof:
    """The authentication-value that carries an MMS-Authentication-value.

    Arguments:
        number: of the presentation context for mmsAuthenticationAS, None where none was agreed on: then any
            indirect-reference is taken.
    Errors:
        Fault: another alternative, malformed, or a reference to something else; ``mnemonic`` is its event.
    """
    try:
        proof = given.proof
    except DecodeError as error:
        raise Fault(ACSE_PROT_ERR, f"{error.step}: {error}") from None
    if proof is not None and not proof.value:
        raise Fault(ACSE_PROT_ERR, "authentication-value without a value")
    if proof is None:
        raise Fault(mnemonic, "authentication-value is neither external nor other")
    if proof.carrier == "other":
        if proof.mechanism != profile.OID_MMS_AUTHENTICATION:
            raise Fault(mnemonic, f"authentication-value of another mechanism, {proof.mechanism}")
    elif None not in (number, proof.reference) and proof.reference != number:
        raise Fault(OSI_INV_INDR_REF, f"authentication-value with indirect-reference {proof.reference}")
    return proof


def check_answered_proof(aare: acse.Aare) -> None:
    """Check that an accepting AARE of the A-profile authenticates the responder.

    Errors:
        Fault: it does not.
    """
    given = aare.authentication
    objection = check_authentication(given)
    if objection is not None:
        raise Fault(AUTH_MECH_NOT_USED_ABT, f"the responder does not authenticate itself: {objection.text}")


def selector_refused(called: bytes | None, own: bytes | None, params: OsiParams) -> bool:
    """Whether a called selector is refused: it is another than the one configured."""
    return params.check_selectors and own is not None and called != own


def check_aare(aare: acse.Aare, params: OsiParams, data_number: int | None) -> None:
    """Judge an accepting AARE, all but its user-information.

    With security the responding name must be there in the forms that can be compared with the called one (the engine
    does that). Without, peers in the field leave it out, and answer with another application context than they were
    asked for; nothing hangs on it there.

    Errors:
        Fault: with the event.
    """
    if params.security:
        if aare.context_name not in params.contexts_taken:
            raise Fault("INV_APPL_CNTX_RE", f"application context {aare.context_name}")
        if any(part is not None for part in aare.authentication):
            raise Fault("AUTH_MECH_NOT_USED_ABT", "ACSE authentication beside end-to-end security")
        if not isinstance(aare.responding.ap_title, str):
            raise Fault("INV_CALLING_AP_TITLE_RE", "responding AP-title missing or not an OBJECT IDENTIFIER")
        if not isinstance(aare.responding.ae_qualifier, int):
            raise Fault("INV_CALLING_AE_QUAL_RE", "responding AE-qualifier missing or not an INTEGER")
    elif params.a_profile:
        if aare.context_name not in params.contexts_taken:
            raise Fault("INV_APPL_CNTX_RE", f"application context {aare.context_name}")
        check_answered_proof(aare)
    if data_number is None:
        name = "e2eSecurityAS" if params.security else "MMS"
        raise Fault(OSI_ENV_PROT_ERR, f"presentation context for {name} not accepted")


def rejection_fault(aare: acse.Aare) -> Fault | None:
    """The event of a rejecting AARE without a SecPDU (the peer refused below end-to-end security), else None."""
    if aare.user_information:
        return None
    text = f"rejected without a SecPDU: {acse.diagnostic_text(aare.source, aare.diagnostic)}"
    if aare.source == acse.SOURCE_USER:
        return Fault(_REJECTION_EVENTS.get(aare.diagnostic, ACSE_PROT_ERR), text)
    return Fault(ACSE_PROT_ERR, text)


def check_outcome(result: int, user_data: bytes) -> None:
    """Check that HandshakeRsp's alternative says the same as the AARE that carries it (62351-4 §9). An alternative
    that does not exist is left to the engine.

    Errors:
        Fault: they contradict each other.
    """
    wanted = OUTCOMES.get(user_data[0])
    if wanted is not None and result not in wanted:
        raise Fault(ACSE_PROT_ERR, f"AARE with result {result} and HandshakeRsp alternative {user_data[0]:02X}")


def information(found: tuple[acse.External, ...] | None, data_number: int | None, security: bool) -> bytes | None:
    """The value of a user-information, None if there is none.

    It must stand in the data context. Without security an EXTERNAL without indirect-reference is taken too when its
    direct-reference names BER or MMS.

    Errors:
        Fault: it stands elsewhere, or has no octets.
    """
    if not found:
        return None
    external = found[0]
    if external.indirect is None:
        if security or external.direct not in (profile.OID_BER, profile.OID_MMS_AS):
            raise Fault(OSI_INV_INDR_REF, "EXTERNAL without indirect-reference")
    elif external.indirect != data_number:
        raise Fault(OSI_INV_INDR_REF, f"EXTERNAL with indirect-reference {external.indirect}")
    if not external.value:
        raise Fault(ACSE_PROT_ERR, "EXTERNAL without a value")
    return external.value
