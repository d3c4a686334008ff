"""One key, one direction: seals and opens transfer SecPDUs (62351-4, ClearTransfer and EncrTransfer).

A guard owns the libcrypto contexts of its keys, made once. What outlives a key change, (time, seq) and the nonce
counter, is shared with the guard of the next key (``previous``). A key change is a new guard.

Opening has two ways with one verdict. ``fast`` knows only the one DER form that this package emits, without optional
fields, and says None to everything else; ``check`` is the full list of checks in the order of the specification
(section 6, Transfers) and the only place that names a fault. Both leave the guard as it was unless they accept.

Fastest use: not this module but ``osidata.OsiChannel``, which seals and opens in place inside its frames.
"""

import os

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from fastsec._core.crypto cimport (
    CRYPTO_memcmp,
    ERR_clear_error,
    OPENSSL_cleanse,
    Secret,
    cbc_key,
    gcm_key,
    gcm_open,
    gcm_seal,
    hmac_key,
    random_into,
)
from fastsec._core.cursor cimport TLV_OK, Tlv, fail, fail_tlv, tlv_header, tlv_read

from fastsec import limits, profile
from fastsec._core.crypto import LibraryError
from fastsec._core.cursor import encode_oid, tlv
from fastsec.errors import DecodeError, IntegrityError, LimitReached, LocalError, ReplayError
from fastsec.profile import DtDiag

MODE_HMAC = M_HMAC
MODE_GMAC = M_GMAC
MODE_CBC_HMAC = M_CBC_HMAC
MODE_CBC_GMAC = M_CBC_GMAC
MODE_AE = M_AE

cdef int64_t SKEW_MS = limits.SPEC_CLOCK_SKEW * 1000
cdef int64_t MS_MAX = 253402300799999 - 60000  # 9999-12-31T23:58:59.999Z
cdef int64_t SEQ_MAX = limits.OUR_SEQ_MAX
cdef uint64_t MESSAGES_MAX = limits.OUR_MESSAGES_PER_KEY
cdef uint64_t MESSAGES_SOFT = limits.OUR_MESSAGES_PER_KEY_SOFT
cdef bytes HMAC_OID = encode_oid(profile.HMAC_SHA256)
cdef int64_t DEFAULT_ICV_LEN = profile.ICV_LEN_DEFAULT

cdef enum:
    APPL_MAX = 1 << 24
    FAST_MIN = 64          # shorter PDUs take the full check; lets fast() read headers without bounds tests
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


cdef int raise_library() except -1:
    ERR_clear_error()
    raise LibraryError("libcrypto failed")


# --- time ---------------------------------------------------------------------------------------------------------
cdef inline int64_t days_before(int64_t year, int month, int day) noexcept nogil:
    """Days from 1970-01-01 to a date of the Gregorian calendar, years 0 .. 9999."""
    # Count years from March: the leap day is then the last day of a year, and 400 years have 146,097 days.
    cdef int64_t y = year + 400 - (1 if month <= 2 else 0)
    cdef int64_t m = (month + 9) % 12
    return 365 * y + y // 4 - y // 100 + y // 400 + (153 * m + 2) // 5 + day - 1 - 146097 - 719468


cdef inline int two(const uint8_t *p) noexcept nogil:
    """Two decimal digits; negative if either is none."""
    cdef int high = p[0] - 48
    cdef int low = p[1] - 48
    if high < 0 or high > 9 or low < 0 or low > 9:
        return -1
    return 10 * high + low


cdef bint read_time(const uint8_t *p, Py_ssize_t size, Moment *out) noexcept nogil:
    """Read a GeneralizedTime in UTC with seconds and 0 to 9 fraction digits. Returns whether it is one."""
    cdef int century, year, month, day, hour, minute, second, month_days
    cdef int64_t nanos = 0
    cdef Py_ssize_t i
    if size < 15 or size > TIME_MAX or p[size - 1] != c"Z":
        return False
    century = two(p)
    year = two(p + 2)
    month = two(p + 4)
    day = two(p + 6)
    hour = two(p + 8)
    minute = two(p + 10)
    second = two(p + 12)
    if (century | year | month | day | hour | minute | second) < 0:
        return False
    year += 100 * century
    if month < 1 or month > 12 or hour > 23 or minute > 59 or second > 60:
        return False
    if month == 2:
        month_days = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    else:
        month_days = 30 if month in (4, 6, 9, 11) else 31
    if day < 1 or day > month_days:
        return False
    if size > 15:
        # A dot or comma and at least one digit, at most nine.
        if size < 17 or (p[14] != c"." and p[14] != c","):
            return False
        for i in range(15, size - 1):
            if p[i] < 48 or p[i] > 57:
                return False
            nanos = 10 * nanos + (p[i] - 48)
        for i in range(size - 16, 9):
            nanos *= 10
    out.digits = ((((<int64_t>year * 100 + month) * 100 + day) * 100 + hour) * 100 + minute) * 100 + second
    out.nanos = nanos
    out.ms = (((days_before(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000 + nanos // 1000000
    return True


cdef inline void put_two(uint8_t *p, int value) noexcept nogil:
    p[0] = <uint8_t>(48 + value // 10)
    p[1] = <uint8_t>(48 + value % 10)


cdef void write_minute(uint8_t *p, int64_t minutes) noexcept nogil:
    """The twelve digits YYYYMMDDhhmm of a minute counted from 1970."""
    cdef int64_t days = minutes // 1440
    cdef int of_day = <int>(minutes % 1440)
    cdef int64_t z = days + 719468
    cdef int64_t era = z // 146097
    cdef int doe = <int>(z - era * 146097)
    cdef int yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    cdef int doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    cdef int mp = (5 * doy + 2) // 153
    cdef int month = mp + 3 if mp < 10 else mp - 9
    cdef int year = <int>(yoe + era * 400) + (1 if month <= 2 else 0)
    put_two(p, year // 100)
    put_two(p + 2, year % 100)
    put_two(p + 4, month)
    put_two(p + 6, doy - (153 * mp + 2) // 5 + 1)
    put_two(p + 8, of_day // 60)
    put_two(p + 10, of_day % 60)


cdef inline void write_seconds(uint8_t *p, int of_minute) noexcept nogil:
    """The seven characters ss.sssZ of a millisecond of a minute."""
    cdef int ms = of_minute % 1000
    put_two(p, of_minute // 1000)
    p[2] = c"."
    p[3] = <uint8_t>(48 + ms // 100)
    put_two(p + 4, ms % 100)
    p[6] = c"Z"


cdef inline bint later(const Moment *a, const Moment *b) noexcept nogil:
    return a.digits > b.digits or (a.digits == b.digits and a.nanos > b.nanos)


cdef inline bint in_window(int64_t ms, int64_t utc_ms) noexcept nogil:
    return -SKEW_MS <= ms - utc_ms <= SKEW_MS


# --- applData ---------------------------------------------------------------------------------------------------
cdef inline bint is_appl_tag(uint8_t octet) noexcept nogil:
    """CONTEXT class, or PRIVATE 0 (the rule that finds applData in a tbp)."""
    return octet & 0xC0 == 0x80 or octet & 0xDF == 0xC0


cdef inline bint is_null(const uint8_t *p, Py_ssize_t size) noexcept nogil:
    return size == 2 and p[0] == 0x05 and p[1] == 0x00


cdef inline bint is_appl(const uint8_t *p, Py_ssize_t size) noexcept nogil:
    """Whether the octets are exactly one applData TLV, or the NULL."""
    cdef Tlv t
    if size < 2:
        return False
    if not is_appl_tag(p[0]):
        return is_null(p, size)
    return tlv_header(p, 0, size, &t) == TLV_OK and t.after == size


# --- parsing a received PDU ---------------------------------------------------------------------------------------
cdef int read_at(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, bint indefinite, Tlv *t, str step) except -1:
    cdef int status = tlv_read(p, pos, end, indefinite, t)
    if status != TLV_OK:
        fail_tlv(status, pos, step)
    return 0


cdef int want(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, int tag, bint indefinite, Tlv *t, str step) except -1:
    if pos >= end:
        fail(f"tag {tag:02X} missing at the end", step)
    read_at(p, pos, end, indefinite, t, step)
    if t.tag != <unsigned int>tag:
        fail(f"tag {tag:02X} wanted, {t.tag:02X} found (octet {pos})", step)
    return 0


cdef int64_t small_integer(const uint8_t *p, const Tlv *t, str step) except -1:
    """The value of an INTEGER 0 .. 2**31 - 1."""
    cdef int64_t value = 0
    cdef Py_ssize_t i
    if not 1 <= t.stop - t.start <= 8 or p[t.start] & 0x80:
        fail("INTEGER out of range", step)
    for i in range(t.start, t.stop):
        value = value << 8 | p[i]
        if value > 0x7FFFFFFF:
            fail("INTEGER out of range", step)
    return value


cdef bint boolean(const uint8_t *p, const Tlv *t, str step) except -1:
    if t.stop - t.start != 1:
        fail("BOOLEAN of other than one octet", step)
    return p[t.start] != 0


cdef int parse_algorithm(const uint8_t *p, Py_ssize_t start, Py_ssize_t stop, Parts *x) except -1:
    """The content of an AlgorithmIdentifier: OID; parameters absent, NULL, or those of GCM (RFC 5084)."""
    cdef Tlv t
    cdef Tlv inner
    cdef Py_ssize_t pos
    cdef str step = "Transfer.auth.algorithm"
    want(p, start, stop, 0x06, False, &t, step)
    x.oid = p + t.start
    x.oid_size = t.stop - t.start
    x.icv_params = False
    x.icv_len = DEFAULT_ICV_LEN
    if t.after == stop:
        return 0
    read_at(p, t.after, stop, False, &t, step)
    if t.after != stop:
        fail("octets after the parameters", step)
    if t.tag == 0x05:
        if t.start != t.stop:
            fail("NULL with content", step)
        return 0
    x.icv_params = True
    if t.tag != 0x30:
        # Parameters of an algorithm this guard does not know: the comparison with the agreed one will fail.
        x.icv_len = -1
        return 0
    want(p, t.start, t.stop, 0x04, False, &inner, step)
    pos = inner.after
    if pos < t.stop:
        want(p, pos, t.stop, 0x02, False, &inner, step)
        x.icv_len = small_integer(p, &inner, step)
        if inner.after != t.stop:
            fail("octets after aes-ICVlen", step)
    return 0


cdef int parse_token(const uint8_t *p, Py_ssize_t start, Py_ssize_t stop, Parts *x) except -1:
    """The content of a ClearToken2."""
    cdef Tlv t
    cdef Tlv inner
    cdef Py_ssize_t pos
    cdef unsigned int known
    cdef str step = "Transfer.tbp.token2"
    want(p, start, stop, 0x0C, False, &t, "Transfer.tbp.token2.assoID")
    x.asso = p + t.start
    x.asso_size = t.stop - t.start
    want(p, t.after, stop, 0x18, False, &t, "Transfer.tbp.token2.time")
    x.time = p + t.start
    x.time_size = t.stop - t.start
    if not read_time(x.time, x.time_size, &x.moment):
        fail("not a time of the agreed form", "Transfer.tbp.token2.time")
    want(p, t.after, stop, 0x02, False, &t, "Transfer.tbp.token2.seq")
    x.seq = small_integer(p, &t, "Transfer.tbp.token2.seq")
    pos = t.after
    known = 0
    while pos < stop:
        read_at(p, pos, stop, False, &t, step)
        pos = t.after
        # Known fields come in their order and once; what follows them may be anything else.
        if t.tag == 0x80 and known < 1:
            known = 1
            x.iv = p + t.start
            x.iv_size = t.stop - t.start
        elif t.tag == 0xA1 and known < 2:
            known = 2
            want(p, t.start, t.stop, 0x02, False, &inner, "Transfer.tbp.token2.rekey.group")
            x.group = small_integer(p, &inner, "Transfer.tbp.token2.rekey.group")
            want(p, inner.after, t.stop, 0x04, False, &inner, "Transfer.tbp.token2.rekey.publicKey")
            x.rekey = p + inner.start
            x.rekey_size = inner.stop - inner.start
            if inner.after != t.stop:
                fail("octets after publicKey", "Transfer.tbp.token2.rekey")
        elif t.tag == 0x82 and known < 3:
            known = 3
            x.req_rekey = boolean(p, &t, "Transfer.tbp.token2.reqRekey")
        elif t.tag == 0x83 and known < 4:
            known = 4
            x.changed_key = boolean(p, &t, "Transfer.tbp.token2.changedKey")
        elif p[t.first] & 0xDF in (0x80, 0x81, 0x82, 0x83):
            fail(f"tag {t.tag:02X} not allowed here (octet {t.first})", step)
        else:
            known = 5
            x.unknown = True
    return 0


cdef int parse(const uint8_t *p, Py_ssize_t size, Parts *x) except -1:
    """Take a transfer SecPDU apart; DecodeError where it breaks its syntax (62351-4, clear and encrypted transfer)."""
    cdef Tlv pdu
    cdef Tlv tbp
    cdef Tlv t
    cdef Tlv auth
    x.iv = x.rekey = x.nonce = x.icv = x.oid = NULL
    x.iv_size = x.rekey_size = x.nonce_size = x.icv_size = x.oid_size = 0
    x.group = x.icv_len = 0
    x.req_rekey = x.changed_key = x.unknown = x.auth = x.icv_params = False
    want(p, 0, size, 0x30, False, &pdu, "Transfer")
    if pdu.after != size:
        fail("octets after the PDU", "Transfer")
    want(p, pdu.start, pdu.stop, 0x30, True, &tbp, "Transfer.tbp")
    x.tbp = p + tbp.start
    x.tbp_size = tbp.after - tbp.start
    want(p, tbp.start, tbp.stop, 0x30, True, &t, "Transfer.tbp.token2")
    x.token = p + t.start
    x.token_size = t.after - t.start
    parse_token(p, t.start, t.stop, x)
    if t.after >= tbp.stop:
        fail("applData missing", "Transfer.tbp.applData")
    read_at(p, t.after, tbp.stop, False, &t, "Transfer.tbp.applData")
    if t.tag == 0x04:
        x.encrypted = True
        x.data = p + t.start
        x.data_size = t.stop - t.start
    else:
        x.encrypted = False
        x.data = p + t.first
        x.data_size = t.after - t.first
        if not is_appl_tag(p[t.first]) and not is_null(x.data, x.data_size):
            fail(f"tag {t.tag:02X} is no applData", "Transfer.tbp.applData")
    x.data_followed = t.after != tbp.stop
    if x.data_followed:
        x.unknown = True
        while t.after < tbp.stop:
            read_at(p, t.after, tbp.stop, False, &t, "Transfer.tbp")
    if tbp.after == pdu.stop:
        if not x.encrypted:
            fail("auth missing", "ClearTransfer.auth")
        return 0
    x.auth = True
    want(p, tbp.after, pdu.stop, 0x30, False, &auth, "Transfer.auth")
    if auth.after != pdu.stop:
        fail("octets after auth", "Transfer")
    read_at(p, auth.start, auth.stop, False, &t, "Transfer.auth")
    if t.tag == 0x80:
        x.nonce = p + t.start
        x.nonce_size = t.stop - t.start
        read_at(p, t.after, auth.stop, False, &t, "Transfer.auth")
    if t.tag != 0x30:
        fail("algorithm missing", "Transfer.auth.algorithm")
    parse_algorithm(p, t.start, t.stop, x)
    want(p, t.after, auth.stop, 0x04, False, &t, "Transfer.auth.icv")
    x.icv = p + t.start
    x.icv_size = t.stop - t.start
    if t.after != auth.stop:
        fail("octets after icv", "Transfer.auth")
    return 0


cdef int is_flagged(const uint8_t *p, Py_ssize_t size) except -1:
    cdef Parts x
    parse(p, size, &x)
    return x.rekey is not NULL or x.req_rekey or x.changed_key


def scan_transfer(bytes secpdu not None):
    """Look at a transfer SecPDU without verifying anything, to choose the key for it.

    Returns: (kind, has_rekey, req_rekey, changed_key); kind 0 = ClearTransfer, 1 = EncrTransfer.
    Raises DecodeError (check ``protocol-error``) if it breaks its syntax.
    """
    cdef Parts x
    parse(<const uint8_t *>PyBytes_AS_STRING(secpdu), PyBytes_GET_SIZE(secpdu), &x)
    return (1 if x.encrypted else 0, x.rekey is not NULL, bool(x.req_rekey), bool(x.changed_key))


# --- parameters ---------------------------------------------------------------------------------------------------
@cython.final
cdef class GuardParams:
    """What all guards of one association have in common; immutable, one object for all of them.

    Arguments:
        mode: MODE_HMAC or MODE_GMAC (ClearTransfer), MODE_CBC_HMAC or MODE_CBC_GMAC (EncrTransfer with
            Authenticator), MODE_AE (EncrTransfer, AES-GCM).
        asso_id: ``n:m``, at most 7 characters; compared as a string.
        icv_algorithm: DER AlgorithmIdentifier for the Authenticator; ``b""`` in MODE_AE.
        icv_len: octets of the ICV: 32 for HMAC-SHA256, 12 .. 16 for GMAC and AE.
        aes_key_size: octets of the encryption key, 16 or 32; 0 in integrity modes.
        mac_key_size: octets of the ICV key: 32 for HMAC, 16 or 32 for GMAC, 0 in MODE_AE.
    Raises LocalError where these do not fit together.
    """

    def __cinit__(self, int mode, str asso_id not None, bytes icv_algorithm not None, int icv_len, int aes_key_size,
                  int mac_key_size):
        cdef bytes asso = asso_id.encode("utf-8")
        cdef Py_ssize_t size = PyBytes_GET_SIZE(asso)
        cdef Parts x
        if not 0 <= mode <= 4:
            raise LocalError("GuardParams: unknown mode")
        if not 1 <= size <= 7:
            raise LocalError("GuardParams: asso_id has 1 to 7 octets")
        self.mode = mode
        self.asso_id = asso_id
        self.icv_algorithm = icv_algorithm
        self.icv_len = icv_len
        self.aes_key_size = aes_key_size
        self.mac_key_size = mac_key_size
        self.encrypting = mode >= M_CBC_HMAC
        self.gmac = mode == M_GMAC or mode == M_CBC_GMAC
        self.asso = asso
        self.head[0] = 0x0C
        self.head[1] = <uint8_t>size
        memcpy(self.head + 2, PyBytes_AS_STRING(asso), size)
        self.head[2 + size] = 0x18
        self.head[3 + size] = TIME
        self.head_size = 4 + size
        if (aes_key_size not in (16, 32)) if self.encrypting else aes_key_size != 0:
            raise LocalError("GuardParams: aes_key_size does not fit the mode")
        if mode == M_AE:
            if mac_key_size or icv_algorithm or not 12 <= icv_len <= 16:
                raise LocalError("GuardParams: AE has no ICV key or algorithm, and an ICV of 12 to 16 octets")
            self.icv_oid = b""
            return
        if PyBytes_GET_SIZE(icv_algorithm) > limits.OUR_ALGORITHM_ID_MAX:
            raise LocalError("GuardParams: icv_algorithm is too long")
        try:
            self.icv_oid = read_algorithm(icv_algorithm, &x)
        except DecodeError:
            self.icv_oid = None
        if self.icv_oid is None:
            raise LocalError("GuardParams: icv_algorithm is not an AlgorithmIdentifier")
        if self.gmac:
            if mac_key_size not in (16, 32) or not 12 <= icv_len <= 16 or x.icv_len != icv_len:
                raise LocalError("GuardParams: GMAC has a key of 16 or 32 and the algorithm's ICV of 12 to 16 octets")
        elif mac_key_size != HMAC_SIZE or icv_len != HMAC_SIZE or self.icv_oid != HMAC_OID or x.icv_params:
            raise LocalError("GuardParams: HMAC-SHA256 has key and ICV of 32 octets and no parameters")


cdef bytes read_algorithm(bytes algorithm, Parts *x):
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(algorithm)
    cdef Tlv t
    want(p, 0, PyBytes_GET_SIZE(algorithm), 0x30, False, &t, "AlgorithmIdentifier")
    if t.after != PyBytes_GET_SIZE(algorithm):
        fail("octets after the AlgorithmIdentifier", "AlgorithmIdentifier")
    parse_algorithm(p, t.start, t.stop, x)
    return x.oid[:x.oid_size]


cdef const uint8_t *key_slice(Secret keys, tuple where, int size, str name) except NULL:
    """The place of one key in the key material, checked."""
    cdef Py_ssize_t offset, length
    if where is None:
        raise LocalError(f"this mode needs {name}")
    offset, length = where
    keys.check()
    if length != size or offset < 0 or offset > keys.size - length:
        raise LocalError(f"{name} must be {size} octets within the key material")
    return keys.p + offset


@cython.final
cdef class Outgoing:
    """(time, seq) and nonce counter of one sending direction."""

    def __cinit__(self):
        self.ms = 0
        self.seq = -1
        self.nonce = 0


@cython.final
cdef class Window:
    """Last accepted (time, seq) of one receiving direction."""

    def __cinit__(self):
        self.moment.digits = self.moment.nanos = self.moment.ms = 0
        self.seq = -1
        self.text_size = 0


cdef int sealable(const uint8_t *appl, Py_ssize_t size) except -1:
    if size > APPL_MAX or not is_appl(appl, size):
        raise LocalError("appl_data must be one TLV of class CONTEXT or PRIVATE 0, or NULL")
    return 0


cdef Py_ssize_t build_auth(GuardParams params, uint8_t *auth, Py_ssize_t *nonce_at) except -1:
    """Prebuild the Authenticator up to its ICV, with the place of the nonce left open. Returns its size, 0 for AE."""
    cdef bytes algorithm = params.icv_algorithm
    cdef Py_ssize_t size = PyBytes_GET_SIZE(algorithm)
    cdef uint8_t *p = auth
    nonce_at[0] = 0
    if params.mode == M_AE:
        return 0
    p = put_header(p, 0x30, (2 + NONCE if params.gmac else 0) + size + 2 + params.icv_len)
    if params.gmac:
        p = put_header(p, 0x80, NONCE)
        nonce_at[0] = p - auth
        p += NONCE
    memcpy(p, PyBytes_AS_STRING(algorithm), size)
    return put_header(p + size, 0x04, params.icv_len) - auth


cdef int take_start(str start_time, Moment *moment) except -1:
    cdef bytes text
    if start_time is None:
        raise LocalError("a guard needs start_time or previous")
    text = start_time.encode("utf-8")
    if not read_time(<const uint8_t *>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), moment):
        raise LocalError("start_time is not a GeneralizedTime with seconds in UTC")
    return 0


# --- sealing ------------------------------------------------------------------------------------------------------
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
        self.auth_size = build_auth(params, self.auth, &self.nonce_at)
        self.alive = True

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
            self.plan_pdu += self.auth_size + self.params.icv_len
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
        if self.plan_ms != self.stamped_ms:
            self.stamp(self.plan_ms)
        nonce[0] = nonce[1] = nonce[2] = nonce[3] = 0
        for i in range(8):
            nonce[4 + i] = <uint8_t>(counter >> (56 - 8 * i))
        tbp_at = header_size(self.plan_pdu) + header_size(self.plan_tbp)
        token = out + tbp_at + header_size(self.plan_token)
        tbp = out + tbp_at
        out = self.write_head(out)
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
        if self.mode == M_AE:
            out = put_header(out, 0x04, self.plan_data)
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
            if done:
                self.write_auth(out + self.plan_data, tbp, nonce)
        if not done:
            raise_library()
        # All is done; from here on nothing can fail.
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
        cdef bint done
        memcpy(out, self.auth, self.auth_size)
        if self.params.gmac:
            memcpy(out + self.nonce_at, nonce, NONCE)
            done = gcm_seal(self.gcm, nonce, tbp, self.plan_tbp, NULL, 0, NULL, out + self.auth_size,
                            self.params.icv_len)
        else:
            done = self.hmac.compute(tbp, self.plan_tbp, out + self.auth_size)
        if not done:
            raise_library()
        return 0


# --- opening ------------------------------------------------------------------------------------------------------
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
        self.auth_size = build_auth(params, self.auth, &self.nonce_at)
        self.alive = True

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
        cdef Opened opened = self.check(<const uint8_t *>PyBytes_AS_STRING(secpdu), PyBytes_GET_SIZE(secpdu), utc_ms)
        self.commit()
        return opened

    cdef Opened check(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms):
        """All checks in their order (62351-4, section 6 Transfers of the notes in docs). Nothing is taken over yet."""
        cdef Parts x
        cdef Opened opened
        cdef bytes appl
        cdef Window w = self.window
        cdef str kind
        if not self.alive:
            raise LocalError("this guard has been wiped")
        parse(p, size, &x)
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
        if p[0] != 0x30 or quick_length(p, &pos) != size - pos or p[pos] != 0x30:
            return None
        pos += 1
        length = quick_length(p, &pos)
        tbp = pos
        tbp_stop = pos + length
        if length < 48 or p[pos] != 0x30:
            return None
        if self.mode == M_AE:
            if tbp_stop != size:
                return None
        elif tbp_stop != size - self.auth_size - params.icv_len:
            return None
        pos += 1
        length = quick_length(p, &pos)
        token = pos
        token_stop = pos + length
        k = length - params.head_size - TIME - 2 - (2 + NONCE if self.mode == M_AE else 0)
        if not 1 <= k <= 4 or token_stop > tbp_stop - 4:
            return None
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
            length = quick_length(p, &pos) - params.icv_len
            if length < 2 or pos + length + params.icv_len != tbp_stop:
                return None
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
            if params.gmac:
                if (memcmp(auth, self.auth, self.nonce_at) != 0
                        or memcmp(auth + self.nonce_at + NONCE, self.auth + self.nonce_at + NONCE,
                                  self.auth_size - self.nonce_at - NONCE) != 0
                        or not gcm_open(self.gcm, auth + self.nonce_at, p + tbp, tbp_stop - tbp, NULL, 0, NULL,
                                        auth + self.auth_size, params.icv_len)):
                    ERR_clear_error()
                    return None
            else:
                if (memcmp(auth, self.auth, self.auth_size) != 0
                        or not self.hmac.compute(p + tbp, tbp_stop - tbp, mac)
                        or CRYPTO_memcmp(mac, auth + self.auth_size, HMAC_SIZE) != 0):
                    ERR_clear_error()
                    return None
            out = PyBytes_FromStringAndSize(<const char *>p + pos, length)
        if not same:
            w.moment = moment
            memcpy(w.text, time, TIME)
            w.text_size = TIME
        w.seq = seq
        self.count += 1
        return out


cdef bytes shrunk(bytes octets, const uint8_t *p, Py_ssize_t size):
    cdef bytes out = PyBytes_FromStringAndSize(<const char *>p, size)
    OPENSSL_cleanse(<void *>p, PyBytes_GET_SIZE(octets))
    return out
