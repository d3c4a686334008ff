"""The data phase of one OSI connection in one place: TPKT, DT, the constant session and presentation octets, Guard.

A data PDU of an open association is, on the wire, TPKT ``03 00 len``, DT ``02 F0 80``, session ``01 00 01 00``,
presentation ``61 L 30 L 02 01 ctx A0 L`` and the PDU (RFC 1006, X.224 class 0, X.225, X.226 fully-encoded-data). An
armed OsiChannel goes between these octets and application payloads in one call per read and one per write. All
else, connecting, releasing, PDUs with key-update fields, faults, leaves it through ``next``.

Fastest use: hand ``feed`` whole reads as exact ``bytes``; send bursts with ``seal_batch``; read the clock once per
read or burst, because a new millisecond costs formatting or parsing a time.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport PyObject, Py_XDECREF
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove

from fastsec._core.cursor cimport TLV_OK, Tlv, tlv_header
from fastsec._core.opening cimport Opened, OpenGuard
from fastsec._core.sealing cimport MESSAGES_MAX, SealGuard, sealable
from fastsec._core.tpkt cimport (
    CODE_DT,
    DT,
    EOT,
    FRAME_MIN,
    TPDU_MAX,
    TPDU_MIN,
    TPKT,
    frame_error,
    frame_length,
    frames_size,
    put_dt,
    put_frames,
)
from fastsec._core.transfer cimport header_size, put_header, quick_stop

from fastsec import limits
from fastsec.errors import DecodeError, LimitReached, LocalError, PeerError, StateError

cdef enum:
    SESSION = 4            # GIVE TOKENS and DATA, both empty
    QUICK_MIN = 32         # TSDUs of this size have all headers of the prefix within bounds
    HEADER_WANTED = 6      # TPKT, LI and code: what tells all about a frame's beginning
    SLACK = 8              # a later PDU of a batch may need longer length and seq octets

cdef Py_ssize_t BATCH_BLOCK = limits.OUR_BATCH_BLOCK
cdef Py_ssize_t APPL_MAX = limits.OUR_MMS_PDU_MAX
cdef const uint8_t *GIVE_TOKENS_DATA = b"\x01\x00\x01\x00"

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **octets, Py_ssize_t size) except -1
    PyObject *PyBytes_New "PyBytes_FromStringAndSize"(const char *octets, Py_ssize_t size) except NULL
    char *PyBytes_At "PyBytes_AS_STRING"(PyObject *octets)


cdef int carriable(const uint8_t *appl, Py_ssize_t size) except -1:
    """LocalError for what may not be sealed, or what the peer's channel would take for an attack by its size."""
    if size > APPL_MAX:
        raise LocalError(f"a PDU of {size} octets, where at most {APPL_MAX} are carried (OUR_MMS_PDU_MAX)")
    return sealable(appl, size)


cdef int close_block(list blocks, PyObject **block, Py_ssize_t used) except -1:
    """Cut the block to what is used and move it to the list."""
    cdef PyObject *whole
    _PyBytes_Resize(block, used)  # sets block to NULL if it fails
    blocks.append(<object>block[0])
    whole = block[0]
    block[0] = NULL
    Py_XDECREF(whole)
    return 0


cdef Py_ssize_t put_context(uint8_t *out, int64_t context_id) except -1:
    """The INTEGER TLV of a presentation-context-identifier; returns its size."""
    if not 0 <= context_id <= CONTEXT_ID_MAX:
        raise LocalError("a presentation context id is 0 to 32767; -1 stands for no presentation")
    out[0] = 0x02
    if context_id < 0x80:
        out[1] = 1
        out[2] = <uint8_t>context_id
        return 3
    out[1] = 2
    out[2] = <uint8_t>(context_id >> 8)
    out[3] = <uint8_t>context_id
    return 4


@cython.final
cdef class Tally:
    """What passed the channels that share it, those that are gone included: read it at any time.

    Attributes:
        pdus_in, pdus_out: PDUs of the protected protocol, delivered and sent.
        octets_in, octets_out: of these PDUs.
        frames_in, frames_out: octets of TPKT frames as read and written, control PDUs included.

    Whoever delivers or sends a PDU past the channel adds it here.
    """


@cython.final
cdef class OsiChannel:
    """Frames and data phase of one connection, both directions. Nothing is read or written here but octets.

    Arguments:
        max_tsdu: largest TSDU accepted, in octets.
        tally: counts what passes; by default one of its own.

    Attributes:
        tally: see there.
        fault: PeerError why the frame that waits in ``next``, or that ``next`` gave last, could not be opened, else
            None. Such a PDU must not be opened again; nothing of it was taken over.
        tpdu_max: largest TPDU accepted, 128 .. 65,531, at first 65,531.
        tpdu_size: largest TPDU sent, 128 .. 65,531, at first 128 (X.224: what holds unless agreed otherwise).
        buffered: octets held: incomplete frames and TSDUs, and what waits for ``next``.
    """

    def __cinit__(self, Py_ssize_t max_tsdu, Tally tally=None):
        if not 1 <= max_tsdu <= 1 << 24:
            raise LocalError("max_tsdu is 1 to 16777216")
        self.stream = self.parts = NULL
        self.head = self.tail = self.room = self.parts_size = self.parts_room = 0
        self.max_tsdu = max_tsdu
        self.tpdu_limit = TPDU_MAX
        self.tx_room = TPDU_MIN - DT
        self.rx_context = -1
        self.tally = Tally() if tally is None else tally

    def __dealloc__(self):
        free(self.stream)
        free(self.parts)

    cdef bint sound(self) noexcept:
        """Whether the buffers are what their numbers say; for assertions."""
        return ((self.stream is NULL) == (self.room == 0) and 0 <= self.head <= self.tail <= self.room
                and (self.parts is NULL) == (self.parts_room == 0)
                and 0 <= self.parts_size <= self.parts_room <= self.max_tsdu)

    @property
    def tpdu_max(self):
        return self.tpdu_limit

    @tpdu_max.setter
    def tpdu_max(self, Py_ssize_t octets):
        if not TPDU_MIN <= octets <= TPDU_MAX:
            raise LocalError("a TPDU size is 128 to 65531")
        self.tpdu_limit = octets

    @property
    def tpdu_size(self):
        return self.tx_room + DT

    @tpdu_size.setter
    def tpdu_size(self, Py_ssize_t octets):
        if not TPDU_MIN <= octets <= TPDU_MAX:
            raise LocalError("a TPDU size is 128 to 65531")
        self.tx_room = octets - DT

    @property
    def buffered(self):
        return (self.tail - self.head + self.parts_size
                + (0 if self.waiting is None else PyBytes_GET_SIZE(<bytes>self.waiting[1])))

    # --- receiving ------------------------------------------------------------------------------------------------
    def arm_rx(self, OpenGuard guard, int64_t context_id):
        """Open regular data PDUs in ``feed`` from now on; may be called again, with the guard of a new key.

        Arguments:
            guard: opens the transfers; None: payloads are the presentation data values as they are.
            context_id: the presentation context of the data, 0 .. 32767; -1: TSDUs have no session and
                presentation octets.
        """
        self.rx_id_size = 0 if context_id == -1 else put_context(self.rx_id, context_id)
        self.rx_context = context_id
        self.rx = guard
        self.rx_armed = True

    def disarm_rx(self):
        """Leave every frame to ``next`` from now on."""
        self.rx_armed = False
        self.rx = None

    def feed(self, bytes data not None, int64_t utc_ms):
        """Take octets from the connection.

        Arguments:
            data: as read, cut anywhere, also empty to go on after ``next``.
            utc_ms: the present time.
        Returns: the payloads of regular data PDUs, in order; always empty while not armed. It stops at the first
        frame of any other kind, which then waits in ``next``; what comes behind it is kept.

        After every call, call ``next`` until it gives None, then, if it gave something, ``feed(b"", utc_ms)`` again.
        Raises DecodeError when the octets are no TPKT or TPDU, or a TSDU is larger than max_tsdu; payloads in front
        of the fault are returned first and the next call raises. The connection is of no use afterwards.
        """
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t have, take, done
        cdef list payloads = []
        assert self.sound(), "buffers that are not what their numbers say"
        self.tally.frames_in += size
        if self.waiting is not None or not self.rx_armed:
            if self.dead is None:
                self.keep(p, size)
            elif self.waiting is None:
                raise self.dead
            return payloads
        if self.dead is not None:
            raise self.dead
        self.fault = None
        if self.tail > self.head:
            # Frames left behind an irregular one, then the octets that complete the frame cut by the last read: no
            # more is copied than these.
            self.run_stream(utc_ms, payloads)
            while self.tail > self.head and size and self.waiting is None and self.dead is None:
                have = self.tail - self.head
                take = HEADER_WANTED if have < HEADER_WANTED else frame_length(self.stream + self.head, have,
                                                                                self.tpdu_limit)
                take = min(take - have, size)
                self.keep(p, take)
                p += take
                size -= take
                self.run_stream(utc_ms, payloads)
        if self.dead is None:
            done = self.run(p, size, utc_ms, payloads) if self.waiting is None and size else 0
            if done < size and self.dead is None:
                self.keep(p + done, size - done)
        self.tally.pdus_in += <uint64_t>len(payloads)
        assert self.sound(), "buffers that are not what their numbers say"
        if self.dead is not None and self.waiting is None and not payloads:
            raise self.dead
        return payloads

    def next(self):
        """The frame that waits, or None: (0xF0, a whole reassembled TSDU), or (code of another TPDU, the TPDU from
        its length indicator on). While armed only what ``feed`` has stopped at; else all in order. Raises as
        ``feed`` does."""
        cdef object item
        assert self.sound(), "buffers that are not what their numbers say"
        if self.waiting is None:
            if self.dead is not None:
                raise self.dead
            self.fault = None
            if self.rx_armed or self.tail == self.head:
                return None
            self.run_stream(0, None)
            if self.waiting is None:
                if self.dead is not None:
                    raise self.dead
                return None
        item = self.waiting
        self.waiting = None
        return item

    cdef int keep(self, const uint8_t *p, Py_ssize_t size) except -1:
        """Append to the stream. Moving and growing cost constant time per octet on average."""
        cdef Py_ssize_t used = self.tail - self.head
        cdef Py_ssize_t room
        cdef uint8_t *grown
        if size == 0:
            return 0
        if self.tail + size > self.room:
            if used + size <= self.room and self.head >= used:
                memmove(self.stream, self.stream + self.head, used)
            else:
                room = used + size if self.room == 0 else 2 * (used + size)
                grown = <uint8_t *>malloc(room)
                if grown is NULL:
                    raise MemoryError
                if used:
                    memcpy(grown, self.stream + self.head, used)
                free(self.stream)
                self.stream = grown
                self.room = room
            self.head = 0
            self.tail = used
        assert self.tail + size <= self.room, "kept past the buffer"
        memcpy(self.stream + self.tail, p, size)
        self.tail += size
        return 0

    cdef int run_stream(self, int64_t utc_ms, list payloads) except -1:
        self.head += self.run(self.stream + self.head, self.tail - self.head, utc_ms, payloads)
        if self.head == self.tail:
            # An idle connection holds nothing.
            free(self.stream)
            self.stream = NULL
            self.head = self.tail = self.room = 0
        return 0

    cdef int kill(self, object error) except -1:
        """The stream is broken: remember why, hold nothing."""
        self.dead = error
        free(self.parts)
        self.parts = NULL
        self.parts_size = self.parts_room = 0
        return 0

    cdef Py_ssize_t run(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms, list payloads) except -1:
        """Work through whole frames until one has to wait or the stream breaks. Returns the octets dealt with."""
        cdef Py_ssize_t pos = 0
        cdef Py_ssize_t length
        cdef const uint8_t *frame
        while True:
            frame = p + pos
            length = frame_length(frame, size - pos, self.tpdu_limit)
            if length <= 0:
                if length < 0:
                    self.kill(frame_error(length))
                return pos
            if length > size - pos:
                return pos
            assert FRAME_MIN <= length <= self.tpdu_limit + TPKT, "a frame of another size than allowed"
            pos += length
            if frame[TPKT + 1] != CODE_DT:
                self.waiting = (frame[TPKT + 1], frame[TPKT:length])
                return pos
            if frame[TPKT + 2] & EOT and self.parts_size == 0:
                self.take_tsdu(frame + FRAME_MIN, length - FRAME_MIN, utc_ms, payloads)
            elif length == FRAME_MIN and not frame[TPKT + 2] & EOT:
                self.kill(DecodeError("DT without user data that does not end its TSDU", check="protocol-error",
                                      step="COTP"))
            else:
                self.collect(frame + FRAME_MIN, length - FRAME_MIN)
                if self.dead is None and frame[TPKT + 2] & EOT:
                    self.take_tsdu(self.parts, self.parts_size, utc_ms, payloads)
                    free(self.parts)
                    self.parts = NULL
                    self.parts_size = self.parts_room = 0
            if self.waiting is not None or self.dead is not None:
                return pos

    cdef int collect(self, const uint8_t *p, Py_ssize_t size) except -1:
        """Append the user data of one DT to its TSDU."""
        cdef Py_ssize_t room
        cdef uint8_t *grown
        if size > self.max_tsdu - self.parts_size:
            self.kill(DecodeError(f"TSDU of more than {self.max_tsdu} octets", check="protocol-error", step="COTP"))
            return 0
        if size > self.parts_room - self.parts_size:
            room = min(2 * (self.parts_size + size), self.max_tsdu)
            grown = <uint8_t *>realloc(self.parts, room)
            if grown is NULL:
                raise MemoryError
            self.parts = grown
            self.parts_room = room
        assert size <= self.parts_room - self.parts_size, "collected past the buffer"
        memcpy(self.parts + self.parts_size, p, size)
        self.parts_size += size
        return 0

    cdef int take_tsdu(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms, list payloads) except -1:
        """A whole TSDU: its payload, or it waits."""
        cdef object payload
        if size > self.max_tsdu:
            self.kill(DecodeError(f"TSDU of more than {self.max_tsdu} octets", check="protocol-error", step="COTP"))
            return 0
        if self.rx_armed:
            payload = self.open_tsdu(p, size, utc_ms)
            if payload is not None:
                payloads.append(payload)
                self.tally.octets_in += PyBytes_GET_SIZE(<bytes>payload)
                return 0
        self.waiting = (CODE_DT, p[:size])
        return 0

    cdef object open_tsdu(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms):
        """The payload, or None: not a regular data PDU, or, with ``fault`` set, one that did not verify."""
        cdef Py_ssize_t pos = self.find_pdu(p, size)
        cdef object payload
        if pos < 0:
            return None
        assert pos <= size, "a PDU outside its TSDU"
        if self.rx is None:
            return p[pos:size]
        payload = self.rx.fast(p + pos, size - pos, utc_ms)
        if payload is not None:
            return payload
        return self.open_other(p + pos, size - pos, utc_ms)

    cdef object open_other(self, const uint8_t *p, Py_ssize_t size, int64_t utc_ms):
        """A PDU that the fast way did not take."""
        cdef Opened opened
        if not self.rx.alive:
            return None
        try:
            opened = self.rx.check(p, size, utc_ms, False)
        except PeerError as error:
            self.fault = error.with_traceback(None)
            return None
        if opened is None or opened.appl_data is None or opened.unknown:
            return None
        self.rx.commit()
        return opened.appl_data

    cdef Py_ssize_t find_pdu(self, const uint8_t *p, Py_ssize_t size) noexcept:
        """Where the PDU begins that reaches to the end of a regular TSDU; -1 = not regular."""
        cdef Py_ssize_t pos = SESSION
        cdef Tlv t
        cdef int tag
        cdef int64_t context = 0
        if self.rx_context < 0:
            return 0 if size else -1
        if size < SESSION or memcmp(p, GIVE_TOKENS_DATA, SESSION) != 0:
            return -1
        if size >= QUICK_MIN and p[SESSION] == 0x61:
            pos = SESSION + 1
            if quick_stop(p, &pos) == size and p[pos] == 0x30:
                pos += 1
                if (quick_stop(p, &pos) == size
                        and memcmp(p + pos, self.rx_id, self.rx_id_size) == 0 and p[pos + self.rx_id_size] == 0xA0):
                    pos += self.rx_id_size + 1
                    if quick_stop(p, &pos) == size:
                        return pos
        # Any other definite form of the same thing.
        pos = SESSION
        for tag in (0x61, 0x30, 0x02, 0xA0):
            if tlv_header(p, pos, size, &t) != TLV_OK or t.indefinite or t.tag != <unsigned int>tag:
                return -1
            pos = t.start
            if tag == 0x02:
                if not 1 <= t.stop - t.start <= 4:
                    return -1
                while pos < t.stop:
                    context = context << 8 | p[pos]
                    pos += 1
                if context != self.rx_context:
                    return -1
            elif t.after != size:
                return -1
        return pos if pos < size else -1

    # --- sending --------------------------------------------------------------------------------------------------
    def arm_tx(self, SealGuard guard, int64_t context_id, Py_ssize_t tpdu_size):
        """Make ``seal`` and ``seal_batch`` ready; may be called again, with the guard of a new key.

        Arguments:
            guard: seals the transfers; None: applData goes out as it is.
            context_id: the presentation context of the data, 0 .. 32767; -1: no session and presentation octets.
            tpdu_size: agreed maximum TPDU size in octets, 128 .. 65,531.
        """
        self.tx_id_size = 0 if context_id == -1 else put_context(self.tx_id, context_id)
        self.tpdu_size = tpdu_size
        self.tx = guard
        self.tx_armed = True

    def disarm_tx(self):
        """``seal`` and ``seal_batch`` raise StateError from now on; ``frame`` goes on working."""
        self.tx_armed = False
        self.tx = None

    def frame(self, bytes tsdu not None):
        """A TSDU of the control path as the TPKT frames of its DT TPDUs, in one piece."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(tsdu)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, frames_size(size, self.tx_room))
        put_frames(<uint8_t *>PyBytes_AS_STRING(out), <const uint8_t *>PyBytes_AS_STRING(tsdu), size, self.tx_room)
        return out

    def seal(self, bytes appl_data not None, int64_t utc_ms):
        """One data PDU, ready to be written.

        Arguments:
            appl_data: what ``SealGuard.seal`` takes, at most OUR_MMS_PDU_MAX octets; any octets if there is no guard.
            utc_ms: the present time.
        Returns: all frames, in one piece. Raises as ``SealGuard.seal``; StateError while not armed.
        """
        cdef Py_ssize_t size = self.plan(appl_data, utc_ms)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, size)
        self.write(<uint8_t *>PyBytes_AS_STRING(out), appl_data)
        self.tally.pdus_out += 1
        self.tally.octets_out += PyBytes_GET_SIZE(appl_data)
        self.tally.frames_out += size
        return out

    def seal_batch(self, list pdus not None, int64_t utc_ms):
        """Many data PDUs, in order.

        Arguments:
            pdus: each an applData as for ``seal``.
            utc_ms: the present time, for all.
        Returns: blocks of whole PDUs to be written in order, each at most OUR_BATCH_BLOCK octets unless a single
        PDU is larger. Raises as ``seal``, then before anything is sealed.
        """
        cdef bytes appl
        if not self.tx_armed:
            raise StateError("this channel is not armed for sending")
        for item in pdus:
            if not PyBytes_CheckExact(item):
                raise LocalError("appl_data must be bytes")
            appl = <bytes>item
            if self.tx is not None:
                carriable(<const uint8_t *>PyBytes_AS_STRING(appl), PyBytes_GET_SIZE(appl))
        if self.tx is not None and <uint64_t>len(pdus) > MESSAGES_MAX - self.tx.count:
            raise LimitReached("OUR_MESSAGES_PER_KEY")
        return self.batch(pdus, utc_ms)

    cdef list batch(self, list pdus, int64_t utc_ms):
        """Blocks are filled PDU by PDU and cut to their true size at the end, so nothing is copied."""
        cdef list blocks = []
        cdef PyObject *block = NULL
        cdef Py_ssize_t used = 0
        cdef Py_ssize_t room = 0
        cdef Py_ssize_t left = 0
        cdef Py_ssize_t done = 0
        cdef Py_ssize_t size
        cdef Py_ssize_t octets
        for item in pdus:
            left += PyBytes_GET_SIZE(<bytes>item)
        octets = left
        try:
            for item in pdus:
                size = self.plan(<bytes>item, utc_ms)
                if size > room - used:
                    if block is not NULL:
                        close_block(blocks, &block, used)
                    # If all that is left has this PDU's overhead, this is enough; a block that turns out too small
                    # is merely followed by another.
                    room = left + (len(pdus) - done) * (size - PyBytes_GET_SIZE(<bytes>item) + SLACK)
                    room = max(size, min(room, BATCH_BLOCK))
                    block = PyBytes_New(NULL, room)
                    used = 0
                assert used + size <= room, "a PDU past its block"
                self.write(<uint8_t *>PyBytes_At(block) + used, <bytes>item)
                used += size
                done += 1
                left -= PyBytes_GET_SIZE(<bytes>item)
            if block is not NULL:
                close_block(blocks, &block, used)
            self.tally.pdus_out += done
            self.tally.octets_out += octets
            for item in blocks:
                self.tally.frames_out += PyBytes_GET_SIZE(<bytes>item)
        finally:
            Py_XDECREF(block)
        return blocks

    cdef Py_ssize_t plan(self, bytes appl_data, int64_t utc_ms) except -1:
        """Plan the next PDU; returns the octets of all its frames."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(appl_data)
        if not self.tx_armed:
            raise StateError("this channel is not armed for sending")
        if self.tx is not None:
            if size > APPL_MAX:
                carriable(NULL, size)
            size = self.tx.plan(<const uint8_t *>PyBytes_AS_STRING(appl_data), size, utc_ms)
        self.plan_pdu = size
        if self.tx_id_size:
            self.plan_30 = self.tx_id_size + header_size(size) + size
            self.plan_61 = header_size(self.plan_30) + self.plan_30
            size = SESSION + header_size(self.plan_61) + self.plan_61
        self.plan_tsdu = size
        return frames_size(size, self.tx_room)

    cdef int write(self, uint8_t *out, bytes appl_data) except -1:
        """Write the frames that ``plan`` has just planned."""
        cdef uint8_t *scratch
        if self.plan_tsdu <= self.tx_room:
            put_dt(out, self.plan_tsdu, True)
            self.write_tsdu(out + FRAME_MIN, appl_data)
            return 0
        scratch = <uint8_t *>malloc(self.plan_tsdu)
        if scratch is NULL:
            raise MemoryError
        try:
            self.write_tsdu(scratch, appl_data)
            put_frames(out, scratch, self.plan_tsdu, self.tx_room)
        finally:
            free(scratch)
        return 0

    cdef int write_tsdu(self, uint8_t *out, bytes appl_data) except -1:
        cdef const uint8_t *appl = <const uint8_t *>PyBytes_AS_STRING(appl_data)
        if self.tx_id_size:
            memcpy(out, GIVE_TOKENS_DATA, SESSION)
            out = put_header(out + SESSION, 0x61, self.plan_61)
            out = put_header(out, 0x30, self.plan_30)
            memcpy(out, self.tx_id, self.tx_id_size)
            out = put_header(out + self.tx_id_size, 0xA0, self.plan_pdu)
            assert self.plan_61 == self.tx_id_size + self.plan_pdu + header_size(self.plan_pdu) + header_size(
                self.plan_30), "a TSDU of another size than planned"
        if self.tx is None:
            memcpy(out, appl, PyBytes_GET_SIZE(appl_data))
            return 0
        return self.tx.write(out, appl, PyBytes_GET_SIZE(appl_data))
