"""Recognizing an MMS PDU by its tag, and the few answers that a gateway gives in an MMS peer's place.

Nothing here parses a service: the gateway relays octets. It must only know how an association begins and ends
(initiate, conclude; ISO 9506-2 clause 8) and be able to say no in MMS.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from fastsec._core.cursor import Reader, Writer
from fastsec.errors import DecodeError

_DESCRIPTION_MAX: Final = 120


class Kind(IntEnum):
    """MMSpdu alternatives by their identifier octet (ISO 9506-2, IMPLICIT context tags)."""

    CONFIRMED_REQUEST = 0xA0
    CONFIRMED_RESPONSE = 0xA1
    CONFIRMED_ERROR = 0xA2
    UNCONFIRMED = 0xA3
    REJECT = 0xA4
    CANCEL_REQUEST = 0x85
    CANCEL_RESPONSE = 0x86
    CANCEL_ERROR = 0xA7
    INITIATE_REQUEST = 0xA8
    INITIATE_RESPONSE = 0xA9
    INITIATE_ERROR = 0xAA
    CONCLUDE_REQUEST = 0x8B
    CONCLUDE_RESPONSE = 0x8C
    CONCLUDE_ERROR = 0xAD


class RejectReason(IntEnum):
    """The pdu-error alternative of RejectPDU.rejectReason."""

    UNKNOWN_PDU_TYPE = 0
    INVALID_PDU = 1


_KINDS: Final = {int(kind): kind for kind in Kind}


def kind_of(pdu: bytes) -> Kind | None:
    """Which MMS PDU this is, judged by its first octet alone; None for anything else and for no octets."""
    return _KINDS.get(pdu[0]) if pdu else None


def is_initiate_request(pdu: bytes | None) -> bool:
    """True for an initiate-Request."""
    return pdu is not None and pdu[:1] == b"\xa8"


def is_initiate_response(pdu: bytes | None) -> bool:
    """True for an initiate-Response: the only answer that opens an MMS association."""
    return pdu is not None and pdu[:1] == b"\xa9"


def is_initiate_error(pdu: bytes | None) -> bool:
    """True for an initiate-Error."""
    return pdu is not None and pdu[:1] == b"\xaa"


def is_conclude_response(pdu: bytes) -> bool:
    """True for a conclude-Response: after it either side may close without asking again."""
    return pdu[:1] == b"\x8c"


def invoke_id(pdu: bytes) -> int | None:
    """The invokeID of a confirmed request, response or error, or None where the PDU has none or is malformed."""
    kind = kind_of(pdu)
    try:
        reader = Reader(pdu)
        reader.next()
        if kind in (Kind.CONFIRMED_REQUEST, Kind.CONFIRMED_RESPONSE):
            return reader.enter().integer()
        if kind is Kind.CONFIRMED_ERROR:
            return reader.enter().integer(0x80)
    except DecodeError:
        return None
    return None


def initiate_error(description: str) -> bytes:
    """An initiate-Error: errorClass initiate, other, with a text for whoever reads the client's log.

    Arguments:
        description: VisibleString; other characters are replaced, at most 120 are sent.
    """
    text = "".join(c if " " <= c <= "~" else "?" for c in description[:_DESCRIPTION_MAX])
    writer = Writer()
    writer.begin(Kind.INITIATE_ERROR)
    writer.begin(0xA0)
    writer.integer(0, 0x88)
    writer.end()
    writer.primitive(0x82, text.encode("ascii"))
    writer.end()
    return writer.getvalue()


def reject(reason: RejectReason, original: int | None = None) -> bytes:
    """A RejectPDU with a pdu-error.

    Arguments:
        reason: why the PDU is not taken.
        original: invokeID of the PDU, if it had one.
    """
    writer = Writer()
    writer.begin(Kind.REJECT)
    if original is not None:
        writer.integer(original, 0x80)
    writer.integer(int(reason), 0x85)
    writer.end()
    return writer.getvalue()


def reject_for(data: bytes) -> bytes:
    """The RejectPDU for octets that ``is_one_pdu`` refuses."""
    if kind_of(data) is None:
        return reject(RejectReason.UNKNOWN_PDU_TYPE)
    return reject(RejectReason.INVALID_PDU, invoke_id(data))


def is_one_pdu(data: bytes) -> bool:
    """True if ``data`` is exactly one TLV that begins like an MMS PDU."""
    if kind_of(data) is None:
        return False
    try:
        reader = Reader(data)
        reader.next()
        reader.finish()
    except DecodeError:
        return False
    return True
