"""Signed SecPDUs for people: tokens, certificates, signatures, diagnostics."""

from __future__ import annotations

from typing import Any, Final

from fastsec import profile
from fastsec._core.crypto import sha256
from fastsec._core.cursor import Reader
from fastsec.control import check_signature
from fastsec.errors import DecodeError, PeerError
from fastsec.inspect import words
from fastsec.pki.certificate import Certificate, name_text
from fastsec.secpdu import fields
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import AeaOffer, ClearToken1, ClearToken3, Control, Handshake, NonAeaOffer

_DIAGNOSTICS: Final = {
    SecPduKind.HANDSHAKE_SEC_REJECT: profile.HandshakeDiag,
    SecPduKind.HANDSHAKE_SEC_ABORT: profile.HandshakeDiag,
    SecPduKind.DT_SEC_ABORT: profile.DtDiag,
}


def candidates(data: bytes) -> list[Carrier]:
    """Which carriers a SecPDU without its environment may have come in, the likeliest first; empty if none.

    The tags tell transfers and handshakes for certain. Of a reject and an abort, and of the two of a release, the
    octets may be the same.
    """
    try:
        outer = Reader(data)
        tag = outer.next()
        inner = Reader(data, outer.start, outer.stop, indefinite=True)
        first = inner.next()
        if tag == fields.SEQUENCE and first == fields.SEQUENCE:
            part = inner.enter(indefinite=True)
            part.expect(fields.SEQUENCE)
            if part.enter().next() == fields.CLEAR_TOKEN_2[0].tag:
                return [Carrier.DATA]
            return [Carrier.RELEASE_REQ, Carrier.RELEASE_RSP]
    except DecodeError:
        return []
    if tag == fields.SEQUENCE:
        return [Carrier.ASSOCIATE_REQ] if first == fields.PP.tag else []
    if tag not in (0xA0, 0xA1, 0xA2):
        return []
    if first == fields.PP.tag:
        return [Carrier.ASSOCIATE_RSP] if tag == 0xA0 else []
    if first != fields.SEQUENCE:
        return []
    # What stands after the token tells them apart where it is a diagnostic.
    with_diag = _has_diag(data)
    if tag == 0xA0:
        return [Carrier.ABORT]
    first_is_abort = with_diag if tag == 0xA1 else not with_diag
    order = [Carrier.ABORT, Carrier.ASSOCIATE_RSP]
    return order if first_is_abort else order[::-1]


def _has_diag(data: bytes) -> bool:
    try:
        outer = Reader(data)
        outer.next()
        inner = Reader(data, outer.start, outer.stop, indefinite=True)
        inner.next()
        tbs = inner.enter(indefinite=True)
        tbs.next()
        return tbs.peek() == fields.DIAG.tag
    except DecodeError:
        return False


def token1(token: ClearToken1) -> dict[str, Any]:
    """ClearToken1 but for its certificates."""
    about: dict[str, Any] = {
        "sigAlg": words.algorithm(token.sig_alg),
        "version": _bits(token.version, {profile.VERSION_V1_BIT: "v1"}),
        "assoID": token.asso_id,
        "time": words.time(token.time),
        "dhKey": [words.group(value.group, len(value.public)) for value in token.dh_key],
        "hmac": words.algorithm(token.hmac),
        "encr_mode": encr_mode(token.encr_mode),
        "confParams": _bits(token.conf_params, words.CONF_PARAMS),
        "attCert": token.att_cert is not None,
    }
    if token.att_cert is not None:
        about["attCert_octets"] = len(token.att_cert)
    return about


def token3(token: ClearToken3) -> dict[str, Any]:
    """ClearToken3 but for its certificates."""
    return {
        "sigAlg": words.algorithm(token.sig_alg),
        "version": _bits(token.version, {profile.VERSION_V1_BIT: "v1"}),
        "assoID": token.asso_id,
        "time": words.time(token.time),
    }


def encr_mode(mode: AeaOffer | NonAeaOffer) -> dict[str, Any]:
    """encr-mode: ``aea``, or ``encr`` (if present) and ``icv``."""
    if isinstance(mode, AeaOffer):
        return {"aea": [words.algorithm(one) for one in mode.algorithms]}
    about: dict[str, Any] = {}
    if mode.encr is not None:
        about["encr"] = [words.algorithm(one) for one in mode.encr]
    about["icv"] = [words.algorithm(one) for one in mode.icv]
    return about


def _bits(mask: int, names: dict[int, str]) -> list[str]:
    return [names.get(bit, f"bit {bit}") for bit in range(mask.bit_length()) if mask >> bit & 1]


def certificate(der: bytes, *, ca: bool = False) -> tuple[dict[str, Any], Certificate | None]:
    """A certificate for the output, and parsed where our rules accept its form."""
    about: dict[str, Any] = {"octets": len(der), "sha256": sha256(der).hex()}
    try:
        parsed = Certificate(der, ca=ca)
    except PeerError as error:
        about["problem"] = words.printable(str(error))
        return about, None
    key = parsed.public_key
    about |= {
        "subject": words.printable(name_text(parsed.subject)),
        "issuer": words.printable(name_text(parsed.issuer)),
        "serial": parsed.serial.hex(),
        "key": f"{key.kind} {key.bits}",
        "not_before": words.utc(parsed.not_before_ms * 1_000_000),
        "not_after": words.utc(parsed.not_after_ms * 1_000_000),
        "key_usage": [
            name for bit, name in enumerate(words.KEY_USAGES) if parsed.key_usage and parsed.key_usage >> bit & 1
        ],
        "signature_algorithm": words.ALGORITHMS.get(parsed.signature_algorithm, parsed.signature_algorithm),
    }
    if parsed.registered_ids:
        about["registered_ids"] = list(parsed.registered_ids)
    if parsed.is_ca:
        about["ca"] = True
    return about, parsed


def describe(pdu: Handshake | Control) -> tuple[dict[str, Any], Certificate | None, PeerError | None]:
    """A signed SecPDU for the output, its certificate, and what is wrong with its signature, or None."""
    token = pdu.token1 if isinstance(pdu, Handshake) else pdu.token3
    about: dict[str, Any] = {"kind": pdu.kind.standard_name}
    if isinstance(pdu, Handshake):
        about["pp"] = words.printable(pdu.pp)
        about["token1"] = token1(pdu.token1)
    else:
        about["token3"] = token3(pdu.token3)
        if pdu.kind in _DIAGNOSTICS:
            about["diag"] = None if pdu.diag is None else words.diagnostic(pdu.diag, _DIAGNOSTICS[pdu.kind])
    about["certificate"], parsed = certificate(token.pk_cert)
    about["certPath"] = [certificate(der, ca=True)[0] for der in token.cert_path]
    fault: PeerError | None = None
    try:
        check_signature(pdu, token, parsed)
    except PeerError as error:
        fault = error
    about["signature"] = {
        "algorithm": words.algorithm(pdu.algo),
        "octets": len(pdu.signature),
        "verifies": fault is None if parsed is not None else None,
    }
    if pdu.appl_data is not None:
        about["applData_octets"] = len(pdu.appl_data)
    return about, parsed, fault
