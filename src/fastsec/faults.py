"""Which event, which class and which diagnostic belong to each check: the tables of IEC 62351-4 and 62351-14 as data.

A check has one name in the whole package (``PeerError.check``). Where it failed is the SecPDU's *group*, the group
number of the event catalogue. ``verdict(group, check)`` gives the event number and the diagnostic for the wire, which
is None for the alarm class: an alarm is answered silently (62351-4, three phases). The diagnostic column of the
catalogue is inferred, so every pairing stands here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from fastsec.profile import DtDiag, HandshakeDiag


class Group(IntEnum):
    """The event groups of the domain IEC62351-4, one per SecPDU."""

    HANDSHAKE_REQ = 1
    HANDSHAKE_ACC = 2
    APPLICATION_REJECT = 3
    HANDSHAKE_SEC_REJECT = 4
    HANDSHAKE_SEC_ABORT = 5
    DT_SEC_ABORT = 6
    APPL_ABORT = 7
    CLEAR_TRANSFER = 10
    ENCR_TRANSFER = 11
    RELEASE_REQ = 12
    RELEASE_RSP = 13


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a failed check.

    Attributes:
        number: event number within the SecPDU's group.
        diag: diagnostic to send, None for an alarm.
    """

    number: int
    diag: int | None


_H, _D = HandshakeDiag, DtDiag

HANDSHAKE_REQ: Final[dict[str, tuple[int, int | None]]] = {
    "signature-algorithm": (1, _H.INVALID_SIGNATURE_ALGORITHM),
    "signature-mismatch": (2, None),
    "signature": (3, None),
    "pp": (4, _H.PROTECTED_PROTOCOL_NOT_SUPPORTED),
    "protocol-error": (5, _H.PROTOCOL_ERROR),
    "internal": (5, _H.NO_REASON_GIVEN),  # our own machinery failed; the catalogue has no event for that
    "certificate": (6, _H.INVALID_PUBLIC_KEY_CERTIFICATE),
    "path": (6, _H.INVALID_CERTIFICATION_PATH),
    "attribute-certificate": (6, _H.INVALID_ATTRIBUTE_CERTIFICATE),  # the catalogue has no event of its own
    "certificate-signature": (7, None),
    "revoked": (7, None),
    "address": (8, None),
    "version": (9, _H.UNEXPECTED_VERSION),
    "time": (10, _H.INVALID_TIME_VALUE),
    "replay": (11, None),
    "group": (12, _H.DH_GROUP_NOT_SUPPORTED),
    "hmac": (13, _H.HMAC_ALGORITHM_NOT_SUPPORTED),
    "ae-not-allowed": (14, _H.ENCR_MODE_AEA_NOT_SUPPORTED),
    "ae-without-encryption": (15, _H.AEA_SELECT_BUT_ENCRYP_NOT_SUPP),
    "ae-algorithm": (16, _H.AEA_ALGORITHMS_NOT_SUPPORTED),
    "ae-required": (17, _H.AE_IS_REQUIRED),
    "encryption-list": (18, _H.ENCRYPTION_NOT_REQUIRED),
    "encryption-algorithm": (19, _H.ENCRYPT_ALGORITHMS_NOT_SUPPORTED),
    "icv-algorithms": (20, _H.ICV_ALGORITHMS_NOT_SUPPORTED),
    "encryption-not-required": (21, _H.ENCRYPTION_NOT_REQUIRED),
    "encryption-required": (22, _H.ENCRYPTION_REQUIRED),
}
HANDSHAKE_ACC: Final[dict[str, tuple[int, int | None]]] = {
    "signature-algorithm": (1, _H.INVALID_SIGNATURE_ALGORITHM),
    "signature-mismatch": (2, None),
    "signature": (3, None),
    "pp": (4, _H.PROTOCOL_ERROR),  # Acc.pp = Req.pp; group 2 knows no event for another one
    "protocol-error": (4, _H.PROTOCOL_ERROR),
    "internal": (4, _H.NO_REASON_GIVEN),
    "certificate": (5, _H.INVALID_PUBLIC_KEY_CERTIFICATE),
    "path": (5, _H.INVALID_CERTIFICATION_PATH),
    "attribute-certificate": (5, _H.INVALID_ATTRIBUTE_CERTIFICATE),
    "certificate-signature": (6, None),
    "revoked": (6, None),
    "address": (7, None),
    "version": (8, _H.UNEXPECTED_VERSION),
    "time": (9, _H.INVALID_TIME_VALUE),
    "replay": (10, None),
    "group": (11, _H.ILLEGAL_DH_GROUP_SELECTED),
    "hmac": (12, _H.HMAC_ALGORITHM_NOT_SUPPORTED),
    "ae-algorithm": (13, _H.INVALID_AE_ALGORITHM),
    "single-ae": (14, _H.SINGLE_AE_ALGORITHM_REQUIRED),
    "ae-not-used": (15, _H.AE_NOT_USED),
    "encryption-algorithm": (16, _H.INVALID_ENCRYPTION_ALGORITHM),
    "single-encryption": (17, _H.SINGLE_ENCRYPT_ALGO_REQUIRED),
    "icv-algorithms": (18, _H.ICV_ALGORITHMS_NOT_SUPPORTED),
    "single-icv": (19, _H.SINGLE_ICV_ALGO_REQUIRED),
    "encryption-not-required": (20, _H.ENCRYPTION_NOT_REQUIRED),
    "encryption-required": (21, _H.ENCRYPTION_REQUIRED),
}
# The ten checks of a signed control PDU. The diagnostic goes out only in answer to a ReleaseReq: rejects, aborts and
# ReleaseRsp are never answered. DtDiagnostics has no number for sigAlg and certificate.
CONTROL: Final[dict[str, tuple[int, int | None]]] = {
    "signature-algorithm": (1, _D.NO_REASON_GIVEN),
    "signature-mismatch": (2, None),
    "signature": (3, None),
    "protocol-error": (4, _D.PROTOCOL_ERROR),
    "internal": (4, _D.NO_REASON_GIVEN),
    "certificate": (5, _D.NO_REASON_GIVEN),
    "path": (5, _D.NO_REASON_GIVEN),
    "certificate-signature": (6, None),
    "revoked": (6, None),
    "address": (7, None),
    "version": (8, _D.UNEXPECTED_VERSION),
    "time": (9, _D.INVALID_TIME_VALUE),
    "replay": (10, None),
}
# Checks of a control PDU up to the one that shows who sent it.
UNVERIFIED: Final = frozenset(
    (
        "signature-algorithm",
        "signature-mismatch",
        "signature",
        "protocol-error",
        "certificate",
        "path",
        "certificate-signature",
        "revoked",
        "address",
    )
)
_TRANSFER: Final[dict[str, tuple[int, int | None]]] = {
    "protocol-error": (1, _D.PROTOCOL_ERROR),
    "asso-id": (1, _D.PROTOCOL_ERROR),
    "internal": (1, _D.NO_REASON_GIVEN),
    "icv-algorithm": (3, None),
    "nonce-missing": (4, _D.GMAC_NONCE_REQUIRED),
    "icv": (5, None),
    "time": (6, _D.INVALID_TIME_VALUE),
    "replay": (7, None),
    "sequence": (8, _D.INVALID_SEQUENCE_NUMBER),
}
CLEAR_TRANSFER: Final = _TRANSFER | {
    "wrong-kind": (2, _D.ENCRYPTION_REQUIRED),
    "unexpected-rekey": (9, _D.UNEXPECTED_DH_PUBLIC_KEY),
    "unexpected-changed-key": (10, _D.UNEXPECTED_CHANGED_KEYS),
}
ENCR_TRANSFER: Final = _TRANSFER | {
    "wrong-kind": (2, _D.ENCRYPTION_NOT_SELECTED),
    "ae-iv-missing": (4, _D.GMAC_INIT_VECTOR_REQUIRED),
    "iv-missing": (9, _D.AES_INIT_VECTOR_REQUIRED),
    "unexpected-rekey": (10, _D.UNEXPECTED_DH_PUBLIC_KEY),
    "unexpected-changed-key": (11, _D.UNEXPECTED_CHANGED_KEYS),
}
CHECKS: Final[MappingProxyType[Group, dict[str, tuple[int, int | None]]]] = MappingProxyType(
    {
        Group.HANDSHAKE_REQ: HANDSHAKE_REQ,
        Group.HANDSHAKE_ACC: HANDSHAKE_ACC,
        Group.APPLICATION_REJECT: CONTROL,
        Group.HANDSHAKE_SEC_REJECT: CONTROL,
        Group.HANDSHAKE_SEC_ABORT: CONTROL,
        Group.DT_SEC_ABORT: CONTROL,
        Group.APPL_ABORT: CONTROL,
        Group.CLEAR_TRANSFER: CLEAR_TRANSFER,
        Group.ENCR_TRANSFER: ENCR_TRANSFER,
        Group.RELEASE_REQ: CONTROL,
        Group.RELEASE_RSP: CONTROL,
    }
)

# What a verified reject or abort tells us: diagnostic received -> event number. None stands for no diagnostic: the
# peer raised an alarm. A diagnostic without an event of its own is reported as the peer's protocol-error event with
# the diagnostic as parameter.
RECEIVED: Final[MappingProxyType[Group, dict[int | None, int]]] = MappingProxyType(
    {
        Group.HANDSHAKE_SEC_REJECT: {
            None: 11,
            _H.INVALID_SIGNATURE_ALGORITHM: 12,
            _H.PROTECTED_PROTOCOL_NOT_SUPPORTED: 13,
            _H.PROTOCOL_ERROR: 14,
            _H.UNEXPECTED_VERSION: 15,
            _H.INVALID_TIME_VALUE: 16,
            _H.DH_GROUP_NOT_SUPPORTED: 17,
            _H.HMAC_ALGORITHM_NOT_SUPPORTED: 18,
            _H.ENCR_MODE_AEA_NOT_SUPPORTED: 19,
            _H.AEA_SELECT_BUT_ENCRYP_NOT_SUPP: 20,
            _H.AEA_ALGORITHMS_NOT_SUPPORTED: 21,
            _H.AE_IS_REQUIRED: 22,
            _H.ENCRYPTION_NOT_REQUIRED: 26,  # 23 where the offer held a list of encryption algorithms
            _H.ENCRYPT_ALGORITHMS_NOT_SUPPORTED: 24,
            _H.ICV_ALGORITHMS_NOT_SUPPORTED: 25,
            _H.ENCRYPTION_REQUIRED: 27,
        },
        Group.HANDSHAKE_SEC_ABORT: {
            None: 11,
            _H.INVALID_SIGNATURE_ALGORITHM: 12,
            _H.PROTOCOL_ERROR: 13,
            _H.UNEXPECTED_VERSION: 14,
            _H.INVALID_TIME_VALUE: 15,
            _H.ILLEGAL_DH_GROUP_SELECTED: 16,
            _H.HMAC_ALGORITHM_NOT_SUPPORTED: 17,
            _H.INVALID_AE_ALGORITHM: 18,
            _H.SINGLE_AE_ALGORITHM_REQUIRED: 19,
            _H.AE_NOT_USED: 20,
            _H.INVALID_ENCRYPTION_ALGORITHM: 21,
            _H.SINGLE_ENCRYPT_ALGO_REQUIRED: 22,
            _H.ICV_ALGORITHMS_NOT_SUPPORTED: 23,
            _H.SINGLE_ICV_ALGO_REQUIRED: 24,
            _H.ENCRYPTION_NOT_REQUIRED: 25,
            _H.ENCRYPTION_REQUIRED: 25,
        },
        Group.DT_SEC_ABORT: {
            None: 11,
            _D.PROTOCOL_ERROR: 12,
            _D.ENCRYPTION_NOT_SELECTED: 13,
            _D.ENCRYPTION_REQUIRED: 14,
            _D.UNEXPECTED_DH_PUBLIC_KEY: 15,
            _D.UNEXPECTED_CHANGED_KEYS: 16,
        },
    }
)
ENCRYPTION_LIST_REJECTED: Final = 23


def verdict(group: Group, check: str) -> Verdict:
    """Event number and diagnostic for ``check`` failing on a SecPDU of ``group``.

    A check that the group's table does not hold counts as protocol-error.
    """
    table = CHECKS[group]
    number, diag = table.get(check) or table["protocol-error"]
    return Verdict(number, None if diag is None else int(diag))


def received(group: Group, diag: int | None, *, encryption_list_offered: bool = False) -> int:
    """Event number for a verified reject or abort of ``group`` that carries ``diag``."""
    table = RECEIVED[group]
    if group is Group.HANDSHAKE_SEC_REJECT and diag == _H.ENCRYPTION_NOT_REQUIRED and encryption_list_offered:
        return ENCRYPTION_LIST_REJECTED
    return table[diag] if diag in table else table[1]
