# C level of the component loops; nothing else cimports it.
cimport cython
from libc.stdint cimport int64_t, uint32_t

from fastsec._core.cursor cimport Reader, Writer

cdef enum:
    HOW_OTHER = 0        # by the function of the component
    HOW_OCTETS = 1
    HOW_NAMED_BITS = 2
    HOW_INTEGER = 3
    HOW_ALGORITHM = 4
    HOW_ASSO_ID = 5
    HOW_TIME = 6

cdef struct Row:
    uint32_t tag
    bint optional
    int how
    Py_ssize_t maximum


@cython.final
cdef class Components:
    cdef Row *rows
    cdef Py_ssize_t count
    cdef tuple names
    cdef tuple attributes
    cdef tuple absent
    cdef tuple readers
    cdef tuple writers
    cdef dict algorithms

    cdef object read_one(self, Reader reader, Py_ssize_t i)
    cdef bint write_one(self, Writer writer, Py_ssize_t i, value) except -1
