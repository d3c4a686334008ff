"""Transport protocol class 0 over TCP (X.224, RFC 1006): the TPDUs that set up and refuse a connection.

DT is not here: splitting, joining and segmentation are the channel's work (``fastsec._core.osidata``).
A TPDU is given from its length indicator on, without the TPKT header.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from fastsec import limits
from fastsec.errors import DecodeError

CODE_CR: Final = 0xE0
CODE_CC: Final = 0xD0
CODE_DR: Final = 0x80
CODE_ER: Final = 0x70
CODE_DT: Final = 0xF0

# Our own reference. It tells nothing apart: RFC 1006 gives each transport connection its own TCP connection.
REFERENCE: Final = 1

_TPDU_SIZE: Final = 0xC0
_CALLING: Final = 0xC1
_CALLED: Final = 0xC2
_ALTERNATIVE_CLASSES: Final = 0xC7
_PREFERRED_SIZE: Final = 0xF0

# X.224 13.5.3: reasons 0..3 in every class, 128.. else.
DR_UNSPECIFIED: Final = 0
DR_CONGESTION: Final = 1
DR_NO_SESSION_ENTITY: Final = 2
DR_ADDRESS_UNKNOWN: Final = 3
DR_NEGOTIATION_FAILED: Final = 130

# X.224 13.12.3
ER_UNSPECIFIED: Final = 0
ER_INVALID_PARAMETER_CODE: Final = 1
ER_INVALID_TPDU_TYPE: Final = 2
ER_INVALID_PARAMETER_VALUE: Final = 3

_DR_TEXTS: Final = {
    0: "reason not specified",
    1: "congestion",
    2: "session entity not attached",
    3: "address unknown",
    128: "normal disconnect",
    129: "congestion at connect request",
    130: "negotiation failed",
    131: "duplicate source reference",
    132: "mismatched references",
    133: "protocol error",
    135: "reference overflow",
    136: "connection request refused on this network connection",
    138: "header or parameter length invalid",
}


class Connect(NamedTuple):
    """A CR or CC TPDU.

    Attributes:
        code: ``CODE_CR`` or ``CODE_CC``.
        dst, src: references, 16 bits each. In class 0 over TCP they identify nothing: one transport connection has
            its network connection for itself.
        calling, called: T-selectors, at most 32 octets, or None.
        size: TPDU size of parameter C0 in octets (128..8192), or None.
        preferred: preferred maximum TPDU size of parameter F0 in octets, a multiple of 128, or None.
        class_0: whether class 0 is proposed (CR, also as alternative) or selected (CC).
    """

    code: int
    dst: int
    src: int
    calling: bytes | None = None
    called: bytes | None = None
    size: int | None = None
    preferred: int | None = None
    class_0: bool = True


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A DR TPDU: the connection request is refused, or the connection released, with ``reason``."""

    dst: int
    src: int
    reason: int

    @property
    def text(self) -> str:
        """The reason in words."""
        return _DR_TEXTS.get(self.reason, f"reason {self.reason}")


@dataclass(frozen=True, slots=True)
class Error:
    """An ER TPDU: the peer could not process a TPDU of ours."""

    dst: int
    cause: int


Tpdu = Connect | Disconnect | Error


def _fail(message: str, step: str) -> DecodeError:
    return DecodeError(message, step=step)


def decode(tpdu: bytes) -> Tpdu:
    """Parse one CR, CC, DR or ER TPDU.

    Arguments:
        tpdu: the octets from the length indicator on.
    Errors:
        DecodeError: not such a TPDU, or malformed (X.224 13).
    """
    if len(tpdu) < 2:
        raise _fail("TPDU of fewer than two octets", "COTP")
    header = tpdu[0]
    if header == 255 or header + 1 != len(tpdu):
        # None of these may carry user data in class 0 (X.224 13.3.5, 13.5.5).
        raise _fail("length indicator does not fit the TPDU", "COTP")
    code = tpdu[1] & 0xF0
    if code in (CODE_CR, CODE_CC):
        return _decode_connect(tpdu, code)
    if code == CODE_DR:
        if len(tpdu) < 7:
            raise _fail("DR too short", "COTP.DR")
        for _ in _parameters(tpdu, 7, "COTP.DR"):
            pass
        return Disconnect(tpdu[2] << 8 | tpdu[3], tpdu[4] << 8 | tpdu[5], tpdu[6])
    if code == CODE_ER:
        if len(tpdu) < 5:
            raise _fail("ER too short", "COTP.ER")
        for _ in _parameters(tpdu, 5, "COTP.ER"):
            pass
        return Error(tpdu[2] << 8 | tpdu[3], tpdu[4])
    raise _fail(f"TPDU code {tpdu[1]:02X} unknown or not used in class 0", "COTP")


def _parameters(tpdu: bytes, at: int, step: str) -> list[tuple[int, bytes]]:
    found = []
    end = len(tpdu)
    while at < end:
        if at + 2 > end or at + 2 + tpdu[at + 1] > end:
            raise _fail("parameter longer than the TPDU", step)
        stop = at + 2 + tpdu[at + 1]
        found.append((tpdu[at], tpdu[at + 2 : stop]))
        at = stop
    return found


# Next to nothing in CR and CC differs between the connections of a peer, so what was read is remembered.
@lru_cache(limits.OUR_PARSED_ADDRESSES)
def _decode_connect(tpdu: bytes, code: int) -> Connect:
    step = "COTP.CR" if code == CODE_CR else "COTP.CC"
    if len(tpdu) < 7:
        raise _fail("too short", step)
    dst = tpdu[2] << 8 | tpdu[3]
    if code == CODE_CR and dst:
        raise _fail("CR with a destination reference", step)
    calling = called = size = preferred = None
    class_0 = tpdu[6] >> 4 == 0
    for parameter, value in _parameters(tpdu, 7, step):
        if parameter == _TPDU_SIZE:
            if len(value) != 1 or not 7 <= value[0] <= 15:
                raise _fail("TPDU size not one of 2^7..2^15", step)
            size = 1 << value[0]
        elif parameter == _CALLING:
            calling = _selector(value, step)
        elif parameter == _CALLED:
            called = _selector(value, step)
        elif parameter == _PREFERRED_SIZE:
            if not 1 <= len(value) <= 4 or not any(value):
                raise _fail("preferred TPDU size of no or too many octets", step)
            preferred = int.from_bytes(value, "big") * 128
        elif parameter == _ALTERNATIVE_CLASSES and code == CODE_CR:
            class_0 = class_0 or any(entry >> 4 == 0 for entry in value)
        # X.224 13.2.3: a receiver ignores parameters it does not know.
    return Connect(code, dst, tpdu[4] << 8 | tpdu[5], calling, called, size, preferred, class_0)


def _selector(value: bytes, step: str) -> bytes:
    if len(value) > limits.OUR_TSEL_MAX:
        raise _fail(f"T-selector of {len(value)} octets", step)
    return value


@lru_cache(limits.OUR_PARSED_ADDRESSES)
def encode_connect(tpdu: Connect) -> bytes:
    """The octets of a CR or CC from the length indicator on; the order of the parameters is that of X.224 and of
    the peers in the field: sizes, called, calling."""
    body = bytearray((tpdu.code, tpdu.dst >> 8, tpdu.dst & 0xFF, tpdu.src >> 8, tpdu.src & 0xFF, 0))
    if tpdu.size is not None:
        body += bytes((_TPDU_SIZE, 1, tpdu.size.bit_length() - 1))
    if tpdu.preferred is not None:
        units = tpdu.preferred // 128
        value = units.to_bytes((units.bit_length() + 7) // 8, "big")
        body += bytes((_PREFERRED_SIZE, len(value))) + value
    if tpdu.called is not None:
        body += bytes((_CALLED, len(tpdu.called))) + tpdu.called
    if tpdu.calling is not None:
        body += bytes((_CALLING, len(tpdu.calling))) + tpdu.calling
    return bytes((len(body),)) + bytes(body)


def encode_disconnect(dst: int, src: int, reason: int) -> bytes:
    """The octets of a DR that refuses a CR whose source reference was ``dst``."""
    return bytes((6, CODE_DR, dst >> 8, dst & 0xFF, src >> 8, src & 0xFF, reason))


def encode_error(dst: int, cause: int) -> bytes:
    """The octets of an ER; ``dst`` is 0 where the peer's reference is not known."""
    return bytes((4, CODE_ER, dst >> 8, dst & 0xFF, cause))


@lru_cache(limits.OUR_PARSED_ADDRESSES)
def answer(request: Connect, reference: int, largest: int) -> Connect:
    """The CC to a CR: the sizes negotiated down to ``largest``, the selectors echoed (X.224 6.5.4, 13.4).

    Arguments:
        request: the CR.
        reference: our own reference.
        largest: the largest TPDU we want, in octets.
    """
    size = preferred = None
    if request.preferred is not None and largest >= 128:
        preferred = min(request.preferred, largest // 128 * 128)
    else:
        offered = request.size or limits.OUR_TPDU_SIZE_CLASSIC
        size = min(offered, 1 << (min(largest, limits.OUR_TPDU_SIZE_CLASSIC).bit_length() - 1))
    return Connect(CODE_CC, request.src, reference, request.calling, request.called, size, preferred)


def agreed_size(request: Connect, confirm: Connect) -> int:
    """The TPDU size, in octets, that CR and CC agree on.

    A CC without either parameter accepts what was offered in C0; X.224's default of 128 octets is not what peers over
    RFC 1006 mean by it. A CC that asks for more than was offered gets what was offered.
    """
    if confirm.preferred is not None and request.preferred is not None:
        return min(confirm.preferred, request.preferred)
    offered = request.size or limits.OUR_TPDU_SIZE_CLASSIC
    return min(confirm.size or offered, offered)
