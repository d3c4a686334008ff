"""ClearTransfer and EncrTransfer in all modes: one sending and one receiving direction."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .secpdu import (
    HMAC_SHA256,
    NULL,
    Algorithm,
    algorithm,
    decode_algorithm,
    decode_dh,
    encode_algorithm,
    encode_dh,
    is_appl_data,
    meaning,
    time_digits,
)
from .tlv import Components, Fault, Tlv, bad, boolean, integer, only, read, read_integer, tlv, walk

SKEW_MS = 600_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Suite:
    """What was negotiated: aea is (OID, ICV length); otherwise encr is the CBC OID or None, and icv (OID, length)."""

    aea: tuple[str, int] | None = None
    encr: str | None = None
    icv: tuple[str, int] | None = None

    @property
    def aes_size(self) -> int:
        name = self.aea[0] if self.aea else self.encr
        return _aes_size(name) if name else 0

    @property
    def mac_size(self) -> int:
        if self.icv is None:
            return 0
        return 32 if self.icv[0] == HMAC_SHA256 else _aes_size(self.icv[0])

    @property
    def icv_len(self) -> int:
        return (self.aea or self.icv or ("", 0))[1]

    @property
    def icv_algorithm(self) -> Algorithm | None:
        return algorithm(*self.icv) if self.icv else None

    @property
    def mode(self) -> str:
        if self.aea:
            return "AE"
        mac = "HMAC" if self.icv and self.icv[0] == HMAC_SHA256 else "GMAC"
        return f"CBC_{mac}" if self.encr else mac


def _aes_size(name: str) -> int:
    return 16 if int(name.rpartition(".")[2]) < 40 else 32


def time_text(utc_ms: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=utc_ms)
    return f"{moment:%Y%m%d%H%M%S}.{moment.microsecond // 1000:03}Z"


def time_ms(text: str) -> int:
    """Milliseconds since 1970 of a TimeStamp; second 60 is the one after 59."""
    return digits_ms(time_digits(text))


def digits_ms(digits: str) -> int:
    days = date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])).toordinal() - _EPOCH.toordinal()
    seconds = int(digits[8:10]) * 3600 + int(digits[10:12]) * 60 + int(digits[12:14])
    return (days * 86_400 + seconds) * 1000 + int(digits[14:17])


class Sender:
    """One sending direction under one key; ``after`` continues nonce and (time, seq) of the one before."""

    def __init__(
        self, suite: Suite, asso_id: str, ik: bytes, ek: bytes, start_time: str, after: Sender | None = None
    ) -> None:
        self.suite = suite
        self.counter = after.counter if after else 0
        self.time = after.time if after else start_time
        self.seq = after.seq if after else -1
        self.count = 0
        self._asso_id = tlv(0x0C, asso_id.encode())
        self._ik = ik
        self._ek = ek
        self._gcm = AESGCM(ek if suite.aea else ik) if suite.aea or suite.mode.endswith("GMAC") else None
        self._algorithm = encode_algorithm(suite.icv_algorithm) if suite.icv_algorithm else b""

    def seal(
        self,
        appl_data: bytes,
        utc_ms: int,
        *,
        rekey: tuple[int, bytes] | None = None,
        req_rekey: bool = False,
        changed_key: bool = False,
        iv: bytes | None = None,
    ) -> bytes:
        """The SecPDU; ``iv`` fixes the one of a CBC mode."""
        suite = self.suite
        now = time_text(utc_ms)
        if now > self.time:
            self.time = now
            self.seq = 0
        else:
            self.seq += 1
        if suite.aea:
            iv = self._nonce()
        elif suite.encr:
            iv = iv or secrets.token_bytes(16)
        else:
            iv = None
        token = self._asso_id + tlv(0x18, self.time.encode()) + integer(self.seq)
        if iv:
            token += tlv(0x80, iv)
        if rekey:
            token += encode_dh(rekey, 0xA1)
        if req_rekey:
            token += b"\x82\x01\xff"
        if changed_key:
            token += b"\x83\x01\xff"
        self.count += 1
        if suite.aea:
            assert self._gcm is not None
            return tlv(0x30, tlv(0x30, tlv(0x30, token) + tlv(0x04, self._ae(iv or b"", appl_data, token))))
        if suite.encr:
            appl_data = tlv(0x04, _cbc(self._ek, iv or b"", appl_data))
        tbp = tlv(0x30, token) + appl_data
        if self._gcm is None:
            auth = self._algorithm + tlv(0x04, hmac.digest(self._ik, tbp, "sha256"))
        else:
            nonce = self._nonce()
            icv = self._gcm.encrypt(nonce, b"", tbp)[: suite.icv_len]
            auth = tlv(0x80, nonce) + self._algorithm + tlv(0x04, icv)
        return tlv(0x30, tlv(0x30, tbp) + tlv(0x30, auth))

    def _nonce(self) -> bytes:
        self.counter += 1
        return (self.counter - 1).to_bytes(12, "big")

    def _ae(self, nonce: bytes, plain: bytes, aad: bytes) -> bytes:
        assert self._gcm is not None
        cipher = self._gcm.encrypt(nonce, plain, aad)
        return cipher[: len(plain) + self.suite.icv_len]


def _cbc(key: bytes, iv: bytes, plain: bytes) -> bytes:
    pad = 16 - len(plain) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(plain + bytes([pad]) * pad) + encryptor.finalize()


class Opened(NamedTuple):
    appl_data: bytes | None  # None: NULL transfer
    rekey: tuple[int, bytes] | None
    req_rekey: bool
    changed_key: bool


class Window:
    """(time, seq) of one receiving direction; it continues across key changes."""

    def __init__(self, start_time: str) -> None:
        self.time = time_digits(start_time)
        self.seq = -1


class Receiver:
    """One receiving direction under one key."""

    def __init__(self, suite: Suite, asso_id: str, ik: bytes, ek: bytes, window: Window) -> None:
        self.suite = suite
        self.window = window
        self.count = 0
        self._asso_id = asso_id.encode()
        self._ik = ik
        self._ek = ek
        self._icv = meaning(suite.icv_algorithm) if suite.icv_algorithm else None
        self._algorithm = encode_algorithm(suite.icv_algorithm) if suite.icv_algorithm else b""
        self._gcm = AESGCM(ek if suite.aea else ik) if suite.aea or suite.mode.endswith("GMAC") else None

    def open(self, data: bytes, utc_ms: int) -> Opened:
        """Raises Fault with the failed check; nothing has changed then."""
        suite = self.suite
        outer = only(data)
        if outer.tag != 0x30:
            raise bad("not a transfer")
        tbp = read(outer.content, indefinite=True)
        if tbp.tag != 0x30:
            raise bad("tbp")
        after = outer.content[len(tbp.whole) :]
        auth = only(after) if after else None
        token = read(tbp.content, indefinite=True)
        if token.tag != 0x30:
            raise bad("token2")
        rest = list(walk(tbp.content[len(token.whole) :]))
        if not rest:
            raise bad("no applData")
        body = rest[0]
        encrypted = body.tag == 0x04
        if not encrypted and not is_appl_data(body.tag) and body.whole != NULL:
            raise bad("applData")
        parts = Components(token.content)
        asso_id = parts.take(0x0C).content
        time = time_digits(parts.take(0x18).content.decode("latin-1"))
        seq = read_integer(parts.take(0x02), 0, 2**31 - 1)
        iv = parts.maybe(0x80)
        item = parts.maybe(0xA1)
        rekey = decode_dh(item) if item else None
        item = parts.maybe(0x82)
        req_rekey = boolean(item) if item else False
        item = parts.maybe(0x83)
        changed_key = boolean(item) if item else False
        if any(item.whole[0] & 0xDF in (0x80, 0x81, 0x82, 0x83) for item in parts.left):
            raise bad("known component in a wrong place or form")
        nonce, algo, icv = _authenticator(auth.content, auth.tag) if auth else (None, None, b"")
        if not encrypted and auth is None:
            raise bad("no auth")
        agreed = algo is None or algo.whole == self._algorithm or meaning(decode_algorithm(algo)) == self._icv
        # Syntax is done; now the checks in the order of the specification.
        if encrypted != bool(suite.aea or suite.encr):
            raise Fault("wrong-kind")
        if suite.aea and (auth is not None or len(rest) > 1):
            raise bad("too much for AE")
        if not suite.aea and auth is None:
            raise bad("no auth")
        if asso_id != self._asso_id:
            raise Fault("asso-id")
        if suite.aea:
            if iv is None or len(iv.content) != 12:
                raise Fault("ae-iv-missing")
            plain = self._ae(iv.content, body.content, token.signed)
        else:
            if not agreed:
                raise Fault("icv-algorithm")
            if self._gcm is not None and (nonce is None or len(nonce) != 12):
                raise Fault("nonce-missing")
            if suite.encr and (iv is None or len(iv.content) != 16):
                raise Fault("iv-missing")
            self._check_icv(tbp.signed, nonce, icv)
            plain = _uncbc(self._ek, iv.content, body.content) if encrypted and iv else body.whole
        if encrypted:
            inner = only(plain)
            if not is_appl_data(inner.tag) and plain != NULL:
                raise bad("decrypted applData")
        window = self.window
        if abs(digits_ms(time) - utc_ms) > SKEW_MS or time < window.time:
            raise Fault("time")
        if time == window.time and seq <= window.seq:
            raise Fault("replay")
        if seq != (window.seq + 1 if time == window.time else 0):
            raise Fault("sequence")
        window.time, window.seq = time, seq
        self.count += 1
        return Opened(None if plain == NULL else plain, rekey, req_rekey, changed_key)

    def _ae(self, nonce: bytes, cipher: bytes, aad: bytes) -> bytes:
        size = len(cipher) - self.suite.icv_len
        if size < 0:
            raise Fault("icv")
        try:
            if self._gcm is not None and self.suite.icv_len == 16:
                return self._gcm.decrypt(nonce, cipher, aad)
            mode = modes.GCM(nonce, cipher[size:], min_tag_length=12)
            decryptor = Cipher(algorithms.AES(self._ek), mode).decryptor()
            decryptor.authenticate_additional_data(aad)
            return decryptor.update(cipher[:size]) + decryptor.finalize()
        except InvalidTag:
            raise Fault("icv") from None

    def _check_icv(self, tbp: bytes, nonce: bytes | None, icv: bytes) -> None:
        if len(icv) != self.suite.icv_len:
            raise Fault("icv")
        if self._gcm is None:
            wanted = hmac.digest(self._ik, tbp, "sha256")
        else:
            wanted = self._gcm.encrypt(nonce or b"", b"", tbp)[: self.suite.icv_len]
        if not hmac.compare_digest(icv, wanted):
            raise Fault("icv")


def _authenticator(content: bytes, tag: int) -> tuple[bytes | None, Tlv, bytes]:
    if tag != 0x30:
        raise bad("auth")
    parts = Components(content)
    nonce = parts.maybe(0x80)
    algo = parts.take(0x30)
    icv = parts.take(0x04).content
    parts.finish()
    return nonce.content if nonce else None, algo, icv


def _uncbc(key: bytes, iv: bytes, cipher: bytes) -> bytes:
    """Called only after the ICV verified."""
    if not cipher or len(cipher) % 16:
        raise bad("CBC length")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(iv)).decryptor()
    plain = decryptor.update(cipher) + decryptor.finalize()
    pad = plain[-1]
    if not 1 <= pad <= 16 or plain[-pad:] != bytes([pad]) * pad:
        raise bad("padding")
    return plain[:-pad]
