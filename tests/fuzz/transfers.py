"""Transfer PDUs around any content of token2, sealed with the real keys."""

from __future__ import annotations

from fastsec._core.crypto import aes_cbc, aes_gcm_seal, hmac_sha256
from fastsec._core.cursor import tlv
from fastsec._core.guard import MODE_AE, MODE_CBC_GMAC, MODE_CBC_HMAC, MODE_HMAC, GuardParams


class Sealing:
    """One direction: what was agreed, and its keys."""

    __slots__ = ("ek", "encrypting", "icv_algorithm", "icv_len", "ik", "mode")

    def __init__(self, params: GuardParams, ik: bytes, ek: bytes) -> None:
        self.mode = params.mode
        self.encrypting = params.mode in (MODE_AE, MODE_CBC_HMAC, MODE_CBC_GMAC)
        self.icv_algorithm = params.icv_algorithm
        self.icv_len = params.icv_len
        self.ik = ik
        self.ek = ek


def sealed(sealing: Sealing, token: bytes, body: bytes, nonce: bytes, tail: bytes, how: int) -> bytes:
    """A transfer around any content of token2 and any applData, with a right ICV or authenticated encryption.

    Arguments:
        tail: octets after applData.
        how: bit 0: token2 in the indefinite form; bit 1: tbp too.
    """
    token_tlv = tlv(0x30, token)
    covered = token
    if how & 1:
        token_tlv, covered = b"\x30\x80" + token + b"\0\0", token + b"\0\0"
    mode = sealing.mode
    if mode == MODE_AE:
        cipher = aes_gcm_seal(sealing.ek, nonce, covered, body, sealing.icv_len)
        return tlv(0x30, tlv(0x30, token_tlv + tlv(0x04, cipher)))
    if sealing.encrypting:
        pad = 16 - len(body) % 16
        body = tlv(0x04, aes_cbc(sealing.ek, bytes(16), body + bytes((pad,)) * pad, True))
    content = token_tlv + body + tail
    tbp, signed = tlv(0x30, content), content
    if how & 2:
        tbp, signed = b"\x30\x80" + content + b"\0\0", content + b"\0\0"
    if mode in (MODE_HMAC, MODE_CBC_HMAC):
        auth = sealing.icv_algorithm + tlv(0x04, hmac_sha256(sealing.ik, signed))
    else:
        icv = aes_gcm_seal(sealing.ik, nonce, signed, b"", sealing.icv_len)
        auth = tlv(0x80, nonce) + sealing.icv_algorithm + tlv(0x04, icv)
    return tlv(0x30, tbp + tlv(0x30, auth))
