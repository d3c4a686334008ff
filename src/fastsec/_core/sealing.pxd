# C level of sealing, for osidata: plan gives the size of the next PDU, write writes it into the caller's memory.
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from fastsec._core.crypto cimport CbcKey, GcmKey, HmacKey
from fastsec._core.params cimport TOKEN_MAX, GuardParams, Outgoing

cdef uint64_t MESSAGES_MAX


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
    # the planned PDU
    cdef int64_t plan_ms
    cdef int64_t plan_seq
    cdef Py_ssize_t plan_seq_size
    cdef Py_ssize_t plan_token
    cdef Py_ssize_t plan_tbp
    cdef Py_ssize_t plan_pdu
    cdef Py_ssize_t plan_data
    cdef bytes plan_extra

    cdef bint keyed(self) noexcept
    cdef Py_ssize_t plan(self, const uint8_t *appl, Py_ssize_t size, int64_t utc_ms) except -1
    cdef int write(self, uint8_t *out, const uint8_t *appl, Py_ssize_t size) except -1
    cdef int stamp(self, int64_t ms) except -1
    cdef uint8_t *write_head(self, uint8_t *out) noexcept
    cdef bytes extra_fields(self)
    cdef int write_auth(self, uint8_t *out, const uint8_t *tbp, uint8_t *nonce) except -1


# LocalError unless the octets are what SealGuard.seal takes.
cdef int sealable(const uint8_t *appl, Py_ssize_t size) except -1
