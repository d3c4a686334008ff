"""The choices that are ours where public facts about the standard are silent, [C]: topic, text, where to correct it.

Values stand in the code once; here they are read from there. docs/conformance.md is made of this list.
"""

from __future__ import annotations

from typing import Final

from fastsec import limits, profile
from fastsec.conformance.model import Choice
from fastsec.faults import Group
from fastsec.pki import oids
from fastsec.pki.roles import USER_ROLE_INFO
from fastsec.profile import DtDiag, wire_name
from fastsec.secpdu import fields
from fastsec.secpdu.fields import Carrier, Field, Mark

_PROFILE: Final = "src/fastsec/profile.py"
_FIELDS: Final = "src/fastsec/secpdu/fields.py"
_LIMITS: Final = "src/fastsec/limits.py"
_FAULTS: Final = "src/fastsec/faults.py"
_NEGOTIATION: Final = "src/fastsec/negotiation.py"
_EVENTS: Final = "src/fastsec/data/62351-14.csv"


def _tag(value: int) -> str:
    """An identifier octet as ASN.1 writes it."""
    number = value & 0x1F
    kind = {0x80: "", 0xC0: "PRIVATE "}.get(value & 0xC0)
    return f"[{kind}{number}]" if kind is not None else f"{value:02X}"


def _marked(components: tuple[Field, ...]) -> str:
    """The components whose tags are our choice."""
    return ", ".join(f"{each.name} {_tag(each.tag)}" for each in components if each.mark is Mark.C)


def _alternatives(carrier: Carrier) -> str:
    pdus = [pdu for pdu in fields.SEC_PDUS if pdu.carrier is carrier]
    return ", ".join(f"{_tag(pdu.tag)} {pdu.kind.standard_name}" for pdu in pdus)


def _diag(*wanted: DtDiag) -> str:
    return ", ".join(f"{int(diag)} {wire_name(diag)}" for diag in wanted)


CHOICES: Final = (
    Choice("tagging", "IMPLICIT tags", f"{_FIELDS}: tag"),
    Choice(
        "OID arcs",
        f"e2eSecurityAS {{{profile.OID_E2E_SECURITY_AS.replace('.', ' ')}}}, "
        f"e2eMmsAC {{{profile.OID_E2E_MMS_AC.replace('.', ' ')}}}",
        f"{_PROFILE}: OID_E2E_SECURITY_AS, OID_E2E_MMS_AC",
    ),
    Choice(
        "ClearToken2",
        f"{_marked(fields.CLEAR_TOKEN_2)}; reqRekey and changedKey DEFAULT FALSE; seq 0..{limits.OUR_SEQ_MAX}",
        f"{_FIELDS}: CLEAR_TOKEN_2",
    ),
    Choice("ClearToken3", _marked(fields.CLEAR_TOKEN_3), f"{_FIELDS}: CLEAR_TOKEN_3"),
    Choice("Authenticator", _marked(fields.AUTHENTICATOR), f"{_FIELDS}: AUTHENTICATOR"),
    Choice(
        "diagnostics",
        f"`{fields.DIAG.name} {_tag(fields.DIAG.tag)}`, ENUMERATED; DtDiagnostics "
        f"{_diag(DtDiag.INVALID_TIME_VALUE, DtDiag.GMAC_INIT_VECTOR_REQUIRED)}",
        f"{_FIELDS}: DIAG; {_PROFILE}: DtDiag",
    ),
    Choice(
        "DiffieHellmanSet, DhPublic, CertPath",
        f"SEQUENCE OF SEQUENCE {{ {', '.join(f'{each.name} {each.kind.value}' for each in fields.DH_PUBLIC)} }}, "
        f"1..{limits.OUR_DH_SET_MAX}; SEQUENCE OF OCTET STRING",
        f"{_FIELDS}: DH_PUBLIC, Kind",
    ),
    Choice(
        "confParams",
        f"tlsProtected {profile.CONF_TLS_PROTECTED}, applProtected {profile.CONF_APPL_PROTECTED}, "
        f"vpn {profile.CONF_VPN}",
        f"{_PROFILE}: CONF_*",
    ),
    Choice(
        "choices in AARE and ABRT",
        f"in place of the SEQUENCE's own tag: AARE {_alternatives(Carrier.ASSOCIATE_RSP)}; "
        f"ABRT {_alternatives(Carrier.ABORT)}",
        f"{_FIELDS}: SEC_PDUS",
    ),
    Choice(
        "which TLV is applData",
        f"the first after the token with class CONTEXT, or PRIVATE 0; tag {fields.DIAG.tag:02X} there is diag in the "
        "security rejects and aborts",
        "src/fastsec/secpdu/components.py",
    ),
    Choice(
        "other protected protocols",
        f"`{_tag(fields.APPL_DATA_HANDSHAKE_TAG)} SEQUENCE {{ pp, data }}` in handshakes, "
        f"`{_tag(fields.APPL_DATA_TRANSFER_TAG)} OCTET STRING` in transfers",
        f"{_FIELDS}: APPL_DATA_*",
    ),
    Choice(
        "time",
        "emitted with exactly three fraction digits; 0..9 accepted, dot or comma, second 60; compared as digits",
        f"{_FIELDS}: TIME_PATTERN",
    ),
    Choice(
        "algorithm parameters",
        "NULL for RSA and HMAC, absent for ECDSA and CBC, GCMParameters (RFC 5084) for GCM and GMAC, an ICV of "
        f"{profile.ICV_LEN_DEFAULT} octets where it does not say; GMAC under the GCM OID, RFC 9044's accepted; absent "
        "and NULL are equal on input",
        f"src/fastsec/secpdu/model.py: algorithm_id; {_PROFILE}: GMAC_KEY_SIZE",
    ),
    Choice(
        "assoID",
        "the request carries the client's number, the answer and all later PDUs `n:m`; numbers "
        f"0..{limits.OUR_ASSO_NUMBERS - 1} without leading zeros; a pair is not live with two peers at once, because "
        f"control PDUs name their association by it alone, and rests {limits.OUR_ASSO_PAIR_QUARANTINE // 60} min",
        f"{_FIELDS}: ASSO_ID_PATTERN; src/fastsec/peers.py",
    ),
    Choice("first hash", "32 zero octets before h1", "src/fastsec/keys.py"),
    Choice("OKM order", "IK_client, IK_server, EK_client, EK_server, those the mode needs", "src/fastsec/keys.py"),
    Choice(
        "nonces",
        "a 12-octet counter per direction, never restarted within an association; any 12 octets accepted",
        "src/fastsec/_core/params.pyx",
    ),
    Choice("CBC padding", "PKCS#7, looked at only after the ICV has verified", "src/fastsec/_core/opening.pyx"),
    Choice(
        "order of preference",
        "a client offers AEA where the policy has it, else lists; the server's own order decides; an ICV of 16 octets "
        "before one of 12",
        f"{_NEGOTIATION}: make_offer, select_mode; src/fastsec/config.py: Policy",
    ),
    Choice(
        "key update",
        "the carrier is the last PDU under the old key; changedKey marks the first under the new one; one outstanding; "
        f"{limits.OUR_REKEY_DISTANCE_CLIENT} s between, for the server {limits.OUR_REKEY_DISTANCE_SERVER} s",
        f"src/fastsec/key_update.py; {_LIMITS}: OUR_REKEY_*",
    ),
    Choice(
        "NULL transfer",
        f"ApplData = NULL ({profile.NULL_APPL_DATA.hex(' ')}), for idle updates and early confirmation; never sent to "
        "a peer configured `strict_peer`",
        f"{_PROFILE}: NULL_APPL_DATA",
    ),
    Choice(
        "unconfirmed state",
        f"until the peer's first transfer verifies: no roles; a NULL transfer after {limits.OUR_CONFIRM_DELAY} s; the "
        f"end after {limits.OUR_UNCONFIRMED_TIMEOUT} s; at most {limits.OUR_UNCONFIRMED_PER_PEER} per peer, "
        f"{limits.OUR_UNCONFIRMED_MAX} in all",
        f"src/fastsec/peers.py; {_LIMITS}: OUR_UNCONFIRMED_*",
    ),
    Choice(
        "flood rules, replay memory",
        f"an exact repeat is refused before any public-key work; (time, assoID) of a peer is remembered "
        f"{limits.OUR_REPLAY_WINDOW // 60} min, at most {limits.OUR_REPLAY_PER_PEER} of them, over a restart too; "
        f"{limits.OUR_REJECTS_PER_SECOND} signed rejects a second to one source",
        f"src/fastsec/replay.py, src/fastsec/peers.py; {_LIMITS}",
    ),
    Choice("order of checks", "as the steps of the handshake are numbered", "src/fastsec/handshake.py; docs/design.md"),
    Choice(
        "which check is alarm or error, where the standard's table is not public",
        "an alarm where somebody tampers, replays or is not who it says; certificates: a bad signature and revocation",
        f"{_FAULTS}: CHECKS",
    ),
    Choice(
        "event numbers of HandshakeSecAbort "
        f"({int(Group.HANDSHAKE_SEC_ABORT)}.12 to {int(Group.HANDSHAKE_SEC_ABORT)}.25), all texts of domain IEC62351-4",
        "continued from group 4",
        _EVENTS,
    ),
    Choice(
        "binding of a certificate to an address",
        f"the subject (Annex G: one RDN, {profile.OID_SUBJECT_OBJECT_IDENTIFIER}), or subjectAltName registeredID with "
        "the same OID, because hardly any authority can issue the former",
        "src/fastsec/pki/path.py: Binding",
    ),
    Choice(
        "IECUserRoles (62351-8)",
        f"extension {oids.IEC_USER_ROLES}; UserRoleInfo: "
        + ", ".join(each.name + (" OPTIONAL" if each.optional else "") for each in USER_ROLE_INFO),
        "src/fastsec/pki/roles.py: USER_ROLE_INFO",
    ),
    Choice(
        "A-profile of 2007",
        f"signed: the {profile.A_PROFILE_SIGNED} of the time, in the form `{profile.A_PROFILE_TIME}`; its encoding, "
        f"where that is signed, has the tag {profile.A_PROFILE_TIME_TAG:02X}; carried as {profile.A_PROFILE_CARRIER}; "
        "every reading is accepted",
        f"{_PROFILE}: A_PROFILE_*",
    ),
    Choice(
        "A-profile of 2007",
        f"signed: the {profile.A_PROFILE_SIGNED} of the time; form of the time: {profile.A_PROFILE_TIME}; tag of the "
        f"encoding where that is signed: {_tag(profile.A_PROFILE_TIME_TAG)}; carried as {profile.A_PROFILE_CARRIER}; "
        "all other readings are accepted",
        f"{_PROFILE}: A_PROFILE_SIGNED, A_PROFILE_TIME, A_PROFILE_TIME_TAG, A_PROFILE_CARRIER",
    ),
)
