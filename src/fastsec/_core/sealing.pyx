"""SealGuard: one key, the sending direction."""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from fastsec._core.crypto cimport OPENSSL_cleanse, Secret, cbc_key, gcm_key, gcm_seal, hmac_key, random_into
from fastsec._core.moment cimport TIME, Moment, write_minute, write_seconds
from fastsec._core.params cimport (
    BLOCK,
    M_AE,
    M_CBC_HMAC,
    NONCE,
    GuardParams,
    Outgoing,
    key_slice,
    raise_library,
    take_start,
)
from fastsec._core.transfer cimport header_size, is_appl, put_header

from fastsec import limits
from fastsec._core.cursor import tlv
from fastsec.errors import LimitReached, LocalError

cdef int64_t MS_MAX = 253402300799999 - 60000  # 9999-12-31T23:58:59.999Z
cdef int64_t SEQ_MAX = limits.OUR_SEQ_MAX
cdef uint64_t MESSAGES_MAX = limits.OUR_MESSAGES_PER_KEY
cdef uint64_t MESSAGES_SOFT = limits.OUR_MESSAGES_PER_KEY_SOFT

cdef enum:
    APPL_MAX = (1 << 24) - 4096  # the whole PDU keeps lengths of three octets
    POOL = 1024


# --- IVs of CBC: RAND_bytes costs more than a short message, so 64 IVs are drawn at once --------------------------
cdef uint8_t pool[POOL]
cdef int pool_left = 0


def _forget_pool():
    """After fork the child must not use its parent's IVs."""
    global pool_left
    pool_left = 0
    OPENSSL_cleanse(pool, POOL)


os.register_at_fork(after_in_child=_forget_pool)


cdef int draw_iv(uint8_t *iv) except -1:
    global pool_left
    if pool_left == 0:
        if not random_into(pool, POOL):
            raise_library()
        pool_left = POOL
    pool_left -= BLOCK
    memcpy(iv, pool + pool_left, BLOCK)
    return 0


cdef int sealable(const uint8_t *appl, Py_ssize_t size) except -1:
    if size > APPL_MAX or not is_appl(appl, size):
        raise LocalError("appl_data must be one TLV of class CONTEXT or PRIVATE 0, or NULL")
    return 0


@cython.final
cdef class SealGuard:
    """Seals transfer PDUs of one sending direction under one key.

    Arguments:
        params: of the association.
        keys: key material; only copied into libcrypto's contexts, it may be wiped afterwards.
        ik: (offset, length) of the ICV key in keys; None in MODE_AE.
        ek: (offset, length) of the encryption key in keys; None in integrity modes.
        start_time: the time of this side's own ClearToken1, ``YYYYMMDDhhmmss.sssZ``.
        previous: the guard of the key before; nonce counter and (time, seq) continue from it.

    Attributes:
        req_rekey: while True every PDU carries reqRekey.
        changed_key: set to True, the next PDU carries changedKey; it is then False again.
        rekey: set to (group, public value), the next PDU carries it; it is then None again.
        count: PDUs sealed under this key.
        soft_limit: value of count from which ``due`` is True; 75 % of OUR_MESSAGES_PER_KEY at first.
    """

    def __cinit__(self, GuardParams params not None, Secret keys not None, tuple ik, tuple ek, *,
                  str start_time=None, SealGuard previous=None):
        cdef Moment moment
        cdef int mode = params.mode
        self.params = params
        self.mode = mode
        if mode == M_AE:
            self.gcm = gcm_key(key_slice(keys, ek, params.aes_key_size, "ek"), params.aes_key_size, True)
        else:
            if params.gmac:
                self.gcm = gcm_key(key_slice(keys, ik, params.mac_key_size, "ik"), params.mac_key_size, True)
            else:
                self.hmac = hmac_key(key_slice(keys, ik, params.mac_key_size, "ik"), params.mac_key_size)
            if params.encrypting:
                self.cbc = cbc_key(key_slice(keys, ek, params.aes_key_size, "ek"), params.aes_key_size, True)
        if previous is not None:
            self.outgoing = previous.outgoing
        else:
            take_start(start_time, &moment)
            if not 0 <= moment.ms <= MS_MAX:
                raise LocalError("start_time is outside the years 1970 to 9999")
            self.outgoing = Outgoing()
            self.outgoing.ms = moment.ms
        self.count = 0
        self.soft_limit = MESSAGES_SOFT
        self.plan_extra = None
        self.stamped_ms = self.stamped_minute = -1
        memcpy(self.token, params.head, params.head_size)
        self.token_size = params.head_size + TIME + 1
        self.token[self.token_size - 1] = 0x02
        self.alive = True
        assert self.keyed(), "a guard without the keys of its mode"
        assert self.token_size <= TOKEN_MAX, "a token longer than its buffer"

    cdef bint keyed(self) noexcept:
        """Whether there are exactly the contexts that mode and life call for; for assertions."""
        return ((self.gcm is not None) == (self.alive and (self.params.gmac or self.mode == M_AE))
                and (self.hmac is not None) == (self.alive and not self.params.gmac and self.mode != M_AE)
                and (self.cbc is not None) == (self.alive and self.params.encrypting and self.mode != M_AE))

    @property
    def due(self):
        """Whether a key update should be started: count has reached soft_limit."""
        return self.count >= self.soft_limit

    @property
    def last_time(self):
        """The time of the last PDU sealed in this direction, at first start_time; 19 characters."""
        cdef uint8_t text[TIME]
        write_minute(text, self.outgoing.ms // 60000)
        write_seconds(text + 12, <int>(self.outgoing.ms % 60000))
        return (<char *>text)[:TIME].decode("ascii")

    def wipe(self):
        """Destroy the keys. Sealing raises LocalError from now on."""
        self.alive = False
        self.hmac = None
        self.gcm = None
        self.cbc = None
        assert self.keyed(), "a wiped guard with a key"

    def seal(self, bytes appl_data not None, int64_t utc_ms):
        """Protect one applData.

        Arguments:
            appl_data: exactly one encoded TLV of class CONTEXT or PRIVATE 0 (an MMS PDU), or ``05 00`` (NULL).
            utc_ms: the present time; a clock that steps back is held at the last time sent.
        Returns: the SecPDU, ClearTransfer or EncrTransfer, in DER.
        Raises LocalError for other appl_data and after ``wipe``; LimitReached after OUR_MESSAGES_PER_KEY.
        """
        cdef Py_ssize_t size = PyBytes_GET_SIZE(appl_data)
        cdef const uint8_t *appl = <const uint8_t *>PyBytes_AS_STRING(appl_data)
        cdef Py_ssize_t total = self.plan(appl, size, utc_ms)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, total)
        self.write(<uint8_t *>PyBytes_AS_STRING(out), appl, size)
        return out

    cdef Py_ssize_t plan(self, const uint8_t *appl, Py_ssize_t size, int64_t utc_ms) except -1:
        """Choose (time, seq) and compute all sizes of the next PDU. Returns its size. Nothing is used up yet."""
        cdef Outgoing o = self.outgoing
        cdef Py_ssize_t token
        if not self.alive:
            raise LocalError("this guard has been wiped")
        sealable(appl, size)
        if utc_ms < 0 or utc_ms > MS_MAX:
            raise LocalError("utc_ms is outside the years 1970 to 9999")
        if self.count >= MESSAGES_MAX:
            raise LimitReached("OUR_MESSAGES_PER_KEY")
        if utc_ms > o.ms:
            self.plan_ms = utc_ms
            self.plan_seq = 0
        elif o.seq >= SEQ_MAX:
            self.plan_ms = o.ms + 1
            self.plan_seq = 0
        else:
            self.plan_ms = o.ms
            self.plan_seq = o.seq + 1
        self.plan_seq_size = (1 if self.plan_seq < 0x80 else 2 if self.plan_seq < 0x8000
                              else 3 if self.plan_seq < 0x800000 else 4)
        if self.rekey is not None or self.req_rekey or self.changed_key:
            self.plan_extra = self.extra_fields()
        else:
            self.plan_extra = None
        token = self.token_size + 1 + self.plan_seq_size
        if self.mode == M_AE:
            token += 2 + NONCE
            self.plan_data = size + self.params.icv_len
        elif self.mode >= M_CBC_HMAC:
            token += 2 + BLOCK
            self.plan_data = size + BLOCK - (size & (BLOCK - 1))
        else:
            self.plan_data = size
        if self.plan_extra is not None:
            token += PyBytes_GET_SIZE(self.plan_extra)
        self.plan_token = token
        self.plan_tbp = header_size(token) + token + self.plan_data
        if self.mode >= M_CBC_HMAC:
            self.plan_tbp += header_size(self.plan_data)
        self.plan_pdu = header_size(self.plan_tbp) + self.plan_tbp
        if self.mode != M_AE:
            self.plan_pdu += self.params.auth_size + self.params.icv_len
        assert 0 <= self.plan_seq <= SEQ_MAX, "seq out of range"
        assert self.plan_ms > o.ms or (self.plan_ms == o.ms and self.plan_seq == o.seq + 1), "(time, seq) out of order"
        assert size < token + size < self.plan_tbp < self.plan_pdu < 1 << 24, "sizes that do not add up"
        return header_size(self.plan_pdu) + self.plan_pdu

    cdef bytes extra_fields(self):
        """rekey, reqRekey and changedKey, those that are set."""
        cdef bytes extra = b""
        if self.rekey is not None:
            group, public = self.rekey
            if not 0 <= group < 1 << 31 or not isinstance(public, bytes) or len(public) > 1024:
                raise LocalError("rekey is (group, public value of at most 1024 octets)")
            extra = tlv(0xA1, tlv(0x02, int(group).to_bytes(int(group).bit_length() // 8 + 1, "big")) + tlv(0x04, public))
        if self.req_rekey:
            extra += b"\x82\x01\xff"
        if self.changed_key:
            extra += b"\x83\x01\xff"
        return extra

    cdef int stamp(self, int64_t ms) except -1:
        """Bring the prebuilt time to ms; digits are only formatted when they change."""
        cdef int64_t minute = ms // 60000
        cdef uint8_t *text = self.token + self.params.head_size
        if minute != self.stamped_minute:
            write_minute(text, minute)
            self.stamped_minute = minute
        write_seconds(text + 12, <int>(ms - minute * 60000))
        self.stamped_ms = ms
        return 0

    cdef uint8_t *write_head(self, uint8_t *out) noexcept:
        """From the PDU's first octet to the end of seq."""
        cdef int shift
        out = put_header(out, 0x30, self.plan_pdu)
        out = put_header(out, 0x30, self.plan_tbp)
        out = put_header(out, 0x30, self.plan_token)
        memcpy(out, self.token, self.token_size)
        out += self.token_size
        out[0] = <uint8_t>self.plan_seq_size
        out += 1
        shift = 8 * (<int>self.plan_seq_size - 1)
        while shift >= 0:
            out[0] = <uint8_t>(self.plan_seq >> shift)
            out += 1
            shift -= 8
        return out

    cdef int write(self, uint8_t *out, const uint8_t *appl, Py_ssize_t size) except -1:
        """Write the PDU that ``plan`` has just planned for the same applData; then (time, seq), nonce are used up."""
        cdef Outgoing o = self.outgoing
        cdef uint8_t nonce[NONCE]
        cdef uint8_t iv[BLOCK]
        cdef uint8_t last[BLOCK]
        cdef uint64_t counter = o.nonce
        cdef Py_ssize_t whole, rest, tbp_at
        cdef uint8_t *token
        cdef uint8_t *tbp
        cdef bint done = True
        cdef int i
        assert self.alive and self.keyed(), "a guard without the keys of its mode"
        assert self.plan_ms > o.ms or (self.plan_ms == o.ms and self.plan_seq == o.seq + 1), "(time, seq) out of order"
        assert self.count < MESSAGES_MAX, "a key used too often"
        if self.plan_ms != self.stamped_ms:
            self.stamp(self.plan_ms)
        nonce[0] = nonce[1] = nonce[2] = nonce[3] = 0
        for i in range(8):
            nonce[4 + i] = <uint8_t>(counter >> (56 - 8 * i))
        tbp_at = header_size(self.plan_pdu) + header_size(self.plan_tbp)
        token = out + tbp_at + header_size(self.plan_token)
        tbp = out + tbp_at
        out = self.write_head(out)
        assert out == token + self.token_size + 1 + self.plan_seq_size, "a head of another size than planned"
        if self.mode == M_AE:
            out = put_header(out, 0x80, NONCE)
            memcpy(out, nonce, NONCE)
            out += NONCE
        elif self.mode >= M_CBC_HMAC:
            draw_iv(iv)
            out = put_header(out, 0x80, BLOCK)
            memcpy(out, iv, BLOCK)
            out += BLOCK
        if self.plan_extra is not None:
            memcpy(out, PyBytes_AS_STRING(self.plan_extra), PyBytes_GET_SIZE(self.plan_extra))
            out += PyBytes_GET_SIZE(self.plan_extra)
        assert out == token + self.plan_token, "a token of another size than planned"
        if self.mode == M_AE:
            out = put_header(out, 0x04, self.plan_data)
            assert out + self.plan_data == tbp + self.plan_tbp, "a tbp of another size than planned"
            done = gcm_seal(self.gcm, nonce, token, self.plan_token, appl, size, out, out + size, self.params.icv_len)
        else:
            if self.mode >= M_CBC_HMAC:
                out = put_header(out, 0x04, self.plan_data)
                rest = size & (BLOCK - 1)
                whole = size - rest
                memcpy(last, appl + whole, rest)
                for i in range(<int>rest, BLOCK):
                    last[i] = <uint8_t>(BLOCK - rest)
                done = (self.cbc.start(iv) and (whole == 0 or self.cbc.update(appl, whole, out))
                        and self.cbc.update(last, BLOCK, out + whole))
                OPENSSL_cleanse(last, BLOCK)
            else:
                memcpy(out, appl, size)
            assert out + self.plan_data == tbp + self.plan_tbp, "a tbp of another size than planned"
            if done:
                self.write_auth(out + self.plan_data, tbp, nonce)
        if not done:
            raise_library()
        # All is done; from here on nothing can fail.
        assert o.nonce == counter and counter + 1 > counter, "a nonce counter that was moved"
        o.ms = self.plan_ms
        o.seq = self.plan_seq
        o.nonce = counter + 1
        self.count += 1
        if self.plan_extra is not None:
            self.rekey = None
            self.changed_key = False
        return 0

    cdef int write_auth(self, uint8_t *out, const uint8_t *tbp, uint8_t *nonce) except -1:
        """The Authenticator over the tbp that ends where it begins."""
        cdef GuardParams params = self.params
        cdef bint done
        memcpy(out, params.auth, params.auth_size)
        if self.params.gmac:
            memcpy(out + params.nonce_at, nonce, NONCE)
            done = gcm_seal(self.gcm, nonce, tbp, self.plan_tbp, NULL, 0, NULL, out + params.auth_size,
                            self.params.icv_len)
        else:
            done = self.hmac.compute(tbp, self.plan_tbp, out + params.auth_size)
        if not done:
            raise_library()
        return 0
