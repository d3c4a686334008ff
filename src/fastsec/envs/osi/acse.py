"""Association control (X.227): AARQ, AARE, RLRQ, RLRE, ABRT with the authentication functional unit.

Parsing keeps what it is given: AP-titles and AE-qualifiers in forms other than OBJECT IDENTIFIER and INTEGER come out
as raw TLVs, fields nobody here acts on are skipped (the types are extensible), no field may come twice.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, NamedTuple

from fastsec import limits, profile
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

OUTCOME_ACCEPTED: Final = (ACCEPTED, SOURCE_USER, NULL)

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

_AUTHENTICATION_UNIT: Final = b"\x07\x80"
_PASSWORD_MECHANISM: Final = encode_oid(profile.OID_ACSE_PASSWORD)
_CERTIFICATE_MECHANISM: Final = encode_oid(profile.OID_MMS_AUTHENTICATION)
_RELEASE_NORMAL: Final = b"\x80\x01\x00"


Carrier = Literal["external", "other"]


class External(NamedTuple):
    """An EXTERNAL: direct-reference, indirect-reference (context number), value."""

    direct: str | None
    indirect: int | None
    value: bytes


class Proof(NamedTuple):
    """An authentication-value that carries an MMS-Authentication-value.

    Attributes:
        value: the MMS-Authentication-value, one TLV.
        carrier: alternative of the CHOICE: ``external`` or ``other``.
        reference: ``external``: its indirect-reference, or None.
        mechanism: ``other``: the mechanism it names; ``external``: its direct-reference; dotted, or None.
    """

    value: bytes
    carrier: Carrier = "external"
    reference: int | None = None
    mechanism: str | None = None


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

    @property
    def proof(self) -> Proof | None:
        """The alternatives external [2] and other [3]; None for others. DecodeError if malformed."""
        if self.value is None:
            return None
        outer = Reader(self.value, indefinite=True, step="authentication-value")
        tag = outer.next()
        if tag not in (0xA2, 0xA3):
            return None
        reader = outer.enter(indefinite=True)
        outer.finish()
        if tag == 0xA3:
            mechanism = reader.oid()
            reader.next()
            value = reader.raw()
            reader.finish()
            return Proof(value, "other", None, mechanism)
        if reader.peek() == 0x28:  # tagged explicitly, which X.227 does not mean
            reader.next()
            wrapped = reader.enter(indefinite=True)
            reader.finish()
            reader = wrapped
        external = _decode_external(reader)
        return Proof(external.value, "external", external.indirect, external.direct)

    def __repr__(self) -> str:
        return f"Authentication(requirements={self.requirements}, mechanism={self.mechanism!r})"


class Aarq(NamedTuple):
    """An AARQ."""

    context_name: str
    called: AeTitle
    calling: AeTitle
    authentication: Authentication
    user_information: tuple[External, ...] | None
    version_1: bool


class Aare(NamedTuple):
    """An AARE; ``source`` is SOURCE_USER or SOURCE_PROVIDER of the diagnostic."""

    context_name: str
    result: int
    source: int
    diagnostic: int
    responding: AeTitle
    authentication: Authentication
    user_information: tuple[External, ...] | None


class Release(NamedTuple):
    """An RLRQ or RLRE, by ``tag``."""

    tag: int
    reason: int | None
    user_information: tuple[External, ...] | None


class Abort(NamedTuple):
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
    if tag not in (TAG_AARQ, TAG_AARE):
        return _decode_short(reader, tag)
    # A peer sends the same fields each time, so what was read is remembered; but not where a password may be among it.
    octets, carries = reader.set_aside(0xBE)
    information = _decode_information(reader.enter(indefinite=True)) if carries else None
    usual = len(octets) <= limits.OUR_PARSED_ADDRESS_OCTETS and b"\xac" not in octets and b"\xaa" not in octets
    apdu = (_remember if usual else _decode_associate)(tag, octets)
    return apdu if information is None else apdu._replace(user_information=information)


def _decode_associate(tag: int, octets: bytes) -> Aarq | Aare:
    """An AARQ or AARE but for its user-information."""
    reader = Reader(octets, indefinite=True, step=_NAMES[tag])
    return _decode_aarq(reader) if tag == TAG_AARQ else _decode_aare(reader)


_remember: Final = lru_cache(limits.OUR_PARSED_ADDRESSES)(_decode_associate)


_NAMES: Final = {TAG_AARQ: "AARQ", TAG_AARE: "AARE", TAG_RLRQ: "RLRQ", TAG_RLRE: "RLRE", TAG_ABRT: "ABRT"}


def _decode_aarq(reader: Reader) -> Aarq:
    titles: list[str | bytes | int | None] = [None] * 8
    name, version_1, authentication = _decode_fields(reader, 0xA2, titles, 0x8A, None)
    return Aarq(
        name,
        AeTitle(*titles[:4]),  # type: ignore[arg-type]  # _decode_title gives each position its type
        AeTitle(*titles[4:]),  # type: ignore[arg-type]
        authentication,
        None,
        version_1,
    )


def _decode_aare(reader: Reader) -> Aare:
    titles: list[str | bytes | int | None] = [None] * 4
    outcome: list[int] = []
    name, _, authentication = _decode_fields(reader, 0xA4, titles, 0x88, outcome)
    if len(outcome) != 3:
        raise DecodeError("result or diagnostic missing", step="AARE")
    result, source, diagnostic = outcome
    if result not in (ACCEPTED, REJECTED_PERMANENT, REJECTED_TRANSIENT):
        raise DecodeError(f"result {result} unknown", step="AARE")
    return Aare(
        name,
        result,
        source,
        diagnostic,
        AeTitle(*titles),  # type: ignore[arg-type]
        authentication,
        None,
    )


def _decode_fields(
    reader: Reader,
    title_tag: int,
    titles: list[str | bytes | int | None],
    requirements_tag: int,
    outcome: list[int] | None,
) -> tuple[str, bool, Authentication]:
    """Read the fields of an AARQ or AARE, which differ in their numbers only.

    Arguments:
        title_tag: tag of the first title; the others follow it.
        titles: filled, in groups of AP-title, AE-qualifier and two invocation identifiers.
        requirements_tag: tag of the requirements; mechanism-name and authentication-value follow it.
        outcome: filled with result, source and diagnostic of an AARE; None for an AARQ.
    """
    name: str | None = None
    version_1 = True
    requirements: int | None = None
    mechanism: str | None = None
    value: bytes | None = None
    seen = 0
    last_title = title_tag + len(titles)
    while (tag := reader.peek()) != -1:
        seen = _once(seen, tag, reader)
        if title_tag <= tag < last_title:
            position = tag - title_tag
            titles[position] = _decode_title(reader, position & 3)
        elif tag == 0xA1:
            reader.next()
            inner = reader.enter(indefinite=True)
            name = inner.oid()
            inner.finish()
        elif tag == 0xBE:
            raise DecodeError("field BE twice", step=reader.step)
        elif outcome is not None and tag in (0xA2, 0xA3):
            reader.next()
            _decode_outcome(reader.enter(indefinite=True), tag, outcome)
        elif tag == requirements_tag:
            requirements = reader.named_bits(tag)
        elif tag == requirements_tag + 1:
            mechanism = reader.oid(tag)
        elif tag == (requirements_tag | 0x20) + 2:
            reader.next()
            inner = reader.enter(indefinite=True)
            inner.next()
            value = inner.raw()
            inner.finish()
        elif tag == 0x80:
            version_1 = bool(reader.named_bits(0x80) & 1)
        else:
            reader.next()
    if name is None:
        raise DecodeError("application-context-name missing", step=reader.step)
    return name, version_1, Authentication(requirements, mechanism, value)


def _decode_outcome(inner: Reader, tag: int, outcome: list[int]) -> None:
    if len(outcome) != tag - 0xA2:
        raise DecodeError("result and diagnostic in the wrong order", step="AARE")
    if tag == 0xA2:
        outcome.append(inner.integer())
    else:
        source = inner.next() - 0xA0
        if source not in (SOURCE_USER, SOURCE_PROVIDER):
            raise DecodeError("result-source-diagnostic of neither user nor provider", step="AARE")
        choice = inner.enter(indefinite=True)
        outcome += (source, choice.integer())
        choice.finish()
    inner.finish()


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
        found.append(_decode_external(reader.enter(indefinite=True)))
    return tuple(found)


def _decode_external(entry: Reader) -> External:
    direct = entry.oid() if entry.peek() == 0x06 else None
    indirect = entry.integer() if entry.peek() == 0x02 else None
    entry.optional(0x07)
    found = External(direct, indirect, decode_value(entry))
    entry.finish()
    return found


# --- writing --------------------------------------------------------------------------------------------------------


def _information(context: int, value: bytes) -> bytes:
    return tlv(0xBE, tlv(0x28, tlv(0x02, bytes((context,))) + tlv(0xA0, value)))


def _integer(value: int) -> bytes:
    bits = (value if value >= 0 else ~value).bit_length()
    return tlv(0x02, value.to_bytes(bits // 8 + 1, "big", signed=True))


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


def proof_fields(requirements_tag: int, proof: Proof) -> bytes:
    """The fields of certificate-based authentication: requirements, mechanism-name, authentication-value.

    Arguments:
        requirements_tag: 0x8A in an AARQ, 0x88 in an AARE; the others follow it.
        proof: an ``external`` without reference and mechanism names mmsAuthenticationAS as direct-reference.
    """
    if proof.carrier == "other":
        value = tlv(0xA3, tlv(0x06, _CERTIFICATE_MECHANISM) + proof.value)
    else:
        direct = proof.mechanism
        if direct is None and proof.reference is None:
            direct = profile.OID_MMS_AUTHENTICATION_AS
        named = b"" if direct is None else tlv(0x06, encode_oid(direct))
        if proof.reference is not None:
            named += _integer(proof.reference)
        value = tlv(0xA2, named + tlv(0xA0, proof.value))
    return (
        tlv(requirements_tag, _AUTHENTICATION_UNIT)
        + tlv(requirements_tag + 1, _CERTIFICATE_MECHANISM)
        + tlv((requirements_tag | 0x20) + 2, value)
    )


def encode_aarq(fields: bytes, context: int, value: bytes) -> bytes:
    """AARQ with ``fields`` from ``aarq_fields`` and ``value`` (one TLV) in presentation context ``context``."""
    return tlv(TAG_AARQ, fields + _information(context, value))


def aare_fields(
    context_name: str, responding: AeTitle, outcome: tuple[int, int, int], *, authenticated: bool = False
) -> bytes:
    """The fields of an AARE before its user-information.

    Arguments:
        outcome: result, source and diagnostic.
        authenticated: a password was asked for and checked; the responder says it agrees to the functional unit.
    """
    fields = tlv(0xA1, tlv(0x06, encode_oid(context_name)))
    result, source, diagnostic = outcome
    fields += tlv(0xA2, tlv(0x02, bytes((result,)))) + tlv(0xA3, tlv(0xA0 + source, _integer(diagnostic)))
    fields += _title(responding, 0xA4)
    if authenticated:
        fields += tlv(0x88, _AUTHENTICATION_UNIT) + tlv(0x89, _PASSWORD_MECHANISM)
    return fields


def encode_aare(fields: bytes, information: tuple[int, bytes] | None) -> bytes:
    """AARE with ``fields`` from ``aare_fields`` and (presentation context, one TLV) or no user-information."""
    return tlv(TAG_AARE, fields if information is None else fields + _information(*information))


def encode_release(tag: int, information: tuple[int, bytes] | None) -> bytes:
    """RLRQ or RLRE with reason normal."""
    return tlv(tag, _RELEASE_NORMAL + (b"" if information is None else _information(*information)))


def encode_abort(source: int, information: tuple[int, bytes] | None) -> bytes:
    """ABRT without a diagnostic."""
    return tlv(TAG_ABRT, tlv(0x80, bytes((source,))) + (b"" if information is None else _information(*information)))
