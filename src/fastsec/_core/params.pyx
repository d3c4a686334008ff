"""What sealing and opening have in common: the parameters of an association and the shared state of a direction."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

from fastsec._core.crypto cimport ERR_clear_error, Secret
from fastsec._core.moment cimport TIME, Moment, read_time
from fastsec._core.transfer cimport Parts, put_header, read_algorithm

from fastsec import limits, profile
from fastsec._core.crypto import LibraryError
from fastsec._core.cursor import encode_oid
from fastsec.errors import DecodeError, LocalError

MODE_HMAC = M_HMAC
MODE_GMAC = M_GMAC
MODE_CBC_HMAC = M_CBC_HMAC
MODE_CBC_GMAC = M_CBC_GMAC
MODE_AE = M_AE

cdef enum:
    AUTH_MAX = 192             # OUR_ALGORITHM_ID_MAX, nonce and headers

cdef bytes HMAC_OID = encode_oid(profile.HMAC_SHA256)


cdef int raise_library() except -1:
    ERR_clear_error()
    raise LibraryError("libcrypto failed")


@cython.final
cdef class GuardParams:
    """What all guards of one association have in common; immutable, one object for all of them.

    Arguments:
        mode: MODE_HMAC or MODE_GMAC (ClearTransfer), MODE_CBC_HMAC or MODE_CBC_GMAC (EncrTransfer with
            Authenticator), MODE_AE (EncrTransfer, AES-GCM).
        asso_id: ``n:m``, at most 7 characters; compared as a string.
        icv_algorithm: DER AlgorithmIdentifier for the Authenticator; ``b""`` in MODE_AE.
        icv_len: octets of the ICV: 32 for HMAC-SHA256, 12 .. 16 for GMAC and AE.
        aes_key_size: octets of the encryption key, 16 or 32; 0 in integrity modes.
        mac_key_size: octets of the ICV key: 32 for HMAC, 16 or 32 for GMAC, 0 in MODE_AE.
    Raises LocalError where these do not fit together.
    """

    def __cinit__(self, int mode, str asso_id not None, bytes icv_algorithm not None, int icv_len, int aes_key_size,
                  int mac_key_size):
        cdef bytes asso = asso_id.encode("utf-8")
        cdef Py_ssize_t size = PyBytes_GET_SIZE(asso)
        cdef Parts x
        if not 0 <= mode <= 4:
            raise LocalError("GuardParams: unknown mode")
        if not 1 <= size <= 7:
            raise LocalError("GuardParams: asso_id has 1 to 7 octets")
        self.mode = mode
        self.asso_id = asso_id
        self.icv_algorithm = icv_algorithm
        self.icv_len = icv_len
        self.aes_key_size = aes_key_size
        self.mac_key_size = mac_key_size
        self.encrypting = mode >= M_CBC_HMAC
        self.gmac = mode == M_GMAC or mode == M_CBC_GMAC
        self.asso = asso
        self.head[0] = 0x0C
        self.head[1] = <uint8_t>size
        assert 4 + size + TIME + 1 <= TOKEN_MAX, "a token longer than its buffer"
        memcpy(self.head + 2, PyBytes_AS_STRING(asso), size)
        self.head[2 + size] = 0x18
        self.head[3 + size] = TIME
        self.head_size = 4 + size
        if (aes_key_size not in (16, 32)) if self.encrypting else aes_key_size != 0:
            raise LocalError("GuardParams: aes_key_size does not fit the mode")
        if mode == M_AE:
            if mac_key_size or icv_algorithm or not 12 <= icv_len <= 16:
                raise LocalError("GuardParams: AE has no ICV key or algorithm, and an ICV of 12 to 16 octets")
            self.icv_oid = self.auth_head = b""
            self.auth = <const uint8_t *>PyBytes_AS_STRING(self.auth_head)
            return
        if PyBytes_GET_SIZE(icv_algorithm) > limits.OUR_ALGORITHM_ID_MAX:
            raise LocalError("GuardParams: icv_algorithm is too long")
        try:
            self.icv_oid = read_algorithm(icv_algorithm, &x)
        except DecodeError:
            self.icv_oid = None
        if self.icv_oid is None:
            raise LocalError("GuardParams: icv_algorithm is not an AlgorithmIdentifier")
        if self.gmac:
            if mac_key_size not in (16, 32) or not 12 <= icv_len <= 16 or x.icv_len != icv_len:
                raise LocalError("GuardParams: GMAC has a key of 16 or 32 and the algorithm's ICV of 12 to 16 octets")
        elif mac_key_size != HMAC_SIZE or icv_len != HMAC_SIZE or self.icv_oid != HMAC_OID or x.icv_params:
            raise LocalError("GuardParams: HMAC-SHA256 has key and ICV of 32 octets and no parameters")
        self.make_auth()

    cdef int make_auth(self) except -1:
        """Prebuild the Authenticator up to its ICV, with the place of the nonce left open."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self.icv_algorithm)
        cdef uint8_t octets[AUTH_MAX]
        cdef uint8_t *p = octets
        memset(octets, 0, AUTH_MAX)
        p = put_header(p, 0x30, (2 + NONCE if self.gmac else 0) + size + 2 + self.icv_len)
        if self.gmac:
            p = put_header(p, 0x80, NONCE)
            self.nonce_at = p - octets
            p += NONCE
        memcpy(p, PyBytes_AS_STRING(self.icv_algorithm), size)
        p = put_header(p + size, 0x04, self.icv_len)
        self.auth_size = p - octets
        assert self.auth_size <= AUTH_MAX and self.nonce_at + (NONCE if self.gmac else 0) <= self.auth_size, \
            "an Authenticator longer than its buffer"
        self.auth_head = octets[:self.auth_size]
        self.auth = <const uint8_t *>PyBytes_AS_STRING(self.auth_head)
        return 0


cdef const uint8_t *key_slice(Secret keys, tuple where, int size, str name) except NULL:
    """The place of one key in the key material, checked."""
    cdef Py_ssize_t offset, length
    if where is None:
        raise LocalError(f"this mode needs {name}")
    offset, length = where
    keys.check()
    if length != size or offset < 0 or offset > keys.size - length:
        raise LocalError(f"{name} must be {size} octets within the key material")
    assert 0 <= offset and 0 < length and offset + length <= keys.size, "a key outside the key material"
    return keys.p + offset


@cython.final
cdef class Outgoing:
    """(time, seq) and nonce counter of one sending direction."""

    def __cinit__(self):
        self.ms = 0
        self.seq = -1
        self.nonce = 0


@cython.final
cdef class Window:
    """Last accepted (time, seq) of one receiving direction."""

    def __cinit__(self):
        self.moment.digits = self.moment.nanos = self.moment.ms = 0
        self.seq = -1
        self.text_size = 0


cdef int take_start(str start_time, Moment *moment) except -1:
    cdef bytes text
    if start_time is None:
        raise LocalError("a guard needs start_time or previous")
    text = start_time.encode("utf-8")
    if not read_time(<const uint8_t *>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), moment):
        raise LocalError("start_time is not a GeneralizedTime with seconds in UTC")
    return 0
