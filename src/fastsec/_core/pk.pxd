# C level of pk: the declarations of libcrypto's EVP_PKEY that it uses, and its classes.
from libc.stdint cimport uint8_t

from fastsec._core.crypto cimport EVP_MD, Secret

cdef extern from "openssl/bn.h" nogil:
    ctypedef struct BIGNUM:
        pass
    BIGNUM *BN_bin2bn(const unsigned char *octets, int size, BIGNUM *out)
    int BN_bn2binpad(const BIGNUM *number, unsigned char *out, int size)
    int BN_bn2nativepad(const BIGNUM *number, unsigned char *out, int size)
    int BN_num_bits(const BIGNUM *number)
    void BN_free(BIGNUM *number)
    void BN_clear_free(BIGNUM *number)
    BIGNUM *BN_get_rfc3526_prime_2048(BIGNUM *out)

cdef extern from "openssl/bio.h" nogil:
    ctypedef struct BIO:
        pass
    BIO *BIO_new_mem_buf(const void *octets, int size)
    int BIO_free(BIO *bio)

cdef extern from "openssl/params.h" nogil:
    ctypedef struct OSSL_PARAM:
        pass
    OSSL_PARAM OSSL_PARAM_construct_utf8_string(const char *key, char *text, size_t size)
    OSSL_PARAM OSSL_PARAM_construct_BN(const char *key, unsigned char *octets, size_t size)
    OSSL_PARAM OSSL_PARAM_construct_end()

cdef extern from "openssl/crypto.h" nogil:
    void OPENSSL_free(void *ptr)

cdef extern from "openssl/evp.h" nogil:
    enum:
        EVP_PKEY_KEY_PARAMETERS
        EVP_PKEY_PUBLIC_KEY
        EVP_PKEY_KEYPAIR
    ctypedef struct EVP_PKEY:
        pass
    ctypedef struct EVP_PKEY_CTX:
        pass
    EVP_MD *EVP_MD_fetch(void *library, const char *algorithm, const char *properties)
    int EVP_Digest(const void *data, size_t count, unsigned char *out, unsigned int *size, const EVP_MD *md, void *e)
    void EVP_PKEY_free(EVP_PKEY *key)
    int EVP_PKEY_is_a(const EVP_PKEY *key, const char *name)
    int EVP_PKEY_get_group_name(const EVP_PKEY *key, char *name, size_t size, size_t *length)
    int EVP_PKEY_get_int_param(const EVP_PKEY *key, const char *name, int *value)
    int EVP_PKEY_get_bn_param(const EVP_PKEY *key, const char *name, BIGNUM **value)
    int EVP_PKEY_set_utf8_string_param(EVP_PKEY *key, const char *name, const char *value)
    int EVP_PKEY_set1_encoded_public_key(EVP_PKEY *key, const unsigned char *octets, size_t size)
    size_t EVP_PKEY_get1_encoded_public_key(EVP_PKEY *key, unsigned char **octets)
    EVP_PKEY_CTX *EVP_PKEY_CTX_new_from_name(void *library, const char *name, const char *properties)
    EVP_PKEY_CTX *EVP_PKEY_CTX_new_from_pkey(void *library, EVP_PKEY *key, const char *properties)
    void EVP_PKEY_CTX_free(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_CTX_set_params(EVP_PKEY_CTX *ctx, const OSSL_PARAM *params)
    int EVP_PKEY_CTX_set_signature_md(EVP_PKEY_CTX *ctx, const EVP_MD *md)
    int EVP_PKEY_fromdata_init(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_fromdata(EVP_PKEY_CTX *ctx, EVP_PKEY **key, int selection, OSSL_PARAM *params)
    int EVP_PKEY_keygen_init(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_generate(EVP_PKEY_CTX *ctx, EVP_PKEY **key)
    int EVP_PKEY_sign_init(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_sign(EVP_PKEY_CTX *ctx, unsigned char *out, size_t *size, const unsigned char *hash, size_t count)
    int EVP_PKEY_verify_init(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *signature, size_t size, const unsigned char *hash,
                        size_t count)
    int EVP_PKEY_derive_init(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_derive_set_peer_ex(EVP_PKEY_CTX *ctx, EVP_PKEY *peer, int validate)
    int EVP_PKEY_derive(EVP_PKEY_CTX *ctx, unsigned char *out, size_t *size)

cdef extern from "openssl/rsa.h" nogil:
    enum:
        RSA_PKCS1_PADDING
    int EVP_PKEY_CTX_set_rsa_padding(EVP_PKEY_CTX *ctx, int padding)

cdef extern from "openssl/dh.h" nogil:
    int EVP_PKEY_CTX_set_dh_pad(EVP_PKEY_CTX *ctx, int pad)

cdef extern from "openssl/x509.h" nogil:
    int i2d_PUBKEY(const EVP_PKEY *key, unsigned char **out)
    EVP_PKEY *d2i_AutoPrivateKey(EVP_PKEY **key, const unsigned char **octets, long size)

cdef extern from "openssl/pem.h" nogil:
    ctypedef int (*pem_password_cb)(char *buffer, int size, int rwflag, void *user) noexcept nogil
    EVP_PKEY *PEM_read_bio_PrivateKey(BIO *bio, EVP_PKEY **out, pem_password_cb callback, void *user)


# A context and the key it works on; kept for use by one thread at a time in a linked list of free ones.
cdef struct Slot:
    EVP_PKEY *key
    EVP_PKEY_CTX *ctx
    Slot *following


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

cdef class Ephemeral:
    cdef int family
    cdef EVP_PKEY *key           # until the first agreement; afterwards the scalar alone is kept
    cdef Secret scalar           # native octet order, as libcrypto's parameters want it
    cdef readonly int group
    cdef readonly bytes public
