"""The key schedule of 62351-4 (§4.1 of our specification): running hash, HKDF, and the keys of both directions.

::

    h1 = SHA-256( tbs of HandshakeReq || 32 zero octets )
    h2 = SHA-256( tbs of HandshakeAcc || h1 )
    OKM = HKDF-SHA256( IKM = Z, salt = h2, info = empty )  cut into  IK_client, IK_server, EK_client, EK_server

Z and OKM live in ``Secret`` objects of ``_core`` and never become Python octets. A key update repeats the last line
with a new Z and the same h2.
"""

from __future__ import annotations

from typing import Final

from fastsec._core.crypto import Secret, hkdf_sha256, sha256
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

HASH_ZERO: Final = bytes(32)
LOGGED_MODES: Final = {
    MODE_HMAC: "hmac",
    MODE_GMAC: "gmac",
    MODE_CBC_HMAC: "cbc-hmac",
    MODE_CBC_GMAC: "cbc-gmac",
    MODE_AE: "ae",
}


def hash_request(tbs: bytes) -> bytes:
    """h1: fingerprint of the content octets of HandshakeReq.tbs."""
    return sha256(tbs + HASH_ZERO)


def hash_acceptance(tbs: bytes, h1: bytes) -> bytes:
    """h2: fingerprint of the content octets of HandshakeAcc.tbs and, through h1, of the whole handshake."""
    return sha256(tbs + h1)


def derive(params: GuardParams, z: Secret, h2: bytes) -> Secret:
    """OKM with exactly the keys that the mode needs; ``z`` is wiped.

    Arguments:
        params: mode and key sizes.
        z: the shared Diffie-Hellman value (32 or 256 octets).
        h2: 32 octets.
    """
    try:
        return hkdf_sha256(z, h2, b"", 2 * (params.mac_key_size + params.aes_key_size))
    finally:
        z.wipe()


def _slices(params: GuardParams, server: bool) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(IK, EK) of one sending side as (offset, length) in OKM."""
    ik, ek = params.mac_key_size, params.aes_key_size
    return ((ik if server else 0, ik) if ik else None, (2 * ik + (ek if server else 0), ek) if ek else None)


def first_guards(
    params: GuardParams, okm: Secret, *, is_client: bool, own_time: str, peer_time: str
) -> tuple[SealGuard, OpenGuard]:
    """The guards of a new association; ``okm`` is wiped, the guards hold their keys themselves.

    Arguments:
        own_time, peer_time: time of the own and of the peer's ClearToken1; (time, seq) of each direction starts there.
    """
    try:
        tx = SealGuard(params, okm, *_slices(params, not is_client), start_time=own_time, previous=None)
        rx = OpenGuard(params, okm, *_slices(params, is_client), start_time=peer_time, previous=None)
    finally:
        okm.wipe()
    return tx, rx


def next_guards(
    params: GuardParams, okm: Secret, *, is_client: bool, tx: SealGuard, rx: OpenGuard
) -> tuple[SealGuard, OpenGuard]:
    """The guards after a key update; nonce counter and (time, seq) continue. ``okm`` is wiped.

    The new ``SealGuard`` takes over counter and time when it is made, so make it after the old one's last PDU.
    """
    try:
        new_tx = SealGuard(params, okm, *_slices(params, not is_client), start_time=None, previous=tx)
        new_rx = OpenGuard(params, okm, *_slices(params, is_client), start_time=None, previous=rx)
    finally:
        okm.wipe()
    return new_tx, new_rx


def key_lines(params: GuardParams, okm: Secret, h2: bytes, epoch: int) -> tuple[str, str]:
    """Both directions' keys as lines of the key log (docs/inspect.md): for development, see ``Config.key_log``.

    Arguments:
        okm: not yet wiped; the lines are copies that nobody can wipe.
        epoch: 0 for the handshake's keys, then counted up by each key update.
    """
    octets = okm.reveal()

    def line(side: str, server: bool) -> str:
        ik, ek = ("-" if at is None else octets[at[0] : at[0] + at[1]].hex() for at in _slices(params, server))
        mode = f"mode={LOGGED_MODES[params.mode]} icv={params.icv_len}"
        return f"fastsec-key 1 h2={h2.hex()} asso={params.asso_id} from={side} epoch={epoch} {mode} ik={ik} ek={ek}"

    return line("client", False), line("server", True)
