"""Times OpenGuard's fast way over many wrong PDUs, in C so that nothing of Python is in the measured interval."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from fastsec._core.opening cimport OpenGuard

cdef extern from *:
    """
    #include <time.h>
    #if defined(__x86_64__)
    #include <x86intrin.h>
    static uint64_t ticks(void) { unsigned int cpu; uint64_t t = __rdtscp(&cpu); _mm_lfence(); return t; }
    #else
    static uint64_t ticks(void)
    {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    #endif
    """
    uint64_t ticks()


def measure(OpenGuard guard not None, list pdus not None, int64_t utc_ms) -> list[int]:
    """Ticks that each PDU took; all must be refused. Each is copied to the same place first: addresses have their own
    influence on time."""
    cdef list times = []
    cdef uint64_t begin, end
    cdef uint8_t place[4096]
    cdef Py_ssize_t size
    cdef object opened
    for item in pdus:
        size = PyBytes_GET_SIZE(<bytes>item)
        if size > 4096:
            raise ValueError("a PDU too long")
        memcpy(place, PyBytes_AS_STRING(<bytes>item), size)
        begin = ticks()
        opened = guard.fast(place, size, utc_ms)
        end = ticks()
        if opened is not None:
            raise ValueError("a PDU was accepted")
        times.append(end - begin)
    return times
