"""OpenGuard: one key, the receiving direction.

Opening has two ways with one verdict. ``fast`` knows only the one DER form that SealGuard emits, without optional
fields, and says None to everything else; ``check`` is the full list of checks in the order of the specification
(section 6, Transfers) and the only place that names a fault. Both leave the guard as it was unless they accept.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcmp, memcpy

from fastsec._core.crypto cimport (
    CRYPTO_memcmp,
    ERR_clear_error,
    OPENSSL_cleanse,
    Secret,
    cbc_key,
    gcm_key,
    gcm_open,
    hmac_key,
)
from fastsec._core.cursor cimport fail
from fastsec._core.moment cimport TIME, TIME_MAX, Moment, later, read_time
from fastsec._core.params cimport (
    BLOCK,
    HMAC_SIZE,
    M_AE,
    M_CBC_GMAC,
    M_CBC_HMAC,
    NONCE,
    GuardParams,
    Window,
    key_slice,
    raise_library,
    take_start,
)
from fastsec._core.transfer cimport Parts, is_appl, is_appl_tag, is_null, parse, quick_stop

from fastsec import limits
from fastsec.errors import DecodeError, IntegrityError, LocalError, ReplayError
from fastsec.profile import DtDiag

cdef int64_t SKEW_MS = limits.SPEC_CLOCK_SKEW * 1000

cdef enum:
    FAST_MIN = 64          # shorter PDUs take the full check; lets fast() read headers without bounds tests


cdef inline bint in_window(int64_t ms, int64_t utc_ms) noexcept nogil:
    return -SKEW_MS <= ms - utc_ms <= SKEW_MS


@cython.final
cdef class Opened:
    """What a verified transfer PDU said.

    Attributes:
        appl_data: the encoded applData, None for a NULL transfer.
        rekey: (group, public value) or None; the value itself is unchecked.
        req_rekey, changed_key: the flags of ClearToken2.
        unknown: whether it held extensions that this package does not know; they were verified and ignored.
    """


@cython.final
cdef class OpenGuard:
    """Opens transfer PDUs of one receiving direction under one key.

    Arguments:
        params, keys, ik, ek: as for SealGuard; the keys of the peer's sending direction.
        start_time: the time of the PEER's ClearToken1 as received.
        previous: the guard of the key before; both work on the same (time, seq).

    Attributes:
        count: PDUs accepted under this key.
    """

    def __cinit__(self, GuardParams params not None, Secret keys not None, tuple ik, tuple ek, *,
                  str start_time=None, OpenGuard previous=None):
        cdef int mode = params.mode
        self.params = params
        self.mode = mode
        if mode == M_AE:
            self.gcm = gcm_key(key_slice(keys, ek, params.aes_key_size, "ek"), params.aes_key_size, False)
        else:
            if params.gmac:
                self.gcm = gcm_key(key_slice(keys, ik, params.mac_key_size, "ik"), params.mac_key_size, False)
            else:
                self.hmac = hmac_key(key_slice(keys, ik, params.mac_key_size, "ik"), params.mac_key_size)
            if params.encrypting:
                self.cbc = cbc_key(key_slice(keys, ek, params.aes_key_size, "ek"), params.aes_key_size, False)
        if previous is not None:
            self.window = previous.window
        else:
            self.window = Window()
            take_start(start_time, &self.window.moment)
        self.count = 0
        self.alive = True
        assert self.keyed(), "a guard without the keys of its mode"

    cdef bint keyed(self) noexcept:
        """Whether there are exactly the contexts that mode and life call for; for assertions."""
        return ((self.gcm is not None) == (self.alive and (self.params.gmac or self.mode == M_AE))
                and (self.hmac is not None) == (self.alive and not self.params.gmac and self.mode != M_AE)
                and (self.cbc is not None) == (self.alive and self.params.encrypting and self.mode != M_AE))

    @property
    def last_time(self):
        """The time of the last accepted PDU of this direction as its 14 + 9 digits; at first that of start_time."""
        return f"{self.window.moment.digits:014d}{self.window.moment.nanos:09d}"

    def wipe(self):
        """Destroy the keys. Opening raises LocalError from now on."""
        self.alive = False
        self.hmac = None
        self.gcm = None
        self.cbc = None
        assert self.keyed(), "a wiped guard with a key"

    def open(self, bytes secpdu not None, int64_t utc_ms):
        """Verify one transfer SecPDU and take its applData out.

        Arguments:
            secpdu: ClearTransfer or EncrTransfer as received, whole.
            utc_ms: the present time.
        Raises, in the order of the checks, with ``check`` and nothing changed in the guard:
            DecodeError ``protocol-error`` (syntax), ``wrong-kind``, ``asso-id``;
            IntegrityError ``icv-algorithm``; DecodeError ``nonce-missing``, ``iv-missing``, ``ae-iv-missing``;
            IntegrityError ``icv``; DecodeError ``protocol-error`` (what was decrypted is no applData);
            ReplayError ``time``, ``replay``, ``sequence``. LocalError after ``wipe``.
        """
        cdef Opened opened = self.check(<const uint8_t *>PyBytes_AS_STRING(secpdu), PyBytes_GET_SIZE(secpdu), utc_ms,
                                          True)
        self.commit()
        return opened

    cdef Opened check(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms, bint any_field):
        """All checks in the order of 62351-4 for transfers. Nothing is taken over yet.

        Unless any_field is True the answer to a PDU with rekey, reqRekey or changedKey is None, before any check:
        it may be under another key, and only the engine can tell.
        """
        cdef Parts x
        cdef Opened opened
        cdef bytes appl
        cdef Window w = self.window
        cdef str kind
        if not self.alive:
            raise LocalError("this guard has been wiped")
        assert self.keyed(), "a guard without the keys of its mode"
        parse(p, size, &x)
        if not any_field and (x.rekey is not NULL or x.req_rekey or x.changed_key):
            return None
        kind = "EncrTransfer" if x.encrypted else "ClearTransfer"
        # kind
        if x.encrypted != self.params.encrypting:
            raise DecodeError(f"{kind} where the other kind was agreed", check="wrong-kind", step=kind,
                              code=DtDiag.ENCRYPTION_NOT_SELECTED if x.encrypted else DtDiag.ENCRYPTION_REQUIRED)
        if self.mode == M_AE:
            if x.data_followed or x.auth:
                fail("octets after applData of an authenticated encryption", kind)
        elif not x.auth:
            fail("auth missing", f"{kind}.auth")
        # assoID
        if (x.asso_size != PyBytes_GET_SIZE(self.params.asso)
                or memcmp(x.asso, PyBytes_AS_STRING(self.params.asso), x.asso_size) != 0):
            raise DecodeError("assoID of another association", check="asso-id", step=f"{kind}.tbp.token2.assoID",
                              code=DtDiag.PROTOCOL_ERROR)
        self.check_algorithm(&x, kind)
        # ICV
        if self.mode == M_AE:
            appl = self.decrypt_ae(&x)
            if appl is None:
                raise IntegrityError("authenticated decryption failed", check="icv", step=f"{kind}.tbp.applData")
        else:
            if not self.verify(&x):
                raise IntegrityError("ICV is wrong", check="icv", step=f"{kind}.auth.icv")
            appl = self.decrypt(&x) if x.encrypted else x.data[:x.data_size]
        # Of a ClearTransfer parse() has judged the tag; what was hidden is judged now.
        if x.encrypted and (appl is None
                            or not is_appl(<const uint8_t *>PyBytes_AS_STRING(appl), PyBytes_GET_SIZE(appl))):
            fail("what was decrypted is no applData", f"{kind}.tbp.applData")
        # time
        if not in_window(x.moment.ms, utc_ms):
            raise ReplayError("time is off by more than 10 minutes", check="time", step=f"{kind}.tbp.token2.time",
                              code=DtDiag.INVALID_TIME_VALUE)
        if later(&w.moment, &x.moment):
            raise ReplayError("time goes backwards", check="time", step=f"{kind}.tbp.token2.time",
                              code=DtDiag.INVALID_TIME_VALUE)
        # (time, seq)
        if later(&x.moment, &w.moment):
            if x.seq != 0:
                raise ReplayError("seq does not begin with 0 at a new time", check="sequence",
                                  step=f"{kind}.tbp.token2.seq", code=DtDiag.INVALID_SEQUENCE_NUMBER)
        elif x.seq <= w.seq:
            raise ReplayError("PDU was received before", check="replay", step=f"{kind}.tbp.token2.seq")
        elif x.seq != w.seq + 1:
            raise ReplayError("PDUs are missing or out of order", check="sequence",
                              step=f"{kind}.tbp.token2.seq", code=DtDiag.INVALID_SEQUENCE_NUMBER)
        opened = Opened.__new__(Opened)
        opened.appl_data = None if is_null(<const uint8_t *>PyBytes_AS_STRING(appl), PyBytes_GET_SIZE(appl)) else appl
        opened.rekey = None if x.rekey is NULL else (x.group, x.rekey[:x.rekey_size])
        opened.req_rekey = x.req_rekey
        opened.changed_key = x.changed_key
        opened.unknown = x.unknown
        self.seen = x.moment
        self.seen_seq = x.seq
        memcpy(self.seen_text, x.time, x.time_size)
        self.seen_text_size = x.time_size
        return opened

    cdef int check_algorithm(self, Parts *x, str kind) except -1:
        """The Authenticator's algorithm equals the agreed one; nonce or IV are there. Parameters by RFC 5084: the
        ICV length counts, aes-nonce does not; absent and NULL are equal."""
        if self.mode != M_AE:
            if (x.oid_size != PyBytes_GET_SIZE(self.params.icv_oid)
                    or memcmp(x.oid, PyBytes_AS_STRING(self.params.icv_oid), x.oid_size) != 0
                    or (x.icv_len != self.params.icv_len if self.params.gmac else x.icv_params)):
                raise IntegrityError("algorithm differs from the agreed one", check="icv-algorithm",
                                     step=f"{kind}.auth.algorithm")
            if self.params.gmac and x.nonce_size != NONCE:
                raise DecodeError("GMAC needs a nonce of 12 octets", check="nonce-missing", step=f"{kind}.auth.nonce",
                                  code=DtDiag.GMAC_NONCE_REQUIRED)
        if self.mode == M_AE:
            if x.iv_size != NONCE:
                raise DecodeError("AE needs an IV of 12 octets", check="ae-iv-missing", step=f"{kind}.tbp.token2.iv",
                                  code=DtDiag.GMAC_INIT_VECTOR_REQUIRED)
        elif self.mode >= M_CBC_HMAC and x.iv_size != BLOCK:
            raise DecodeError("CBC needs an IV of 16 octets", check="iv-missing", step=f"{kind}.tbp.token2.iv",
                              code=DtDiag.AES_INIT_VECTOR_REQUIRED)
        return 0

    cdef int commit(self) except -1:
        """Take over (time, seq) of the PDU that check() accepted last."""
        assert self.alive, "an accepted PDU of a wiped guard"
        assert 15 <= self.seen_text_size <= TIME_MAX, "a time longer than its buffer"
        assert (self.seen_seq == 0 if later(&self.seen, &self.window.moment)
                else not later(&self.window.moment, &self.seen) and self.seen_seq == self.window.seq + 1), \
            "(time, seq) out of order"
        self.window.moment = self.seen
        self.window.seq = self.seen_seq
        memcpy(self.window.text, self.seen_text, self.seen_text_size)
        self.window.text_size = self.seen_text_size
        self.count += 1
        return 0

    cdef int verify(self, Parts *x) except -1:
        """Whether the ICV over the tbp is right; it has exactly the agreed length."""
        cdef uint8_t mac[HMAC_SIZE]
        cdef int same
        if x.icv_size != self.params.icv_len:
            return 0
        assert 12 <= x.icv_size <= HMAC_SIZE and (x.nonce_size == NONCE or not self.params.gmac), "ICV or nonce size"
        if self.params.gmac:
            if gcm_open(self.gcm, x.nonce, x.tbp, x.tbp_size, NULL, 0, NULL, x.icv, x.icv_size):
                return 1
            ERR_clear_error()
            return 0
        if not self.hmac.compute(x.tbp, x.tbp_size, mac):
            raise_library()
        same = CRYPTO_memcmp(mac, x.icv, HMAC_SIZE) == 0
        OPENSSL_cleanse(mac, HMAC_SIZE)
        return same

    cdef bytes decrypt_ae(self, Parts *x):
        """The plaintext, or None if it did not verify; then nothing of it is left."""
        cdef Py_ssize_t size = x.data_size - self.params.icv_len
        cdef bytes out
        cdef uint8_t *p
        if size < 0:
            return None
        out = PyBytes_FromStringAndSize(NULL, size)
        p = <uint8_t *>PyBytes_AS_STRING(out)
        if not gcm_open(self.gcm, x.iv, x.token, x.token_size, x.data, size, p, x.data + size, self.params.icv_len):
            OPENSSL_cleanse(p, size)
            ERR_clear_error()
            return None
        return out

    cdef bytes decrypt(self, Parts *x):
        """The plaintext of a CBC ciphertext whose ICV has verified, None if its length or padding is wrong."""
        cdef Py_ssize_t size = x.data_size
        cdef bytes out
        cdef uint8_t *p
        cdef uint8_t pad
        cdef Py_ssize_t i
        if size < BLOCK or size & (BLOCK - 1):
            return None
        out = PyBytes_FromStringAndSize(NULL, size)
        p = <uint8_t *>PyBytes_AS_STRING(out)
        if not self.cbc.start(x.iv) or not self.cbc.update(x.data, size, p):
            OPENSSL_cleanse(p, size)
            raise_library()
        pad = p[size - 1]
        if not 1 <= pad <= BLOCK:
            OPENSSL_cleanse(p, size)
            return None
        for i in range(size - pad, size):
            if p[i] != pad:
                OPENSSL_cleanse(p, size)
                return None
        assert size - BLOCK <= size - pad < size, "padding longer than a block"
        return shrunk(out, p, size - pad)

    cdef object fast(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms):
        """Open a PDU of exactly the form that SealGuard emits, without optional fields; None says nothing but
        "ask check()"."""
        cdef GuardParams params = self.params
        cdef Window w = self.window
        cdef Py_ssize_t pos = 1
        cdef Py_ssize_t length, tbp, tbp_stop, token, token_stop, k, i
        cdef const uint8_t *q
        cdef const uint8_t *time
        cdef const uint8_t *iv = NULL
        cdef const uint8_t *auth
        cdef int64_t seq = 0
        cdef Moment moment
        cdef bint same
        cdef bytes out
        cdef uint8_t *plain
        cdef uint8_t mac[HMAC_SIZE]
        if not self.alive or size < FAST_MIN or self.mode == M_CBC_HMAC or self.mode == M_CBC_GMAC:
            return None
        # Headers. FAST_MIN makes the first three readable; every length is then held against what surrounds it.
        if p[0] != 0x30 or quick_stop(p, &pos) != size or p[pos] != 0x30:
            return None
        pos += 1
        tbp_stop = quick_stop(p, &pos)
        tbp = pos
        if tbp_stop - tbp < 48 or p[pos] != 0x30:
            return None
        if self.mode == M_AE:
            if tbp_stop != size:
                return None
        elif tbp_stop != size - params.auth_size - params.icv_len:
            return None
        pos += 1
        token_stop = quick_stop(p, &pos)
        token = pos
        k = token_stop - token - params.head_size - TIME - 2 - (2 + NONCE if self.mode == M_AE else 0)
        if not 1 <= k <= 4 or token_stop > tbp_stop - 4:
            return None
        assert 0 < tbp < token < token_stop < tbp_stop <= size, "parts of the PDU out of order"
        # ClearToken2
        if memcmp(p + token, params.head, params.head_size) != 0:
            return None
        time = p + token + params.head_size
        q = time + TIME
        if q[0] != 0x02 or q[1] != k or q[2] & 0x80:
            return None
        q += 2
        for i in range(k):
            seq = seq << 8 | q[i]
        q += k
        # (time, seq)
        if w.text_size == TIME and memcmp(time, w.text, TIME) == 0:
            same = True
            if seq != w.seq + 1 or not in_window(w.moment.ms, utc_ms):
                return None
        else:
            same = False
            if (seq != 0 or not read_time(time, TIME, &moment) or not later(&moment, &w.moment)
                    or not in_window(moment.ms, utc_ms)):
                return None
        pos = token_stop
        if self.mode == M_AE:
            if q[0] != 0x80 or q[1] != NONCE or p[pos] != 0x04:
                return None
            iv = q + 2
            pos += 1
            if quick_stop(p, &pos) != tbp_stop:
                return None
            length = tbp_stop - pos - params.icv_len
            if length < 2:
                return None
            assert 0 < pos and pos + length + params.icv_len == size, "a ciphertext outside its PDU"
            out = PyBytes_FromStringAndSize(NULL, length)
            plain = <uint8_t *>PyBytes_AS_STRING(out)
            if not (gcm_open(self.gcm, iv, p + token, token_stop - token, p + pos, length, plain, p + pos + length,
                             params.icv_len)
                    and is_appl_tag(plain[0]) and is_appl(plain, length)):
                OPENSSL_cleanse(plain, length)
                ERR_clear_error()
                return None
        else:
            length = tbp_stop - pos
            if not is_appl_tag(p[pos]) or not is_appl(p + pos, length):
                return None
            # The Authenticator up to the ICV must be as we would write it, but for the nonce.
            auth = p + tbp_stop
            assert 0 < pos < tbp_stop and tbp_stop + params.auth_size + params.icv_len == size, "ICV outside its PDU"
            if params.gmac:
                if (memcmp(auth, params.auth, params.nonce_at) != 0
                        or memcmp(auth + params.nonce_at + NONCE, params.auth + params.nonce_at + NONCE,
                                  params.auth_size - params.nonce_at - NONCE) != 0
                        or not gcm_open(self.gcm, auth + params.nonce_at, p + tbp, tbp_stop - tbp, NULL, 0, NULL,
                                        auth + params.auth_size, params.icv_len)):
                    ERR_clear_error()
                    return None
            else:
                if (memcmp(auth, params.auth, params.auth_size) != 0
                        or not self.hmac.compute(p + tbp, tbp_stop - tbp, mac)
                        or CRYPTO_memcmp(mac, auth + params.auth_size, HMAC_SIZE) != 0):
                    ERR_clear_error()
                    return None
            out = PyBytes_FromStringAndSize(<const char *>p + pos, length)
        assert (seq == w.seq + 1 if same else seq == 0 and later(&moment, &w.moment)), "(time, seq) out of order"
        if not same:
            w.moment = moment
            memcpy(w.text, time, TIME)
            w.text_size = TIME
        w.seq = seq
        self.count += 1
        return out


cdef bytes shrunk(bytes octets, const uint8_t *p, Py_ssize_t size):
    cdef bytes out = PyBytes_FromStringAndSize(<const char *>p, size)
    assert p == <const uint8_t *>PyBytes_AS_STRING(octets) and 0 <= size <= PyBytes_GET_SIZE(octets), "not its octets"
    OPENSSL_cleanse(<void *>p, PyBytes_GET_SIZE(octets))
    return out
