"""The entries of a CRL (RFC 5280 5.1.2.6), checked and indexed without the GIL.

A list of an authority may have a million entries. They stay where they are, in the octets of the list; the index is a
hash table of their places, four octets each, at most half full. So a look-up is one probe, and a list that is being
read in a worker thread never holds up the data of open associations.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from fastsec._core.crypto import random_bytes
from fastsec._core.cursor cimport NESTING_MAX, TLV_OK, Tlv, tlv_read
from fastsec._core.moment cimport Moment, read_time
from fastsec.errors import DecodeError

cdef enum:
    SERIAL_MAX = 21
    REMOVED = 8       # removeFromCRL
    ENTRIES_MAX = 1 << 28

# What an entry can be.
cdef enum:
    GOOD = 0
    BAD_FORM = 1
    BAD_SERIAL = 2
    BAD_TIME = 3
    BAD_REASON = 4
    CRITICAL = 5

cdef tuple FAULTS = (
    "",
    ("CRL entry is not DER, or not of its syntax", "revokedCertificates"),
    ("serial number is negative, empty, too long or not DER", "serialNumber"),
    ("time of a CRL entry does not exist", "time"),
    ("CRL entry has an unknown reason", "reasonCode"),
    ("CRL entry has a critical extension", "crlEntryExtensions"),
)

cdef struct Entry:
    const uint8_t *serial
    Py_ssize_t size
    long long at_ms
    int reason
    Py_ssize_t after


cdef bint read_der(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, Tlv *t) noexcept nogil:
    """Read a TLV whose length is of the definite form in as few octets as possible."""
    cdef Py_ssize_t size, header = 2
    if tlv_read(p, pos, end, False, t) != TLV_OK:
        return False
    size = t.stop - t.start
    if t.tag > 0xFF:
        header += 1 + (t.tag > 0xFFFF) + (t.tag > 0xFFFFFF)
    if size > 0x7F:
        while size:
            header += 1
            size >>= 8
    return t.start - pos == header


cdef bint is_der(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, int depth) noexcept nogil:
    cdef Tlv t
    while pos < end:
        if not read_der(p, pos, end, &t):
            return False
        if p[pos] & 0x20 and (depth == 0 or not is_der(p, t.start, t.stop, depth - 1)):
            return False
        pos = t.after
    return True


def check_list(bytes der not None):
    """As ``pk.check_der``, without the GIL: der is one TLV, DER on every level. DecodeError otherwise."""
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(der)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(der)
    cdef Tlv t
    cdef bint good
    with nogil:
        good = tlv_read(p, 0, size, False, &t) == TLV_OK and t.after == size and is_der(p, 0, size, NESTING_MAX)
    if not good:
        raise DecodeError("not DER", check="protocol-error")


cdef int read_extensions(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, Entry *entry) noexcept nogil:
    cdef Tlv t, part, value
    cdef Py_ssize_t at
    while pos < end:
        if not read_der(p, pos, end, &t) or t.tag != 0x30 or not read_der(p, t.start, t.stop, &part):
            return BAD_FORM
        if part.tag != 0x06 or part.start == part.stop:
            return BAD_FORM
        at = part.after
        if at < t.stop and p[at] == 0x01:
            return CRITICAL if at + 2 < t.stop and p[at + 2] == 0xFF else BAD_FORM
        if not read_der(p, at, t.stop, &value) or value.tag != 0x04 or value.after != t.stop:
            return BAD_FORM
        # What the value is must be DER, as in every extension.
        if not (read_der(p, value.start, value.stop, &part) and part.after == value.stop
                and is_der(p, value.start, value.stop, NESTING_MAX)):
            return BAD_FORM
        # The value of reasonCode, 2.5.29.21, is an ENUMERATED.
        if at - t.start == 5 and memcmp(p + t.start, b"\x06\x03\x55\x1d\x15", 5) == 0:
            if part.tag != 0x0A or part.stop - part.start != 1 or p[part.start] == 7 or p[part.start] > 11:
                return BAD_REASON
            entry.reason = p[part.start]
        pos = t.after
    return GOOD


cdef int read_entry(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, Entry *entry) noexcept nogil:
    cdef Tlv t, part
    cdef uint8_t text[15]
    cdef int century, i
    cdef Moment moment
    if not read_der(p, pos, end, &t) or t.tag != 0x30:
        return BAD_FORM
    entry.after = t.after
    entry.reason = 0
    if not read_der(p, t.start, t.stop, &part) or part.tag != 0x02:
        return BAD_FORM
    entry.serial, entry.size = p + part.start, part.stop - part.start
    if not 1 <= entry.size <= SERIAL_MAX or entry.serial[0] & 0x80:
        return BAD_SERIAL
    if entry.size > 1 and entry.serial[0] == 0 and not entry.serial[1] & 0x80:
        return BAD_SERIAL
    pos = part.after
    if not read_der(p, pos, t.stop, &part):
        return BAD_FORM
    if part.tag != 0x17 and part.tag != 0x18:
        return BAD_FORM
    century = 2 if part.tag == 0x17 else 0
    if part.stop - part.start + century != 15:
        return BAD_TIME
    memcpy(text + century, p + part.start, 15 - century)
    if century:
        memcpy(text, b"19" if text[2] >= c"5" else b"20", 2)
    for i in range(14):
        if not c"0" <= text[i] <= c"9":
            return BAD_TIME
    moment.ms = moment.digits = 0
    # As in pk.read_time there is neither a leap second nor a year 0 here.
    if text[14] != c"Z" or not read_time(text, 15, &moment) or text[12] == c"6" or memcmp(text, b"0000", 4) == 0:
        return BAD_TIME
    entry.at_ms = moment.ms
    pos = part.after
    if pos < t.stop:
        if not read_der(p, pos, t.stop, &part) or part.tag != 0x30 or part.after != t.stop:
            return BAD_FORM
        return read_extensions(p, part.start, part.stop, entry)
    return GOOD


cdef inline uint64_t mixed(uint64_t seed, const uint8_t *serial, Py_ssize_t size) noexcept nogil:
    """A hash whose value nobody can plan who does not know the seed; authorities are trusted, this is for luck."""
    cdef uint64_t value = seed
    cdef Py_ssize_t i
    for i in range(size):
        value = (value ^ serial[i]) * <uint64_t>0x9E3779B97F4A7C15
        value ^= value >> 29
    return value


@cython.final
cdef class RevokedEntries:
    """The entries of one list, to be looked up by serial number. Immutable.

    Arguments:
        data: the octets of the list; they are kept, not copied.
        start, end: where the content of revokedCertificates lies in them.

    Raises: DecodeError for an entry that is malformed or has a critical extension. An entry with the reason
    removeFromCRL says that the certificate is not revoked any more, and is not found.
    """

    cdef bytes data
    cdef uint32_t *table
    cdef uint64_t seed
    cdef Py_ssize_t mask
    cdef Py_ssize_t start
    cdef Py_ssize_t end
    cdef readonly Py_ssize_t count

    def __cinit__(self, bytes data not None, Py_ssize_t start=0, Py_ssize_t end=0):
        cdef bytes random = random_bytes(8)
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef int fault = GOOD
        if not 0 <= start <= end <= PyBytes_GET_SIZE(data) or end >= 1 << 31:
            raise DecodeError("the list is too long", step="revokedCertificates")
        self.data = data
        self.start, self.end = start, end
        memcpy(&self.seed, PyBytes_AS_STRING(random), 8)
        with nogil:
            fault = self.fill(p)
        if fault < 0:
            raise MemoryError
        if fault:
            raise DecodeError(FAULTS[fault][0], step=FAULTS[fault][1])

    def __dealloc__(self):
        free(self.table)

    cdef int fill(self, const uint8_t *p) noexcept nogil:
        """Check all entries, then put their places into the table. The fault found, or -1 without memory."""
        cdef Entry entry, other
        cdef Py_ssize_t pos = self.start, slot, size = 1
        cdef int fault
        other.reason = 0
        self.count = 0
        while pos < self.end:
            fault = read_entry(p, pos, self.end, &entry)
            if fault:
                return fault
            self.count += 1
            pos = entry.after
        if self.count == 0:
            return GOOD
        if self.count > ENTRIES_MAX:
            return -1
        while size < 2 * self.count:
            size *= 2
        self.table = <uint32_t *>calloc(size, sizeof(uint32_t))
        if self.table is NULL:
            return -1
        self.mask = size - 1
        pos = self.start
        while pos < self.end:
            read_entry(p, pos, self.end, &entry)
            slot = <Py_ssize_t>(mixed(self.seed, entry.serial, entry.size) >> 16) & self.mask
            # Place 0 is the list's own header, so it can stand for "empty".
            while self.table[slot]:
                read_entry(p, self.table[slot], self.end, &other)
                if other.size == entry.size and memcmp(other.serial, entry.serial, entry.size) == 0:
                    break
                slot = (slot + 1) & self.mask
            # Of two entries for one certificate the one that revokes it counts.
            if self.table[slot] == 0 or other.reason == REMOVED:
                self.table[slot] = <uint32_t>pos
            pos = entry.after
        return GOOD

    def find(self, bytes serial not None):
        """(reason as CRLReason has it, time of revocation in ms since 1970 UTC) of a serial number's content octets,
        or None if it is not on the list."""
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(self.data)
        cdef const uint8_t *wanted = <const uint8_t *>PyBytes_AS_STRING(serial)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(serial)
        cdef Py_ssize_t slot
        cdef Entry entry
        if self.table is NULL:
            return None
        slot = <Py_ssize_t>(mixed(self.seed, wanted, size) >> 16) & self.mask
        while self.table[slot]:
            read_entry(p, self.table[slot], self.end, &entry)
            if entry.size == size and memcmp(entry.serial, wanted, size) == 0:
                return None if entry.reason == REMOVED else (entry.reason, entry.at_ms)
            slot = (slot + 1) & self.mask
        return None

    def __len__(self):
        return self.count

    def serials(self):
        """Content octets of all serial numbers on the list: for tests and tools."""
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(self.data)
        cdef Py_ssize_t pos = self.start
        cdef Entry entry
        found = []
        while pos < self.end:
            read_entry(p, pos, self.end, &entry)
            if entry.reason != REMOVED:
                found.append(PyBytes_FromStringAndSize(<const char *>entry.serial, entry.size))
            pos = entry.after
        return frozenset(found)

    def __repr__(self):
        return f"<RevokedEntries of {self.count}>"
