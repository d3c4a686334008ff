# C level of opening, for osidata: fast, else check and commit.
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from fastsec._core.crypto cimport CbcKey, GcmKey, HmacKey
from fastsec._core.moment cimport TIME_MAX, Moment
from fastsec._core.params cimport GuardParams, Window
from fastsec._core.transfer cimport Parts


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
    cdef Moment seen                 # of the PDU that check() accepted
    cdef int64_t seen_seq
    cdef uint8_t seen_text[TIME_MAX]
    cdef Py_ssize_t seen_text_size

    cdef bint keyed(self) noexcept
    cdef object fast(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms)
    cdef Opened check(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms, bint any_field)
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
