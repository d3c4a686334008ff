"""Association control (X.227): AARQ, AARE, RLRQ, RLRE, ABRT with the authentication functional unit.

Parsing keeps what it is given: AP-titles and AE-qualifiers in forms other than OBJECT IDENTIFIER and INTEGER come out
as raw TLVs, fields nobody here acts on are skipped (the types are extensible), no field may come twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from fastsec import profile
from fastsec._core.cursor import Reader, encode_oid, tlv
from fastsec.envs.osi.names import AeTitle
from fastsec.envs.osi.presentation import decode_value
from fastsec.errors import DecodeError

TAG_AARQ: Final = 0x60
TAG_AARE: Final = 0x61
TAG_RLRQ: Final = 0x62
TAG_RLRE: Final = 0x63
TAG_ABRT: Final = 0x64

ACCEPTED: Final = 0
REJECTED_PERMANENT: Final = 1
REJECTED_TRANSIENT: Final = 2

SOURCE_USER: Final = 1
SOURCE_PROVIDER: Final = 2

# Diagnostics of acse-service-user
NULL: Final = 0
NO_REASON: Final = 1
CONTEXT_NOT_SUPPORTED: Final = 2
CALLING_AP_TITLE: Final = 3
CALLING_AE_QUALIFIER: Final = 5
CALLED_AP_TITLE: Final = 7
CALLED_AE_QUALIFIER: Final = 9
MECHANISM_NOT_RECOGNIZED: Final = 11
MECHANISM_REQUIRED: Final = 12
AUTHENTICATION_FAILURE: Final = 13
AUTHENTICATION_REQUIRED: Final = 14
# Diagnostic of acse-service-provider
NO_COMMON_VERSION: Final = 2

_USER_TEXTS: Final = {
    0: "null",
    1: "no reason given",
    2: "application context name not supported",
    3: "calling AP-title not recognized",
    4: "calling AP-invocation-identifier not recognized",
    5: "calling AE-qualifier not recognized",
    6: "calling AE-invocation-identifier not recognized",
    7: "called AP-title not recognized",
    8: "called AP-invocation-identifier not recognized",
    9: "called AE-qualifier not recognized",
    10: "called AE-invocation-identifier not recognized",
    11: "authentication mechanism name not recognized",
    12: "authentication mechanism name required",
    13: "authentication failure",
    14: "authentication required",
}
_PROVIDER_TEXTS: Final = {0: "null", 1: "no reason given", 2: "no common ACSE version"}

ABORT_BY_USER: Final = 0
ABORT_BY_PROVIDER: Final = 1

_AUTHENTICATION_UNIT: Final = b"\x02\x07\x80"
_PASSWORD_MECHANISM: Final = encode_oid(profile.OID_ACSE_PASSWORD)
_ACCEPT: Final = b"\xa2\x03\x02\x01\x00\xa3\x05\xa1\x03\x02\x01\x00"
_RELEASE_NORMAL: Final = b"\x80\x01\x00"


class External(NamedTuple):
    """An EXTERNAL: direct-reference, indirect-reference (context number), value."""

    direct: str | None
    indirect: int | None
    value: bytes


class Authentication(NamedTuple):
    """What the authentication functional unit carries: its requirements bits, mechanism-name, and the TLV of the
    authentication-value; each None when absent."""

    requirements: int | None
    mechanism: str | None
    value: bytes | None

    @property
    def password(self) -> bytes | None:
        """The octets of a charstring [0]; None for other forms."""
        if self.value is None:
            return None
        reader = Reader(self.value, indefinite=True, step="authentication-value")
        return reader.octets(0x80) if reader.peek() == 0x80 else None

    def __repr__(self) -> str:
        return f"Authentication(requirements={self.requirements}, mechanism={self.mechanism!r})"


@dataclass(frozen=True, slots=True)
class Aarq:
    """An AARQ."""

    context_name: str
    called: AeTitle
    calling: AeTitle
    authentication: Authentication
    user_information: tuple[External, ...] | None
    version_1: bool


@dataclass(frozen=True, slots=True)
class Aare:
    """An AARE; ``source`` is SOURCE_USER or SOURCE_PROVIDER of the diagnostic."""

    context_name: str
    result: int
    source: int
    diagnostic: int
    responding: AeTitle
    authentication: Authentication
    user_information: tuple[External, ...] | None


@dataclass(frozen=True, slots=True)
class Release:
    """An RLRQ or RLRE, by ``tag``."""

    tag: int
    reason: int | None
    user_information: tuple[External, ...] | None


@dataclass(frozen=True, slots=True)
class Abort:
    """An ABRT; ``source`` is ABORT_BY_USER or ABORT_BY_PROVIDER."""

    source: int
    diagnostic: int | None
    user_information: tuple[External, ...] | None


Apdu = Aarq | Aare | Release | Abort


def diagnostic_text(source: int, diagnostic: int) -> str:
    """An AARE's diagnostic in words."""
    texts = _PROVIDER_TEXTS if source == SOURCE_PROVIDER else _USER_TEXTS
    return texts.get(diagnostic, f"diagnostic {diagnostic}")


# --- reading --------------------------------------------------------------------------------------------------------


def decode(data: bytes) -> Apdu:
    """Parse one ACSE APDU.

    Errors:
        DecodeError: malformed, a field twice, or a mandatory field missing (X.227 9).
    """
    outer = Reader(data, indefinite=True, step="ACSE")
    tag = outer.next()
    name = _NAMES.get(tag)
    if name is None:
        raise DecodeError(f"ACSE APDU with tag {tag:02X}", step="ACSE")
    reader = outer.enter(indefinite=True, step=name)
    outer.finish()
    if tag == TAG_AARQ:
        return _decode_aarq(reader)
    if tag == TAG_AARE:
        return _decode_aare(reader)
    return _decode_short(reader, tag)


_NAMES: Final = {TAG_AARQ: "AARQ", TAG_AARE: "AARE", TAG_RLRQ: "RLRQ", TAG_RLRE: "RLRE", TAG_ABRT: "ABRT"}


class _Fields:
    """The fields of an AARQ or AARE while they are read. The tags of the titles differ by a constant."""

    __slots__ = ("authentication_value", "context_name", "mechanism", "requirements", "user_information", "version_1")

    def __init__(self) -> None:
        self.version_1 = True
        self.context_name: str | None = None
        self.requirements: int | None = None
        self.mechanism: str | None = None
        self.authentication_value: bytes | None = None
        self.user_information: tuple[External, ...] | None = None

    def common(self, reader: Reader, tag: int, requirements: int) -> None:
        """Read a field that AARQ and AARE share but for its number; ``requirements`` is the tag of the requirements,
        which the mechanism-name and the authentication-value follow."""
        if tag == 0xA1:
            reader.next()
            inner = reader.enter(indefinite=True)
            self.context_name = inner.oid()
            inner.finish()
        elif tag == 0x80:
            self.version_1 = bool(reader.named_bits(0x80) & 1)
        elif tag == 0xBE:
            reader.next()
            self.user_information = _decode_information(reader.enter(indefinite=True))
        elif tag == requirements:
            self.requirements = reader.named_bits(tag)
        elif tag == requirements + 1:
            self.mechanism = reader.oid(tag)
        elif tag == (requirements | 0x20) + 2:
            reader.next()
            inner = reader.enter(indefinite=True)
            inner.next()
            self.authentication_value = inner.raw()
            inner.finish()
        else:
            reader.next()

    def authentication(self) -> Authentication:
        return Authentication(self.requirements, self.mechanism, self.authentication_value)


def _decode_aarq(reader: Reader) -> Aarq:
    fields = _Fields()
    titles: list[str | bytes | int | None] = [None] * 8
    seen = 0
    while True:
        tag = reader.peek()
        if tag == -1:
            break
        seen = _once(seen, tag, reader)
        if 0xA2 <= tag <= 0xA9:
            titles[tag - 0xA2] = _decode_title(reader, (tag - 0xA2) & 3)
        else:
            fields.common(reader, tag, 0x8A)
    if fields.context_name is None:
        raise DecodeError("application-context-name missing", step="AARQ")
    return Aarq(
        fields.context_name,
        AeTitle(*titles[:4]),  # type: ignore[arg-type]  # _decode_title gives each position its type
        AeTitle(*titles[4:]),  # type: ignore[arg-type]
        fields.authentication(),
        fields.user_information,
        fields.version_1,
    )


def _decode_aare(reader: Reader) -> Aare:
    fields = _Fields()
    titles: list[str | bytes | int | None] = [None] * 4
    result: int | None = None
    source: int | None = None
    diagnostic = 0
    seen = 0
    while True:
        tag = reader.peek()
        if tag == -1:
            break
        seen = _once(seen, tag, reader)
        if tag == 0xA2:
            reader.next()
            inner = reader.enter(indefinite=True)
            result = inner.integer()
            inner.finish()
        elif tag == 0xA3:
            reader.next()
            inner = reader.enter(indefinite=True)
            source = inner.next() - 0xA0
            if source not in (SOURCE_USER, SOURCE_PROVIDER):
                raise DecodeError("result-source-diagnostic of neither user nor provider", step="AARE")
            choice = inner.enter(indefinite=True)
            diagnostic = choice.integer()
            choice.finish()
            inner.finish()
        elif 0xA4 <= tag <= 0xA7:
            titles[tag - 0xA4] = _decode_title(reader, tag - 0xA4)
        else:
            fields.common(reader, tag, 0x88)
    if fields.context_name is None or result is None or source is None:
        raise DecodeError("application-context-name, result or diagnostic missing", step="AARE")
    if result not in (ACCEPTED, REJECTED_PERMANENT, REJECTED_TRANSIENT):
        raise DecodeError(f"result {result} unknown", step="AARE")
    return Aare(
        fields.context_name,
        result,
        source,
        diagnostic,
        AeTitle(*titles),  # type: ignore[arg-type]
        fields.authentication(),
        fields.user_information,
    )


def _decode_short(reader: Reader, tag: int) -> Release | Abort:
    first: int | None = None
    second: int | None = None
    information: tuple[External, ...] | None = None
    seen = 0
    while True:
        field = reader.peek()
        if field == -1:
            break
        seen = _once(seen, field, reader)
        if field == 0x80:
            first = reader.integer(0x80)
        elif field == 0x81 and tag == TAG_ABRT:
            second = reader.integer(0x81)
        elif field == 0xBE:
            reader.next()
            information = _decode_information(reader.enter(indefinite=True))
        else:
            reader.next()
    if tag != TAG_ABRT:
        return Release(tag, first, information)
    if first is None:
        raise DecodeError("abort-source missing", step="ABRT")
    return Abort(first, second, information)


def _once(seen: int, tag: int, reader: Reader) -> int:
    bit = 1 << (tag & 0x1F)
    if seen & bit:
        raise DecodeError(f"field {tag:02X} twice", step=reader.step)
    return seen | bit


def _decode_title(reader: Reader, position: int) -> str | bytes | int:
    """Position 0 AP-title, 1 AE-qualifier, 2 and 3 invocation identifiers."""
    reader.next()
    inner = reader.enter(indefinite=True)
    tag = inner.peek()
    value: str | bytes | int
    if position == 0 and tag == 0x06:
        value = inner.oid()
    elif position and (tag == 0x02 or position > 1):
        value = inner.integer()
    else:
        inner.next()
        value = inner.raw()
    inner.finish()
    return value


def _decode_information(reader: Reader) -> tuple[External, ...]:
    found: list[External] = []
    while reader.more():
        if found:
            raise DecodeError("user-information of more than one EXTERNAL", step=reader.step)
        reader.expect(0x28)
        entry = reader.enter(indefinite=True)
        direct = entry.oid() if entry.peek() == 0x06 else None
        indirect = entry.integer() if entry.peek() == 0x02 else None
        entry.optional(0x07)
        found.append(External(direct, indirect, decode_value(entry)))
        entry.finish()
    return tuple(found)


# --- writing --------------------------------------------------------------------------------------------------------


def _information(context: int, value: bytes) -> bytes:
    return tlv(0xBE, tlv(0x28, tlv(0x02, bytes((context,))) + tlv(0xA0, value)))


def _integer(value: int) -> bytes:
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _title(address: AeTitle, tag: int) -> bytes:
    """AP-title, AE-qualifier and invocation identifiers under ``tag`` .. ``tag`` + 3."""
    out = b""
    if address.ap_title is not None:
        ap_title = address.ap_title
        out += tlv(tag, tlv(0x06, encode_oid(ap_title)) if isinstance(ap_title, str) else ap_title)
    if address.ae_qualifier is not None:
        ae_qualifier = address.ae_qualifier
        out += tlv(tag + 1, _integer(ae_qualifier) if isinstance(ae_qualifier, int) else ae_qualifier)
    if address.ap_invocation_id is not None:
        out += tlv(tag + 2, _integer(address.ap_invocation_id))
    if address.ae_invocation_id is not None:
        out += tlv(tag + 3, _integer(address.ae_invocation_id))
    return out


def aarq_fields(context_name: str, called: AeTitle, calling: AeTitle, password: bytes | None) -> bytes:
    """The fields of an AARQ before its user-information, with password authentication where ``password`` is given."""
    fields = tlv(0xA1, tlv(0x06, encode_oid(context_name))) + _title(called, 0xA2) + _title(calling, 0xA6)
    if password is not None:
        fields += tlv(0x8A, _AUTHENTICATION_UNIT) + tlv(0x8B, _PASSWORD_MECHANISM) + tlv(0xAC, tlv(0x80, password))
    return fields


def encode_aarq(fields: bytes, context: int, value: bytes) -> bytes:
    """AARQ with ``fields`` from ``aarq_fields`` and ``value`` (one TLV) in presentation context ``context``."""
    return tlv(TAG_AARQ, fields + _information(context, value))


def encode_aare(
    context_name: str,
    responding: AeTitle,
    outcome: tuple[int, int, int],
    information: tuple[int, bytes] | None,
    *,
    authenticated: bool = False,
) -> bytes:
    """AARE.

    Arguments:
        outcome: result, source and diagnostic.
        information: (presentation context, one TLV), or None.
        authenticated: a password was asked for and checked; the responder says it agrees to the functional unit.
    """
    fields = tlv(0xA1, tlv(0x06, encode_oid(context_name)))
    result, source, diagnostic = outcome
    if result == ACCEPTED:
        fields += _ACCEPT
    else:
        fields += tlv(0xA2, tlv(0x02, bytes((result,)))) + tlv(0xA3, tlv(0xA0 + source, _integer(diagnostic)))
    fields += _title(responding, 0xA4)
    if authenticated:
        fields += tlv(0x88, _AUTHENTICATION_UNIT) + tlv(0x89, _PASSWORD_MECHANISM)
    if information is not None:
        fields += _information(*information)
    return tlv(TAG_AARE, fields)


def encode_release(tag: int, information: tuple[int, bytes] | None) -> bytes:
    """RLRQ or RLRE with reason normal."""
    return tlv(tag, _RELEASE_NORMAL + (b"" if information is None else _information(*information)))


def encode_abort(source: int, information: tuple[int, bytes] | None) -> bytes:
    """ABRT without a diagnostic."""
    return tlv(TAG_ABRT, tlv(0x80, bytes((source,))) + (b"" if information is None else _information(*information)))
