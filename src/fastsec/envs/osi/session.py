"""Session protocol (X.225): kernel and duplex, version 2 with its long user data.

An SPDU is a whole TSDU here. The data phase's prefix (GIVE TOKENS + DATA TRANSFER) is written and matched by the
channel; the parser below takes the forms of it that the channel leaves alone.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fastsec import limits
from fastsec.errors import DecodeError, LimitReached

SI_GT_DT: Final = 0x01
SI_NF: Final = 0x08
SI_FN: Final = 0x09
SI_DN: Final = 0x0A
SI_RF: Final = 0x0C
SI_CN: Final = 0x0D
SI_AC: Final = 0x0E
SI_CDO: Final = 0x0F
SI_OA: Final = 0x10
SI_AB: Final = 0x19
SI_AA: Final = 0x1A

_CONNECT_ITEM: Final = 0x05
_TRANSPORT_DISCONNECT: Final = 0x11
_PROTOCOL_OPTIONS: Final = 0x13
_REQUIREMENTS: Final = 0x14
_VERSION: Final = 0x16
_ENCLOSURE: Final = 0x19
_REFLECT: Final = 0x31
_REASON: Final = 0x32
_CALLING: Final = 0x33
_CALLED: Final = 0x34
_OVERFLOW: Final = 0x3C
_USER_DATA: Final = 0xC1
_EXTENDED_USER_DATA: Final = 0xC2

DUPLEX: Final = 0x0002
VERSION_1: Final = 0x01
VERSION_2: Final = 0x02
SHORT_USER_DATA_MAX: Final = 512
SPDU_BODY_MAX: Final = 65_535

# X.225 8.3.7.8: TRANSPORT CONNECTION RELEASED + USER ABORT + NO REASON, as peers in the field send it.
ABORT_USER: Final = 0x0B
ABORT_TRANSPORT_RELEASED: Final = 0x01

RF_CALLED_USER: Final = 0
RF_CONGESTION: Final = 1
RF_CALLED_USER_DATA: Final = 2
RF_SELECTOR_UNKNOWN: Final = 129
RF_VERSION: Final = 132
RF_UNSPECIFIED: Final = 133
RF_RESTRICTION: Final = 134

_RF_TEXTS: Final = {
    0: "refused by the called user",
    1: "temporary congestion at the called user",
    2: "refused by the called user with data",
    129: "S-selector unknown",
    130: "user not attached to the session selector",
    131: "congestion",
    132: "protocol version not supported",
    133: "refused, reason not specified",
    134: "restriction of the peer's implementation",
}

DATA_PREFIX: Final = b"\x01\x00\x01\x00"
_CONNECT_ITEM_V2: Final = b"\x05\x06\x13\x01\x00\x16\x01\x02"
_DUPLEX_ONLY: Final = b"\x14\x02\x00\x02"
_USUAL_ITEMS: Final = _CONNECT_ITEM_V2 + _DUPLEX_ONLY  # what every peer but one in the captures begins with


class Spdu(NamedTuple):
    """One SPDU.

    Attributes:
        si: SPDU identifier; ``SI_GT_DT`` stands for GIVE TOKENS + DATA TRANSFER together.
        user_data: the presentation PDU, b"" if there was none.
        calling, called: S-selectors, at most 16 octets, or None (CN, AC).
        version: protocol version bits (CN, AC); 1 when the parameter is absent (X.225 8.3.1.5).
        requirements: session user requirements bits, None when absent (CN, AC).
        reason: reason code of RF, else 0.
        flags: transport disconnect octet of AB and FN, None when absent.
        overflow: the caller of CN has more user data to follow (CDO).
    """

    si: int
    user_data: bytes = b""
    calling: bytes | None = None
    called: bytes | None = None
    version: int = VERSION_1
    requirements: int | None = None
    reason: int = 0
    flags: int | None = None
    overflow: bool = False


def refuse_text(reason: int) -> str:
    """The reason code of RF in words."""
    return _RF_TEXTS.get(reason, f"reason {reason}")


def _fail(message: str, si: int) -> DecodeError:
    return DecodeError(message, step=f"SPDU {si:02X}")


def _length(data: bytes, at: int, end: int, si: int) -> tuple[int, int]:
    """The length indicator at ``at``: (index of the content, index past it)."""
    if at >= end:
        raise _fail("length indicator missing", si)
    size = data[at]
    at += 1
    if size == 255:
        if at + 2 > end:
            raise _fail("long length indicator cut off", si)
        size = data[at] << 8 | data[at + 1]
        at += 2
    if at + size > end:
        raise _fail("parameter longer than what surrounds it", si)
    return at, at + size


def decode(tsdu: bytes) -> Spdu:
    """Parse the one SPDU (or GIVE TOKENS + DATA TRANSFER) of a TSDU.

    An SPDU identifier this protocol machine does not know gives a plain ``Spdu(si)``; the state table judges it.

    Errors:
        DecodeError: malformed (X.225 8.2).
    """
    if not tsdu:
        raise DecodeError("TSDU without octets", step="SPDU")
    si = tsdu[0]
    start, stop = _length(tsdu, 1, len(tsdu), si)
    if si == SI_GT_DT:
        return _decode_data(tsdu, start, stop)
    if si not in _KNOWN:
        return Spdu(si)
    if stop != len(tsdu):
        raise _fail("octets after an SPDU that must stand alone", si)
    return _decode_parameters(tsdu, start, stop, si)


_KNOWN: Final = frozenset((SI_NF, SI_FN, SI_DN, SI_RF, SI_CN, SI_AC, SI_CDO, SI_OA, SI_AB, SI_AA))


def _decode_data(tsdu: bytes, start: int, stop: int) -> Spdu:
    # GIVE TOKENS first (its token item, if any, is empty of meaning without tokens), then DATA TRANSFER.
    if stop >= len(tsdu) or tsdu[stop] != SI_GT_DT:
        raise _fail("GIVE TOKENS without DATA TRANSFER", SI_GT_DT)
    at, end = _length(tsdu, stop + 1, len(tsdu), SI_GT_DT)
    if end - at > 2 * limits.OUR_SESSION_PARAMETERS_MAX:
        raise _fail("too many parameters", SI_GT_DT)
    while at < end:
        code = tsdu[at]
        first, last = _length(tsdu, at + 1, end, SI_GT_DT)
        if code == _ENCLOSURE and (last - first != 1 or tsdu[first] & 3 != 3):
            raise _fail("segmented session data, though no segmentation was agreed", SI_GT_DT)
        at = last
    return Spdu(SI_GT_DT, tsdu[end:])


def _decode_parameters(data: bytes, at: int, end: int, si: int) -> Spdu:
    user_data: bytes | None = None
    calling = called = flags = None
    requirements: int | None = None
    version = VERSION_1
    reason = 0
    overflow = False
    if data.startswith(_USUAL_ITEMS, at, end):
        version, requirements = VERSION_2, DUPLEX
        at += len(_USUAL_ITEMS)
    left = limits.OUR_SESSION_PARAMETERS_MAX
    while at < end:
        if not left:
            raise _fail(f"more than {limits.OUR_SESSION_PARAMETERS_MAX} parameters", si)
        left -= 1
        code = data[at]
        first, last = _length(data, at + 1, end, si)
        at = last
        if code in (_USER_DATA, _EXTENDED_USER_DATA):
            if user_data is not None:
                raise _fail("user data twice", si)
            user_data = data[first:last]
        elif code == _CONNECT_ITEM:
            version = _version(data, first, last, si, version)
        elif code == _VERSION:
            version = _octet(data, first, last, si)
        elif code == _REQUIREMENTS:
            if last - first != 2:
                raise _fail("session user requirements are not two octets", si)
            requirements = data[first] << 8 | data[first + 1]
        elif code == _CALLING:
            calling = _selector(data, first, last, si)
        elif code == _CALLED:
            called = _selector(data, first, last, si)
        elif code == _TRANSPORT_DISCONNECT:
            flags = _octet(data, first, last, si)
        elif code == _REASON and si == SI_RF:
            if first == last:
                raise _fail("reason code empty", si)
            reason = data[first]
            if last - first > 1:
                if user_data is not None:
                    raise _fail("user data twice", si)
                user_data = data[first + 1 : last]
        elif code == _OVERFLOW:
            overflow = True
        # X.225 8.2.10: parameters that are not known are ignored.
    return Spdu(si, user_data or b"", calling, called, version, requirements, reason, flags, overflow)


def _version(data: bytes, at: int, end: int, si: int, version: int) -> int:
    while at < end:
        code = data[at]
        first, last = _length(data, at + 1, end, si)
        if code == _VERSION:
            version = _octet(data, first, last, si)
        elif code == _PROTOCOL_OPTIONS:
            _octet(data, first, last, si)
        at = last
    return version


def _octet(data: bytes, first: int, last: int, si: int) -> int:
    if last - first != 1:
        raise _fail("parameter is not one octet", si)
    return data[first]


def _selector(data: bytes, first: int, last: int, si: int) -> bytes:
    if last - first > limits.OUR_SELECTOR_MAX:
        raise _fail(f"S-selector of {last - first} octets", si)
    return data[first:last]


def _item(code: int, content: bytes) -> bytes:
    size = len(content)
    if size < 255:
        return bytes((code, size)) + content
    if size > SPDU_BODY_MAX:
        raise LimitReached("SPDU_BODY_MAX", f"a session parameter of {size} octets")
    return bytes((code, 255, size >> 8, size & 0xFF)) + content


def connect_header(calling: bytes | None, called: bytes | None) -> bytes:
    """The parameters of CN before its user data."""
    header = _CONNECT_ITEM_V2 + _DUPLEX_ONLY
    if calling is not None:
        header += _item(_CALLING, calling)
    if called is not None:
        header += _item(_CALLED, called)
    return header


def encode_connect(header: bytes, user_data: bytes) -> bytes:
    """CN; ``header`` comes from ``connect_header``. User data up to 512 octets stands in C1, up to 10 240 in C2.

    Errors:
        LimitReached: more user data; that would need CDO, which neither 62351-4 nor 61850-8-1 uses.
    """
    if len(user_data) > limits.SPEC_CONNECT_USER_DATA_MAX:
        raise LimitReached("SPEC_CONNECT_USER_DATA_MAX", f"CONNECT user data of {len(user_data)} octets")
    code = _USER_DATA if len(user_data) <= SHORT_USER_DATA_MAX else _EXTENDED_USER_DATA
    return _item(SI_CN, header + _item(code, user_data))


def encode_accept(responding: bytes | None, user_data: bytes, version: int = VERSION_2) -> bytes:
    """AC with the responding S-selector; ``version`` is the one agreed (1 or 2)."""
    item = _CONNECT_ITEM_V2[:-1] + bytes((version,))
    selector = b"" if responding is None else _item(_CALLED, responding)
    return _item(SI_AC, item + _DUPLEX_ONLY + selector + _item(_USER_DATA, user_data))


def encode_refuse(reason: int, user_data: bytes = b"") -> bytes:
    """RF; user data goes with reason 2 only, and stands in the reason code parameter (X.225 8.3.5)."""
    flags = bytes((_TRANSPORT_DISCONNECT, 1, ABORT_TRANSPORT_RELEASED))
    return _item(SI_RF, flags + _item(_REASON, bytes((reason,)) + user_data))


def encode_finish(user_data: bytes) -> bytes:
    """FN; without the transport disconnect item the transport connection is released after DN (X.225 8.3.9.2)."""
    return _item(SI_FN, _item(_USER_DATA, user_data))


def encode_disconnect(user_data: bytes) -> bytes:
    """DN."""
    return _item(SI_DN, _item(_USER_DATA, user_data))


def encode_abort(user_data: bytes) -> bytes:
    """AB by the session user, the transport connection not kept."""
    return _item(SI_AB, bytes((_TRANSPORT_DISCONNECT, 1, ABORT_USER)) + _item(_USER_DATA, user_data))


def encode_data(user_data: bytes) -> bytes:
    """GIVE TOKENS + DATA TRANSFER."""
    return DATA_PREFIX + user_data
