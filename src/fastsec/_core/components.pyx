"""The loops over a field table: reading and writing the components of a SEQUENCE one after the other.

The table, and one reading and one writing function per component, come from ``fastsec.secpdu``. What takes most of the
time is done here: plain octets, bits and numbers, algorithms that are known by their octets, and texts of the usual
form. Whatever is not, a fault above all, goes to the function of the component, which is the one to judge it.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free

from fastsec._core.cursor cimport Reader, Writer
from fastsec._core.moment cimport Moment, read_time

from fastsec.errors import DecodeError

OTHER = HOW_OTHER
OCTETS = HOW_OCTETS
NAMED_BITS = HOW_NAMED_BITS
INTEGER = HOW_INTEGER
ALGORITHM = HOW_ALGORITHM
ASSO_ID = HOW_ASSO_ID
TIME = HOW_TIME


cdef Py_ssize_t number_end(const uint8_t *p, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    """The index past a number of 0 to 999 without leading zeros, -1 if there is none."""
    cdef Py_ssize_t begin = at
    while at < end and at - begin < 3 and c"0" <= p[at] <= c"9":
        at += 1
    return -1 if at == begin or (p[begin] == c"0" and at - begin > 1) else at


cdef bint is_asso_id(const uint8_t *p, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t at = number_end(p, 0, size)
    if 0 < at < size and p[at] == c":":
        at = number_end(p, at + 1, size)
    return at == size


cdef bint is_usual_text(int how, const uint8_t *p, Py_ssize_t size) noexcept nogil:
    cdef Moment moment
    return is_asso_id(p, size) if how == HOW_ASSO_ID else read_time(p, size, &moment)


@cython.final
cdef class Components:
    """The components of one kind of SEQUENCE, in order.

    Arguments:
        rows: per component its name, attribute in the model, tag, whether it is optional, what to do with it (one of
            the numbers above), the greatest number of octets or value (0: none), what an absent one reads as, the
            function that reads it from a Reader and the one that writes a value to a Writer.
        algorithms: encoding of an AlgorithmIdentifier to what it reads as.
    """

    def __cinit__(self, tuple rows not None, dict algorithms not None):
        cdef Py_ssize_t i
        self.count = len(rows)
        self.rows = <Row *>calloc(self.count, sizeof(Row))
        if self.rows is NULL:
            raise MemoryError
        self.names, self.attributes, tags, optional, how, maxima, self.absent, self.readers, self.writers = zip(*rows)
        self.algorithms = algorithms
        for i in range(self.count):
            self.rows[i].tag = tags[i]
            self.rows[i].optional = optional[i]
            self.rows[i].how = how[i]
            self.rows[i].maximum = maxima[i]

    def __dealloc__(self):
        free(self.rows)

    def read(self, Reader reader not None, str path not None):
        """The values of the components, of which the next TLV is the first; whatever follows them is left.

        DecodeError names the component after ``path``.
        """
        cdef list values = []
        cdef Py_ssize_t i
        try:
            for i in range(self.count):
                if self.rows[i].optional and reader.peek() != self.rows[i].tag:
                    values.append(self.absent[i])
                else:
                    values.append(self.read_one(reader, i))
        except DecodeError as error:
            raise DecodeError(str(error), step=f"{path}.{self.names[len(values)]}") from None
        return values

    cdef object read_one(self, Reader reader, Py_ssize_t i):
        cdef Row *row = &self.rows[i]
        cdef Py_ssize_t pos = reader.pos
        cdef int64_t number
        cdef object known
        if row.how == HOW_OCTETS:
            return reader.octets(row.tag, row.maximum or -1)
        if row.how == HOW_NAMED_BITS:
            return reader.named_bits(row.tag)
        if row.how == HOW_INTEGER:
            number = reader.integer(row.tag)
            if not 0 <= number <= row.maximum:
                raise DecodeError(f"number outside 0 to {row.maximum}")
            return number
        if row.how == HOW_ALGORITHM:
            reader.need(row.tag)
            known = self.algorithms.get(reader.raw())
            if known is not None:
                return known
        elif row.how != HOW_OTHER:
            reader.need(row.tag)
            if is_usual_text(row.how, reader.p + reader.t.start, reader.t.stop - reader.t.start):
                return PyUnicode_DecodeASCII(<const char *>reader.p + reader.t.start,
                                             reader.t.stop - reader.t.start, NULL)
        reader.pos = pos
        return self.readers[i](reader)

    def write(self, Writer writer not None, source):
        """Write the components, taken from the attributes of ``source``; optional ones that are None or () are left
        out. LocalError if a value is over a limit."""
        cdef Py_ssize_t i
        cdef object value
        for i in range(self.count):
            value = getattr(source, self.attributes[i])
            if self.rows[i].optional and (value is None or value == ()):
                continue
            if not self.write_one(writer, i, value):
                self.writers[i](writer, value)

    cdef bint write_one(self, Writer writer, Py_ssize_t i, value) except -1:
        """Write a value of the usual form. Returns whether it was one."""
        cdef Row *row = &self.rows[i]
        cdef bytes octets
        if row.how == HOW_OCTETS:
            if type(value) is not bytes or (row.maximum and PyBytes_GET_SIZE(value) > row.maximum):
                return False
            writer.octets(value, row.tag)
        elif row.how == HOW_NAMED_BITS:
            writer.named_bits(value, row.tag)
        elif row.how == HOW_ALGORITHM:
            writer.raw(value.der)
        elif row.how == HOW_ASSO_ID or row.how == HOW_TIME:
            octets = (<str>value).encode("utf-8")
            if not is_usual_text(row.how, <const uint8_t *>PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets)):
                return False
            writer.primitive(row.tag, octets)
        else:
            return False
        return True
