"""Symmetric cryptography on libcrypto's EVP: Secret, SHA-256, HMAC, HKDF, and the keyed contexts of the guard.

Key material lives in C memory of a ``Secret`` or of a libcrypto context and is wiped when its owner goes. Python
``bytes`` cannot be wiped; ``Secret.reveal`` and ``Secret.from_bytes`` therefore serve tests and export only.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from fastsec.errors import IntegrityError, LocalError

cdef extern from "openssl/params.h" nogil:
    OSSL_PARAM OSSL_PARAM_construct_octet_string(const char *key, void *buf, size_t size)
    OSSL_PARAM OSSL_PARAM_construct_end()

cdef extern from "openssl/core_names.h" nogil:
    const char *OSSL_CIPHER_PARAM_AEAD_TAG

cdef extern from "openssl/evp.h" nogil:
    EVP_MD *EVP_MD_fetch(void *library, const char *algorithm, const char *properties)
    EVP_CIPHER *EVP_CIPHER_fetch(void *library, const char *algorithm, const char *properties)
    EVP_MD_CTX *EVP_MD_CTX_new()
    void EVP_MD_CTX_free(EVP_MD_CTX *ctx)
    int EVP_MD_CTX_copy_ex(EVP_MD_CTX *out, const EVP_MD_CTX *src)
    int EVP_DigestInit_ex2(EVP_MD_CTX *ctx, const EVP_MD *md, const OSSL_PARAM *params)
    int EVP_DigestUpdate(EVP_MD_CTX *ctx, const void *data, size_t size)
    int EVP_DigestFinal_ex(EVP_MD_CTX *ctx, unsigned char *out, unsigned int *size)
    int EVP_Digest(const void *data, size_t count, unsigned char *out, unsigned int *size, const EVP_MD *md, void *e)
    EVP_CIPHER_CTX *EVP_CIPHER_CTX_new()
    void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *ctx)
    int EVP_CipherInit_ex2(EVP_CIPHER_CTX *ctx, const EVP_CIPHER *cipher, const unsigned char *key,
                           const unsigned char *iv, int enc, const OSSL_PARAM *params)
    int EVP_CipherUpdate(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outl, const unsigned char *data, int size)
    int EVP_CIPHER_CTX_set_padding(EVP_CIPHER_CTX *ctx, int padding)

cdef enum:
    HASH = 32
    BLOCK = 64
    SECRET_MAX = 4096


class LibraryError(Exception):
    """libcrypto refused an operation that cannot fail with correct arguments: out of memory or a broken library."""


# Fetched once: an implicit fetch by name costs more than a short HMAC.
cdef EVP_MD *SHA256 = EVP_MD_fetch(NULL, b"SHA256", NULL)
cdef EVP_CIPHER *GCM128 = EVP_CIPHER_fetch(NULL, b"AES-128-GCM", NULL)
cdef EVP_CIPHER *GCM256 = EVP_CIPHER_fetch(NULL, b"AES-256-GCM", NULL)
cdef EVP_CIPHER *CBC128 = EVP_CIPHER_fetch(NULL, b"AES-128-CBC", NULL)
cdef EVP_CIPHER *CBC256 = EVP_CIPHER_fetch(NULL, b"AES-256-CBC", NULL)
if SHA256 is NULL or GCM128 is NULL or GCM256 is NULL or CBC128 is NULL or CBC256 is NULL:
    raise ImportError("libcrypto lacks SHA-256, AES-GCM or AES-CBC")


cdef int broken() except -1:
    ERR_clear_error()
    raise LibraryError("libcrypto failed")


@cython.final
cdef class Secret:
    """Octets that only their owner sees; wiped by ``wipe`` and when the object goes.

    Made by this package's C code; ``Secret.from_bytes`` is for tests. ``len()`` gives the octets, 0 once wiped.
    ``Secret()`` is an already wiped one.
    """

    def __cinit__(self):
        self.p = NULL
        self.size = 0

    def __dealloc__(self):
        self.wipe()

    @staticmethod
    cdef Secret make(Py_ssize_t size):
        cdef Secret secret = Secret.__new__(Secret)
        if not 1 <= size <= SECRET_MAX:
            raise LocalError(f"a Secret has 1 to {SECRET_MAX} octets")
        secret.p = <uint8_t *>malloc(size)
        if secret.p is NULL:
            raise MemoryError
        memset(secret.p, 0, size)
        secret.size = size
        return secret

    cdef int check(self) except -1:
        assert (self.p is NULL) == (self.size == 0), "a wiped Secret with octets, or the reverse"
        if self.p is NULL:
            raise LocalError("this Secret has been wiped")
        return 0

    @staticmethod
    def from_bytes(bytes octets not None):
        """A Secret with a copy of these 1 to 4096 octets. For tests and imports: the ``bytes`` stay unwiped."""
        return secret_from(<const uint8_t *>PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets))

    def reveal(self):
        """A copy as ``bytes``, which nobody can wipe: for tests and export only. LocalError once wiped."""
        self.check()
        return PyBytes_FromStringAndSize(<char *>self.p, self.size)

    def wipe(self):
        """Overwrite and free the octets. Doing it twice is harmless."""
        assert (self.p is NULL) == (self.size == 0), "a wiped Secret with octets, or the reverse"
        if self.p is not NULL:
            OPENSSL_cleanse(self.p, self.size)
            free(self.p)
            self.p = NULL
            self.size = 0

    def __len__(self):
        return self.size

    def __repr__(self):
        return f"<Secret of {self.size} octets>"

    def __eq__(self, other):
        raise LocalError("Secrets are not compared; use crypto.equal on what is derived from them")

    __hash__ = None

    def __reduce__(self):
        raise LocalError("a Secret is not pickled or copied")


cdef Secret secret_from(const uint8_t *octets, Py_ssize_t size):
    cdef Secret secret = Secret.make(size)
    memcpy(secret.p, octets, size)
    return secret


def sha256(bytes data not None):
    """The SHA-256 hash (FIPS 180-4) of data, 32 octets."""
    cdef uint8_t out[HASH]
    if EVP_Digest(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), out, NULL, SHA256, NULL) != 1:
        broken()
    return PyBytes_FromStringAndSize(<char *>out, HASH)


def hmac_sha256(bytes key not None, bytes data not None):
    """HMAC-SHA256 (RFC 2104) of data under key, 32 octets. For single use; guards keep a keyed context."""
    cdef uint8_t out[HASH]
    cdef HmacKey keyed = hmac_key(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
    if not keyed.compute(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), out):
        broken()
    return PyBytes_FromStringAndSize(<char *>out, HASH)


def hkdf_sha256(Secret ikm not None, bytes salt not None, bytes info not None, Py_ssize_t length):
    """HKDF with HMAC-SHA256 (RFC 5869), extract and expand.

    Arguments:
        ikm: input keying material.
        salt: any octets; empty stands for 32 zero octets.
        info: any octets.
        length: octets wanted, 1 .. 4096.
    Returns: the output keying material.
    """
    cdef Secret okm
    cdef uint8_t prk[HASH]
    cdef HmacKey keyed
    cdef bint done
    ikm.check()
    okm = Secret.make(length)
    # Put together here from HMAC: libcrypto's EVP_KDF fetches HMAC and its hash by name for each of its steps.
    # RFC 2104 fills a short key up with zero octets, so the empty salt is the 32 zero octets that RFC 5869 wants.
    keyed = hmac_key(<const uint8_t *>PyBytes_AS_STRING(salt), PyBytes_GET_SIZE(salt))
    done = keyed.compute(ikm.p, ikm.size, prk) == 1
    try:
        keyed = hmac_key(prk, HASH)
    finally:
        OPENSSL_cleanse(prk, HASH)
    if not done or not hkdf_expand(keyed, info, okm):
        broken()
    return okm


cdef bint hkdf_expand(HmacKey prk, bytes info, Secret okm):
    """RFC 5869 2.3: fill okm; False if libcrypto failed."""
    cdef uint8_t block[HASH]
    cdef uint8_t number
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t count
    cdef bint done = True
    while done and at < okm.size:
        number = <uint8_t>(at // HASH + 1)
        # T(n) = HMAC(PRK, T(n - 1) | info | n), T(0) empty
        done = (prk.start() and (at == 0 or prk.update(block, HASH))
                and prk.update(<const uint8_t *>PyBytes_AS_STRING(info), PyBytes_GET_SIZE(info))
                and prk.update(&number, 1) and prk.finish(block))
        count = min(okm.size - at, HASH)
        assert 0 < count <= okm.size - at, "key material past its end"
        memcpy(okm.p + at, block, count)
        at += count
    OPENSSL_cleanse(block, HASH)
    return done


def aes_gcm_seal(bytes key not None, bytes nonce not None, bytes aad not None, bytes data not None,
                 Py_ssize_t tag_size=16):
    """AES-GCM (SP 800-38D) with the contexts that guards use; for single use, tests and comparison.

    Arguments: key of 16 or 32 octets, nonce of 12; tag_size 12 to 16. Returns ciphertext and tag.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef GcmKey keyed = gcm_key(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), True)
    cdef bytes out
    cdef uint8_t *p
    if PyBytes_GET_SIZE(nonce) != 12 or not 12 <= tag_size <= 16:
        raise LocalError("AES-GCM here has a nonce of 12 octets and a tag of 12 to 16")
    out = PyBytes_FromStringAndSize(NULL, size + tag_size)
    p = <uint8_t *>PyBytes_AS_STRING(out)
    if not gcm_seal(keyed, <const uint8_t *>PyBytes_AS_STRING(nonce), <const uint8_t *>PyBytes_AS_STRING(aad),
                    PyBytes_GET_SIZE(aad), <const uint8_t *>PyBytes_AS_STRING(data), size, p, p + size, tag_size):
        broken()
    return out


def aes_gcm_open(bytes key not None, bytes nonce not None, bytes aad not None, bytes data not None,
                 Py_ssize_t tag_size=16):
    """The reverse of ``aes_gcm_seal``. IntegrityError (check ``icv``) if the tag is wrong; nothing of the plaintext
    is left then."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data) - tag_size
    cdef GcmKey keyed = gcm_key(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), False)
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef bytes out
    if PyBytes_GET_SIZE(nonce) != 12 or not 12 <= tag_size <= 16 or size < 0:
        raise LocalError("AES-GCM here has a nonce of 12 octets and a tag of 12 to 16")
    out = PyBytes_FromStringAndSize(NULL, size)
    if not gcm_open(keyed, <const uint8_t *>PyBytes_AS_STRING(nonce), <const uint8_t *>PyBytes_AS_STRING(aad),
                    PyBytes_GET_SIZE(aad), p, size, <uint8_t *>PyBytes_AS_STRING(out), p + size, tag_size):
        OPENSSL_cleanse(PyBytes_AS_STRING(out), size)
        ERR_clear_error()
        raise IntegrityError("authenticated decryption failed", check="icv")
    return out


def aes_cbc(bytes key not None, bytes iv not None, bytes data not None, bint encrypting):
    """AES-CBC (SP 800-38A) without padding, with the contexts that guards use; for tests and comparison.

    Arguments: key of 16 or 32 octets, iv of 16, data of whole blocks. Returns as many octets.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef CbcKey keyed = cbc_key(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), encrypting)
    cdef bytes out
    if PyBytes_GET_SIZE(iv) != 16 or size & 15:
        raise LocalError("AES-CBC has an IV of 16 octets and whole blocks")
    out = PyBytes_FromStringAndSize(NULL, size)
    if (not keyed.start(<const uint8_t *>PyBytes_AS_STRING(iv))
            or not keyed.update(<const uint8_t *>PyBytes_AS_STRING(data), size, <uint8_t *>PyBytes_AS_STRING(out))):
        broken()
    return out


def equal(bytes a not None, bytes b not None):
    """Whether a and b are the same octets; takes the same time wherever they differ. Lengths are not hidden."""
    return (PyBytes_GET_SIZE(a) == PyBytes_GET_SIZE(b)
            and CRYPTO_memcmp(PyBytes_AS_STRING(a), PyBytes_AS_STRING(b), PyBytes_GET_SIZE(a)) == 0)


cdef int random_into(uint8_t *out, Py_ssize_t size) noexcept nogil:
    """Fill with random octets; 1 = done, 0 = libcrypto's generator failed."""
    return RAND_bytes(out, <int>size) == 1


def random_bytes(Py_ssize_t count):
    """``count`` (0 .. 1 MiB) octets of libcrypto's random generator."""
    if not 0 <= count <= 1 << 20:
        raise LocalError("random_bytes: 0 to 1048576 octets")
    cdef bytes out = PyBytes_FromStringAndSize(NULL, count)
    if count and not random_into(<uint8_t *>PyBytes_AS_STRING(out), count):
        broken()
    return out


@cython.final
cdef class HmacKey:
    def __cinit__(self):
        self.inner = EVP_MD_CTX_new()
        self.outer = EVP_MD_CTX_new()
        self.work = EVP_MD_CTX_new()
        if self.inner is NULL or self.outer is NULL or self.work is NULL:
            raise MemoryError

    def __dealloc__(self):
        # Freeing cleanses the provider's hash states.
        EVP_MD_CTX_free(self.inner)
        EVP_MD_CTX_free(self.outer)
        EVP_MD_CTX_free(self.work)

    cdef int compute(self, const uint8_t *data, Py_ssize_t size, uint8_t *mac) noexcept nogil:
        """The 32 octets of the MAC; 1 = done, 0 = libcrypto failed."""
        return self.start() and self.update(data, size) and self.finish(mac)

    cdef int start(self) noexcept nogil:
        """Begin a message. These three: 1 = done, 0 = libcrypto failed."""
        return EVP_MD_CTX_copy_ex(self.work, self.inner) == 1

    cdef int update(self, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        return EVP_DigestUpdate(self.work, data, size) == 1

    cdef int finish(self, uint8_t *mac) noexcept nogil:
        return (EVP_DigestFinal_ex(self.work, mac, NULL) == 1
                and EVP_MD_CTX_copy_ex(self.work, self.outer) == 1
                and EVP_DigestUpdate(self.work, mac, HASH) == 1
                and EVP_DigestFinal_ex(self.work, mac, NULL) == 1)


cdef HmacKey hmac_key(const uint8_t *key, Py_ssize_t size):
    cdef HmacKey self = HmacKey.__new__(HmacKey)
    cdef uint8_t block[BLOCK]
    cdef Py_ssize_t i
    cdef bint done
    memset(block, 0, BLOCK)
    if size > BLOCK:
        done = EVP_Digest(key, size, block, NULL, SHA256, NULL) == 1
    else:
        memcpy(block, key, size)
        done = True
    for i in range(BLOCK):
        block[i] ^= 0x36
    done = (done and EVP_DigestInit_ex2(self.inner, SHA256, NULL) == 1
            and EVP_DigestUpdate(self.inner, block, BLOCK) == 1)
    for i in range(BLOCK):
        block[i] ^= 0x36 ^ 0x5C
    done = (done and EVP_DigestInit_ex2(self.outer, SHA256, NULL) == 1
            and EVP_DigestUpdate(self.outer, block, BLOCK) == 1
            and EVP_DigestInit_ex2(self.work, SHA256, NULL) == 1)
    OPENSSL_cleanse(block, BLOCK)
    if not done:
        broken()
    return self


@cython.final
cdef class GcmKey:
    def __cinit__(self):
        self.ctx = EVP_CIPHER_CTX_new()
        if self.ctx is NULL:
            raise MemoryError

    def __dealloc__(self):
        EVP_CIPHER_CTX_free(self.ctx)  # cleanses the key schedule


cdef GcmKey gcm_key(const uint8_t *key, Py_ssize_t size, bint encrypting):
    cdef GcmKey self
    if size != 16 and size != 32:
        raise LocalError("AES keys here have 16 or 32 octets")
    self = GcmKey.__new__(GcmKey)
    self.tag[0] = OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, NULL, 0)
    self.tag[1] = OSSL_PARAM_construct_end()
    if EVP_CipherInit_ex2(self.ctx, GCM128 if size == 16 else GCM256, key, NULL, encrypting, NULL) != 1:
        broken()
    return self


@cython.final
cdef class CbcKey:
    def __cinit__(self):
        self.ctx = EVP_CIPHER_CTX_new()
        if self.ctx is NULL:
            raise MemoryError

    def __dealloc__(self):
        EVP_CIPHER_CTX_free(self.ctx)

    cdef int start(self, const uint8_t *iv) noexcept nogil:
        """Begin a message with this 16-octet IV. Both functions: 1 = done, 0 = failed."""
        return EVP_CipherInit_ex2(self.ctx, NULL, NULL, iv, -1, NULL) == 1

    cdef int update(self, const uint8_t *data, Py_ssize_t size, uint8_t *out) noexcept nogil:
        """Size must be a multiple of 16."""
        cdef int count
        return EVP_CipherUpdate(self.ctx, out, &count, data, <int>size) == 1 and count == size


cdef CbcKey cbc_key(const uint8_t *key, Py_ssize_t size, bint encrypting):
    cdef CbcKey self
    if size != 16 and size != 32:
        raise LocalError("AES keys here have 16 or 32 octets")
    self = CbcKey.__new__(CbcKey)
    if (EVP_CipherInit_ex2(self.ctx, CBC128 if size == 16 else CBC256, key, NULL, encrypting, NULL) != 1
            or EVP_CIPHER_CTX_set_padding(self.ctx, 0) != 1):
        broken()
    return self
