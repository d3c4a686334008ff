"""DER and BER codec of the SecPDUs (62351-4 SecPDUs and encoding), built from the field table.

What is emitted is DER (GeneralizedTime keeps its trailing zeros, a named deviation). What is accepted is BER with
definite lengths; tbs also in the indefinite form. Signatures are checked over the octets received: ``Handshake.tbs``
and ``Control.tbs`` are slices of the input, never a re-encoding. Transfers are decoded in ``fastsec._core.guard``.
"""

from __future__ import annotations

from typing import Final

from fastsec import profile
from fastsec._core.cursor import Reader, Writer
from fastsec.errors import DecodeError, LocalError
from fastsec.secpdu import fields
from fastsec.secpdu.components import components_of, writer_of
from fastsec.secpdu.fields import Body, Carrier, SecPduKind, Token
from fastsec.secpdu.model import AlgorithmId, ClearToken1, ClearToken3, Control, Handshake
from fastsec.secpdu.timestamp import time_key, time_text, time_utc_ms

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

_MMS: Final = frozenset({profile.PP_MMS_OSI, profile.PP_MMS_XMPP})

_TOKEN_1: Final = components_of(fields.CLEAR_TOKEN_1)
_TOKEN_3: Final = components_of(fields.CLEAR_TOKEN_3)
_SIGNATURE: Final = components_of(fields.SIGNATURE)
_DIAG: Final = components_of((fields.DIAG,))
_write_signature: Final = writer_of(fields.SIGNATURE[1])
_write_diag: Final = writer_of(fields.DIAG)
_write_pp: Final = writer_of(fields.PP)


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


def _skip(reader: Reader) -> None:
    """Unknown extensions: well-formed TLVs that nobody reads. The signature covers them."""
    while reader.more():
        reader.next()


# --- decoding -------------------------------------------------------------------------------------------------------

_KINDS: Final = {(row.carrier, row.tag): row for row in fields.SEC_PDUS if row.carrier is not Carrier.DATA}
_ROWS: Final = {row.kind: row for row in fields.SEC_PDUS}
_NAMES: Final = {kind: kind.standard_name for kind in SecPduKind}
_STEPS: Final = {
    row.kind: (_NAMES[row.kind], f"{_NAMES[row.kind]}.sign", f"{_NAMES[row.kind]}.tbs.token{row.token}")
    for row in fields.SEC_PDUS
}


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
    name, in_sign, in_token = _STEPS[kind]
    inner = Reader(data, outer.start, outer.stop, indefinite=True, step=name)
    pp = ""
    if token is Token.CLEAR_TOKEN_1:
        pp = inner.utf8(fields.PP.tag, fields.PP.maximum)
    inner.expect(fields.SEQUENCE)
    tbs = inner.covered()
    signed = Reader(data, inner.start, inner.stop, step=name)
    inner.expect(fields.SEQUENCE)
    if inner.after != inner.stop:
        raise DecodeError("indefinite length not allowed here", step=in_sign)
    sign = inner.enter()
    algo, signature = _SIGNATURE.read(sign, in_sign)
    sign.finish()
    inner.finish()

    signed.expect(fields.SEQUENCE)
    fields_of_token = signed.enter()
    values = (_TOKEN_1 if token is Token.CLEAR_TOKEN_1 else _TOKEN_3).read(fields_of_token, in_token)
    _skip(fields_of_token)
    diag: int | None = None
    appl_data: bytes | None = None
    while signed.more():
        tag = signed.next()
        if appl_data is None and diag is None and _is_appl_data(data[signed.first], tag):
            if body is Body.APPL_DATA:
                appl_data = signed.raw()
            elif tag == fields.DIAG.tag:
                (diag,) = _DIAG.read(Reader(data, signed.first, signed.after), name + ".tbs")
    if token is Token.CLEAR_TOKEN_1:
        _check_handshake_data(pp, appl_data)
        return Handshake(kind, pp, ClearToken1(*values), appl_data, tbs, algo, signature)
    return Control(kind, ClearToken3(*values), diag, appl_data, tbs, algo, signature)


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
    _TOKEN_1.write(writer, token1)
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
    _TOKEN_3.write(writer, token3)
    writer.end()
    if diag is not None:
        _write_diag(writer, diag)
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
