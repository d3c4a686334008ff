# Declarations of libcrypto's EVP_PKEY that several modules use, the table of groups, and what is kept for them.
from libc.stdint cimport uint8_t

cdef extern from "openssl/bn.h" nogil:
    ctypedef struct BIGNUM:
        pass
    BIGNUM *BN_bin2bn(const unsigned char *octets, int size, BIGNUM *out)
    int BN_bn2binpad(const BIGNUM *number, unsigned char *out, int size)
    int BN_bn2nativepad(const BIGNUM *number, unsigned char *out, int size)
    int BN_num_bits(const BIGNUM *number)
    void BN_free(BIGNUM *number)
    void BN_clear_free(BIGNUM *number)

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
    void EVP_PKEY_free(EVP_PKEY *key)
    int EVP_PKEY_get_bn_param(const EVP_PKEY *key, const char *name, BIGNUM **value)
    int EVP_PKEY_set1_encoded_public_key(EVP_PKEY *key, const unsigned char *octets, size_t size)
    EVP_PKEY_CTX *EVP_PKEY_CTX_new_from_name(void *library, const char *name, const char *properties)
    EVP_PKEY_CTX *EVP_PKEY_CTX_new_from_pkey(void *library, EVP_PKEY *key, const char *properties)
    void EVP_PKEY_CTX_free(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_CTX_set_params(EVP_PKEY_CTX *ctx, const OSSL_PARAM *params)
    int EVP_PKEY_fromdata_init(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_fromdata(EVP_PKEY_CTX *ctx, EVP_PKEY **key, int selection, OSSL_PARAM *params)
    int EVP_PKEY_keygen_init(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_verify_init(EVP_PKEY_CTX *ctx)
    int EVP_PKEY_verify(EVP_PKEY_CTX *ctx, const unsigned char *signature, size_t size, const unsigned char *hash,
                        size_t count)


cdef enum:
    MODP = 0
    P256 = 1
    BP256 = 2
    P384 = 3
    P521 = 4
    BP384 = 5
    BP512 = 6
    GROUPS = 7
    RSA = 7       # not a group, but a family of keys
    MODP_SIZE = 256
    PREFIX_MAX = 32

# A context and the key it works on; kept for use by one thread at a time in a linked list of free ones.
cdef struct Slot:
    EVP_PKEY *key
    EVP_PKEY_CTX *ctx
    Slot *following

cdef struct Group:
    const char *type      # libcrypto's key type
    const char *name      # libcrypto's group name
    int bits
    int field             # octets of Z
    int size              # octets of a public value
    uint8_t prefix[PREFIX_MAX]   # what stands before the point in a SubjectPublicKeyInfo
    int prefix_size
    Slot *peers           # free keys of this group that take a peer's public value, with a verification context
    Slot *generators      # free contexts that generate


cdef const Group *group_of(int family) noexcept nogil
cdef EVP_PKEY *group_key(int family, int selection, uint8_t *scalar, size_t size) noexcept nogil
cdef bint put_value(EVP_PKEY *key, const uint8_t *value, int size) noexcept nogil
cdef Slot *new_slot(EVP_PKEY *key, EVP_PKEY_CTX *ctx) except NULL
cdef Slot *take_peer(int family) except NULL
cdef void give_peer(int family, Slot *slot) noexcept
cdef Slot *take_generator(int family) except NULL
cdef void give_generator(int family, Slot *slot) noexcept
cdef int broken() except -1
