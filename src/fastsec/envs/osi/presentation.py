"""Presentation protocol (X.226), normal mode, kernel: CP, CPA, CPR, ARU, ARP and fully encoded user data, in BER.

Contexts are looked up by the OID of their abstract syntax, never by the number the peer chose.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from fastsec import limits, profile
from fastsec._core.cursor import Reader, encode_oid, tlv
from fastsec.errors import DecodeError

CONTEXT_ID_MAX: Final = 127
ACCEPTANCE: Final = 0
USER_REJECTION: Final = 1
PROVIDER_REJECTION: Final = 2
# Result-list provider-reason (X.226 8.2)
ABSTRACT_SYNTAX_NOT_SUPPORTED: Final = 1
TRANSFER_SYNTAXES_NOT_SUPPORTED: Final = 2

# CPR provider-reason
CPR_ADDRESS_UNKNOWN: Final = 3
CPR_VERSION: Final = 4
CPR_UNREADABLE: Final = 6

# ARP provider-reason
ARP_NOT_SPECIFIED: Final = 0

_CPR_TEXTS: Final = {
    0: "reason not specified",
    1: "temporary congestion",
    2: "local limit exceeded",
    3: "called presentation address unknown",
    4: "protocol version not supported",
    5: "default context not supported",
    6: "user data not readable",
    7: "no presentation address available",
}
_ARP_TEXTS: Final = {
    0: "reason not specified",
    1: "unrecognized PPDU",
    2: "unexpected PPDU",
    3: "unexpected session primitive",
    4: "unrecognized PPDU parameter",
    5: "unexpected PPDU parameter",
    6: "invalid PPDU parameter value",
}

_NORMAL_MODE: Final = b"\xa0\x03\x80\x01\x01"
_BER: Final = tlv(0x06, encode_oid(profile.OID_BER))
_BER_LIST: Final = tlv(0x30, _BER)
_ACCEPTED: Final = tlv(0x30, tlv(0x80, b"\x00") + tlv(0x81, encode_oid(profile.OID_BER)))


class Context(NamedTuple):
    """One entry of a context definition list: its number, abstract syntax, whether BER is among the transfer
    syntaxes."""

    id: int
    abstract_syntax: str
    ber: bool


class Pdv(NamedTuple):
    """One presentation data value: context number and the octets of the value."""

    context: int
    value: bytes


class Ppdu(NamedTuple):
    """A CP, CPA or CPR.

    Attributes:
        calling, called: P-selectors, at most 16 octets, or None; ``called`` is the responding one in CPA and CPR.
        contexts: what CP proposes.
        results: result per proposed context, in its order (CPA, CPR).
        user_data: presentation data values, usually one with an ACSE APDU.
        provider_reason: reason of a refusal by the presentation provider (CPR), or None.
        version_1: whether protocol version 1 is among those proposed.
    """

    calling: bytes | None = None
    called: bytes | None = None
    contexts: tuple[Context, ...] = ()
    results: tuple[int, ...] | None = None
    user_data: tuple[Pdv, ...] = ()
    provider_reason: int | None = None
    version_1: bool = True


class AbortPpdu(NamedTuple):
    """An ARU (``provider_reason`` None) or ARP."""

    user_data: tuple[Pdv, ...] = ()
    provider: bool = False
    provider_reason: int | None = None

    @property
    def text(self) -> str:
        """The reason of an ARP in words."""
        reason = 0 if self.provider_reason is None else self.provider_reason
        return _ARP_TEXTS.get(reason, f"reason {reason}")


def refuse_text(reason: int) -> str:
    """The provider-reason of CPR in words."""
    return _CPR_TEXTS.get(reason, f"reason {reason}")


def _fail(message: str, step: str) -> DecodeError:
    return DecodeError(message, step=step)


# --- reading --------------------------------------------------------------------------------------------------------


def decode_connect(data: bytes) -> Ppdu:
    """Parse a CP (X.226 8.2). DecodeError if malformed or not in normal mode."""
    return _decode_set(data, "CP")


def decode_accept(data: bytes) -> Ppdu:
    """Parse a CPA. DecodeError if malformed or not in normal mode."""
    return _decode_set(data, "CPA")


def decode_refuse(data: bytes) -> Ppdu:
    """Parse a CPR; the form of X.410 mode is refused."""
    reader = Reader(data, indefinite=True, step="CPR")
    reader.expect(0x30)
    found = _decode_parameters(reader.enter(indefinite=True), "CPR")
    reader.finish()
    return found


def _decode_set(data: bytes, step: str) -> Ppdu:
    outer = Reader(data, indefinite=True, step=step)
    outer.expect(0x31)
    reader = outer.enter(indefinite=True)
    outer.finish()
    mode: int | None = None
    found: Ppdu | None = None
    while reader.more():
        tag = reader.next()
        if tag == 0xA0 and mode is None:
            inner = reader.enter(indefinite=True)
            mode = inner.integer(0x80)
            inner.finish()
        elif tag == 0xA2 and found is None:
            found = _decode_parameters(reader.enter(indefinite=True), step)
        else:
            raise _fail(f"tag {tag:02X} not allowed here or repeated", step)
    if mode != 1:
        raise _fail("mode is not normal mode", step)
    return found or Ppdu()


_Others = tuple[bytes | None, bytes | None, tuple[Context, ...], tuple[int, ...] | None, int | None, bool]


def _decode_parameters(reader: Reader, step: str) -> Ppdu:
    """User data and, apart from it, the other parameters: a peer sends the same ones each time."""
    octets, carries = reader.set_aside(0x61)
    user_data = _decode_pdvs(reader.enter(indefinite=True), step) if carries else ()
    usual = len(octets) <= limits.OUR_PARSED_ADDRESS_OCTETS
    calling, called, contexts, results, reason, version_1 = (_remember if usual else _decode_others)(octets, step)
    return Ppdu(calling, called, contexts, results, user_data, reason, version_1)


def _decode_others(octets: bytes, step: str) -> _Others:
    reader = Reader(octets, indefinite=True, step=step)
    calling = called = None
    contexts: tuple[Context, ...] | None = None
    results: tuple[int, ...] | None = None
    reason: int | None = None
    version_1 = True
    connect = step == "CP"
    seen = 0
    while (tag := reader.peek()) != -1:
        bit = 1 << (tag & 0x1F | (tag & 0xC0) >> 1)  # number and class
        if seen & bit:
            raise _fail(f"parameter {tag:02X} twice", step)
        seen |= bit
        if tag == 0x80:
            version_1 = bool(reader.named_bits(0x80) & 1)
        elif tag == 0x81 and connect:
            calling = reader.octets(0x81, limits.OUR_SELECTOR_MAX)
        elif tag == (0x82 if connect else 0x83):
            called = reader.octets(tag, limits.OUR_SELECTOR_MAX)
        elif tag == 0xA4 and connect:
            reader.next()
            contexts = _decode_contexts(reader, step)
        elif tag == 0xA5 and not connect:
            reader.next()
            results = _decode_results(reader, step)
        elif tag == 0x8A and step == "CPR":
            reason = reader.integer(0x8A)
        elif tag == 0x61:
            raise _fail("user data twice", step)
        elif tag == 0x60:
            raise _fail("user data simply encoded", step)
        else:
            # Default context, requirements and later parameters: nothing that the kernel acts on.
            reader.next()
    return calling, called, contexts or (), results, reason, version_1


_remember: Final = lru_cache(limits.OUR_PARSED_ADDRESSES)(_decode_others)


def _decode_contexts(outer: Reader, step: str) -> tuple[Context, ...]:
    usual = _USUAL_CONTEXTS.get(outer.value())
    if usual is not None:
        return usual
    reader = outer.enter(indefinite=True)
    found: list[Context] = []
    seen: set[int] = set()
    while reader.more():
        if len(found) == limits.OUR_CONTEXTS_MAX:
            raise _fail(f"more than {limits.OUR_CONTEXTS_MAX} presentation contexts", step)
        reader.expect(0x30)
        entry = reader.enter(indefinite=True)
        number = entry.integer()
        abstract = entry.oid()
        entry.expect(0x30)
        syntaxes = entry.enter(indefinite=True)
        entry.finish()
        ber = False
        count = 0
        while syntaxes.more():
            if count == limits.OUR_CONTEXTS_MAX:
                raise _fail("too many transfer syntaxes", step)
            ber = syntaxes.oid() == profile.OID_BER or ber
            count += 1
        if not 1 <= number <= CONTEXT_ID_MAX:
            raise _fail(f"presentation context number {number} is not 1..{CONTEXT_ID_MAX}", step)
        if number in seen:
            raise _fail(f"presentation context {number} defined twice", step)
        seen.add(number)
        found.append(Context(number, abstract, ber))
    return tuple(found)


def _decode_results(outer: Reader, step: str) -> tuple[int, ...]:
    usual = _USUAL_RESULTS.get(outer.value())
    if usual is not None:
        return usual
    reader = outer.enter(indefinite=True)
    found: list[int] = []
    while reader.more():
        if len(found) == limits.OUR_CONTEXTS_MAX:
            raise _fail(f"more than {limits.OUR_CONTEXTS_MAX} results", step)
        reader.expect(0x30)
        entry = reader.enter(indefinite=True)
        result = entry.integer(0x80)
        if result == ACCEPTANCE and entry.peek() == 0x81 and entry.oid(0x81) != profile.OID_BER:
            raise _fail("context accepted with a transfer syntax that was not offered", step)
        while entry.more():
            entry.next()
        found.append(result)
    return tuple(found)


def _decode_pdvs(reader: Reader, step: str) -> tuple[Pdv, ...]:
    found: list[Pdv] = []
    while reader.more():
        if len(found) == limits.OUR_CONTEXTS_MAX:
            raise _fail(f"more than {limits.OUR_CONTEXTS_MAX} presentation data values", step)
        reader.expect(0x30)
        entry = reader.enter(indefinite=True)
        entry.optional(0x06)
        context = entry.integer()
        found.append(Pdv(context, decode_value(entry)))
        entry.finish()
    if not found:
        raise _fail("user data without a presentation data value", step)
    return tuple(found)


def decode_value(reader: Reader) -> bytes:
    """The value of the next TLV of a PDV-list or EXTERNAL: single-ASN1-type [0], octet-aligned [1] or arbitrary [2]
    of whole octets. DecodeError if it is none of these, or single-ASN1-type of more or less than one TLV."""
    tag = reader.peek()
    if tag == 0xA0:
        reader.next()
        inner = reader.enter(indefinite=True)
        if inner.more():
            inner.next()
        else:
            raise DecodeError("single-ASN1-type without a value", step=reader.step)
        value = inner.raw()
        inner.finish()
        return value
    if tag == 0x81:
        return reader.octets(0x81)
    if tag == 0x82:
        octets, unused = reader.bits(0x82)
        if unused:
            raise DecodeError("arbitrary encoding of a broken octet", step=reader.step)
        return octets
    raise DecodeError(f"data value with tag {tag:02X}", step=reader.step)


def decode_user_data(data: bytes, start: int = 0) -> tuple[Pdv, ...]:
    """Parse User-data from index ``start`` on, which must be fully encoded (X.226 8.4). DecodeError otherwise."""
    reader = Reader(data, start, indefinite=True, step="PPDU")
    reader.expect(0x61)
    found = _decode_pdvs(reader.enter(indefinite=True), "PPDU")
    reader.finish()
    return found


def decode_abort(data: bytes) -> AbortPpdu:
    """Parse an ARU or ARP; no octets at all are an ARU without user data."""
    if not data:
        return AbortPpdu()
    reader = Reader(data, indefinite=True, step="ARU")
    tag = reader.next()
    inner = reader.enter(indefinite=True)
    reader.finish()
    if tag == 0xA0:
        user_data: tuple[Pdv, ...] = ()
        while inner.more():
            if inner.next() == 0x61:
                if user_data:
                    raise _fail("user data twice", "ARU")
                user_data = _decode_pdvs(inner.enter(indefinite=True), "ARU")
        return AbortPpdu(user_data)
    if tag == 0x30:
        reason = inner.integer(0x80) if inner.peek() == 0x80 else None
        while inner.more():
            inner.next()
        return AbortPpdu((), True, reason)
    raise _fail(f"abort with tag {tag:02X}", "ARU")


# --- writing --------------------------------------------------------------------------------------------------------


def _entries(contexts: tuple[tuple[int, str], ...]) -> bytes:
    return b"".join(
        tlv(0x30, tlv(0x02, bytes((number,))) + tlv(0x06, encode_oid(syntax)) + _BER_LIST)
        for number, syntax in contexts
    )


def user_data(context: int, value: bytes) -> bytes:
    """User-data: one PDV-list with one single-ASN1-type. ``context`` is 1..127, ``value`` one TLV."""
    return tlv(0x61, tlv(0x30, bytes((2, 1, context)) + tlv(0xA0, value)))


def connect_header(calling: bytes | None, called: bytes | None, contexts: tuple[tuple[int, str], ...]) -> bytes:
    """The parameters of CP before its user data.

    Arguments:
        contexts: (number, abstract syntax) to propose, each with BER.
    """
    header = b"" if calling is None else tlv(0x81, calling)
    if called is not None:
        header += tlv(0x82, called)
    return header + tlv(0xA4, _entries(contexts))


def encode_connect(header: bytes, context: int, apdu: bytes) -> bytes:
    """CP with ``header`` from ``connect_header`` and one APDU in ``context``."""
    return tlv(0x31, _NORMAL_MODE + tlv(0xA2, header + user_data(context, apdu)))


def _results(results: tuple[int, ...]) -> bytes:
    return tlv(0xA5, b"".join(map(_result, results)))


def _result(result: int) -> bytes:
    if result == ACCEPTANCE:
        return _ACCEPTED
    return tlv(0x30, tlv(0x80, bytes((result,))) + tlv(0x82, bytes((ABSTRACT_SYNTAX_NOT_SUPPORTED,))))


def encode_accept(responding: bytes | None, results: tuple[int, ...], context: int, apdu: bytes) -> bytes:
    """CPA with one APDU in ``context``; ``results`` per proposed context (ACCEPTANCE or a rejection)."""
    selector = b"" if responding is None else tlv(0x83, responding)
    return tlv(0x31, _NORMAL_MODE + tlv(0xA2, selector + _results(results) + user_data(context, apdu)))


def encode_refuse(
    responding: bytes | None,
    results: tuple[int, ...],
    apdu: tuple[int, bytes] | None = None,
    provider_reason: int | None = None,
) -> bytes:
    """CPR: refused by the user with (context, APDU), or by the provider with a reason."""
    body = b"" if responding is None else tlv(0x83, responding)
    if results:
        body += _results(results)
    if provider_reason is not None:
        body += tlv(0x8A, bytes((provider_reason,)))
    if apdu is not None:
        body += user_data(*apdu)
    return tlv(0x30, body)


def encode_abort(context: int, apdu: bytes) -> bytes:
    """ARU with one APDU in ``context``."""
    return tlv(0xA0, user_data(context, apdu))


def encode_provider_abort(reason: int | None = None) -> bytes:
    """ARP with a provider-reason, or none."""
    return tlv(0x30, b"" if reason is None else tlv(0x80, bytes((reason,))))


# --- what nearly every peer sends, read without a parser ------------------------------------------------------------

_USUAL: Final = (
    (profile.CONTEXT_ACSE, profile.OID_ACSE_AS),
    (profile.CONTEXT_MMS, profile.OID_MMS_AS),
    (profile.CONTEXT_E2E, profile.OID_E2E_SECURITY_AS),
)
_USUAL_CONTEXTS: Final = {
    _entries(_USUAL[:count]): tuple(Context(number, syntax, True) for number, syntax in _USUAL[:count])
    for count in (2, 3)
}
_USUAL_RESULTS: Final = {_ACCEPTED * count: (ACCEPTANCE,) * count for count in (2, 3)}
