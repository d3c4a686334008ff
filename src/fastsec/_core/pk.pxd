# C level of pk.
from libc.stdint cimport uint8_t

from fastsec._core.crypto cimport EVP_MD
from fastsec._core.evp cimport EVP_PKEY, EVP_PKEY_CTX, Slot

cdef extern from "openssl/bio.h" nogil:
    ctypedef struct BIO:
        pass
    BIO *BIO_new_mem_buf(const void *octets, int size)
    int BIO_free(BIO *bio)

cdef extern from "openssl/evp.h" nogil:
    EVP_MD *EVP_MD_fetch(void *library, const char *algorithm, const char *properties)
    int EVP_Digest(const void *data, size_t count, unsigned char *out, unsigned int *size, const EVP_MD *md, void *e)
    int EVP_PKEY_is_a(const EVP_PKEY *key, const char *name)
    int EVP_PKEY_get_group_name(const EVP_PKEY *key, char *name, size_t size, size_t *length)
    int EVP_PKEY_get_int_param(const EVP_PKEY *key, const char *name, int *value)
    int EVP_PKEY_set_utf8_string_param(EVP_PKEY *key, const char *name, const char *value)
    int EVP_PKEY_CTX_set_signature_md(EVP_PKEY_CTX *ctx, const EVP_MD *md)
    int EVP_PKEY_sign_init(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_sign(EVP_PKEY_CTX *ctx, unsigned char *out, size_t *size, const unsigned char *hash, size_t count)

cdef extern from "openssl/rsa.h" nogil:
    enum:
        RSA_PKCS1_PADDING
    int EVP_PKEY_CTX_set_rsa_padding(EVP_PKEY_CTX *ctx, int padding)

cdef extern from "openssl/x509.h" nogil:
    int i2d_PUBKEY(const EVP_PKEY *key, unsigned char **out)
    EVP_PKEY *d2i_AutoPrivateKey(EVP_PKEY **key, const unsigned char **octets, long size)

cdef extern from "openssl/pem.h" nogil:
    ctypedef int (*pem_password_cb)(char *buffer, int size, int rwflag, void *user) noexcept nogil
    EVP_PKEY *PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **out, pem_password_cb callback, void *user)


cdef class PublicKey:
    cdef int family              # index of the group table, or RSA
    cdef EVP_PKEY *rsa           # RSA only; an EC key is its octets
    cdef readonly str kind
    cdef readonly int bits
    cdef readonly bytes octets

    cdef int set_point(self, int family, bytes point) except -1
    cdef int set_rsa(self, bytes der) except -1

cdef class PrivateKey:
    cdef int family
    cdef EVP_PKEY *key
    cdef Slot *free_slots        # contexts ready to sign; they hold their own reference to the key
    cdef readonly PublicKey public_key
    cdef bytes spki

    cdef Slot *take(self) except NULL
