"""TPKT frames (RFC 1006) around TPDUs of COTP class 0 (X.224)."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from fastsec.errors import DecodeError, LocalError

cdef dict MESSAGES = {
    FRAME_VERSION: "not a TPKT: version is not 3",
    FRAME_SHORT: "TPKT of fewer than 7 octets",
    FRAME_LONG: "TPKT longer than the agreed TPDU size",
    FRAME_LI: "length indicator of the TPDU does not fit it",
    FRAME_DT: "DT TPDU with other than its class 0 header",
}


cdef object frame_error(Py_ssize_t code):
    """The DecodeError for a code of frame_length."""
    return DecodeError(MESSAGES[code], check="protocol-error", step="TPKT")


def tpkt(bytes tpdu not None):
    """One TPDU (CR, CC, DR, ER, DT; 3 to 65,531 octets, from its length indicator on) as a TPKT frame."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(tpdu)
    cdef bytes out
    cdef uint8_t *p
    if not DT <= size <= TPDU_MAX:
        raise LocalError("a TPDU has 3 to 65531 octets")
    out = PyBytes_FromStringAndSize(NULL, TPKT + size)
    p = <uint8_t *>PyBytes_AS_STRING(out)
    p[0] = 3
    p[1] = 0
    p[2] = <uint8_t>((size + TPKT) >> 8)
    p[3] = <uint8_t>(size + TPKT)
    memcpy(p + TPKT, PyBytes_AS_STRING(tpdu), size)
    return out


def dt(bytes tsdu not None, Py_ssize_t tpdu_size):
    """A TSDU as the frames of its DT TPDUs, in one piece.

    Arguments:
        tsdu: user data of the transport, any size; empty gives one empty DT.
        tpdu_size: agreed maximum TPDU size in octets, 128 .. 65,531; a DT carries three octets less.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(tsdu)
    cdef bytes out
    if not TPDU_MIN <= tpdu_size <= TPDU_MAX:
        raise LocalError("tpdu_size is 128 to 65531")
    out = PyBytes_FromStringAndSize(NULL, frames_size(size, tpdu_size - DT))
    put_frames(<uint8_t *>PyBytes_AS_STRING(out), <const uint8_t *>PyBytes_AS_STRING(tsdu), size, tpdu_size - DT)
    return out
