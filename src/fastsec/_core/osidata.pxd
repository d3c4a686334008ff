# One connection's data phase: frames, constant prefixes and guards joined.
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from fastsec._core.opening cimport OpenGuard
from fastsec._core.sealing cimport SealGuard

cdef enum:
    CONTEXT_ID_MAX = 32767


@cython.final
cdef class Tally:
    cdef public uint64_t pdus_in
    cdef public uint64_t octets_in
    cdef public uint64_t frames_in
    cdef public uint64_t pdus_out
    cdef public uint64_t octets_out
    cdef public uint64_t frames_out


@cython.final
cdef class OsiChannel:
    # receiving: octets that wait in the stream, octets of a TSDU whose end has not come, a TSDU for next()
    cdef uint8_t *stream
    cdef Py_ssize_t head
    cdef Py_ssize_t tail
    cdef Py_ssize_t room
    cdef uint8_t *parts
    cdef Py_ssize_t parts_size
    cdef Py_ssize_t parts_room
    cdef readonly Py_ssize_t max_tsdu
    cdef Py_ssize_t tpdu_limit
    cdef bint rx_armed
    cdef OpenGuard rx
    cdef int64_t rx_context
    cdef uint8_t rx_id[8]        # its INTEGER TLV
    cdef Py_ssize_t rx_id_size
    cdef object waiting          # (code, octets) or None
    cdef readonly object fault
    cdef object dead             # DecodeError that ended the stream
    cdef readonly Tally tally
    # sending
    cdef bint tx_armed
    cdef SealGuard tx
    cdef uint8_t tx_id[8]        # INTEGER TLV of the context, none if tx_id_size is 0
    cdef Py_ssize_t tx_id_size
    cdef Py_ssize_t tx_room      # user data of one DT
    # the planned PDU
    cdef Py_ssize_t plan_pdu
    cdef Py_ssize_t plan_30
    cdef Py_ssize_t plan_61
    cdef Py_ssize_t plan_tsdu

    cdef bint sound(self) noexcept
    cdef int keep(self, const uint8_t *p, Py_ssize_t size) except -1
    cdef int collect(self, const uint8_t *p, Py_ssize_t size) except -1
    cdef int kill(self, object error) except -1
    cdef int run_stream(self, int64_t utc_ms, list payloads) except -1
    cdef Py_ssize_t run(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms, list payloads) except -1
    cdef int take_tsdu(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms, list payloads) except -1
    cdef object open_tsdu(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms)
    cdef object open_other(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms)
    cdef Py_ssize_t find_pdu(self, const uint8_t *p, Py_ssize_t size) noexcept
    cdef Py_ssize_t plan(self, bytes appl_data, int64_t utc_ms) except -1
    cdef int write(self, uint8_t *out, bytes appl_data) except -1
    cdef int write_tsdu(self, uint8_t *out, bytes appl_data) except -1
    cdef list batch(self, list pdus, int64_t utc_ms)
