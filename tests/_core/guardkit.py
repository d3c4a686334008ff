"""Guards of every mode, and their twins of the reference, over the same keys."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fastsec import limits, profile
from fastsec._core.crypto import Secret
from fastsec._core.cursor import Reader, Writer
from fastsec._core.guard import (
    MODE_AE,
    MODE_CBC_GMAC,
    MODE_CBC_HMAC,
    MODE_GMAC,
    MODE_HMAC,
    GuardParams,
    OpenGuard,
    SealGuard,
)
from fastsec.errors import DecodeError, IntegrityError, PeerError, ReplayError
from reference.tlv import Fault, tlv
from reference.transfer import Receiver, Sender, Suite, Window, _cbc

T0 = int(datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC).timestamp()) * 1000
START = "20261120120000.000Z"  # T0
ASSO = "17:230"
KEYS = bytes(range(7, 7 + 96))


def hmac_algorithm() -> bytes:
    w = Writer()
    w.begin(0x30)
    w.oid(profile.HMAC_SHA256)
    w.null()
    w.end()
    return w.getvalue()


def gcm_algorithm(oid: str, icv_len: int, nonce: bytes = bytes(12)) -> bytes:
    w = Writer()
    w.begin(0x30)
    w.oid(oid)
    w.begin(0x30)
    w.octets(nonce)
    if icv_len != profile.ICV_LEN_DEFAULT:
        w.integer(icv_len)
    w.end()
    w.end()
    return w.getvalue()


@dataclass(frozen=True)
class Kind:
    """One combination of algorithms."""

    name: str
    mode: int
    icv_algorithm: bytes
    icv_len: int
    aes: int
    mac: int
    suite: Suite

    def __str__(self) -> str:
        return self.name

    @property
    def params(self) -> GuardParams:
        return GuardParams(self.mode, ASSO, self.icv_algorithm, self.icv_len, self.aes, self.mac)

    @property
    def ik(self) -> tuple[int, int] | None:
        return (3, self.mac) if self.mac else None

    @property
    def ek(self) -> tuple[int, int] | None:
        return (40, self.aes) if self.aes else None

    @property
    def encrypting(self) -> bool:
        return self.aes > 0

    def seal_guard(self, start: str = START, previous: SealGuard | None = None, keys: bytes = KEYS) -> SealGuard:
        return SealGuard(
            self.params,
            Secret.from_bytes(keys),
            self.ik,
            self.ek,
            start_time=start if previous is None else None,
            previous=previous,
        )

    def open_guard(self, start: str = START, previous: OpenGuard | None = None, keys: bytes = KEYS) -> OpenGuard:
        return OpenGuard(
            self.params,
            Secret.from_bytes(keys),
            self.ik,
            self.ek,
            start_time=start if previous is None else None,
            previous=previous,
        )

    def _keys(self) -> tuple[bytes, bytes]:
        return KEYS[3 : 3 + self.mac], KEYS[40 : 40 + self.aes]

    def sender(self, start: str = START) -> Sender:
        return Sender(self.suite, ASSO, *self._keys(), start)

    def receiver(self, start: str = START) -> Receiver:
        return Receiver(self.suite, ASSO, *self._keys(), Window(start))


H = (profile.HMAC_SHA256, 32)
KINDS = [
    Kind("hmac", MODE_HMAC, hmac_algorithm(), 32, 0, 32, Suite(icv=H)),
    Kind(
        "gmac128-16", MODE_GMAC, gcm_algorithm(profile.AES128_GCM, 16), 16, 0, 16, Suite(icv=(profile.AES128_GCM, 16))
    ),
    Kind(
        "gmac256-12", MODE_GMAC, gcm_algorithm(profile.AES256_GCM, 12), 12, 0, 32, Suite(icv=(profile.AES256_GCM, 12))
    ),
    Kind("cbc128-hmac", MODE_CBC_HMAC, hmac_algorithm(), 32, 16, 32, Suite(encr=profile.AES128_CBC, icv=H)),
    Kind(
        "cbc256-gmac128-13",
        MODE_CBC_GMAC,
        gcm_algorithm(profile.AES128_GCM, 13),
        13,
        32,
        16,
        Suite(encr=profile.AES256_CBC, icv=(profile.AES128_GCM, 13)),
    ),
    Kind("gcm128-16", MODE_AE, b"", 16, 16, 0, Suite(aea=(profile.AES128_GCM, 16))),
    Kind("gcm256-12", MODE_AE, b"", 12, 32, 0, Suite(aea=(profile.AES256_GCM, 12))),
    Kind("gcm256-16", MODE_AE, b"", 16, 32, 0, Suite(aea=(profile.AES256_GCM, 16))),
]
BY_NAME = {kind.name: kind for kind in KINDS}


def appl(size: int, tag: int = 0xA0, fill: int = 0x55) -> bytes:
    """An applData of exactly ``size`` octets; sizes 130, 259 and 260 have no DER form."""
    for header in (2, 3, 4, 5):
        w = Writer()
        w.primitive(tag, bytes([fill]) * (size - header))
        if len(w.getvalue()) == size:
            return w.getvalue()
    raise ValueError(size)


every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
DATA = appl(40)
SKEW = limits.SPEC_CLOCK_SKEW * 1000

FAMILY = {
    "icv": IntegrityError,
    "icv-algorithm": IntegrityError,
    "time": ReplayError,
    "replay": ReplayError,
    "sequence": ReplayError,
}


def verdict(guard: OpenGuard, pdu: bytes, utc_ms: int = T0) -> str:
    """Name of the failed check, or "" if the PDU was accepted; a failure must change nothing."""
    before = (guard.count, guard.last_time)
    try:
        guard.open(pdu, utc_ms)
    except PeerError as error:
        if (guard.count, guard.last_time) != before:
            return "changed"
        return error.check if type(error) is FAMILY.get(error.check, DecodeError) else repr(error)
    return ""


# --- parts of a PDU, to build wrong ones ----------------------------------------------------------------------------
@dataclass
class Pieces:
    """A ClearTransfer or EncrTransfer taken apart; ``build`` signs anew unless told otherwise."""

    kind: Kind
    token: bytes
    body: bytes
    auth: bytes | None
    token_form: Callable[[bytes], bytes] = lambda content: tlv(0x30, content)
    tbp_form: Callable[[bytes], bytes] = lambda content: tlv(0x30, content)

    @classmethod
    def of(cls, kind: Kind, pdu: bytes) -> Pieces:
        outer = Reader(pdu)
        outer.next()
        inside = outer.enter()
        inside.expect(0x30)
        tbp = inside.enter()
        auth = None
        if inside.more():
            inside.next()
            auth = inside.value()
        tbp.expect(0x30)
        token = tbp.value()
        tbp.next()
        return cls(kind, token, tbp.raw(), auth)

    def build(self, *, extra: bytes = b"", tail: bytes = b"") -> bytes:
        return tlv(0x30, self.tbp_form(self.token_form(self.token) + self.body + extra) + tail)


def resign(
    kind: Kind,
    token: bytes,
    body: bytes | None = None,
    *,
    tbp: bytes | None = None,
    nonce: bytes = bytes(12),
    plain: bytes = DATA,
    form: Callable[[bytes], bytes] = lambda c: tlv(0x30, c),
    algorithm: bytes | None = None,
    icv: Callable[[bytes], bytes] = lambda icv: icv,
    indefinite: bool = False,
    with_nonce: bytes | None = b"",
) -> bytes:
    """A PDU around any token2 content with a right ICV, or a right AE tag over the token."""
    covered = token + b"\x00\x00" if indefinite else token
    token_tlv = b"\x30\x80" + covered if indefinite else form(token)
    sender = kind.sender()
    if kind.mode == MODE_AE:
        iv = next_iv(token)
        cipher = AESGCM(sender._ek).encrypt(iv, plain, covered)[: len(plain) + kind.icv_len]
        body = body or tlv(0x04, icv(cipher))
        return tlv(0x30, tlv(0x30, token_tlv + body))
    if body is None:
        body = tlv(0x04, _cbc(sender._ek, next_iv(token), plain)) if kind.encrypting else plain
    if tbp is None:
        content = token_tlv + body
        signed = content + b"\x00\x00" if indefinite else content
        tbp = b"\x30\x80" + signed if indefinite else tlv(0x30, content)
    else:
        signed = tbp[2:]
    if kind.suite.icv and kind.suite.icv[0] == profile.HMAC_SHA256:
        mac = hmac.digest(sender._ik, signed, "sha256")
        auth = b""
    else:
        mac = AESGCM(sender._ik).encrypt(nonce, b"", signed)[: kind.icv_len]
        auth = tlv(0x80, nonce)
    if with_nonce is None:
        auth = b""
    elif with_nonce:
        auth = tlv(0x80, with_nonce)
    auth += kind.icv_algorithm if algorithm is None else algorithm
    return tlv(0x30, tbp + tlv(0x30, auth + tlv(0x04, icv(mac))))


def next_iv(token: bytes) -> bytes:
    r = Reader(token)
    r.next()
    r.next()
    r.next()
    return r.octets(0x80) if r.peek() == 0x80 else bytes(16)


def token2(
    kind: Kind,
    *,
    asso: str = ASSO,
    time: str = START,
    seq: int = 0,
    seq_tlv: bytes | None = None,
    iv: bytes | None = None,
    tail: bytes = b"",
) -> bytes:
    if iv is None:
        iv = bytes(12) if kind.mode == MODE_AE else b"0123456789abcdef" if kind.encrypting else b""
    number = tlv(0x02, seq.to_bytes(seq.bit_length() // 8 + 1, "big")) if seq_tlv is None else seq_tlv
    return tlv(0x0C, asso.encode()) + tlv(0x18, time.encode()) + number + (tlv(0x80, iv) if iv else b"") + tail


def normal(check: str) -> str:
    return "protocol-error" if check == "asso-id" else check


def agree(kind: Kind, pdu: bytes, utc_ms: int = T0) -> str:
    """Open with both implementations; they must say the same. Ours alone calls a known field of ClearToken2 in a
    wrong form, or twice, a syntax error; to the reference it is an extension, and a later check fails. The reference
    alone decodes the OID of an algorithm before comparing it."""
    ours, theirs = kind.open_guard(), kind.receiver()
    got = verdict(ours, pdu, utc_ms)
    wanted = ""
    try:
        theirs.open(pdu, utc_ms)
    except Fault as fault:
        wanted = fault.check
    if got == "protocol-error":
        assert wanted
    else:
        assert normal(got) == normal(wanted) or (got, wanted) == ("icv-algorithm", "protocol-error")
    return got
