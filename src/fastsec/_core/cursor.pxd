# C level of the cursor: bounds-checked TLV reading for the other extension modules.
cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    NESTING_MAX = 16  # = limits.OUR_NESTING_MAX, checked when the module is imported

# What can be wrong with a TLV; indexes the table of messages in cursor.pyx.
cdef enum:
    TLV_OK = 0
    TLV_SHORT = 1
    TLV_TAG = 2
    TLV_LENGTH = 3
    TLV_INDEFINITE = 4
    TLV_DEEP = 5

cdef struct Tlv:
    uint32_t tag        # identifier octets, big-endian
    bint indefinite
    Py_ssize_t first    # first identifier octet
    Py_ssize_t start    # first content octet
    Py_ssize_t stop     # one past the last content octet
    Py_ssize_t after    # one past the TLV; stop + 2 in the indefinite form, else stop


cdef inline int tlv_header(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, Tlv *t) noexcept nogil:
    """Read identifier and length octets at pos; of a definite TLV check that it fits, else leave stop at -1."""
    cdef uint32_t tag
    cdef uint8_t octet
    cdef Py_ssize_t length
    cdef int count
    t.first = pos
    if end - pos < 2:
        return TLV_SHORT
    octet = p[pos]
    tag = octet
    pos += 1
    if octet & 0x1F == 0x1F:
        # High tag numbers: at most three further octets, no leading zero, none that fits the short form (8.1.2.4).
        octet = p[pos]
        if octet == 0x80 or octet < 0x1F:
            return TLV_TAG
        count = 0
        while True:
            if pos >= end:
                return TLV_SHORT
            if count == 3:
                return TLV_TAG
            octet = p[pos]
            tag = tag << 8 | octet
            pos += 1
            count += 1
            if octet < 0x80:
                break
        if pos >= end:
            return TLV_SHORT
    octet = p[pos]
    pos += 1
    t.tag = tag
    t.indefinite = False
    if octet < 0x80:
        length = octet
    elif octet == 0x80:
        t.indefinite = True
        t.start = pos
        t.stop = t.after = -1
        return TLV_OK
    elif octet == 0xFF:
        return TLV_LENGTH
    else:
        # Leading zeros are legal BER, so the count of length octets alone says nothing about the value.
        count = octet & 0x7F
        if end - pos < count:
            return TLV_SHORT
        length = 0
        while count > 0:
            if length > 0x7FFFFF:
                return TLV_SHORT
            length = length << 8 | p[pos]
            pos += 1
            count -= 1
    if length > end - pos:
        return TLV_SHORT
    t.start = pos
    t.stop = t.after = pos + length
    return TLV_OK


cdef inline int tlv_read(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, bint indefinite, Tlv *t) noexcept nogil:
    """Read the TLV at pos. The result is TLV_OK or another of the codes above; t is meaningful only with TLV_OK."""
    cdef Tlv inner
    cdef int status = tlv_header(p, pos, end, t)
    cdef int depth
    if status != TLV_OK:
        return status
    if t.tag == 0:
        return TLV_TAG
    if not t.indefinite:
        return TLV_OK
    if not indefinite:
        return TLV_INDEFINITE
    if not p[t.first] & 0x20:
        return TLV_LENGTH
    # One pass to the matching end-of-contents octets; nested definite TLVs are skipped as a whole.
    pos = t.start
    depth = 1
    while True:
        status = tlv_header(p, pos, end, &inner)
        if status != TLV_OK:
            return status
        if inner.indefinite:
            if not p[inner.first] & 0x20:
                return TLV_LENGTH
            depth += 1
            if depth > NESTING_MAX:
                return TLV_DEEP
            pos = inner.start
        elif inner.tag == 0:
            if inner.stop != pos + 2:
                return TLV_TAG
            depth -= 1
            if depth == 0:
                t.stop = pos
                t.after = pos + 2
                return TLV_OK
            pos += 2
        else:
            pos = inner.stop


cdef inline int put_arc(char *out, int used, uint64_t arc) noexcept nogil:
    """Write an arc in digits, and a dot before it unless it is the first. Returns how many characters there are."""
    cdef char digits[20]
    cdef int count = 0
    if used:
        out[used] = c'.'
        used += 1
    while True:
        digits[count] = <char>(c'0' + arc % 10)
        count += 1
        arc //= 10
        if arc == 0:
            break
    while count:
        count -= 1
        out[used] = digits[count]
        used += 1
    return used


cdef int fail(str message, str step) except -1
cdef int fail_tlv(int status, Py_ssize_t pos, str step) except -1


@cython.final
cdef class Reader:
    cdef bytes data
    cdef const uint8_t *p
    cdef Tlv t
    cdef bint allow_indefinite
    cdef int depth
    cdef readonly Py_ssize_t pos
    cdef readonly Py_ssize_t end
    cdef public str step

    cdef void place(self, bytes data, Py_ssize_t start, Py_ssize_t end, bint indefinite, str step) noexcept
    cdef bytes cut(self, Py_ssize_t start, Py_ssize_t end)
    cdef int read(self) except -1
    cdef int need(self, uint32_t tag) except -1
    cdef int need_bits(self, uint32_t tag) except -1
    cdef int need_octets(self, uint32_t tag, Py_ssize_t maximum) except -1
    cpdef peek(self)
    cpdef str oid(self, uint32_t tag=*)
    cpdef bytes raw(self)
    cpdef integer(self, uint32_t tag=*)
    cpdef bytes octets(self, uint32_t tag=*, Py_ssize_t maximum=*)
    cpdef named_bits(self, uint32_t tag=*)


@cython.final
cdef class Writer:
    cdef uint8_t *buffer
    cdef Py_ssize_t used
    cdef Py_ssize_t room
    cdef Py_ssize_t opened[32]
    cdef int depth

    cdef int reserve(self, Py_ssize_t more) except -1
    cdef int put_tag(self, uint32_t tag) except -1
    cdef int put_header(self, uint32_t tag, Py_ssize_t length) except -1
    cdef int put(self, const uint8_t *octets, Py_ssize_t count) except -1
    cpdef primitive(self, uint32_t tag, bytes content)
    cpdef octets(self, bytes value, uint32_t tag=*)
    cpdef named_bits(self, mask, uint32_t tag=*)
    cpdef raw(self, bytes der)
