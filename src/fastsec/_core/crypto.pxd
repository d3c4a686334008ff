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

cdef extern from "openssl/params.h" nogil:
    ctypedef struct OSSL_PARAM:
        void *data
        size_t data_size

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_MD:
        pass
    ctypedef struct EVP_MD_CTX:
        pass
    ctypedef struct EVP_CIPHER:
        pass
    ctypedef struct EVP_CIPHER_CTX:
        pass
    int EVP_EncryptInit_ex2(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, const unsigned char *key,
                            const unsigned char *iv, const OSSL_PARAM *params)
    int EVP_DecryptInit_ex2(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, const unsigned char *key,
                            const unsigned char *iv, const OSSL_PARAM *params)
    int EVP_EncryptUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *count, const unsigned char *data, int size)
    int EVP_DecryptUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *count, const unsigned char *data, int size)
    int EVP_EncryptFinal_ex(EVP_CIPHER_CTX *ctx, unsigned char *out, int *count)
    int EVP_DecryptFinal_ex(EVP_CIPHER_CTX *ctx, unsigned char *out, int *count)
    int EVP_CIPHER_CTX_get_params(EVP_CIPHER_CTX *ctx, OSSL_PARAM *params)


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
    cdef int start(self) noexcept nogil
    cdef int update(self, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef int finish(self, uint8_t *mac) noexcept nogil


# One AES-GCM key and direction; gcm_seal and gcm_open below use it.
@cython.final
cdef class GcmKey:
    cdef EVP_CIPHER_CTX *ctx
    cdef OSSL_PARAM tag[2]   # where libcrypto reads or writes the tag; prebuilt, as ctrl calls cost twice as much


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


cdef inline int gcm_seal(GcmKey key, const uint8_t *nonce, const uint8_t *aad, Py_ssize_t aad_size,
                         const uint8_t *data, Py_ssize_t size, uint8_t *out, uint8_t *tag,
                         Py_ssize_t tag_size) noexcept nogil:
    """Encrypt size octets (0: none) under a 12-octet nonce and write the tag; 1 = done, 0 = libcrypto failed."""
    cdef int count
    cdef uint8_t none[16]
    if (EVP_EncryptInit_ex2(key.ctx, NULL, NULL, nonce, NULL) != 1
            or EVP_EncryptUpdate(key.ctx, NULL, &count, aad, <int>aad_size) != 1
            or (size and EVP_EncryptUpdate(key.ctx, out, &count, data, <int>size) != 1)
            or EVP_EncryptFinal_ex(key.ctx, none, &count) != 1):
        return 0
    key.tag[0].data = tag
    key.tag[0].data_size = tag_size
    return EVP_CIPHER_CTX_get_params(key.ctx, key.tag) == 1


cdef inline int gcm_open(GcmKey key, const uint8_t *nonce, const uint8_t *aad, Py_ssize_t aad_size,
                         const uint8_t *data, Py_ssize_t size, uint8_t *out, const uint8_t *tag,
                         Py_ssize_t tag_size) noexcept nogil:
    """Decrypt size octets (0: none); 1 = the tag is right, else 0 and the caller must cleanse out."""
    cdef int count
    cdef uint8_t none[16]
    key.tag[0].data = <void *>tag
    key.tag[0].data_size = tag_size
    return (EVP_DecryptInit_ex2(key.ctx, NULL, NULL, nonce, key.tag) == 1
            and EVP_DecryptUpdate(key.ctx, NULL, &count, aad, <int>aad_size) == 1
            and (size == 0 or EVP_DecryptUpdate(key.ctx, out, &count, data, <int>size) == 1)
            and EVP_DecryptFinal_ex(key.ctx, none, &count) == 1)
