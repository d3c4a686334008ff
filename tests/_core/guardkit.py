"""Guards of every mode, and their twins of the reference, over the same keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from fastsec import profile
from fastsec._core.crypto import Secret
from fastsec._core.cursor import Writer
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
from reference.transfer import Receiver, Sender, Suite, Window

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
