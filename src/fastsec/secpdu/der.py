"""DER and BER codec of the SecPDUs (62351-4 SecPDUs and encoding), built from the field table.

What is emitted is DER (GeneralizedTime keeps its trailing zeros, a named deviation). What is accepted is BER with
definite lengths; tbs also in the indefinite form. Signatures are checked over the octets received: ``Handshake.tbs``
and ``Control.tbs`` are slices of the input, never a re-encoding. Transfers are decoded in ``fastsec._core.guard``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from fastsec import limits, profile
from fastsec._core.cursor import Reader, Writer
from fastsec.errors import DecodeError, LocalError
from fastsec.secpdu import fields
from fastsec.secpdu.fields import Body, Carrier, Field, Kind, SecPduKind, Token
from fastsec.secpdu.model import (
    AeaOffer,
    AlgorithmId,
    ClearToken1,
    ClearToken3,
    Control,
    DhPublic,
    Handshake,
    NonAeaOffer,
    algorithm_id,
)
from fastsec.secpdu.timestamp import check_time, time_key, time_text, time_utc_ms

__all__ = [
    "assemble",
    "decode",
    "decode_client_number",
    "encode_control_tbs",
    "encode_handshake_tbs",
    "is_osi_diagnostics",
    "kind_of",
    "time_key",
    "time_text",
    "time_utc_ms",
    "unwrap_appl_data",
    "wrap_appl_data",
]

Read = Callable[[Reader], Any]
Write = Callable[[Writer, Any], None]

_TIME_MAX: Final = 25
_ASSO_ID_MAX: Final = 7
_asso_id: Final = re.compile(fields.ASSO_ID_PATTERN).fullmatch
_MMS: Final = frozenset({profile.PP_MMS_OSI, profile.PP_MMS_XMPP})


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
            algorithm = _read_algorithm(inner)
            if algorithm in found:
                raise DecodeError("the same algorithm twice")
            found.append(algorithm)
        if not found:
            raise DecodeError("no algorithm")
        return tuple(found)

    return read


# --- one reading and one writing function per kind of content -------------------------------------------------------


def _read_asso_id(tag: int) -> Read:
    def read(reader: Reader) -> str:
        text = reader.text(tag, _ASSO_ID_MAX)
        if _asso_id(text) is None:
            raise DecodeError("not an association number")
        return text

    return read


def _read_time(tag: int) -> Read:
    def read(reader: Reader) -> str:
        text = reader.text(tag, _TIME_MAX)
        check_time(text)
        return text

    return read


def _read_integer(tag: int, maximum: int) -> Read:
    def read(reader: Reader) -> int:
        value = reader.integer(tag)
        if not 0 <= value <= maximum:
            raise DecodeError(f"number outside 0 to {maximum}")
        return value

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


def _reader_of(field: Field) -> Read:
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
        case Kind.INTEGER:
            return _read_integer(tag, maximum)
        case Kind.NAMED_BITS:
            return lambda reader: reader.named_bits(tag)
        case Kind.OCTETS:
            return lambda reader: reader.octets(tag, limit)
        case Kind.TIME:
            return _read_time(tag)
        case Kind.UTF8:
            return lambda reader: reader.utf8(tag, limit)
        case _:
            raise NotImplementedError(field.kind)


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
        if len(value) > field.maximum:
            raise LocalError(f"{field.name}: at most {field.maximum} certificates")
        writer.begin(field.tag)
        for certificate in value:
            writer.octets(certificate)
        writer.end()

    return write


def _write_dh_set(field: Field) -> Write:
    group_tag, public_tag = fields.DH_PUBLIC[0].tag, fields.DH_PUBLIC[1].tag

    def write(writer: Writer, value: tuple[DhPublic, ...]) -> None:
        if not 1 <= len(value) <= field.maximum or len({key.group for key in value}) != len(value):
            raise LocalError(f"{field.name}: 1 to {field.maximum} different groups")
        writer.begin(field.tag)
        for key in value:
            writer.begin(fields.SEQUENCE)
            writer.integer(key.group, group_tag)
            writer.octets(key.public, public_tag)
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
    """AssoID and TimeStamp: characters that ``_reader_of`` would take back."""
    tag = field.tag

    def write(writer: Writer, value: str) -> None:
        if field.kind is Kind.ASSO_ID and _asso_id(value) is None:
            raise LocalError(f"{field.name}: not an association number")
        writer.utf8(value, tag)

    return write


def _writer_of(field: Field) -> Write:
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
            return lambda writer, value: writer.integer(value, tag)
        case Kind.NAMED_BITS:
            return lambda writer, value: writer.named_bits(value, tag)
        case Kind.OCTETS:
            return _write_octets(field)
        case _:
            raise NotImplementedError(field.kind)


# --- tokens and Signature -------------------------------------------------------------------------------------------

_Plan = tuple[tuple[str, int, bool, Read, Any], ...]


def _reading(table: tuple[Field, ...]) -> _Plan:
    """(name, tag, optional, function, value if absent) per component."""
    return tuple((f.name, f.tag, f.optional, _reader_of(f), () if f.kind is Kind.CERT_PATH else None) for f in table)


def _writing(table: tuple[Field, ...]) -> tuple[tuple[Callable[[Any], Any], Write], ...]:
    return tuple((attrgetter(f.attribute), _writer_of(f)) for f in table)


_TOKEN_1: Final = _reading(fields.CLEAR_TOKEN_1)
_TOKEN_3: Final = _reading(fields.CLEAR_TOKEN_3)
_TOKEN_1_OUT: Final = _writing(fields.CLEAR_TOKEN_1)
_TOKEN_3_OUT: Final = _writing(fields.CLEAR_TOKEN_3)
_SIGNATURE: Final = _reading(fields.SIGNATURE)
_SIGNATURE_OUT: Final = _writing(fields.SIGNATURE)


def _components(reader: Reader, plan: _Plan, path: str) -> list[Any]:
    """The components of the SEQUENCE that ``reader`` walks over; it stays before whatever follows them."""
    values: list[Any] = []
    append = values.append
    try:
        for _, tag, optional, read, absent in plan:
            append(absent if optional and reader.peek() != tag else read(reader))
    except DecodeError as error:
        raise DecodeError(str(error), step=f"{path}.{plan[len(values)][0]}") from None
    return values


def _skip(reader: Reader) -> None:
    """Unknown extensions: well-formed TLVs that nobody reads. The signature covers them."""
    while reader.more():
        reader.next()


# --- applData -------------------------------------------------------------------------------------------------------


def _is_appl_data(first: int, tag: int) -> bool:
    """Whether a TLV is applData: class CONTEXT, or PRIVATE 0."""
    return first & 0xC0 == 0x80 or tag in (fields.APPL_DATA_HANDSHAKE_TAG, fields.APPL_DATA_TRANSFER_TAG)


def _check_appl_data(appl_data: bytes) -> None:
    """LocalError unless the caller's applData is exactly one TLV of class CONTEXT, or PRIVATE 0."""
    reader = Reader(appl_data)
    try:
        tag = reader.next()
        reader.finish()
    except DecodeError:
        raise LocalError("applData must be exactly one TLV of definite length") from None
    if not _is_appl_data(appl_data[0], tag):
        raise LocalError("applData must have class CONTEXT (an MMS PDU) or be wrapped, see wrap_appl_data")


def wrap_appl_data(pp: str, data: bytes) -> bytes:
    """applData of a handshake for a protected protocol other than MMS.

    Arguments:
        pp: its name, at most 64 octets of UTF-8.
        data: its own octets.

    Returns:
        The TLV [PRIVATE 0] SEQUENCE { pp, data }, which brings the name under the signature.
    """
    writer = Writer()
    writer.begin(fields.APPL_DATA_HANDSHAKE_TAG)
    writer.utf8(pp, fields.APPL_DATA_PP.tag)
    writer.octets(data, fields.APPL_DATA_DATA.tag)
    writer.end()
    return writer.getvalue()


def unwrap_appl_data(appl_data: bytes) -> tuple[str, bytes]:
    """The reverse of ``wrap_appl_data``: (pp, data). DecodeError if it is not such a TLV."""
    outer = Reader(appl_data, step="applData")
    outer.expect(fields.APPL_DATA_HANDSHAKE_TAG)
    outer.finish()
    inner = outer.enter()
    pp = inner.utf8(fields.APPL_DATA_PP.tag, fields.APPL_DATA_PP.maximum)
    data = inner.octets(fields.APPL_DATA_DATA.tag)
    inner.finish()
    return pp, data


def _check_handshake_data(pp: str, appl_data: bytes | None) -> None:
    if appl_data is None:
        if pp in _MMS:
            raise DecodeError("MMS needs applData", step="applData")
    elif appl_data[0] >= 0xC0:
        if pp in _MMS:
            raise DecodeError("applData is not an MMS PDU", step="applData")
        if unwrap_appl_data(appl_data)[0] != pp:
            raise DecodeError("applData is of another protocol than pp says", step="applData")


# --- decoding -------------------------------------------------------------------------------------------------------

_KINDS: Final = {(row.carrier, row.tag): row for row in fields.SEC_PDUS if row.carrier is not Carrier.DATA}
_ROWS: Final = {row.kind: row for row in fields.SEC_PDUS}
_NAMES: Final = {kind: kind.standard_name for kind in SecPduKind}


def decode(carrier: Carrier, data: bytes) -> Handshake | Control:
    """Decode a signed SecPDU; nothing is verified.

    Arguments:
        carrier: what brought it; not DATA (transfers are opened by their guard).
        data: exactly one SecPDU; a CHOICE has replaced the outer tag.

    Raises:
        DecodeError: the octets break the syntax or a limit of it; ``step`` names the component.
        LocalError: carrier is DATA.
    """
    if carrier is Carrier.DATA:
        raise LocalError("transfers are opened by their guard")
    outer = Reader(data, step="SecPDU")
    row = _KINDS.get((carrier, outer.next()))
    if row is None:
        raise DecodeError("not a SecPDU of this carrier", step="SecPDU")
    outer.finish()
    kind, _, _, token, body = row
    name = _NAMES[kind]
    inner = Reader(data, outer.start, outer.stop, indefinite=True, step=name)
    pp = ""
    if token is Token.CLEAR_TOKEN_1:
        pp = inner.utf8(fields.PP.tag, fields.PP.maximum)
        inner.step = name
    inner.expect(fields.SEQUENCE)
    tbs = inner.covered()
    signed = Reader(data, inner.start, inner.stop, step=name)
    inner.expect(fields.SEQUENCE)
    if inner.after != inner.stop:
        raise DecodeError("indefinite length not allowed here", step=name + ".sign")
    sign = inner.enter()
    algo, signature = _components(sign, _SIGNATURE, name + ".sign")
    sign.finish()
    inner.finish()

    signed.expect(fields.SEQUENCE)
    fields_of_token = signed.enter()
    plan = _TOKEN_1 if token is Token.CLEAR_TOKEN_1 else _TOKEN_3
    values = _components(fields_of_token, plan, f"{name}.tbs.token{token}")
    _skip(fields_of_token)
    diag: int | None = None
    appl_data: bytes | None = None
    while signed.more():
        tag = signed.next()
        if appl_data is None and diag is None and _is_appl_data(data[signed.first], tag):
            if body is Body.APPL_DATA:
                appl_data = signed.raw()
            elif tag == fields.DIAG.tag:
                diag = _read_diag(Reader(data, signed.first, signed.after, step=name + ".tbs.diag"))
    if token is Token.CLEAR_TOKEN_1:
        _check_handshake_data(pp, appl_data)
        return Handshake(kind, pp, ClearToken1(*values), appl_data, tbs, algo, signature)
    return Control(kind, ClearToken3(*values), diag, appl_data, tbs, algo, signature)


_read_diag: Final = _read_integer(fields.DIAG.tag, fields.DIAG.maximum)


def kind_of(carrier: Carrier, data: bytes) -> SecPduKind:
    """Which SecPDU this is, by its tags alone. DecodeError if none of this carrier.

    Arguments:
        carrier: what brought it.
        data: one SecPDU.
    """
    outer = Reader(data, step="SecPDU")
    tag = outer.next()
    if carrier is not Carrier.DATA:
        row = _KINDS.get((carrier, tag))
        if row is None:
            raise DecodeError("not a SecPDU of this carrier", step="SecPDU")
        return row.kind
    if tag != fields.SEQUENCE:
        raise DecodeError("not a SecPDU of this carrier", step="SecPDU")
    transfer = Reader(data, outer.start, outer.stop, indefinite=True, step="Transfer")
    transfer.expect(fields.SEQUENCE)
    tbp = transfer.enter(indefinite=True, step="Transfer.tbp")
    tbp.expect(fields.SEQUENCE)
    tag = tbp.next()
    if tag == fields.ENCRYPTED_TAG:
        return SecPduKind.ENCR_TRANSFER
    if tag == fields.NULL_APPL_DATA_TAG or _is_appl_data(data[tbp.first], tag):
        return SecPduKind.CLEAR_TRANSFER
    raise DecodeError("applData of a transfer", step="Transfer.tbp.applData")


def is_osi_diagnostics(data: bytes) -> bool:
    """Whether the user-information of an ABRT is OsiDiagnostics, which is opaque, not one of the three aborts."""
    return len(data) > 0 and data[0] in fields.OSI_DIAGNOSTICS_TAGS


def decode_client_number(data: bytes) -> str | None:
    """The client's association number in a HandshakeReq that does not decode, for the reject; None if not to be had.

    Arguments:
        data: what came as HandshakeReq.
    """
    try:
        outer = Reader(data)
        outer.expect(fields.SEQUENCE)
        inner = Reader(data, outer.start, outer.stop, indefinite=True)
        while inner.next() != fields.SEQUENCE:
            pass
        tbs = inner.enter()
        tbs.expect(fields.SEQUENCE)
        token = tbs.enter()
        # assoID is the first UTF8String of ClearToken1; what surrounds it may be faulty.
        while token.next() != 0x0C:
            pass
        text = token.value()
    except DecodeError:
        return None
    if len(text) <= 3 and text.isdigit() and (len(text) == 1 or text[:1] != b"0"):
        return text.decode("ascii")
    return None


# --- encoding -------------------------------------------------------------------------------------------------------


def encode_handshake_tbs(token1: ClearToken1, appl_data: bytes | None) -> bytes:
    """The content octets of tbs of a HandshakeReq or HandshakeAcc: what is signed, and given to ``assemble``.

    Arguments:
        token1: own token.
        appl_data: the protected protocol's TLV (an MMS PDU as it is, others through ``wrap_appl_data``), or None.

    Raises:
        LocalError: a value is over its limit, or appl_data is not one TLV of the allowed classes.
    """
    if appl_data is not None:
        _check_appl_data(appl_data)
    writer = Writer()
    writer.begin(fields.SEQUENCE)
    for get, write in _TOKEN_1_OUT:
        value = get(token1)
        if value is not None and value != ():
            write(writer, value)
    writer.end()
    if appl_data is not None:
        writer.raw(appl_data)
    return writer.getvalue()


def encode_control_tbs(
    kind: SecPduKind, token3: ClearToken3, diag: int | None = None, appl_data: bytes | None = None
) -> bytes:
    """The content octets of tbs of a reject, abort or release: what is signed, and given to ``assemble``.

    Arguments:
        kind: which of the seven.
        token3: own token.
        diag: number of the diagnostic, or None; only for HandshakeSecReject, HandshakeSecAbort, DtSecAbort.
        appl_data: the protected protocol's TLV, or None; only for the other four.

    Raises:
        LocalError: a value is over its limit, or does not belong to this kind.
    """
    row = _ROWS[kind]
    if row.token is not Token.CLEAR_TOKEN_3:
        raise LocalError(f"{_NAMES[kind]} has no ClearToken3")
    if (appl_data if row.body is Body.DIAG else diag) is not None:
        raise LocalError(f"{_NAMES[kind]} carries {row.body.value}")
    if appl_data is not None:
        _check_appl_data(appl_data)
    writer = Writer()
    writer.begin(fields.SEQUENCE)
    for get, write in _TOKEN_3_OUT:
        value = get(token3)
        if value is not None and value != ():
            write(writer, value)
    writer.end()
    if diag is not None:
        writer.integer(diag, fields.DIAG.tag)
    if appl_data is not None:
        writer.raw(appl_data)
    return writer.getvalue()


def assemble(kind: SecPduKind, pp: str | None, tbs: bytes, algo: AlgorithmId, signature: bytes) -> bytes:
    """A signed SecPDU as its carrier takes it, with the tag of the CHOICE where there is one.

    Arguments:
        kind: which.
        pp: name of the protected protocol in the two handshake SecPDUs, else None.
        tbs: from ``encode_handshake_tbs`` or ``encode_control_tbs``.
        algo: the token's sig_alg.
        signature: over tbs.

    Raises:
        LocalError: pp is missing, superfluous or over 64 octets; the kind is a transfer.
    """
    row = _ROWS[kind]
    if row.token is Token.CLEAR_TOKEN_2 or (pp is not None) != (row.token is Token.CLEAR_TOKEN_1):
        raise LocalError(f"{_NAMES[kind]}: wrong kind, or pp missing or superfluous")
    writer = Writer()
    writer.begin(row.tag)
    if pp is not None:
        _write_pp(writer, pp)
    writer.begin(fields.SEQUENCE)
    writer.raw(tbs)
    writer.end()
    writer.begin(fields.SEQUENCE)
    writer.raw(algo.der)
    _write_signature(writer, signature)
    writer.end()
    writer.end()
    return writer.getvalue()


_write_signature: Final = _writer_of(fields.SIGNATURE[1])


def _write_pp(writer: Writer, pp: str) -> None:
    encoded = pp.encode("utf-8")
    if len(encoded) > fields.PP.maximum:
        raise LocalError(f"pp: at most {fields.PP.maximum} octets")
    writer.primitive(fields.PP.tag, encoded)
