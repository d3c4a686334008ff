"""The syntax of transfer SecPDUs (62351-4, ClearTransfer and EncrTransfer): what is where, and nothing verified."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t

from fastsec._core.cursor cimport TLV_OK, Tlv, fail, fail_tlv, tlv_read
from fastsec._core.moment cimport TIME_MAX, read_time

from fastsec import limits, profile

cdef int64_t DEFAULT_ICV_LEN = profile.ICV_LEN_DEFAULT
cdef Py_ssize_t ALGORITHM_ID_MAX = limits.OUR_ALGORITHM_ID_MAX


cdef int read_at(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, bint indefinite, Tlv *t, str step) except -1:
    cdef int status = tlv_read(p, pos, end, indefinite, t)
    if status != TLV_OK:
        fail_tlv(status, pos, step)
    return 0


cdef int want(const uint8_t *p, Py_ssize_t pos, Py_ssize_t end, int tag, bint indefinite, Tlv *t, str step) except -1:
    if pos >= end:
        fail(f"tag {tag:02X} missing at the end", step)
    read_at(p, pos, end, indefinite, t, step)
    if t.tag != <unsigned int>tag:
        fail(f"tag {tag:02X} wanted, {t.tag:02X} found (octet {pos})", step)
    return 0


cdef int64_t small_integer(const uint8_t *p, const Tlv *t, str step) except -1:
    """The value of an INTEGER 0 .. 2**31 - 1."""
    cdef int64_t value = 0
    cdef Py_ssize_t i
    if not 1 <= t.stop - t.start <= 8 or p[t.start] & 0x80:
        fail("INTEGER out of range", step)
    for i in range(t.start, t.stop):
        value = value << 8 | p[i]
        if value > 0x7FFFFFFF:
            fail("INTEGER out of range", step)
    return value


cdef bint boolean(const uint8_t *p, const Tlv *t, str step) except -1:
    if t.stop - t.start != 1:
        fail("BOOLEAN of other than one octet", step)
    return p[t.start] != 0


cdef int parse_algorithm(const uint8_t *p, Py_ssize_t start, Py_ssize_t stop, Parts *x) except -1:
    """The content of an AlgorithmIdentifier: OID; parameters absent, NULL, or those of GCM (RFC 5084)."""
    cdef Tlv t
    cdef Tlv inner
    cdef Py_ssize_t pos
    cdef str step = "Transfer.auth.algorithm"
    want(p, start, stop, 0x06, False, &t, step)
    x.oid = p + t.start
    x.oid_size = t.stop - t.start
    x.icv_params = False
    x.icv_len = DEFAULT_ICV_LEN
    if t.after == stop:
        return 0
    read_at(p, t.after, stop, False, &t, step)
    if t.after != stop:
        fail("octets after the parameters", step)
    if t.tag == 0x05:
        if t.start != t.stop:
            fail("NULL with content", step)
        return 0
    x.icv_params = True
    if t.tag != 0x30:
        # Parameters of an algorithm this guard does not know: the comparison with the agreed one will fail.
        x.icv_len = -1
        return 0
    want(p, t.start, t.stop, 0x04, False, &inner, step)
    pos = inner.after
    if pos < t.stop:
        want(p, pos, t.stop, 0x02, False, &inner, step)
        x.icv_len = small_integer(p, &inner, step)
        if inner.after != t.stop:
            fail("octets after aes-ICVlen", step)
    return 0


cdef int parse_token(const uint8_t *p, Py_ssize_t start, Py_ssize_t stop, Parts *x) except -1:
    """The content of a ClearToken2."""
    cdef Tlv t
    cdef Tlv inner
    cdef Py_ssize_t pos
    cdef unsigned int known
    cdef str step = "Transfer.tbp.token2"
    want(p, start, stop, 0x0C, False, &t, "Transfer.tbp.token2.assoID")
    x.asso = p + t.start
    x.asso_size = t.stop - t.start
    want(p, t.after, stop, 0x18, False, &t, "Transfer.tbp.token2.time")
    x.time = p + t.start
    x.time_size = t.stop - t.start
    if not read_time(x.time, x.time_size, &x.moment):
        fail("not a time of the agreed form", "Transfer.tbp.token2.time")
    assert 15 <= x.time_size <= TIME_MAX, "a time longer than its buffer"
    want(p, t.after, stop, 0x02, False, &t, "Transfer.tbp.token2.seq")
    x.seq = small_integer(p, &t, "Transfer.tbp.token2.seq")
    pos = t.after
    known = 0
    while pos < stop:
        read_at(p, pos, stop, False, &t, step)
        pos = t.after
        # Known fields come in their order and once; what follows them may be anything else.
        if t.tag == 0x80 and known < 1:
            known = 1
            x.iv = p + t.start
            x.iv_size = t.stop - t.start
        elif t.tag == 0xA1 and known < 2:
            known = 2
            want(p, t.start, t.stop, 0x02, False, &inner, "Transfer.tbp.token2.rekey.group")
            x.group = small_integer(p, &inner, "Transfer.tbp.token2.rekey.group")
            want(p, inner.after, t.stop, 0x04, False, &inner, "Transfer.tbp.token2.rekey.publicKey")
            x.rekey = p + inner.start
            x.rekey_size = inner.stop - inner.start
            if inner.after != t.stop:
                fail("octets after publicKey", "Transfer.tbp.token2.rekey")
        elif t.tag == 0x82 and known < 3:
            known = 3
            x.req_rekey = boolean(p, &t, "Transfer.tbp.token2.reqRekey")
        elif t.tag == 0x83 and known < 4:
            known = 4
            x.changed_key = boolean(p, &t, "Transfer.tbp.token2.changedKey")
        elif p[t.first] & 0xDF in (0x80, 0x81, 0x82, 0x83):
            fail(f"tag {t.tag:02X} not allowed here (octet {t.first})", step)
        else:
            known = 5
            x.unknown = True
    return 0


cdef int parse(const uint8_t *p, Py_ssize_t size, Parts *x) except -1:
    """Take a transfer SecPDU apart; DecodeError where it breaks its syntax (62351-4, clear and encrypted transfer)."""
    cdef Tlv pdu
    cdef Tlv tbp
    cdef Tlv t
    cdef Tlv auth
    x.iv = x.rekey = x.nonce = x.icv = x.oid = NULL
    x.iv_size = x.rekey_size = x.nonce_size = x.icv_size = x.oid_size = 0
    x.group = x.icv_len = 0
    x.req_rekey = x.changed_key = x.unknown = x.auth = x.icv_params = False
    want(p, 0, size, 0x30, False, &pdu, "Transfer")
    if pdu.after != size:
        fail("octets after the PDU", "Transfer")
    want(p, pdu.start, pdu.stop, 0x30, True, &tbp, "Transfer.tbp")
    x.tbp = p + tbp.start
    x.tbp_size = tbp.after - tbp.start
    want(p, tbp.start, tbp.stop, 0x30, True, &t, "Transfer.tbp.token2")
    x.token = p + t.start
    x.token_size = t.after - t.start
    parse_token(p, t.start, t.stop, x)
    if t.after >= tbp.stop:
        fail("applData missing", "Transfer.tbp.applData")
    read_at(p, t.after, tbp.stop, False, &t, "Transfer.tbp.applData")
    if t.tag == 0x04:
        x.encrypted = True
        x.data = p + t.start
        x.data_size = t.stop - t.start
    else:
        x.encrypted = False
        x.data = p + t.first
        x.data_size = t.after - t.first
        if not is_appl_tag(p[t.first]) and not is_null(x.data, x.data_size):
            fail(f"tag {t.tag:02X} is no applData", "Transfer.tbp.applData")
    assert pdu.start <= tbp.first < tbp.start < t.first < t.after <= tbp.stop <= tbp.after <= pdu.stop <= size, \
        "parts of the PDU out of order"
    assert (p < x.tbp < x.token < x.asso < x.time < x.token + x.token_size <= x.data
            and x.data + x.data_size <= x.tbp + x.tbp_size <= p + size), "parts of the PDU out of order"
    x.data_followed = t.after != tbp.stop
    if x.data_followed:
        x.unknown = True
        while t.after < tbp.stop:
            read_at(p, t.after, tbp.stop, False, &t, "Transfer.tbp")
    if tbp.after == pdu.stop:
        if not x.encrypted:
            fail("auth missing", "ClearTransfer.auth")
        return 0
    x.auth = True
    want(p, tbp.after, pdu.stop, 0x30, False, &auth, "Transfer.auth")
    if auth.after != pdu.stop:
        fail("octets after auth", "Transfer")
    read_at(p, auth.start, auth.stop, False, &t, "Transfer.auth")
    if t.tag == 0x80:
        x.nonce = p + t.start
        x.nonce_size = t.stop - t.start
        read_at(p, t.after, auth.stop, False, &t, "Transfer.auth")
    if t.tag != 0x30:
        fail("algorithm missing", "Transfer.auth.algorithm")
    if t.after - t.first > ALGORITHM_ID_MAX:
        fail("AlgorithmIdentifier too long", "Transfer.auth.algorithm")
    parse_algorithm(p, t.start, t.stop, x)
    want(p, t.after, auth.stop, 0x04, False, &t, "Transfer.auth.icv")
    x.icv = p + t.start
    x.icv_size = t.stop - t.start
    if t.after != auth.stop:
        fail("octets after icv", "Transfer.auth")
    assert (x.tbp + x.tbp_size < x.oid <= x.oid + x.oid_size < x.icv and x.icv + x.icv_size == p + size), \
        "parts of the Authenticator out of order"
    return 0


def scan_transfer(bytes secpdu not None):
    """Look at a transfer SecPDU without verifying anything, to choose the key for it.

    Returns: (kind, has_rekey, req_rekey, changed_key); kind 0 = ClearTransfer, 1 = EncrTransfer.
    Raises DecodeError (check ``protocol-error``) if it breaks its syntax.
    """
    cdef Parts x
    parse(<const uint8_t *>PyBytes_AS_STRING(secpdu), PyBytes_GET_SIZE(secpdu), &x)
    return (1 if x.encrypted else 0, x.rekey is not NULL, bool(x.req_rekey), bool(x.changed_key))


cdef bytes read_algorithm(bytes algorithm, Parts *x):
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(algorithm)
    cdef Tlv t
    want(p, 0, PyBytes_GET_SIZE(algorithm), 0x30, False, &t, "AlgorithmIdentifier")
    if t.after != PyBytes_GET_SIZE(algorithm):
        fail("octets after the AlgorithmIdentifier", "AlgorithmIdentifier")
    parse_algorithm(p, t.start, t.stop, x)
    return x.oid[:x.oid_size]
