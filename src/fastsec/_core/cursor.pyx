"""Bounds-checked BER reader and DER writer: the only code that acts on lengths a peer has written.

X.690. Lengths are definite, minimal or not; the indefinite form only where the caller allows it (62351-4 allows it
for tbs, tbp and token2). A tag is the int of its identifier octets, big-endian: 0x30, 0xA0, 0x5F81.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove, memset

from fastsec import limits
from fastsec.errors import DecodeError, LocalError

if limits.OUR_NESTING_MAX != NESTING_MAX:
    raise ImportError("cursor.NESTING_MAX differs from limits.OUR_NESTING_MAX")

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef enum:
    OID_OCTETS_MAX = 64
    OID_TEXT_MAX = 4 * OID_OCTETS_MAX + 4  # an octet that is an arc of its own gives three digits and a dot
    ARC_DIGITS_MAX = 19
    WRITER_ROOM = 512
    NAMED_BITS_OCTETS_MAX = 32
    WRITER_DEPTH_MAX = 32

cdef tuple MESSAGES = (
    "",
    "TLV is longer than what surrounds it",
    "tag not allowed here",
    "length octets not allowed here",
    "indefinite length not allowed here",
    "indefinite lengths nested too deep",
)


cdef int fail(str message, str step) except -1:
    raise DecodeError(message, check="protocol-error", step=step)


cdef int fail_tlv(int status, Py_ssize_t pos, str step) except -1:
    raise DecodeError(f"{MESSAGES[status]} (octet {pos})", check="protocol-error", step=step)


@cython.final
@cython.freelist(16)
cdef class Reader:
    """Walks over the TLVs of one level of a BER encoding.

    Arguments:
        data: the octets; they are not copied.
        start: index of the first octet of the level, default 0.
        end: index one past its last octet, default the length of data.
        indefinite: whether the TLVs of this level may have the indefinite form.
        step: what is being read, for the ``step`` of errors; readers from ``enter`` inherit it.

    Attributes:
        tag, first, start, stop, after: of the current TLV, the one ``next`` went to: its tag (-1 before the first),
            and the indices of its first octet, of its content, of the content's end and of the TLV's end. ``after``
            is ``stop`` + 2 in the indefinite form (end-of-contents octets), else ``stop``.
        pos, end: index of the next TLV, and of the end of the level.

    Every method raises only DecodeError (check ``protocol-error``) on account of the octets.
    """

    def __init__(self, bytes data not None, Py_ssize_t start=0, end=None, *, bint indefinite=False, str step not None=""):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t stop = size if end is None else end
        if not 0 <= start <= stop <= size:
            raise LocalError("Reader: start and end must lie within data")
        self.place(data, start, stop, indefinite, step)

    cdef void place(self, bytes data, Py_ssize_t start, Py_ssize_t end, bint indefinite, str step) noexcept:
        assert 0 <= start <= end <= PyBytes_GET_SIZE(data), "a level outside its octets"
        self.data = data
        self.p = <const uint8_t *>PyBytes_AS_STRING(data)
        self.pos = start
        self.end = end
        self.allow_indefinite = indefinite
        self.step = step
        self.t.first = self.t.start = self.t.stop = self.t.after = start
        self.t.tag = 0
        self.depth = 0

    cdef bytes cut(self, Py_ssize_t start, Py_ssize_t end):
        return PyBytes_FromStringAndSize(<const char *>self.p + start, end - start)

    cdef int read(self) except -1:
        cdef Tlv t
        cdef int status = tlv_read(self.p, self.pos, self.end, self.allow_indefinite, &t)
        if status != TLV_OK:
            fail_tlv(status, self.pos, self.step)
        assert self.pos == t.first < t.start <= t.stop <= t.after <= self.end, "a TLV outside its level"
        self.t = t  # only now: a half-read TLV has no end
        self.pos = t.after
        return 0

    cdef int need(self, uint32_t tag) except -1:
        cdef Py_ssize_t pos = self.pos
        if pos >= self.end:
            fail(f"tag {tag:02X} missing at the end", self.step)
        self.read()
        if self.t.tag != tag:
            self.pos = pos
            fail(f"tag {tag:02X} wanted, {self.t.tag:02X} found (octet {pos})", self.step)
        return 0

    cdef int need_bits(self, uint32_t tag) except -1:
        """Go to the next TLV, which must be a BIT STRING with this tag; its first content octet is then 0 to 7."""
        cdef uint8_t unused
        self.need(tag)
        if self.t.stop == self.t.start:
            fail(f"BIT STRING without content (octet {self.t.first})", self.step)
        unused = self.p[self.t.start]
        if unused > 7 or (unused and self.t.stop - self.t.start == 1):
            fail(f"BIT STRING with {unused} unused bits (octet {self.t.first})", self.step)
        return 0

    cdef int need_octets(self, uint32_t tag, Py_ssize_t maximum) except -1:
        """Go to the next TLV, which must have this tag and at most ``maximum`` octets of content (-1: any)."""
        self.need(tag)
        if maximum >= 0 and self.t.stop - self.t.start > maximum:
            fail(f"{self.t.stop - self.t.start} octets where {maximum} are allowed (octet {self.t.first})", self.step)
        return 0

    @property
    def tag(self):
        return self.t.tag if self.t.tag else -1

    @property
    def first(self):
        return self.t.first

    @property
    def start(self):
        return self.t.start

    @property
    def stop(self):
        return self.t.stop

    @property
    def after(self):
        return self.t.after

    def more(self):
        """Whether the level has another TLV."""
        return self.pos < self.end

    cpdef peek(self):
        """The tag of the next TLV, -1 at the end of the level. Nothing moves."""
        cdef Tlv t
        cdef int status
        t.tag = 0
        if self.pos >= self.end:
            return -1
        status = tlv_read(self.p, self.pos, self.end, self.allow_indefinite, &t)
        if status != TLV_OK:
            fail_tlv(status, self.pos, self.step)
        return t.tag

    def next(self):
        """Go to the next TLV; it becomes the current one. Returns its tag."""
        self.read()
        return self.t.tag

    def expect(self, uint32_t tag):
        """Go to the next TLV, which must have this tag."""
        self.need(tag)

    def optional(self, uint32_t tag):
        """Go to the next TLV if it has this tag. Returns whether it had."""
        cdef Tlv t
        cdef int status
        t.tag = 0
        if self.pos >= self.end:
            return False
        status = tlv_read(self.p, self.pos, self.end, self.allow_indefinite, &t)
        if status != TLV_OK:
            fail_tlv(status, self.pos, self.step)
        if t.tag != tag:
            return False
        self.t = t
        self.pos = t.after
        return True

    def set_aside(self, uint32_t tag):
        """Go to the end of the level; the first TLV on the way that has this tag becomes the current one.

        Returns: the octets of all other TLVs of the level, and whether there was such a one.
        """
        cdef Py_ssize_t begin = self.pos
        cdef Tlv found
        cdef bint there = False
        while self.pos < self.end:
            self.read()
            if self.t.tag == tag and not there:
                found = self.t
                there = True
        if not there:
            return self.cut(begin, self.end), False
        self.t = found
        if found.after == self.end:
            return self.cut(begin, found.first), True
        return self.cut(begin, found.first) + self.cut(found.after, self.end), True

    def value(self):
        """The content octets of the current TLV, without end-of-contents octets."""
        return self.cut(self.t.start, self.t.stop)

    def covered(self):
        """The octets a signature or ICV covers when it is over the current TLV: its content, and in the indefinite
        form the end-of-contents octets too (62351-4, tbs and tbp)."""
        return self.cut(self.t.start, self.t.after)

    cpdef bytes raw(self):
        """The octets of the whole current TLV."""
        return self.cut(self.t.first, self.t.after)

    def enter(self, *, bint indefinite=False, step=None):
        """A Reader over the content of the current TLV, which must be constructed.

        Arguments:
            indefinite: whether the TLVs inside may have the indefinite form.
            step: replaces the inherited step.
        """
        cdef Reader inner
        if not self.t.tag or not self.p[self.t.first] & 0x20:
            fail(f"tag {self.t.tag:02X} is not constructed (octet {self.t.first})", self.step)
        if self.depth + 1 >= NESTING_MAX:
            fail("nested too deep", self.step)
        inner = Reader.__new__(Reader)
        inner.place(self.data, self.t.start, self.t.stop, indefinite, self.step if step is None else step)
        inner.depth = self.depth + 1
        return inner

    cpdef integer(self, uint32_t tag=0x02):
        """The INTEGER or ENUMERATED with this tag; its content is 1 to 8 octets."""
        cdef Py_ssize_t i
        cdef uint64_t value
        self.need(tag)
        if not 1 <= self.t.stop - self.t.start <= 8:
            fail(f"INTEGER of {self.t.stop - self.t.start} octets (octet {self.t.first})", self.step)
        value = <uint64_t>0xFFFFFFFFFFFFFFFF if self.p[self.t.start] & 0x80 else 0
        for i in range(self.t.start, self.t.stop):
            value = value << 8 | self.p[i]
        return <int64_t>value

    cpdef bytes octets(self, uint32_t tag=0x04, Py_ssize_t maximum=-1):
        """The content of the primitive OCTET STRING with this tag, at most ``maximum`` octets (-1: any)."""
        self.need_octets(tag, maximum)
        return self.cut(self.t.start, self.t.stop)

    cpdef str oid(self, uint32_t tag=0x06):
        """The OBJECT IDENTIFIER with this tag, dotted; at most 64 octets, arcs below 2**63."""
        self.need(tag)
        return oid_text(self.p + self.t.start, self.t.stop - self.t.start, self.step)

    def boolean(self, uint32_t tag=0x01):
        """The BOOLEAN with this tag; any octet but zero is true (X.690 8.2)."""
        self.need(tag)
        if self.t.stop - self.t.start != 1:
            fail(f"BOOLEAN of {self.t.stop - self.t.start} octets (octet {self.t.first})", self.step)
        return self.p[self.t.start] != 0

    def null(self, uint32_t tag=0x05):
        """The NULL with this tag."""
        self.need(tag)
        if self.t.stop != self.t.start:
            fail(f"NULL with content (octet {self.t.first})", self.step)

    def bits(self, uint32_t tag=0x03):
        """The BIT STRING with this tag: (its octets, number of unused bits in the last one)."""
        self.need_bits(tag)
        return self.cut(self.t.start + 1, self.t.stop), self.p[self.t.start]

    cpdef named_bits(self, uint32_t tag=0x03):
        """The BIT STRING with this tag as a mask: bit n of the string is 1 << n. At most 32 octets of bits; trailing
        zero bits make no difference, unused bits are ignored."""
        cdef Py_ssize_t i, size
        cdef int bit, count
        cdef uint64_t low = 0
        cdef object mask = 0
        self.need_bits(tag)
        size = self.t.stop - self.t.start - 1
        if size > NAMED_BITS_OCTETS_MAX:
            fail("BIT STRING too long", self.step)
        for i in range(size):
            count = 8 - self.p[self.t.start] if i == size - 1 else 8
            for bit in range(count):
                if self.p[self.t.start + 1 + i] & (0x80 >> bit):
                    if i < 8:
                        low |= <uint64_t>1 << (8 * i + bit)
                    else:
                        mask |= (<object>1) << (8 * i + bit)  # an int of Python: C's would overflow
        return mask | low if size > 8 else low

    def utf8(self, uint32_t tag=0x0C, Py_ssize_t maximum=-1):
        """The UTF8String with this tag, at most ``maximum`` octets (-1: any)."""
        self.need_octets(tag, maximum)
        try:
            return PyUnicode_DecodeUTF8(<const char *>self.p + self.t.start, self.t.stop - self.t.start, NULL)
        except UnicodeDecodeError:
            pass
        fail(f"not UTF-8 (octet {self.t.first})", self.step)

    def text(self, uint32_t tag, Py_ssize_t maximum=-1):
        """The character string with this tag, ASCII only, at most ``maximum`` octets (-1: any)."""
        self.need_octets(tag, maximum)
        try:
            return PyUnicode_DecodeASCII(<const char *>self.p + self.t.start, self.t.stop - self.t.start, NULL)
        except UnicodeDecodeError:
            pass
        fail(f"not ASCII (octet {self.t.first})", self.step)

    def finish(self):
        """Check that nothing is left on this level."""
        if self.pos < self.end:
            fail(f"{self.end - self.pos} octets too many (octet {self.pos})", self.step)


@cython.final
cdef class Writer:
    """Writes DER into a growing buffer. The caller brings SET OF into order."""

    def __cinit__(self):
        self.buffer = NULL
        self.used = self.room = 0
        self.depth = 0

    def __dealloc__(self):
        free(self.buffer)

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t room
        cdef uint8_t *grown
        assert (self.buffer is NULL) == (self.room == 0) and 0 <= self.used <= self.room, "written past the buffer"
        if more > self.room - self.used:
            if more > (1 << 30) - self.used:
                raise MemoryError
            room = 2 * (self.used + more) + WRITER_ROOM
            grown = <uint8_t *>realloc(self.buffer, room)
            if grown is NULL:
                raise MemoryError
            self.buffer = grown
            self.room = room
        return 0

    cdef int put_tag(self, uint32_t tag) except -1:
        cdef int shift = 24
        if tag == 0:
            raise LocalError("Writer: tag 0 is end-of-contents")
        self.reserve(4)
        while not tag >> shift:
            shift -= 8
        while shift >= 0:
            self.buffer[self.used] = tag >> shift & 0xFF
            self.used += 1
            shift -= 8
        return 0

    cdef int put_header(self, uint32_t tag, Py_ssize_t length) except -1:
        cdef uint8_t octets[5]
        cdef int count
        self.put_tag(tag)
        count = der_length(octets, length)
        return self.put(octets, count)

    cdef int put(self, const uint8_t *octets, Py_ssize_t count) except -1:
        self.reserve(count)
        memcpy(self.buffer + self.used, octets, count)
        self.used += count
        return 0

    def begin(self, uint32_t tag):
        """Open a constructed TLV; what is written until the matching ``end`` is its content. At most 32 deep."""
        if self.depth == WRITER_DEPTH_MAX:
            raise LocalError("Writer: more than 32 TLVs open")
        self.put_tag(tag)
        self.reserve(1)
        self.opened[self.depth] = self.used
        self.depth += 1
        self.used += 1

    def end(self):
        """Close the TLV opened last and set its length."""
        cdef uint8_t octets[5]
        cdef Py_ssize_t at, length
        cdef int count
        if self.depth == 0:
            raise LocalError("Writer: end() without begin()")
        self.depth -= 1
        at = self.opened[self.depth]
        length = self.used - at - 1
        count = der_length(octets, length)
        if count > 1:
            self.reserve(count - 1)
            memmove(self.buffer + at + count, self.buffer + at + 1, length)
            self.used += count - 1
        memcpy(self.buffer + at, octets, count)
        assert 0 < at <= at + count + length == self.used <= self.room, "a patched length that does not fit"

    cpdef primitive(self, uint32_t tag, bytes content):
        """A TLV with this tag and content."""
        if content is None:
            raise TypeError("content is bytes")
        self.put_header(tag, PyBytes_GET_SIZE(content))
        self.put(<const uint8_t *>PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content))

    def integer(self, int64_t value, uint32_t tag=0x02):
        """An INTEGER, -2**63 .. 2**63 - 1, in as few octets as possible."""
        cdef uint8_t octets[8]
        cdef int count = 1
        cdef int i
        while count < 8 and not -(<int64_t>1 << (8 * count - 1)) <= value < <int64_t>1 << (8 * count - 1):
            count += 1
        for i in range(count):
            octets[i] = <uint64_t>value >> (8 * (count - 1 - i)) & 0xFF
        self.put_header(tag, count)
        self.put(octets, count)

    cpdef octets(self, bytes value, uint32_t tag=0x04):
        """An OCTET STRING."""
        self.primitive(tag, value)

    def oid(self, str dotted not None, uint32_t tag=0x06):
        """An OBJECT IDENTIFIER, given dotted."""
        self.primitive(tag, encode_oid(dotted))

    def boolean(self, bint value, uint32_t tag=0x01):
        """A BOOLEAN."""
        cdef uint8_t octet = 0xFF if value else 0
        self.put_header(tag, 1)
        self.put(&octet, 1)

    def null(self, uint32_t tag=0x05):
        """A NULL."""
        self.put_header(tag, 0)

    cpdef named_bits(self, mask, uint32_t tag=0x03):
        """A named-bit BIT STRING: bit n of the string is 1 << n of mask; trailing zero bits are cut off (DER)."""
        cdef Py_ssize_t length, at, bit
        cdef uint64_t low
        if mask < 0:
            raise LocalError("Writer: mask is negative")
        length = mask.bit_length()
        self.put_header(tag, 1 + (length + 7) // 8)
        self.reserve(1 + (length + 7) // 8)
        at = self.used
        self.used += 1 + (length + 7) // 8
        memset(self.buffer + at, 0, self.used - at)
        self.buffer[at] = (8 - length % 8) % 8
        low = mask & 0xFFFFFFFFFFFFFFFF
        for bit in range(length):
            if low >> bit & 1 if bit < 64 else mask >> bit & 1:
                self.buffer[at + 1 + bit // 8] |= 0x80 >> bit % 8

    def utf8(self, str value not None, uint32_t tag=0x0C):
        """A UTF8String."""
        self.primitive(tag, value.encode("utf-8"))

    cpdef raw(self, bytes der):
        """Octets that are already encoded."""
        if der is None:
            raise TypeError("der is bytes")
        self.put(<const uint8_t *>PyBytes_AS_STRING(der), PyBytes_GET_SIZE(der))

    def getvalue(self):
        """All that was written. LocalError while a TLV is open."""
        if self.depth:
            raise LocalError("Writer: a TLV is still open")
        return PyBytes_FromStringAndSize(<char *>self.buffer, self.used) if self.used else b""


cdef int der_length(uint8_t *out, Py_ssize_t length) except -1:
    cdef int count, i
    if length < 0x80:
        out[0] = <uint8_t>length
        return 1
    if length > 0xFFFFFFFF:
        raise LocalError("Writer: content too long")
    count = 1
    while length >> (8 * count):
        count += 1
    out[0] = 0x80 | count
    for i in range(count):
        out[1 + i] = length >> (8 * (count - 1 - i)) & 0xFF
    return 1 + count


cdef str oid_text(const uint8_t *p, Py_ssize_t size, str step):
    cdef Py_ssize_t i = 0
    cdef uint64_t arc, first
    cdef char out[OID_TEXT_MAX]
    cdef int used = 0
    if not 1 <= size <= OID_OCTETS_MAX:
        fail(f"OBJECT IDENTIFIER of {size} octets", step)
    if p[size - 1] & 0x80:
        fail("OBJECT IDENTIFIER ends within an arc", step)
    while i < size:
        if p[i] == 0x80:
            fail("OBJECT IDENTIFIER has an arc with leading zeros", step)
        arc = 0
        while True:
            if arc >> 56:
                fail("OBJECT IDENTIFIER has an arc of 2**63 or more", step)
            arc = arc << 7 | (p[i] & 0x7F)
            i += 1
            if not p[i - 1] & 0x80:
                break
        if used == 0:
            first = arc // 40 if arc < 80 else 2
            used = put_arc(out, used, first)
            arc -= 40 * first
        used = put_arc(out, used, arc)
    return PyUnicode_DecodeASCII(out, used, NULL)


def decode_oid(bytes content not None):
    """The dotted text of an OBJECT IDENTIFIER's content octets. DecodeError as for ``Reader.oid``."""
    return oid_text(<const uint8_t *>PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content), "")


def encode_oid(str dotted not None):
    """The content octets of a dotted OBJECT IDENTIFIER; at most 64, arcs below 2**63 (the first two together too).
    LocalError otherwise."""
    cdef uint8_t out[OID_OCTETS_MAX]
    cdef const char *p = <const char *>PyUnicode_DATA(dotted)
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(dotted)
    cdef Py_ssize_t i = 0, begin
    cdef int used = 0, count = 0, shift
    cdef uint64_t arc, first = 0
    if not PyUnicode_IS_ASCII(dotted):
        bad_oid(dotted)
    while True:
        begin = i
        arc = 0
        while i < size and c'0' <= p[i] <= c'9' and i - begin < ARC_DIGITS_MAX:
            arc = 10 * arc + <uint64_t>(p[i] - c'0')
            i += 1
        if i == begin or (p[begin] == c'0' and i - begin > 1) or (i < size and p[i] != c'.'):
            bad_oid(dotted)
        if arc >> 63:
            raise LocalError("OBJECT IDENTIFIER has an arc of 2**63 or more")
        count += 1
        if count == 1:
            first = arc
        else:
            if count == 2:
                if first > 2 or (first < 2 and arc > 39):
                    bad_oid(dotted)
                arc += 40 * first
                if arc >> 63:
                    raise LocalError("OBJECT IDENTIFIER has an arc of 2**63 or more")
            shift = 0
            while shift < 56 and arc >> (shift + 7):
                shift += 7
            while shift >= 0:
                if used == OID_OCTETS_MAX:
                    raise LocalError("OBJECT IDENTIFIER of more than 64 octets")
                out[used] = (arc >> shift & 0x7F) | (0x80 if shift else 0)
                used += 1
                shift -= 7
        if i == size:
            break
        i += 1
    if count < 2:
        bad_oid(dotted)
    return PyBytes_FromStringAndSize(<char *>out, used)


cdef int bad_oid(str dotted) except -1:
    raise LocalError(f"not an OBJECT IDENTIFIER: {dotted!r}")


def tlv(uint32_t tag, bytes content not None):
    """The DER TLV with this tag and content."""
    cdef uint8_t octets[9]
    cdef int shift = 24, used = 0
    cdef Py_ssize_t size = PyBytes_GET_SIZE(content)
    cdef bytes out
    if tag == 0:
        raise LocalError("tlv: tag 0 is end-of-contents")
    while not tag >> shift:
        shift -= 8
    while shift >= 0:
        octets[used] = tag >> shift & 0xFF
        used += 1
        shift -= 8
    used += der_length(octets + used, size)
    out = PyBytes_FromStringAndSize(NULL, used + size)
    memcpy(PyBytes_AS_STRING(out), octets, used)
    memcpy(PyBytes_AS_STRING(out) + used, PyBytes_AS_STRING(content), size)
    return out
