"""One association's keys in fastsec's guards and in the independent implementation's directions."""

from __future__ import annotations

from fastsec._core import guard
from fastsec._core.crypto import Secret
from fastsec._core.guard import GuardParams, OpenGuard, SealGuard
from reference.secpdu import AES, HMAC_SHA256
from reference.secpdu import encode_algorithm as reference_algorithm
from reference.transfer import Receiver, Sender, Suite, Window

T0 = 1_795_175_059_123  # 2026-11-20T11:44:19.123Z
START = "20261120114419.000Z"
ASSO_ID = "17:5"
MODES = {
    "HMAC": guard.MODE_HMAC,
    "GMAC": guard.MODE_GMAC,
    "CBC_HMAC": guard.MODE_CBC_HMAC,
    "CBC_GMAC": guard.MODE_CBC_GMAC,
    "AE": guard.MODE_AE,
}
_HMAC = (HMAC_SHA256, 32)
SUITES = [
    Suite(icv=_HMAC),
    Suite(icv=(AES["aes128-GCM"], 12)),
    Suite(icv=(AES["aes256-GCM"], 16)),
    Suite(icv=(AES["aes256-GMAC"], 13)),
    Suite(encr=AES["aes128-CBC"], icv=_HMAC),
    Suite(encr=AES["aes256-CBC"], icv=(AES["aes128-GCM"], 16)),
    Suite(encr=AES["aes128-CBC"], icv=(AES["aes256-GCM"], 12)),
    Suite(aea=(AES["aes128-GCM"], 16)),
    Suite(aea=(AES["aes256-GCM"], 12)),
    Suite(aea=(AES["aes256-GCM"], 14)),
]


def suite_id(suite: Suite) -> str:
    return f"{suite.mode}-{suite.aes_size}-{suite.mac_size}-{suite.icv_len}"


def params(suite: Suite, asso_id: str = ASSO_ID) -> GuardParams:
    algorithm = reference_algorithm(suite.icv_algorithm) if suite.icv_algorithm else b""
    return GuardParams(MODES[suite.mode], asso_id, algorithm, suite.icv_len, suite.aes_size, suite.mac_size)


def key_octets(suite: Suite, seed: int = 1) -> tuple[bytes, bytes]:
    """(IK, EK), different for every seed."""
    octets = bytes((seed * 7 + n) & 0xFF for n in range(64))
    return octets[: suite.mac_size], octets[32 : 32 + suite.aes_size]


def guard_keys(ik: bytes, ek: bytes) -> tuple[Secret, tuple[int, int] | None, tuple[int, int] | None]:
    return Secret.from_bytes(ik + ek), (0, len(ik)) if ik else None, (len(ik), len(ek)) if ek else None


def seal_guard(suite: Suite, seed: int = 1, previous: SealGuard | None = None) -> SealGuard:
    start = START if previous is None else None
    return SealGuard(params(suite), *guard_keys(*key_octets(suite, seed)), start_time=start, previous=previous)


def open_guard(suite: Suite, seed: int = 1, previous: OpenGuard | None = None) -> OpenGuard:
    start = START if previous is None else None
    return OpenGuard(params(suite), *guard_keys(*key_octets(suite, seed)), start_time=start, previous=previous)


def sender(suite: Suite, seed: int = 1, after: Sender | None = None) -> Sender:
    return Sender(suite, ASSO_ID, *key_octets(suite, seed), START, after)


def receiver(suite: Suite, seed: int = 1, window: Window | None = None) -> Receiver:
    return Receiver(suite, ASSO_ID, *key_octets(suite, seed), window or Window(START))
