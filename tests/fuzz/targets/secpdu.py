"""The SecPDUs: the DER and BER codec of the nine signed ones, their parts, and what is known of a transfer unverified.

What is accepted is written anew and read again: both readings have to agree, and from the second writing on nothing
changes any more. ``reference`` holds the verdict against the independent codec of ``tests/reference``.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

from fastsec import limits
from fastsec._core.cursor import Reader, Writer, decode_oid, encode_oid
from fastsec._core.guard import scan_transfer
from fastsec.errors import DecodeError, LocalError
from fastsec.secpdu import fields
from fastsec.secpdu.components import components_of, is_asso_id
from fastsec.secpdu.der import (
    assemble,
    decode,
    decode_client_number,
    encode_control_tbs,
    encode_handshake_tbs,
    kind_of,
    unwrap_appl_data,
    wrap_appl_data,
)
from fastsec.secpdu.fields import Carrier, Kind, Mark, SecPduKind
from fastsec.secpdu.model import AlgorithmId, Control, Handshake
from fastsec.secpdu.timestamp import is_time, time_key, time_text, time_utc_ms
from fuzz.kit import Bits, Target, packed, tree
from reference import secpdu as reference_codec
from reference.tlv import Fault as ReferenceFault

VECTORS: Final = Path(__file__).resolve().parents[2] / "vectors"
_CARRIERS: Final = {carrier.value: carrier for carrier in Carrier}


def _vectors(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


# --- the nine signed SecPDUs ----------------------------------------------------------------------------------------


def _encoded(pdu: Handshake | Control) -> bytes:
    if isinstance(pdu, Handshake):
        tbs = encode_handshake_tbs(pdu.token1, pdu.appl_data)
        return assemble(pdu.kind, pdu.pp, tbs, pdu.algo, pdu.signature)
    tbs = encode_control_tbs(pdu.kind, pdu.token3, pdu.diag, pdu.appl_data)
    return assemble(pdu.kind, None, tbs, pdu.algo, pdu.signature)


def signed(carrier: Carrier, data: bytes) -> None:
    """One signed SecPDU."""
    try:
        pdu = decode(carrier, data)
    except DecodeError:
        return
    assert pdu.tbs in data
    assert pdu.appl_data is None or pdu.appl_data in pdu.tbs
    assert kind_of(carrier, data) is pdu.kind
    again = _encoded(pdu)
    # DER, so it may be longer only by the default forms of the fields, never by more than a header or two.
    assert len(again) <= len(data) + 64
    back = decode(carrier, again)
    assert back._replace(tbs=pdu.tbs) == pdu
    assert _encoded(back) == again


def request(data: bytes) -> None:
    """HandshakeReq, and the association number in one that does not decode."""
    number = decode_client_number(data)
    assert number is None or (is_asso_id(number) and ":" not in number)
    signed(Carrier.ASSOCIATE_REQ, data)


def reference(data: bytes) -> None:
    """The first octet picks the carrier; the two codecs say the same."""
    carrier = _SIGNED_CARRIERS[data[0] % len(_SIGNED_CARRIERS)] if data else Carrier.ABORT
    octets = data[1:]
    try:
        ours: Handshake | Control | None = decode(carrier, octets)
    except DecodeError:
        ours = None
    try:
        theirs = reference_codec.decode(carrier.value, octets)
    except (ReferenceFault, UnicodeDecodeError):
        assert ours is None, "accepted, but refused by the reference"
        return
    except RecursionError:
        return
    if ours is None:
        # The reference has no limits of nesting, of all certificates together, and of named bits.
        return
    assert (ours.tbs, ours.signature, ours.appl_data) == (theirs.tbs, theirs.signature, theirs.appl_data)
    if isinstance(ours, Control):
        assert ours.diag == theirs.diag


_SIGNED_CARRIERS: Final = (
    Carrier.ASSOCIATE_REQ,
    Carrier.ASSOCIATE_RSP,
    Carrier.ABORT,
    Carrier.RELEASE_REQ,
    Carrier.RELEASE_RSP,
)


def _signed_seeds(*carriers: Carrier) -> Iterable[bytes]:
    for vector in _vectors("secpdus.json"):
        if _CARRIERS[vector["carrier"]] in carriers:
            yield bytes.fromhex(vector["der"])


def _reference_seeds() -> Iterable[bytes]:
    for number, carrier in enumerate(_SIGNED_CARRIERS):
        for octets in _signed_seeds(carrier):
            yield bytes((number,)) + octets


# --- their parts ----------------------------------------------------------------------------------------------------

_ALGORITHM: Final = components_of((fields.SIGNATURE[0],))
_LISTS: Final = {
    0: components_of((fields.ENCR_MODE_AEA._replace(kind=Kind.ENCR_MODE),)),
    1: components_of((fields.CLEAR_TOKEN_1[8],)),
    2: components_of((fields.CLEAR_TOKEN_1[5],)),
    3: components_of((fields.CLEAR_TOKEN_1[2],)),
    4: _ALGORITHM,
    5: components_of((fields.CLEAR_TOKEN_1[3], fields.CLEAR_TOKEN_1[9])),
}


class _Holder:
    """Values by attribute, as ``Components.write`` takes them."""


def components(data: bytes) -> None:
    """AlgorithmIdentifier, encr-mode, dhKey, certPath and named bits by themselves."""
    which = _LISTS[data[0] % 6] if data else _ALGORITHM
    reader = Reader(data[1:])
    try:
        values = which.read(reader, "x")
    except DecodeError:
        return
    holder = _Holder()
    for name, value in zip(which_names[id(which)], values, strict=True):
        setattr(holder, name, value)
    writer = Writer()
    which.write(writer, holder)
    again = writer.getvalue()
    back = which.read(Reader(again), "x")
    assert back == values
    for value in values:
        if isinstance(value, AlgorithmId):
            assert AlgorithmId(value.oid, value.params) == value
            assert hash(AlgorithmId(value.oid, value.params)) == hash(value)
            assert value.params is not None or value.der == tree(value.der)
            assert len(value.der) <= limits.OUR_ALGORITHM_ID_MAX + 8


which_names: Final = {
    id(_LISTS[0]): ("algorithms",),
    id(_LISTS[1]): ("encr_mode",),
    id(_LISTS[2]): ("dh_key",),
    id(_LISTS[3]): ("cert_path",),
    id(_LISTS[4]): ("algo",),
    id(_LISTS[5]): ("version", "conf_params"),
}


def _component_seeds() -> Iterable[bytes]:
    for vector in _vectors("secpdus.json"):
        pdu = decode(_CARRIERS[vector["carrier"]], bytes.fromhex(vector["der"]))
        yield b"\x04" + pdu.algo.der
        if isinstance(pdu, Handshake):
            for number, which in _LISTS.items():
                writer = Writer()
                holder = _Holder()
                for name in which_names[id(which)]:
                    setattr(holder, name, getattr(pdu.token1, name, None) or getattr(pdu, name, None))
                if number not in (0, 3) and all(v is not None for v in vars(holder).values()):
                    which.write(writer, holder)
                    yield bytes((number,)) + writer.getvalue()
            if pdu.token1.cert_path:
                writer = Writer()
                writer.begin(0x30)
                for certificate in pdu.token1.cert_path:
                    writer.octets(certificate[:200])
                writer.end()
                yield b"\x03" + writer.getvalue()


def applied(data: bytes) -> None:
    """applData of protocols other than MMS."""
    try:
        pp, octets = unwrap_appl_data(data)
    except DecodeError:
        return
    again = wrap_appl_data(pp, octets)
    assert unwrap_appl_data(again) == (pp, octets)
    assert len(again) <= len(data)


def transfer(data: bytes) -> None:
    """What is said of a transfer before anything is verified."""
    try:
        kind, rekey, asks, changed = scan_transfer(data)
    except DecodeError:
        scanned = None
    else:
        scanned = (kind, rekey, asks, changed)
    try:
        name = kind_of(Carrier.DATA, data)
    except DecodeError:
        assert scanned is None
        return
    assert name in (SecPduKind.CLEAR_TRANSFER, SecPduKind.ENCR_TRANSFER)
    if scanned is not None:
        assert (scanned[0] == 1) == (name is SecPduKind.ENCR_TRANSFER)


def _transfer_seeds() -> Iterable[bytes]:
    for vector in _vectors("transfers.json"):
        for message in vector["messages"]:
            yield bytes.fromhex(message["der"])
    for vector in _vectors("associations.json"):
        for message in vector.get("transfers", vector.get("messages", ())):
            if isinstance(message, dict) and "der" in message:
                yield bytes.fromhex(message["der"])


# --- time -----------------------------------------------------------------------------------------------------------

_TIME: Final = components_of((fields.Field("time", "time", 0x18, Kind.TIME, Mark.S),))


def times(data: bytes) -> None:
    """TimeStamp: the compiled reader, the pattern and the calendar of Python say the same."""
    text = data[:40].decode("latin-1")
    good = is_time(text)
    if text.isascii():
        writer = Writer()
        writer.primitive(0x18, text.encode())
        octets = writer.getvalue()
        try:
            read = _TIME.read(Reader(octets), "x") == [text]
        except DecodeError:
            read = False
        assert read == (good and len(text) <= 25)
    if not good:
        try:
            time_key(text)
        except DecodeError:
            return
        raise AssertionError("time_key takes what is no TimeStamp")
    key = time_key(text)
    assert len(key) == 23
    assert key.isdigit()
    ms = time_utc_ms(text)
    if text[12:14] != "60":
        second = datetime.datetime.strptime(text[:14], "%Y%m%d%H%M%S") if text[:4] != "0000" else None
        if second is not None:
            since = second - datetime.datetime(1970, 1, 1)
            assert ms == (since.days * 86_400 + since.seconds) * 1000 + int(key[14:17])
        assert time_key(time_text(ms)) == key[:17].ljust(23, "0")


def _time_seeds() -> Iterable[bytes]:
    vectors = _vectors("timestamps.json")
    for group in vectors.values():
        for entry in group:
            yield (entry["text"] if isinstance(entry, dict) else entry).encode("latin-1", "replace")


# --- the reader -----------------------------------------------------------------------------------------------------


def reader(data: bytes) -> None:
    """The cursor itself: the first chunk says what is done, the rest is walked over."""
    bits = Bits(data)
    plan = bits.chunk()
    octets = bits.rest()
    levels = [Reader(octets, indefinite=bool(len(plan) & 1))]
    for step in plan[:16]:
        level = levels[-1]
        before = level.pos
        try:
            _READS[step % len(_READS)](levels, step)
        except DecodeError:
            if len(levels) > 1 and step & 1:
                levels.pop()
        assert 0 <= level.first <= level.start <= level.stop <= level.after <= level.end <= len(octets)
        assert before <= level.pos <= level.end


def _enter(levels: list[Reader], step: int) -> None:
    inner = levels[-1].enter(indefinite=bool(step & 0x40))
    levels.append(inner)
    assert len(levels) <= limits.OUR_NESTING_MAX


def _numbers(levels: list[Reader], step: int) -> None:
    level = levels[-1]
    value = level.integer(level.peek() if level.more() else 2)
    assert -(2**63) <= value < 2**63
    writer = Writer()
    writer.integer(value)
    assert Reader(writer.getvalue()).integer() == value


def _oids(levels: list[Reader], step: int) -> None:
    level = levels[-1]
    text = level.oid(level.peek() if level.more() else 6)
    content = level.value()
    assert encode_oid(text) == content
    assert decode_oid(content) == text


def _named(levels: list[Reader], step: int) -> None:
    level = levels[-1]
    mask = level.named_bits(level.peek() if level.more() else 3)
    assert 0 <= mask < 1 << 256
    if mask < 1 << 64:
        writer = Writer()
        writer.named_bits(mask)
        assert Reader(writer.getvalue()).named_bits() == mask


def _text(levels: list[Reader], step: int) -> None:
    level = levels[-1]
    text = level.utf8(level.peek() if level.more() else 12, 200)
    assert text.encode() == level.value()


def _pieces(levels: list[Reader], step: int) -> None:
    level = levels[-1]
    level.next()
    value, raw, covered = level.value(), level.raw(), level.covered()
    assert covered.startswith(value)
    assert raw.endswith(covered)
    assert len(covered) - len(value) in (0, 2)


def _aside(levels: list[Reader], step: int) -> None:
    level = levels[-1]
    left = level.end - level.pos
    octets, there = level.set_aside(0xBE)
    assert level.pos == level.end
    assert len(octets) <= left
    assert there == (len(octets) < left)


def _whatever(name: str, *more: Any) -> Callable[[list[Reader], int], None]:
    def call(levels: list[Reader], step: int) -> None:
        getattr(levels[-1], name)(*more)

    return call


def _tagged(name: str) -> Callable[[list[Reader], int], None]:
    def call(levels: list[Reader], step: int) -> None:
        level = levels[-1]
        getattr(level, name)(level.peek() if level.more() else 1)

    return call


_READS: Final = (
    _whatever("next"),
    _enter,
    _numbers,
    _oids,
    _named,
    _text,
    _pieces,
    _aside,
    _whatever("peek"),
    _whatever("finish"),
    _whatever("octets"),
    _whatever("optional", 0x30),
    _whatever("expect", 0x30),
    _tagged("boolean"),
    _tagged("null"),
    _tagged("bits"),
    _tagged("text"),
)


def _reader_seeds() -> Iterable[bytes]:
    plan = bytes(range(17)) * 2
    for vector in _vectors("secpdus.json"):
        octets = bytes.fromhex(vector["der"])
        yield packed(bytes((1, 0, 1, 6, 6, 6, 3, 2, 4))) + octets[:600]
    for octets in ("3080020101040100 0000", "0304050a0bff", "0603550406", "0c03616263", "be0430020500"):
        yield packed(plan) + bytes.fromhex(octets)


def oids(data: bytes) -> None:
    """OBJECT IDENTIFIERs, octets and text."""
    try:
        text = decode_oid(data)
    except DecodeError:
        pass
    else:
        assert encode_oid(text) == data
    try:
        octets = encode_oid(data.decode("latin-1"))
    except LocalError:
        return
    assert decode_oid(octets) == data.decode("latin-1")


def load() -> dict[str, Target]:
    """The targets of this module."""
    rows: dict[str, tuple[Callable[[bytes], object], int, Callable[[], Iterable[bytes]], int | None]] = {
        "handshake_req": (request, 4096, partial(_signed_seeds, Carrier.ASSOCIATE_REQ), 0),
        "handshake_rsp": (
            partial(signed, Carrier.ASSOCIATE_RSP), 4096, partial(_signed_seeds, Carrier.ASSOCIATE_RSP), 0
        ),
        "abort": (partial(signed, Carrier.ABORT), 2048, partial(_signed_seeds, Carrier.ABORT), 0),
        "release": (
            partial(signed, Carrier.RELEASE_REQ), 2048,
            partial(_signed_seeds, Carrier.RELEASE_REQ, Carrier.RELEASE_RSP), 0,
        ),
        "secpdu_reference": (reference, 2048, _reference_seeds, 1),
        "components": (components, 512, _component_seeds, 1),
        "appl_data": (applied, 256, lambda: [wrap_appl_data("Other", b"octets"), bytes.fromhex("a003020101")], 0),
        "transfer": (transfer, 256, _transfer_seeds, 0),
        "time": (times, 32, _time_seeds, None),
        "reader": (reader, 512, _reader_seeds, None),
        "oid": (oids, 80, lambda: [b"1.2.840.10045.4.3.2", b"\x2a\x86\x48\xce\x3d\x04\x03\x02", b"2.999.3"], None),
    }  # fmt: skip
    return {name: Target(*row) for name, row in rows.items()}
