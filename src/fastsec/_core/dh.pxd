# C level of dh.
from fastsec._core.crypto cimport Secret
from fastsec._core.evp cimport BIGNUM, EVP_PKEY, EVP_PKEY_CTX

cdef extern from "openssl/bn.h" nogil:
    BIGNUM *BN_get_rfc3526_prime_2048(BIGNUM *out)

cdef extern from "openssl/evp.h" nogil:
    size_t EVP_PKEY_get1_encoded_public_key(EVP_PKEY *key, unsigned char **octets)
    int EVP_PKEY_generate(EVP_PKEY_CTX *ctx, EVP_PKEY **key)
    int EVP_PKEY_derive_init(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_derive_set_peer_ex(EVP_PKEY_CTX *ctx, EVP_PKEY *peer, int validate)
    int EVP_PKEY_derive(EVP_PKEY_CTX *ctx, unsigned char *out, size_t *size)

cdef extern from "openssl/dh.h" nogil:
    int EVP_PKEY_CTX_set_dh_pad(EVP_PKEY_CTX *ctx, int pad)


cdef class Ephemeral:
    cdef int family
    cdef EVP_PKEY *key           # until the first agreement; afterwards the scalar alone is kept
    cdef Secret scalar           # native octet order, as libcrypto's parameters want it
    cdef readonly int group
    cdef readonly bytes public
