# TPKT (RFC 1006) and COTP class 0 DT (X.224) octets, for osidata and the transport.
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

cdef enum:
    TPKT = 4               # 03 00 and the length of the whole frame, big-endian
    DT = 3                 # LI 02, F0, EOT
    FRAME_MIN = 7
    FRAME_MAX = 65535
    TPDU_MIN = 128
    TPDU_MAX = 65531       # what a TPKT can hold
    CODE_DT = 0xF0
    EOT = 0x80

# What can be wrong with the beginning of a frame; indexes the table of messages in tpkt.pyx.
cdef enum:
    FRAME_VERSION = -1
    FRAME_SHORT = -2
    FRAME_LONG = -3
    FRAME_LI = -4
    FRAME_DT = -5


cdef inline Py_ssize_t frame_length(const uint8_t *p, Py_ssize_t have, Py_ssize_t tpdu_max) noexcept nogil:
    """The octets of the frame that begins at p, of which ``have`` are there; 0 = cannot be told yet, else a code
    above. What is wrong is told as soon as the octets that show it are there."""
    cdef Py_ssize_t length
    cdef Py_ssize_t li
    if have < 1:
        return 0
    if p[0] != 3:
        return FRAME_VERSION
    if have < TPKT:
        return 0
    length = p[2] << 8 | p[3]
    if length < FRAME_MIN:
        return FRAME_SHORT
    if length > tpdu_max + TPKT:
        return FRAME_LONG
    if have > TPKT:
        # X.224 13.2.1: LI does not count itself, 255 is reserved; it must lie within the TPDU.
        li = p[TPKT]
        if li < 2 or li == 255 or li > length - TPKT - 1:
            return FRAME_LI
        if have > TPKT + 1 and p[TPKT + 1] == CODE_DT and li != 2:
            return FRAME_DT
    return length


cdef object frame_error(Py_ssize_t code)


cdef inline void put_dt(uint8_t *out, Py_ssize_t user_data, bint last) noexcept nogil:
    """TPKT and DT header, FRAME_MIN octets, before this much user data."""
    out[0] = 3
    out[1] = 0
    out[2] = <uint8_t>((user_data + FRAME_MIN) >> 8)
    out[3] = <uint8_t>(user_data + FRAME_MIN)
    out[4] = 2
    out[5] = CODE_DT
    out[6] = EOT if last else 0


cdef inline Py_ssize_t frames_size(Py_ssize_t tsdu, Py_ssize_t room) noexcept nogil:
    """Octets of all frames of a TSDU, ``room`` octets of user data in each."""
    return tsdu + FRAME_MIN * (1 if tsdu <= room else (tsdu + room - 1) // room)


cdef inline void put_frames(uint8_t *out, const uint8_t *tsdu, Py_ssize_t size, Py_ssize_t room) noexcept nogil:
    cdef Py_ssize_t part
    while True:
        part = size if size <= room else room
        put_dt(out, part, part == size)
        memcpy(out + FRAME_MIN, tsdu, part)
        out += FRAME_MIN + part
        tsdu += part
        size -= part
        if size == 0:
            return
