"""One reading and one writing function per component of a SecPDU, chosen by the field table (62351-4 encoding).

What is accepted is BER with definite lengths within the limits; everything else is DecodeError. A caller's value that
would not be accepted is LocalError.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from fastsec import limits, profile
from fastsec._core import components
from fastsec._core.cursor import Reader, Writer, tlv
from fastsec.errors import DecodeError, LocalError
from fastsec.secpdu import fields
from fastsec.secpdu.fields import Field, Kind
from fastsec.secpdu.model import AeaOffer, AlgorithmId, DhPublic, NonAeaOffer, algorithm_id
from fastsec.secpdu.timestamp import check_time, is_time

Read = Callable[[Reader], Any]
Write = Callable[[Writer, Any], None]

_TIME_MAX: Final = 25
_ASSO_ID_MAX: Final = 7
_match_asso_id: Final = re.compile(fields.ASSO_ID_PATTERN).fullmatch


def is_asso_id(text: str) -> bool:
    """Whether ``text`` is an AssoID: ``n`` or ``n:m``, numbers 0 to 999 without leading zeros."""
    return _match_asso_id(text) is not None


# --- AlgorithmIdentifier --------------------------------------------------------------------------------------------


def _constants() -> dict[bytes, AlgorithmId]:
    """Encodings that real peers send, so that reading one is a look-up. Fixed: a peer cannot make it grow."""
    known = [algorithm_id(oid, icv_len) for oid in profile.GMAC_KEY_SIZE for icv_len in profile.ICV_LEN_RANGE]
    for oid in (profile.SHA256_RSA, profile.ECDSA_SHA256, profile.HMAC_SHA256, *profile.CBC_KEY_SIZE):
        known += [AlgorithmId(oid), AlgorithmId(oid, b"\x05\x00")]
    known += [AlgorithmId(oid) for oid in profile.GMAC_KEY_SIZE]
    return {algorithm.der: algorithm for algorithm in known}


_ALGORITHMS: Final = _constants()


def _read_algorithm(reader: Reader) -> AlgorithmId:
    reader.expect(fields.SEQUENCE)
    raw = reader.raw()
    known = _ALGORITHMS.get(raw)
    if known is not None:
        return known
    if len(raw) > limits.OUR_ALGORITHM_ID_MAX:
        raise DecodeError("AlgorithmIdentifier too long")
    inner = reader.enter()
    oid = inner.oid()
    params = None
    if inner.more():
        inner.next()
        params = inner.raw()
    inner.finish()
    return AlgorithmId(oid, params)


def _read_algorithms(tag: int, maximum: int) -> Callable[[Reader], tuple[AlgorithmId, ...]]:
    def read(reader: Reader) -> tuple[AlgorithmId, ...]:
        reader.expect(tag)
        inner = reader.enter()
        found: list[AlgorithmId] = []
        while inner.more():
            if len(found) == maximum:
                raise DecodeError(f"more than {maximum} algorithms")
            found.append(_read_algorithm(inner))
        if not found:
            raise DecodeError("no algorithm")
        if len({algorithm.key for algorithm in found}) != len(found):
            raise DecodeError("the same algorithm twice")
        return tuple(found)

    return read


# --- one reading and one writing function per kind of content -------------------------------------------------------


def _read_asso_id(tag: int) -> Read:
    def read(reader: Reader) -> str:
        text = reader.text(tag, _ASSO_ID_MAX)
        if _match_asso_id(text) is None:
            raise DecodeError("not an association number")
        return text

    return read


def _read_time(tag: int) -> Read:
    def read(reader: Reader) -> str:
        text = reader.text(tag, _TIME_MAX)
        check_time(text)
        return text

    return read


def _read_cert_path(tag: int, maximum: int) -> Read:
    def read(reader: Reader) -> tuple[bytes, ...]:
        reader.expect(tag)
        if reader.stop - reader.start > limits.OUR_CERT_PATH_MAX:
            raise DecodeError("certificates too long in all")
        inner = reader.enter()
        found: list[bytes] = []
        while inner.more():
            if len(found) == maximum:
                raise DecodeError(f"more than {maximum} certificates")
            found.append(inner.octets(0x04, limits.SPEC_CERTIFICATE_MAX))
        return tuple(found)

    return read


def _read_dh_set(tag: int, maximum: int) -> Read:
    group_max, public_max = fields.DH_PUBLIC[0].maximum, fields.DH_PUBLIC[1].maximum
    group_tag, public_tag = fields.DH_PUBLIC[0].tag, fields.DH_PUBLIC[1].tag

    def read(reader: Reader) -> tuple[DhPublic, ...]:
        reader.expect(tag)
        inner = reader.enter()
        found: list[DhPublic] = []
        while inner.more():
            if len(found) == maximum:
                raise DecodeError(f"more than {maximum} groups")
            inner.expect(fields.SEQUENCE)
            value = inner.enter()
            group = value.integer(group_tag)
            if not 0 <= group <= group_max:
                raise DecodeError(f"group outside 0 to {group_max}")
            for other in found:
                if other.group == group:
                    raise DecodeError("the same group twice")
            found.append(DhPublic(group, value.octets(public_tag, public_max)))
            value.finish()
        if not found:
            raise DecodeError("no group")
        return tuple(found)

    return read


_ENCR, _ICV = fields.ENCR_MODE_NON_AEA
_read_aea: Final = _read_algorithms(fields.ENCR_MODE_AEA.tag, fields.ENCR_MODE_AEA.maximum)
_read_encr: Final = _read_algorithms(_ENCR.tag, _ENCR.maximum)
_read_icv: Final = _read_algorithms(_ICV.tag, _ICV.maximum)


def _read_encr_mode(reader: Reader) -> AeaOffer | NonAeaOffer:
    if reader.peek() == fields.ENCR_MODE_AEA.tag:
        return AeaOffer(_read_aea(reader))
    reader.expect(fields.ENCR_MODE_NON_AEA_TAG)
    inner = reader.enter()
    encr = _read_encr(inner) if inner.peek() == _ENCR.tag else None
    icv = _read_icv(inner)
    inner.finish()
    return NonAeaOffer(encr, icv)


def reader_of(field: Field) -> Read:
    """The function that reads this component where the compiled loop does not; its next TLV must be it. DecodeError if
    it is not."""
    tag, maximum = field.tag, field.maximum
    limit = maximum or -1
    match field.kind:
        case Kind.ALGORITHM:
            return _read_algorithm
        case Kind.ASSO_ID:
            return _read_asso_id(tag)
        case Kind.CERT_PATH:
            return _read_cert_path(tag, maximum)
        case Kind.DH_SET:
            return _read_dh_set(tag, maximum)
        case Kind.ENCR_MODE:
            return _read_encr_mode
        case Kind.TIME:
            return _read_time(tag)
        case Kind.UTF8:
            return lambda reader: reader.utf8(tag, limit)
        case _:
            raise TypeError(f"{field.name}: {field.kind.value} is not read here")


def _write_algorithm(writer: Writer, value: AlgorithmId) -> None:
    writer.raw(value.der)


def _write_algorithms(field: Field, writer: Writer, value: tuple[AlgorithmId, ...]) -> None:
    if not 1 <= len(value) <= field.maximum or len(set(value)) != len(value):
        raise LocalError(f"{field.name}: 1 to {field.maximum} different algorithms")
    encoded = [algorithm.der for algorithm in value]
    if field.kind is Kind.ALGORITHM_SET:
        encoded.sort()
    writer.begin(field.tag)
    writer.raw(b"".join(encoded))
    writer.end()


def _write_encr_mode(writer: Writer, value: AeaOffer | NonAeaOffer) -> None:
    if isinstance(value, AeaOffer):
        _write_algorithms(fields.ENCR_MODE_AEA, writer, value.algorithms)
        return
    writer.begin(fields.ENCR_MODE_NON_AEA_TAG)
    if value.encr is not None:
        _write_algorithms(_ENCR, writer, value.encr)
    _write_algorithms(_ICV, writer, value.icv)
    writer.end()


def _write_cert_path(field: Field) -> Write:
    def write(writer: Writer, value: tuple[bytes, ...]) -> None:
        encoded = b"".join([tlv(0x04, certificate) for certificate in value])
        if (
            len(value) > field.maximum
            or len(encoded) > limits.OUR_CERT_PATH_MAX
            or max(map(len, value)) > limits.SPEC_CERTIFICATE_MAX
        ):
            raise LocalError(f"{field.name}: too many or too long certificates")
        writer.primitive(field.tag, encoded)

    return write


def _write_dh_set(field: Field) -> Write:
    write_group, write_public = _write_integer(fields.DH_PUBLIC[0]), _write_octets(fields.DH_PUBLIC[1])

    def write(writer: Writer, value: tuple[DhPublic, ...]) -> None:
        if not 1 <= len(value) <= field.maximum or len({key.group for key in value}) != len(value):
            raise LocalError(f"{field.name}: 1 to {field.maximum} different groups")
        writer.begin(field.tag)
        for key in value:
            writer.begin(fields.SEQUENCE)
            write_group(writer, key.group)
            write_public(writer, key.public)
            writer.end()
        writer.end()

    return write


def _write_octets(field: Field) -> Write:
    tag, maximum = field.tag, field.maximum

    def write(writer: Writer, value: bytes) -> None:
        if maximum and len(value) > maximum:
            raise LocalError(f"{field.name}: at most {maximum} octets")
        writer.octets(value, tag)

    return write


def _write_text(field: Field) -> Write:
    tag, maximum = field.tag, field.maximum
    check = {Kind.ASSO_ID: is_asso_id, Kind.TIME: is_time}.get(field.kind)

    def write(writer: Writer, value: str) -> None:
        if check is not None and not check(value):
            raise LocalError(f"{field.name}: not {field.kind.value}")
        encoded = value.encode("utf-8")
        if maximum and len(encoded) > maximum:
            raise LocalError(f"{field.name}: at most {maximum} octets")
        writer.primitive(tag, encoded)

    return write


def _write_integer(field: Field) -> Write:
    tag, maximum = field.tag, field.maximum

    def write(writer: Writer, value: int) -> None:
        if not 0 <= value <= maximum:
            raise LocalError(f"{field.name}: 0 to {maximum}")
        writer.integer(value, tag)

    return write


def writer_of(field: Field) -> Write:
    """The function that writes this component. LocalError if the value is over a limit."""
    tag = field.tag
    match field.kind:
        case Kind.ALGORITHM:
            return _write_algorithm
        case Kind.ASSO_ID | Kind.TIME | Kind.UTF8:
            return _write_text(field)
        case Kind.CERT_PATH:
            return _write_cert_path(field)
        case Kind.DH_SET:
            return _write_dh_set(field)
        case Kind.ENCR_MODE:
            return _write_encr_mode
        case Kind.INTEGER:
            return _write_integer(field)
        case Kind.NAMED_BITS:
            return lambda writer, value: writer.named_bits(value, tag)
        case Kind.OCTETS:
            return _write_octets(field)
        case _:
            raise TypeError(f"{field.name}: {field.kind.value} is not written here")


# --- tokens and Signature -------------------------------------------------------------------------------------------

_HOW: Final = {
    Kind.ALGORITHM: components.ALGORITHM,
    Kind.ASSO_ID: components.ASSO_ID,
    Kind.INTEGER: components.INTEGER,
    Kind.NAMED_BITS: components.NAMED_BITS,
    Kind.OCTETS: components.OCTETS,
    Kind.TIME: components.TIME,
}


_READ_COMPILED: Final = {Kind.INTEGER, Kind.NAMED_BITS, Kind.OCTETS}  # whole; of the other kinds what is usual


def components_of(table: tuple[Field, ...]) -> components.Components:
    """What reads and writes the components of one table; the loops over it are compiled."""
    rows = tuple(
        (
            f.name,
            f.attribute,
            f.tag,
            f.optional,
            _HOW.get(f.kind, components.OTHER),
            f.maximum,
            () if f.kind is Kind.CERT_PATH else None,
            None if f.kind in _READ_COMPILED else reader_of(f),
            writer_of(f),
        )
        for f in table
    )
    return components.Components(rows, _ALGORITHMS)
