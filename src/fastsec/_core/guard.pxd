# C level of the guard, for osidata: plan and write for sealing, fast and check + commit for opening.
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from fastsec._core.crypto cimport CbcKey, GcmKey, HmacKey, Secret

cdef enum:
    M_HMAC = 0
    M_GMAC = 1
    M_CBC_HMAC = 2
    M_CBC_GMAC = 3
    M_AE = 4

cdef enum:
    NONCE = 12
    BLOCK = 16
    HMAC_SIZE = 32
    TIME = 19           # YYYYMMDDhhmmss.sssZ
    TIME_MAX = 25       # with nine fraction digits
    TOKEN_MAX = 48
    AUTH_MAX = 192


# A moment as the peer wrote it: order by (digits, nanos), window by ms.
cdef struct Moment:
    int64_t digits      # YYYYMMDDhhmmss as a number
    int64_t nanos       # the fraction, padded to nine digits
    int64_t ms          # milliseconds since 1970; second 60 is the next minute's second 0


# What a transfer SecPDU consists of; pointers go into the received octets, NULL = absent.
cdef struct Parts:
    const uint8_t *tbp
    Py_ssize_t tbp_size
    const uint8_t *token
    Py_ssize_t token_size
    const uint8_t *asso
    Py_ssize_t asso_size
    const uint8_t *time
    Py_ssize_t time_size
    Moment moment
    int64_t seq
    const uint8_t *iv
    Py_ssize_t iv_size
    int64_t group
    const uint8_t *rekey
    Py_ssize_t rekey_size
    bint req_rekey
    bint changed_key
    bint unknown
    bint encrypted
    const uint8_t *data          # applData: the TLV of a ClearTransfer, the content of an EncrTransfer
    Py_ssize_t data_size
    bint data_followed           # tbp holds more after applData
    bint auth
    const uint8_t *nonce
    Py_ssize_t nonce_size
    const uint8_t *oid
    Py_ssize_t oid_size
    bint icv_params              # the algorithm has parameters other than NULL
    int64_t icv_len              # aes-ICVlen of these, or its default
    const uint8_t *icv
    Py_ssize_t icv_size


@cython.final
cdef class GuardParams:
    cdef readonly int mode
    cdef readonly str asso_id
    cdef readonly bytes icv_algorithm
    cdef readonly int icv_len
    cdef readonly int aes_key_size
    cdef readonly int mac_key_size
    cdef bint encrypting
    cdef bint gmac               # the ICV is a GMAC
    cdef bytes asso              # UTF-8 of asso_id
    cdef bytes icv_oid
    cdef uint8_t head[TOKEN_MAX] # assoID TLV, then tag and length of time
    cdef Py_ssize_t head_size


# (time, seq) and nonce of one sending direction; all guards of the direction share it.
@cython.final
cdef class Outgoing:
    cdef int64_t ms
    cdef int64_t seq
    cdef uint64_t nonce


# Last accepted (time, seq) of one receiving direction.
@cython.final
cdef class Window:
    cdef Moment moment
    cdef int64_t seq
    cdef uint8_t text[TIME_MAX]
    cdef Py_ssize_t text_size


@cython.final
cdef class SealGuard:
    cdef readonly GuardParams params
    cdef readonly uint64_t count
    cdef public uint64_t soft_limit
    cdef public bint req_rekey
    cdef public bint changed_key
    cdef public tuple rekey
    cdef Outgoing outgoing
    cdef HmacKey hmac
    cdef GcmKey gcm              # AE, or the GMAC of the ICV
    cdef CbcKey cbc
    cdef bint alive
    cdef int mode
    cdef uint8_t token[TOKEN_MAX]    # assoID, time, and the tag of seq
    cdef Py_ssize_t token_size
    cdef int64_t stamped_ms
    cdef int64_t stamped_minute
    cdef uint8_t auth[AUTH_MAX]      # Authenticator up to the ICV
    cdef Py_ssize_t auth_size
    cdef Py_ssize_t nonce_at
    # the planned PDU
    cdef int64_t plan_ms
    cdef int64_t plan_seq
    cdef Py_ssize_t plan_seq_size
    cdef Py_ssize_t plan_token
    cdef Py_ssize_t plan_tbp
    cdef Py_ssize_t plan_pdu
    cdef Py_ssize_t plan_data
    cdef bytes plan_extra

    cdef Py_ssize_t plan(self, const uint8_t *appl, Py_ssize_t size, int64_t utc_ms) except -1
    cdef int write(self, uint8_t *out, const uint8_t *appl, Py_ssize_t size) except -1
    cdef int stamp(self, int64_t ms) except -1
    cdef uint8_t *write_head(self, uint8_t *out) noexcept
    cdef bytes extra_fields(self)
    cdef int write_auth(self, uint8_t *out, const uint8_t *tbp, uint8_t *nonce) except -1


@cython.final
cdef class OpenGuard:
    cdef readonly GuardParams params
    cdef readonly uint64_t count
    cdef Window window
    cdef HmacKey hmac
    cdef GcmKey gcm
    cdef CbcKey cbc
    cdef bint alive
    cdef int mode
    cdef uint8_t auth[AUTH_MAX]      # Authenticator up to the ICV
    cdef Py_ssize_t auth_size
    cdef Py_ssize_t nonce_at
    cdef Moment seen                 # of the PDU that check() accepted
    cdef int64_t seen_seq
    cdef uint8_t seen_text[TIME_MAX]
    cdef Py_ssize_t seen_text_size

    cdef object fast(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms)
    cdef Opened check(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms)
    cdef int commit(self) except -1
    cdef int verify(self, Parts *x) except -1
    cdef int check_algorithm(self, Parts *x, str kind) except -1
    cdef bytes decrypt(self, Parts *x)
    cdef bytes decrypt_ae(self, Parts *x)


@cython.final
cdef class Opened:
    cdef readonly bytes appl_data
    cdef readonly tuple rekey
    cdef readonly bint req_rekey
    cdef readonly bint changed_key
    cdef readonly bint unknown


# Whether a transfer SecPDU carries rekey, reqRekey or changedKey. Unverified; DecodeError if malformed.
cdef int is_flagged(const uint8_t *p, Py_ssize_t size) except -1


# --- small DER helpers --------------------------------------------------------------------------------------------
cdef inline Py_ssize_t header_size(Py_ssize_t length) noexcept nogil:
    """Octets of a one-octet tag and the DER length."""
    if length < 0x80:
        return 2
    if length < 0x100:
        return 3
    if length < 0x10000:
        return 4
    return 5


cdef inline uint8_t *put_header(uint8_t *out, uint8_t tag, Py_ssize_t length) noexcept nogil:
    out[0] = tag
    if length < 0x80:
        out[1] = <uint8_t>length
        return out + 2
    if length < 0x100:
        out[1] = 0x81
        out[2] = <uint8_t>length
        return out + 3
    if length < 0x10000:
        out[1] = 0x82
        out[2] = <uint8_t>(length >> 8)
        out[3] = <uint8_t>length
        return out + 4
    out[1] = 0x83
    out[2] = <uint8_t>(length >> 16)
    out[3] = <uint8_t>(length >> 8)
    out[4] = <uint8_t>length
    return out + 5


cdef inline Py_ssize_t quick_length(const uint8_t *p, Py_ssize_t *pos) noexcept nogil:
    """A definite length of at most three octets at pos; -1 for any other. The caller knows that four may be read."""
    cdef uint8_t octet = p[pos[0]]
    if octet < 0x80:
        pos[0] += 1
        return octet
    if octet == 0x82:
        pos[0] += 3
        return p[pos[0] - 2] << 8 | p[pos[0] - 1]
    if octet == 0x81:
        pos[0] += 2
        return p[pos[0] - 1]
    return -1


cdef uint64_t MESSAGES_MAX

# LocalError unless the octets are what SealGuard.seal takes.
cdef int sealable(const uint8_t *appl, Py_ssize_t size) except -1
