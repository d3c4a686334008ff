"""What a security event means, in words an operator understands, and what to look at.

The catalogue's texts name checks; these sentences name causes. They hang on the check that failed (``fastsec.faults``)
and on the diagnostics a peer sends, so a corrected catalogue needs no change here.
"""

from __future__ import annotations

from typing import Final

from fastsec import faults
from fastsec.events import DOMAIN_E2E, SecurityEvent

# A check of ours that failed on what the peer sent.
_SEEN: Final = {
    "signature-algorithm": "the peer signs with an algorithm we do not support; it must use RSA or ECDSA with SHA-256",
    "signature-mismatch": "the peer's message names one signature algorithm and uses another: it was altered or forged",
    "signature": "the peer's signature is wrong: the message was altered on its way, or someone else sent it",
    "pp": "the peer speaks another protected protocol than this route",
    "protocol-error": "the peer sent a message that breaks the rules of the protocol",
    "internal": "our own cryptography failed; see the messages before",
    "certificate": "the peer's certificate is not acceptable: expired, not yet valid, or made for another use",
    "path": "the peer's certificate does not lead to an authority in [trust] anchors",
    "attribute-certificate": "the peer's attribute certificate is not acceptable",
    "certificate-signature": "the peer's certificate carries a wrong signature: it is forged or damaged",
    "revoked": "the peer's certificate has been revoked",
    "address": "the peer's certificate belongs to another identity than the one it claims or we called",
    "version": "the peer uses another version of end-to-end security",
    "time": "the peer's clock and ours are more than 10 min apart, or its message is old; check both clocks",
    "replay": "this message was seen before: someone has recorded it and sends it again",
    "group": "the peer and we have no Diffie-Hellman group in common; compare groups and accept_groups in [policy]",
    "hmac": "the peer derives keys with a hash we do not support",
    "ae-not-allowed": "the peer offers authenticated encryption, which our [policy] ae forbids",
    "ae-without-encryption": "the peer offers authenticated encryption without asking for encryption",
    "ae-algorithm": "the peer and we have no authenticated encryption algorithm in common; compare ae_algorithms",
    "ae-required": "our [policy] requires authenticated encryption (ae), the peer does not offer it",
    "encryption-list": "the peer offers encryption that our [policy] encryption forbids",
    "encryption-algorithm": "the peer and we have no encryption algorithm in common; compare encryption_algorithms",
    "icv-algorithms": "the peer and we have no integrity algorithm in common; compare icv_algorithms",
    "encryption-not-required": "the peer wants encryption, which our [policy] encryption forbids",
    "encryption-required": "our [policy] requires encryption, the peer does not want it",
    "single-ae": "the peer selected more than one authenticated encryption algorithm",
    "ae-not-used": "we offered authenticated encryption, the peer answered without it",
    "single-encryption": "the peer selected more than one encryption algorithm",
    "single-icv": "the peer selected more than one integrity algorithm",
    "asso-id": "a message of another association arrived in this one",
    "icv-algorithm": "a message is protected with another algorithm than agreed",
    "nonce-missing": "a message lacks its nonce",
    "ae-iv-missing": "a message lacks its nonce",
    "iv-missing": "a message lacks its initialization vector",
    "icv": "a message was altered on its way, or someone else sent it: its integrity check failed",
    "sequence": "a message is missing or out of order: one was deleted, delayed or moved on its way",
    "wrong-kind": "a message is encrypted though that was not agreed, or is not though it was",
    "unexpected-rekey": "the peer sent a new key at a moment when none may come",
    "unexpected-changed-key": "the peer says it has changed keys, but no change was under way",
}
_IN_TRANSFER: Final = {
    "time": "a message is more than 10 min old or older than the one before: delayed on its way, or a clock was set",
    "replay": "a message was seen before: someone has recorded it and sends it again",
}
# What the peer found wrong with what we sent, by the diagnostic it gave.
_TOLD_HANDSHAKE: Final = {
    None: "the peer refused us without a reason: it raised an alarm; its log says which",
    1: "the peer says our message broke the rules of the protocol",
    2: "the peer does not speak the protected protocol of this route",
    3: "the peer does not support our signature algorithm",
    4: "the peer uses another version of end-to-end security",
    5: "the peer does not support our key derivation",
    6: "the peer's policy forbids the encryption we offer",
    7: "the peer's policy requires encryption",
    8: "the peer does not accept our certificate; see its log",
    9: "the peer does not trust the authority of our certificate",
    10: "the peer says our clock is more than 10 min off; check both clocks",
    11: "the peer and we have no Diffie-Hellman group in common; compare groups and accept_groups in [policy]",
    12: "the peer says we selected a Diffie-Hellman group it did not offer",
    13: "the peer and we have no integrity algorithm in common; compare icv_algorithms",
    14: "the peer and we have no encryption algorithm in common; compare encryption_algorithms",
    15: "the peer and we have no authenticated encryption algorithm in common; compare ae_algorithms",
    17: "the peer does not allow authenticated encryption",
    18: "the peer requires authenticated encryption",
    19: "the peer says we offered authenticated encryption without asking for encryption",
}
_TOLD_TRANSFER: Final = {
    None: "the peer ended the association because a message of ours did not verify there; its log says which alarm",
    1: "the peer says a message of ours broke the rules of the protocol",
    3: "the peer says encryption was not agreed",
    4: "the peer says encryption was agreed but not used",
    8: "the peer did not expect our new key",
    9: "the peer did not expect our change of keys",
}
_LAYERS: Final = "the peer, or something on the way, breaks the rules of the OSI protocols below the association"
_CONTEXT: Final = "the peer does not speak secured MMS (application context): is a plain MMS peer connected here?"
_NAMED: Final = "the peer does not name itself by AP-title and AE-qualifier as it should"
_CALLED: Final = "the request is for another identity than ours; compare the caller's peer with our certificate"
_MECHANISM: Final = "the peer sends an ACSE mechanism (a password), which cannot go with end-to-end security"
_ENVIRONMENT: Final = {
    5: _CONTEXT, 6: _CONTEXT, 7: _NAMED, 8: _NAMED, 9: _NAMED, 10: _NAMED, 11: _CALLED, 12: _CALLED, 13: _CALLED,
    14: _CALLED, 15: _MECHANISM, 16: _MECHANISM,
}  # fmt: skip
# Some reasons the checks themselves give say more than their check alone.
_REASONS: Final = {
    "this peer is not let in": "this identity is not among the route's peers; add it there if it is to be let in",
    "our own certificate or identity came back": "a message with our own identity came back: reflected, or the peer "
    "uses our certificate",
    "time before our start": "this request is older than our start and may be a repetition from before; it is refused. "
    "With a [gateway] state directory earlier requests are remembered instead",
}
_CLOCK: Final = "the peer's clock is "
# The access policy of a route (fastsec.gateway.enforce); its events have the peer's roles with them.
_ACCESS: Final = {
    "IEC62351-14:1.1": "the peer is confirmed and has its roles",
    "IEC62351-14:1.8": "the peer and its roles are gone",
    "IEC62351-14:5.1": "a request was denied: the peer's roles do not allow it",
}


def _table() -> dict[str, str]:
    words: dict[str, str] = {}
    for group, checks in faults.CHECKS.items():
        transfer = group in (faults.Group.CLEAR_TRANSFER, faults.Group.ENCR_TRANSFER)
        for check, (number, _) in checks.items():
            sentence = (_IN_TRANSFER.get(check) if transfer else None) or _SEEN[check]
            words.setdefault(f"{DOMAIN_E2E}:{int(group)}.{number}", sentence)
    for group, received in faults.RECEIVED.items():
        told = _TOLD_TRANSFER if group is faults.Group.DT_SEC_ABORT else _TOLD_HANDSHAKE
        for diag, number in received.items():
            if diag in told:
                words.setdefault(f"{DOMAIN_E2E}:{int(group)}.{number}", told[diag])
    return words


_WORDS: Final = _table()


def describe(event: SecurityEvent) -> str:
    """The event for an operator: its cause and, where there is one, what to look at.

    The parameters ``check``, ``reason`` and ``diag`` of an event say more than its number; they are used if present.
    An event without a sentence here has the catalogue's text.
    """
    params = dict(event.params)
    reason, check = params.get("reason", ""), params.get("check", "")
    domain, _, place = event.id.partition(":")
    group, _, number = place.partition(".")
    if "Role" in params and event.id in _ACCESS:
        return _ACCESS[event.id]
    if domain != DOMAIN_E2E:
        return event.text
    if reason.startswith(_CLOCK):
        side = "ahead of ours" if reason.endswith("ahead") else "behind ours"
        return f"{reason.rpartition(' ')[0]} {side}; at most 10 min are allowed"
    if reason in _REASONS:
        return _REASONS[reason]
    if "diag" in params:
        told = _TOLD_TRANSFER if group == str(int(faults.Group.DT_SEC_ABORT)) else _TOLD_HANDSHAKE
        diag = int(params["diag"]) if params["diag"].isdigit() else None
        if diag in told:
            return told[diag]
    if check in _SEEN:
        transfer = group in (str(int(faults.Group.CLEAR_TRANSFER)), str(int(faults.Group.ENCR_TRANSFER)))
        return (_IN_TRANSFER.get(check) if transfer else None) or _SEEN[check]
    if group == "15":
        return _ENVIRONMENT.get(int(number), f"{event.text}: {_LAYERS}")
    return _WORDS.get(event.id, event.text)


def about(seconds: float) -> str:
    """A duration rounded to its largest sensible unit: ``14 min``, ``3 h``, ``2 d``, ``45 s``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{round(seconds)} s"
