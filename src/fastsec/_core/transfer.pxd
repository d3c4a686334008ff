# The syntax of transfer SecPDUs: taking a received one apart, and the small DER pieces both directions write and read.
from libc.stdint cimport int64_t, uint8_t

from fastsec._core.cursor cimport TLV_OK, Tlv, tlv_header
from fastsec._core.moment cimport Moment


# What a transfer SecPDU consists of; pointers go into the received octets, NULL = absent.
cdef struct Parts:
    const uint8_t *tbp
    Py_ssize_t tbp_size
    const uint8_t *token
    Py_ssize_t token_size
    const uint8_t *asso
    Py_ssize_t asso_size
    const uint8_t *time
    Py_ssize_t time_size
    Moment moment
    int64_t seq
    const uint8_t *iv
    Py_ssize_t iv_size
    int64_t group
    const uint8_t *rekey
    Py_ssize_t rekey_size
    bint req_rekey
    bint changed_key
    bint unknown
    bint encrypted
    const uint8_t *data          # applData: the TLV of a ClearTransfer, the content of an EncrTransfer
    Py_ssize_t data_size
    bint data_followed           # tbp holds more after applData
    bint auth
    const uint8_t *nonce
    Py_ssize_t nonce_size
    const uint8_t *oid
    Py_ssize_t oid_size
    bint icv_params              # the algorithm has parameters other than NULL
    int64_t icv_len              # aes-ICVlen of these, or its default
    const uint8_t *icv
    Py_ssize_t icv_size


cdef int parse(const uint8_t *p, Py_ssize_t size, Parts *x) except -1

# The OID of an AlgorithmIdentifier; its parameters go into x.
cdef bytes read_algorithm(bytes algorithm, Parts *x)


cdef inline bint is_appl_tag(uint8_t octet) noexcept nogil:
    """CONTEXT class, or PRIVATE 0 (the rule that finds applData in a tbp)."""
    return octet & 0xC0 == 0x80 or octet & 0xDF == 0xC0


cdef inline bint is_null(const uint8_t *p, Py_ssize_t size) noexcept nogil:
    return size == 2 and p[0] == 0x05 and p[1] == 0x00


cdef inline bint is_appl(const uint8_t *p, Py_ssize_t size) noexcept nogil:
    """Whether the octets are exactly one applData TLV, or the NULL."""
    cdef Tlv t
    if size < 2:
        return False
    if not is_appl_tag(p[0]):
        return is_null(p, size)
    return tlv_header(p, 0, size, &t) == TLV_OK and t.after == size


cdef inline Py_ssize_t header_size(Py_ssize_t length) noexcept nogil:
    """Octets of a one-octet tag and the DER length."""
    if length < 0x80:
        return 2
    if length < 0x100:
        return 3
    if length < 0x10000:
        return 4
    return 5


cdef inline uint8_t *put_header(uint8_t *out, uint8_t tag, Py_ssize_t length) noexcept nogil:
    out[0] = tag
    if length < 0x80:
        out[1] = <uint8_t>length
        return out + 2
    if length < 0x100:
        out[1] = 0x81
        out[2] = <uint8_t>length
        return out + 3
    if length < 0x10000:
        out[1] = 0x82
        out[2] = <uint8_t>(length >> 8)
        out[3] = <uint8_t>length
        return out + 4
    out[1] = 0x83
    out[2] = <uint8_t>(length >> 16)
    out[3] = <uint8_t>(length >> 8)
    out[4] = <uint8_t>length
    return out + 5


cdef inline Py_ssize_t quick_stop(const uint8_t *p, Py_ssize_t *pos) noexcept nogil:
    """Read a definite length of at most three octets at pos and move pos to the content. Returns where the content
    ends, -1 for any other length. The caller knows that three octets may be read there."""
    cdef Py_ssize_t at = pos[0]
    cdef uint8_t octet = p[at]
    if octet < 0x80:
        pos[0] = at + 1
        return at + 1 + octet
    if octet == 0x82:
        pos[0] = at + 3
        return at + 3 + (p[at + 1] << 8 | p[at + 2])
    if octet == 0x81:
        pos[0] = at + 2
        return at + 2 + p[at + 1]
    return -1
