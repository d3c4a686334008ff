"""The OSI layers: each decoder by itself, the channel's framing, and an endpoint of either role in every state."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final, get_args

from envs.osi.support import (
    ABORT,
    ACCEPTANCE,
    APPL_REJECT,
    CAPTURES,
    CONCLUDE,
    INITIATE,
    INITIATE_RESPONSE,
    MAX_TSDU,
    RELEASE,
    REQUEST,
    SEC_REJECT,
    SECURE_INITIATOR,
    SECURE_RESPONDER,
    Pair,
    all_captured,
)
from envs.osi.test_states import MAKERS
from fastsec._core.cursor import tlv
from fastsec._core.osidata import OsiChannel
from fastsec._core.tpkt import dt, tpkt
from fastsec.envs.osi import Indication, OsiEndpoint, acse, cotp, presentation, session
from fastsec.envs.osi.indications import AssociateInd, DataInd, ReleaseInd
from fastsec.errors import DecodeError, LimitReached, LocalError, StateError
from fuzz.kit import Bits, Target, decodes, edited, only, packed

INDICATIONS: Final = get_args(Indication)
# What one TPDU may make an endpoint send: a refusal echoes selectors, an abort is a few octets.
ANSWER_MAX: Final = 4096


# --- what has been seen on wires ------------------------------------------------------------------------------------


def _conversations() -> list[bytes]:
    """TPKT payloads of whole associations, secure and plain, with release, collision, refusal and abort."""
    logs: list[tuple[bool, bytes]] = []
    for secure in (True, False):
        make = Pair.secure if secure else Pair.plain
        pair = make().associate()
        pair.initiator.data(CONCLUDE if not secure else REQUEST)
        pair.to_responder()
        pair.initiator.release(RELEASE if secure else None)
        pair.to_responder()
        pair.responder.release_response(RELEASE if secure else None)
        pair.to_initiator()
        logs += pair.log
        pair = make()
        pair.request(REQUEST if secure else INITIATE)
        pair.responder.reject(SEC_REJECT if secure else None)
        pair.to_initiator()
        logs += pair.log[-1:]
        pair = make().associate()
        pair.responder.abort(ABORT if secure else None)
        pair.to_initiator()
        logs += pair.log[-1:]
    frames = []
    for _, octets in logs:
        while octets:
            size = int.from_bytes(octets[2:4], "big")
            frames.append(octets[4:size])
            octets = octets[size:]
    return list(dict.fromkeys(frames))


CONVERSATIONS: Final = _conversations()


def _payloads() -> list[bytes]:
    """All TPKT payloads there are: our conversations, captures, single PDUs of the captures."""
    single = [path.read_bytes() for path in sorted((CAPTURES / "pdu").glob("*.bin"))]
    single = [octets[4:] if octets[:2] == b"\x03\x00" else octets for octets in single]
    seen = [item.payload for item in all_captured()]
    return list(dict.fromkeys(CONVERSATIONS + single + [octets for octets in seen if len(octets) < 2048]))


def _tsdus() -> list[bytes]:
    return [octets[3:] for octets in _payloads() if octets[:3] == b"\x02\xf0\x80"]


def _ppdus() -> list[bytes]:
    found = []
    for tsdu in _tsdus():
        with contextlib.suppress(DecodeError):
            found.append(session.decode(tsdu).user_data)
    return [octets for octets in found if octets]


def _apdus() -> list[bytes]:
    found = []
    for ppdu in _ppdus():
        for decode in PRESENTATION:
            with contextlib.suppress(DecodeError):
                parsed = decode(ppdu)
                values = parsed if isinstance(parsed, tuple) and not hasattr(parsed, "user_data") else parsed.user_data
                found += [pdv.value for pdv in values]
    return list(
        dict.fromkeys(octets for octets in found if octets[:1] in (b"\x60", b"\x61", b"\x62", b"\x63", b"\x64"))
    )


# --- one decoder each -----------------------------------------------------------------------------------------------


def transport(data: bytes) -> None:
    """CR, CC, DR, ER; what was read of a CR or CC is written and read again."""
    try:
        tpdu = cotp.decode(data)
    except DecodeError:
        return
    if isinstance(tpdu, cotp.Connect):
        again = cotp.encode_connect(tpdu)
        assert cotp.decode(again) == tpdu._replace(class_0=True)
        answer = cotp.answer(tpdu, cotp.REFERENCE, 65_408)
        size = answer.preferred or answer.size
        assert size is not None
        assert 128 <= size <= 65_408
        assert cotp.decode(cotp.encode_connect(answer)) == answer
        assert cotp.agreed_size(answer, tpdu) >= 128


PRESENTATION: Final[tuple[Callable[[bytes], Any], ...]] = (
    presentation.decode_connect,
    presentation.decode_accept,
    presentation.decode_refuse,
    presentation.decode_abort,
    presentation.decode_user_data,
)


def ppdu(data: bytes) -> None:
    """The first octet picks the kind of PPDU."""
    if not data:
        return
    octets = data[1:]
    try:
        found = PRESENTATION[data[0] % 5](octets)
    except DecodeError:
        return
    values = found if data[0] % 5 == 4 else found.user_data
    for context, value in values:
        assert value in octets
        if 0 <= context < 128 and len(values) == 1 and value and octets[:1] == b"\x61":
            with contextlib.suppress(DecodeError):  # octet-aligned values need not be a TLV
                assert presentation.decode_user_data(presentation.user_data(context, value)) == ((context, value),)


def apdu(data: bytes) -> None:
    """AARQ, AARE, RLRQ, RLRE, ABRT."""
    try:
        found = acse.decode(data)
    except DecodeError:
        return
    repr(found)
    if isinstance(found, acse.Aarq | acse.Aare):
        with contextlib.suppress(DecodeError):
            password = found.authentication.password
            assert password is None or password in data
    for external in found.user_information or ():
        assert external.value in data


# --- framing --------------------------------------------------------------------------------------------------------


def channel(data: bytes) -> None:
    """A stream in two cuttings gives the same frames and the same end; armed without a guard, the same payloads."""
    bits = Bits(data)
    how = bits.octet()
    max_tsdu = (64, 1024, MAX_TSDU, 128)[how & 3]
    step = 1 + (bits.octet() & 0x3F)
    stream = bits.rest()
    whole = _frames(stream, max(len(stream), 1), max_tsdu, how)
    pieces = _frames(stream, step, max_tsdu, how)
    # How much comes before a fault does not depend on the cutting, nor does the fault.
    assert whole == pieces


_EMPTY_DT: Final = b"\x03\x00\x00\x07\x02\xf0\x80"


def _frames(stream: bytes, step: int, max_tsdu: int, how: int) -> tuple[list[Any], str]:
    line = OsiChannel(max_tsdu)
    if how & 4:
        line.tpdu_max = 128
    if how & 8:
        line.arm_rx(None, 3)
    found: list[Any] = []
    try:
        for at in range(0, len(stream), step):
            found += line.feed(stream[at : at + step], 0)
            while (frame := line.next()) is not None:
                found.append(frame)
                found += line.feed(b"", 0)
            assert line.buffered <= max_tsdu + 65_535 + step
    except DecodeError as error:
        assert decodes(lambda octets: line.feed(octets, 0), _EMPTY_DT) is None, "goes on after a broken stream"
        return found, str(error)
    return found, ""


def _channel_seeds() -> Iterable[bytes]:
    frames = [tpkt(octets) for octets in CONVERSATIONS]
    for how in (0, 2, 10, 14):
        yield bytes((how, 3)) + b"".join(frames[:4])
        yield bytes((how, 60)) + b"".join(frames[4:8])
    data = b"\x01\x00\x01\x00" + presentation.user_data(3, tlv(0xA0, bytes(40)))
    yield bytes((10, 7)) + dt(data, 128) + dt(data, 40 + 128) + dt(data * 4, 128)


# --- endpoints ------------------------------------------------------------------------------------------------------


def _sides() -> list[OsiEndpoint]:
    sides = [make() for _, _, make in MAKERS]
    for make in (
        lambda: Pair.plain().initiator,
        lambda: Pair.plain().responder,
        lambda: _moved(Pair.plain(), "transport").initiator,
        lambda: _moved(Pair.plain(), "transport").responder,
        lambda: _asked().initiator,
        lambda: _asked().responder,
        lambda: Pair.plain().associate().initiator,
        lambda: Pair.plain().associate().responder,
    ):
        sides.append(make())
    strict = dataclasses.replace(SECURE_RESPONDER, check_selectors=True, max_tpdu_size=128)
    pair = Pair.make(SECURE_INITIATOR, strict)
    pair.transport()
    sides += [Pair.make(SECURE_INITIATOR, strict).responder, pair.responder]
    return sides


def _moved(pair: Pair, call: str) -> Pair:
    getattr(pair, call)()
    return pair


def _asked() -> Pair:
    pair = Pair.plain()
    pair.request(INITIATE)
    return pair


SIDES: Final = _sides()
_INITIATORS: Final = [side for side in SIDES if side.role == "initiator"]
_RESPONDERS: Final = [side for side in SIDES if side.role == "responder"]
_PLAIN_SLOTS: Final = tuple(slot for slot in OsiEndpoint.__slots__ if slot not in ("channel", "_out", "_answer"))


def twin(side: OsiEndpoint) -> OsiEndpoint:
    """A copy that shares nothing that changes."""
    copy = object.__new__(OsiEndpoint)
    for slot in _PLAIN_SLOTS:
        setattr(copy, slot, getattr(side, slot))
    copy.channel = OsiChannel(MAX_TSDU)
    copy.channel.tpdu_size = side.channel.tpdu_size
    copy.channel.tpdu_max = side.channel.tpdu_max
    copy._out = []
    copy._answer = None if side._answer is None else dataclasses.replace(side._answer)
    return copy


_SPDUS: Final = (1, 8, 9, 10, 12, 13, 14, 25, 26)
_CODES: Final = (0xE0, 0xD0, 0x80, 0x70, 0xF0, 0x10)


def piece(bits: Bits, what: int) -> bytes:
    """Octets for the wire, wrapped from the layer that ``what`` names downwards."""
    match what & 7:
        case 0:
            return bits.chunk()
        case 1:
            body = bytes((_CODES[bits.octet() % 6],)) + (bits.chunk()[:253] or b"\0")
            return tpkt(bytes((len(body),)) + body)
        case 2:
            return dt(bits.chunk() or b"\0", 1024)
        case 3:
            si, user_data = _SPDUS[bits.octet() % 9], bits.chunk()
            return dt(spdu(si, user_data), 1024)
        case 4:
            si, tag, context = _SPDUS[bits.octet() % 9], bits.octet(), bits.octet() & 7
            return dt(spdu(si, _ppdu(si, context, tlv(0x60 + tag % 5, bits.chunk()))), 65_531)
        case 5:
            return dt(session.DATA_PREFIX + presentation.user_data(bits.octet() & 7, bits.chunk() or b"\0"), 65_531)
        case 6:
            return framed(edited(bits, CONVERSATIONS[bits.octet() % len(CONVERSATIONS)]))
        case _:
            frame = CONVERSATIONS[bits.octet() % len(CONVERSATIONS)]
            if frame[:3] != b"\x02\xf0\x80":
                return tpkt(frame)
            with contextlib.suppress(DecodeError, LimitReached):
                parsed = session.decode(frame[3:])
                return dt(spdu(parsed.si, edited(bits, parsed.user_data)), 65_531)
            return tpkt(frame)


def framed(tpdu: bytes) -> bytes:
    """A TPKT around octets that need not be a TPDU."""
    return b"\x03\x00" + (len(tpdu) + 4).to_bytes(2, "big") + tpdu


def spdu(si: int, user_data: bytes) -> bytes:
    """An SPDU of this kind around user data."""
    match si:
        case 13:
            return session.encode_connect(session.connect_header(b"\x00\x01", b"\x00\x01"), user_data[:10_240])
        case 14:
            return session.encode_accept(b"\x00\x01", user_data)
        case 12:
            return session.encode_refuse(2, user_data)
        case 9:
            return session.encode_finish(user_data)
        case 10:
            return session.encode_disconnect(user_data)
        case 25:
            return session.encode_abort(user_data)
        case 1:
            return session.encode_data(user_data)
    return bytes((si, 0))


def _ppdu(si: int, context: int, value: bytes) -> bytes:
    match si:
        case 13:
            return presentation.encode_connect(SECURE_INITIATOR.cp_header, context, value)
        case 14:
            return presentation.encode_accept(b"\0\0\0\1", (0, 0, 0), context, value)
        case 12:
            return presentation.encode_refuse(b"\0\0\0\1", (0, 0, 0), (context, value))
        case 25:
            return presentation.encode_abort(context, value)
    return presentation.user_data(context, value)


def _endpoint(sides: list[OsiEndpoint], data: bytes) -> None:
    bits = Bits(data)
    side = twin(sides[bits.octet() % len(sides)])
    fed = 0
    for _ in range(8):
        if not bits.more():
            break
        what = bits.octet()
        octets = piece(bits, what)
        fed += len(octets)
        step = (len(octets), 7, 1, 100)[what >> 3 & 3] or 1
        if step < 100 and len(octets) > 400:
            step = 100
        for at in range(0, len(octets), step):
            try:
                assert side.channel.feed(octets[at : at + step], 0) == []
                while (frame := side.channel.next()) is not None:
                    _take(side, frame, what)
                    side.channel.feed(b"", 0)
            except DecodeError:
                return
        assert side.channel.buffered <= fed


def _take(side: OsiEndpoint, frame: tuple[int, bytes], what: int) -> None:
    closed = side.closed
    found = side.receive_tpdu(*frame)
    if closed:
        assert not found
        assert not side.data_to_send()
        return
    for indication in found:
        assert isinstance(indication, INDICATIONS)
        if isinstance(indication, DataInd):
            assert indication.pdu in frame[1]
    assert not side.closed or found, "closed without a word"
    # What an adapter would do next.
    secure = side.params.security
    if what & 0x20:
        with contextlib.suppress(StateError, LocalError):
            for indication in found:
                if isinstance(indication, AssociateInd):
                    if what & 0x40:
                        side.reject(APPL_REJECT if secure else None)
                    else:
                        side.accept(ACCEPTANCE if secure else INITIATE_RESPONSE)
                elif isinstance(indication, ReleaseInd):
                    side.release_response(RELEASE if secure else None)
    assert len(side.data_to_send()) <= ANSWER_MAX + len(frame[1])


def initiator(data: bytes) -> None:
    """An initiator in any of its states, and up to eight pieces from the peer."""
    _endpoint(_INITIATORS, data)


def responder(data: bytes) -> None:
    """A responder in any of its states, and up to eight pieces from the peer."""
    _endpoint(_RESPONDERS, data)


def _endpoint_seeds(sides: list[OsiEndpoint]) -> Iterable[bytes]:
    for number in range(len(sides)):
        for frame in range(0, len(CONVERSATIONS), 2):
            yield packed(number, 6 | 0x20, frame, 0, 7 | 0x20, frame + 1, 0)
        yield packed(number, 1, 1, b"\0\0\0\1\0", 5, 3, tlv(0xA0, bytes(9)), 4, 9, 2, 1, b"\x80\x01\x00")
        yield packed(number, 0, tpkt(CONVERSATIONS[number % len(CONVERSATIONS)]), 2, b"\x01\x00\x01\x00")
    whole = list(itertools.islice((frame for frame in CONVERSATIONS), 8))
    for number in (0, 1, 2, 4):
        yield packed(number, *itertools.chain.from_iterable((0x20, tpkt(frame)[:1000]) for frame in whole))


def load() -> dict[str, Target]:
    """The targets of this module."""
    return {
        "cotp": Target(transport, 128, lambda: [octets for octets in _payloads() if octets[1:2] != b"\xf0"]),
        "session": Target(only(session.decode), 512, lambda: [octets[:512] for octets in _tsdus()]),
        "presentation": Target(
            ppdu, 512, lambda: [bytes((kind,)) + octets[:500] for octets in _ppdus() for kind in range(5)], 1
        ),
        "acse": Target(apdu, 512, lambda: [octets[:512] for octets in _apdus()], 0),
        "channel": Target(channel, 1024, _channel_seeds),
        "osi_initiator": Target(initiator, 512, lambda: _endpoint_seeds(_INITIATORS)),
        "osi_responder": Target(responder, 512, lambda: _endpoint_seeds(_RESPONDERS)),
    }
