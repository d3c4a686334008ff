# What sealing and opening have in common: parameters of an association, shared state of a direction, key material.
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from fastsec._core.crypto cimport Secret
from fastsec._core.moment cimport TIME_MAX, Moment

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
    TOKEN_MAX = 48


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
    cdef bytes auth_head         # the Authenticator up to its ICV, nonce left open; empty for AE
    cdef const uint8_t *auth     # its octets
    cdef Py_ssize_t auth_size
    cdef Py_ssize_t nonce_at

    cdef int make_auth(self) except -1


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


cdef int raise_library() except -1
cdef const uint8_t *key_slice(Secret keys, tuple where, int size, str name) except NULL
cdef int take_start(str start_time, Moment *moment) except -1
