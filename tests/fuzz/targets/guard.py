"""Transfers: opening raw and resealed PDUs in every mode, by both ways of the guard, against a model and the reference.

The key oracle: the harness knows the keys, so what the input says about a PDU's inside is sealed properly and reaches
the checks behind the ICV.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from fastsec import limits
from fastsec._core.crypto import Secret
from fastsec._core.cursor import tlv
from fastsec._core.guard import MODE_AE, GuardParams, OpenGuard
from fastsec._core.osidata import OsiChannel
from fastsec._core.tpkt import dt
from fastsec.errors import DecodeError, IntegrityError, PeerError, ReplayError
from fastsec.secpdu.timestamp import time_text
from fuzz.kit import Bits, Target, edited, packed
from fuzz.transfers import Sealing, sealed
from reference.tlv import Fault as ReferenceFault

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "_core"))
from guardkit import KEYS, KINDS, START, T0, Kind, normal, token2

_FAMILY: Final = {
    "icv": IntegrityError,
    "icv-algorithm": IntegrityError,
    "time": ReplayError,
    "replay": ReplayError,
    "sequence": ReplayError,
}
_CHECKS: Final = frozenset(_FAMILY) | {
    "protocol-error",
    "wrong-kind",
    "asso-id",
    "nonce-missing",
    "iv-missing",
    "ae-iv-missing",
}


class Bench(NamedTuple):
    """What is needed of one combination of algorithms, made once."""

    kind: Kind
    params: GuardParams
    sealing: Sealing
    secret: Secret

    def opener(self) -> OpenGuard:
        """A fresh guard."""
        return OpenGuard(self.params, self.secret, self.kind.ik, self.kind.ek, start_time=START)


BENCHES: Final = [
    Bench(
        kind,
        kind.params,
        Sealing(kind.params, KEYS[3 : 3 + kind.mac], KEYS[40 : 40 + kind.aes]),
        Secret.from_bytes(KEYS),
    )
    for kind in KINDS
]


def verdict(guard: OpenGuard, pdu: bytes, utc_ms: int) -> tuple[str, bytes | None]:
    """("", applData) or the name of the failed check; a failure changes nothing."""
    before = (guard.count, guard.last_time)
    try:
        opened = guard.open(pdu, utc_ms)
    except PeerError as error:
        assert (guard.count, guard.last_time) == before
        assert error.check in _CHECKS
        assert type(error) is _FAMILY.get(error.check, DecodeError)
        return error.check, None
    assert guard.count == before[0] + 1
    assert guard.last_time >= before[1]
    return "", opened.appl_data


def raw(data: bytes) -> None:
    """Octets as they are, in the mode that the first octet picks: only what we sealed ourselves may ever open."""
    if not data:
        return
    number = data[0] % len(BENCHES)
    bench = BENCHES[number]
    pdu = data[1:]
    pair = _KEPT.pop(number, None) or (bench.opener(), bench.opener())
    check, appl = verdict(pair[0], pdu, T0)
    assert check or appl is None or bench.kind.encrypting or appl in pdu
    _same_on_the_fast_path(pair[1], [(pdu, T0)], [(check, appl)])
    if check:
        _KEPT[number] = pair  # as new: whoever refuses a PDU has not changed


_KEPT: Final[dict[int, tuple[OpenGuard, OpenGuard]]] = {}


class _Model:
    """(time, seq) of a receiving direction, told in five lines."""

    def __init__(self) -> None:
        self.ms, self.seq = T0, -1

    def judge(self, ms: int, seq: int, now: int) -> str:
        if abs(ms - now) > limits.SPEC_CLOCK_SKEW * 1000 or ms < self.ms:
            return "time"
        if ms > self.ms:
            if seq:
                return "sequence"
        elif seq != self.seq + 1:
            return "replay" if seq <= self.seq else "sequence"
        self.ms, self.seq = ms, seq
        return ""


def stream(data: bytes) -> None:
    """Up to four properly sealed PDUs whose times, numbers and contents the input says; what is opened is judged by
    the model of (time, seq), by the guard, and by the channel's fast path."""
    bits = Bits(data)
    bench = BENCHES[bits.octet() % len(BENCHES)]
    guard, model = bench.opener(), _Model()
    now = T0
    pdus: list[tuple[bytes, int]] = []
    verdicts: list[tuple[str, bytes | None]] = []
    ms, seq = T0, -1
    for _ in range(4):
        if not bits.more():
            break
        how = bits.octet()
        now += bits.signed() * (1, 1000, 60_000, 0)[how >> 4 & 3]
        step = bits.signed()
        if how & 8:
            seq += step
        elif step:
            ms, seq = ms + step * (1, 10_000)[how & 1], 0
        else:
            seq += 1
        ms = min(max(ms, T0 - 10**9), T0 + 10**9)
        seq = min(max(seq, 0), limits.OUR_SEQ_MAX)
        appl = tlv(0xA0 + (how >> 6), bits.chunk())
        iv = bytes(16) if bench.kind.encrypting else None
        iv = bytes(12) if bench.kind.mode == MODE_AE else iv
        token = token2(bench.kind, time=time_text(ms), seq=seq, iv=iv)
        pdu = sealed(bench.sealing, token, appl, bytes(12), b"", 0)
        found = verdict(guard, pdu, now)
        wanted = model.judge(ms, seq, now)
        assert found == (wanted, None if wanted else appl)
        if wanted:
            ms, seq = model.ms, model.seq
        pdus.append((pdu, now))
        verdicts.append(found)
    _same_on_the_fast_path(bench.opener(), pdus, verdicts)


def _same_on_the_fast_path(
    guard: OpenGuard, pdus: list[tuple[bytes, int]], verdicts: list[tuple[str, bytes | None]]
) -> None:
    """An armed channel opens what the guard opens and names the same fault; NULL transfers and key fields it leaves."""
    line = OsiChannel(70_000)
    line.arm_rx(guard, -1)
    for (pdu, now), (check, appl) in zip(pdus, verdicts, strict=True):
        if not pdu:
            return
        found = line.feed(dt(pdu, 65_531), now)
        frame = line.next()
        if found:
            assert (check, found) == ("", [appl])
            assert frame is None
            continue
        assert frame == (0xF0, pdu)
        fault = line.fault
        if check and fault is not None:
            assert fault.check == check
        elif check == "":
            assert fault is None  # it has key fields, extensions or no applData: the engine opens it
            assert verdict(guard, pdu, now) == ("", appl)


def resealed(data: bytes) -> None:
    """One PDU whose token and body the input damages before it is sealed, then damages again, or not."""
    bits = Bits(data)
    number = bits.octet() % len(BENCHES)
    bench = BENCHES[number]
    how = bits.octet()
    seq = bits.signed() if how & 4 else 0
    iv = bytes(12) if bench.kind.mode == MODE_AE else bytes(16) if bench.kind.encrypting else None
    token = token2(bench.kind, seq=max(seq, 0), iv=iv)
    token = edited(bits, token)
    if how & 8:
        token += bits.chunk()
    body = tlv(0xA0, bits.chunk()) if not how & 16 else bits.chunk()
    tail = bits.chunk() if how & 32 else b""
    pdu = sealed(bench.sealing, token, body, bytes(12), tail, how)
    if how & 64:
        pdu = edited(bits, pdu)
    pair = _KEPT.pop(number, None) or (bench.opener(), bench.opener())
    check, appl = verdict(pair[0], pdu, T0)
    _same_on_the_fast_path(pair[1], [(pdu, T0)], [(check, appl)])
    if check:
        _KEPT[number] = pair
    if how & 128:
        _as_the_reference(bench, pdu, check)


def _as_the_reference(bench: Bench, pdu: bytes, check: str) -> None:
    """The verdicts agree, but for what ``guardkit.agree`` says of known differences."""
    wanted = ""
    try:
        bench.kind.receiver().open(pdu, T0)
    except ReferenceFault as fault:
        wanted = fault.check
    except (UnicodeDecodeError, RecursionError):
        wanted = "protocol-error"
    if check == "protocol-error":
        assert wanted
    else:
        assert normal(check) == normal(wanted) or (check, wanted) == ("icv-algorithm", "protocol-error")


def _raw_seeds() -> Iterable[bytes]:
    for number, bench in enumerate(BENCHES):
        guard = bench.kind.seal_guard()
        for size in (2, 40, 200):
            yield bytes((number,)) + guard.seal(tlv(0xA0, bytes(size)), T0)
        guard.req_rekey = True
        yield bytes((number,)) + guard.seal(b"\x05\x00", T0)


def _stream_seeds() -> Iterable[bytes]:
    for number in range(len(BENCHES)):
        for octets in (b"", b"abc", bytes(300)):
            yield packed(
                number, 0x10, 1, 1, octets, 0, 0, 0, octets, 8, 0, 1, octets, 8, 0, 0, octets, 1, 0, 60, octets
            )


def _resealed_seeds() -> Iterable[bytes]:
    extras = (
        tlv(0x82, b"\xff"),
        tlv(0x83, b"\xff"),
        tlv(0xA1, tlv(0x02, b"\x17") + tlv(0x04, b"\x04" + bytes(64))),
        tlv(0x85, b"later"),
    )
    for number in range(len(BENCHES)):
        for how in (0, 1, 2, 3, 16, 32, 64, 128, 16 | 128):
            more: tuple[int | bytes, ...] = (b"\xa0\x01x",) if how & 16 else (b"x",)
            yield packed(number, how, 0, *more, *((tlv(0x04, b"more"),) if how & 32 else ()), 1, 0, 0, 20, 1)
        for extra in extras:
            yield packed(number, 8, 0, extra, b"abc")
            yield packed(number, 8 | 128, 1, 2, 0, 5, 32, extra, b"abc")


def load() -> dict[str, Target]:
    """The targets of this module."""
    return {
        "open_raw": Target(raw, 512, _raw_seeds, 1),
        "open_stream": Target(stream, 256, _stream_seeds),
        "open_resealed": Target(resealed, 256, _resealed_seeds),
    }
