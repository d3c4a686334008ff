# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The floor: the same cryptography as one message protected and unprotected, in a C loop straight on libcrypto.

Contexts are made once and reused, nothing is copied or allocated. What fastsec adds to this is framing.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec


cdef extern from "<openssl/evp.h>" nogil:
    ctypedef struct EVP_CIPHER
    ctypedef struct EVP_CIPHER_CTX
    ctypedef struct EVP_MD
    ctypedef struct EVP_MD_CTX
    ctypedef struct ENGINE
    const EVP_CIPHER *EVP_aes_128_gcm()
    const EVP_MD *EVP_sha256()
    EVP_CIPHER_CTX *EVP_CIPHER_CTX_new()
    void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *ctx)
    int EVP_CipherInit_ex(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, ENGINE *engine, const uint8_t *key,
                          const uint8_t *iv, int enc)
    int EVP_CipherUpdate(EVP_CIPHER_CTX *ctx, uint8_t *out, int *outl, const uint8_t *data, int inl)
    int EVP_CipherFinal_ex(EVP_CIPHER_CTX *ctx, uint8_t *out, int *outl)
    int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *ctx, int type, int arg, void *ptr)
    int EVP_CTRL_AEAD_GET_TAG
    int EVP_CTRL_AEAD_SET_TAG
    EVP_MD_CTX *EVP_MD_CTX_new()
    void EVP_MD_CTX_free(EVP_MD_CTX *ctx)
    int EVP_MD_CTX_copy_ex(EVP_MD_CTX *out, const EVP_MD_CTX *source)
    int EVP_DigestInit_ex(EVP_MD_CTX *ctx, const EVP_MD *md, ENGINE *engine)
    int EVP_DigestUpdate(EVP_MD_CTX *ctx, const void *data, size_t size)
    int EVP_DigestFinal_ex(EVP_MD_CTX *ctx, uint8_t *out, unsigned int *size)


cdef double now() noexcept nogil:
    cdef timespec value
    clock_gettime(CLOCK_MONOTONIC, &value)
    return value.tv_sec + value.tv_nsec * 1e-9


cdef class RawGcm:
    """AES-128-GCM, ``aad`` and ``size`` octets: seal and open, n times."""

    cdef EVP_CIPHER_CTX *seal
    cdef EVP_CIPHER_CTX *opener
    cdef uint8_t *plain
    cdef uint8_t *cipher
    cdef int size, aad

    def __cinit__(self, int size, int aad):
        cdef uint8_t key[16]
        cdef uint8_t iv[12]
        memset(key, 1, 16)
        memset(iv, 0, 12)
        self.size, self.aad = size, aad
        self.plain = <uint8_t *>malloc(size + aad + 16)
        self.cipher = <uint8_t *>malloc(size + 16)
        memset(self.plain, 7, size + aad + 16)
        self.seal = EVP_CIPHER_CTX_new()
        self.opener = EVP_CIPHER_CTX_new()
        if not EVP_CipherInit_ex(self.seal, EVP_aes_128_gcm(), NULL, key, iv, 1):
            raise MemoryError
        if not EVP_CipherInit_ex(self.opener, EVP_aes_128_gcm(), NULL, key, iv, 0):
            raise MemoryError

    def __dealloc__(self):
        EVP_CIPHER_CTX_free(self.seal)
        EVP_CIPHER_CTX_free(self.opener)
        free(self.plain)
        free(self.cipher)

    def run(self, int n):
        """Seconds that n messages take."""
        cdef uint8_t iv[12]
        cdef uint8_t tag[16]
        cdef int length, good = 1, i
        cdef uint8_t *aad = self.plain + self.size
        memset(iv, 0, 12)
        cdef double start = now()
        for i in range(n):
            iv[11] = <uint8_t>i
            iv[10] = <uint8_t>(i >> 8)
            good &= EVP_CipherInit_ex(self.seal, NULL, NULL, NULL, iv, -1)
            good &= EVP_CipherUpdate(self.seal, NULL, &length, aad, self.aad)
            good &= EVP_CipherUpdate(self.seal, self.cipher, &length, self.plain, self.size)
            good &= EVP_CipherFinal_ex(self.seal, tag, &length)
            good &= EVP_CIPHER_CTX_ctrl(self.seal, EVP_CTRL_AEAD_GET_TAG, 16, tag)
            good &= EVP_CipherInit_ex(self.opener, NULL, NULL, NULL, iv, -1)
            good &= EVP_CipherUpdate(self.opener, NULL, &length, aad, self.aad)
            good &= EVP_CipherUpdate(self.opener, self.plain, &length, self.cipher, self.size)
            good &= EVP_CIPHER_CTX_ctrl(self.opener, EVP_CTRL_AEAD_SET_TAG, 16, tag)
            good &= EVP_CipherFinal_ex(self.opener, tag, &length)
        cdef double taken = now() - start
        if not good:
            raise RuntimeError("raw AES-GCM did not verify")
        return taken


cdef class RawHmac:
    """HMAC-SHA256 over ``size`` octets from two keyed contexts: once for the sender, once for the receiver, n times."""

    cdef EVP_MD_CTX *inner
    cdef EVP_MD_CTX *outer
    cdef EVP_MD_CTX *work
    cdef uint8_t *data
    cdef int size

    def __cinit__(self, int size):
        cdef uint8_t pad[64]
        self.size = size
        self.data = <uint8_t *>malloc(size)
        memset(self.data, 7, size)
        self.inner = EVP_MD_CTX_new()
        self.outer = EVP_MD_CTX_new()
        self.work = EVP_MD_CTX_new()
        memset(pad, 0x37, 64)
        EVP_DigestInit_ex(self.inner, EVP_sha256(), NULL)
        EVP_DigestUpdate(self.inner, pad, 64)
        memset(pad, 0x5d, 64)
        EVP_DigestInit_ex(self.outer, EVP_sha256(), NULL)
        EVP_DigestUpdate(self.outer, pad, 64)

    def __dealloc__(self):
        EVP_MD_CTX_free(self.inner)
        EVP_MD_CTX_free(self.outer)
        EVP_MD_CTX_free(self.work)
        free(self.data)

    def run(self, int n):
        """Seconds that n messages take."""
        cdef uint8_t digest[32]
        cdef unsigned int length
        cdef int good = 1, i
        cdef double start = now()
        for i in range(2 * n):
            good &= EVP_MD_CTX_copy_ex(self.work, self.inner)
            good &= EVP_DigestUpdate(self.work, self.data, self.size)
            good &= EVP_DigestFinal_ex(self.work, digest, &length)
            good &= EVP_MD_CTX_copy_ex(self.work, self.outer)
            good &= EVP_DigestUpdate(self.work, digest, 32)
            good &= EVP_DigestFinal_ex(self.work, digest, &length)
        cdef double taken = now() - start
        if not good:
            raise RuntimeError("raw HMAC failed")
        return taken
