"""One transfer SecPDU taken apart for people, and opened with keys of a key log.

``fastsec._core`` opens transfers too, but tells nothing of those that are out of order; here each stands alone. The
syntax is judged by ``_core`` (``scan_transfer``), so that both agree on what is well-formed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, NamedTuple

from fastsec import profile
from fastsec._core.crypto import aes_cbc, aes_gcm_open, equal, hmac_sha256
from fastsec._core.cursor import Reader, decode_oid
from fastsec._core.guard import scan_transfer
from fastsec.errors import DecodeError, IntegrityError
from fastsec.inspect import words
from fastsec.secpdu import fields
from fastsec.secpdu.model import AlgorithmId

_IV, _REKEY, _REQ_REKEY, _CHANGED_KEY = (field.tag for field in fields.CLEAR_TOKEN_2[3:])
_NONCE: Final = fields.AUTHENTICATOR[0].tag
_BLOCK: Final = 16
_GCM_NONCE: Final = 12


class Auth(NamedTuple):
    """An Authenticator; ``algorithm`` is None where its parameters do not fit its OID."""

    nonce: bytes | None
    algorithm: AlgorithmId | None
    oid: str
    icv: bytes


class Transfer(NamedTuple):
    """A ClearTransfer or EncrTransfer; nothing is verified.

    Attributes:
        encrypted: which of them.
        asso_id, time, seq, iv, rekey, req_rekey, changed_key: of its ClearToken2; rekey is (group, value).
        token, tbp: octets that AE and the ICV cover.
        data: ciphertext, or the TLV of applData.
        followed: whether tbp goes on after applData.
        auth: its Authenticator, or None.
    """

    encrypted: bool
    asso_id: str
    time: str
    seq: int
    iv: bytes | None
    rekey: tuple[int, bytes] | None
    req_rekey: bool
    changed_key: bool
    token: bytes
    tbp: bytes
    data: bytes
    followed: bool
    auth: Auth | None

    @property
    def is_null(self) -> bool:
        """Whether it is a NULL transfer in clear."""
        return self.data == profile.NULL_APPL_DATA and not self.encrypted


class Key(NamedTuple):
    """One direction's key.

    Attributes:
        mode: ``hmac``, ``gmac``, ``cbc-hmac``, ``cbc-gmac`` or ``ae``.
        icv_len: octets of the ICV.
        ik, ek: octets, b"" where the mode has none.
    """

    mode: str
    icv_len: int
    ik: bytes
    ek: bytes


def parse(pdu: bytes) -> Transfer:
    """Take a transfer SecPDU apart. DecodeError where it breaks its syntax."""
    encrypted = scan_transfer(pdu)[0] == 1
    outer = Reader(pdu)
    outer.next()
    inner = Reader(pdu, outer.start, outer.stop, indefinite=True)
    inner.next()
    covered = inner.covered()
    tbp = inner.enter(indefinite=True)
    tbp.next()
    token, read = tbp.covered(), tbp.enter()
    values = []
    for _ in range(3):
        read.next()
        values.append(read.value())
    iv: bytes | None = None
    rekey: tuple[int, bytes] | None = None
    flags = {_REQ_REKEY: False, _CHANGED_KEY: False}
    while read.more():
        tag = read.next()
        if tag == _IV:
            iv = read.value()
        elif tag == _REKEY:
            value = read.enter()
            rekey = (value.integer(), value.octets())
        elif tag in flags:
            flags[tag] = read.value() != b"\0"
    tbp.next()
    data = tbp.value() if encrypted else tbp.raw()
    auth = None
    if inner.more():
        inner.next()
        auth = _auth(inner.enter())
    return Transfer(
        encrypted,
        values[0].decode("utf-8", "replace"),
        values[1].decode("ascii", "replace"),
        int.from_bytes(values[2], "big"),
        iv,
        rekey,
        flags[_REQ_REKEY],
        flags[_CHANGED_KEY],
        token,
        covered,
        data,
        tbp.more(),
        auth,
    )


def _auth(reader: Reader) -> Auth:
    nonce = reader.octets(_NONCE) if reader.peek() == _NONCE else None
    reader.next()
    inner = reader.enter()
    inner.next()
    content, params = inner.value(), None
    if inner.more():
        inner.next()
        params = inner.raw()
    oid, algorithm = f"0x{content.hex()}", None
    with suppress(DecodeError):  # the engine compares octets, so this is not malformed but not the agreed one
        oid = decode_oid(content)
        algorithm = AlgorithmId(oid, params)
    return Auth(nonce, algorithm, oid, reader.octets())


def describe(transfer: Transfer) -> dict[str, Any]:
    """For the output: sizes, key-update fields, Authenticator; the token's fields."""
    about: dict[str, Any] = {
        "assoID": words.printable(transfer.asso_id),
        "time": words.time(transfer.time),
        "seq": transfer.seq,
    }
    if transfer.iv is not None:
        about["iv"] = transfer.iv.hex()
    if transfer.rekey is not None:
        about["rekey"] = words.group(transfer.rekey[0], len(transfer.rekey[1]))
    if transfer.req_rekey:
        about["reqRekey"] = True
    if transfer.changed_key:
        about["changedKey"] = True
    about["applData_octets"] = len(transfer.data)
    if transfer.auth is not None:
        auth = transfer.auth
        named = {"oid": auth.oid, "name": words.ALGORITHMS.get(auth.oid, "unknown")}
        shown: dict[str, Any] = {
            "algorithm": named if auth.algorithm is None else words.algorithm(auth.algorithm),
            "icv_octets": len(auth.icv),
            "icv": auth.icv.hex() if len(auth.icv) <= 32 else f"{auth.icv[:32].hex()}...",
        }
        if auth.nonce is not None:
            shown["nonce"] = auth.nonce.hex()
        about["auth"] = shown
    return about


def open_with(transfer: Transfer, key: Key) -> bytes:
    """Verify with ``key`` and give applData in clear, b"05 00" for a NULL transfer.

    Errors:
        DecodeError ``wrong-kind``, ``protocol-error``, ``nonce-missing``, ``iv-missing``, ``ae-iv-missing``;
        IntegrityError ``icv-algorithm``, ``icv``: as the engine would say.
    """
    mode = key.mode
    if transfer.encrypted != (mode not in ("hmac", "gmac")):
        raise DecodeError("the other kind of transfer was agreed", check="wrong-kind")
    if mode == "ae":
        if transfer.followed or transfer.auth is not None:
            raise DecodeError("octets after applData of an authenticated encryption")
        if transfer.iv is None or len(transfer.iv) != _GCM_NONCE:
            raise DecodeError("AE needs an IV of 12 octets", check="ae-iv-missing")
        if len(transfer.data) < key.icv_len:
            raise IntegrityError("authenticated decryption failed", check="icv")
        return _checked(aes_gcm_open(key.ek, transfer.iv, transfer.token, transfer.data, key.icv_len))
    auth = transfer.auth
    if auth is None:
        raise DecodeError("auth missing")
    gmac = mode.endswith("gmac")
    if not _is_agreed(auth, key, gmac):
        raise IntegrityError("algorithm differs from the agreed one", check="icv-algorithm")
    if gmac and (auth.nonce is None or len(auth.nonce) != _GCM_NONCE):
        raise DecodeError("GMAC needs a nonce of 12 octets", check="nonce-missing")
    if transfer.encrypted and (transfer.iv is None or len(transfer.iv) != _BLOCK):
        raise DecodeError("CBC needs an IV of 16 octets", check="iv-missing")
    if len(auth.icv) != key.icv_len:
        raise IntegrityError("ICV is wrong", check="icv")
    if gmac:
        try:
            aes_gcm_open(key.ik, auth.nonce or b"", transfer.tbp, auth.icv, key.icv_len)
        except IntegrityError:
            raise IntegrityError("ICV is wrong", check="icv") from None
    elif not equal(hmac_sha256(key.ik, transfer.tbp), auth.icv):
        raise IntegrityError("ICV is wrong", check="icv")
    if not transfer.encrypted:
        return transfer.data
    return _checked(_unpadded(transfer, key))


def _is_agreed(auth: Auth, key: Key, gmac: bool) -> bool:
    """Whether the Authenticator's algorithm is of the key's kind and has its ICV length; which AES it names the
    length of the key decides."""
    algorithm = auth.algorithm
    if algorithm is None:
        return False
    if not gmac:
        return algorithm.oid == profile.HMAC_SHA256
    return profile.GMAC_KEY_SIZE.get(algorithm.oid) == len(key.ik) and algorithm.icv_len == key.icv_len


def _unpadded(transfer: Transfer, key: Key) -> bytes:
    size = len(transfer.data)
    if size and size % _BLOCK == 0:
        plain = aes_cbc(key.ek, transfer.iv or b"", transfer.data, False)
        pad = plain[-1]
        if 1 <= pad <= _BLOCK and plain.endswith(bytes((pad,)) * pad):
            return plain[:-pad]
    raise DecodeError("what was decrypted is no applData")


def _checked(plain: bytes) -> bytes:
    """What was decrypted is exactly one TLV of applData's classes."""
    reader = Reader(plain)
    try:
        tag = reader.next()
        reader.finish()
    except DecodeError:
        raise DecodeError("what was decrypted is no applData") from None
    if (
        plain != profile.NULL_APPL_DATA
        and plain[0] & 0xC0 != 0x80
        and tag not in (fields.APPL_DATA_TRANSFER_TAG, fields.APPL_DATA_HANDSHAKE_TAG)
    ):
        raise DecodeError("what was decrypted is no applData")
    return plain
