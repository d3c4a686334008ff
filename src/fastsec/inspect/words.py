"""Names for the output: algorithms, groups, syntaxes, diagnostics, times; and text that no terminal acts on."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from fastsec import profile
from fastsec.events import DOMAIN_E2E, EventType, event
from fastsec.faults import Group, verdict
from fastsec.mms.pdu import Kind, kind_of
from fastsec.secpdu.model import AlgorithmId
from fastsec.secpdu.timestamp import is_time

ABSTRACT_SYNTAXES: Final = {
    profile.OID_ACSE_AS: "ACSE",
    profile.OID_MMS_AS: "MMS",
    profile.OID_E2E_SECURITY_AS: "e2eSecurityAS",
    profile.OID_MMS_AUTHENTICATION_AS: "mmsAuthenticationAS",
}
APPLICATION_CONTEXTS: Final = {
    profile.OID_E2E_MMS_AC: "e2eMmsAC",
    profile.OID_MMS_AC: "MMS basic-AC",
    profile.OID_MMS_AC_FIELD: "MMS",
}
ALGORITHMS: Final = {
    profile.SHA256_RSA: "sha256WithRSAEncryption",
    profile.ECDSA_SHA256: "ecdsa-with-SHA256",
    profile.HMAC_SHA256: "hmacWithSHA256",
    profile.AES128_CBC: "aes128-CBC",
    profile.AES256_CBC: "aes256-CBC",
    profile.AES128_GCM: "aes128-GCM",
    profile.AES256_GCM: "aes256-GCM",
    profile.AES128_GMAC_RFC9044: "aes128-GMAC",
    profile.AES256_GMAC_RFC9044: "aes256-GMAC",
}
GROUPS: Final = {14: "MODP 2048", 23: "secp256r1", 28: "brainpoolP256r1"}
CONF_PARAMS: Final = {
    profile.CONF_TLS_PROTECTED: "tlsProtected",
    profile.CONF_APPL_PROTECTED: "applProtected",
    profile.CONF_VPN: "vpn",
}
KEY_USAGES: Final = (
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)
_TEXT_MAX: Final = 256


def printable(text: str, maximum: int = _TEXT_MAX) -> str:
    """``text`` with everything that a terminal might act on, or that does not show, as escapes; cut at ``maximum``."""
    shown = text if len(text) <= maximum else text[:maximum] + "..."
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in shown)


def algorithm(value: AlgorithmId) -> dict[str, Any]:
    """An AlgorithmIdentifier for the output."""
    about: dict[str, Any] = {"oid": value.oid, "name": ALGORITHMS.get(value.oid, "unknown")}
    if value.oid in profile.GMAC_KEY_SIZE:
        about["icv_octets"] = value.icv_len
    return about


def group(number: int, octets: int) -> dict[str, Any]:
    """A public value for the output: its group and size."""
    return {"group": number, "name": GROUPS.get(number, "unknown"), "octets": octets}


def time(text: str) -> str:
    """A GeneralizedTime of the SecPDUs as ISO 8601 in UTC, with the digits it came with."""
    if not is_time(text):
        return printable(text)
    fraction = text[14:-1].replace(",", ".")
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:14]}{fraction}Z"


def utc(ns: int | None) -> str | None:
    """A moment in ns since 1970 as ISO 8601 in UTC, with microseconds."""
    if ns is None:
        return None
    from datetime import UTC, datetime

    seconds, rest = divmod(ns, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06}Z"


def diagnostic(number: int, names: type[IntEnum]) -> dict[str, Any]:
    """A diagnostic with its name."""
    try:
        name = profile.wire_name(names(number))
    except ValueError:
        name = "unknown"
    return {"number": number, "name": name}


def mms_kind(pdu: bytes) -> str:
    """What MMS PDU this is, e.g. ``confirmed-Request``; ``NULL`` for the NULL transfer."""
    if pdu == profile.NULL_APPL_DATA:
        return "NULL"
    kind = kind_of(pdu)
    return "unknown" if kind is None else _MMS[kind]


def _mms_name(kind: Kind) -> str:
    first, _, second = kind.name.lower().partition("_")
    return f"{first}-{second.capitalize()}" if second else first


_MMS: Final = {kind: _mms_name(kind) for kind in Kind}


def anomaly(of: Group, check: str, text: str, step: str = "") -> dict[str, Any]:
    """What our checks would report: event, severity, the check's name and the diagnostic that would be answered."""
    judged = verdict(of, check)
    kind: EventType = event(DOMAIN_E2E, int(of), judged.number).type
    about: dict[str, Any] = {
        "event": kind.id,
        "mnemonic": kind.mnemonic,
        "severity": kind.severity,
        "check": check,
        "text": printable(text),
    }
    if step:
        about["at"] = step
    return about
