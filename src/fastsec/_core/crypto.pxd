# C level of crypto: libcrypto declarations that the other modules share, and the keyed contexts.
cimport cython
from libc.stdint cimport uint8_t

cdef extern from "openssl/crypto.h" nogil:
    void OPENSSL_cleanse(void *ptr, size_t size)
    int CRYPTO_memcmp(const void *a, const void *b, size_t size)

cdef extern from "openssl/err.h" nogil:
    void ERR_clear_error()

cdef extern from "openssl/rand.h" nogil:
    int RAND_bytes(unsigned char *out, int size)
    int RAND_priv_bytes(unsigned char *out, int size)

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_MD:
        pass
    ctypedef struct EVP_MD_CTX:
        pass
    ctypedef struct EVP_CIPHER:
        pass
    ctypedef struct EVP_CIPHER_CTX:
        pass


@cython.final
cdef class Secret:
    cdef uint8_t *p          # NULL once wiped
    cdef Py_ssize_t size

    @staticmethod
    cdef Secret make(Py_ssize_t size)
    cdef int check(self) except -1


cdef Secret secret_from(const uint8_t *octets, Py_ssize_t size)


# One HMAC-SHA256 key. The keyed inner and outer hash states are made once; a message costs two state copies.
@cython.final
cdef class HmacKey:
    cdef EVP_MD_CTX *inner
    cdef EVP_MD_CTX *outer
    cdef EVP_MD_CTX *work

    cdef int compute(self, const uint8_t *data, Py_ssize_t size, uint8_t *mac) noexcept nogil


# One AES-GCM key and direction. start, then aad, then update any number of times, then seal_tag or check_tag.
@cython.final
cdef class GcmKey:
    cdef EVP_CIPHER_CTX *ctx
    cdef bint encrypting

    cdef int start(self, const uint8_t *nonce) noexcept nogil
    cdef int aad(self, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef int update(self, const uint8_t *data, Py_ssize_t size, uint8_t *out) noexcept nogil
    cdef int seal_tag(self, uint8_t *tag, int size) noexcept nogil
    cdef int check_tag(self, const uint8_t *tag, int size) noexcept nogil


# One AES-CBC key and direction, without libcrypto's padding.
@cython.final
cdef class CbcKey:
    cdef EVP_CIPHER_CTX *ctx

    cdef int start(self, const uint8_t *iv) noexcept nogil
    cdef int update(self, const uint8_t *data, Py_ssize_t size, uint8_t *out) noexcept nogil


cdef HmacKey hmac_key(const uint8_t *key, Py_ssize_t size)
cdef GcmKey gcm_key(const uint8_t *key, Py_ssize_t size, bint encrypting)
cdef CbcKey cbc_key(const uint8_t *key, Py_ssize_t size, bint encrypting)
cdef int random_into(uint8_t *out, Py_ssize_t size) noexcept nogil
