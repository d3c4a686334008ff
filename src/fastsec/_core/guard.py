"""One key, one direction: seals and opens transfer SecPDUs (62351-4, ClearTransfer and EncrTransfer).

A guard owns the libcrypto contexts of its keys, made once. What outlives a key change, (time, seq) and the nonce
counter, is shared with the guard of the next key (``previous``). A key change is a new guard.

Fastest use: not a guard itself but ``osidata.OsiChannel``, which seals and opens in place inside its frames.
"""

from __future__ import annotations

from fastsec._core.opening import Opened, OpenGuard
from fastsec._core.params import MODE_AE, MODE_CBC_GMAC, MODE_CBC_HMAC, MODE_GMAC, MODE_HMAC, GuardParams
from fastsec._core.sealing import SealGuard
from fastsec._core.transfer import scan_transfer

__all__ = [
    "MODE_AE",
    "MODE_CBC_GMAC",
    "MODE_CBC_HMAC",
    "MODE_GMAC",
    "MODE_HMAC",
    "GuardParams",
    "OpenGuard",
    "Opened",
    "SealGuard",
    "scan_transfer",
]
